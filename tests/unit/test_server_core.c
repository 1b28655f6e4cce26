// SPDX-License-Identifier: Apache-2.0
//
// The server's core over time: publishing, heartbeats, crashes, snapshots, damage, failures that stop it.
#include "../support/with_cmocka.h"

#include "../support/count_model.h"
#include "../support/server_world.h"

#include <server/src/record.h>

static bool said(const struct server_world *world, enum tally_server_event_kind kind)
{
    return world->events[kind] > 0;
}

static void count(struct server_world *world, uint64_t from, uint64_t to)
{
    for (uint64_t sequence = from; sequence <= to; sequence++) {
        server_world_send(world, 1000000 + sequence, 7, sequence, "t/a t/b=2");
        assert_int_equal(server_world_tick(world), TALLY_OK);
    }
}

// ---------------------------------------------------------------------------------------------------- publishing

static void test_frames_and_heartbeats(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    struct follower follower;
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_int_equal(server_world_tick(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).heartbeats, 1); // right after the start
    follower_open(&follower);
    for (uint64_t i = 1; i <= 100; i++) {
        count(world, i, i);
        follower_follow(&follower, world, world->published_count - 1);
        follower_equals(&follower, world);
    }
    assert_int_equal(server_world_stats(world).heartbeats, 1);
    assert_int_equal(server_world_stats(world).frames, 100);
    world->now_ms += 979;
    assert_int_equal(server_world_tick(world), TALLY_OK); // 999 ms idle
    assert_int_equal(server_world_stats(world).heartbeats, 1);
    assert_int_equal(server_world_tick(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).heartbeats, 2);
    struct tally_bytes dataset, sealed;
    enum tally_published_what what;
    struct tally_heartbeat heartbeat;
    assert_int_equal(tally_published_open(world->published[world->published_count - 1], &dataset, &what, &sealed),
                     TALLY_OK);
    assert_int_equal(what, TALLY_PUBLISHED_HEARTBEAT);
    assert_int_equal(tally_heartbeat_decode(&tally_alloc_libc, sealed, &heartbeat), TALLY_OK);
    struct tally_view_info info = follower_info(&follower);
    assert_int_equal(heartbeat.epoch, info.epoch);
    assert_int_equal(heartbeat.version, 100);
    assert_int_equal(heartbeat.now_ms, world->now_ms);
    assert_true(tally_digest_equal(heartbeat.digest, info.digest));
    tally_heartbeat_free(&tally_alloc_libc, &heartbeat);
    // The clock jumps back: record time does not, and goes on half as fast.
    uint64_t time_ms = world->now_ms;
    world->now_ms -= 3600000;
    for (uint64_t i = 101; i <= 111; i++) {
        count(world, i, i);
        follower_follow(&follower, world, world->published_count - 1);
        assert_int_equal(follower_info(&follower).cut_ms, time_ms + (i - 101) * 10);
        struct tally_record_reader record;
        assert_int_equal(tally_record_open(world->log.records[i - 1], &record), TALLY_OK);
        assert_int_equal(record.header.time_ms, time_ms + (i - 101) * 10);
    }
    follower_close(&follower);
    server_world_end(world);
}

static void test_hello_tells_what_is_durable(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    assert_int_equal(server_world_start(world), TALLY_OK);
    count(world, 1, 3);
    server_world_send(world, 1, 7, 4, "t/a"); // pending
    const uint64_t producers[] = {7, 8, 0}, expected[] = {4, 1, 0};
    for (uint64_t i = 0; i < 3; i++) {
        uint8_t bytes[128];
        struct tally_writer out = tally_writer_fixed(bytes, sizeof bytes);
        const struct tally_hello hello = {.dataset = test_text("main"), .producer = producers[i]};
        assert_int_equal(tally_hello_encode(&hello, &out), TALLY_OK);
        enum tally_endpoint endpoint = i % 2 ? TALLY_ENDPOINT_CATCH_UP : TALLY_ENDPOINT_INGEST;
        tally_server_request(world->server, endpoint, 10 + i, tally_writer_bytes(&out), world->now_ms);
        server_world_expect(world, 10 + i, TALLY_OK, 3, expected[i]);
    }
    server_world_end(world);
}

