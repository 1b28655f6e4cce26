// SPDX-License-Identifier: Apache-2.0
#include "../support/memory.h"
#include "../support/random.h"
#include "../support/with_cmocka.h"

#include <tallycast/block.h>

// ------------------------------------------------------------------------------------------ a naive reader
// As block.h draws it, bit by bit.

struct bits {
    const uint8_t *data;
    size_t at;
};

static uint64_t take(struct bits *bits, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++, bits->at++)
        value |= (uint64_t)(bits->data[bits->at / 8] >> (bits->at % 8) & 1) << i;
    return value;
}

static size_t naive_read(const uint8_t *block, uint32_t count, int64_t *out)
{
    struct bits bits = {block + 1, 0};
    uint64_t zeros[TALLY_BLOCK_NUMBERS] = {0};
    unsigned code = block[0] & 127;
    for (uint32_t i = 0; i < count && code >= TALLY_BLOCK_GAMMA; i++) {
        while (take(&bits, 1) == 0) zeros[i]++;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t u;
        if (code < TALLY_BLOCK_GAMMA) {
            u = take(&bits, code);
        } else if (code < TALLY_BLOCK_RICE) {
            unsigned k = code - TALLY_BLOCK_GAMMA, width = zeros[i] ? k + (unsigned)zeros[i] - 1 : k;
            u = take(&bits, width);
            if (zeros[i]) u |= (uint64_t)1 << width;
        } else {
            unsigned k = code - TALLY_BLOCK_RICE;
            u = zeros[i] << k;
            u |= take(&bits, k);
        }
        out[i] = block[0] & TALLY_BLOCK_SIGNED ? tally_unzigzag(u) : (int64_t)(u + 1);
    }
    return 1 + (bits.at + 7) / 8;
}

// ------------------------------------------------------------------------------------------ drawing

enum { SHAPES = 9 };

static int64_t draw(struct test_random *random, unsigned shape, uint64_t scale)
{
    unsigned zeros = (unsigned)__builtin_ctzll(test_random_next(random) | (uint64_t)1 << 62);
    switch (shape) {
    case 0: return 1;
    case 1: return 1 + (int64_t)test_random_below(random, scale);
    case 2: return 1 + (int64_t)(zeros * scale + test_random_below(random, scale)); // geometric
    case 3: return 1 + (int64_t)(test_random_next(random) >> (63 - zeros));         // long tails
    case 4: return (int64_t)test_random_below(random, 2 * scale) - (int64_t)scale;
    case 5: return (int64_t)test_random_wide(random);
    case 6: return test_random_percent(random, 2) ? INT64_MAX : 1;
    case 7: return test_random_percent(random, 2) ? INT64_MIN : 0;
    default: return (int64_t)((uint64_t)1 << zeros);
    }
}

static uint32_t draw_block(struct test_random *random, int64_t *out)
{
    uint32_t count = test_random_percent(random, 50) ? TALLY_BLOCK_NUMBERS
                                                     : 1 + (uint32_t)test_random_below(random, TALLY_BLOCK_NUMBERS);
    unsigned shape = (unsigned)test_random_below(random, SHAPES);
    uint64_t scale = (uint64_t)1 << test_random_below(random, 40);
    for (uint32_t i = 0; i < count; i++) out[i] = draw(random, shape, scale);
    return count;
}

// `size` bytes, and as many behind them as the reader may look at, in a run of their own: more would be seen under the sanitizers.
static uint8_t *behind(struct test_random *random, const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + TALLY_BLOCK_BEHIND);
    test_random_fill(random, copy, size + TALLY_BLOCK_BEHIND);
    memcpy(copy, data, size);
    return copy;
}

// ------------------------------------------------------------------------------------------ tests

static void test_round_trip(void **state)
{
    (void)state;
    struct test_random random = test_random_start("block");
    struct tally_writer out = test_writer();
    bool seen[256] = {0};
    unsigned codes = 0;
    for (unsigned round = 0; round < 20000; round++) {
        int64_t numbers[TALLY_BLOCK_NUMBERS], read[TALLY_BLOCK_NUMBERS];
        uint32_t count = draw_block(&random, numbers);
        out.size = 0;
        tally_block_write(&out, numbers, count);
        assert_false(out.failed);
        assert_true(out.size <= 1 + count * 8);
        assert_int_equal(naive_read(out.data, count, read), out.size);
        assert_memory_equal(read, numbers, count * sizeof *numbers);
        uint8_t *copy = behind(&random, out.data, out.size);
        struct tally_wire wire = tally_wire(tally_bytes(copy, out.size));
        assert_int_equal(tally_block_read(&wire, count, read), TALLY_OK);
        assert_true(tally_wire_done(&wire));
        assert_memory_equal(read, numbers, count * sizeof *numbers);
        free(copy);
        codes += !seen[out.data[0]];
        seen[out.data[0]] = true;
    }
    assert_true(codes > 100); // of 254
    test_writer_free(&out);
}

