// SPDX-License-Identifier: Apache-2.0
//
// The edge's sync core and its servers, scenario by scenario: those that say what does not verify, that are away, that are several.
#include "sync_case.h"

// ---------------------------------------------------------------------------------------------------- what does not verify

static void test_digest_mismatch(void **state)
{
    (void)state;
    live(5);
    cut(0, 1);
    world.servers[0].sick = true;
    world_publish(&world, 0, 5, 6);
    assert_held(100, 5);
    assert_int_equal(stats()->refused[TALLY_DIGEST_MISMATCH], 1);
    assert_true(world.asked);
    assert_int_equal(world.ask.epoch, 0);
    assert_int_equal(world.ask.version, 0);
    world_answer_now(&world);
    assert_held(100, 6);
    assert_state(TALLY_SYNC_LIVE);
    assert_int_equal(stats()->repairs, 1);
    assert_int_equal(world.last[TALLY_SYNC_EVENT_REFUSED].status, TALLY_DIGEST_MISMATCH);
}

static void test_heartbeat_with_another_digest(void **state)
{
    (void)state;
    live(5);
    struct world_server other = world.servers[0];
    other.values[5]++;
    world_pass(&world, 1000);
    world_message(&world, 0, world_heartbeat(&other, world.now.unix_ms));
    assert_int_equal(world_info(&world).age_ms, 1000); // not confirmed
    assert_state(TALLY_SYNC_CATCHING_UP);
    assert_int_equal(world.ask.version, 0);
    cut(0, 1);
    world_answer_now(&world);
    assert_held(100, 6);
    assert_state(TALLY_SYNC_LIVE);
}

// A server whose deltas never verify: its whole states are taken, at a bounded pace.
static void test_no_hot_loop(void **state)
{
    (void)state;
    live(5);
    world.servers[0].sick = true;
    unsigned seconds = 600, whole = world.sends;
    for (unsigned i = 0; i < seconds * 10; i++) {
        if (i % 5 == 0 && world.servers[0].version + 1 < WORLD_VERSIONS) {
            cut(0, 1);
            world_publish(&world, 0, world.servers[0].version - 1, world.servers[0].version);
        }
        if (world.asked) world_answer_now(&world);
        world_pass(&world, 100);
    }
    whole = world.sends - whole;
    assert_in_range(whole, 10, 40); // 0.5 s, 1 s, 2 s ... 60 s and so on
    assert_true(world_info(&world).held.version > 5);
    assert_true(world.events[TALLY_SYNC_EVENT_REFUSED] <= seconds / 10 + 1);
    // Well again: the next good delta ends it.
    world.servers[0].sick = false;
    for (unsigned i = 0; i < 700; i++) {
        if (world.asked) world_answer_now(&world);
        world_pass(&world, 100);
    }
    cut(0, 1);
    world_publish(&world, 0, world.servers[0].version - 1, world.servers[0].version);
    assert_held(100, world.servers[0].version);
    assert_state(TALLY_SYNC_LIVE);
}

static void test_garbage(void **state)
{
    (void)state;
    live(5);
    struct test_random random = test_random_start("test_sync garbage");
    for (unsigned i = 0; i < 20000; i++) {
        cut(0, i % 50 == 0 && world.servers[0].version < 300);
        struct world_blob message = test_random_percent(&random, 50) ? world_published(&world.servers[0], 5, 6)
                                                                     : world_heartbeat(&world.servers[0], 1);
        unsigned flips = (unsigned)test_random_between(&random, 1, 4);
        size_t size = test_random_percent(&random, 30) ? test_random_below(&random, message.size) : message.size;
        // A flipped bit, or a cut; the sealed part must be hurt, not only the topic byte that tells the kinds
        // apart.
        for (unsigned k = 0; k < flips; k++) {
            message.data[test_random_below(&random, message.size)] ^= (uint8_t)(1u << test_random_below(&random, 8));
        }
        uint8_t *exact = test_exact_copy(message.data, size);
        tally_sync_message(world.sync, world.now, 0, tally_bytes(exact, size));
        free(exact);
        free(message.data);
        if (world.asked) {
            world.asked = false;
            uint8_t noise[64];
            test_random_fill(&random, noise, sizeof noise);
            tally_sync_answer(world.sync, world.now, 0, world.request, tally_bytes(noise, sizeof noise));
        }
        world_pass(&world, 1);
    }
    uint64_t refused = 0;
    for (unsigned i = 0; i < TALLY_SYNC_STATUSES; i++) refused += stats()->refused[i];
    assert_true(refused > 19000);
    assert_true(world.events[TALLY_SYNC_EVENT_REFUSED] < 20);
    // Nothing of it did harm.
    world_message(&world, 0, world_heartbeat(&world.servers[0], world.now.unix_ms));
    for (unsigned i = 0; i < 3000; i++) {
        world_pass(&world, 10);
        if (world.asked) world_answer_now(&world);
    }
    world_message(&world, 0, world_heartbeat(&world.servers[0], world.now.unix_ms));
    assert_held(100, world.servers[0].version);
    assert_state(TALLY_SYNC_LIVE);
}

