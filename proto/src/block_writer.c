// SPDX-License-Identifier: Apache-2.0
//
// The bits of a block are counted for every code that can win, then written with the cheapest. Nothing here depends on the
// machine: the same numbers give the same bytes everywhere.
#include <assert.h>
#include <tallycast/block.h>

static inline unsigned bit_length(uint64_t u) { return u ? 64 - (unsigned)__builtin_clzll(u) : 0; }

// ---------------------------------------------------------------------------------------------------- counting

// Counts go over whole blocks, in loops of a known length over small numbers, which compilers turn into vector instructions. What
// is missing in the last block of a column is 0, which counts nowhere.
struct block {
    uint32_t count;
    bool is_signed, narrow; // narrow: all are below 2^31
    uint64_t u[TALLY_BLOCK_NUMBERS];
    int32_t small[TALLY_BLOCK_NUMBERS]; // the same, when narrow
    uint64_t sum;
    unsigned longest; // bits of the largest
};

static void fill(struct block *block, const int64_t *numbers, uint32_t count)
{
    uint64_t *u = block->u, below = 0, all = 0, sum = 0;
    block->count = count;
    memcpy(u, numbers, count * sizeof *u);
    for (uint32_t i = count; i < TALLY_BLOCK_NUMBERS; i++) u[i] = 1;
    for (uint32_t i = 0; i < TALLY_BLOCK_NUMBERS; i++) {
        below |= u[i] | (u[i] - 1); // the top bit: below 1
        u[i] -= 1;
        all |= u[i];
        sum += u[i];
    }
    block->is_signed = below >> 63;
    if (block->is_signed) {
        all = sum = 0;
        for (uint32_t i = 0; i < count; i++) {
            u[i] = tally_zigzag(numbers[i]);
            all |= u[i];
            sum += u[i];
        }
    }
    block->sum = sum;
    block->longest = bit_length(all);
    block->narrow = block->longest < 32;
    if (block->narrow)
        for (uint32_t i = 0; i < TALLY_BLOCK_NUMBERS; i++) block->small[i] = (int32_t)u[i];
}

// How many have more than `k` bits; k < longest.
static uint32_t longer_than(const struct block *block, unsigned k)
{
    uint32_t longer = 0;
    if (block->narrow) {
        int32_t most = (int32_t)(((uint32_t)1 << k) - 1);
        for (uint32_t i = 0; i < TALLY_BLOCK_NUMBERS; i++) longer += block->small[i] > most;
    } else {
        for (uint32_t i = 0; i < TALLY_BLOCK_NUMBERS; i++) longer += block->u[i] >> k != 0;
    }
    return longer;
}

// The sum of u >> k, where that is not much.
static uint64_t shifted_sum(const struct block *block, unsigned k)
{
    uint64_t sum = 0;
    if (block->narrow) {
        uint32_t small = 0;
        for (uint32_t i = 0; i < TALLY_BLOCK_NUMBERS; i++) small += (uint32_t)block->small[i] >> k;
        return small;
    }
    for (uint32_t i = 0; i < TALLY_BLOCK_NUMBERS; i++) sum += block->u[i] >> k;
    return sum;
}

struct choice {
    uint64_t bits;
    unsigned code;
};

static void consider(struct choice *best, uint64_t bits, unsigned code)
{
    if (bits < best->bits) *best = (struct choice){bits, code};
}

// One k less takes a bit of every number, and gives one back for each that has more bits than that, and for each that had more than k:
// the cost falls, then rises. From the top down as long as it does not rise.
static void consider_gamma(struct choice *best, const struct block *block)
{
    uint32_t count = block->count, longer = 0;
    uint64_t bits = (uint64_t)count * (block->longest + 1);
    unsigned k = block->longest;
    for (; k > 0; k--) {
        uint32_t next = longer_than(block, k - 1);
        if (longer + next > count && k <= TALLY_BLOCK_K_MAX) break;
        bits = bits + longer + next - count;
        longer = next;
    }
    if (k <= TALLY_BLOCK_K_MAX) consider(best, bits, TALLY_BLOCK_GAMMA + k);
}

// The best k of a geometric distribution is near the logarithm of ln 2 times its mean: the two round it are tried.
static void consider_rice(struct choice *best, const struct block *block)
{
    uint32_t count = block->count;
    unsigned last = bit_length((block->sum + count) * 11 / 16 / count);
    for (unsigned k = last ? last - 1 : 0; k <= last && k <= TALLY_BLOCK_K_MAX; k++)
        consider(best, (uint64_t)count * (k + 1) + shifted_sum(block, k), TALLY_BLOCK_RICE + k);
}

