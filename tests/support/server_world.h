// SPDX-License-Identifier: Apache-2.0
//
// A server's core over a log and a snapshot store in memory, with everything that it said written down. Include after cmocka.
#ifndef TALLY_TEST_SERVER_WORLD_H
#define TALLY_TEST_SERVER_WORLD_H

#include <messages/messages.h>
#include <server/src/server.h>
#include <tallycast/memory.h>

#include "build.h"
#include "log_memory.h"
#include "random.h"

#define WORLD_REPLIES  4096
#define WORLD_MESSAGES 4096

struct world_reply {
    uint64_t token;
    uint8_t *data;
    size_t size;
};

struct server_world {
    struct test_log log;
    struct test_snapshots snapshots;
    struct test_alloc alloc;
    struct tally_memory memory;
    struct tally_server *server;
    struct tally_server_options options;
    uint64_t memory_bytes;
    struct world_reply replies[WORLD_REPLIES];
    size_t replies_count;
    struct tally_bytes published[WORLD_MESSAGES]; // topic and all
    size_t published_count;
    unsigned events[64];
    char last_text[256];
    uint64_t now_ms;
};

static inline void world_publish(void *ctx, struct tally_bytes message)
{
    struct server_world *world = ctx;
    assert_true(world->published_count < WORLD_MESSAGES);
    world->published[world->published_count++] = tally_bytes(test_exact_copy(message.data, message.size), message.size);
}

static inline void world_reply(void *ctx, uint64_t token, struct tally_bytes answer)
{
    struct server_world *world = ctx;
    assert_true(world->replies_count < WORLD_REPLIES);
    for (size_t i = 0; i < world->replies_count; i++) assert_true(world->replies[i].token != token);
    world->replies[world->replies_count++] =
        (struct world_reply){.token = token, .data = test_exact_copy(answer.data, answer.size), .size = answer.size};
}

static inline void world_event(void *ctx, const struct tally_server_event *event)
{
    struct server_world *world = ctx;
    world->events[event->kind]++;
    (void)snprintf(world->last_text, sizeof world->last_text, "%s: %s", event->name, event->text);
    if (getenv("TALLY_VERBOSE"))
        print_message("# %s status=%d epoch=%llx version=%llu count=%llu %s\n", event->name, (int)event->status,
                      (unsigned long long)event->epoch, (unsigned long long)event->version,
                      (unsigned long long)event->count, event->text);
}

// The other way round than without it.
static inline void world_both(void *ctx, void (*one)(void *), void *one_ctx, void (*other)(void *), void *other_ctx)
{
    (void)ctx;
    other(other_ctx);
    one(one_ctx);
}

static const struct tally_server_ops world_ops = {
    .publish = world_publish, .reply = world_reply, .event = world_event, .both = world_both};

static inline struct server_world *server_world_make(void)
{
    struct server_world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->log = test_log();
    world->snapshots = test_snapshots();
    test_alloc_init(&world->alloc);
    world->memory_bytes = 256u << 20;
    world->now_ms = 1790000000000u;
    world->options = (struct tally_server_options){.dataset = test_text("main"),
                                                   .epoch_new = world->now_ms << 20 | 5,
                                                   .seed_new = {11, 22},
                                                   .snapshot_every = 1000000};
    return world;
}

// A new process on what is there: creates and recovers.
static inline enum tally_status server_world_start(struct server_world *world)
{
    struct tally_snapshot_store *store = &world->snapshots.store;
    assert_int_equal(tally_memory_map(world->memory_bytes, 0, &world->memory), TALLY_OK);
    world->options.epoch_new++; // drawn anew each time
    enum tally_status status = tally_server_create(&world->options, &world->log.log, store, &world->memory, &world_ops,
                                                   world, &world->alloc.alloc, &world->server);
    if (status) {
        tally_memory_unmap(&world->memory);
        return status;
    }
    return tally_server_recover(world->server, world->now_ms);
}

// The process ends, by whatever; log and snapshots stay.
static inline void server_world_crash(struct server_world *world)
{
    tally_server_destroy(&world->server);
    tally_memory_unmap(&world->memory);
    assert_int_equal(world->alloc.blocks, 0);
    test_snapshots_abort(&world->snapshots.store);
}