static void test_stop(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    assert_int_equal(server_world_start(world), TALLY_OK);
    server_world_send(world, 1, 7, 1, "t/a");
    assert_int_equal(tally_server_stop(world->server, world->now_ms), TALLY_OK);
    server_world_expect(world, 1, TALLY_OK, 1, 2);
    server_world_send(world, 2, 7, 2, "t/a");
    server_world_expect(world, 2, TALLY_BUSY, 1, 0);
    assert_true(said(world, TALLY_SERVER_EVENT_STOPPED));
    server_world_end(world);
}

// ---------------------------------------------------------------------------------------------------- crashes

// Killed at any time, with snapshots now and then: what was acknowledged is there once, and the followers need no whole state.
static void test_crashes_at_random(void **state)
{
    (void)state;
    struct test_random random = test_random_start("server: crashes");
    for (int round = 0; round < 6; round++) {
        struct server_world *world = server_world_make();
        struct follower follower;
        uint64_t token = 0, sequence = 1, expected = 0, epoch = 0;
        world->options.snapshot_every = test_random_between(&random, 3, 20);
        world->options.clash_mask = 0;
        assert_int_equal(server_world_start(world), TALLY_OK);
        follower_open(&follower);
        for (int i = 0; i < 200; i++) {
            char words[64];
            uint64_t amount = test_random_below(&random, 10);
            (void)snprintf(words, sizeof words, "t/a=%u t/k%u -t/k%u", (unsigned)amount,
                           (unsigned)test_random_below(&random, 9), (unsigned)test_random_below(&random, 9));
            server_world_send(world, ++token, 7, sequence, words);
            bool crash = test_random_percent(&random, 15);
            bool lost = crash && test_random_percent(&random, 50); // before the record was cut
            if (!lost) assert_int_equal(server_world_tick(world), TALLY_OK);
            if (server_world_answered(world, token)) assert_false(lost);
            if (crash) {
                server_world_crash(world);
                assert_int_equal(server_world_start(world), TALLY_OK);
                server_world_send(world, ++token, 7, sequence, words); // no answer was heard: sent again
                assert_int_equal(server_world_tick(world), TALLY_OK);
                struct tally_answer answer = server_world_answer(world, token);
                assert_int_equal(answer.status, lost ? TALLY_OK : TALLY_REPEAT);
                tally_answer_free(&tally_alloc_libc, &answer);
            }
            expected += amount;
            sequence++;
            struct tally_server_stats stats = server_world_stats(world);
            if (epoch) assert_int_equal(stats.epoch, epoch);
            epoch = stats.epoch;
            assert_int_equal(stats.version, sequence - 1);
        }
        assert_int_equal(server_world_get(world, ++token, "t", "a"), expected);
        assert_true(world->snapshots.commits >= 5);
        assert_true(world->log.first > 1); // trimmed
        follower_follow(&follower, world, 0);
        follower_equals(&follower, world); // each frame came once, in order
        follower_close(&follower);
        server_world_end(world);
    }
}

static void test_restart_gives_the_same_frames(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    struct follower follower;
    uint64_t token = 0;
    world->options.snapshot_every = 10;
    assert_int_equal(server_world_start(world), TALLY_OK);
    follower_open(&follower);
    count(world, 1, 12);
    follower_follow(&follower, world, 0); // of the first life
    count(world, 13, 17);
    server_world_crash(world);
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).snapshot_version, 10);
    // From version 12 by the frames that the replay made anew.
    uint64_t whole = server_world_stats(world).catch_ups_whole;
    follower_catch_up(&follower, world, &token);
    assert_int_equal(server_world_stats(world).catch_ups_whole, whole);
    follower_equals(&follower, world);
    follower_close(&follower);
    server_world_end(world);
}

// ---------------------------------------------------------------------------------------------------- damage

