// SPDX-License-Identifier: Apache-2.0
//
// The edge's sync core, scenario by scenario: the way up, gaps, whole states, age, memory.
#include "sync_case.h"

// ---------------------------------------------------------------------------------------------------- the way up

static void test_cold_to_live(void **state)
{
    (void)state;
    init(1);
    assert_state(TALLY_SYNC_COLD);
    world_pass(&world, 60000);
    assert_int_equal(world.sends, 0); // nobody to ask
    assert_int_equal(tally_sync_due(world.sync), UINT64_MAX);

    cut(0, 5);
    tally_sync_connected(world.sync, world.now, 0);
    assert_true(world.asked);
    assert_int_equal(world.ask.epoch, 0);
    assert_int_equal(world.ask.version, 0);
    assert_int_equal(tally_sync_due(world.sync), world.now.monotonic_ms + 5000);
    world_answer_now(&world);
    assert_held(100, 5);
    assert_state(TALLY_SYNC_LIVE);
    assert_int_equal(world.rebases, 1);
    assert_int_equal(stats()->catch_ups_whole, 1);
    assert_false(world.asked); // it has what the server has: nothing more to ask
    assert_int_equal(world.events[TALLY_SYNC_EVENT_EPOCH], 1);
    assert_int_equal(world.events[TALLY_SYNC_EVENT_CATCH_UP], 1);

    cut(0, 1);
    world_publish(&world, 0, 5, 6);
    assert_held(100, 6);
    assert_int_equal(world.deltas, 1);
    world_publish(&world, 0, 5, 6);
    assert_int_equal(stats()->frames_old, 1);
    assert_int_equal(world.deltas, 1);
    assert_int_equal(world.sends, 1);
}

static void test_empty_server(void **state)
{
    (void)state;
    init(1);
    tally_sync_connected(world.sync, world.now, 0);
    world_answer_now(&world);
    assert_state(TALLY_SYNC_COLD);
    for (unsigned i = 0; i < 20; i++) {
        world_pass(&world, 1000);
        world_message(&world, 0, world_heartbeat(&world.servers[0], world.now.unix_ms));
    }
    assert_int_equal(world.sends, 1);
    cut(0, 1);
    world_publish(&world, 0, 0, 1); // the first frame is a whole state
    assert_held(100, 1);
    assert_state(TALLY_SYNC_LIVE);
    assert_int_equal(world.rebases, 1);
}

static void test_boot(void **state)
{
    (void)state;
    init(1);
    cut(0, 9);
    world.servers[0].cut_ms[9] = world.now.unix_ms - 60000;
    tally_sync_boot_begin(world.sync, world.now);
    assert_state(TALLY_SYNC_BOOTING);
    struct world_blob base = world_frame("main", 100, 0, 7, 0, world.servers[0].values[7], world.now.unix_ms, 0, false);
    assert_int_equal(tally_sync_boot_message(world.sync, world.now, world_bytes(base)), TALLY_OK);
    free(base.data);
    struct world_blob delta = world_published(&world.servers[0], 7, 8);
    struct tally_bytes frame = {delta.data + 6, delta.size - 6};
    assert_int_equal(tally_sync_boot_message(world.sync, world.now, frame), TALLY_OK);
    delta.data[delta.size - 12] ^= 1;
    assert_int_equal(tally_sync_boot_message(world.sync, world.now, frame), TALLY_CORRUPT);
    free(delta.data);
    tally_sync_boot_end(world.sync, world.now);
    assert_held(100, 8);
    assert_state(TALLY_SYNC_CATCHING_UP); // nobody said yet that it is the newest
    assert_int_equal(world.deltas + world.rebases, 0);
    assert_int_equal(stats()->booted, 2);

    tally_sync_connected(world.sync, world.now, 0);
    assert_int_equal(world.ask.version, 8);
    assert_int_equal(world.ask.epoch, 100);
    world_answer_now(&world);
    assert_held(100, 9);
    assert_int_equal(world.deltas, 1);
    assert_state(TALLY_SYNC_STALE); // it is the newest, but nobody confirmed it for a minute
    world_message(&world, 0, world_heartbeat(&world.servers[0], world.now.unix_ms));
    assert_state(TALLY_SYNC_LIVE);
}