static inline void server_world_forget(struct server_world *world)
{
    for (size_t i = 0; i < world->replies_count; i++) free(world->replies[i].data);
    for (size_t i = 0; i < world->published_count; i++) free((void *)(uintptr_t)world->published[i].data);
    world->replies_count = world->published_count = 0;
}

static inline void server_world_end(struct server_world *world)
{
    if (world->server) server_world_crash(world);
    server_world_forget(world);
    test_log_free(&world->log);
    test_snapshots_free(&world->snapshots);
    free(world);
}

static inline enum tally_status server_world_tick(struct server_world *world)
{
    world->now_ms += 20;
    return tally_server_tick(world->server, world->now_ms);
}

static inline struct tally_server_stats server_world_stats(struct server_world *world)
{
    struct tally_server_stats stats;
    tally_server_stats(world->server, &stats);
    return stats;
}

// ---------------------------------------------------------------------------------------------------- asking

// The answer to `token`; asserts that there is one. Free it with tally_answer_free.
static inline struct tally_answer server_world_answer(struct server_world *world, uint64_t token)
{
    struct tally_answer answer;
    for (size_t i = 0; i < world->replies_count; i++) {
        if (world->replies[i].token != token) continue;
        struct tally_bytes bytes = tally_bytes(world->replies[i].data, world->replies[i].size);
        assert_int_equal(tally_answer_decode(&tally_alloc_libc, bytes, &answer), TALLY_OK);
        return answer;
    }
    fail_msg("no answer to %llu", (unsigned long long)token);
    return (struct tally_answer){0};
}

static inline bool server_world_answered(const struct server_world *world, uint64_t token)
{
    for (size_t i = 0; i < world->replies_count; i++) {
        if (world->replies[i].token == token) return true;
    }
    return false;
}

// Asserts the outcome of a batch, or of anything else with a status.
static inline void server_world_expect(struct server_world *world, uint64_t token, enum tally_status status,
                                       uint64_t version, uint64_t expected)
{
    struct tally_answer answer = server_world_answer(world, token);
    assert_int_equal(answer.status, status);
    assert_int_equal(answer.version, version);
    assert_int_equal(answer.expected_sequence, expected);
    tally_answer_free(&tally_alloc_libc, &answer);
}

// A request with one batch: `words` are "table/key" (adds 1), "table/key=5", "-table/key".
static inline struct tally_bytes server_world_words(struct test_batch *batch, uint64_t producer, uint64_t sequence,
                                                    const char *words)
{
    char text[512], *save = NULL;
    (void)snprintf(text, sizeof text, "%s", words);
    test_batch_init(batch);
    const struct tally_batch_header header = {.dataset = test_text("main"), .producer = producer, .sequence = sequence};
    tally_batch_begin(&batch->writer, &header);
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        bool removed = *word == '-';
        char *table = word + removed, *key = strchr(table, '/'), *amount = strchr(table, '=');
        *key++ = 0;
        if (amount) *amount++ = 0;
        tally_batch_table_begin(&batch->writer, test_text(table));
        if (removed)
            tally_batch_remove(&batch->writer, test_text(key));
        else
            tally_batch_add(&batch->writer, test_text(key), amount ? strtoll(amount, NULL, 10) : 1);
        tally_batch_table_end(&batch->writer);
    }
    assert_int_equal(tally_batch_finish(&batch->writer), TALLY_OK);
    return test_batch_bytes(batch);
}

static inline void server_world_send(struct server_world *world, uint64_t token, uint64_t producer, uint64_t sequence,
                                     const char *words)
{
    struct test_batch batch;
    struct tally_bytes request = server_world_words(&batch, producer, sequence, words);
    tally_server_request(world->server, TALLY_ENDPOINT_INGEST, token, request, world->now_ms);
    test_batch_free(&batch);
}

static inline struct tally_answer server_world_catch_up(struct server_world *world, uint64_t token,
                                                        const struct tally_catch_up *catch_up)
{
    uint8_t bytes[512];
    struct tally_writer out = tally_writer_fixed(bytes, sizeof bytes);
    assert_int_equal(tally_catch_up_encode(catch_up, &out), TALLY_OK);
    tally_server_request(world->server, TALLY_ENDPOINT_CATCH_UP, token, tally_writer_bytes(&out), world->now_ms);
    return server_world_answer(world, token);
}