static void flip(struct tally_bytes bytes) { ((uint8_t *)(uintptr_t)bytes.data)[bytes.size / 2] ^= 4; }

static struct server_world *world_with_snapshots(uint64_t *out_epoch)
{
    struct server_world *world = server_world_make();
    world->options.snapshot_every = 10;
    assert_int_equal(server_world_start(world), TALLY_OK);
    count(world, 1, 35);
    assert_int_equal(world->snapshots.kept[0].version, 30);
    assert_int_equal(world->snapshots.kept[1].version, 20);
    assert_int_equal(world->log.first, 21);
    *out_epoch = server_world_stats(world).epoch;
    server_world_crash(world);
    return world;
}

static void expect_all(struct server_world *world, uint64_t epoch)
{
    struct tally_server_stats stats = server_world_stats(world);
    assert_int_equal(stats.version, 35);
    assert_int_equal(stats.epoch, epoch);
    assert_int_equal(server_world_get(world, 5, "t", "b"), 70);
    server_world_send(world, 6, 7, 35, "t/a");
    server_world_expect(world, 6, TALLY_REPEAT, 35, 36);
}

static void test_a_damaged_snapshot_falls_back_to_the_one_before(void **state)
{
    (void)state;
    uint64_t epoch;
    struct server_world *world = world_with_snapshots(&epoch);
    flip(tally_bytes(world->snapshots.kept[0].data, world->snapshots.kept[0].size));
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_true(said(world, TALLY_SERVER_EVENT_SNAPSHOT_REFUSED));
    expect_all(world, epoch);
    server_world_crash(world);
    flip(tally_bytes(world->snapshots.kept[1].data, world->snapshots.kept[1].size));
    assert_int_equal(server_world_start(world), TALLY_CORRUPT); // nothing leads to what is in the log
    assert_true(said(world, TALLY_SERVER_EVENT_LOG_REFUSED));
    assert_non_null(strstr(world->last_text, "begins at 21"));
    assert_int_equal(world->log.first, 21); // and nothing was touched
    server_world_end(world);
}

// One batch with `keys` new keys that are as long as they may be.
static void count_long_keys(struct server_world *world, uint64_t sequence, uint32_t keys)
{
    uint8_t key[TALLY_KEY_BYTES_MAX];
    struct test_batch batch;
    const struct tally_batch_header header = {.dataset = test_text("main"), .producer = 9, .sequence = sequence};
    test_batch_init(&batch);
    tally_batch_begin(&batch.writer, &header);
    tally_batch_table_begin(&batch.writer, test_text("long"));
    memset(key, 'k', sizeof key);
    for (uint32_t i = 0; i < keys; i++) {
        tally_store64(key, sequence << 32 | i);
        tally_batch_add(&batch.writer, tally_bytes(key, sizeof key), (int64_t)i);
    }
    tally_batch_table_end(&batch.writer);
    assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
    tally_server_request(world->server, TALLY_ENDPOINT_INGEST, 2000000 + sequence, test_batch_bytes(&batch),
                         world->now_ms);
    test_batch_free(&batch);
    assert_int_equal(server_world_tick(world), TALLY_OK);
}

