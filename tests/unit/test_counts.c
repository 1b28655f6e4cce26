// SPDX-License-Identifier: Apache-2.0
//
// Counting inside an edge (edge/counts/counts.h), by one thread; threads are in tests/threads/test_counts_threads.c.
#include "../support/with_cmocka.h"

#include <edge/counts/counts.h>
#include <messages/messages.h>
#include <stdio.h>
#include <string.h>
#include <tallycast/limits.h>

static struct tally_bytes text(const char *string) { return tally_bytes(string, strlen(string)); }

struct world {
    struct tally_counts *counts;
    struct tally_counter *counter;
    struct tally_sums taken;
    unsigned takes, refuse_at; // refuse_at: the number of the take that has no memory, 0: none
    bool known;
    enum tally_status told;
    unsigned tellings;
    uint64_t drain;
};

static bool known(void *ctx, const struct tally_sum *sum)
{
    struct world *world = ctx;
    (void)sum;
    return world->known;
}

static void setup(struct world *world, uint64_t bytes, uint64_t others_bytes)
{
    *world = (struct world){0};
    const struct tally_counts_options options = {
        .bytes = bytes, .others_bytes = others_bytes, .seed = {1, 2}, .known = known, .ctx = world};
    assert_int_equal(tally_counts_create(&options, &world->counts), TALLY_OK);
    assert_int_equal(tally_counts_join(world->counts, &world->counter), TALLY_OK);
    tally_sums_init(&world->taken, (struct tally_seed){3, 4}, &tally_alloc_libc);
}

static void teardown(struct world *world)
{
    tally_counts_leave(&world->counter);
    tally_counts_destroy(&world->counts);
    tally_sums_deinit(&world->taken);
}

static enum tally_status take(void *ctx, const struct tally_sum *sum)
{
    struct world *world = ctx;
    if (++world->takes == world->refuse_at) return TALLY_NO_MEMORY;
    return tally_sums_add(&world->taken, sum);
}

static void drain(struct world *world)
{
    assert_int_equal(tally_counts_drain(world->counts, take, world, &world->drain), TALLY_OK);
}

static void expect(const struct world *world, enum tally_counting counting, const char *table, const char *key,
                   int64_t number)
{
    enum tally_counting got;
    int64_t value = 0;
    assert_int_equal(tally_sums_get(&world->taken, counting, text(table), text(key), &got, &value), TALLY_OK);
    assert_int_equal(got, counting);
    assert_int_equal(value, number);
}

static struct tally_counts_stats stats_of(const struct world *world)
{
    struct tally_counts_stats stats;
    tally_counts_stats(world->counts, &stats);
    return stats;
}

static enum tally_status put(struct world *world, enum tally_counting counting, const char *table, const char *key,
                             int64_t number)
{
    const struct tally_sum sum = {counting, text(table), text(key), number};
    return tally_counts_put(world->counter, &sum);
}

// TALLY_COUNTINGS: nothing.
static void undrained(struct world *world, enum tally_counting asked, const char *table, const char *key,
                      enum tally_counting counting, int64_t number)
{
    struct tally_merged merged = {0};
    assert_int_equal(tally_counts_undrained(world->counter, asked, text(table), text(key), &merged), TALLY_OK);
    assert_int_equal(merged.any, counting != TALLY_COUNTINGS);
    if (merged.any) assert_int_equal(merged.counting, counting);
    assert_int_equal(merged.number, number);
}

// ---------------------------------------------------------------------------------------------------- tests

