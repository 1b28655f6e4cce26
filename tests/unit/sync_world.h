// SPDX-License-Identifier: Apache-2.0
//
// A small world for the tests of the sync core: servers that keep one number a version and publish real
// frames of it, and a naive mirror that verifies them. One table, one row (id 0, key "k"); the whole state
// can be cut into `chunks` frames that each add one row of 0 but the first. Digest of a state: the digest of
// its number, told apart by version.
#ifndef TALLY_TEST_SYNC_WORLD_H
#define TALLY_TEST_SYNC_WORLD_H

#include "../support/build.h"
#include "../support/random.h"

#include <edge/src/sync.h>
#include <messages/messages.h>
#include <stdio.h>

#define WORLD_VERSIONS 4096
#define WORLD_SERVERS  3

static inline struct tally_digest world_digest(uint64_t epoch, uint64_t version, int64_t value)
{
    return (struct tally_digest){tally_mix64((uint64_t)value + epoch), tally_mix64(version + 1)};
}

// ---------------------------------------------------------------------------------------------------- frames

struct world_blob {
    uint8_t *data;
    size_t size;
};

static inline struct tally_bytes world_bytes(struct world_blob blob) { return tally_bytes(blob.data, blob.size); }

static inline struct world_blob world_frame(const char *dataset, uint64_t epoch, uint64_t from, uint64_t to,
                                            int64_t before, int64_t after, uint64_t cut_ms, uint32_t chunk, bool more)
{
    struct test_frame frame;
    test_frame_init(&frame);
    struct tally_frame_header header = {.dataset = test_text(dataset),
                                        .epoch = epoch,
                                        .from = from,
                                        .to = to,
                                        .cut_ms = cut_ms,
                                        .digest = world_digest(epoch, to, after),
                                        .rows = 1,
                                        .seed = {1, 2},
                                        .chunk = chunk,
                                        .more = more};
    tally_frame_begin(&frame.writer, &header);
    tally_frame_table_begin(&frame.writer, 0, from ? (struct tally_bytes){0} : test_text("t"), TALLY_KIND_COUNTER);
    if (from)
        tally_frame_changed(&frame.writer, 0, after - before);
    else
        tally_frame_added(&frame.writer, chunk, test_text("k"), chunk ? 0 : after);
    tally_frame_table_end(&frame.writer);
    if (tally_frame_finish(&frame.writer) != TALLY_OK) abort();
    struct tally_bytes bytes = test_frame_bytes(&frame);
    struct world_blob blob = {test_exact_copy(bytes.data, bytes.size), bytes.size};
    test_frame_free(&frame);
    return blob;
}

// ---------------------------------------------------------------------------------------------------- mirror

struct world_mirror {
    struct tally_view_info info;
    int64_t value;
    bool staged;
    uint64_t staged_epoch, staged_version;
    uint32_t staged_chunks;
    int64_t staged_value;
    enum tally_status fail; // the next `fail_count` applies give this
    unsigned fail_count;
    unsigned applies, abandons;
};

static inline enum tally_status world_mirror_take(struct world_mirror *mirror, const struct tally_frame_header *header,
                                                  int64_t sum)
{
    if (!tally_digest_equal(world_digest(header->epoch, header->to, sum), header->digest)) return TALLY_DIGEST_MISMATCH;
    mirror->value = sum;
    mirror->info.epoch = header->epoch;
    mirror->info.version = header->to;
    mirror->info.cut_ms = mirror->info.fresh_ms = header->cut_ms;
    mirror->info.digest = header->digest;
    mirror->info.rows = 1;
    return TALLY_OK;
}

