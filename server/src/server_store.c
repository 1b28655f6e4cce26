// SPDX-License-Identifier: Apache-2.0
//
// Snapshots, a few chunks a tick, and the trim of the log that they make possible. Nothing here is fatal: while no snapshot
// succeeds the log keeps everything.
#include "server_parts.h"

static void give_up(struct tally_server *server, enum tally_status status)
{
    tally_server_tell(server, TALLY_SERVER_EVENT_SNAPSHOT_FAILED, status, server->snapshot.version, 0,
                      "the log keeps everything meanwhile");
    server->snapshots->ops->abort(server->snapshots);
    tally_snapshot_end(&server->snapshot);
    server->snapshot_due = server->state.version + server->options.snapshot_every;
}

static enum tally_status write_out(struct tally_server *server)
{
    return server->snapshots->ops->write(server->snapshots, tally_writer_bytes(&server->snapshot_out));
}

static void begin(struct tally_server *server, uint64_t now_ms)
{
    // The view that is pinned is to be of the state that is written beside it.
    if (tally_server_current(server, now_ms)) return;
    server->snapshot_due = server->state.version + server->options.snapshot_every;
    server->snapshot_behind = 0;
    server->snapshot_out.size = 0;
    enum tally_status status = tally_snapshot_begin(&server->snapshot, &server->reader, &server->state,
                                                    server->identity.lineage, &server->snapshot_out);
    if (status) {
        tally_server_tell(server, TALLY_SERVER_EVENT_SNAPSHOT_FAILED, status, server->state.version, 0, "");
        return;
    }
    status = server->snapshots->ops->begin(server->snapshots, server->snapshot.version);
    if (!status) status = write_out(server);
    if (status) give_up(server, status);
}

static void commit(struct tally_server *server)
{
    enum tally_status status = server->snapshots->ops->commit(server->snapshots);
    if (status) {
        give_up(server, status);
        return;
    }
    server->stats.snapshots++;
    // The one before stays, too, and with it the log from there on: should the newest not verify, there is another way.
    if (server->snapshot_previous) server->trim_before = server->snapshot_previous + 1;
    server->snapshot_previous = server->snapshot.version;
    tally_server_tell(server, TALLY_SERVER_EVENT_SNAPSHOT_WRITTEN, TALLY_OK, server->snapshot.version,
                      server->snapshot.bytes, "");
    tally_snapshot_end(&server->snapshot);
}

static void go_on(struct tally_server *server)
{
    for (uint32_t i = 0; i < server->options.snapshot_chunks && !server->snapshot.done; i++) {
        server->snapshot_out.size = 0;
        enum tally_status status = tally_snapshot_next(&server->snapshot, server->catchup.scratch,
                                                       server->catchup.chunk, &server->snapshot_out);
        if (!status) status = write_out(server);
        if (status) {
            give_up(server, status);
            return;
        }
    }
    if (server->snapshot.done) commit(server);
}

static void trim(struct tally_server *server)
{
    bool more = false;
    enum tally_status status = server->log->ops->trim(server->log, server->trim_before, &more);
    if (status) tally_server_tell(server, TALLY_SERVER_EVENT_TRIM_FAILED, status, server->trim_before, 0, "");
    if (status || !more) server->trim_before = 0;
}

static bool due(const struct tally_server *server)
{
    uint64_t bytes = tally_server_whole_bytes(server) / 2;
    if (bytes < server->options.snapshot_log_bytes) bytes = server->options.snapshot_log_bytes;
    bool due = server->state.version >= server->snapshot_due || server->snapshot_behind >= bytes;
    return due && server->state.version != server->snapshot_previous;
}

void tally_server_store(struct tally_server *server, uint64_t now_ms)
{
    if (!server->snapshots) return;
    if (server->trim_before)
        trim(server);
    else if (server->snapshot.begun)
        go_on(server);
    else if (due(server))
        begin(server, now_ms);
}