static void test_boot_with_half_a_whole_state(void **state)
{
    (void)state;
    init(1);
    tally_sync_boot_begin(world.sync, world.now);
    struct world_blob chunk = world_frame("main", 100, 0, 7, 0, 5, world.now.unix_ms, 0, true);
    assert_int_equal(tally_sync_boot_message(world.sync, world.now, world_bytes(chunk)), TALLY_MORE);
    free(chunk.data);
    tally_sync_boot_end(world.sync, world.now);
    assert_int_equal(world.mirror.abandons, 1);
    assert_state(TALLY_SYNC_COLD);
}

// ---------------------------------------------------------------------------------------------------- gaps

static void test_gap(void **state)
{
    (void)state;
    live(5);
    cut(0, 4);
    world_publish(&world, 0, 7, 8);
    world_publish(&world, 0, 6, 7);
    assert_held(100, 5);
    assert_state(TALLY_SYNC_CATCHING_UP);
    assert_int_equal(stats()->gaps, 1);
    assert_int_equal(stats()->early_frames, 2);
    assert_int_equal(world_info(&world).lag, 3);
    assert_int_equal(world.sends, 2); // one request for both
    assert_int_equal(world.ask.version, 5);
    // The missing one comes late, before the answer.
    world_publish(&world, 0, 5, 6);
    assert_held(100, 8);
    assert_int_equal(stats()->early_frames, 0);
    assert_int_equal(stats()->early_bytes, 0);
    assert_int_equal(world.deltas, 3);
    // The answer leads from 5 to 9: it is of no use, and what it told is asked for.
    world_answer_now(&world);
    world_pass(&world, 200);
    assert_true(world.asked);
    world_answer_now(&world);
    assert_held(100, 9);
    assert_state(TALLY_SYNC_LIVE);
}

static void test_gap_filled_by_answer(void **state)
{
    (void)state;
    live(5);
    cut(0, 3);
    world_publish(&world, 0, 7, 8);
    struct world_blob answer = world_answer(&world.servers[0], &world.ask); // 5 -> 8
    cut(0, 1);
    world_publish(&world, 0, 8, 9);
    world.asked = false;
    tally_sync_answer(world.sync, world.now, 0, world.request, world_bytes(answer));
    free(answer.data);
    assert_held(100, 9);
    assert_int_equal(stats()->catch_ups_delta, 1);
    assert_state(TALLY_SYNC_LIVE);
    assert_false(world.asked);
}

static void test_early_frames_are_bounded(void **state)
{
    (void)state;
    init_with(1, (struct tally_sync_options){.early_frames_max = 8});
    cut(0, 5);
    tally_sync_connected(world.sync, world.now, 0);
    world_answer_now(&world);
    cut(0, 100);
    for (uint64_t v = 6; v < 105; v++) world_publish(&world, 0, v, v + 1);
    assert_int_equal(stats()->early_frames, 8);
    assert_int_equal(stats()->early_dropped, 91);
    world_publish(&world, 0, 6, 7); // lower than all that are held: not worth one of them
    assert_int_equal(stats()->early_dropped, 92);
    world.servers[0].version = 100; // the answer was written a little earlier
    world_answer_now(&world);
    assert_held(100, 105);
    assert_int_equal(stats()->early_frames, 0);
}

static void test_early_bytes_are_bounded(void **state)
{
    (void)state;
    init_with(1, (struct tally_sync_options){.early_bytes_max = 250});
    cut(0, 5);
    tally_sync_connected(world.sync, world.now, 0);
    world_answer_now(&world);
    cut(0, 100);
    for (uint64_t v = 6; v < 105; v++) {
        world_publish(&world, 0, v, v + 1);
        assert_true(stats()->early_bytes <= 250);
    }
    assert_true(stats()->early_frames >= 2 && stats()->early_frames <= 4);
}

// ---------------------------------------------------------------------------------------------------- heartbeats, age

static void test_heartbeat(void **state)
{
    (void)state;
    live(5);
    world_pass(&world, 4000);
    assert_int_equal(world_info(&world).age_ms, 4000);
    world_message(&world, 0, world_heartbeat(&world.servers[0], world.now.unix_ms));
    assert_int_equal(world_info(&world).age_ms, 0);
    world_pass(&world, 5000);
    assert_state(TALLY_SYNC_LIVE);
    world_pass(&world, 1);
    assert_state(TALLY_SYNC_STALE);
    world_message(&world, 0, world_heartbeat(&world.servers[0], world.now.unix_ms));
    assert_state(TALLY_SYNC_LIVE);
    world_pass(&world, 5001);
    cut(0, 1);
    world_publish(&world, 0, 5, 6); // a frame makes it fresh too
    assert_state(TALLY_SYNC_LIVE);
    // The last frame before a quiet time was lost: the heartbeat tells.
    cut(0, 1);
    unsigned sends = world.sends;
    world_message(&world, 0, world_heartbeat(&world.servers[0], world.now.unix_ms));
    assert_int_equal(world.sends, sends + 1);
    assert_state(TALLY_SYNC_CATCHING_UP);
    world_answer_now(&world);
    assert_held(100, 7);
    assert_state(TALLY_SYNC_LIVE);
}

