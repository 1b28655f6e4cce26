// SPDX-License-Identifier: Apache-2.0
//
// The core's own mirror. It verifies what is published, and everybody who reads at the server reads it. While nobody does and records change many
// rows, it is left behind for some versions and then takes them as one change: of rows that change in each of them it takes one change instead
// of many, and copies each page once. Frames of versions that it skipped are held against the state only by whoever applies them, and by the digest of
// the version that it goes on to.
#include "server_parts.h"

// The least part of all rows that is worth it.
#define LAG_ROWS_PART 64u

// ---------------------------------------------------------------------------------------------------- to the newest version

// The mirror takes the whole state chunk by chunk.
static enum tally_status apply_whole(struct tally_server *server)
{
    struct tally_state_cursor cursor = {0};
    enum tally_status status = TALLY_MORE;
    while (status == TALLY_MORE) {
        server->merged.size = 0;
        server->merged.failed = false;
        status = tally_state_write_chunk(&server->state, &cursor, &server->merged);
        if (!status) status = tally_mirror_apply(server->mirror, server->memory, tally_writer_bytes(&server->merged));
        if (status && status != TALLY_MORE) tally_mirror_abandon(server->mirror, server->memory);
    }
    return status;
}

static enum tally_status apply_mirror(struct tally_server *server)
{
    if (server->applied.whole || server->lost) return apply_whole(server);
    if (server->behind.versions == 0)
        return tally_mirror_apply(server->mirror, server->memory, tally_server_frame(server));
    server->merged.size = 0;
    server->merged.failed = false;
    enum tally_status status = tally_behind_write(&server->behind, &server->state, &server->merged);
    if (status == TALLY_LIMIT) return apply_whole(server);
    return status ? status : tally_mirror_apply(server->mirror, server->memory, tally_writer_bytes(&server->merged));
}

static bool mirror_agrees(struct tally_server *server)
{
    struct tally_view view;
    struct tally_view_info info;
    tally_view_pin(&server->reader, &view);
    tally_view_info(&view, &info);
    tally_view_unpin(&view);
    const struct tally_state *state = &server->state;
    return info.epoch == state->epoch && info.version == state->version && info.rows == state->rows &&
           tally_digest_equal(info.digest, state->digest);
}

// Lets go of every view that the core itself holds.
static void let_go(struct tally_server *server, uint64_t now_ms)
{
    tally_catchup_expire(&server->catchup, &server->history, now_ms, true);
    if (!server->snapshot.begun) return;
    server->snapshots->ops->abort(server->snapshots);
    tally_snapshot_end(&server->snapshot);
}

// Without memory to note it, the mirror can only be given the whole state.
static void note(struct tally_server *server)
{
    if (server->noted || server->applied.whole) return;
    server->noted = true;
    if (!server->lost && tally_behind_note(&server->behind, &server->state)) server->lost = true;
}

static enum tally_status follow(struct tally_server *server, uint64_t now_ms)
{
    bool lagged = server->behind.versions != 0;
    if (lagged && server->unverified) note(server);
    enum tally_status status = apply_mirror(server);
    if (status == TALLY_STALLED || status == TALLY_NO_MEMORY) {
        let_go(server, now_ms);
        status = apply_mirror(server);
    }
    if (status == TALLY_STALLED) return status;
    if (!status && !mirror_agrees(server)) status = TALLY_DIGEST_MISMATCH;
    if (status)
        return tally_server_fail(server, TALLY_SERVER_EVENT_MIRROR_REFUSED, status, server->state.version,
                                 lagged ? "the server's own frames, merged, did not verify"
                                        : "the server's own frame did not verify; nothing of it is published");
    server->lost = false;
    if (!lagged) return TALLY_OK;
    tally_behind_forget(&server->behind, server->unverified);
    if (server->ops->current) server->ops->current(server->ctx);
    return TALLY_OK;
}

enum tally_status tally_server_current(struct tally_server *server, uint64_t now_ms)
{
    if (server->failed) return server->failed;
    if (server->behind.versions == 0) return TALLY_OK;
    if (server->unverified) return TALLY_STALLED;
    enum tally_status status = follow(server, now_ms);
    if (!status) tally_mirror_confirm(server->mirror, server->state.epoch, server->state.version, now_ms);
    return status;
}

// ---------------------------------------------------------------------------------------------------- left behind

static bool may_lag(struct tally_server *server)
{
    const struct tally_server_options *options = &server->options;
    const struct tally_state *state = &server->state;
    if (!server->ops->may_lag || !server->recovered || server->stopping) return false;
    if (server->applied.whole || server->lost || server->noted) return false;
    if (server->behind.versions >= options->lag_versions || state->version == 1) return false;
    if (state->changes_count < options->lag_changes || state->changes_count < state->rows / LAG_ROWS_PART) return false;
    return server->ops->may_lag(server->ctx);
}

enum tally_status tally_server_verify(struct tally_server *server, uint64_t now_ms)
{
    bool lags = may_lag(server);
    if (lags) {
        note(server);
        lags = !server->lost;
    }
    enum tally_status status = lags ? TALLY_OK : follow(server, now_ms);
    if (status) return status;
    server->unverified = false;
    if (server->applied.whole)
        tally_history_restart(&server->history, server->state.epoch, server->state.version);
    else
        tally_history_add(&server->history, tally_server_frame(server));
    return TALLY_OK;
}
