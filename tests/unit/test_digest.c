// SPDX-License-Identifier: Apache-2.0
#include "../support/random.h"
#include "../support/vectors.h"
#include "../support/with_cmocka.h"

#include <tallycast/fingerprint.h>

__extension__ typedef unsigned __int128 u128;

static u128 wide(struct tally_digest digest) { return (u128)digest.hi << 64 | digest.lo; }

static struct tally_digest random_digest(struct test_random *random)
{
    // Ends of the range as often as its middle: carries must be right.
    uint64_t lo = test_random_percent(random, 50) ? UINT64_MAX : test_random_wide(random);
    return (struct tally_digest){lo, test_random_percent(random, 30) ? UINT64_MAX : test_random_wide(random)};
}

static void test_arithmetic(void **state)
{
    (void)state;
    struct test_random random = test_random_start("digest");
    for (unsigned round = 0; round < 100000; round++) {
        struct tally_digest sum = random_digest(&random), row = random_digest(&random), start = sum;
        tally_digest_add(&sum, row);
        assert_true(wide(sum) == wide(start) + wide(row));
        tally_digest_subtract(&sum, row);
        assert_true(tally_digest_equal(sum, start));
        tally_digest_subtract(&sum, row);
        assert_true(wide(sum) == wide(start) - wide(row));
    }
}

// A state is a set of rows: neither order nor what was there in between matters.
static void test_order_and_history(void **state)
{
    (void)state;
    enum { ROWS = 200 };
    struct test_random random = test_random_start("digest");
    struct tally_digest rows[ROWS], forward = {0}, backward = {0};
    uint64_t table = test_random_next(&random);
    for (unsigned i = 0; i < ROWS; i++) {
        rows[i] = tally_digest_row(table, test_random_next(&random), (int64_t)test_random_wide(&random));
        tally_digest_add(&forward, rows[i]);
    }
    for (unsigned i = ROWS; i-- > 0;) {
        struct tally_digest passing = tally_digest_row(table, i, 5);
        tally_digest_add(&backward, passing);
        tally_digest_add(&backward, rows[i]);
        tally_digest_subtract(&backward, passing);
    }
    assert_true(tally_digest_equal(forward, backward));
    for (unsigned i = 0; i < ROWS; i++) tally_digest_subtract(&forward, rows[i]);
    assert_true(tally_digest_equal(forward, (struct tally_digest){0}));
}

// Each of table, key and value changes both halves, also by the smallest step and between zero rows.
static void test_every_part_matters(void **state)
{
    (void)state;
    struct test_random random = test_random_start("digest");
    for (unsigned round = 0; round < 10000; round++) {
        uint64_t table = test_random_wide(&random), key = test_random_wide(&random);
        int64_t value = (int64_t)test_random_wide(&random);
        unsigned bit = (unsigned)test_random_below(&random, 64);
        struct tally_digest row = tally_digest_row(table, key, value);
        struct tally_digest other[] = {
            tally_digest_row(table ^ 1ull << bit, key, value),
            tally_digest_row(table, key ^ 1ull << bit, value),
            tally_digest_row(table, key, (int64_t)((uint64_t)value ^ 1ull << bit)),
        };
        for (unsigned i = 0; i < 3; i++) assert_true(row.lo != other[i].lo && row.hi != other[i].hi);
        assert_true(row.lo != 0 || row.hi != 0);
    }
}

static void test_text(void **state)
{
    (void)state;
    struct test_random random = test_random_start("digest");
    char text[TALLY_DIGEST_HEX_BYTES];
    tally_digest_format((struct tally_digest){.lo = 0x0123456789abcdefu, .hi = 0xfedcba9876543210u}, text);
    assert_string_equal(text, "fedcba98765432100123456789abcdef");
    for (unsigned round = 0; round < 1000; round++) {
        struct tally_digest digest = random_digest(&random), back = {1, 2};
        uint8_t bytes[TALLY_DIGEST_BYTES];
        tally_digest_format(digest, text);
        assert_true(tally_digest_parse(text, &back) && tally_digest_equal(digest, back));
        tally_digest_store(bytes, digest);
        assert_true(tally_digest_equal(tally_digest_load(bytes), digest));
    }
    static const char *const wrong[] = {
        "",
        "0",
        "0123456789abcdef0123456789abcde",
        "0123456789abcdef0123456789abcdef0",
        "0123456789ABCDEF0123456789abcdef",
        "0x23456789abcdef0123456789abcdef",
        "0123456789abcdef 123456789abcdef",
        "0123456789abcdef0123456789abcdeg",
        "-123456789abcdef0123456789abcdef",
        "0123456789abcdef0123456789abcdef\n",
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct tally_digest digest = {7, 8};
        assert_false(tally_digest_parse(wrong[i], &digest));
        assert_true(digest.lo == 7 && digest.hi == 8);
    }
}

static void test_vectors(void **state)
{
    (void)state;
    struct test_vectors vectors = test_vectors_open("digest.txt");
    struct tally_seed seed = {0};
    struct tally_digest sum = {0};
    unsigned checked = 0;
    while (test_vectors_next(&vectors)) {
        if (test_vectors_is(&vectors, "seed")) {
            seed = test_vectors_seed(&vectors, 1);
            sum = (struct tally_digest){0};
            continue;
        }
        const char *table = test_vectors_word(&vectors, 1);
        struct tally_bytes key = test_vectors_bytes(&vectors, 2);
        struct tally_digest row =
            tally_digest_row(tally_digest_table(seed, tally_bytes(table, strlen(table))),
                             tally_fingerprint(seed, key.data, key.size), test_vectors_signed(&vectors, 3));
        assert_true(tally_digest_equal(row, test_vectors_digest(&vectors, 4)));
        tally_digest_add(&sum, row);
        assert_true(tally_digest_equal(sum, test_vectors_digest(&vectors, 5)));
        checked++;
    }
    test_vectors_close(&vectors);
    assert_true(checked >= 28);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arithmetic),
        cmocka_unit_test(test_order_and_history),
        cmocka_unit_test(test_every_part_matters),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