// State and mirror read a snapshot at the same time: whatever of it is damaged, neither keeps anything of it.
static void test_a_snapshot_of_many_chunks_that_is_damaged_anywhere(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    world->options.snapshot_every = 4;
    world->options.snapshot_chunks = 64;
    assert_int_equal(server_world_start(world), TALLY_OK);
    for (uint64_t i = 1; i <= 9; i++) count_long_keys(world, i, 500); // about half a chunk each
    uint64_t epoch = server_world_stats(world).epoch;
    assert_int_equal(world->snapshots.kept[0].version, 8);
    assert_int_equal(world->snapshots.kept[1].version, 4);
    uint8_t *data = world->snapshots.kept[0].data;
    size_t size = world->snapshots.kept[0].size;
    assert_true(size > 3 * TALLY_CHUNK_BYTES_MAX);
    for (unsigned i = 0; i <= 32; i++) {
        size_t place = i ? (size - 20) / 32 * i : 20; // Producers, and each chunk
        server_world_crash(world);
        server_world_forget(world);
        data[place] ^= 4;
        assert_int_equal(server_world_start(world), TALLY_OK);
        data[place] ^= 4;
        assert_true(said(world, TALLY_SERVER_EVENT_SNAPSHOT_REFUSED));
        struct tally_server_stats stats = server_world_stats(world);
        assert_int_equal(stats.version, 9);
        assert_int_equal(stats.epoch, epoch);
        assert_int_equal(stats.rows, 9 * 500);
        assert_int_equal(stats.snapshot_version, 4);
    }
    for (size_t cut = size; cut > TALLY_CHUNK_BYTES_MAX / 2; cut -= TALLY_CHUNK_BYTES_MAX / 2) {
        server_world_crash(world);
        server_world_forget(world);
        world->snapshots.kept[0].size = cut - 1;
        assert_int_equal(server_world_start(world), TALLY_OK);
        world->snapshots.kept[0].size = size;
        assert_int_equal(server_world_stats(world).snapshot_version, 4);
        assert_int_equal(server_world_stats(world).rows, 9 * 500);
    }
    server_world_crash(world);
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).snapshot_version, 8);
    server_world_end(world);
}

// What a restart would have to replay is bounded in bytes, too.
static void test_much_behind_a_snapshot_makes_the_next_one(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    world->options.snapshot_every = 1000000;
    world->options.snapshot_log_bytes = 1000000;
    world->options.snapshot_chunks = 64;
    assert_int_equal(server_world_start(world), TALLY_OK);
    count_long_keys(world, 1, 500);
    assert_int_equal(server_world_stats(world).snapshot_version, 0);
    count_long_keys(world, 2, 500);
    assert_int_equal(server_world_tick(world), TALLY_OK); // begun, then written
    assert_int_equal(server_world_stats(world).snapshot_version, 2);
    for (uint64_t i = 3; i <= 6; i++) count_long_keys(world, i, 500);
    uint64_t version = server_world_stats(world).snapshot_version;
    assert_true(version == 4 || version == 5); // 1 MB, or half of 2 MB
    // What is replayed counts as well.
    server_world_crash(world);
    assert_int_equal(server_world_start(world), TALLY_OK);
    for (uint64_t i = 7; i <= 12; i++) count_long_keys(world, i, 500);
    assert_true(server_world_stats(world).snapshot_version > version);
    server_world_end(world);
}

static void test_a_damaged_record_that_a_snapshot_covers_does_no_harm(void **state)
{
    (void)state;
    uint64_t epoch;
    struct server_world *world = world_with_snapshots(&epoch);
    flip(world->log.records[3]); // version 24
    assert_int_equal(server_world_start(world), TALLY_OK);
    expect_all(world, epoch);
    server_world_end(world);
}

static void test_a_damaged_record_behind_the_snapshot_is_refused(void **state)
{
    (void)state;
    uint64_t epoch;
    struct server_world *world = world_with_snapshots(&epoch);
    flip(world->log.records[12]); // version 33
    assert_int_equal(server_world_start(world), TALLY_CORRUPT);
    assert_non_null(strstr(world->last_text, "record"));
    server_world_end(world);
}

static void expect_new_epoch(struct server_world *world, uint64_t epoch, uint64_t version)
{
    struct follower follower;
    uint64_t token = 100;
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_true(said(world, TALLY_SERVER_EVENT_CONTINUITY_LOST));
    struct tally_server_stats stats = server_world_stats(world);
    assert_true(stats.epoch > epoch);
    assert_int_equal(stats.version, version);
    uint64_t found = stats.epoch;
    // It is in the log: the next start finds the same one.
    server_world_crash(world);
    world->events[TALLY_SERVER_EVENT_CONTINUITY_LOST] = 0;
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_false(said(world, TALLY_SERVER_EVENT_CONTINUITY_LOST));
    assert_int_equal(server_world_stats(world).epoch, found);
    assert_int_equal(server_world_stats(world).version, version);
    follower_open(&follower);
    follower_catch_up(&follower, world, &token);
    follower_equals(&follower, world);
    follower_close(&follower);
}

