// SPDX-License-Identifier: Apache-2.0
//
// Who is behind by any number of versions comes to the newest: by merged frames, by chunks, by both.
#include "../support/with_cmocka.h"

#include "../support/count_model.h"
#include "../support/server_world.h"

static void feed_tick(struct server_world *world, struct model_feed *feed, uint64_t *token)
{
    for (size_t n = test_random_between(feed->random, 1, 4); n > 0; n--) {
        struct test_batch batch;
        struct tally_bytes message;
        model_feed_batch(feed, &batch, &message);
        tally_server_request(world->server, TALLY_ENDPOINT_INGEST, ++*token, test_batch_bytes(&batch), world->now_ms);
        test_batch_free(&batch);
    }
    assert_int_equal(server_world_tick(world), TALLY_OK);
}

static void test_from_every_version(void **state)
{
    (void)state;
    struct test_random random = test_random_start("catch-up: from every version");
    for (int round = 0; round < 4; round++) {
        struct server_world *world = server_world_make();
        struct model_feed feed = {.random = &random, .producers = 6, .tables = 3, .keys = 80, .remove_percent = 50};
        static struct follower followers[40];
        uint64_t token = 0;
        world->options.retention_versions = round == 0 ? 4096 : 12;
        assert_int_equal(server_world_start(world), TALLY_OK);
        for (int i = 0; i < 40; i++) {
            follower_open(&followers[i]);
            follower_follow(&followers[i], world, 0); // up to here, and then nothing more
            feed_tick(world, &feed, &token);
        }
        unsigned frames = 0;
        for (int i = 0; i < 40; i++) {
            frames += follower_catch_up(&followers[i], world, &token);
            follower_equals(&followers[i], world);
            follower_close(&followers[i]);
        }
        struct tally_server_stats stats = server_world_stats(world);
        assert_int_equal(stats.catch_ups_delta + stats.catch_ups_whole, frames);
        assert_true(stats.catch_ups_whole >= (round == 0 ? 1 : 20));
        assert_true(stats.catch_ups_delta > 5);
        assert_int_equal(stats.catch_ups_current, 40);
        server_world_end(world);
    }
}

// A state of many chunks: newcomers share a pinned version, go on by frames, and what is let go is GONE.
static void large_state(struct server_world *world, uint64_t *token, uint64_t keys)
{
    struct test_random random = {1};
    uint8_t key[400];
    for (uint64_t producer = 1; keys > 0; producer++) {
        struct test_batch batch;
        test_batch_init(&batch);
        tally_batch_begin(&batch.writer, &(struct tally_batch_header){
                                             .dataset = test_text("main"), .producer = producer << 32, .sequence = 1});
        tally_batch_table_begin(&batch.writer, test_text("large"));
        for (int i = 0; i < 2000 && keys > 0; i++, keys--) {
            test_random_fill(&random, key, sizeof key);
            tally_batch_add(&batch.writer, tally_bytes(key, sizeof key), 1);
        }
        tally_batch_table_end(&batch.writer);
        assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
        tally_server_request(world->server, TALLY_ENDPOINT_INGEST, ++*token, test_batch_bytes(&batch), world->now_ms);
        test_batch_free(&batch);
        assert_int_equal(server_world_tick(world), TALLY_OK);
    }
}