// A block that ends early is refused, whatever lies behind it.
static void test_truncations(void **state)
{
    (void)state;
    struct test_random random = test_random_start("block");
    struct tally_writer out = test_writer();
    for (unsigned round = 0; round < 2000; round++) {
        int64_t numbers[TALLY_BLOCK_NUMBERS];
        uint32_t count = draw_block(&random, numbers);
        out.size = 0;
        tally_block_write(&out, numbers, count);
        size_t cut = test_random_below(&random, out.size);
        uint8_t *copy = behind(&random, out.data, cut);
        struct tally_wire wire = tally_wire(tally_bytes(copy, cut));
        assert_int_equal(tally_block_read(&wire, count, numbers), TALLY_MALFORMED);
        assert_ptr_equal(wire.at, copy);
        free(copy);
    }
    test_writer_free(&out);
}

// Any bytes are read to a status, and what is read is what the naive reader sees.
static void test_any_bytes(void **state)
{
    (void)state;
    struct test_random random = test_random_start("block");
    unsigned fine = 0, refused = 0;
    for (unsigned round = 0; round < 50000; round++) {
        uint8_t bytes[200];
        size_t size = 1 + test_random_below(&random, sizeof bytes);
        test_random_fill(&random, bytes, size);
        if (test_random_percent(&random, 50)) // sparse: long prefixes
            for (size_t i = 1; i < size; i++)
                bytes[i] &= (uint8_t)(test_random_next(&random) & test_random_next(&random));
        uint32_t count = 1 + (uint32_t)test_random_below(&random, TALLY_BLOCK_NUMBERS);
        int64_t read[TALLY_BLOCK_NUMBERS], again[TALLY_BLOCK_NUMBERS];
        uint8_t *copy = behind(&random, bytes, size);
        struct tally_wire wire = tally_wire(tally_bytes(copy, size));
        enum tally_status status = tally_block_read(&wire, count, read);
        if (status == TALLY_OK) {
            assert_int_equal(naive_read(copy, count, again), wire.at - copy);
            assert_memory_equal(read, again, count * sizeof *read);
            assert_true(wire.at <= wire.end);
            fine++;
        } else {
            assert_ptr_equal(wire.at, copy);
            refused++;
        }
        free(copy);
    }
    assert_true(fine > 1000 && refused > 1000);
}

// The code that suits a spread is taken, and nothing is larger than what its largest number needs.
static void test_choice(void **state)
{
    (void)state;
    static const struct {
        int64_t first, second; // in turn
        unsigned code;
        size_t bytes;
    } cases[] = {
        {1, 1, 0, 1},
        {7, 7, 3, 1 + 48},
        {64, 1, 6, 1 + 96},
        {0, 0, 128, 1},
        {-1, 1, 128 + 2, 1 + 32},
        {INT64_MIN, INT64_MAX, 128 + 64, 1 + 1024},
        {INT64_MAX, 1, 63, 1 + 1008},
    };
    struct tally_writer out = test_writer();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t numbers[TALLY_BLOCK_NUMBERS];
        for (unsigned j = 0; j < TALLY_BLOCK_NUMBERS; j++) numbers[j] = j % 2 ? cases[i].second : cases[i].first;
        out.size = 0;
        tally_block_write(&out, numbers, TALLY_BLOCK_NUMBERS);
        assert_int_equal(out.data[0], cases[i].code);
        assert_int_equal(out.size, cases[i].bytes);
    }
    // One that is far out does not make the others long.
    int64_t numbers[TALLY_BLOCK_NUMBERS] = {(int64_t)1 << 40};
    for (unsigned j = 1; j < TALLY_BLOCK_NUMBERS; j++) numbers[j] = 1 + j % 3;
    out.size = 0;
    tally_block_write(&out, numbers, TALLY_BLOCK_NUMBERS);
    assert_true(out.data[0] >= TALLY_BLOCK_GAMMA && out.data[0] < TALLY_BLOCK_RICE);
    assert_true(out.size < 64);
    test_writer_free(&out);
}

static void test_no_room(void **state)
{
    (void)state;
    uint8_t room[64];
    const int64_t numbers[4] = {1000, 2000, 3000, 1};
    for (size_t capacity = 0; capacity < sizeof room; capacity++) {
        struct tally_writer out = tally_writer_fixed(room, capacity);
        tally_block_write(&out, numbers, 4);
        assert_int_equal(out.failed, capacity < 1 + 6 + TALLY_BLOCK_BEHIND);
        assert_int_equal(out.size, out.failed ? 0 : 1 + 6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_truncations), cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_choice),     cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
