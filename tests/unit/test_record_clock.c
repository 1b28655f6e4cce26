// SPDX-License-Identifier: Apache-2.0
#include "../support/with_cmocka.h"

#include "../support/random.h"

#include <server/src/record_clock.h>

static void test_follows_the_clock(void **state)
{
    (void)state;
    struct tally_record_clock clock = {0};
    assert_int_equal(tally_record_clock_see(&clock, 1000, 0), 1000);
    assert_int_equal(tally_record_clock_see(&clock, 1000, 1000), 1000);
    assert_int_equal(tally_record_clock_see(&clock, 1007, 1000), 1007);
    assert_int_equal(tally_record_clock_see(&clock, 5000000, 1000), 5000000); // a jump ahead is time that passed
}

static void test_set_back(void **state)
{
    (void)state;
    struct tally_record_clock clock = {0};
    assert_int_equal(tally_record_clock_see(&clock, 10000, 0), 10000);
    assert_int_equal(tally_record_clock_see(&clock, 9000, 10000), 10000);
    // Half as fast, odd steps included, until they meet after twice the distance.
    uint64_t last = 10000;
    for (uint64_t now = 9001; now < 10998; now++) {
        uint64_t time = tally_record_clock_see(&clock, now, last);
        assert_int_equal(time, 10000 + (now - 9000) / 2);
        last = time;
    }
    assert_int_equal(tally_record_clock_see(&clock, 11000, last), 11000);
    assert_int_equal(tally_record_clock_see(&clock, 11001, last), 11001);
}

static void test_a_start_behind_the_log(void **state)
{
    (void)state;
    struct tally_record_clock clock = {0};
    assert_int_equal(tally_record_clock_see(&clock, 100, 70000), 70000);
    assert_int_equal(tally_record_clock_see(&clock, 120, 70000), 70010);
    assert_int_equal(tally_record_clock_see(&clock, 121, 70010), 70010);
    assert_int_equal(tally_record_clock_see(&clock, 122, 70010), 70011);
}

static void test_never_back_never_still(void **state)
{
    (void)state;
    struct test_random random = test_random_start("record clock");
    struct tally_record_clock clock = {0};
    uint64_t now = (uint64_t)1 << 40, last = 0;
    for (int i = 0; i < 100000; i++) {
        uint64_t step = test_random_below(&random, 30);
        bool jump = test_random_percent(&random, 2);
        if (jump && test_random_percent(&random, 50))
            now -= test_random_below(&random, 100000);
        else
            now += jump ? test_random_below(&random, 100000) : step;
        uint64_t time = tally_record_clock_see(&clock, now, last);
        assert_true(time >= last && time >= now);
        if (!jump)
            assert_true(time == now || time - last + 1 >= step / 2); // in the step in which the clock catches up: less
        last = time;
    }
    now = UINT64_MAX;
    assert_int_equal(tally_record_clock_see(&clock, now, last), UINT64_MAX);
    for (now = 5; now < 100; now++) assert_int_equal(tally_record_clock_see(&clock, now, UINT64_MAX), UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_follows_the_clock),
        cmocka_unit_test(test_set_back),
        cmocka_unit_test(test_a_start_behind_the_log),
        cmocka_unit_test(test_never_back_never_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