static struct choice choose(const struct block *block)
{
    struct choice best = {(uint64_t)block->count * block->longest, block->longest};
    if (block->longest > 1) consider_gamma(&best, block);
    if (block->longest > 0 && block->longest < 50) consider_rice(&best, block);
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

static inline void put_zeros(struct bit_writer *bits, uint64_t zeros)
{
    for (; zeros > 55; zeros -= 55) put(bits, 0, 55);
    put(bits, 0, (unsigned)zeros);
}

// Each: so many zeros, then a one.
static struct bit_writer put_prefixes(struct bit_writer bits, const uint64_t *zeros, uint32_t count)
{
    uint32_t i = 0;
    for (; i + 2 <= count; i += 2) {
        uint64_t both = zeros[i] + zeros[i + 1];
        if (zeros[i] <= 54 && both <= 54) {
            put(&bits, ((uint64_t)1 << zeros[i]) | ((uint64_t)2 << both), (unsigned)both + 2);
        } else {
            put_zeros(&bits, zeros[i]);
            put(&bits, 1, 1);
            put_zeros(&bits, zeros[i + 1]);
            put(&bits, 1, 1);
        }
    }
    if (i < count) {
        put_zeros(&bits, zeros[i]);
        put(&bits, 1, 1);
    }
    return bits;
}

static inline uint64_t low_bits(uint64_t u, unsigned width) { return u & (((uint64_t)1 << width) - 1); } // width < 64

static struct bit_writer put_fixed(struct bit_writer bits, const uint64_t *u, uint32_t count, unsigned width)
{
    uint32_t i = 0;
    if (width == 0) return bits;
    if (width <= 14) {
        for (; i + 4 <= count; i += 4) {
            uint64_t low = u[i] | u[i + 1] << width, high = u[i + 2] | u[i + 3] << width;
            put(&bits, low | high << 2 * width, 4 * width);
        }
    } else if (width <= 28) {
        for (; i + 2 <= count; i += 2) put(&bits, u[i] | u[i + 1] << width, 2 * width);
    }
    for (; i < count; i++) put_wide(&bits, u[i], width);
    return bits;
}

static struct bit_writer put_rice(struct bit_writer bits, uint64_t *u, uint32_t count, unsigned k)
{
    uint64_t zeros[TALLY_BLOCK_NUMBERS];
    for (uint32_t i = 0; i < count; i++) zeros[i] = u[i] >> k;
    bits = put_prefixes(bits, zeros, count);
    for (uint32_t i = 0; i < count; i++) u[i] = low_bits(u[i], k);
    return put_fixed(bits, u, count, k);
}

static struct bit_writer put_gamma(struct bit_writer bits, const uint64_t *u, uint32_t count, unsigned k)
{
    uint64_t zeros[TALLY_BLOCK_NUMBERS];
    for (uint32_t i = 0; i < count; i++) zeros[i] = bit_length(u[i] >> k);
    bits = put_prefixes(bits, zeros, count);
    for (uint32_t i = 0; i < count; i++) {
        unsigned width = k + (unsigned)zeros[i] - (zeros[i] != 0);
        put_wide(&bits, low_bits(u[i], width), width);
    }
    return bits;
}

void tally_block_write(struct tally_writer *writer, const int64_t *numbers, uint32_t count)
{
    struct block block;
    assert(count >= 1 && count <= TALLY_BLOCK_NUMBERS);
    fill(&block, numbers, count);
    struct choice choice = choose(&block);
    size_t bytes = 1 + (size_t)(choice.bits + 7) / 8;
    if (!tally_writer_reserve(writer, bytes + TALLY_BLOCK_BEHIND)) return;
    uint8_t *start = writer->data + writer->size;
    *start = (uint8_t)(choice.code | (block.is_signed ? TALLY_BLOCK_SIGNED : 0));
    struct bit_writer bits = {.at = start + 1};
    if (choice.code < TALLY_BLOCK_GAMMA)
        bits = put_fixed(bits, block.u, count, choice.code);
    else if (choice.code < TALLY_BLOCK_RICE)
        bits = put_gamma(bits, block.u, count, choice.code - TALLY_BLOCK_GAMMA);
    else
        bits = put_rice(bits, block.u, count, choice.code - TALLY_BLOCK_RICE);
    assert((size_t)(bits.at - start) + (bits.filled != 0) == bytes);
    writer->size += bytes;
}
