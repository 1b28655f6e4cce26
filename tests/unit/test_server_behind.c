// SPDX-License-Identifier: Apache-2.0
//
// A mirror that stays behind: what it is given then is one frame of several records, and whoever asks does not notice.
#include "../support/with_cmocka.h"

#include "../support/server_world.h"
#include "../support/state_world.h"

#include <server/src/behind.h>

// ---------------------------------------------------------------------------------------------------- against the model

static void apply(struct world *world, struct tally_applied *out_applied)
{
    enum tally_status verdicts[8];
    size_t count;
    struct tally_bytes record = world_record(world, verdicts, &count);
    world->out.size = 0;
    assert_int_equal(tally_state_apply(&world->state, record, &world->out, out_applied), TALLY_OK);
}

// Takes what is behind, as a frame or, where that is too large, as a whole state.
static void take(struct world *world, struct tally_behind *behind, unsigned *wholes)
{
    world->out.size = 0;
    enum tally_status status = tally_behind_write(behind, &world->state, &world->out);
    if (status == TALLY_LIMIT) {
        assert_int_equal(world->out.size, 0);
        world_apply_whole(&world->state, &world->mirror);
        ++*wholes;
    } else {
        assert_int_equal(status, TALLY_OK);
        struct tally_bytes frame = tally_writer_bytes(&world->out);
        assert_int_equal(tally_mirror_apply(world->mirror.mirror, &world->mirror.memory, frame), TALLY_OK);
    }
    tally_behind_forget(behind, test_random_percent(world->feed.random, 50));
    world_mirror_equals(&world->mirror, &world->model);
}

static void test_random_records_taken_together(void **unused)
{
    (void)unused;
    struct test_random random = test_random_start("behind: random records");
    unsigned wholes = 0;
    for (int round = 0; round < 60; round++) {
        struct world *world = world_open(&random, &tally_alloc_libc, 0);
        unsigned often = (unsigned)test_random_between(&random, 5, 60);
        struct tally_behind behind;
        struct tally_applied applied;
        tally_behind_init(&behind, &tally_alloc_libc);
        if (round % 4 == 0) world->state.frame_bytes_max = 400;
        for (int i = 0; i < 60; i++) {
            apply(world, &applied);
            uint64_t changed = world->state.stats.rows_changed;
            if (applied.whole || i == 0) {
                tally_behind_forget(&behind, false);
                world_apply_whole(&world->state, &world->mirror);
                continue;
            }
            assert_int_equal(tally_behind_note(&behind, &world->state), TALLY_OK);
            if (test_random_percent(&random, often)) take(world, &behind, &wholes);
            assert_int_equal(world->state.stats.rows_changed, changed); // nothing is counted twice
        }
        if (behind.versions) take(world, &behind, &wholes);
        tally_behind_deinit(&behind);
        world_close(world);
    }
    assert_true(wholes > 0);
}

static void test_without_memory_to_note_it(void **unused)
{
    (void)unused;
    struct test_random random = test_random_start("behind: no memory");
    unsigned failed = 0;
    for (int round = 0; round < 40; round++) {
        struct world *world = world_open(&random, &tally_alloc_libc, 0);
        struct test_alloc alloc;
        struct tally_behind behind;
        struct tally_applied applied;
        unsigned wholes = 0;
        test_alloc_init(&alloc);
        tally_behind_init(&behind, &alloc.alloc);
        apply(world, &applied);
        world_apply_whole(&world->state, &world->mirror);
        alloc.fail_at = 1 + (uint64_t)round % 8;
        enum tally_status status = TALLY_OK;
        for (int i = 0; i < 20 && !status; i++) {
            apply(world, &applied);
            if ((status = tally_behind_note(&behind, &world->state))) assert_int_equal(status, TALLY_NO_MEMORY);
        }
        failed += status != TALLY_OK;
        if (!status) take(world, &behind, &wholes);
        tally_behind_deinit(&behind);
        assert_int_equal(alloc.blocks, 0);
        world_close(world);
    }
    assert_true(failed > 5);
}

// ---------------------------------------------------------------------------------------------------- in the core

static bool yes(void *ctx)
{
    (void)ctx;
    return true;
}

static const struct tally_server_ops lagging = {
    .publish = world_publish, .reply = world_reply, .event = world_event, .may_lag = yes};