static void merges_every_kind(void **state)
{
    (void)state;
    struct world world;
    setup(&world, 0, 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(tally_counts_add(world.counter, text("files"), text("a"), 5), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_ADD, "files", "a", 0), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_ADD, "files", "huge", INT64_MAX), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_ADD, "files", "huge", 7), TALLY_OK); // saturates
    assert_int_equal(put(&world, TALLY_COUNTING_SET, "temp", "hall", -40), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_ADJUST, "temp", "hall", 2), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_MIN, "low", "x", 3), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_MIN, "low", "x", -3), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_MAX, "high", "x", 3), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_TOPK, "top", "x", 3), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_MEMBER, "who", "x", -1), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_MEMBER, "who", "x", -1), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_MEMBER, "who", "x", 9), TALLY_OK);
    undrained(&world, TALLY_COUNTING_ADD, "files", "a", TALLY_COUNTING_ADD, 15);
    undrained(&world, TALLY_COUNTING_SET, "temp", "hall", TALLY_COUNTING_SET, -38);
    undrained(&world, TALLY_COUNTING_MIN, "low", "x", TALLY_COUNTING_MIN, -3);
    undrained(&world, TALLY_COUNTING_TOPK, "top", "x", TALLY_COUNTING_TOPK, 3);
    assert_true(tally_counts_due(world.counts));
    drain(&world);
    assert_false(tally_counts_due(world.counts));
    undrained(&world, TALLY_COUNTING_ADD, "files", "a", TALLY_COUNTINGS, 0);
    undrained(&world, TALLY_COUNTING_SET, "temp", "hall", TALLY_COUNTINGS, 0);
    expect(&world, TALLY_COUNTING_ADD, "files", "a", 15);
    expect(&world, TALLY_COUNTING_ADD, "files", "huge", INT64_MAX);
    expect(&world, TALLY_COUNTING_SET, "temp", "hall", -38);
    expect(&world, TALLY_COUNTING_MIN, "low", "x", -3);
    expect(&world, TALLY_COUNTING_MAX, "high", "x", 3);
    expect(&world, TALLY_COUNTING_TOPK, "top", "x", 3);
    assert_int_equal(tally_sums_count(&world.taken), 8); // two members among them
    assert_int_equal(stats_of(&world).adds, 15);
    teardown(&world);
}

static void refuses_what_is_wrong(void **state)
{
    (void)state;
    struct world world;
    setup(&world, 0, 0);
    static uint8_t long_key[TALLY_KEY_BYTES_MAX + 1];
    struct tally_bytes longest = tally_bytes(long_key, TALLY_KEY_BYTES_MAX);
    assert_int_equal(tally_counts_add(world.counter, text("files"), text("a"), -1), TALLY_INVALID);
    assert_int_equal(put(&world, TALLY_COUNTING_TOPK, "top", "a", -1), TALLY_INVALID);
    assert_int_equal(put(&world, TALLY_COUNTINGS, "top", "a", 1), TALLY_INVALID);
    assert_int_equal(tally_counts_add(world.counter, text("Files"), text("a"), 1), TALLY_INVALID);
    assert_int_equal(tally_counts_add(world.counter, text(""), text("a"), 1), TALLY_INVALID);
    assert_int_equal(tally_counts_add(world.counter, text("files"), text(""), 1), TALLY_LIMIT);
    assert_int_equal(tally_counts_add(world.counter, text("files"), tally_bytes(long_key, sizeof long_key), 1),
                     TALLY_LIMIT);
    assert_int_equal(tally_counts_add(world.counter, text("files"), longest, 1), TALLY_OK);
    assert_int_equal(stats_of(&world).refused_bad, 7);
    drain(&world);
    assert_int_equal(tally_sums_count(&world.taken), 1);
    teardown(&world);
}