static void test_a_lost_log_begins_a_new_epoch(void **state)
{
    (void)state;
    uint64_t epoch;
    struct server_world *world = world_with_snapshots(&epoch);
    test_log_free(&world->log);
    expect_new_epoch(world, epoch, 31);
    assert_int_equal(server_world_get(world, 5, "t", "b"), 60);
    server_world_end(world);
}

static void test_a_log_that_ends_before_the_snapshot(void **state)
{
    (void)state;
    uint64_t epoch;
    struct server_world *world = world_with_snapshots(&epoch);
    test_log_lose(&world->log, 8); // ends at 27
    expect_new_epoch(world, epoch, 31);
    server_world_end(world);
}

static void test_a_log_that_may_have_lost_its_end(void **state)
{
    (void)state;
    uint64_t epoch;
    struct server_world *world = world_with_snapshots(&epoch);
    test_log_lose(&world->log, 2);
    world->log.discontinuous = true;
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_true(said(world, TALLY_SERVER_EVENT_CONTINUITY_LOST));
    world->log.discontinuous = false;
    assert_int_equal(server_world_stats(world).version, 34);
    assert_true(server_world_stats(world).epoch > epoch);
    server_world_send(world, 9, 7, 35, "t/a"); // 34 was lost: not a guess, a hole
    server_world_expect(world, 9, TALLY_HOLE, 34, 34);
    server_world_end(world);
}

// An edge asks from a version of this epoch that is not here: this data is from before it.
static void test_an_edge_that_is_ahead_begins_a_new_epoch(void **state)
{
    (void)state;
    uint64_t epoch, token = 100;
    struct follower follower;
    struct server_world *world = world_with_snapshots(&epoch);
    follower_open(&follower);
    assert_int_equal(server_world_start(world), TALLY_OK);
    follower_catch_up(&follower, world, &token);
    follower_equals(&follower, world);
    server_world_crash(world);
    test_log_lose(&world->log, 2); // and nothing says so
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).epoch, epoch);
    assert_int_equal(server_world_stats(world).version, 33);
    // Who holds as much, or another epoch, says nothing.
    const struct tally_catch_up held[] = {{.dataset = test_text("main"), .epoch = epoch, .version = 33},
                                          {.dataset = test_text("main"), .epoch = epoch - 1, .version = 99},
                                          {.dataset = test_text("main"), .epoch = epoch + 1, .version = 99}};
    for (size_t i = 0; i < sizeof held / sizeof *held; i++) {
        struct tally_answer answer = server_world_catch_up(world, ++token, &held[i]);
        tally_answer_free(&tally_alloc_libc, &answer);
        assert_int_equal(server_world_tick(world), TALLY_OK);
        assert_int_equal(server_world_stats(world).version, 33);
    }
    assert_int_equal(follower_catch_up(&follower, world, &token), 0); // 35 of the old epoch
    assert_int_equal(server_world_stats(world).version, 33);
    // What was gathered meanwhile is counted in the same record.
    server_world_send(world, 9, 70, 1, "t/a");
    assert_int_equal(server_world_tick(world), TALLY_OK);
    assert_true(said(world, TALLY_SERVER_EVENT_CONTINUITY_LOST));
    server_world_expect(world, 9, TALLY_OK, 34, 2);
    struct tally_server_stats stats = server_world_stats(world);
    assert_int_equal(stats.version, 34);
    assert_true(stats.epoch > epoch);
    assert_true(follower_catch_up(&follower, world, &token) > 0);
    follower_equals(&follower, world);
    // Once for a process, whoever says what.
    const struct tally_catch_up lie = {.dataset = test_text("main"), .epoch = stats.epoch, .version = 1000};
    struct tally_answer answer = server_world_catch_up(world, ++token, &lie);
    tally_answer_free(&tally_alloc_libc, &answer);
    assert_int_equal(server_world_tick(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).epoch, stats.epoch);
    // It is in the log.
    server_world_crash(world);
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).epoch, stats.epoch);
    follower_equals(&follower, world);
    follower_close(&follower);
    server_world_end(world);
}