static inline enum tally_status world_mirror_apply(struct world_mirror *mirror, struct tally_bytes frame)
{
    mirror->applies++;
    bool staged = mirror->staged;
    mirror->staged = false; // but for a good chunk
    if (mirror->fail_count) {
        mirror->fail_count--;
        return mirror->fail;
    }
    struct tally_frame_reader reader;
    enum tally_status status = tally_frame_open(frame, &reader);
    if (status != TALLY_OK) return status;
    const struct tally_frame_header *header = &reader.header;
    if (!tally_bytes_equal(header->dataset, test_text("main"))) return TALLY_WRONG_DATASET;
    if (header->epoch < mirror->info.epoch ||
        (header->epoch == mirror->info.epoch && header->to <= mirror->info.version))
        return TALLY_OLD;
    struct tally_table_reader table;
    int64_t sum = header->from ? mirror->value : header->chunk ? mirror->staged_value : 0;
    if (tally_frame_next_table(&reader, &table) == TALLY_OK) {
        uint32_t id;
        int64_t number;
        struct tally_bytes key;
        if (tally_table_next_changed(&table, &id, &number) == TALLY_OK) sum += number;
        if (tally_table_next_added(&table, &id, &key, &number) == TALLY_OK) sum += number;
    }
    if (header->from) {
        if (header->epoch != mirror->info.epoch) return TALLY_WRONG_EPOCH;
        if (header->from != mirror->info.version) return TALLY_GAP;
        return world_mirror_take(mirror, header, sum);
    }
    if (header->chunk && (!staged || header->chunk != mirror->staged_chunks || header->epoch != mirror->staged_epoch ||
                          header->to != mirror->staged_version))
        return TALLY_GAP;
    if (!header->more) return world_mirror_take(mirror, header, sum);
    mirror->staged = true;
    mirror->staged_epoch = header->epoch;
    mirror->staged_version = header->to;
    mirror->staged_chunks = header->chunk + 1;
    mirror->staged_value = sum;
    return TALLY_MORE;
}

// ---------------------------------------------------------------------------------------------------- servers

struct world_server {
    uint64_t epoch, version;
    int64_t values[WORLD_VERSIONS];
    uint64_t cut_ms[WORLD_VERSIONS];
    uint64_t retention; // deltas from so many versions back
    uint32_t chunks;    // of a whole state
    bool sick;          // cuts deltas that do not verify
};

static inline void world_server_init(struct world_server *server, uint64_t epoch)
{
    *server = (struct world_server){.epoch = epoch, .retention = 64, .chunks = 1};
}

static inline struct world_blob world_topic(char what, struct tally_bytes sealed)
{
    struct tally_writer out = test_writer();
    tally_published_begin(&out, test_text("main"), (enum tally_published_what)what);
    tally_write_raw(&out, sealed.data, sealed.size);
    struct world_blob blob = {test_exact_copy(out.data, out.size), out.size};
    test_writer_free(&out);
    return blob;
}

// The published message of the frame (from -> to).
static inline struct world_blob world_published(const struct world_server *server, uint64_t from, uint64_t to)
{
    struct world_blob frame = world_frame("main", server->epoch, from, to, server->values[from], server->values[to],
                                          server->cut_ms[to], 0, false);
    if (server->sick && from) {
        free(frame.data);
        // The difference is off by one, the digest is right.
        struct test_frame bad;
        test_frame_init(&bad);
        struct tally_frame_header header = {.dataset = test_text("main"),
                                            .epoch = server->epoch,
                                            .from = from,
                                            .to = to,
                                            .cut_ms = server->cut_ms[to],
                                            .rows = 1,
                                            .digest = world_digest(server->epoch, to, server->values[to])};
        tally_frame_begin(&bad.writer, &header);
        tally_frame_table_begin(&bad.writer, 0, (struct tally_bytes){0}, TALLY_KIND_COUNTER);
        tally_frame_changed(&bad.writer, 0, server->values[to] - server->values[from] + 1);
        tally_frame_table_end(&bad.writer);
        if (tally_frame_finish(&bad.writer) != TALLY_OK) abort();
        frame = (struct world_blob){test_exact_copy(bad.out.data, bad.out.size), bad.out.size};
        test_frame_free(&bad);
    }
    struct world_blob message = world_topic('F', world_bytes(frame));
    free(frame.data);
    return message;
}

