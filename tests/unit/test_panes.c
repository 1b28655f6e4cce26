// SPDX-License-Identifier: Apache-2.0
//
// Panes held against a plain array of amounts by row and pane.
#include "../support/with_cmocka.h"

#include "../support/memory.h"
#include "../support/random.h"

#include <server/src/panes.h>

#define IDS   40u
#define PANES 600u // numbers that a test reaches

struct model {
    bool there[IDS][PANES];
    int64_t amount[IDS][PANES];
};

static uint64_t model_entries(const struct model *model)
{
    uint64_t entries = 0;
    for (uint32_t id = 0; id < IDS; id++) {
        for (uint32_t pane = 0; pane < PANES; pane++) entries += model->there[id][pane];
    }
    return entries;
}

// The rows' chains, newest first, and the walk, oldest pane first.
static void same(const struct tally_panes *panes, const struct model *model)
{
    uint64_t pane, last = 0, count = 0;
    int64_t amount;
    uint32_t id;
    for (id = 0; id < IDS; id++) {
        uint32_t entry = 0, at = PANES;
        while ((entry = tally_panes_next(panes, id, entry, &amount))) {
            while (at-- && !model->there[id][at]) continue;
            assert_true(at < PANES);
            assert_int_equal(amount, model->amount[id][at]);
        }
        while (at--) assert_false(at < PANES && model->there[id][at]);
    }
    struct tally_panes_walk walk = {0};
    for (; tally_panes_walk(panes, &walk, &pane, &id, &amount); count++) {
        assert_true(pane >= last && pane < PANES && id < IDS);
        assert_true(model->there[id][pane]);
        assert_int_equal(amount, model->amount[id][pane]);
        last = pane;
    }
    assert_int_equal(count, model_entries(model));
    assert_int_equal(panes->entries, count);
}

static void leave(struct tally_panes *panes, struct model *model, uint64_t now, uint32_t count)
{
    uint32_t id;
    int64_t amount;
    uint64_t left = 0, expected = 0;
    while (tally_panes_leave(panes, now, &id, &amount)) {
        uint32_t pane = 0;
        while (pane < PANES && !model->there[id][pane]) pane++; // its oldest
        assert_true(pane + count <= now);
        assert_int_equal(amount, model->amount[id][pane]);
        model->there[id][pane] = false;
        left++;
    }
    for (uint32_t i = 0; i < IDS; i++) {
        for (uint64_t pane = 0; pane + count <= now && pane < PANES; pane++) expected += model->there[i][pane];
    }
    assert_int_equal(expected, 0);
    (void)left;
}

static uint64_t model_due(const struct model *model, uint64_t count, uint64_t pane_ms)
{
    for (uint64_t pane = 0; pane < PANES; pane++) {
        for (uint32_t id = 0; id < IDS; id++) {
            if (model->there[id][pane]) return (pane + count) * pane_ms;
        }
    }
    return UINT64_MAX;
}

static void test_against_a_model(void **state)
{
    (void)state;
    struct test_random random = test_random_start("panes: model");
    static struct model model;
    for (int round = 0; round < 12; round++) {
        struct test_alloc alloc;
        test_alloc_init(&alloc);
        struct tally_panes panes;
        uint32_t count = (uint32_t)test_random_between(&random, 1, round % 2 ? 4 : 60);
        memset(&model, 0, sizeof model);
        assert_int_equal(tally_panes_init(&panes, 10, count, &alloc.alloc), TALLY_OK);
        for (uint64_t now = 0; now < PANES;) {
            leave(&panes, &model, now, count);
            assert_int_equal(tally_panes_due(&panes), model_due(&model, count, 10));
            for (uint64_t changes = test_random_below(&random, 60); changes--;) {
                uint32_t id = (uint32_t)test_random_below(&random, IDS);
                int64_t *amount, by = (int64_t)test_random_below(&random, 9) - 4;
                bool new;
                if (test_random_percent(&random, 15)) {
                    tally_panes_drop(&panes, id);
                    memset(model.there[id], 0, sizeof model.there[id]);
                    assert_false(tally_panes_has(&panes, id));
                    continue;
                }
                assert_int_equal(tally_panes_entry(&panes, id, now, &amount, &new), TALLY_OK);
                assert_int_equal(new, !model.there[id][now]);
                if (new) model.amount[id][now] = 0;
                model.there[id][now] = true;
                assert_int_equal(*amount, model.amount[id][now]);
                *amount += by;
                model.amount[id][now] += by;
                assert_true(tally_panes_has(&panes, id));
            }
            same(&panes, &model);
            now += test_random_percent(&random, 90) ? 1 : test_random_below(&random, 2 * count + 3);
        }
        // Far beyond: nothing is left.
        leave(&panes, &model, (uint64_t)1 << 60, count);
        assert_int_equal(panes.entries, 0);
        assert_int_equal(tally_panes_due(&panes), UINT64_MAX);
        tally_panes_deinit(&panes);
        assert_int_equal(alloc.blocks, 0);
    }
}

