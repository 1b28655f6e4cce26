// SPDX-License-Identifier: Apache-2.0
//
// The order of last touches, held against a plain array of times.
#include "../support/with_cmocka.h"

#include "../support/memory.h"
#include "../support/random.h"

#include <server/src/expiry.h>

#define IDS 200u

struct model {
    bool there[IDS];
    uint64_t touched[IDS];
};

static void same(const struct tally_expiry *expiry, const struct model *model)
{
    uint32_t count = 0, expected = 0;
    uint64_t last = 0;
    for (uint32_t id = TALLY_EXPIRY_NONE; (id = tally_expiry_next(expiry, id)) != TALLY_EXPIRY_NONE; count++) {
        assert_true(id < IDS && model->there[id]);
        assert_int_equal(expiry->nodes[id].touched_ms, model->touched[id]);
        assert_true(model->touched[id] >= last);
        last = model->touched[id];
    }
    for (uint32_t id = 0; id < IDS; id++) expected += model->there[id];
    assert_int_equal(count, expected);
    assert_int_equal(expiry->count, expected);
}

static void test_against_a_model(void **state)
{
    (void)state;
    struct test_random random = test_random_start("expiry: model");
    struct test_alloc alloc;
    test_alloc_init(&alloc);
    struct tally_expiry expiry;
    struct model model = {0};
    tally_expiry_init(&expiry, &alloc.alloc);
    uint64_t now = 1000;
    for (int step = 0; step < 20000; step++) {
        uint32_t id = (uint32_t)test_random_below(&random, IDS);
        now += test_random_percent(&random, 30) ? test_random_below(&random, 50) : 0;
        if (test_random_percent(&random, 70)) {
            assert_int_equal(tally_expiry_reserve(&expiry, id + 1), TALLY_OK);
            tally_expiry_touch(&expiry, id, now);
            model.there[id] = true;
            model.touched[id] = now;
        } else {
            tally_expiry_drop(&expiry, id);
            model.there[id] = false;
        }
        uint64_t due = tally_expiry_due(&expiry, 300), expected = UINT64_MAX;
        for (uint32_t i = 0; i < IDS; i++) {
            if (model.there[i] && model.touched[i] + 300 < expected) expected = model.touched[i] + 300;
        }
        assert_int_equal(due, expected);
        if (step % 50 == 0) same(&expiry, &model);
    }
    assert_true(expiry.capacity >= IDS && expiry.capacity <= IDS * 2);
    tally_expiry_deinit(&expiry);
    assert_int_equal(alloc.blocks, 0);
}

static void test_times_that_end(void **state)
{
    (void)state;
    struct tally_expiry expiry;
    struct test_alloc alloc;
    test_alloc_init(&alloc);
    tally_expiry_init(&expiry, &alloc.alloc);
    assert_int_equal(tally_expiry_due(&expiry, 5), UINT64_MAX);
    tally_expiry_drop(&expiry, 7);
    alloc.fail_at = 1;
    assert_int_equal(tally_expiry_reserve(&expiry, 1), TALLY_NO_MEMORY);
    assert_int_equal(tally_expiry_reserve(&expiry, 1), TALLY_OK);
    tally_expiry_touch(&expiry, 0, UINT64_MAX - 3);
    assert_int_equal(tally_expiry_due(&expiry, 3), UINT64_MAX);
    assert_int_equal(tally_expiry_due(&expiry, 4), UINT64_MAX);
    assert_int_equal(tally_expiry_due(&expiry, 2), UINT64_MAX - 1);
    tally_expiry_deinit(&expiry);
    assert_int_equal(alloc.blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_model),
        cmocka_unit_test(test_times_that_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