// Cuts the next version.
static inline void world_server_cut(struct world_server *server, int64_t increment, uint64_t unix_ms)
{
    uint64_t version = server->version + 1;
    if (version >= WORLD_VERSIONS) abort();
    server->values[version] = server->values[server->version] + increment;
    server->cut_ms[version] = unix_ms;
    server->version = version;
}

static inline struct world_blob world_heartbeat(const struct world_server *server, uint64_t unix_ms)
{
    struct tally_writer out = test_writer();
    struct tally_heartbeat beat = {.dataset = test_text("main"),
                                   .epoch = server->epoch,
                                   .version = server->version,
                                   .digest =
                                       world_digest(server->epoch, server->version, server->values[server->version]),
                                   .now_ms = unix_ms};
    if (tally_heartbeat_encode(&beat, &out) != TALLY_OK) abort();
    struct world_blob message = world_topic('H', tally_writer_bytes(&out));
    test_writer_free(&out);
    return message;
}

// What the catch-up endpoint answers.
static inline struct world_blob world_answer(const struct world_server *server, const struct tally_catch_up *ask)
{
    struct tally_answer answer = {.dataset = test_text("main"), .epoch = server->epoch, .version = server->version};
    struct world_blob frame = {0};
    uint64_t to = server->version;
    if (ask->has_cursor && (ask->cursor.epoch != server->epoch || ask->cursor.version + server->retention < to)) {
        answer.status = TALLY_GONE;
        answer.message = test_text("let go");
    } else if (ask->has_cursor) {
        to = ask->cursor.version;
        bool more = ask->cursor.chunk + 1 < server->chunks;
        frame = world_frame("main", server->epoch, 0, to, 0, server->values[to], server->cut_ms[to], ask->cursor.chunk,
                            more);
        answer.has_cursor = more;
        answer.cursor = ask->cursor;
        answer.cursor.chunk++;
    } else if (ask->epoch == server->epoch && ask->version && ask->version == to) {
        // current
    } else if (ask->epoch == server->epoch && ask->version && ask->version + server->retention >= to &&
               ask->version < to) {
        struct world_blob message = world_published(server, ask->version, to);
        frame = (struct world_blob){test_exact_copy(message.data + 6, message.size - 6), message.size - 6};
        free(message.data);
    } else if (to) {
        bool more = server->chunks > 1;
        frame = world_frame("main", server->epoch, 0, to, 0, server->values[to], server->cut_ms[to], 0, more);
        answer.has_cursor = more;
        answer.cursor = (struct tally_whole_cursor){.epoch = server->epoch, .version = to, .chunk = 1};
    }
    answer.frame = world_bytes(frame);
    struct tally_writer out = test_writer();
    if (tally_answer_encode(&answer, &out) != TALLY_OK) abort();
    struct world_blob blob = {test_exact_copy(out.data, out.size), out.size};
    test_writer_free(&out);
    free(frame.data);
    return blob;
}

// ---------------------------------------------------------------------------------------------------- the
// edge's side

struct world {
    struct world_mirror mirror;
    struct test_alloc memory;
    struct tally_sync *sync;
    struct tally_sync_now now;
    struct world_server servers[WORLD_SERVERS];

    // The last request: not answered yet.
    bool asked;
    uint32_t asked_server;
    uint64_t request;
    struct tally_catch_up ask;      // its dataset is not kept
    unsigned sends, sends_at_apply; // ... when the last frame came to the mirror
    enum tally_status send_status;

    unsigned events[16];
    struct tally_sync_event last[16];
    unsigned deltas, rebases;
};

static inline enum tally_status world_op_apply(void *ctx, struct tally_bytes frame)
{
    struct world *world = ctx;
    struct tally_view_info before = world->mirror.info;
    world->sends_at_apply = world->sends;
    enum tally_status status = world_mirror_apply(&world->mirror, frame);
    const struct tally_view_info *after = &world->mirror.info;
    if (after->epoch < before.epoch || (after->epoch == before.epoch && after->version < before.version)) abort();
    return status;
}

