// SPDX-License-Identifier: Apache-2.0
//
// The merge of `tallycast count` beside a naive list: what is taken out, batch after batch, sums up to what
// went in, and no batch is over the limit.
#include "../support/memory.h"
#include "../support/random.h"
#include "../support/with_cmocka.h"

#include <merge.h>

#define KEYS 3000u

struct naive {
    int64_t sums[3][KEYS];
};

static const char *const table_names[] = {"files", "repos", "a.b-c_d"};

static size_t make_key(unsigned number, uint8_t *out)
{
    // Sizes from 1 to 1024, none of them twice the same bytes.
    size_t size = (size_t)sprintf((char *)out, "%u", number);
    size_t padded = number % 97 == 0 ? TALLY_KEY_BYTES_MAX : size + number % 40;
    memset(out + size, '.', padded - size);
    return padded;
}

static size_t parse_key(struct tally_bytes key)
{
    unsigned number = 0;
    for (size_t i = 0; i < key.size && key.data[i] != '.'; i++) number = number * 10 + (key.data[i] - '0');
    return number;
}

static size_t take_out(struct cli_merge *merge, struct naive *got, size_t bytes_max)
{
    struct tally_writer out = test_writer();
    struct tally_batch_writer writer = {
        .out = &out, .body = test_writer(), .entries = test_writer(), .amounts = test_writer()};
    struct tally_batch_header header = {tally_bytes("main", 4), 7, 1};
    size_t entries = cli_merge_entries(merge), seen = 0;
    assert_int_equal(cli_merge_take(merge, &header, &writer), TALLY_OK);
    assert_int_equal(cli_merge_entries(merge), 0);
    assert_int_equal(cli_merge_events(merge), 0);
    assert_in_range(out.size, 1, bytes_max);
    struct tally_bytes batch;
    struct tally_batch_reader reader;
    assert_int_equal(tally_request_batch(tally_writer_bytes(&out), &batch), TALLY_OK);
    assert_int_equal(tally_batch_open(batch, &reader), TALLY_OK);
    struct tally_entries_reader table;
    while (tally_batch_next_table(&reader, &table)) {
        unsigned number = 0;
        while (!tally_bytes_equal(table.table, tally_bytes(table_names[number], strlen(table_names[number])))) number++;
        struct tally_bytes key;
        int64_t amount;
        while (tally_entries_next(&table, &key, &amount)) {
            got->sums[number][parse_key(key)] += amount;
            seen++;
        }
    }
    assert_int_equal(seen, entries);
    test_writer_free(&writer.body);
    test_writer_free(&writer.entries);
    test_writer_free(&writer.amounts);
    test_writer_free(&out);
    return seen;
}

static void run_load(uint64_t seed, size_t bytes_max, unsigned events, unsigned take_percent)
{
    struct test_random random = {seed};
    struct cli_merge *merge = cli_merge_create(bytes_max, (struct tally_seed){seed, 1});
    assert_non_null(merge);
    static struct naive want, got;
    want = got = (struct naive){0};
    unsigned batches = 0;
    for (unsigned i = 0; i < events; i++) {
        unsigned table = (unsigned)test_random_below(&random, 3), number = (unsigned)test_random_below(&random, KEYS);
        int64_t amount = (int64_t)test_random_below(&random, 100);
        uint8_t key[TALLY_KEY_BYTES_MAX + 1];
        struct tally_bytes key_bytes = tally_bytes(key, make_key(number, key));
        struct tally_bytes name = tally_bytes(table_names[table], strlen(table_names[table]));
        uint64_t events_before = cli_merge_events(merge);
        enum tally_status status = cli_merge_add(merge, name, key_bytes, amount);
        if (status == TALLY_FULL) {
            assert_true(take_out(merge, &got, bytes_max) > 0);
            batches++;
            events_before = 0;
            status = cli_merge_add(merge, name, key_bytes, amount);
        }
        assert_int_equal(status, TALLY_OK);
        assert_int_equal(cli_merge_events(merge), events_before + 1);
        want.sums[table][number] += amount;
        if (test_random_below(&random, 1000) < take_percent) batches += take_out(merge, &got, bytes_max) > 0;
    }
    if (cli_merge_entries(merge)) batches += take_out(merge, &got, bytes_max) > 0;
    assert_memory_equal(&want, &got, sizeof want);
    assert_in_range(batches, 2, events);
    cli_merge_destroy(&merge);
    assert_null(merge);
}

static void sums_like_a_list(void **state)
{
    (void)state;
    uint64_t seed = test_random_start("cli_merge").state;
    run_load(seed, 4096, 20000, 0);
    run_load(seed + 1, 4096, 20000, 50);
    run_load(seed + 2, 65536, 200000, 2);
    run_load(seed + 3, TALLY_BATCH_BYTES_MAX, 200000, 1);
}

static void an_overflowing_sum_asks_for_a_new_batch(void **state)
{
    (void)state;
    struct cli_merge *merge = cli_merge_create(4096, (struct tally_seed){1, 2});
    struct tally_bytes table = tally_bytes("files", 5), key = tally_bytes("7", 1);
    assert_int_equal(cli_merge_add(merge, table, key, INT64_MAX), TALLY_OK);
    assert_int_equal(cli_merge_add(merge, table, key, 0), TALLY_OK);
    assert_int_equal(cli_merge_add(merge, table, key, 1), TALLY_FULL);
    static struct naive got;
    take_out(merge, &got, 4096);
    assert_true(got.sums[0][7] == INT64_MAX);
    assert_int_equal(cli_merge_add(merge, table, key, 1), TALLY_OK);
    cli_merge_destroy(&merge);
}

static void entries_are_bounded(void **state)
{
    (void)state;
    struct cli_merge *merge = cli_merge_create(TALLY_BATCH_BYTES_MAX, (struct tally_seed){1, 2});
    uint32_t added = 0;
    for (;; added++) {
        uint8_t key[4];
        tally_store32(key, added);
        if (cli_merge_add(merge, tally_bytes("t", 1), tally_bytes(key, 3 - (added < 65536)), 1) != TALLY_OK) break;
    }
    assert_in_range(added, 65536, TALLY_BATCH_ENTRIES_MAX);
    cli_merge_destroy(&merge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_like_a_list),
        cmocka_unit_test(an_overflowing_sum_asks_for_a_new_batch),
        cmocka_unit_test(entries_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
