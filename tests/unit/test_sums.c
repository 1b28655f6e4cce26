// SPDX-License-Identifier: Apache-2.0
//
// Merged counts (proto/sums/sums.h) beside a naive list.
#include "../support/memory.h"
#include "../support/random.h"
#include "../support/with_cmocka.h"

#include <string.h>
#include <tallycast/limits.h>
#include <sums/sums.h>

#define MODEL_MAX 4000

// In order of coming.
struct model {
    struct {
        enum tally_counting counting;
        unsigned table, key;
        int64_t number;
    } entries[MODEL_MAX];
    unsigned count;
};

static struct tally_bytes table_of(unsigned table)
{
    static const char *const names[] = {"files", "users", "loads", "a", "b"};
    return tally_bytes(names[table], strlen(names[table]));
}

static struct tally_bytes key_of(unsigned key, char *room)
{
    return tally_bytes(room, (size_t)snprintf(room, 32, "%0*u", (int)(key % 9) + 1, key));
}

static bool same_group(enum tally_counting a, enum tally_counting b)
{
    if (a == TALLY_COUNTING_ADJUST) a = TALLY_COUNTING_SET;
    if (b == TALLY_COUNTING_ADJUST) b = TALLY_COUNTING_SET;
    return a == b;
}

static int64_t saturated(__int128 sum, enum tally_counting counting)
{
    __int128 most = counting == TALLY_COUNTING_ADJUST ? TALLY_LEVEL_MAX : INT64_MAX;
    return (int64_t)(sum > most ? most : sum < -most ? -most : sum);
}

static void model_add(struct model *model, enum tally_counting counting, unsigned table, unsigned key, int64_t number)
{
    unsigned i = 0;
    for (; i < model->count; i++) {
        if (!same_group(model->entries[i].counting, counting) || model->entries[i].table != table) continue;
        if (model->entries[i].key != key) continue;
        if (counting == TALLY_COUNTING_MEMBER && model->entries[i].number != number) continue;
        break;
    }
    int64_t *at = &model->entries[i].number;
    if (i == model->count) {
        model->entries[model->count++].counting = counting;
        model->entries[i].table = table;
        model->entries[i].key = key;
        *at = number;
    } else if (counting == TALLY_COUNTING_SET) {
        *at = number;
        model->entries[i].counting = counting;
    } else if (counting == TALLY_COUNTING_MIN) {
        *at = number < *at ? number : *at;
    } else if (counting == TALLY_COUNTING_MAX) {
        *at = number > *at ? number : *at;
    } else if (counting != TALLY_COUNTING_MEMBER) {
        *at = saturated((__int128)*at + number, counting);
    }
}

static void model_drop(struct model *model, unsigned count)
{
    memmove(model->entries, model->entries + count, (model->count - count) * sizeof *model->entries);
    model->count -= count;
}

static void compare(const struct tally_sums *sums, const struct model *model)
{
    uint64_t bytes = 0;
    assert_int_equal(tally_sums_count(sums), model->count);
    for (unsigned i = 0; i < model->count; i++) {
        struct tally_sum sum;
        char room[32];
        int64_t number = 0;
        enum tally_counting counting;
        tally_sums_at(sums, i, &sum);
        bytes += tally_sum_bytes(&sum);
        assert_int_equal(sum.counting, model->entries[i].counting);
        assert_int_equal(sum.number, model->entries[i].number);
        assert_true(tally_bytes_equal(sum.table, table_of(model->entries[i].table)));
        assert_true(tally_bytes_equal(sum.key, key_of(model->entries[i].key, room)));
        assert_true(tally_sums_has(sums, &sum));
        if (sum.counting == TALLY_COUNTING_MEMBER) continue;
        assert_int_equal(tally_sums_get(sums, sum.counting, sum.table, sum.key, &counting, &number), TALLY_OK);
        assert_int_equal(number, sum.number);
        assert_int_equal(counting, sum.counting);
    }
    assert_int_equal(bytes, sums->bytes);
}

static int64_t number_of(struct test_random *random, enum tally_counting counting)
{
    if (counting == TALLY_COUNTING_MEMBER) return (int64_t)test_random_below(random, 5);
    bool sign = counting != TALLY_COUNTING_ADD && counting != TALLY_COUNTING_TOPK;
    int64_t number = (int64_t)(test_random_wide(random) >> (sign ? 2 : 1)); // within TALLY_LEVEL_MAX
    return sign && test_random_percent(random, 50) ? -number : number;
}