static void test_stale_after_disconnect(void **state)
{
    (void)state;
    live(5);
    tally_sync_disconnected(world.sync, world.now, 0);
    world_pass(&world, 100);
    assert_state(TALLY_SYNC_LIVE);
    world_pass(&world, 5000);
    assert_state(TALLY_SYNC_STALE);
    world_pass(&world, 600000);
    assert_int_equal(world.sends, 1);
    tally_sync_connected(world.sync, world.now, 0);
    assert_int_equal(world.sends, 2);
    world_answer_now(&world);
    assert_int_equal(stats()->catch_ups_current, 1);
    assert_state(TALLY_SYNC_STALE); // "nothing newer" has no time in it
    world_message(&world, 0, world_heartbeat(&world.servers[0], world.now.unix_ms));
    assert_state(TALLY_SYNC_LIVE);
}

// ---------------------------------------------------------------------------------------------------- chunks

static void test_chunks(void **state)
{
    (void)state;
    init(2);
    cut(0, 5);
    cut(1, 5);
    world.servers[0].chunks = world.servers[1].chunks = 10;
    tally_sync_connected(world.sync, world.now, 0);
    tally_sync_connected(world.sync, world.now, 1);
    for (unsigned i = 0; i < 4; i++) {
        world_answer_now(&world);
        assert_int_equal(world.sends, i + 2);
        assert_int_equal(world.sends_at_apply, i + 2); // the next was asked for before
        assert_int_equal(world.ask.cursor.chunk, i + 1);
        assert_int_equal(world.asked_server, 0);
        assert_held(0, 0);
        assert_state(TALLY_SYNC_CATCHING_UP);
    }
    // Published meanwhile: held until the whole state is there.
    cut(0, 1);
    cut(1, 1);
    world_publish(&world, 0, 5, 6);
    // The server goes away: the other one continues where it stopped.
    tally_sync_answer_failed(world.sync, world.now, 0, world.request, TALLY_UNREACHABLE);
    tally_sync_disconnected(world.sync, world.now, 0);
    world_pass(&world, 200);
    assert_int_equal(world.asked_server, 1);
    assert_true(world.ask.has_cursor);
    assert_int_equal(world.ask.cursor.chunk, 4);
    for (unsigned i = 4; i < 10; i++) world_answer_now(&world);
    assert_held(100, 6);
    assert_int_equal(stats()->chunks, 9);
    assert_int_equal(world.rebases, 1);
    assert_int_equal(world.deltas, 1);
    assert_state(TALLY_SYNC_LIVE);
    assert_int_equal(world.last[TALLY_SYNC_EVENT_CATCH_UP].count, 10);
}

// A repair by a whole state in chunks is not disturbed by a delta that would fit what is held.
static void test_chunks_beside_good_deltas(void **state)
{
    (void)state;
    live(5);
    world.servers[0].chunks = 3;
    cut(0, 1);
    world.servers[0].sick = true;
    world_publish(&world, 0, 5, 6);
    world_answer_now(&world);
    assert_true(world.ask.has_cursor);
    world.servers[0].sick = false;
    unsigned applies = world.mirror.applies;
    world_publish(&world, 0, 5, 6);
    cut(0, 1);
    world_publish(&world, 0, 6, 7);
    assert_int_equal(world.mirror.applies, applies);
    assert_true(world.mirror.staged);
    world_answer_now(&world);
    world_answer_now(&world);
    assert_held(100, 7);
    assert_int_equal(stats()->restarts, 0);
    assert_int_equal(stats()->requests_failed, 0);
}

