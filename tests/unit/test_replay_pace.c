// SPDX-License-Identifier: Apache-2.0
//
// Recent changes and the pace of guests, held against a list of everything that ever happened and guests that only believe what fits.
#include "../support/with_cmocka.h"

#include "../support/memory.h"
#include "../support/random.h"

#include <replay/pace.h>

#define MESSAGE_MAX  (1u << 20)
#define HEARTBEAT_MS 1000u
#define GUESTS       12

struct happened {
    uint64_t epoch, from, to;
    size_t size;
};

struct guest {
    struct tally_pace pace;
    uint64_t epoch, version; // what it holds
    uint64_t parts_epoch, parts_to;
    unsigned parts_left;
    uint64_t heard_ms;
};

struct world {
    struct test_random random;
    struct test_alloc alloc;
    struct tally_recent recent;
    struct happened list[4096];
    size_t count, kept; // the last `kept` of the list are to be found
    uint64_t kept_bytes, epoch, version, whole_bytes, now_ms;
    uint64_t steps[TALLY_PACE_PART + 1];
};

static void restart(struct world *world)
{
    world->epoch += test_random_percent(&world->random, 50);
    world->version += test_random_between(&world->random, 1, 9);
    world->kept = 0;
    world->kept_bytes = 0;
    tally_recent_restart(&world->recent, world->epoch, world->version);
}

static void publish(struct world *world)
{
    uint64_t to = world->version + test_random_between(&world->random, 1, 3);
    size_t size = test_random_percent(&world->random, 1) ? test_random_between(&world->random, 1u << 18, 3u << 20)
                                                         : test_random_between(&world->random, 10, 8000);
    struct tally_message *message = tally_message_create(&world->alloc.alloc, 'F', size);
    assert_non_null(message);
    assert_int_equal(message->size, size + 1);
    world->list[world->count++] = (struct happened){world->epoch, world->version, to, size + 1};
    world->version = to;
    tally_recent_add_take(&world->recent, to, message);
    // As many of the newest as fit.
    world->kept++;
    world->kept_bytes += size + 1;
    while (world->kept > world->recent.changes_max || world->kept_bytes > world->recent.bytes_max)
        world->kept_bytes -= world->list[world->count - world->kept--].size;
    assert_int_equal(world->recent.count, world->kept);
    assert_int_equal(world->recent.bytes, world->kept_bytes);
    assert_int_equal(world->recent.last, to);
}

// The kept changes from the guest's version on: the first of them, or null when there is no way.
static const struct happened *way(const struct world *world, const struct guest *guest, size_t *out_count,
                                  uint64_t *out_bytes)
{
    *out_bytes = 0;
    for (size_t n = 1; n <= world->kept; n++) {
        const struct happened *it = &world->list[world->count - n];
        *out_bytes += it->size;
        *out_count = n;
        if (it->epoch == guest->epoch && it->from == guest->version && it->from) return it;
    }
    return NULL;
}

static void take(struct world *world, struct guest *guest, struct tally_pace_next next)
{
    const struct happened *first;
    size_t count = 0;
    uint64_t bytes, sum = 0;
    bool ahead = guest->epoch > world->epoch || (guest->epoch == world->epoch && guest->version >= world->version);
    world->steps[next.step]++;
    if (guest->parts_left) {
        assert_int_equal(next.step, TALLY_PACE_PART);
        bool more = --guest->parts_left > 0;
        tally_pace_sent(&guest->pace, guest->parts_epoch, guest->parts_to, more, world->now_ms);
        if (!more) {
            guest->epoch = guest->parts_epoch;
            guest->version = guest->parts_to;
        }
        return;
    }
    if (next.step == TALLY_PACE_NOTHING || next.step == TALLY_PACE_HEARTBEAT) {
        assert_true(ahead);
        bool due = !guest->pace.spoke || world->now_ms - guest->heard_ms >= HEARTBEAT_MS;
        assert_int_equal(next.step == TALLY_PACE_HEARTBEAT, due);
        if (due) {
            tally_pace_heartbeat_sent(&guest->pace, world->now_ms);
            guest->heard_ms = world->now_ms;
        }
        return;
    }
    assert_false(ahead);
    guest->heard_ms = world->now_ms;
    first = way(world, guest, &count, &bytes);
    if (next.step == TALLY_PACE_WHOLE) {
        if (first) assert_true(bytes > TALLY_PACE_WHOLE_TIMES * (world->whole_bytes + TALLY_PACE_WHOLE_SLACK));
        guest->parts_left = (unsigned)test_random_below(&world->random, 4);
        guest->parts_epoch = world->epoch;
        guest->parts_to = world->version;
        tally_pace_sent(&guest->pace, world->epoch, world->version, guest->parts_left > 0, world->now_ms);
        if (!guest->parts_left) {
            guest->epoch = world->epoch;
            guest->version = world->version;
        }
        return;
    }
    assert_non_null(first);
    assert_true(next.count >= 1 && next.count <= count);
    for (uint32_t i = 0; i < next.count; i++) {
        sum += first[i].size;
        if (next.step == TALLY_PACE_RUN) assert_true(first[i].size <= MESSAGE_MAX);
        if (i) assert_int_equal(first[i].from, first[i - 1].to);
    }
    uint64_t to = first[next.count - 1].to;
    switch (next.step) {
    case TALLY_PACE_RUN:
        assert_true(next.count == 1 || sum <= TALLY_PACE_RUN_BYTES);
        assert_true(next.count <= TALLY_PACE_RUN_CHANGES);
        assert_true(next.count == 1 || next.count == count); // several go only when they are all: otherwise they merge
        break;
    case TALLY_PACE_MERGE: assert_true(next.count > 1 && sum <= TALLY_PACE_MERGE_BYTES); break;
    case TALLY_PACE_SPLIT:
        assert_true(next.count == 1 && first->size > MESSAGE_MAX);
        guest->parts_left = 2;
        guest->parts_epoch = guest->epoch;
        guest->parts_to = to;
        tally_pace_sent(&guest->pace, guest->epoch, to, true, world->now_ms);
        return;
    default: fail();
    }
    tally_pace_sent(&guest->pace, guest->epoch, to, false, world->now_ms);
    guest->version = to;
}

