// SPDX-License-Identifier: Apache-2.0
#include "server_parts.h"

#define HEARTBEAT_MS       1000u
#define RETENTION_VERSIONS 4096u
#define RETENTION_BYTES    (64u << 20)
#define SNAPSHOT_EVERY     10000u
#define SNAPSHOT_LOG_BYTES (256u << 20)
#define SNAPSHOT_CHUNKS    4u
#define PIN_IDLE_MS        10000u
#define WAITERS_MAX        65536u
#define LAG_VERSIONS       16u
#define LAG_CHANGES        4096u

static void defaults(struct tally_server_options *options)
{
    if (!options->heartbeat_ms) options->heartbeat_ms = HEARTBEAT_MS;
    if (!options->retention_versions) options->retention_versions = RETENTION_VERSIONS;
    if (!options->retention_bytes) options->retention_bytes = RETENTION_BYTES;
    if (!options->snapshot_every) options->snapshot_every = SNAPSHOT_EVERY;
    if (!options->snapshot_log_bytes) options->snapshot_log_bytes = SNAPSHOT_LOG_BYTES;
    if (!options->snapshot_chunks) options->snapshot_chunks = SNAPSHOT_CHUNKS;
    if (!options->pin_idle_ms) options->pin_idle_ms = PIN_IDLE_MS;
    if (!options->waiters_max) options->waiters_max = WAITERS_MAX;
    if (!options->lag_versions) options->lag_versions = LAG_VERSIONS;
    if (!options->lag_changes) options->lag_changes = LAG_CHANGES;
}

static enum tally_status init(struct tally_server *server)
{
    const struct tally_server_options *options = &server->options;
    const struct tally_mirror_options mirror = {.dataset = options->dataset};
    const struct tally_gather_options gather = {.tables_closed = options->tables_closed,
                                                .tables_allowed = options->tables_allowed,
                                                .salt = options->seed_new.k1,
                                                .waiters_max = options->waiters_max};
    server->frame = tally_writer_growable(server->alloc);
    server->merged = tally_writer_growable(server->alloc);
    tally_behind_init(&server->behind, server->alloc);
    server->answer = tally_writer_growable(server->alloc);
    server->snapshot_out = tally_writer_growable(server->alloc);
    server->found = tally_alloc_resize(server->alloc, NULL, TALLY_QUERY_KEYS_MAX * sizeof *server->found);
    server->values = tally_alloc_resize(server->alloc, NULL, TALLY_QUERY_KEYS_MAX * sizeof *server->values);
    if (!server->found || !server->values) return TALLY_NO_MEMORY;
    enum tally_status status = tally_mirror_init(server->memory, &mirror, &server->mirror);
    if (!status) status = tally_reader_open(server->mirror, &server->reader);
    if (status) return status;
    server->reader_open = true;
    status = tally_catchup_init(&server->catchup, server->mirror, options->pin_idle_ms, server->alloc);
    if (!status) status = tally_gather_init(&server->gather, &gather, server->alloc);
    if (!status)
        status =
            tally_history_init(&server->history, options->retention_versions, options->retention_bytes, server->alloc);
    return status;
}

enum tally_status tally_server_create(const struct tally_server_options *options, struct tally_record_log *log,
                                      struct tally_snapshot_store *snapshots, struct tally_memory *memory,
                                      const struct tally_server_ops *ops, void *ctx, const struct tally_alloc *alloc,
                                      struct tally_server **out_server)
{
    if (!tally_name_valid(options->dataset) || options->epoch_new == 0 || !log || !memory) return TALLY_INVALID;
    struct tally_server *server = tally_alloc_resize(alloc, NULL, sizeof *server);
    if (!server) return TALLY_NO_MEMORY;
    *server = (struct tally_server){.options = *options,
                                    .log = log,
                                    .snapshots = snapshots,
                                    .memory = memory,
                                    .ops = ops,
                                    .ctx = ctx,
                                    .alloc = alloc};
    memcpy(server->dataset, options->dataset.data, options->dataset.size);
    server->options.dataset = tally_bytes(server->dataset, options->dataset.size);
    defaults(&server->options);
    enum tally_status status = init(server);
    if (status)
        tally_server_destroy(&server);
    else
        *out_server = server;
    return status;
}