static void test_chunks_gone(void **state)
{
    (void)state;
    init(1);
    cut(0, 5);
    world.servers[0].chunks = 3;
    tally_sync_connected(world.sync, world.now, 0);
    world_answer_now(&world);
    cut(0, 100);
    world_answer_now(&world); // GONE
    assert_int_equal(stats()->restarts, 1);
    assert_int_equal(world.mirror.abandons, 1);
    assert_false(world.asked); // not at once
    world_pass(&world, 200);
    assert_true(world.asked);
    assert_false(world.ask.has_cursor);
    for (unsigned i = 0; i < 3; i++) world_answer_now(&world);
    assert_held(100, 105);
    assert_state(TALLY_SYNC_LIVE);
}

static void test_chunks_given_up(void **state)
{
    (void)state;
    init(1);
    cut(0, 5);
    world.servers[0].chunks = 3;
    tally_sync_connected(world.sync, world.now, 0);
    world_answer_now(&world);
    for (unsigned i = 0; i < 3; i++) {
        while (!world.asked) world_pass(&world, 10);
        assert_true(world.ask.has_cursor);
        world.asked = false;
        world_pass(&world, 5000); // no answer
    }
    assert_int_equal(stats()->requests_timed_out, 3);
    while (!world.asked) world_pass(&world, 10);
    assert_false(world.ask.has_cursor);
}

// ---------------------------------------------------------------------------------------------------- memory

static void test_nth_allocation_fails(void **state)
{
    (void)state;
    for (size_t n = 1;; n++) {
        world = (struct world){.now = {1000, 1700000000000}};
        struct tally_sync_options options = {
            .dataset = test_text("main"), .servers = 1, .random = 7, .early_frames_max = 16};
        test_alloc_init(&world.memory);
        world.memory.fail_at = n;
        world_server_init(&world.servers[0], 100);
        enum tally_status status = tally_sync_create(&options, &world_ops, &world, &world.memory.alloc, &world.sync);
        if (status != TALLY_OK) {
            assert_int_equal(status, TALLY_NO_MEMORY);
            assert_int_equal(world.memory.blocks, 0);
            continue;
        }
        cut(0, 5);
        tally_sync_connected(world.sync, world.now, 0);
        for (unsigned round = 0; round < 40; round++) {
            if (world.asked) world_answer_now(&world);
            if (round < 10) {
                cut(0, 2);
                world_publish(&world, 0, world.servers[0].version - 1, world.servers[0].version);
                world_message(&world, 0, world_heartbeat(&world.servers[0], world.now.unix_ms));
            }
            world_pass(&world, 500);
        }
        assert_held(100, world.servers[0].version);
        bool all = world.memory.requests < n;
        tally_sync_destroy(&world.sync);
        assert_int_equal(world.memory.blocks, 0);
        if (all) {
            assert_true(n > 20);
            return;
        }
    }
}

static void test_wrong_options(void **state)
{
    (void)state;
    struct tally_sync_options options = {.dataset = test_text("main"), .servers = TALLY_SYNC_SERVERS_MAX + 1};
    test_alloc_init(&world.memory);
    struct tally_sync *sync = NULL;
    assert_int_equal(tally_sync_create(&options, &world_ops, &world, &world.memory.alloc, &sync), TALLY_INVALID);
    options.servers = 0;
    assert_int_equal(tally_sync_create(&options, &world_ops, &world, &world.memory.alloc, &sync), TALLY_INVALID);
    options.servers = 1;
    options.dataset = test_text("Not A Name");
    assert_int_equal(tally_sync_create(&options, &world_ops, &world, &world.memory.alloc, &sync), TALLY_INVALID);
    assert_null(sync);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_cold_to_live, teardown),
        cmocka_unit_test_teardown(test_empty_server, teardown),
        cmocka_unit_test_teardown(test_boot, teardown),
        cmocka_unit_test_teardown(test_boot_with_half_a_whole_state, teardown),
        cmocka_unit_test_teardown(test_gap, teardown),
        cmocka_unit_test_teardown(test_gap_filled_by_answer, teardown),
        cmocka_unit_test_teardown(test_early_frames_are_bounded, teardown),
        cmocka_unit_test_teardown(test_early_bytes_are_bounded, teardown),
        cmocka_unit_test_teardown(test_heartbeat, teardown),
        cmocka_unit_test_teardown(test_stale_after_disconnect, teardown),
        cmocka_unit_test_teardown(test_chunks, teardown),
        cmocka_unit_test_teardown(test_chunks_beside_good_deltas, teardown),
        cmocka_unit_test_teardown(test_chunks_gone, teardown),
        cmocka_unit_test_teardown(test_chunks_given_up, teardown),
        cmocka_unit_test(test_nth_allocation_fails),
        cmocka_unit_test(test_wrong_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
