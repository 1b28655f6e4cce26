// SPDX-License-Identifier: Apache-2.0
#include "sync_internal.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

const char *tally_sync_state_str(enum tally_sync_state state)
{
    switch (state) {
    case TALLY_SYNC_COLD: return "cold";
    case TALLY_SYNC_BOOTING: return "booting";
    case TALLY_SYNC_CATCHING_UP: return "catching_up";
    case TALLY_SYNC_LIVE: return "live";
    case TALLY_SYNC_STALE: return "stale";
    }
    return "unknown";
}

// ---------------------------------------------------------------------------------------------------- events

void sync_emit(struct tally_sync *sync, const struct tally_sync_event *event)
{
    if (sync->ops->event) sync->ops->event(sync->ctx, event);
}

// True when the event is due; *out_count is then how many it stands for.
static bool damper_due(struct tally_sync *sync, struct damper *damper, uint64_t *out_count)
{
    damper->count++;
    if (sync->now.monotonic_ms < damper->next_ms) return false;
    damper->next_ms = sync->now.monotonic_ms + sync->options.log_ms;
    *out_count = damper->count;
    damper->count = 0;
    return true;
}

void sync_refused(struct tally_sync *sync, uint32_t server, enum tally_status status)
{
    uint32_t index = (uint32_t)status < TALLY_SYNC_STATUSES ? (uint32_t)status : TALLY_MALFORMED;
    sync->stats.refused[index]++;
    struct tally_sync_event event = {.kind = TALLY_SYNC_EVENT_REFUSED, .server = server, .status = status};
    if (damper_due(sync, &sync->refused[index], &event.count)) sync_emit(sync, &event);
}

void sync_lower_epoch(struct tally_sync *sync, uint32_t server, uint64_t epoch)
{
    struct tally_sync_event event = {.kind = TALLY_SYNC_EVENT_LOWER_EPOCH, .server = server, .epoch = epoch};
    if (damper_due(sync, &sync->lower_epoch, &event.count)) sync_emit(sync, &event);
}

// ---------------------------------------------------------------------------------------------------- random

// SplitMix64.
static uint64_t draw(struct tally_sync *sync)
{
    sync->random += 0x9e3779b97f4a7c15u;
    return tally_mix64(sync->random);
}

uint64_t sync_backoff(struct tally_sync *sync, uint64_t min_ms, uint64_t max_ms, uint32_t exponent)
{
    uint64_t distance_ms = min_ms;
    while (exponent-- && distance_ms < max_ms) distance_ms *= 2;
    if (distance_ms > max_ms) distance_ms = max_ms;
    return distance_ms - draw(sync) % (distance_ms / 2 + 1);
}

// ---------------------------------------------------------------------------------------------------- state

static uint64_t age_ms(const struct tally_sync *sync, struct tally_sync_now now)
{
    if (!sync->held.epoch || now.unix_ms <= sync->held.fresh_ms) return 0;
    return now.unix_ms - sync->held.fresh_ms;
}

static enum tally_sync_state state(const struct tally_sync *sync, struct tally_sync_now now)
{
    if (sync->booting) return TALLY_SYNC_BOOTING;
    bool behind = catch_up_behind(sync);
    if (!sync->held.epoch) return behind ? TALLY_SYNC_CATCHING_UP : TALLY_SYNC_COLD;
    if (age_ms(sync, now) > sync->options.max_age_ms) return TALLY_SYNC_STALE;
    if (behind) return TALLY_SYNC_CATCHING_UP;
    for (uint32_t i = 0; i < sync->options.servers; i++) {
        if (sync->servers[i].epoch == sync->held.epoch) return TALLY_SYNC_LIVE;
    }
    return TALLY_SYNC_CATCHING_UP; // nobody has said yet what is the newest
}

// Every input begins with `enter` and ends with `leave`.
static void enter(struct tally_sync *sync, struct tally_sync_now now) { sync->now = now; }

static void leave(struct tally_sync *sync)
{
    early_drain(sync);
    catch_up_advance(sync);
    enum tally_sync_state shown = state(sync, sync->now);
    if (shown == sync->shown) return;
    struct tally_sync_event event = {.kind = TALLY_SYNC_EVENT_STATE,
                                     .server = TALLY_SYNC_NO_SERVER,
                                     .state_from = sync->shown,
                                     .state_to = shown,
                                     .epoch = sync->held.epoch,
                                     .version = sync->held.version};
    sync->shown = shown;
    sync_emit(sync, &event);
}