// The daemon has seen that what lies there was copied.
static void test_data_that_is_in_doubt_begins_a_new_epoch(void **state)
{
    (void)state;
    uint64_t epoch;
    struct server_world *world = world_with_snapshots(&epoch);
    world->options.doubt = "in doubt";
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_true(said(world, TALLY_SERVER_EVENT_CONTINUITY_LOST));
    assert_true(server_world_stats(world).epoch > epoch);
    assert_int_equal(server_world_stats(world).version, 36);
    assert_int_equal(server_world_get(world, 5, "t", "b"), 70);
    server_world_end(world);
    // Of what is new there is no doubt.
    world = server_world_make();
    world->options.doubt = "in doubt";
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_false(said(world, TALLY_SERVER_EVENT_CONTINUITY_LOST));
    assert_int_equal(server_world_stats(world).version, 0);
    server_world_end(world);
}

static void test_an_emptied_directory_begins_a_new_lineage(void **state)
{
    (void)state;
    uint64_t epoch;
    struct server_world *world = world_with_snapshots(&epoch);
    test_log_free(&world->log);
    test_snapshots_free(&world->snapshots);
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_true(server_world_stats(world).epoch > epoch);
    assert_int_equal(server_world_stats(world).version, 0);
    server_world_send(world, 9, 7, 36, "t/a");
    server_world_expect(world, 9, TALLY_UNKNOWN_PRODUCER, 0, 1);
    server_world_end(world);
}

static void test_a_log_of_another(void **state)
{
    (void)state;
    uint64_t epoch;
    struct server_world *world = world_with_snapshots(&epoch);
    world->options.dataset = test_text("other");
    assert_int_equal(server_world_start(world), TALLY_WRONG_DATASET);
    server_world_crash(world);
    world->options.dataset = test_text("main");
    world->log.identity.lineage++; // snapshots of another log
    assert_int_equal(server_world_start(world), TALLY_CORRUPT);
    server_world_end(world);
}

// ---------------------------------------------------------------------------------------------------- failures

static void test_a_failed_append_stops_it(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    assert_int_equal(server_world_start(world), TALLY_OK);
    count(world, 1, 3);
    size_t published = world->published_count;
    world->log.fail_append = TALLY_NO_SPACE;
    server_world_send(world, 1, 7, 4, "t/a");
    assert_int_equal(server_world_tick(world), TALLY_NO_SPACE);
    assert_int_equal(server_world_tick(world), TALLY_NO_SPACE);
    assert_false(server_world_answered(world, 1));
    assert_int_equal(world->published_count, published);
    assert_true(said(world, TALLY_SERVER_EVENT_APPEND_FAILED));
    server_world_send(world, 2, 8, 1, "t/a");
    server_world_expect(world, 2, TALLY_BUSY, 3, 0);
    server_world_crash(world);
    world->log.fail_append = TALLY_OK;
    assert_int_equal(server_world_start(world), TALLY_OK);
    server_world_send(world, 3, 7, 4, "t/a");
    assert_int_equal(server_world_tick(world), TALLY_OK);
    server_world_expect(world, 3, TALLY_OK, 4, 5);
    server_world_end(world);
}

static void test_a_failed_snapshot_does_not(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    world->options.snapshot_every = 5;
    world->snapshots.fail_commit = TALLY_NO_SPACE;
    assert_int_equal(server_world_start(world), TALLY_OK);
    count(world, 1, 30);
    assert_true(world->events[TALLY_SERVER_EVENT_SNAPSHOT_FAILED] >= 3);
    assert_int_equal(world->log.first, 1); // the log keeps everything
    world->snapshots.fail_commit = TALLY_OK;
    count(world, 31, 60);
    assert_true(world->snapshots.commits >= 2);
    assert_true(world->log.first > 1);
    server_world_end(world);
}