static void test_chunks_while_the_state_moves(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    struct test_random random = test_random_start("catch-up: chunks");
    struct model_feed feed = {.random = &random, .producers = 6, .tables = 3, .keys = 80, .remove_percent = 50};
    struct follower one, two;
    uint64_t token = 0;
    assert_int_equal(server_world_start(world), TALLY_OK);
    large_state(world, &token, 12000); // about 5 chunks
    follower_open(&one);
    follower_open(&two);
    struct tally_catch_up ask[2] = {{.dataset = test_text("main")}, {.dataset = test_text("main")}};
    struct follower *followers[2] = {&one, &two};
    bool done[2] = {false, false};
    unsigned chunks = 0;
    while (!done[0] || !done[1]) {
        for (int i = 0; i < 2; i++) {
            if (done[i]) continue;
            struct tally_answer answer = server_world_catch_up(world, ++token, &ask[i]);
            assert_int_equal(answer.status, TALLY_OK);
            assert_true(answer.frame.size <= TALLY_CHUNK_BYTES_MAX);
            assert_int_equal(follower_apply(followers[i], answer.frame), answer.has_cursor ? TALLY_MORE : TALLY_OK);
            done[i] = !answer.has_cursor;
            ask[i].has_cursor = answer.has_cursor;
            ask[i].cursor = answer.cursor;
            tally_answer_free(&tally_alloc_libc, &answer);
            chunks++;
            feed_tick(world, &feed, &token);
        }
    }
    assert_true(chunks >= 8);
    assert_int_equal(server_world_stats(world).pins, 1); // shared
    for (int i = 0; i < 2; i++) {
        assert_true(follower_info(followers[i]).version < server_world_stats(world).version);
        uint64_t whole = server_world_stats(world).catch_ups_whole;
        follower_catch_up(followers[i], world, &token);
        assert_int_equal(server_world_stats(world).catch_ups_whole, whole); // by frames
        follower_equals(followers[i], world);
        follower_close(followers[i]);
    }
    // Nobody asks on: it is let go, and its cursor is gone.
    world->now_ms += 20000;
    assert_int_equal(server_world_tick(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).pins, 0);
    ask[0].has_cursor = true;
    ask[0].cursor = (struct tally_whole_cursor){.epoch = 1, .version = 1};
    struct tally_answer answer = server_world_catch_up(world, ++token, &ask[0]);
    assert_int_equal(answer.status, TALLY_GONE);
    assert_int_equal(answer.frame.size, 0);
    tally_answer_free(&tally_alloc_libc, &answer);
    server_world_end(world);
}

static void test_cursors_made_up(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    struct test_random random = test_random_start("catch-up: cursors made up");
    uint64_t token = 0;
    assert_int_equal(server_world_start(world), TALLY_OK);
    large_state(world, &token, 6000);
    struct tally_catch_up ask = {.dataset = test_text("main")};
    struct tally_answer answer = server_world_catch_up(world, ++token, &ask);
    assert_true(answer.has_cursor);
    struct tally_whole_cursor good = answer.cursor;
    tally_answer_free(&tally_alloc_libc, &answer);
    ask.has_cursor = true;
    for (int i = 0; i < 500; i++) {
        ask.cursor = good;
        switch (test_random_below(&random, 5)) {
        case 0: ask.cursor.epoch += test_random_below(&random, 2); break;
        case 1: ask.cursor.version = test_random_wide(&random); break;
        case 2: ask.cursor.table = (uint32_t)test_random_wide(&random); break;
        case 3: ask.cursor.id = (uint32_t)test_random_wide(&random); break;
        default: ask.cursor.chunk = (uint32_t)test_random_wide(&random);
        }
        answer = server_world_catch_up(world, ++token, &ask);
        assert_true(answer.status == TALLY_OK || answer.status == TALLY_GONE || answer.status == TALLY_INVALID);
        assert_true((answer.status == TALLY_OK) == (answer.frame.size > 0));
        tally_answer_free(&tally_alloc_libc, &answer);
    }
    server_world_end(world);
}

static void test_who_needs_nothing(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    uint64_t token = 0;
    assert_int_equal(server_world_start(world), TALLY_OK);
    struct tally_catch_up ask = {.dataset = test_text("main")};
    struct tally_answer answer = server_world_catch_up(world, ++token, &ask); // nothing is there yet
    assert_true(answer.status == TALLY_OK && answer.frame.size == 0 && answer.version == 0);
    uint64_t epoch = answer.epoch;
    assert_int_not_equal(epoch, 0);
    tally_answer_free(&tally_alloc_libc, &answer);
    server_world_send(world, ++token, 1, 1, "t/a");
    assert_int_equal(server_world_tick(world), TALLY_OK);
    const struct tally_catch_up asks[] = {{.dataset = test_text("main"), .epoch = epoch, .version = 1},
                                          {.dataset = test_text("main"), .epoch = epoch, .version = 9},
                                          {.dataset = test_text("main"), .epoch = epoch + 1, .version = 1}};
    for (int i = 0; i < 3; i++) { // up to date; ahead of us; of a greater epoch
        answer = server_world_catch_up(world, ++token, &asks[i]);
        assert_true(answer.status == TALLY_OK && answer.frame.size == 0);
        assert_true(answer.epoch == epoch && answer.version == 1);
        tally_answer_free(&tally_alloc_libc, &answer);
    }
    ask.epoch = epoch - 1; // of an older one
    ask.version = 1;
    answer = server_world_catch_up(world, ++token, &ask);
    assert_true(answer.status == TALLY_OK && answer.frame.size > 0);
    tally_answer_free(&tally_alloc_libc, &answer);
    server_world_end(world);
}

