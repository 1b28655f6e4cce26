// SPDX-License-Identifier: Apache-2.0
#include "../support/memory.h"
#include "../support/random.h"
#include "../support/with_cmocka.h"

#include <math.h>
#include <server/src/sketch.h>
#include <stdlib.h>

static const struct tally_alloc *libc_alloc(struct test_alloc *alloc)
{
    test_alloc_init(alloc);
    return &alloc->alloc;
}

static void add(struct tally_sketch **sketch, uint32_t precision, uint64_t member, const struct tally_alloc *alloc)
{
    bool changed;
    assert_int_equal(tally_sketch_add(sketch, precision, member, alloc, &changed), TALLY_OK);
}

static void assert_same(const struct tally_sketch *a, const struct tally_sketch *b, uint32_t precision)
{
    struct tally_writer x = test_writer(), y = test_writer();
    tally_sketch_write(a, precision, &x);
    tally_sketch_write(b, precision, &y);
    assert_int_equal(x.size, tally_sketch_bytes(a, precision));
    assert_true(tally_bytes_equal(tally_writer_bytes(&x), tally_writer_bytes(&y)));
    assert_int_equal(tally_sketch_estimate(a, precision), tally_sketch_estimate(b, precision));
    test_writer_free(&x);
    test_writer_free(&y);
}

// Up to a quarter of the registers the estimate is the number.
static void test_small_sets_are_exact(void **state)
{
    (void)state;
    struct test_random random = test_random_start("sketch: small");
    struct test_alloc test;
    const struct tally_alloc *alloc = libc_alloc(&test);
    assert_int_equal(tally_sketch_estimate(NULL, 12), 0);
    for (unsigned round = 0; round < 20; round++) {
        struct tally_sketch *sketch = NULL;
        for (int64_t n = 1; n <= 200; n++) {
            uint64_t member = test_random_next(&random);
            add(&sketch, 12, member, alloc);
            add(&sketch, 12, member, alloc); // a repeat is nothing
            // 200 members share a cell of 2^26 once in 3,400 times.
            assert_true(tally_sketch_estimate(sketch, 12) >= n - 1 && tally_sketch_estimate(sketch, 12) <= n);
        }
        assert_true(tally_sketch_memory(sketch, 12) <= 16 + 256 * 4);
        tally_alloc_free(alloc, sketch);
    }
    assert_int_equal(test.blocks, 0);
}

// The stated error: over many sketches the root of the mean square is that, no single one is beyond four times it, and the mean is not off.
static void test_the_error_is_as_stated(void **state)
{
    (void)state;
    static const uint32_t precisions[] = {10, 12, 14};
    static const unsigned sizes[] = {300, 1100, 3000, 6000, 10000, 20000, 100000};
    struct test_random random = test_random_start("sketch: error");
    struct test_alloc test;
    const struct tally_alloc *alloc = libc_alloc(&test);
    for (unsigned p = 0; p < 3; p++) {
        double stated = 1.04 / sqrt((double)(1u << precisions[p]));
        for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            double squares = 0, sum = 0, worst = 0;
            unsigned rounds = sizes[s] > 20000 ? 25 : 100;
            for (unsigned round = 0; round < rounds; round++) {
                struct tally_sketch *sketch = NULL;
                for (unsigned n = 0; n < sizes[s]; n++) add(&sketch, precisions[p], test_random_next(&random), alloc);
                double error = (double)tally_sketch_estimate(sketch, precisions[p]) / sizes[s] - 1;
                squares += error * error;
                sum += error;
                worst = fmax(worst, fabs(error));
                tally_alloc_free(alloc, sketch);
            }
            double root = sqrt(squares / rounds), mean = sum / rounds;
            if (getenv("TALLY_VERBOSE"))
                print_message("# p=%u n=%u rms %.4f mean %.4f worst %.4f stated %.4f\n", precisions[p], sizes[s], root,
                              mean, worst, stated);
            assert_true(root < 1.6 * stated);
            assert_true(worst < 5 * stated);
            assert_true(fabs(mean) < 5 * stated / sqrt(rounds));
        }
    }
}

// Whatever the order, the repeats and the way of merging: the same bytes.
static void test_a_sketch_is_a_function_of_its_set(void **state)
{
    (void)state;
    struct test_random random = test_random_start("sketch: order");
    struct test_alloc test;
    const struct tally_alloc *alloc = libc_alloc(&test);
    enum { MOST = 6000 };
    uint64_t *members = malloc(MOST * sizeof *members);
    assert_non_null(members);
    for (unsigned round = 0; round < 60; round++) {
        unsigned count = 1 + (unsigned)test_random_below(&random, round % 3 ? MOST : 600);
        uint32_t precision = 10 + round % 5;
        struct tally_sketch *forth = NULL, *back = NULL, *parts[3] = {NULL, NULL, NULL};
        for (unsigned i = 0; i < count; i++) {
            members[i] = test_random_next(&random);
            // Long runs of zeros, which random members do not have.
            if (test_random_percent(&random, 5)) members[i] &= ~(uint64_t)0 << test_random_below(&random, 64);
            add(&forth, precision, members[i], alloc);
        }
        for (unsigned i = count; i-- > 0;) {
            add(&back, precision, members[i], alloc);
            if (test_random_percent(&random, 20))
                add(&back, precision, members[i + test_random_below(&random, count - i)], alloc);
            add(&parts[test_random_below(&random, 3)], precision, members[i], alloc);
            if (test_random_percent(&random, 20)) add(&parts[0], precision, members[i], alloc);
        }
        assert_same(forth, back, precision);
        for (unsigned i = 1; i < 3; i++)
            assert_int_equal(tally_sketch_merge(&parts[0], parts[i], precision, alloc), TALLY_OK);
        assert_same(forth, parts[0], precision);
        // Written and read.
        struct tally_writer out = test_writer();
        struct tally_sketch *read;
        tally_sketch_write(forth, precision, &out);
        assert_int_equal(tally_sketch_read(tally_writer_bytes(&out), precision, alloc, &read), TALLY_OK);
        assert_same(forth, read, precision);
        add(&read, precision, 12345, alloc);
        add(&forth, precision, 12345, alloc);
        assert_same(forth, read, precision);
        test_writer_free(&out);
        for (unsigned i = 0; i < 3; i++) tally_alloc_free(alloc, parts[i]);
        tally_alloc_free(alloc, forth);
        tally_alloc_free(alloc, back);
        tally_alloc_free(alloc, read);
    }
    free(members);
    assert_int_equal(test.blocks, 0);
}