static inline void world_op_confirm(void *ctx, uint64_t epoch, uint64_t version, uint64_t now_ms)
{
    struct tally_view_info *info = &((struct world *)ctx)->mirror.info;
    if (info->epoch == epoch && info->version == version && now_ms > info->fresh_ms) info->fresh_ms = now_ms;
}

static inline void world_op_abandon(void *ctx)
{
    struct world *world = ctx;
    world->mirror.staged = false;
    world->mirror.abandons++;
}

static inline void world_op_held(void *ctx, struct tally_view_info *out_info)
{
    *out_info = ((struct world *)ctx)->mirror.info;
}

static inline enum tally_status world_op_send(void *ctx, uint32_t server, uint64_t request, struct tally_bytes bytes)
{
    struct world *world = ctx;
    world->sends++;
    struct tally_request decoded;
    if (tally_request_decode(&tally_alloc_libc, bytes, &decoded) != TALLY_OK) abort();
    if (decoded.what != TALLY_REQUEST_CATCH_UP) abort();
    if (!tally_bytes_equal(decoded.catch_up.dataset, test_text("main"))) abort();
    world->ask = decoded.catch_up;
    tally_request_free(&tally_alloc_libc, &decoded);
    if (world->send_status != TALLY_OK) return world->send_status;
    world->asked = true;
    world->asked_server = server;
    world->request = request;
    return TALLY_OK;
}

static inline void world_op_persist(void *ctx, enum tally_sync_persist kind, struct tally_bytes frame)
{
    struct world *world = ctx;
    if (kind == TALLY_SYNC_PERSIST_DELTA) {
        if (!frame.size) abort();
        world->deltas++;
    } else {
        world->rebases++;
    }
}

static inline void world_op_event(void *ctx, const struct tally_sync_event *event)
{
    struct world *world = ctx;
    world->events[event->kind]++;
    world->last[event->kind] = *event;
    if (getenv("WORLD_VERBOSE"))
        printf("#  %llu event %d server %d status %d %d->%d version %llu count %llu\n",
               (unsigned long long)world->now.monotonic_ms, event->kind, (int)event->server, event->status,
               event->state_from, event->state_to, (unsigned long long)event->version,
               (unsigned long long)event->count);
}

static const struct tally_sync_ops world_ops = {.apply = world_op_apply,
                                                .confirm = world_op_confirm,
                                                .abandon = world_op_abandon,
                                                .held = world_op_held,
                                                .send = world_op_send,
                                                .persist = world_op_persist,
                                                .event = world_op_event};

static inline enum tally_status world_try_init(struct world *world, uint32_t servers, struct tally_sync_options options)
{
    *world = (struct world){.now = {1000, 1700000000000}};
    test_alloc_init(&world->memory);
    for (uint32_t i = 0; i < WORLD_SERVERS; i++) world_server_init(&world->servers[i], 100);
    options.dataset = test_text("main");
    options.servers = servers;
    options.random = 7;
    return tally_sync_create(&options, &world_ops, world, &world->memory.alloc, &world->sync);
}

static inline void world_message(struct world *world, uint32_t server, struct world_blob message)
{
    tally_sync_message(world->sync, world->now, server, world_bytes(message));
    free(message.data);
}

static inline void world_publish(struct world *world, uint32_t server, uint64_t from, uint64_t to)
{
    world_message(world, server, world_published(&world->servers[server], from, to));
}

// Answers the open request as its server would.
static inline void world_answer_now(struct world *world)
{
    if (!world->asked) abort();
    world->asked = false;
    struct world_blob answer = world_answer(&world->servers[world->asked_server], &world->ask);
    tally_sync_answer(world->sync, world->now, world->asked_server, world->request, world_bytes(answer));
    free(answer.data);
}

static inline void world_pass(struct world *world, uint64_t ms)
{
    world->now.monotonic_ms += ms;
    world->now.unix_ms += ms;
    tally_sync_tick(world->sync, world->now);
}

static inline struct tally_sync_info world_info(struct world *world)
{
    struct tally_sync_info info;
    tally_sync_info(world->sync, world->now, &info);
    return info;
}

#endif
