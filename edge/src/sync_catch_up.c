// SPDX-License-Identifier: Apache-2.0
#include "sync_internal.h"

static bool usable(const struct tally_sync *sync, const struct server *server)
{
    return server->connected && (server->epoch == 0 || server->epoch >= sync->held.epoch);
}

bool sync_ahead(const struct tally_sync *sync, const struct server *server)
{
    if (server->version == 0) return false; // a new log without a record: nothing to take yet
    if (server->epoch != sync->held.epoch) return server->epoch > sync->held.epoch;
    return server->version > sync->held.version;
}

bool sync_fell_back(const struct tally_sync *sync, uint32_t server)
{
    const struct server *known = &sync->servers[server];
    return known->epoch == sync->held.epoch && known->version < sync->held.version;
}

// The server that was asked fell back, and was not told: the request was from before a later version was held, and reached a server that was started
// meanwhile. It is asked once more.
static bool untold(const struct tally_sync *sync)
{
    return sync_fell_back(sync, sync->asked) && sync->asked_version <= sync->servers[sync->asked].version;
}

bool catch_up_behind(const struct tally_sync *sync)
{
    if (sync->staging || sync->repair || sync->early_count) return true;
    for (uint32_t i = 0; i < sync->options.servers; i++) {
        if (sync_ahead(sync, &sync->servers[i])) return true;
    }
    return false;
}

// Who to ask: in turn, but first those that have or may have something to tell. TALLY_SYNC_NO_SERVER when
// nobody can be reached.
static uint32_t choose(const struct tally_sync *sync, bool behind)
{
    uint32_t fallback = TALLY_SYNC_NO_SERVER;
    for (uint32_t i = 0; i < sync->options.servers; i++) {
        uint32_t number = (sync->turn + i) % sync->options.servers;
        const struct server *server = &sync->servers[number];
        if (!usable(sync, server)) continue;
        if (server->check || sync->staging || sync->repair || sync_ahead(sync, server)) return number;
        if (behind && fallback == TALLY_SYNC_NO_SERVER) fallback = number;
    }
    return fallback;
}

static void send_request(struct tally_sync *sync, uint32_t server)
{
    struct tally_catch_up ask = {.dataset = sync->options.dataset};
    sync->asked_whole = sync->repair && !sync->staging;
    if (!sync->asked_whole) {
        ask.epoch = sync->held.epoch;
        ask.version = sync->held.version;
    }
    if (sync->staging) {
        ask.has_cursor = true;
        ask.cursor = sync->cursor;
    }
    sync->asking = true;
    sync->asked = server;
    sync->asked_version = ask.version;
    sync->request++;
    sync->stats.requests++;
    sync->deadline_ms = sync->now.monotonic_ms + sync->options.request_timeout_ms;
    if (sync->asked_whole) {
        // The next one only after a while, whatever becomes of this one; see sync_apply for what ends the
        // series.
        sync->repair_at_ms = sync->now.monotonic_ms + sync_backoff(sync, sync->options.repair_ms_min,
                                                                   sync->options.repair_ms_max, sync->repairs);
        if (sync->repairs < 32) sync->repairs++;
        sync->stats.repairs++;
    }
    sync->out.size = 0;
    enum tally_status status = tally_catch_up_encode(&ask, &sync->out);
    if (status == TALLY_OK) {
        status = sync->ops->send(sync->ctx, server, sync->request, tally_writer_bytes(&sync->out));
    } else {
        tally_writer_free(&sync->out); // clears the writer's failure
    }
    if (status != TALLY_OK) catch_up_fail(sync, status, (struct tally_bytes){0});
}

void catch_up_advance(struct tally_sync *sync)
{
    uint64_t now_ms = sync->now.monotonic_ms;
    if (sync->asking || sync->booting || now_ms < sync->ask_at_ms) return;
    if (sync->repair && !sync->staging && now_ms < sync->repair_at_ms) return;
    bool behind = catch_up_behind(sync);
    uint32_t server = choose(sync, behind);
    if (server != TALLY_SYNC_NO_SERVER) send_request(sync, server);
    if (!behind && sync->taken) {
        sync_emit(sync, &(struct tally_sync_event){.kind = TALLY_SYNC_EVENT_CATCH_UP,
                                                   .server = sync->asked,
                                                   .epoch = sync->held.epoch,
                                                   .version = sync->held.version,
                                                   .count = sync->taken});
        sync->taken = 0;
    }
}

void catch_up_abandon(struct tally_sync *sync)
{
    if (!sync->staging) return;
    sync->staging = false;
    sync->ops->abandon(sync->ctx);
}

// The request got nowhere: a while of rest, then the next server.
static void rest(struct tally_sync *sync)
{
    sync->asking = false;
    sync->servers[sync->asked].check = untold(sync); // else it had its chance; what it publishes will tell
    sync->ask_at_ms = sync->now.monotonic_ms +
                      sync_backoff(sync, sync->options.retry_ms_min, sync->options.retry_ms_max, sync->failures);
    if (sync->failures < 32) sync->failures++;
    sync->turn = (sync->asked + 1) % sync->options.servers;
    if (sync->staging && sync->failures >= STAGING_FAILURES_MAX) catch_up_abandon(sync);
}