void sync_learned(struct tally_sync *sync, uint32_t server, uint64_t epoch, uint64_t version)
{
    struct server *known = &sync->servers[server];
    bool below = epoch < known->epoch || (epoch == known->epoch && version < known->version);
    if (!below) known->below = 0;
    // One such message is a late one. Many in a row: the server is not what it was, or what it said was
    // wrong.
    if (below && ++known->below < BELOW_MAX) return;
    known->below = 0;
    known->epoch = epoch;
    known->version = version;
}

// ---------------------------------------------------------------------------------------------------- the mirror

static void refresh_held(struct tally_sync *sync) { sync->ops->held(sync->ctx, &sync->held); }

static void published(struct tally_sync *sync, uint32_t server, struct tally_bytes frame, bool delta)
{
    uint64_t epoch = sync->held.epoch;
    refresh_held(sync);
    sync->stats.frames_applied++;
    sync->repair = false;
    // A series of repairs ends with a delta that verifies: were a whole state enough, a server that cuts bad
    // deltas would have us fetch one after the other without a rest.
    if (delta) sync->repairs = 0;
    if (sync->ops->persist) {
        if (delta)
            sync->ops->persist(sync->ctx, TALLY_SYNC_PERSIST_DELTA, frame);
        else
            sync->ops->persist(sync->ctx, TALLY_SYNC_PERSIST_REBASE, (struct tally_bytes){0});
    }
    if (epoch != sync->held.epoch) {
        sync_emit(sync, &(struct tally_sync_event){.kind = TALLY_SYNC_EVENT_EPOCH,
                                                   .server = server,
                                                   .epoch = sync->held.epoch,
                                                   .version = sync->held.version});
    }
}

enum tally_status sync_apply(struct tally_sync *sync, uint32_t server, struct tally_bytes frame, bool delta)
{
    enum tally_status status = sync->ops->apply(sync->ctx, frame);
    switch (status) {
    case TALLY_OK: published(sync, server, frame, delta); break;
    case TALLY_OLD: sync->stats.frames_old++; break;
    // Not the frame's fault: it is not its turn. What is missing is known from what the server said it has.
    case TALLY_MORE:
    case TALLY_GAP:
    case TALLY_WRONG_EPOCH: break;
    // Nor here: it may succeed later, and is asked for again then.
    case TALLY_NO_MEMORY:
    case TALLY_STALLED:
    case TALLY_FULL:
    case TALLY_CORRUPT:
    case TALLY_WRONG_DATASET:
    case TALLY_IO: sync_refused(sync, server, status); break;
    // The change does not fit what is held, though its bytes are as they were sent: only the whole state
    // helps.
    default:
        sync_refused(sync, server, status);
        sync->repair = true;
        break;
    }
    return status;
}

// ---------------------------------------------------------------------------------------------------- published messages

static void take_heartbeat(struct tally_sync *sync, uint32_t server, struct tally_bytes sealed)
{
    struct tally_heartbeat beat;
    enum tally_status status = tally_heartbeat_decode(&sync->alloc, sealed, &beat);
    if (status == TALLY_OK && !tally_bytes_equal(beat.dataset, sync->options.dataset)) {
        tally_heartbeat_free(&sync->alloc, &beat);
        status = TALLY_WRONG_DATASET;
    }
    if (status != TALLY_OK) {
        sync_refused(sync, server, status);
        return;
    }
    sync->stats.heartbeats++;
    sync_learned(sync, server, beat.epoch, beat.version);
    sync->servers[server].check &= sync_fell_back(sync, server);
    const struct tally_view_info *held = &sync->held;
    if (beat.epoch < held->epoch) {
        sync_lower_epoch(sync, server, beat.epoch);
    } else if (held->epoch && beat.epoch == held->epoch && beat.version == held->version) {
        if (tally_digest_equal(beat.digest, held->digest)) {
            sync->ops->confirm(sync->ctx, beat.epoch, beat.version, beat.now_ms);
            refresh_held(sync);
        } else {
            sync_refused(sync, server, TALLY_DIGEST_MISMATCH);
            sync->repair = true;
        }
    }
    tally_heartbeat_free(&sync->alloc, &beat);
}