// Somebody who reads for ever: versions wait, nothing is lost, and when the view is let go all comes at once.
static void test_a_reader_that_holds_everything(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    struct tally_reader reader;
    struct tally_view view;
    world->memory_bytes = 8u << 20;
    assert_int_equal(server_world_start(world), TALLY_OK);
    count(world, 1, 1);
    assert_int_equal(tally_reader_open(tally_server_mirror(world->server), &reader), TALLY_OK);
    tally_view_pin(&reader, &view);
    uint64_t token = 0, sequence = 2;
    for (; !said(world, TALLY_SERVER_EVENT_MIRROR_STALLED) && token < 3000; sequence++) {
        server_world_send(world, ++token, 7, sequence, "t/a");
        enum tally_status status = server_world_tick(world);
        if (status) break;
    }
    if (said(world, TALLY_SERVER_EVENT_MIRROR_STALLED)) {
        assert_false(server_world_answered(world, token)); // durable, but not verified yet
        server_world_send(world, ++token, 7, sequence, "t/a");
        struct tally_answer answer = server_world_answer(world, token);
        assert_int_equal(answer.status, TALLY_BUSY);
        tally_answer_free(&tally_alloc_libc, &answer);
        tally_view_unpin(&view);
        assert_int_equal(server_world_tick(world), TALLY_OK);
        server_world_expect(world, token - 1, TALLY_OK, sequence - 1, sequence);
        count(world, sequence, sequence + 3);
    } else {
        fail_msg("the mirror never stalled");
    }
    tally_reader_close(&reader);
    server_world_end(world);
}

// One life of a server whose fingerprints have ten bits. Returns how many epochs it began.
static uint64_t clashing_life(struct test_random *random)
{
    struct server_world *world = server_world_make();
    struct follower follower;
    struct model_feed feed = {.random = random, .producers = 5, .tables = 2, .keys = 60, .remove_percent = 40};
    uint64_t token = 0;
    world->options.clash_mask = 0x3ff;
    world->options.snapshot_every = 15;
    world->options.seed_new.k0 = test_random_next(random);
    assert_int_equal(server_world_start(world), TALLY_OK);
    uint64_t epoch = server_world_stats(world).epoch;
    follower_open(&follower);
    for (int i = 0; i < 80; i++) {
        struct test_batch batch;
        struct tally_bytes message;
        model_feed_batch(&feed, &batch, &message);
        tally_server_request(world->server, TALLY_ENDPOINT_INGEST, ++token, test_batch_bytes(&batch), world->now_ms);
        test_batch_free(&batch);
        size_t from = world->published_count;
        assert_int_equal(server_world_tick(world), TALLY_OK);
        follower_follow(&follower, world, from);
        follower_equals(&follower, world);
        if (i % 30 == 29) {
            struct tally_server_stats before = server_world_stats(world);
            server_world_crash(world);
            assert_int_equal(server_world_start(world), TALLY_OK);
            struct tally_server_stats after = server_world_stats(world);
            assert_int_equal(before.epoch, after.epoch);
            assert_true(tally_digest_equal(before.digest, after.digest));
        }
    }
    uint64_t epochs = server_world_stats(world).epoch - epoch;
    follower_close(&follower);
    server_world_end(world);
    return epochs;
}

static void test_clashes_are_published_as_whole_states(void **state)
{
    (void)state;
    struct test_random random = test_random_start("server: clashes");
    uint64_t epochs = 0;
    for (int life = 0; life < 16; life++) epochs += clashing_life(&random);
    assert_true(epochs > 0);
}

// ---------------------------------------------------------------------------------------------------- out of memory