// Rows that come and go in one pane, and panes that come and go, take no more memory than the most there was at once.
static void test_entries_are_used_again(void **state)
{
    (void)state;
    struct test_alloc alloc;
    test_alloc_init(&alloc);
    struct tally_panes panes;
    int64_t *amount, left;
    uint32_t id;
    bool new;
    size_t warm = 0;
    assert_int_equal(tally_panes_init(&panes, 1, 3, &alloc.alloc), TALLY_OK);
    for (uint64_t now = 0; now < 200; now++) {
        while (tally_panes_leave(&panes, now, &id, &left)) continue;
        for (uint32_t i = 0; i < 3000; i++) {
            assert_int_equal(tally_panes_entry(&panes, i % 1000, now, &amount, &new), TALLY_OK);
            if (i < 2000) tally_panes_drop(&panes, i % 1000);
        }
        if (now == 4) warm = alloc.bytes;
        assert_true(now < 4 || alloc.bytes == warm);
    }
    assert_int_equal(panes.entries, 1000); // a drop takes the earlier panes' too
    tally_panes_deinit(&panes);
    assert_int_equal(alloc.blocks, 0);
}

static void test_without_memory(void **state)
{
    (void)state;
    int64_t *amount;
    bool new;
    for (size_t fail_at = 1;; fail_at++) {
        struct test_alloc alloc;
        test_alloc_init(&alloc);
        alloc.fail_at = fail_at;
        struct tally_panes panes;
        enum tally_status status = tally_panes_init(&panes, 1, 3, &alloc.alloc);
        uint32_t id = 0;
        for (; !status && id < 2000; id++) status = tally_panes_entry(&panes, id, 7, &amount, &new);
        bool failed = status == TALLY_NO_MEMORY;
        assert_true(failed || status == TALLY_OK);
        if (failed && fail_at > 1) {
            // As if it had not been tried.
            uint64_t entries = panes.entries;
            assert_int_equal(tally_panes_entry(&panes, id - 1, 7, &amount, &new), TALLY_OK);
            assert_true(new && panes.entries == entries + 1);
        }
        if (fail_at > 1) tally_panes_deinit(&panes);
        assert_int_equal(alloc.blocks, 0);
        if (!failed) break;
    }
}

static void test_times_that_end(void **state)
{
    (void)state;
    struct test_alloc alloc;
    test_alloc_init(&alloc);
    struct tally_panes panes;
    int64_t *amount, left;
    uint32_t id;
    bool new;
    assert_int_equal(tally_panes_init(&panes, 10, 1024, &alloc.alloc), TALLY_OK);
    uint64_t last = tally_panes_number(&panes, UINT64_MAX);
    assert_false(tally_panes_leave(&panes, last, &id, &left));
    assert_int_equal(tally_panes_entry(&panes, 3, last, &amount, &new), TALLY_OK);
    assert_int_equal(tally_panes_due(&panes), UINT64_MAX);
    assert_false(tally_panes_leave(&panes, last, &id, &left));
    assert_true(tally_panes_has(&panes, 3));
    tally_panes_deinit(&panes);
    assert_int_equal(alloc.blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_model),
        cmocka_unit_test(test_entries_are_used_again),
        cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_times_that_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
