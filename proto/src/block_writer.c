// SPDX-License-Identifier: Apache-2.0
//
// The bits of a block are counted for every code that can win, then written with the cheapest. Nothing here depends on the
// machine: the same numbers give the same bytes everywhere.
#include <assert.h>
#include <tallycast/block.h>

// Prefixes and suffixes of a block together take no more than fixed would.
#define BLOCK_BYTES_MAX (1u + TALLY_BLOCK_NUMBERS * 8u)

static inline unsigned bit_length(uint64_t u) { return u ? 64 - (unsigned)__builtin_clzll(u) : 0; }

struct choice {
    uint64_t bits;
    unsigned code;
};

static void consider(struct choice *best, uint64_t bits, unsigned code)
{
    if (bits < best->bits) *best = (struct choice){bits, code};
}

// `longest`: bits of the longest of them. With above(k) = how many numbers have more than k bits, the suffix and prefix of all take
// count * (k + 1) + sum over those of 2 * (bits - k) - 1; both sums come from the histogram, from its top down.
static void consider_gamma(struct choice *best, const uint64_t *u, uint32_t count, unsigned longest)
{
    uint8_t histogram[2][65] = {0}; // two, so that equal neighbours do not wait for each other
    for (uint32_t i = 0; i < count; i++) histogram[i % 2][bit_length(u[i])]++;
    uint64_t above = 0, excess = 0;
    struct choice gamma = {UINT64_MAX, 0};
    for (unsigned k = longest; k-- > 0;) {
        above += (unsigned)histogram[0][k + 1] + histogram[1][k + 1];
        excess += above;
        uint64_t bits = (uint64_t)count * (k + 1) + 2 * excess - above;
        if (k <= TALLY_BLOCK_K_MAX && bits <= gamma.bits) gamma = (struct choice){bits, TALLY_BLOCK_GAMMA + k};
    }
    consider(best, gamma.bits, gamma.code);
}

// The best k of a geometric distribution is near the logarithm of ln 2 times its mean: the two round it are tried.
static void consider_rice(struct choice *best, const uint64_t *u, uint32_t count, uint64_t sum)
{
    unsigned first = bit_length((sum + count) * 11 / 16 / count);
    for (unsigned k = first ? first - 1 : 0; k <= first && k <= TALLY_BLOCK_K_MAX; k++) {
        uint64_t bits = (uint64_t)count * (k + 1);
        for (uint32_t i = 0; i < count; i++) bits += u[i] >> k;
        consider(best, bits, TALLY_BLOCK_RICE + k);
    }
}

static struct choice choose(const uint64_t *u, uint32_t count)
{
    uint64_t all = 0, sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        all |= u[i];
        sum += u[i];
    }
    unsigned longest = bit_length(all);
    struct choice best = {(uint64_t)count * longest, longest};
    if (longest > 1) consider_gamma(&best, u, count, longest);
    if (longest > 0 && longest < 50) consider_rice(&best, u, count, sum);
    return best;
}

// ---------------------------------------------------------------------------------------------------- bits

// Writes 8 bytes at a time, behind which there must be room.
struct bit_writer {
    uint8_t *at;
    uint64_t word;
    unsigned filled; // bits of `word`, to 7 after a put
};

// `width` to 56.
static inline void put(struct bit_writer *bits, uint64_t value, unsigned width)
{
    bits->word |= value << bits->filled;
    bits->filled += width;
    tally_store64(bits->at, bits->word);
    bits->at += bits->filled / 8;
    bits->word >>= bits->filled & ~7u;
    bits->filled &= 7;
}

static inline void put_wide(struct bit_writer *bits, uint64_t value, unsigned width)
{
    if (width > 32) {
        put(bits, value & UINT32_MAX, 32);
        value >>= 32;
        width -= 32;
    }
    put(bits, value, width);
}

// `zeros` zeros and a one.
static inline void put_prefix(struct bit_writer *bits, uint64_t zeros)
{
    for (; zeros > 55; zeros -= 55) put(bits, 0, 55);
    put(bits, (uint64_t)1 << zeros, (unsigned)zeros + 1);
}

static inline uint64_t low_bits(uint64_t u, unsigned width) { return u & (((uint64_t)1 << width) - 1); } // width < 64

static void put_fixed(struct bit_writer *bits, const uint64_t *u, uint32_t count, unsigned width)
{
    uint32_t i = 0;
    if (width <= 14) {
        for (; i + 4 <= count; i += 4)
            put(bits, u[i] | u[i + 1] << width | u[i + 2] << 2 * width | u[i + 3] << 3 * width, 4 * width);
    } else if (width <= 28) {
        for (; i + 2 <= count; i += 2) put(bits, u[i] | u[i + 1] << width, 2 * width);
    }
    for (; i < count; i++) put_wide(bits, u[i], width);
}

static void put_rice(struct bit_writer *bits, uint64_t *u, uint32_t count, unsigned k)
{
    for (uint32_t i = 0; i < count; i++) put_prefix(bits, u[i] >> k);
    for (uint32_t i = 0; i < count; i++) u[i] = low_bits(u[i], k);
    put_fixed(bits, u, count, k);
}

static void put_gamma(struct bit_writer *bits, const uint64_t *u, uint32_t count, unsigned k)
{
    for (uint32_t i = 0; i < count; i++) {
        unsigned length = bit_length(u[i]);
        put_prefix(bits, length > k ? length - k : 0);
    }
    for (uint32_t i = 0; i < count; i++) {
        unsigned length = bit_length(u[i]), width = length > k ? length - 1 : k;
        put_wide(bits, low_bits(u[i], width), width);
    }
}

void tally_block_write(struct tally_writer *writer, const int64_t *numbers, uint32_t count)
{
    uint64_t u[TALLY_BLOCK_NUMBERS];
    int64_t lowest = INT64_MAX;
    assert(count >= 1 && count <= TALLY_BLOCK_NUMBERS);
    for (uint32_t i = 0; i < count; i++) lowest = numbers[i] < lowest ? numbers[i] : lowest;
    bool is_signed = lowest < 1;
    if (is_signed) {
        for (uint32_t i = 0; i < count; i++) u[i] = tally_zigzag(numbers[i]);
    } else {
        for (uint32_t i = 0; i < count; i++) u[i] = (uint64_t)numbers[i] - 1;
    }
    struct choice choice = choose(u, count);
    size_t bytes = 1 + (size_t)(choice.bits + 7) / 8;
    if (!tally_writer_reserve(writer, bytes + TALLY_BLOCK_BEHIND)) return;
    uint8_t *block = writer->data + writer->size;
    *block = (uint8_t)(choice.code | (is_signed ? TALLY_BLOCK_SIGNED : 0));
    struct bit_writer bits = {.at = block + 1};
    if (choice.code < TALLY_BLOCK_GAMMA)
        put_fixed(&bits, u, count, choice.code);
    else if (choice.code < TALLY_BLOCK_RICE)
        put_gamma(&bits, u, count, choice.code - TALLY_BLOCK_GAMMA);
    else
        put_rice(&bits, u, count, choice.code - TALLY_BLOCK_RICE);
    assert((size_t)(bits.at - block) + (bits.filled != 0) == bytes);
    writer->size += bytes;
}
