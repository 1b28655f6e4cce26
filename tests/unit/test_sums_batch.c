// SPDX-License-Identifier: Apache-2.0
//
// Merged counts as batches (proto/sums/sums_batch.h): whatever is in the sums comes out of the batches again, each within its bounds.
#include "../support/with_cmocka.h"

#include "../support/build.h"
#include "../support/random.h"

#include <sums/sums_batch.h>
#include <tallycast/limits.h>

static const struct tally_batch_header header = {.dataset = {(const uint8_t *)"main", 4}, .producer = 7, .sequence = 1};

static void add(struct tally_sums *sums, enum tally_counting counting, const char *table, const char *key,
                int64_t number)
{
    const struct tally_sum sum = {counting, test_text(table), test_text(key), number};
    assert_int_equal(tally_sums_add(sums, &sum), TALLY_OK);
}

static void expect_entry(struct tally_entries_reader *entries, const char *key, int64_t number)
{
    struct tally_bytes found;
    int64_t amount;
    assert_true(tally_entries_next(entries, &found, &amount));
    assert_true(tally_bytes_equal(found, test_text(key)));
    assert_int_equal(amount, number);
}

static void says_the_kind_of_each_table(void **state)
{
    struct tally_sums sums;
    struct test_batch batch;
    struct tally_bytes body;
    struct tally_batch_reader reader;
    struct tally_entries_reader entries;
    (void)state;
    tally_sums_init(&sums, (struct tally_seed){1, 2}, &tally_alloc_libc);
    add(&sums, TALLY_COUNTING_ADD, "c", "a", 1);
    add(&sums, TALLY_COUNTING_SET, "g", "a", -5);
    add(&sums, TALLY_COUNTING_ADJUST, "g", "b", 3);
    add(&sums, TALLY_COUNTING_SET, "g", "c", 9);
    add(&sums, TALLY_COUNTING_MIN, "m", "a", -2);
    add(&sums, TALLY_COUNTING_MAX, "n", "a", 4);
    add(&sums, TALLY_COUNTING_TOPK, "t", "a", 6);
    add(&sums, TALLY_COUNTING_MEMBER, "d", "a", INT64_MIN);
    add(&sums, TALLY_COUNTING_MEMBER, "d", "a", 5);
    add(&sums, TALLY_COUNTING_ADD, "c", "b", 2);
    assert_int_equal(tally_sums_group(&sums), TALLY_OK);
    assert_int_equal(tally_sums_fit(&sums, 0, TALLY_BATCH_BYTES_MAX), 10);
    test_batch_init(&batch);
    tally_batch_begin(&batch.writer, &header);
    tally_sums_write(&sums, 0, 10, &batch.writer);
    assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
    assert_int_equal(tally_request_batch(test_batch_bytes(&batch), &body), TALLY_OK);
    assert_int_equal(tally_batch_open(body, &reader), TALLY_OK);
    static const struct {
        const char *table;
        enum tally_kind kind;
        bool adjust;
        struct {
            const char *key;
            int64_t number;
        } entries[3];
    } expected[] = {{"c", TALLY_KIND_COUNTER, false, {{"a", 1}, {"b", 2}}},
                    {"g", TALLY_KIND_GAUGE, false, {{"a", -5}, {"c", 9}}},
                    {"g", TALLY_KIND_GAUGE, true, {{"b", 3}}},
                    {"m", TALLY_KIND_MIN, false, {{"a", -2}}},
                    {"n", TALLY_KIND_MAX, false, {{"a", 4}}},
                    {"t", TALLY_KIND_TOPK, false, {{"a", 6}}},
                    {"d", TALLY_KIND_DISTINCT, false, {{"a", INT64_MIN}, {"a", 5}}}};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        assert_true(tally_batch_next_table(&reader, &entries));
        assert_true(tally_bytes_equal(entries.table, test_text(expected[i].table)));
        assert_int_equal(entries.kind, expected[i].kind);
        assert_int_equal(entries.adjust, expected[i].adjust);
        for (size_t j = 0; j < 3 && expected[i].entries[j].key; j++)
            expect_entry(&entries, expected[i].entries[j].key, expected[i].entries[j].number);
        struct tally_bytes key;
        int64_t amount;
        assert_false(tally_entries_next(&entries, &key, &amount));
    }
    assert_false(tally_batch_next_table(&reader, &entries));
    test_batch_free(&batch);
    tally_sums_deinit(&sums);
}

// Batches are never over their bound, whatever the tables and keys, and nothing is left out.
static void fits_into_batches(void **state)
{
    struct test_random random = test_random_start("sums_batch");
    (void)state;
    for (unsigned round = 0; round < 60; round++) {
        struct tally_sums sums;
        struct test_batch batch;
        uint64_t sum = 0, found = 0, tables = 1 + test_random_below(&random, 40),
                 bound = 4096 + test_random_below(&random, 20000);
        tally_sums_init(&sums, (struct tally_seed){round, 2}, &tally_alloc_libc);
        for (unsigned i = 0; i < 3000; i++) {
            char table[80], key[1100];
            int width = (int)(1 + test_random_below(&random, round % 2 ? 8 : 200));
            unsigned number_of_table = (unsigned)test_random_below(&random, tables);
            (void)snprintf(table, sizeof table, "t%0*u", (int)(number_of_table * 7 % 60) + 1, number_of_table);
            (void)snprintf(key, sizeof key, "%0*u", width, i);
            int64_t number = (int64_t)test_random_below(&random, i % 3 ? 100 : (uint64_t)1 << 40);
            enum tally_counting counting = round % 3 == 0 ? TALLY_COUNTING_ADD
                                           : i % 2        ? TALLY_COUNTING_SET
                                                          : TALLY_COUNTING_ADJUST;
            add(&sums, counting, table, key, number);
            sum += (uint64_t)number;
        }
        assert_int_equal(tally_sums_group(&sums), TALLY_OK);
        test_batch_init(&batch);
        uint32_t at = 0, count;
        for (; (count = tally_sums_fit(&sums, at, bound)); at += count) {
            struct tally_bytes body, key;
            struct tally_batch_reader reader;
            struct tally_entries_reader entries;
            int64_t amount;
            batch.out.size = 0;
            tally_batch_begin(&batch.writer, &header);
            tally_sums_write(&sums, at, count, &batch.writer);
            assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
            assert_true(batch.out.size <= bound);
            assert_int_equal(tally_request_batch(test_batch_bytes(&batch), &body), TALLY_OK);
            assert_int_equal(tally_batch_open(body, &reader), TALLY_OK);
            while (tally_batch_next_table(&reader, &entries))
                while (tally_entries_next(&entries, &key, &amount)) found += (uint64_t)amount;
        }
        assert_int_equal(at, tally_sums_count(&sums));
        assert_int_equal(found, sum);
        test_batch_free(&batch);
        tally_sums_deinit(&sums);
    }
}

// Of the algorithm's own vectors: XXH3-64, seed 0.
static void hashes_members_as_everybody_does(void **state)
{
    (void)state;
    assert_true(tally_member(test_text("")) == 0x2d06800538d394c2u);
    assert_true(tally_member(test_text("a")) == 0xe6c632b61e964e1fu);
    assert_true(tally_member(test_text("abc")) == 0x78af5f94892f3950u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(says_the_kind_of_each_table),
                                       cmocka_unit_test(fits_into_batches),
                                       cmocka_unit_test(hashes_members_as_everybody_does)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