void tally_server_destroy(struct tally_server **server)
{
    struct tally_server *s = *server;
    if (!s) return;
    *server = NULL;
    if (s->snapshot.begun && s->snapshots) s->snapshots->ops->abort(s->snapshots);
    tally_snapshot_end(&s->snapshot);
    tally_catchup_deinit(&s->catchup);
    if (s->reader_open) tally_reader_close(&s->reader);
    tally_gather_deinit(&s->gather);
    tally_history_deinit(&s->history);
    tally_state_deinit(&s->state);
    tally_behind_deinit(&s->behind);
    tally_writer_free(&s->frame);
    tally_writer_free(&s->merged);
    tally_writer_free(&s->answer);
    tally_writer_free(&s->snapshot_out);
    tally_alloc_free(s->alloc, s->found);
    tally_alloc_free(s->alloc, s->values);
    tally_alloc_free(s->alloc, s);
}

// ---------------------------------------------------------------------------------------------------- events

void tally_server_tell(struct tally_server *server, enum tally_server_event_kind kind, enum tally_status status,
                       uint64_t version, uint64_t count, const char *text)
{
    static const struct {
        enum tally_server_level level;
        const char *name;
    } kinds[] = {
#define X(name, level, text) {TALLY_SERVER_##level, text},
        TALLY_SERVER_EVENT_LIST(X)
#undef X
    };
    if (!server->ops->event) return;
    const struct tally_server_event event = {.kind = kind,
                                             .level = kinds[kind].level,
                                             .name = kinds[kind].name,
                                             .status = status,
                                             .epoch = server->state.epoch,
                                             .version = version,
                                             .count = count,
                                             .text = text};
    server->ops->event(server->ctx, &event);
}

enum tally_status tally_server_fail(struct tally_server *server, enum tally_server_event_kind kind,
                                    enum tally_status status, uint64_t version, const char *text)
{
    server->failed = status;
    tally_server_tell(server, kind, status, version, 0, text);
    return status;
}

// ---------------------------------------------------------------------------------------------------- what is known

struct tally_mirror *tally_server_mirror(struct tally_server *server) { return server->mirror; }

uint64_t tally_server_whole_bytes(const struct tally_server *server)
{
    // A row: gap, key size, value of about two bytes.
    return server->state.key_bytes + server->state.rows * 4 + 256;
}

bool tally_server_hurry(const struct tally_server *server)
{
    return tally_gather_bytes(&server->gather) > TALLY_RECORD_BYTES_MAX - 2 * TALLY_BATCH_BYTES_MAX;
}

void tally_server_stats(const struct tally_server *server, struct tally_server_stats *out_stats)
{
    const struct tally_state *state = &server->state;
    struct tally_server_stats stats = server->stats;
    stats.epoch = state->epoch;
    stats.version = state->version;
    stats.cut_ms = state->time_ms;
    stats.digest = state->digest;
    stats.rows = state->rows;
    stats.tables = state->tables_count;
    stats.producers = state->producers.count;
    stats.events = state->stats.events;
    stats.amounts = state->stats.amounts;
    stats.saturated = state->stats.saturated;
    stats.expired = state->stats.expired;
    stats.slid = state->stats.slid;
    stats.overflowed = state->stats.overflowed;
    stats.clashes = state->stats.clashes;
    stats.rows_changed = state->stats.rows_changed;
    stats.rows_added = state->stats.rows_added;
    stats.added_bytes = state->stats.added_bytes;
    stats.history_versions = server->history.last - server->history.first;
    stats.history_bytes = server->history.bytes;
    stats.pins = tally_catchup_pins(&server->catchup);
    stats.snapshot_version = server->snapshot_previous;
    stats.pending_batches = server->gather.count;
    stats.pending_bytes = tally_gather_bytes(&server->gather);
    stats.mirror_behind = server->behind.versions;
    stats.failed = server->failed;
    *out_stats = stats;
}
