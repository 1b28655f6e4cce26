// SPDX-License-Identifier: Apache-2.0
//
// The dedupe table (server/src/producers.h): who is forgotten, and that producers of one batch make none of the others forgotten.
#include "../support/with_cmocka.h"

#include "../support/memory.h"

#include <server/src/producers.h>
#include <tallycast/limits.h>

static void note(struct tally_producers *producers, uint64_t id, uint64_t sequence)
{
    assert_int_equal(tally_producers_note(producers, id, sequence, sequence + 10), TALLY_OK);
}

static void forgets_who_was_silent_longest(void **state)
{
    struct tally_producers producers;
    (void)state;
    tally_producers_init(&producers, &tally_alloc_libc, 4, 99);
    for (uint64_t id = 1; id <= 4; id++) note(&producers, id, 1);
    note(&producers, 1, 2);
    assert_true(tally_producers_full(&producers, 5));
    note(&producers, 5, 1);
    assert_null(tally_producers_find(&producers, 2));
    for (uint64_t id = 1; id <= 5; id++)
        if (id != 2) assert_non_null(tally_producers_find(&producers, id));
    assert_int_equal(tally_producers_find(&producers, 1)->sequence, 2);
    tally_producers_deinit(&producers);
}

static void those_of_one_batch_are_apart(void **state)
{
    struct tally_producers producers;
    (void)state;
    tally_producers_init(&producers, &tally_alloc_libc, 4, 99);
    for (uint64_t id = 1; id <= 3; id++) note(&producers, id, id);
    for (uint64_t id = 0; id < 1000; id++) note(&producers, TALLY_PRODUCER_ONCE | id, 1);
    for (uint64_t id = 1; id <= 3; id++) assert_int_equal(tally_producers_find(&producers, id)->sequence, id);
    assert_null(tally_producers_find(&producers, TALLY_PRODUCER_ONCE | 995));
    assert_non_null(tally_producers_find(&producers, TALLY_PRODUCER_ONCE | 996));
    assert_int_equal(producers.count, 7);
    // In order: those that go on, then the others, each from the longest silent.
    static const uint64_t ids[] = {1,
                                   2,
                                   3,
                                   TALLY_PRODUCER_ONCE | 996,
                                   TALLY_PRODUCER_ONCE | 997,
                                   TALLY_PRODUCER_ONCE | 998,
                                   TALLY_PRODUCER_ONCE | 999};
    const struct tally_producer *producer = NULL;
    for (size_t i = 0; i < 7; i++) assert_true((producer = tally_producers_next(&producers, producer))->id == ids[i]);
    assert_null(tally_producers_next(&producers, producer));
    // And the other way round.
    for (uint64_t id = 10; id < 1000; id++) note(&producers, id, 1);
    for (size_t i = 3; i < 7; i++) assert_non_null(tally_producers_find(&producers, ids[i]));
    tally_producers_deinit(&producers);
}

static void holds_as_many_as_the_limit_says_of_each(void **state)
{
    struct tally_producers producers;
    (void)state;
    tally_producers_init(&producers, &tally_alloc_libc, TALLY_PRODUCERS_MAX, 99);
    for (uint64_t id = 1; id <= TALLY_PRODUCERS_MAX + 1; id++) {
        note(&producers, id, 1);
        note(&producers, TALLY_PRODUCER_ONCE | id, 1);
    }
    assert_int_equal(producers.count, 2 * TALLY_PRODUCERS_MAX);
    assert_null(tally_producers_find(&producers, 1));
    assert_null(tally_producers_find(&producers, TALLY_PRODUCER_ONCE | 1));
    for (uint64_t id = 2; id <= TALLY_PRODUCERS_MAX + 1; id++) {
        assert_non_null(tally_producers_find(&producers, id));
        assert_non_null(tally_producers_find(&producers, TALLY_PRODUCER_ONCE | id));
    }
    tally_producers_deinit(&producers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(forgets_who_was_silent_longest),
                                       cmocka_unit_test(those_of_one_batch_are_apart),
                                       cmocka_unit_test(holds_as_many_as_the_limit_says_of_each)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