static void take_frame(struct tally_sync *sync, uint32_t server, struct tally_bytes sealed)
{
    struct tally_frame_reader reader;
    enum tally_status status = tally_frame_open(sealed, &reader);
    const struct tally_frame_header *header = &reader.header;
    if (status == TALLY_OK && !tally_bytes_equal(header->dataset, sync->options.dataset)) status = TALLY_WRONG_DATASET;
    if (status != TALLY_OK) {
        sync_refused(sync, server, status);
        return;
    }
    const struct tally_view_info *held = &sync->held;
    sync_learned(sync, server, header->epoch, header->to);
    sync->servers[server].check &= sync_fell_back(sync, server);
    if (header->epoch < held->epoch) {
        sync->stats.frames_lower_epoch++;
        sync_lower_epoch(sync, server, header->epoch);
        return;
    }
    // A change in chunks is for answers, where a lost one is asked for again. Published, it only tells what
    // there is.
    if (header->chunk || header->more) return;
    bool same = header->epoch == held->epoch;
    if (same && (header->to <= held->version || (header->from && header->from < held->version))) {
        sync->stats.frames_old++;
        return;
    }
    bool turn = header->from == 0 || (same && header->from == held->version);
    if (!turn || sync->staging) {
        early_hold(sync, server, header, sealed);
        return;
    }
    status = sync_apply(sync, server, sealed, header->from != 0);
    if (status == TALLY_NO_MEMORY || status == TALLY_STALLED || status == TALLY_FULL) {
        // What is short now will still be in a moment.
        uint64_t at_ms = sync->now.monotonic_ms +
                         sync_backoff(sync, sync->options.retry_ms_min, sync->options.retry_ms_max, sync->failures);
        if (sync->ask_at_ms < at_ms) sync->ask_at_ms = at_ms;
    }
}

void tally_sync_message(struct tally_sync *sync, struct tally_sync_now now, uint32_t server, struct tally_bytes message)
{
    assert(server < sync->options.servers);
    enter(sync, now);
    sync->stats.messages++;
    sync->stats.message_bytes += message.size;
    struct tally_bytes dataset, sealed;
    enum tally_published_what what;
    enum tally_status status = tally_published_open(message, &dataset, &what, &sealed);
    if (status == TALLY_OK && !tally_bytes_equal(dataset, sync->options.dataset)) status = TALLY_WRONG_DATASET;
    if (status != TALLY_OK)
        sync_refused(sync, server, status);
    else if (what == TALLY_PUBLISHED_HEARTBEAT)
        take_heartbeat(sync, server, sealed);
    else
        take_frame(sync, server, sealed);
    leave(sync);
}

// ---------------------------------------------------------------------------------------------------- other inputs

void tally_sync_boot_begin(struct tally_sync *sync, struct tally_sync_now now)
{
    enter(sync, now);
    sync->booting = true;
    leave(sync);
}

enum tally_status tally_sync_boot_message(struct tally_sync *sync, struct tally_sync_now now, struct tally_bytes frame)
{
    assert(sync->booting);
    enter(sync, now);
    enum tally_status status = sync->ops->apply(sync->ctx, frame);
    if (status == TALLY_OK || status == TALLY_MORE) {
        sync->stats.booted++;
        sync->staging = status == TALLY_MORE;
        if (status == TALLY_OK) refresh_held(sync);
    } else {
        sync->staging = false;
        sync_refused(sync, TALLY_SYNC_NO_SERVER, status);
    }
    return status;
}

void tally_sync_boot_end(struct tally_sync *sync, struct tally_sync_now now)
{
    assert(sync->booting);
    enter(sync, now);
    catch_up_abandon(sync);
    sync->booting = false;
    leave(sync);
}

void tally_sync_connected(struct tally_sync *sync, struct tally_sync_now now, uint32_t server)
{
    assert(server < sync->options.servers);
    enter(sync, now);
    // It may be another server now, or the same with another log: what it had before means nothing.
    sync->servers[server] = (struct server){.connected = true, .check = true};
    sync_emit(sync, &(struct tally_sync_event){.kind = TALLY_SYNC_EVENT_CONNECTED, .server = server});
    leave(sync);
}

void tally_sync_disconnected(struct tally_sync *sync, struct tally_sync_now now, uint32_t server)
{
    assert(server < sync->options.servers);
    enter(sync, now);
    sync->servers[server].connected = false;
    sync->servers[server].check = false;
    sync_emit(sync, &(struct tally_sync_event){.kind = TALLY_SYNC_EVENT_DISCONNECTED, .server = server});
    leave(sync);
}

static bool awaited(struct tally_sync *sync, uint32_t server, uint64_t request)
{
    if (sync->asking && request == sync->request && server == sync->asked) return true;
    sync->stats.answers_late++;
    return false;
}

