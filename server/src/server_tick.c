// SPDX-License-Identifier: Apache-2.0
//
// A tick: cut, append, apply, verify, publish, acknowledge; then what may wait: heartbeat, snapshot, trim.
#include "server_parts.h"

#define EPOCH_STEP (1u << 20) // a millisecond of those that epochs are drawn from

// ---------------------------------------------------------------------------------------------------- log and state

static enum tally_status apply(struct tally_server *server, uint64_t version, struct tally_bytes record, bool admitted)
{
    server->frame.size = 0;
    server->frame.failed = false;
    tally_published_begin(&server->frame, server->options.dataset, TALLY_PUBLISHED_FRAME);
    enum tally_status status = server->frame.failed ? TALLY_NO_MEMORY : TALLY_OK;
    uint64_t clashes = server->state.stats.clashes;
    struct tally_state *state = &server->state;
    if (!status && admitted)
        status = tally_state_apply_admitted(state, record, &server->frame, &server->applied);
    else if (!status)
        status = tally_state_apply(state, record, &server->frame, &server->applied);
    if (status)
        return tally_server_fail(server, TALLY_SERVER_EVENT_APPLY_FAILED, status, version,
                                 "the record is durable; start again to replay it");
    if (server->state.stats.clashes != clashes)
        tally_server_tell(server, TALLY_SERVER_EVENT_EPOCH, TALLY_CLASH, version, 0, "two keys shared a fingerprint");
    server->unverified = true;
    server->noted = false;
    server->snapshot_behind += record.size;
    return TALLY_OK;
}

enum tally_status tally_server_apply(struct tally_server *server, uint64_t version, struct tally_bytes record)
{
    return apply(server, version, record, false);
}

enum tally_status tally_server_commit(struct tally_server *server, uint64_t version, struct tally_bytes record)
{
    enum tally_status status = server->log->ops->append(server->log, version, record);
    if (status)
        return tally_server_fail(server, TALLY_SERVER_EVENT_APPEND_FAILED, status, version,
                                 "nothing of this tick is acknowledged");
    server->stats.records++;
    server->stats.record_bytes += record.size;
    return apply(server, version, record, true);
}

// The clock may be behind the one that drew the last epoch. What was lost may have counted it up for clashes: beyond those too.
static uint64_t epoch_next(const struct tally_server *server)
{
    uint64_t above = server->state.epoch + EPOCH_STEP;
    return server->options.epoch_new < above ? above : server->options.epoch_new;
}

enum tally_status tally_server_new_epoch(struct tally_server *server, uint64_t now_ms, const char *why)
{
    uint8_t bytes[128];
    struct tally_writer writer = tally_writer_fixed(bytes, sizeof bytes);
    struct tally_bytes record;
    const struct tally_record_header header = {.version = server->state.version + 1,
                                               .epoch = epoch_next(server),
                                               .time_ms =
                                                   now_ms > server->state.time_ms ? now_ms : server->state.time_ms};
    tally_record_begin(&writer);
    enum tally_status status = tally_record_finish(&writer, &header, &record);
    if (!status) status = tally_server_commit(server, header.version, record);
    if (!status) tally_server_tell(server, TALLY_SERVER_EVENT_CONTINUITY_LOST, TALLY_OK, header.version, 0, why);
    return status;
}

// ---------------------------------------------------------------------------------------------------- publishing

static void publish(struct tally_server *server, struct tally_bytes message, uint64_t now_ms)
{
    server->ops->publish(server->ctx, message);
    server->published_ms = now_ms;
    server->published = true;
}

static void publish_heartbeat(struct tally_server *server, uint64_t now_ms)
{
    uint8_t bytes[256];
    struct tally_writer writer = tally_writer_fixed(bytes, sizeof bytes);
    const struct tally_state *state = &server->state;
    const struct tally_heartbeat heartbeat = {.dataset = server->options.dataset,
                                              .epoch = state->epoch,
                                              .version = state->version,
                                              .digest = state->digest,
                                              .now_ms = now_ms};
    tally_published_begin(&writer, server->options.dataset, TALLY_PUBLISHED_HEARTBEAT);
    if (tally_heartbeat_encode(&heartbeat, &writer)) return;
    server->stats.heartbeats++;
    publish(server, tally_writer_bytes(&writer), now_ms);
}

static void publish_message(struct tally_server *server, uint64_t now_ms)
{
    server->stats.frames++;
    server->stats.frame_bytes += server->frame.size;
    publish(server, tally_writer_bytes(&server->frame), now_ms);
}

