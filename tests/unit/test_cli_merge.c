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
    struct cli_merge *merge = cli_merge_create(bytes_max, TALLY_KIND_UNSPECIFIED, false, (struct tally_seed){seed, 1});
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

// ---------------------------------------------------------------------------------------------------- other kinds

enum { SMALL_KEYS = 40, MEMBERS = 64 };

// What a server has of one table, of any kind.
struct rows {
    bool live[SMALL_KEYS];
    int64_t value[SMALL_KEYS];
    uint64_t members[SMALL_KEYS];
};

static uint64_t member_of(uint64_t number) { return number * 0x9e3779b97f4a7c15u; }

static void count(struct rows *rows, enum tally_kind kind, bool adjust, size_t key, int64_t amount)
{
    bool first = !rows->live[key];
    int64_t value = rows->value[key];
    rows->live[key] = true;
    switch (kind) {
    case TALLY_KIND_GAUGE: rows->value[key] = adjust ? value + amount : amount; break;
    case TALLY_KIND_MIN: rows->value[key] = first || amount < value ? amount : value; break;
    case TALLY_KIND_MAX: rows->value[key] = first || amount > value ? amount : value; break;
    case TALLY_KIND_DISTINCT:
        for (uint64_t i = 0; i < MEMBERS; i++)
            if (member_of(i) == (uint64_t)amount) rows->members[key] |= (uint64_t)1 << i;
        break;
    default: rows->value[key] += amount;
    }
}

static void count_batch(struct cli_merge *merge, struct rows *rows, enum tally_kind kind, bool adjust)
{
    struct tally_writer out = test_writer();
    struct tally_batch_writer writer = {
        .out = &out, .body = test_writer(), .entries = test_writer(), .amounts = test_writer()};
    struct tally_batch_header header = {tally_bytes("main", 4), 7, 1};
    struct tally_batch_reader reader;
    struct tally_entries_reader entries;
    struct tally_bytes batch, key;
    int64_t amount;
    assert_int_equal(cli_merge_take(merge, &header, &writer), TALLY_OK);
    assert_in_range(out.size, 1, 4096);
    assert_int_equal(tally_request_batch(tally_writer_bytes(&out), &batch), TALLY_OK);
    assert_int_equal(tally_batch_open(batch, &reader), TALLY_OK);
    while (tally_batch_next_table(&reader, &entries)) {
        assert_int_equal(entries.kind, kind);
        assert_int_equal(entries.adjust, adjust);
        assert_int_equal(entries.members, kind == TALLY_KIND_DISTINCT);
        while (tally_entries_next(&entries, &key, &amount)) count(rows, kind, adjust, parse_key(key), amount);
    }
    test_writer_free(&writer.body);
    test_writer_free(&writer.entries);
    test_writer_free(&writer.amounts);
    test_writer_free(&out);
}

// Whatever the kind: a server has the same of the merged batches as of every event by itself; and a key is in a batch once.
static void every_kind_is_merged_as_a_server_would(void **state)
{
    (void)state;
    struct test_random random = test_random_start("cli_merge: kinds");
    for (unsigned round = 0; round < 60; round++) {
        enum tally_kind kind = (enum tally_kind)(1 + round % 6);
        bool adjust = kind == TALLY_KIND_GAUGE && round % 12 > 6,
             sums = kind == TALLY_KIND_COUNTER || kind == TALLY_KIND_TOPK;
        struct cli_merge *merge =
            cli_merge_create(4096, kind, adjust, (struct tally_seed){test_random_next(&random), 1});
        struct rows want = {0}, got = {0};
        assert_non_null(merge);
        for (unsigned i = 0; i < 3000; i++) {
            uint8_t key[TALLY_KEY_BYTES_MAX + 1];
            size_t number = test_random_below(&random, SMALL_KEYS);
            int64_t amount = (int64_t)test_random_below(&random, 1000000);
            struct tally_bytes bytes = tally_bytes(key, make_key((unsigned)number, key));
            if (!sums) amount -= 500000;
            if (kind == TALLY_KIND_DISTINCT) amount = (int64_t)member_of(test_random_below(&random, MEMBERS));
            count(&want, kind, adjust, number, amount);
            while (cli_merge_add(merge, tally_bytes("t", 1), bytes, amount)) count_batch(merge, &got, kind, adjust);
            if (kind != TALLY_KIND_DISTINCT) assert_in_range(cli_merge_entries(merge), 1, SMALL_KEYS);
            if (test_random_below(&random, 1000) < 3) count_batch(merge, &got, kind, adjust);
        }
        count_batch(merge, &got, kind, adjust);
        assert_memory_equal(&want, &got, sizeof want);
        cli_merge_destroy(&merge);
    }
}

static void an_overflowing_sum_asks_for_a_new_batch(void **state)
{
    (void)state;
    struct cli_merge *merge = cli_merge_create(4096, TALLY_KIND_UNSPECIFIED, false, (struct tally_seed){1, 2});
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
    struct cli_merge *merge =
        cli_merge_create(TALLY_BATCH_BYTES_MAX, TALLY_KIND_UNSPECIFIED, false, (struct tally_seed){1, 2});
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
        cmocka_unit_test(every_kind_is_merged_as_a_server_would),
        cmocka_unit_test(an_overflowing_sum_asks_for_a_new_batch),
        cmocka_unit_test(entries_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
