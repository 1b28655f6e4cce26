// SPDX-License-Identifier: Apache-2.0
//
// Loads are of 8 bytes at any bit, so they reach behind the column; what they find there is cut off, and that a block ends within its
// column is checked before its numbers are believed.
#include <tallycast/block.h>

static inline uint64_t low_bits(uint64_t word, unsigned width)
{
    return width < 64 ? word & (((uint64_t)1 << width) - 1) : word;
}

// `width` bits from `bit` on: to 57.
static inline uint64_t bits_short(const uint8_t *data, size_t bit, unsigned width)
{
    return tally_load64(data + bit / 8) >> (bit % 8) & (((uint64_t)1 << width) - 1);
}

// To 64, which may lie in 9 bytes.
static inline uint64_t bits(const uint8_t *data, size_t bit, unsigned width)
{
    if (width <= 57) return bits_short(data, bit, width);
    unsigned shift = bit % 8;
    uint64_t word = tally_load64(data + bit / 8) >> shift;
    if (shift) word |= (uint64_t)data[bit / 8 + 8] << (64 - shift);
    return low_bits(word, width);
}

static void read_fixed(const uint8_t *data, unsigned width, uint32_t count, uint64_t *out)
{
    if (width <= 57) {
        for (uint32_t i = 0; i < count; i++) out[i] = bits_short(data, (size_t)i * width, width);
    } else {
        for (uint32_t i = 0; i < count; i++) out[i] = bits(data, (size_t)i * width, width);
    }
}

// The zeros before each of `count` ones. Where the suffixes begin, or 0 when the bits end before.
static size_t read_prefixes(const uint8_t *data, size_t bits_max, uint32_t count, uint64_t *out_zeros)
{
    uint64_t next = 0; // bit behind the last one
    uint32_t i = 0;
    for (size_t base = 0; base < bits_max; base += 64) {
        uint64_t word = tally_load64(data + base / 8);
        while (word) {
            uint64_t one = base + (unsigned)__builtin_ctzll(word);
            out_zeros[i] = one - next;
            next = one + 1;
            if (++i == count) return next <= bits_max ? next : 0;
            word &= word - 1;
        }
    }
    return 0;
}

// `out` holds the prefixes and gets the numbers; the suffixes begin at *bit, which becomes where they end.
static bool read_rice(const uint8_t *data, size_t *bit, size_t bits_max, unsigned k, uint32_t count, uint64_t *out)
{
    size_t at = *bit;
    if ((size_t)count * k > bits_max - at) return false;
    for (uint32_t i = 0; i < count; i++, at += k) out[i] = out[i] << k | bits_short(data, at, k);
    *bit = at;
    return true;
}

static bool read_gamma(const uint8_t *data, size_t *bit, size_t bits_max, unsigned k, uint32_t count, uint64_t *out)
{
    uint64_t sum = (uint64_t)count * k, longest = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += out[i] - (out[i] != 0);
        if (out[i] > longest) longest = out[i];
    }
    size_t at = *bit;
    if (longest + k > 64 || sum > bits_max - at) return false;
    *bit = at + (size_t)sum;
    if (longest + k > 58) { // some suffixes are longer than 57 bits
        for (uint32_t i = 0; i < count; i++) {
            unsigned more = out[i] != 0, width = k + (unsigned)out[i] - more;
            out[i] = bits(data, at, width) | (uint64_t)more << width;
            at += width;
        }
    } else {
        for (uint32_t i = 0; i < count; i++) {
            unsigned more = out[i] != 0, width = k + (unsigned)out[i] - more;
            out[i] = bits_short(data, at, width) | (uint64_t)more << width;
            at += width;
        }
    }
    return true;
}

enum tally_status tally_block_read(struct tally_wire *wire, uint32_t count, int64_t *out_numbers)
{
    uint64_t *out = (uint64_t *)out_numbers;
    if (wire->at == wire->end) return TALLY_MALFORMED;
    const uint8_t *data = wire->at + 1;
    unsigned code = *wire->at & (TALLY_BLOCK_SIGNED - 1);
    bool is_signed = *wire->at & TALLY_BLOCK_SIGNED;
    size_t bits_max = (size_t)(wire->end - data) * 8, bit;
    if (code < TALLY_BLOCK_GAMMA) {
        bit = (size_t)count * code;
        if (bit > bits_max) return TALLY_MALFORMED;
        read_fixed(data, code, count, out);
    } else {
        bool rice = code >= TALLY_BLOCK_RICE;
        unsigned k = code - (rice ? TALLY_BLOCK_RICE : TALLY_BLOCK_GAMMA);
        if (k > TALLY_BLOCK_K_MAX) return TALLY_UNSUPPORTED;
        if (!(bit = read_prefixes(data, bits_max, count, out))) return TALLY_MALFORMED;
        if (!(rice ? read_rice : read_gamma)(data, &bit, bits_max, k, count, out)) return TALLY_MALFORMED;
    }
    if (is_signed) {
        for (uint32_t i = 0; i < count; i++) out_numbers[i] = tally_unzigzag(out[i]);
    } else {
        for (uint32_t i = 0; i < count; i++) out[i] += 1;
    }
    wire->at = data + (bit + 7) / 8;
    return TALLY_OK;
}