// A small whole state goes out in chunks; who misses one, or for whom it is too large, hears the heartbeat and asks.
static void publish_whole(struct tally_server *server, uint64_t now_ms)
{
    struct tally_state_cursor cursor = {0};
    bool small = tally_server_whole_bytes(server) < TALLY_WHOLE_CHUNKS_PUBLISHED / 2 * TALLY_CHUNK_BYTES_MAX;
    while (small && !cursor.done) {
        server->frame.size = 0;
        server->frame.failed = false;
        tally_published_begin(&server->frame, server->options.dataset, TALLY_PUBLISHED_FRAME);
        if (tally_state_write_chunk(&server->state, &cursor, &server->frame)) break;
        publish_message(server, now_ms);
    }
    publish_heartbeat(server, now_ms);
}

static void acknowledge(struct tally_server *server)
{
    const struct tally_gather *gather = &server->gather;
    for (uint32_t i = 0; i < gather->waiters_count; i++) {
        const struct tally_waiter *waiter = &gather->waiters[i];
        const struct tally_verdict defined = {.version = server->state.version};
        tally_server_reply_verdict(server, waiter->token,
                                   waiter->batch == TALLY_WAITS_DEFINED ? &defined
                                                                        : &server->applied.verdicts[waiter->batch]);
    }
    for (size_t i = 0; i < server->applied.verdicts_count; i++) {
        if (!server->applied.verdicts[i].status)
            server->stats.batches++;
        else
            server->stats.refused++;
    }
    server->stats.batch_bytes += gather->record.size;
}

// Verifies, publishes, acknowledges what was committed. A mirror that is stalled by its readers is tried again at the next tick.
static enum tally_status finish(struct tally_server *server, bool first, uint64_t now_ms)
{
    enum tally_status status = tally_server_verify(server, now_ms);
    if (status == TALLY_STALLED) {
        if (first)
            tally_server_tell(server, TALLY_SERVER_EVENT_MIRROR_STALLED, status, server->state.version, 0,
                              "readers hold views of old versions");
        return TALLY_OK;
    }
    if (status) return status;
    if (server->applied.whole)
        publish_whole(server, now_ms);
    else
        publish_message(server, now_ms);
    acknowledge(server);
    tally_gather_reset(&server->gather);
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- the tick

static enum tally_status cut(struct tally_server *server, uint64_t time_ms, uint64_t now_ms)
{
    struct tally_bytes record;
    const struct tally_record_header header = {
        .version = server->state.version + 1, .epoch = server->epoch_due ? epoch_next(server) : 0, .time_ms = time_ms};
    // Without memory for the last few bytes nothing happened yet: the next tick tries again.
    if (tally_gather_cut(&server->gather, &header, &record)) return TALLY_OK;
    enum tally_status status = tally_server_commit(server, header.version, record);
    if (status) return status;
    if (header.epoch)
        tally_server_tell(server, TALLY_SERVER_EVENT_CONTINUITY_LOST, TALLY_OK, header.version, 0,
                          "an edge holds a later version of the last epoch than was cut here: this data is older");
    server->epoch_due = false;
    return finish(server, true, now_ms);
}

enum tally_status tally_server_tick(struct tally_server *server, uint64_t now_ms)
{
    if (server->failed) return server->failed;
    if (!server->recovered) return TALLY_INVALID;
    enum tally_status status = TALLY_OK;
    uint64_t time_ms = tally_record_clock_see(&server->clock, now_ms, server->state.time_ms);
    if (server->unverified)
        status = finish(server, false, now_ms);
    else if (server->gather.count || server->gather.definitions || server->epoch_due ||
             tally_state_due(&server->state) <= time_ms)
        status = cut(server, time_ms, now_ms);
    else if (server->behind.versions)
        status = tally_server_current(server, now_ms);
    if (status && status != TALLY_STALLED) return status;
    if (server->unverified) return TALLY_OK;
    tally_mirror_confirm(server->mirror, server->state.epoch, server->state.version, now_ms);
    // A clock that jumped back makes the heartbeat due, too.
    uint64_t since = now_ms - server->published_ms;
    if (!server->published || since >= server->options.heartbeat_ms) publish_heartbeat(server, now_ms);
    tally_catchup_expire(&server->catchup, &server->history, now_ms, false);
    if (!server->stopping) tally_server_store(server, now_ms);
    return server->failed; // a mirror that was behind may have refused what it was given
}

enum tally_status tally_server_stop(struct tally_server *server, uint64_t now_ms)
{
    server->stopping = true;
    enum tally_status status = tally_server_tick(server, now_ms);
    if (server->snapshot.begun) {
        server->snapshots->ops->abort(server->snapshots);
        tally_snapshot_end(&server->snapshot);
    }
    if (!status) tally_server_tell(server, TALLY_SERVER_EVENT_STOPPED, TALLY_OK, server->state.version, 0, "");
    return status;
}