static void turn(struct world *world, struct guest *guest)
{
    struct tally_pace_next next =
        tally_pace_next(&guest->pace, &world->recent, world->whole_bytes, MESSAGE_MAX, HEARTBEAT_MS, world->now_ms);
    take(world, guest, next);
    if (!guest->parts_left) assert_true(guest->pace.epoch == guest->epoch && guest->pace.version == guest->version);
}

static void run(struct world *world)
{
    struct guest guests[GUESTS];
    test_alloc_init(&world->alloc);
    world->epoch = 5;
    world->whole_bytes = test_random_between(&world->random, 100, 4u << 20);
    uint32_t changes_max = (uint32_t)test_random_between(&world->random, 1, 700);
    uint64_t bytes_max = test_random_between(&world->random, 1000, 16u << 20);
    assert_int_equal(tally_recent_init(&world->recent, changes_max, bytes_max, &world->alloc.alloc), TALLY_OK);
    tally_recent_restart(&world->recent, world->epoch, 0);
    for (size_t i = 0; i < GUESTS; i++) {
        guests[i] = (struct guest){0};
        if (i % 4 == 3) guests[i] = (struct guest){.epoch = 5 + i % 8, .version = 20 * i};
        guests[i].pace = tally_pace(guests[i].epoch, guests[i].version);
    }
    while (world->count < 3000) {
        world->now_ms += test_random_below(&world->random, 300);
        if (world->version == 0 || test_random_below(&world->random, 500) == 0)
            restart(world);
        else
            publish(world);
        for (size_t i = 0; i < GUESTS; i++) // the first keeps up, the last seldom takes anything
            if (test_random_below(&world->random, 1 + i * i * i) == 0) turn(world, &guests[i]);
    }
    for (size_t i = 0; i < GUESTS; i++) {
        bool behind = true;
        for (unsigned turns = 0; turns < 100 && behind; turns++) {
            turn(world, &guests[i]);
            behind = guests[i].parts_left || guests[i].epoch < world->epoch ||
                     (guests[i].epoch == world->epoch && guests[i].version < world->version);
        }
        assert_false(behind);
    }
    tally_recent_deinit(&world->recent);
    assert_int_equal(world->alloc.blocks, 0);
}

static void test_guests_at_any_pace(void **state)
{
    (void)state;
    struct test_random random = test_random_start("pace: guests");
    uint64_t steps[TALLY_PACE_PART + 1] = {0};
    for (int round = 0; round < 40; round++) {
        struct world *world = calloc(1, sizeof *world);
        world->random.state = test_random_next(&random);
        run(world);
        for (size_t i = 0; i <= TALLY_PACE_PART; i++) steps[i] += world->steps[i];
        free(world);
    }
    for (size_t i = 0; i <= TALLY_PACE_PART; i++) assert_true(steps[i] > 0); // the test saw them all
}

static struct tally_message *message_of(const struct tally_alloc *alloc, size_t size)
{
    struct tally_message *message = tally_message_create(alloc, 'F', size - 1);
    assert_non_null(message);
    return message;
}