static void merges_as_the_model_does(void **state)
{
    (void)state;
    struct test_random random = test_random_start("sums");
    static struct model model;
    for (unsigned round = 0; round < 30; round++) {
        struct test_alloc alloc;
        struct tally_sums sums;
        test_alloc_init(&alloc);
        tally_sums_init(&sums, (struct tally_seed){test_random_next(&random), 5}, &alloc.alloc);
        model.count = 0;
        uint64_t keys = test_random_between(&random, 1, 200), drops = test_random_below(&random, 4);
        for (unsigned step = 0; step < 1500 && model.count < MODEL_MAX; step++) {
            enum tally_counting counting = (enum tally_counting)test_random_below(&random, TALLY_COUNTINGS);
            unsigned table = (unsigned)test_random_below(&random, 5), key = (unsigned)test_random_below(&random, keys);
            char room[32];
            struct tally_sum sum = {counting, table_of(table), key_of(key, room), number_of(&random, counting)};
            // Now and then there is no memory: then nothing has changed, and it is tried again.
            if (test_random_percent(&random, 10)) {
                alloc.fail_at = alloc.requests + 1;
                bool had = tally_sums_has(&sums, &sum);
                enum tally_status status = tally_sums_add(&sums, &sum);
                alloc.fail_at = 0;
                assert_true(status == TALLY_OK || (status == TALLY_NO_MEMORY && !had));
                if (status == TALLY_OK)
                    model_add(&model, counting, table, key, sum.number);
                else
                    compare(&sums, &model);
            } else {
                assert_int_equal(tally_sums_add(&sums, &sum), TALLY_OK);
                model_add(&model, counting, table, key, sum.number);
            }
            if (test_random_below(&random, 100) < drops) {
                uint32_t count = (uint32_t)test_random_below(&random, model.count + 1);
                tally_sums_drop(&sums, count);
                model_drop(&model, count);
                compare(&sums, &model);
            }
        }
        compare(&sums, &model);
        tally_sums_clear(&sums);
        model.count = 0;
        compare(&sums, &model);
        tally_sums_deinit(&sums);
        assert_int_equal(alloc.blocks, 0);
    }
}

static void groups_tables_together(void **state)
{
    (void)state;
    struct tally_sums sums;
    struct test_alloc alloc;
    struct tally_sum sum;
    test_alloc_init(&alloc);
    tally_sums_init(&sums, (struct tally_seed){1, 2}, &alloc.alloc);
    for (unsigned i = 0; i < 30; i++) {
        char room[32];
        sum = (struct tally_sum){TALLY_COUNTING_ADD, table_of(i % 3), key_of(i, room), i};
        assert_int_equal(tally_sums_add(&sums, &sum), TALLY_OK);
    }
    tally_sums_drop(&sums, 1); // so that the first is of the second table
    enum tally_status status = TALLY_NO_MEMORY;
    for (unsigned nth = 1; status != TALLY_OK; nth++) {
        alloc.fail_at = alloc.requests + nth;
        status = tally_sums_group(&sums);
        tally_sums_at(&sums, 0, &sum);
        assert_int_equal(sum.number, 1); // it changes all or nothing
        if (status == TALLY_OK) break;
        tally_sums_at(&sums, 1, &sum);
        assert_int_equal(sum.number, 2);
    }
    alloc.fail_at = 0;
    uint32_t at = 0;
    for (unsigned group = 0; group < 3; group++) {
        for (unsigned i = (group + 1) % 3 ? (group + 1) % 3 : 3; i < 30; i += 3, at++) {
            tally_sums_at(&sums, at, &sum);
            assert_int_equal(sum.number, i);
        }
    }
    assert_int_equal(at, tally_sums_count(&sums));
    tally_sums_deinit(&sums);
    assert_int_equal(alloc.blocks, 0);
}

static void bounds_its_tables(void **state)
{
    (void)state;
    struct tally_sums sums;
    tally_sums_init(&sums, (struct tally_seed){1, 2}, &tally_alloc_libc);
    for (unsigned i = 0; i <= TALLY_SUMS_TABLES_MAX; i++) {
        char name[16];
        struct tally_sum sum = {.table = tally_bytes(name, (size_t)snprintf(name, sizeof name, "t%u", i)),
                                .key = tally_bytes("k", 1),
                                .number = 1};
        assert_int_equal(tally_sums_add(&sums, &sum), i < TALLY_SUMS_TABLES_MAX ? TALLY_OK : TALLY_FULL);
    }
    assert_int_equal(tally_sums_count(&sums), TALLY_SUMS_TABLES_MAX);
    tally_sums_deinit(&sums);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(merges_as_the_model_does),
                                       cmocka_unit_test(groups_tables_together), cmocka_unit_test(bounds_its_tables)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
