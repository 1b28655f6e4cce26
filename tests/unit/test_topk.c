// SPDX-License-Identifier: Apache-2.0
//
// The greatest rows of a table, and Space-Saving, each against a naive model.
#include "../support/with_cmocka.h"

#include "../support/build.h"
#include "../support/random.h"

#include <server/src/top.h>
#include <server/src/topk.h>
#include <stdio.h>
#include <tallycast/fingerprint.h>

#define SEED ((struct tally_seed){3, 4})

static struct tally_bytes name(uint64_t number, char *out)
{
    // Ties between values are decided by keys, also of different lengths; some too long to lie in their row.
    int size = snprintf(out, 80, number % 5 ? "k%llu" : "key-number-%llu-which-is-longer-than-a-row-has-room-for",
                        (unsigned long long)number);
    return tally_bytes(out, (size_t)size);
}

static int order_keys(struct tally_bytes a, struct tally_bytes b)
{
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

// ---------------------------------------------------------------------------------------------------- the top of rows

struct counted {
    int64_t value;
    uint64_t key;
    bool live;
};

// The answer against that of a look at every row.
static void check_top(struct tally_top *top, struct tally_rows *rows, struct counted *model, size_t keys, uint32_t k)
{
    uint32_t count;
    assert_int_equal(tally_top_select(top, rows, k, &count), TALLY_OK);
    tally_rows_untouch(rows);
    assert_int_equal(count, rows->live < k ? rows->live : k);
    for (uint32_t i = 0; i < count; i++) {
        size_t best = keys;
        char a[80], b[80];
        for (size_t j = 0; j < keys; j++) {
            if (!model[j].live) continue;
            if (best == keys || model[j].value > model[best].value ||
                (model[j].value == model[best].value && order_keys(name(j, a), name(best, b)) < 0))
                best = j;
        }
        assert_int_not_equal(best, keys);
        const struct tally_state_row *row = &rows->rows[top->candidates[i].id];
        assert_true(tally_bytes_equal(tally_row_key(row), name(best, a)));
        assert_int_equal(row->value, model[best].value);
        assert_int_equal(top->candidates[i].value, model[best].value);
        model[best].live = false;
    }
}

static void test_the_top_of_rows(void **state)
{
    (void)state;
    enum { KEYS = 700 };
    struct test_random random = test_random_start("top: rows");
    struct counted *model = calloc(KEYS, sizeof *model), *copy = calloc(KEYS, sizeof *copy);
    assert_true(model && copy);
    for (unsigned round = 0; round < 30; round++) {
        struct test_alloc test;
        struct tally_keys keys;
        struct tally_rows rows;
        test_alloc_init(&test);
        tally_keys_init(&keys, &test.alloc);
        tally_rows_init(&rows, &test.alloc, &keys, UINT64_MAX);
        struct tally_top top = tally_top(&test.alloc);
        memset(model, 0, KEYS * sizeof *model);
        uint32_t k = 1 + (uint32_t)test_random_below(&random, 30);
        unsigned removals = (unsigned)test_random_below(&random, 60),
                 spread = 1 + (unsigned)test_random_below(&random, 50);
        for (unsigned step = 0; step < 60; step++) {
            for (unsigned n = (unsigned)test_random_below(&random, 60); n > 0; n--) {
                uint64_t key = test_random_below(&random, KEYS);
                char text[80];
                struct tally_bytes bytes = name(key, text);
                uint64_t fingerprint = tally_fingerprint(SEED, bytes.data, bytes.size);
                uint32_t id = tally_rows_find(&rows, fingerprint);
                if (test_random_percent(&random, removals)) {
                    // Those that are the greatest, too.
                    if (id != TALLY_NO_ROW) {
                        tally_rows_touch(&rows, id);
                        assert_int_equal(tally_rows_remove(&rows, id), TALLY_OK);
                    }
                    model[key].live = false;
                    continue;
                }
                if (id == TALLY_NO_ROW) assert_int_equal(tally_rows_add(&rows, fingerprint, bytes, &id), TALLY_OK);
                tally_rows_touch(&rows, id);
                int64_t value = (int64_t)test_random_below(&random, spread) - 5;
                model[key] = (struct counted){.value = value, .live = true};
                rows.rows[id].value = value;
            }
            if (test_random_percent(&random, 5)) k = 1 + (uint32_t)test_random_below(&random, 60);
            if (test_random_percent(&random, 5)) tally_top_forget(&top);
            memcpy(copy, model, KEYS * sizeof *model);
            check_top(&top, &rows, copy, KEYS, k);
        }
        tally_top_deinit(&top);
        tally_rows_deinit(&rows);
        tally_keys_deinit(&keys);
        assert_int_equal(test.blocks, 0);
    }
    free(model);
    free(copy);
}

// ---------------------------------------------------------------------------------------------------- Space-Saving

struct summary {
    struct test_alloc test;
    struct tally_keys keys;
    struct tally_topk topk;
};

static void summary_open(struct summary *summary, uint32_t capacity)
{
    test_alloc_init(&summary->test);
    tally_keys_init(&summary->keys, &summary->test.alloc);
    assert_int_equal(tally_topk_init(&summary->topk, capacity, &summary->keys, UINT64_MAX, &summary->test.alloc),
                     TALLY_OK);
}

static void summary_close(struct summary *summary)
{
    tally_topk_deinit(&summary->topk);
    tally_keys_deinit(&summary->keys);
    assert_int_equal(summary->test.blocks, 0);
}

static void summary_add(struct summary *summary, uint64_t key, int64_t amount)
{
    char text[80];
    uint64_t saturated = 0;
    struct tally_bytes bytes = name(key, text);
    uint64_t fingerprint = tally_fingerprint(SEED, bytes.data, bytes.size);
    assert_int_equal(tally_topk_add(&summary->topk, fingerprint, bytes, amount, &saturated), TALLY_OK);
    assert_int_equal(saturated, 0);
}

// Keys of which some are much more frequent than others.
static uint64_t draw_key(struct test_random *random, uint64_t keys)
{
    uint64_t below = test_random_below(random, keys) + 1;
    return test_random_below(random, below);
}

// Every stated bound, of every key. *sum is over all.
static void check_bounds(const struct tally_topk *topk, const int64_t *truth, size_t keys, int64_t sum)
{
    uint32_t counted = 0;
    assert_true(topk->floor <= sum / topk->capacity);
    for (size_t key = 0; key < keys; key++) {
        char text[80];
        struct tally_bytes bytes = name(key, text);
        uint32_t id = tally_rows_find(&topk->rows, tally_fingerprint(SEED, bytes.data, bytes.size));
        if (id == TALLY_NO_ROW) {
            assert_true(truth[key] <= topk->floor);
            continue;
        }
        const struct tally_state_row *row = &topk->rows.rows[id];
        counted++;
        assert_true(row->old_value >= 0 && row->old_value <= topk->floor);
        assert_true(row->value - row->old_value <= truth[key] && truth[key] <= row->value);
    }
    assert_int_equal(counted, topk->count);
    assert_true(counted <= topk->capacity);
}

static void test_space_saving_keeps_its_bounds(void **state)
{
    (void)state;
    enum { KEYS = 300 };
    struct test_random random = test_random_start("topk: bounds");
    for (unsigned round = 0; round < 30; round++) {
        struct summary summary;
        int64_t truth[KEYS] = {0}, sum = 0;
        summary_open(&summary, 1 + (uint32_t)test_random_below(&random, 60));
        for (unsigned step = 0; step < 3000; step++) {
            uint64_t key = draw_key(&random, KEYS);
            int64_t amount = (int64_t)test_random_below(&random, 9);
            summary_add(&summary, key, amount);
            truth[key] += amount;
            sum += amount;
            if (step % 500 == 0) check_bounds(&summary.topk, truth, KEYS, sum);
        }
        check_bounds(&summary.topk, truth, KEYS, sum);
        // A key that is removed begins anew; the bounds hold for all.
        for (unsigned step = 0; step < 500; step++) {
            uint64_t key = draw_key(&random, KEYS);
            char text[80];
            struct tally_bytes bytes = name(key, text);
            if (step % 3 == 0) {
                assert_int_equal(
                    tally_topk_remove(&summary.topk, tally_fingerprint(SEED, bytes.data, bytes.size), bytes), TALLY_OK);
                truth[key] = 0;
            } else {
                summary_add(&summary, key, 3);
                truth[key] += 3;
                sum += 3;
            }
        }
        check_bounds(&summary.topk, truth, KEYS, sum);
        summary_close(&summary);
    }
}

static void test_few_keys_are_exact(void **state)
{
    (void)state;
    struct test_random random = test_random_start("topk: exact");
    struct summary summary;
    int64_t truth[50] = {0}, sum = 0;
    summary_open(&summary, 50);
    for (unsigned step = 0; step < 5000; step++) {
        uint64_t key = draw_key(&random, 50);
        summary_add(&summary, key, 7);
        truth[key] += 7;
        sum += 7;
    }
    check_bounds(&summary.topk, truth, 50, sum);
    assert_int_equal(summary.topk.floor, 0);
    summary_close(&summary);
}

// The bounds of each hold for both together when they are merged; and what is counted does not depend on the seed.
static void test_merged_summaries_keep_their_bounds(void **state)
{
    (void)state;
    enum { KEYS = 400 };
    struct test_random random = test_random_start("topk: merge");
    for (unsigned round = 0; round < 30; round++) {
        struct summary a, b;
        int64_t truth[KEYS] = {0};
        uint32_t capacity = 5 + (uint32_t)test_random_below(&random, 60);
        summary_open(&a, capacity);
        summary_open(&b, capacity);
        for (unsigned step = 0; step < 3000; step++) {
            uint64_t key = draw_key(&random, KEYS);
            int64_t amount = (int64_t)test_random_below(&random, 9);
            summary_add(test_random_percent(&random, 30) ? &a : &b, key, amount);
            truth[key] += amount;
        }
        assert_int_equal(tally_topk_merge(&a.topk, &b.topk), TALLY_OK);
        for (size_t key = 0; key < KEYS; key++) {
            char text[80];
            struct tally_bytes bytes = name(key, text);
            uint32_t id = tally_rows_find(&a.topk.rows, tally_fingerprint(SEED, bytes.data, bytes.size));
            if (id == TALLY_NO_ROW) {
                assert_true(truth[key] <= a.topk.floor);
                continue;
            }
            const struct tally_state_row *row = &a.topk.rows.rows[id];
            assert_true(row->value - row->old_value <= truth[key] && truth[key] <= row->value);
        }
        assert_true(a.topk.count <= capacity);
        summary_close(&a);
        summary_close(&b);
    }
}

static void test_sums_stop(void **state)
{
    (void)state;
    struct summary summary;
    uint64_t saturated = 0;
    struct tally_bytes key = test_text("k");
    uint64_t fingerprint = tally_fingerprint(SEED, key.data, key.size);
    summary_open(&summary, 2);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(tally_topk_add(&summary.topk, fingerprint, key, INT64_MAX, &saturated), TALLY_OK);
    assert_int_equal(saturated, 2);
    assert_int_equal(summary.topk.rows.rows[0].value, INT64_MAX);
    summary_close(&summary);
}

// Of a key that comes when all sums have stopped nothing is known but that: count and error are the greatest there is. A snapshot has it so.
static void test_sums_that_stopped_come_back(void **state)
{
    (void)state;
    struct summary summary, again;
    uint64_t saturated = 0;
    const char *names[] = {"a", "b", "c", "d"};
    summary_open(&summary, 2);
    summary_open(&again, 2);
    for (unsigned i = 0; i < 4; i++) {
        struct tally_bytes key = test_text(names[i]);
        uint64_t fingerprint = tally_fingerprint(SEED, key.data, key.size);
        assert_int_equal(tally_topk_add(&summary.topk, fingerprint, key, INT64_MAX, &saturated), TALLY_OK);
    }
    again.topk.floor = summary.topk.floor;
    unsigned unknown = 0;
    for (uint32_t i = 0; i < summary.topk.count; i++) {
        const struct tally_state_row *row = &summary.topk.rows.rows[summary.topk.heap[i]];
        unknown += row->value == INT64_MAX && row->old_value == INT64_MAX;
        assert_int_equal(tally_topk_put(&again.topk, row->fingerprint, tally_row_key(row), row->value, row->old_value),
                         TALLY_OK);
    }
    assert_int_equal(unknown, 1); // "d"; "a" came first
    summary_close(&again);
    summary_close(&summary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_top_of_rows),    cmocka_unit_test(test_space_saving_keeps_its_bounds),
        cmocka_unit_test(test_few_keys_are_exact), cmocka_unit_test(test_merged_summaries_keep_their_bounds),
        cmocka_unit_test(test_sums_stop),          cmocka_unit_test(test_sums_that_stopped_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