// Frames of more bytes than one answer merges: several answers lead there.
static void test_a_long_way_in_parts(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    struct follower follower;
    uint64_t token = 0;
    assert_int_equal(server_world_start(world), TALLY_OK);
    server_world_send(world, ++token, 1, 1, "t/a");
    assert_int_equal(server_world_tick(world), TALLY_OK);
    follower_open(&follower);
    follower_follow(&follower, world, 0);
    large_state(world, &token, 44000); // 17 MiB of frames
    uint64_t whole = server_world_stats(world).catch_ups_whole;
    assert_true(follower_catch_up(&follower, world, &token) >= 2);
    assert_int_equal(server_world_stats(world).catch_ups_whole, whole);
    follower_equals(&follower, world);
    follower_close(&follower);
    server_world_end(world);
}

// Late joiners hold old versions: when the mirror has no room for their garbage they are let go, and versions go on.
static void test_garbage_presses(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    uint64_t token = 0;
    world->memory_bytes = 24u << 20;
    assert_int_equal(server_world_start(world), TALLY_OK);
    large_state(world, &token, 4000);
    struct tally_catch_up ask = {.dataset = test_text("main")};
    struct tally_answer answer = server_world_catch_up(world, ++token, &ask);
    assert_true(answer.has_cursor);
    ask.has_cursor = true;
    ask.cursor = answer.cursor;
    tally_answer_free(&tally_alloc_libc, &answer);
    assert_int_equal(server_world_stats(world).pins, 1);
    struct test_random random = {1};
    uint64_t version = server_world_stats(world).version;
    for (uint64_t sequence = 1; server_world_stats(world).pins && sequence < 400; sequence++) {
        struct test_batch batch;
        uint8_t key[400];
        test_batch_init(&batch);
        tally_batch_begin(&batch.writer, &(struct tally_batch_header){
                                             .dataset = test_text("main"), .producer = 5, .sequence = sequence});
        tally_batch_table_begin(&batch.writer, test_text("large"));
        random.state = 1;
        for (int i = 0; i < 1000; i++) {
            test_random_fill(&random, key, sizeof key);
            tally_batch_add(&batch.writer, tally_bytes(key, sizeof key), 1);
        }
        tally_batch_table_end(&batch.writer);
        assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
        tally_server_request(world->server, TALLY_ENDPOINT_INGEST, ++token, test_batch_bytes(&batch), world->now_ms);
        test_batch_free(&batch);
        world->now_ms -= 20; // no time passes: nothing is idle
        assert_int_equal(server_world_tick(world), TALLY_OK);
        assert_int_equal(server_world_stats(world).version, ++version);
        server_world_expect(world, token, TALLY_OK, version, sequence + 1);
    }
    assert_int_equal(server_world_stats(world).pins, 0);
    assert_int_equal(world->events[TALLY_SERVER_EVENT_MIRROR_STALLED], 0);
    answer = server_world_catch_up(world, ++token, &ask);
    assert_int_equal(answer.status, TALLY_GONE);
    tally_answer_free(&tally_alloc_libc, &answer);
    server_world_end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_every_version),  cmocka_unit_test(test_chunks_while_the_state_moves),
        cmocka_unit_test(test_cursors_made_up),     cmocka_unit_test(test_who_needs_nothing),
        cmocka_unit_test(test_a_long_way_in_parts), cmocka_unit_test(test_garbage_presses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