static void test_the_cheapest_way(void **state)
{
    (void)state;
    struct tally_recent recent;
    struct tally_pace pace;
    struct tally_pace_next next;
    assert_int_equal(tally_recent_init(&recent, 0, 1, &tally_alloc_libc), TALLY_INVALID);
    assert_int_equal(tally_recent_init(&recent, 100, 64u << 20, &tally_alloc_libc), TALLY_OK);
    tally_recent_restart(&recent, 9, 0);
#define NEXT(epoch, version, whole)                                                                                    \
    (pace = tally_pace((epoch), (version)),                                                                            \
     next = tally_pace_next(&pace, &recent, (whole), MESSAGE_MAX, HEARTBEAT_MS, 77), next.step)
    assert_int_equal(NEXT(0, 0, 1000), TALLY_PACE_HEARTBEAT); // nothing is held: there is nothing to send
    tally_recent_restart(&recent, 9, 10);
    assert_int_equal(NEXT(0, 0, 1000), TALLY_PACE_WHOLE);
    assert_int_equal(NEXT(9, 9, 1000), TALLY_PACE_WHOLE);
    assert_int_equal(NEXT(8, 10, 1000), TALLY_PACE_WHOLE);
    assert_int_equal(NEXT(9, 10, 1000), TALLY_PACE_HEARTBEAT);
    assert_int_equal(NEXT(9, 11, 1000), TALLY_PACE_HEARTBEAT);
    assert_int_equal(NEXT(10, 1, 1000), TALLY_PACE_HEARTBEAT);
    for (uint64_t to = 12; to <= 40; to += 2) tally_recent_add_take(&recent, to, message_of(&tally_alloc_libc, 4000));
    assert_int_equal(NEXT(9, 10, 1 << 20), TALLY_PACE_RUN); // 15 changes of 60 kB
    assert_int_equal(next.count, 15);
    assert_int_equal(NEXT(9, 11, 1 << 20), TALLY_PACE_WHOLE); // no change begins there
    tally_recent_add_take(&recent, 42, message_of(&tally_alloc_libc, 100));
    assert_int_equal(NEXT(9, 10, 1 << 20), TALLY_PACE_RUN);
    assert_int_equal(next.count, 16);
    tally_recent_add_take(&recent, 44, message_of(&tally_alloc_libc, 100));
    assert_int_equal(NEXT(9, 10, 1 << 20), TALLY_PACE_MERGE); // one too many to go as they are
    assert_int_equal(next.count, 17);
    assert_int_equal(NEXT(9, 12, 1 << 20), TALLY_PACE_RUN);
    tally_recent_add_take(&recent, 46, message_of(&tally_alloc_libc, 1 << 20));
    assert_int_equal(NEXT(9, 44, 1 << 20), TALLY_PACE_RUN);
    tally_recent_add_take(&recent, 48, message_of(&tally_alloc_libc, (1 << 20) + 1));
    assert_int_equal(NEXT(9, 46, 1 << 20), TALLY_PACE_SPLIT);
    assert_int_equal(NEXT(9, 44, 1 << 20), TALLY_PACE_RUN); // not merged with what is larger than a merge may be
    assert_int_equal(next.count, 1);
    assert_int_equal(NEXT(9, 44, 1000), TALLY_PACE_WHOLE); // the state is smaller by far than what changed
    // In the middle of parts nothing else is sent.
    pace = tally_pace(9, 46);
    tally_pace_sent(&pace, 9, 48, true, 77);
    assert_int_equal(pace.version, 46);
    next = tally_pace_next(&pace, &recent, 1, MESSAGE_MAX, HEARTBEAT_MS, 99999);
    assert_int_equal(next.step, TALLY_PACE_PART);
    tally_pace_sent(&pace, 9, 48, false, 100);
    assert_int_equal(pace.version, 48);
    // A change over the bound empties what is kept: nobody can go on from before it.
    tally_recent_add_take(&recent, 49, message_of(&tally_alloc_libc, (64u << 20) + 1));
    assert_int_equal(recent.count, 0);
    assert_int_equal(NEXT(9, 48, UINT32_MAX), TALLY_PACE_WHOLE);
    assert_int_equal(NEXT(9, 49, UINT32_MAX), TALLY_PACE_HEARTBEAT);
    tally_recent_deinit(&recent);
    tally_recent_deinit(&recent);
}

static void test_messages_are_shared(void **state)
{
    (void)state;
    struct test_alloc alloc;
    test_alloc_init(&alloc);
    struct tally_message *message = tally_message_create(&alloc.alloc, 'H', 1000);
    message->data[1] = 42;
    message = tally_message_cut(message, 10);
    assert_int_equal(message->size, 11);
    assert_true(message->data[0] == 'H' && message->data[1] == 42 && tally_message_inner(message).size == 10);
    struct tally_message *again = tally_message_acquire(message);
    tally_message_release(message);
    assert_int_equal(again->data[1], 42);
    tally_message_release(again);
    tally_message_release(NULL);
    assert_int_equal(alloc.blocks, 0);
    alloc.fail_at = alloc.requests + 1;
    assert_null(tally_message_create(&alloc.alloc, 'H', 1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guests_at_any_pace),
        cmocka_unit_test(test_the_cheapest_way),
        cmocka_unit_test(test_messages_are_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