static void progress(struct tally_sync *sync)
{
    sync->asking = false;
    sync->servers[sync->asked].check = untold(sync);
    sync->failures = 0;
    sync->ask_at_ms = sync->now.monotonic_ms;
    sync->turn = sync->asked;
}

void catch_up_fail(struct tally_sync *sync, enum tally_status status, struct tally_bytes text)
{
    sync->stats.requests_failed++;
    uint32_t server = sync->asked;
    bool check = sync->servers[server].check;
    rest(sync);
    // A server that did not answer has not told where it stands.
    sync->servers[server].check = check && sync->servers[server].connected;
    sync_emit(sync, &(struct tally_sync_event){
                        .kind = TALLY_SYNC_EVENT_REQUEST_FAILED, .server = server, .status = status, .text = text});
}

// Asks for the next chunk before this one is applied, so that the server writes the one while the mirror takes the other. Should this
// one be refused, whatever comes next is given up. The bytes of the answer stay as they are meanwhile.
static bool ask_ahead(struct tally_sync *sync, const struct tally_answer *answer)
{
    if (!answer->has_cursor || !usable(sync, &sync->servers[sync->asked])) return false;
    sync->staging = true;
    sync->cursor = answer->cursor;
    sync->turn = sync->asked;
    sync->servers[sync->asked].check = false;
    send_request(sync, sync->asked);
    return true;
}

static void take_frame(struct tally_sync *sync, const struct tally_answer *answer)
{
    bool chunked = answer->has_cursor || sync->staging;
    bool delta = false;
    if (!chunked) {
        struct tally_frame_reader reader;
        enum tally_status status = tally_frame_open(answer->frame, &reader);
        if (status != TALLY_OK) {
            sync_refused(sync, sync->asked, status);
            catch_up_fail(sync, status, (struct tally_bytes){0});
            return;
        }
        chunked = reader.header.chunk || reader.header.more;
        delta = reader.header.from != 0 && !chunked;
    }
    bool ahead = ask_ahead(sync, answer);
    enum tally_status status = sync_apply(sync, sync->asked, answer->frame, delta);
    switch (status) {
    case TALLY_OK:
        sync->staging = false;
        sync->taken++;
        if (delta)
            sync->stats.catch_ups_delta++;
        else
            sync->stats.catch_ups_whole++;
        progress(sync);
        return;
    case TALLY_MORE:
        sync->taken++;
        sync->stats.chunks++;
        sync->staging = true;
        if (ahead) {
            if (sync->asking) sync->failures = 0; // else it could not be sent
            return;
        }
        if (!answer->has_cursor) {
            catch_up_abandon(sync);
            catch_up_fail(sync, TALLY_MALFORMED, (struct tally_bytes){0});
            return;
        }
        sync->cursor = answer->cursor;
        progress(sync);
        return;
    case TALLY_OLD:
    case TALLY_GAP:
        // Published frames were faster than the answer, or the chunk is not the one that was due. Not a
        // fault, but no progress.
        catch_up_abandon(sync);
        rest(sync);
        return;
    default:
        catch_up_abandon(sync);
        catch_up_fail(sync, status, (struct tally_bytes){0});
        return;
    }
}

static void take_answer(struct tally_sync *sync, const struct tally_answer *answer)
{
    if (answer->status == TALLY_GONE) {
        catch_up_abandon(sync);
        sync->stats.restarts++;
        catch_up_fail(sync, TALLY_GONE, answer->message);
        return;
    }
    if (answer->status != TALLY_OK) {
        catch_up_fail(sync, answer->status, answer->message);
        return;
    }
    if (!tally_bytes_equal(answer->dataset, sync->options.dataset)) {
        sync_refused(sync, sync->asked, TALLY_WRONG_DATASET);
        catch_up_fail(sync, TALLY_WRONG_DATASET, (struct tally_bytes){0});
        return;
    }
    sync_learned(sync, sync->asked, answer->epoch, answer->version);
    if (answer->epoch < sync->held.epoch) {
        sync_lower_epoch(sync, sync->asked, answer->epoch);
        rest(sync);
        return;
    }
    if (answer->frame.size) {
        take_frame(sync, answer);
        return;
    }
    sync->stats.catch_ups_current++;
    catch_up_abandon(sync);
    sync->servers[sync->asked].check = false;
    // "Nothing newer" while something newer is known, or wanted, is no progress.
    if (catch_up_behind(sync))
        rest(sync);
    else
        progress(sync);
}

void catch_up_answer(struct tally_sync *sync, struct tally_bytes message)
{
    struct tally_answer answer;
    enum tally_status status = tally_answer_decode(&sync->alloc, message, &answer);
    if (status != TALLY_OK) {
        sync_refused(sync, sync->asked, status);
        catch_up_fail(sync, status, (struct tally_bytes){0});
        return;
    }
    take_answer(sync, &answer);
    tally_answer_free(&sync->alloc, &answer);
}

uint64_t tally_sync_due(const struct tally_sync *sync)
{
    if (sync->asking) return sync->deadline_ms;
    if (sync->booting || choose(sync, catch_up_behind(sync)) == TALLY_SYNC_NO_SERVER) return UINT64_MAX;
    bool wait = sync->repair && !sync->staging && sync->repair_at_ms > sync->ask_at_ms;
    return wait ? sync->repair_at_ms : sync->ask_at_ms;
}