static void test_wrong_dataset(void **state)
{
    (void)state;
    live(5);
    cut(0, 1);
    struct world_blob frame = world_frame("other", 100, 5, 6, 0, 0, world.now.unix_ms, 0, false);
    struct tally_writer out = test_writer();
    tally_published_begin(&out, test_text("other"), TALLY_PUBLISHED_FRAME);
    tally_write_raw(&out, frame.data, frame.size);
    tally_sync_message(world.sync, world.now, 0, tally_writer_bytes(&out));
    test_writer_free(&out);
    world_message(&world, 0, world_topic('F', world_bytes(frame))); // the topic lies
    free(frame.data);
    assert_int_equal(stats()->refused[TALLY_WRONG_DATASET], 2);
    assert_held(100, 5);
    assert_int_equal(world_info(&world).lag, 0);
}

static void test_mirror_is_short_of_memory(void **state)
{
    (void)state;
    live(5);
    cut(0, 1);
    world.mirror.fail = TALLY_NO_MEMORY;
    world.mirror.fail_count = 1000000;
    unsigned sends = world.sends;
    world_publish(&world, 0, 5, 6);
    for (unsigned i = 0; i < 6000; i++) {
        if (world.asked) world_answer_now(&world);
        world_pass(&world, 10);
    }
    assert_in_range(world.sends - sends, 5, 30);
    assert_int_equal(stats()->repairs, 0); // a whole state would not need less
    world.mirror.fail_count = 0;
    for (unsigned i = 0; i < 1100; i++) {
        if (world.asked) world_answer_now(&world);
        world_pass(&world, 10);
    }
    assert_held(100, 6);
}

// ---------------------------------------------------------------------------------------------------- back-off, several servers

static void test_back_off(void **state)
{
    (void)state;
    init(2);
    tally_sync_connected(world.sync, world.now, 0);
    tally_sync_connected(world.sync, world.now, 1);
    uint64_t last = world.now.monotonic_ms;
    uint32_t server = 0;
    uint64_t most = 0;
    for (unsigned i = 0; i < 12; i++) {
        assert_true(world.asked);
        assert_int_equal(world.asked_server, server);
        server = !server;
        world.asked = false;
        tally_sync_answer_failed(world.sync, world.now, world.asked_server, world.request, TALLY_UNREACHABLE);
        assert_false(world.asked);
        last = world.now.monotonic_ms;
        uint64_t due = tally_sync_due(world.sync);
        assert_true(due > last);
        uint64_t full = 100ull << i > 10000 ? 10000 : 100ull << i;
        assert_in_range(due - last, full / 2, full);
        if (due - last > most) most = due - last;
        world_pass(&world, due - last - 1);
        assert_false(world.asked);
        world_pass(&world, 1);
    }
    assert_true(most > 5000);
    assert_int_equal(world.events[TALLY_SYNC_EVENT_REQUEST_FAILED], 12);
}

static void test_back_off_ends(void **state)
{
    (void)state;
    init(1);
    cut(0, 5);
    tally_sync_connected(world.sync, world.now, 0);
    for (unsigned i = 0; i < 10; i++) {
        world.asked = false;
        tally_sync_answer_failed(world.sync, world.now, 0, world.request, TALLY_UNREACHABLE);
        world_pass(&world, tally_sync_due(world.sync) - world.now.monotonic_ms);
    }
    world_answer_now(&world);
    assert_held(100, 5);
    cut(0, 2);
    world_publish(&world, 0, 6, 7);
    tally_sync_answer_failed(world.sync, world.now, 0, world.request, TALLY_UNREACHABLE);
    assert_in_range(tally_sync_due(world.sync) - world.now.monotonic_ms, 50, 100); // the first step again
}

// It names a version that it does not hand out: asked now and then, not all the time.
static void test_server_that_promises_too_much(void **state)
{
    (void)state;
    live(5);
    struct world_server boaster = world.servers[0];
    boaster.version = 9;
    unsigned sends = world.sends;
    for (unsigned i = 0; i < 6000; i++) {
        if (i % 100 == 0) world_message(&world, 0, world_heartbeat(&boaster, world.now.unix_ms));
        for (unsigned k = 0; k < 50 && world.asked; k++) world_answer_now(&world);
        world_pass(&world, 10);
    }
    assert_in_range(world.sends - sends, 6, 60);
}

static void test_send_fails(void **state)
{
    (void)state;
    init(1);
    world.send_status = TALLY_BUSY;
    tally_sync_connected(world.sync, world.now, 0);
    for (unsigned i = 0; i < 6000; i++) world_pass(&world, 10);
    assert_in_range(world.sends, 6, 30);
    assert_int_equal(stats()->requests_failed, world.sends);
}