// Members that were chosen to hurt: all in one register, all full, all zero.
static void test_strange_members(void **state)
{
    (void)state;
    struct test_alloc test;
    const struct tally_alloc *alloc = libc_alloc(&test);
    for (uint32_t precision = TALLY_PRECISION_MIN; precision <= TALLY_PRECISION_MAX; precision++) {
        struct tally_sketch *one = NULL, *full = NULL;
        int64_t last = 0;
        for (uint64_t i = 0; i < 8192; i++) {
            add(&one, precision, i << 36, alloc);
            assert_true(tally_sketch_estimate(one, precision) >= 1);
        }
        for (uint64_t i = 0; i < (uint64_t)1 << precision; i++) {
            add(&full, precision, i << (64 - precision), alloc);
            int64_t estimate = tally_sketch_estimate(full, precision);
            if (full->capacity == 0 && last > (1 << precision)) assert_true(estimate >= last);
            last = estimate;
        }
        // Every register at its greatest: beyond any number of members there is, and no overflow.
        assert_true(last > INT64_MAX / 2);
        tally_alloc_free(alloc, one);
        tally_alloc_free(alloc, full);
    }
    assert_int_equal(test.blocks, 0);
}

static void test_what_is_no_sketch(void **state)
{
    (void)state;
    struct test_alloc test;
    const struct tally_alloc *alloc = libc_alloc(&test);
    struct tally_sketch *sketch;
    static const struct {
        uint8_t bytes[12];
        size_t size;
    } bad[] = {{{0}, 0},
               {{2}, 1},
               {{0, 1, 2, 3}, 4},                      // no whole entry
               {{0, 0x40, 0, 0, 0}, 5},                // rank 0
               {{0, 0x68, 0, 0, 0}, 5},                // rank 40
               {{0, 0x81, 0, 0, 0, 0x81, 0, 0, 0}, 9}, // twice
               {{0, 0x82, 0, 0, 0, 0x81, 0, 0, 0}, 9}, // twice, with other ranks
               {{0, 0xc1, 0, 0, 0, 0x81, 0, 0, 0}, 9}, // descending
               {{1, 0, 0}, 3}};                        // too few registers
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(tally_sketch_read(tally_bytes(bad[i].bytes, bad[i].size), 12, alloc, &sketch),
                         TALLY_MALFORMED);
    uint8_t *registers = calloc(1, 1 + 1024 + 4);
    assert_non_null(registers);
    registers[0] = 1;
    registers[5] = 54; // over 63 - 10
    assert_int_equal(tally_sketch_read(tally_bytes(registers, 1025), 10, alloc, &sketch), TALLY_MALFORMED);
    registers[5] = 53;
    assert_int_equal(tally_sketch_read(tally_bytes(registers, 1025), 10, alloc, &sketch), TALLY_OK);
    tally_alloc_free(alloc, sketch);
    registers[0] = 0;
    assert_int_equal(tally_sketch_read(tally_bytes(registers, 1 + 4 * 257), 10, alloc, &sketch), TALLY_MALFORMED);
    free(registers);
    assert_int_equal(test.blocks, 0);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (unsigned fail = 0; fail < 12; fail++) {
        struct test_random random = {.state = 5};
        struct test_alloc test;
        const struct tally_alloc *alloc = libc_alloc(&test);
        struct tally_sketch *sketch = NULL, *twin = NULL;
        bool changed, failed = false;
        test.fail_at = fail + 1;
        for (unsigned i = 0; i < 400; i++) {
            uint64_t member = test_random_next(&random);
            while (tally_sketch_add(&sketch, 10, member, alloc, &changed)) {
                failed = true;
                test.fail_at = 0;
            }
        }
        test.fail_at = 0;
        random.state = 5;
        for (unsigned i = 0; i < 400; i++) add(&twin, 10, test_random_next(&random), alloc);
        assert_same(sketch, twin, 10);
        assert_true(failed == (fail < 8));
        tally_alloc_free(alloc, sketch);
        tally_alloc_free(alloc, twin);
        assert_int_equal(test.blocks, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_small_sets_are_exact),
                                       cmocka_unit_test(test_the_error_is_as_stated),
                                       cmocka_unit_test(test_a_sketch_is_a_function_of_its_set),
                                       cmocka_unit_test(test_strange_members),
                                       cmocka_unit_test(test_what_is_no_sketch),
                                       cmocka_unit_test(test_no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