static struct server_world *lagging_world(void)
{
    struct server_world *world = server_world_make();
    world->options.lag_versions = 4;
    world->options.lag_changes = 1;
    assert_int_equal(tally_memory_map(world->memory_bytes, 0, &world->memory), TALLY_OK);
    assert_int_equal(tally_server_create(&world->options, &world->log.log, &world->snapshots.store, &world->memory,
                                         &lagging, world, &world->alloc.alloc, &world->server),
                     TALLY_OK);
    assert_int_equal(tally_server_recover(world->server, world->now_ms), TALLY_OK);
    return world;
}

static void count(struct server_world *world, uint64_t sequence)
{
    server_world_send(world, 1000 + sequence, 7, sequence, "t/a t/b=2");
    assert_int_equal(server_world_tick(world), TALLY_OK);
    server_world_expect(world, 1000 + sequence, TALLY_OK, sequence, sequence + 1);
}

// Each version is published and acknowledged as it is cut; the mirror takes the fifth, and when there is nothing else to do.
static void test_how_far_behind(void **unused)
{
    (void)unused;
    static const uint32_t expected[] = {0, 1, 2, 3, 4, 0, 1, 2};
    struct server_world *world = lagging_world();
    for (uint64_t i = 0; i < 8; i++) {
        count(world, i + 1);
        assert_int_equal(server_world_stats(world).mirror_behind, expected[i]);
        assert_int_equal(server_world_stats(world).frames, i + 1);
    }
    assert_int_equal(server_world_tick(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).mirror_behind, 0);
    assert_int_equal(server_world_stats(world).rows_changed, 16);
    server_world_end(world);
}

// What the server tells of its state is of the newest version, however far behind the mirror was.
static void test_who_asks_does_not_notice(void **unused)
{
    (void)unused;
    struct server_world *world = lagging_world();
    for (uint64_t i = 1; i <= 3; i++) count(world, i);
    assert_int_equal(server_world_stats(world).mirror_behind, 2);
    uint8_t bytes[256];
    struct tally_writer out = tally_writer_fixed(bytes, sizeof bytes);
    const struct tally_bytes keys[] = {test_text("a"), test_text("b")};
    const struct tally_query query = {
        .dataset = test_text("main"), .table = test_text("t"), .keys = keys, .keys_count = 2};
    assert_int_equal(tally_query_encode(&query, &out), TALLY_OK);
    tally_server_request(world->server, TALLY_ENDPOINT_CATCH_UP, 1, tally_writer_bytes(&out), world->now_ms);
    struct tally_answer answer = server_world_answer(world, 1);
    assert_int_equal(answer.version, 3);
    assert_int_equal(answer.values_count, 2);
    assert_int_equal(answer.values[0], 3);
    assert_int_equal(answer.values[1], 6);
    tally_answer_free(&tally_alloc_libc, &answer);

    count(world, 4);
    assert_int_equal(server_world_stats(world).mirror_behind, 1);
    const struct tally_catch_up whole = {.dataset = test_text("main")};
    answer = server_world_catch_up(world, 2, &whole);
    assert_int_equal(answer.version, 4);
    struct tally_frame_reader frame;
    assert_int_equal(tally_frame_open(answer.frame, &frame), TALLY_OK);
    assert_int_equal(frame.header.to, 4);
    tally_answer_free(&tally_alloc_libc, &answer);
    server_world_end(world);
}

// A snapshot is of one version, in what comes from the mirror and in what comes from the state.
static void test_a_snapshot_of_one_that_is_behind(void **unused)
{
    (void)unused;
    struct server_world *world = lagging_world();
    world->options.snapshot_every = 3;
    server_world_crash(world);
    assert_int_equal(tally_memory_map(world->memory_bytes, 0, &world->memory), TALLY_OK);
    assert_int_equal(tally_server_create(&world->options, &world->log.log, &world->snapshots.store, &world->memory,
                                         &lagging, world, &world->alloc.alloc, &world->server),
                     TALLY_OK);
    assert_int_equal(tally_server_recover(world->server, world->now_ms), TALLY_OK);
    for (uint64_t i = 1; i <= 20; i++) count(world, i);
    assert_true(server_world_stats(world).snapshots > 2);
    uint64_t version = server_world_stats(world).version;
    server_world_crash(world);
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_int_equal(world->events[TALLY_SERVER_EVENT_SNAPSHOT_REFUSED], 0);
    assert_int_equal(server_world_stats(world).version, version);
    server_world_end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_records_taken_together),
        cmocka_unit_test(test_without_memory_to_note_it),
        cmocka_unit_test(test_how_far_behind),
        cmocka_unit_test(test_who_asks_does_not_notice),
        cmocka_unit_test(test_a_snapshot_of_one_that_is_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