// What does not fit is refused and told; a key that is there still counts; after a drain there is room.
static void is_full_and_says_so(void **state)
{
    (void)state;
    struct world world;
    setup(&world, TALLY_MAP_BYTES_MIN, 4096);
    static const enum tally_counting kinds[] = {TALLY_COUNTING_ADD, TALLY_COUNTING_TOPK};
    for (unsigned kind = 0; kind < 2; kind++) {
        unsigned keys = 0;
        char key[16];
        enum tally_status status = TALLY_OK;
        for (; status == TALLY_OK; keys++) {
            (void)snprintf(key, sizeof key, "key-%u", keys);
            status = put(&world, kinds[kind], "t", key, 2);
        }
        assert_int_equal(status, TALLY_FULL);
        assert_true(keys > 50);
        assert_int_equal(put(&world, kinds[kind], "t", "key-0", 2), TALLY_OK);
        drain(&world);
        assert_int_equal(tally_sums_count(&world.taken), keys - 1);
        assert_true(world.taken.bytes <= tally_counts_bytes_max(world.counts));
        expect(&world, kinds[kind], "t", "key-0", 4);
        assert_int_equal(put(&world, kinds[kind], "t", key, 2), TALLY_OK);
        drain(&world);
        tally_sums_clear(&world.taken);
    }
    assert_int_equal(stats_of(&world).refused_full, 2);
    assert_int_equal(stats_of(&world).refused_amount, 2);
    teardown(&world);
}

static void counts_more_tables_than_the_map_has(void **state)
{
    (void)state;
    struct world world;
    setup(&world, 0, 0);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 3 * TALLY_MAP_TABLES_MAX; i++) {
            char name[16];
            (void)snprintf(name, sizeof name, "t%u", i);
            assert_int_equal(tally_counts_add(world.counter, text(name), text("k"), i), TALLY_OK);
        }
    }
    drain(&world);
    expect(&world, TALLY_COUNTING_ADD, "t0", "k", 0);
    expect(&world, TALLY_COUNTING_ADD, "t63", "k", 126);
    expect(&world, TALLY_COUNTING_ADD, "t191", "k", 382);
    teardown(&world);
}

static void a_drain_that_fails_loses_nothing(void **state)
{
    (void)state;
    struct world world;
    setup(&world, 0, 0);
    assert_int_equal(tally_counts_add(world.counter, text("t"), text("a"), 1), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_MAX, "m", "a", 1), TALLY_OK);
    for (world.refuse_at = 1; world.refuse_at <= 2; world.refuse_at++) {
        world.takes = 0;
        assert_int_equal(tally_counts_drain(world.counts, take, &world, &world.drain), TALLY_NO_MEMORY);
        tally_sums_clear(&world.taken); // as the caller must
        assert_true(tally_counts_due(world.counts));
        struct tally_merged merged = {0};
        assert_int_equal(tally_counts_undrained(world.counter, TALLY_COUNTING_ADD, text("t"), text("a"), &merged),
                         TALLY_BUSY);
    }
    assert_int_equal(tally_counts_add(world.counter, text("t"), text("a"), 10), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_MAX, "m", "a", 10), TALLY_OK);
    world.takes = 0;
    world.refuse_at = 0;
    drain(&world);
    expect(&world, TALLY_COUNTING_ADD, "t", "a", 1);
    drain(&world);
    expect(&world, TALLY_COUNTING_ADD, "t", "a", 11);
    expect(&world, TALLY_COUNTING_MAX, "m", "a", 10);
    teardown(&world);
}