static void test_late_answer(void **state)
{
    (void)state;
    init(1);
    cut(0, 5);
    tally_sync_connected(world.sync, world.now, 0);
    uint64_t first = world.request;
    struct world_blob answer = world_answer(&world.servers[0], &world.ask);
    world_pass(&world, 5000);
    world_pass(&world, 200);
    assert_int_equal(world.sends, 2);
    tally_sync_answer(world.sync, world.now, 0, first, world_bytes(answer));
    assert_held(0, 0);
    assert_int_equal(stats()->answers_late, 1);
    tally_sync_answer(world.sync, world.now, 0, world.request, world_bytes(answer));
    assert_held(100, 5);
    free(answer.data);
}

static void test_two_servers_tell_the_same(void **state)
{
    (void)state;
    init(2);
    cut(0, 5);
    cut(1, 5);
    tally_sync_connected(world.sync, world.now, 0);
    world_answer_now(&world);
    assert_state(TALLY_SYNC_LIVE);
    tally_sync_connected(world.sync, world.now, 1);
    assert_state(TALLY_SYNC_LIVE); // asking the second one does not make the first one's word worse
    world_answer_now(&world);
    cut(0, 1);
    cut(1, 1);
    world_publish(&world, 0, 5, 6);
    world_publish(&world, 1, 5, 6);
    assert_held(100, 6);
    assert_int_equal(stats()->frames_old, 1);
    // The first is slow: the second leads, then the first one dies in the middle of a gap.
    cut(1, 3);
    world_publish(&world, 1, 8, 9);
    assert_true(world.asked);
    assert_int_equal(world.asked_server, 1); // the one that is known to have more
    world_answer_now(&world);
    assert_held(100, 9);
}

static void test_epochs(void **state)
{
    (void)state;
    init(2);
    cut(0, 50);
    tally_sync_connected(world.sync, world.now, 0);
    world_answer_now(&world);
    assert_held(100, 50);
    // A server of a lower epoch is of no interest, however many versions it has.
    world.servers[1].epoch = 99;
    cut(1, 200);
    tally_sync_connected(world.sync, world.now, 1);
    unsigned applies = world.mirror.applies;
    world_answer_now(&world);
    assert_int_equal(world.mirror.applies, applies);
    world_message(&world, 1, world_heartbeat(&world.servers[1], world.now.unix_ms));
    world_publish(&world, 1, 198, 199);
    world_pass(&world, 4000);
    assert_held(100, 50);
    assert_state(TALLY_SYNC_LIVE);
    assert_int_equal(stats()->frames_lower_epoch, 1);
    assert_int_equal(world.events[TALLY_SYNC_EVENT_LOWER_EPOCH], 1);
    assert_int_equal(world.sends, 2);
    // A greater epoch wins, even with fewer versions: that server lost its data and began anew.
    tally_sync_disconnected(world.sync, world.now, 0);
    world_server_init(&world.servers[0], 101);
    tally_sync_connected(world.sync, world.now, 0);
    world_answer_now(&world);
    assert_held(100, 50); // it has nothing yet
    cut(0, 2);
    world_publish(&world, 0, 1, 2);
    assert_held(100, 50);
    world_answer_now(&world);
    assert_held(101, 2);
    assert_int_equal(world.last[TALLY_SYNC_EVENT_EPOCH].epoch, 101);
    cut(0, 1);
    world_publish(&world, 0, 2, 3);
    assert_held(101, 3);
    assert_state(TALLY_SYNC_LIVE);
}

static void test_frame_ahead_of_a_new_epoch(void **state)
{
    (void)state;
    live(5);
    world_server_init(&world.servers[0], 200);
    cut(0, 3);
    world_publish(&world, 0, 2, 3);
    struct world_blob answer = world_answer(&world.servers[0], &world.ask);
    cut(0, 1);
    world_publish(&world, 0, 3, 4);
    world.asked = false;
    tally_sync_answer(world.sync, world.now, 0, world.request, world_bytes(answer));
    free(answer.data);
    assert_held(200, 4);
    assert_state(TALLY_SYNC_LIVE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_digest_mismatch, teardown),
        cmocka_unit_test_teardown(test_heartbeat_with_another_digest, teardown),
        cmocka_unit_test_teardown(test_no_hot_loop, teardown),
        cmocka_unit_test_teardown(test_garbage, teardown),
        cmocka_unit_test_teardown(test_wrong_dataset, teardown),
        cmocka_unit_test_teardown(test_mirror_is_short_of_memory, teardown),
        cmocka_unit_test_teardown(test_back_off, teardown),
        cmocka_unit_test_teardown(test_back_off_ends, teardown),
        cmocka_unit_test_teardown(test_server_that_promises_too_much, teardown),
        cmocka_unit_test_teardown(test_send_fails, teardown),
        cmocka_unit_test_teardown(test_late_answer, teardown),
        cmocka_unit_test_teardown(test_two_servers_tell_the_same, teardown),
        cmocka_unit_test_teardown(test_epochs, teardown),
        cmocka_unit_test_teardown(test_frame_ahead_of_a_new_epoch, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