// Everything a server does, with the nth allocation failing: no acknowledgement is lost, no leak, and the next process has it all.
static void test_the_nth_allocation_fails(void **state)
{
    (void)state;
    for (size_t nth = 1;; nth++) {
        struct server_world *world = server_world_make();
        uint64_t acknowledged = 0, token = 0;
        world->options.snapshot_every = 4;
        world->alloc.fail_at = nth;
        enum tally_status status = server_world_start(world);
        for (uint64_t sequence = 1; sequence <= 12 && !status; sequence++) {
            char words[128];
            (void)snprintf(words, sizeof words, "t/a t/k%u u%u/x -t/k%u", (unsigned)sequence, (unsigned)sequence % 3,
                           (unsigned)sequence - 1);
            bool done = false;
            while (!done && !status) {
                server_world_send(world, ++token, 7, sequence, words);
                status = server_world_tick(world);
                if (!server_world_answered(world, token)) break;
                struct tally_answer answer = server_world_answer(world, token);
                done = answer.status == TALLY_OK || answer.status == TALLY_REPEAT;
                if (!done) assert_true(answer.status == TALLY_BUSY || answer.status == TALLY_NO_MEMORY);
                tally_answer_free(&tally_alloc_libc, &answer);
            }
            if (done) acknowledged = sequence;
            if (!status && sequence == 6) {
                uint8_t bytes[256];
                struct tally_writer out = tally_writer_fixed(bytes, sizeof bytes);
                const struct tally_catch_up ask = {
                    .dataset = test_text("main"), .epoch = server_world_stats(world).epoch, .version = 2};
                assert_int_equal(tally_catch_up_encode(&ask, &out), TALLY_OK);
                tally_server_request(world->server, TALLY_ENDPOINT_CATCH_UP, ++token, tally_writer_bytes(&out),
                                     world->now_ms);
                assert_true(server_world_answered(world, token));
            }
        }
        bool all = !status && world->alloc.requests < nth;
        if (status) assert_int_equal(status, TALLY_NO_MEMORY);
        if (world->server) server_world_crash(world);
        assert_int_equal(world->alloc.blocks, 0);
        world->alloc.fail_at = 0;
        assert_int_equal(server_world_start(world), TALLY_OK);
        int64_t counted = server_world_get(world, ++token, "t", "a");
        if (counted < 0) counted = 0;
        // What was cut when memory ended is durable and may not have been acknowledged.
        assert_true((uint64_t)counted >= acknowledged && (uint64_t)counted <= acknowledged + 1);
        server_world_end(world);
        if (all) {
            print_message("# %u allocations\n", (unsigned)nth - 1);
            return;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_and_heartbeats),
        cmocka_unit_test(test_hello_tells_what_is_durable),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_crashes_at_random),
        cmocka_unit_test(test_restart_gives_the_same_frames),
        cmocka_unit_test(test_a_damaged_snapshot_falls_back_to_the_one_before),
        cmocka_unit_test(test_a_snapshot_of_many_chunks_that_is_damaged_anywhere),
        cmocka_unit_test(test_much_behind_a_snapshot_makes_the_next_one),
        cmocka_unit_test(test_a_damaged_record_that_a_snapshot_covers_does_no_harm),
        cmocka_unit_test(test_a_damaged_record_behind_the_snapshot_is_refused),
        cmocka_unit_test(test_a_lost_log_begins_a_new_epoch),
        cmocka_unit_test(test_a_log_that_ends_before_the_snapshot),
        cmocka_unit_test(test_a_log_that_may_have_lost_its_end),
        cmocka_unit_test(test_an_edge_that_is_ahead_begins_a_new_epoch),
        cmocka_unit_test(test_data_that_is_in_doubt_begins_a_new_epoch),
        cmocka_unit_test(test_an_emptied_directory_begins_a_new_lineage),
        cmocka_unit_test(test_a_log_of_another),
        cmocka_unit_test(test_a_failed_append_stops_it),
        cmocka_unit_test(test_a_failed_snapshot_does_not),
        cmocka_unit_test(test_a_reader_that_holds_everything),
        cmocka_unit_test(test_clashes_are_published_as_whole_states),
        cmocka_unit_test(test_the_nth_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