void tally_sync_answer(struct tally_sync *sync, struct tally_sync_now now, uint32_t server, uint64_t request,
                       struct tally_bytes answer)
{
    enter(sync, now);
    sync->stats.answers++;
    sync->stats.answer_bytes += answer.size;
    if (awaited(sync, server, request)) catch_up_answer(sync, answer);
    leave(sync);
}

void tally_sync_answer_failed(struct tally_sync *sync, struct tally_sync_now now, uint32_t server, uint64_t request,
                              enum tally_status status)
{
    enter(sync, now);
    if (awaited(sync, server, request)) catch_up_fail(sync, status, (struct tally_bytes){0});
    leave(sync);
}

void tally_sync_tick(struct tally_sync *sync, struct tally_sync_now now)
{
    enter(sync, now);
    if (sync->asking && now.monotonic_ms >= sync->deadline_ms) {
        sync->stats.requests_timed_out++;
        catch_up_fail(sync, TALLY_TIMEOUT, (struct tally_bytes){0});
    }
    leave(sync);
}

// ---------------------------------------------------------------------------------------------------- what is known

void tally_sync_info(const struct tally_sync *sync, struct tally_sync_now now, struct tally_sync_info *out_info)
{
    uint64_t newest = sync->held.version;
    for (uint32_t i = 0; i < sync->options.servers; i++) {
        const struct server *server = &sync->servers[i];
        if (server->epoch == sync->held.epoch && server->version > newest) newest = server->version;
    }
    *out_info = (struct tally_sync_info){.state = state(sync, now),
                                         .held = sync->held,
                                         .newest = newest,
                                         .lag = newest - sync->held.version,
                                         .age_ms = age_ms(sync, now)};
}

void tally_sync_server_info(const struct tally_sync *sync, uint32_t server, struct tally_sync_server_info *out_info)
{
    assert(server < sync->options.servers);
    const struct server *known = &sync->servers[server];
    *out_info = (struct tally_sync_server_info){
        .connected = known->connected, .epoch = known->epoch, .version = known->version};
}

const struct tally_sync_stats *tally_sync_stats(const struct tally_sync *sync) { return &sync->stats; }

// ---------------------------------------------------------------------------------------------------- object

static void default64(uint64_t *option, uint64_t value)
{
    if (!*option) *option = value;
}

static void set_defaults(struct tally_sync_options *options)
{
    default64(&options->max_age_ms, 5000);
    if (!options->early_frames_max) options->early_frames_max = 1024;
    default64(&options->early_bytes_max, 64u << 20);
    default64(&options->request_timeout_ms, 5000);
    default64(&options->retry_ms_min, 100);
    default64(&options->retry_ms_max, 10000);
    default64(&options->repair_ms_min, 500);
    default64(&options->repair_ms_max, 60000);
    default64(&options->log_ms, 10000);
}

enum tally_status tally_sync_create(const struct tally_sync_options *options, const struct tally_sync_ops *ops,
                                    void *ctx, const struct tally_alloc *alloc, struct tally_sync **out_sync)
{
    if (!tally_name_valid(options->dataset) || !options->servers || options->servers > TALLY_SYNC_SERVERS_MAX)
        return TALLY_INVALID;
    struct tally_sync *sync = tally_alloc_resize(alloc, NULL, sizeof *sync);
    if (!sync) return TALLY_NO_MEMORY;
    *sync =
        (struct tally_sync){.options = *options, .ops = ops, .ctx = ctx, .alloc = *alloc, .random = options->random};
    set_defaults(&sync->options);
    sync->early = tally_alloc_resize(alloc, NULL, sync->options.early_frames_max * sizeof *sync->early);
    if (!sync->early) {
        tally_alloc_free(alloc, sync);
        return TALLY_NO_MEMORY;
    }
    memcpy(sync->dataset, options->dataset.data, options->dataset.size);
    sync->options.dataset.data = (const uint8_t *)sync->dataset;
    sync->out = tally_writer_growable(&sync->alloc);
    refresh_held(sync);
    *out_sync = sync;
    return TALLY_OK;
}

void tally_sync_destroy(struct tally_sync **sync)
{
    if (!*sync) return;
    struct tally_sync *it = *sync;
    early_clear(it);
    tally_writer_free(&it->out);
    struct tally_alloc alloc = it->alloc;
    tally_alloc_free(&alloc, it->early);
    tally_alloc_free(&alloc, it);
    *sync = NULL;
}