static void gate_and_refused_tables(void **state)
{
    (void)state;
    struct world world;
    setup(&world, 0, 0);
    tally_counts_gate(world.counts, TALLY_FULL);
    assert_int_equal(tally_counts_add(world.counter, text("t"), text("a"), 3), TALLY_FULL);
    world.known = true;
    assert_int_equal(tally_counts_add(world.counter, text("t"), text("a"), 1), TALLY_OK);
    tally_counts_gate(world.counts, TALLY_OK);
    world.known = false;
    assert_int_equal(tally_counts_add(world.counter, text("t"), text("a"), 1), TALLY_OK);
    tally_counts_refuse(world.counts, TALLY_COUNTING_ADD, text("t"), TALLY_FORBIDDEN);
    tally_counts_refuse(world.counts, TALLY_COUNTING_ADD, text("u"), TALLY_INVALID);
    assert_int_equal(tally_counts_add(world.counter, text("t"), text("a"), 1), TALLY_FORBIDDEN);
    assert_int_equal(tally_counts_add(world.counter, text("u"), text("a"), 1), TALLY_INVALID);
    assert_int_equal(tally_counts_add(world.counter, text("v"), text("a"), 1), TALLY_OK);
    assert_int_equal(put(&world, TALLY_COUNTING_MAX, "t", "a", 1), TALLY_OK);
    tally_counts_refuse(world.counts, TALLY_COUNTING_ADD, text("t"), TALLY_OK);
    assert_int_equal(tally_counts_add(world.counter, text("t"), text("a"), 1), TALLY_OK);
    assert_int_equal(tally_counts_add(world.counter, text("u"), text("a"), 1), TALLY_INVALID);
    struct tally_counts_stats stats = stats_of(&world);
    assert_int_equal(stats.refused_table, 3);
    assert_int_equal(stats.refused_full, 1);
    assert_int_equal(stats.refused_amount, 3);
    teardown(&world);
}

struct waiting {
    struct tally_counts_waiter waiter;
    unsigned told;
    enum tally_status status;
};

static void told(struct tally_counts_waiter *waiter, enum tally_status status)
{
    struct waiting *waiting = (struct waiting *)waiter;
    waiting->told++;
    waiting->status = status;
}

// Who waits is told when the drain that began after its call is durable, and not before.
static void waiters_are_told_when_it_is_durable(void **state)
{
    (void)state;
    struct world world;
    setup(&world, 0, 0);
    struct waiting first = {.waiter.done = told}, second = {.waiter.done = told}, last = {.waiter.done = told};
    tally_counts_wait(world.counts, &first.waiter);
    assert_true(tally_counts_due(world.counts));
    drain(&world);
    uint64_t one = world.drain;
    tally_counts_wait(world.counts, &second.waiter);
    assert_int_equal(first.told, 0);
    tally_counts_settle(world.counts, one);
    assert_int_equal(first.told, 1);
    assert_int_equal(second.told, 0);
    drain(&world);
    tally_counts_settle(world.counts, one);
    assert_int_equal(second.told, 0);
    tally_counts_settle(world.counts, world.drain);
    assert_int_equal(second.told, 1);
    assert_int_equal(second.status, TALLY_OK);
    tally_counts_wait(world.counts, &last.waiter);
    teardown(&world);
    assert_int_equal(last.told, 1);
    assert_int_equal(last.status, TALLY_IO);
    assert_int_equal(first.told, 1);
}

static void has_so_many_places(void **state)
{
    (void)state;
    struct world world;
    setup(&world, 0, 0);
    struct tally_counter *others[TALLY_COUNTS_THREADS_MAX], *one_more;
    for (unsigned i = 1; i < TALLY_COUNTS_THREADS_MAX; i++)
        assert_int_equal(tally_counts_join(world.counts, &others[i]), TALLY_OK);
    assert_int_equal(tally_counts_join(world.counts, &one_more), TALLY_FULL);
    assert_int_equal(tally_counts_add(others[1], text("t"), text("a"), 1), TALLY_OK);
    for (unsigned i = 1; i < TALLY_COUNTS_THREADS_MAX; i++) tally_counts_leave(&others[i]);
    assert_int_equal(stats_of(&world).adds, 1); // what they did stays
    assert_int_equal(stats_of(&world).threads, 1);
    drain(&world);
    expect(&world, TALLY_COUNTING_ADD, "t", "a", 1);
    teardown(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_every_kind),
        cmocka_unit_test(refuses_what_is_wrong),
        cmocka_unit_test(is_full_and_says_so),
        cmocka_unit_test(counts_more_tables_than_the_map_has),
        cmocka_unit_test(a_drain_that_fails_loses_nothing),
        cmocka_unit_test(gate_and_refused_tables),
        cmocka_unit_test(waiters_are_told_when_it_is_durable),
        cmocka_unit_test(has_so_many_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