// The value of a key by a Query; -1: not found.
static inline int64_t server_world_get(struct server_world *world, uint64_t token, const char *table, const char *key)
{
    uint8_t bytes[512];
    struct tally_writer out = tally_writer_fixed(bytes, sizeof bytes);
    struct tally_bytes name = test_text(key);
    const struct tally_query query = {
        .dataset = test_text("main"), .table = test_text(table), .keys = &name, .keys_count = 1};
    assert_int_equal(tally_query_encode(&query, &out), TALLY_OK);
    tally_server_request(world->server, TALLY_ENDPOINT_CATCH_UP, token, tally_writer_bytes(&out), world->now_ms);
    struct tally_answer answer = server_world_answer(world, token);
    assert_int_equal(answer.status, TALLY_OK);
    assert_int_equal(answer.values_count, 1);
    int64_t value = answer.found[0] ? answer.values[0] : -1;
    tally_answer_free(&tally_alloc_libc, &answer);
    return value;
}

// ---------------------------------------------------------------------------------------------------- a follower

struct follower {
    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_reader reader;
};

static inline void follower_open(struct follower *follower)
{
    const struct tally_mirror_options options = {.dataset = test_text("main")};
    assert_int_equal(tally_memory_map(256u << 20, 0, &follower->memory), TALLY_OK);
    assert_int_equal(tally_mirror_init(&follower->memory, &options, &follower->mirror), TALLY_OK);
    assert_int_equal(tally_reader_open(follower->mirror, &follower->reader), TALLY_OK);
}

static inline void follower_close(struct follower *follower)
{
    tally_reader_close(&follower->reader);
    tally_memory_unmap(&follower->memory);
}

static inline struct tally_view_info follower_info(struct follower *follower)
{
    struct tally_view view;
    struct tally_view_info info;
    tally_view_pin(&follower->reader, &view);
    tally_view_info(&view, &info);
    tally_view_unpin(&view);
    return info;
}

static inline enum tally_status follower_apply(struct follower *follower, struct tally_bytes frame)
{
    return tally_mirror_apply(follower->mirror, &follower->memory, frame);
}

// Asks until nothing is newer. Returns the number of answers with a frame. Tokens from *token on.
static inline unsigned follower_catch_up(struct follower *follower, struct server_world *world, uint64_t *token)
{
    unsigned answers = 0;
    struct tally_catch_up catch_up = {.dataset = test_text("main")};
    for (;;) {
        struct tally_view_info info = follower_info(follower);
        catch_up.epoch = info.epoch;
        catch_up.version = info.version;
        struct tally_answer answer = server_world_catch_up(world, ++*token, &catch_up);
        assert_int_equal(answer.status, TALLY_OK);
        bool done = answer.frame.size == 0;
        if (!done) {
            enum tally_status status = follower_apply(follower, answer.frame);
            assert_int_equal(status, answer.has_cursor ? TALLY_MORE : TALLY_OK);
            answers++;
        }
        catch_up.has_cursor = answer.has_cursor;
        catch_up.cursor = answer.cursor;
        tally_answer_free(&tally_alloc_libc, &answer);
        if (done) return answers;
    }
}

// The follower holds what the server has.
static inline void follower_equals(struct follower *follower, struct server_world *world)
{
    struct tally_view_info info = follower_info(follower);
    struct tally_server_stats stats = server_world_stats(world);
    assert_int_equal(info.epoch, stats.epoch);
    assert_int_equal(info.version, stats.version);
    assert_true(tally_digest_equal(info.digest, stats.digest));
}

// Applies what was published from the `from`th message on. Frames that do not follow are skipped.
static inline void follower_follow(struct follower *follower, struct server_world *world, size_t from)
{
    for (size_t i = from; i < world->published_count; i++) {
        struct tally_bytes dataset, sealed;
        enum tally_published_what what;
        assert_int_equal(tally_published_open(world->published[i], &dataset, &what, &sealed), TALLY_OK);
        assert_true(tally_bytes_equal(dataset, test_text("main")));
        if (what == TALLY_PUBLISHED_FRAME) (void)follower_apply(follower, sealed);
    }
}

#endif
