// SPDX-License-Identifier: Apache-2.0
//
// How a server finds itself again:
//
//   identity  snapshot   log                      then
//   -         -          (empty)                  a new log, a new lineage
//   -         verifies   (lost)                   the snapshot's state, a new log of its lineage, a new epoch
//   -         refused    (lost)                   refused: nothing is left to trust, and nothing is overwritten
//   ok        none       from 1 on                replayed from the empty state
//   ok        verifies   reaches back to it       replayed behind it
//   ok        verifies   ends before it, or empty the snapshot's state, a log begun anew, a new epoch
//   ok        any        begins too late          refused
//
// and a new epoch also where the log itself says that its end may be missing, and where the caller doubts that it is the newest. What neither can
// see, an edge tells that comes with a later version (server_answer.c).
#include <stdio.h>

#include "server_parts.h"

static enum tally_status state_init(struct tally_server *server, uint64_t epoch, struct tally_seed seed)
{
    const struct tally_state_options options = {.dataset = server->options.dataset,
                                                .epoch = epoch,
                                                .seed = seed,
                                                .clash_mask = server->options.clash_mask,
                                                .frame_bytes_max = server->options.frame_bytes_max};
    tally_state_deinit(&server->state);
    return tally_state_init(&server->state, &options, server->alloc);
}

static enum tally_status refuse_log(struct tally_server *server, enum tally_status status, uint64_t version,
                                    const char *text)
{
    return tally_server_fail(server, TALLY_SERVER_EVENT_LOG_REFUSED, status, version, text);
}

// ---------------------------------------------------------------------------------------------------- snapshots

// One snapshot on its way into the state and into the mirror, which are built at the same time where the host has threads.
struct loading {
    struct tally_server *server;
    struct tally_bytes file, last;
    enum tally_status state, mirror;
};

static void load_state(void *ctx)
{
    struct loading *loading = ctx;
    loading->state = tally_snapshot_load(loading->file, &loading->server->state);
}

static void load_mirror(void *ctx)
{
    struct loading *loading = ctx;
    struct tally_server *server = loading->server;
    loading->mirror = tally_snapshot_stage(loading->file, server->mirror, server->memory, &loading->last);
}

static void load_both(struct tally_server *server, struct loading *loading)
{
    if (server->ops->both) {
        server->ops->both(server->ctx, load_state, loading, load_mirror, loading);
        return;
    }
    load_state(loading);
    if (!loading->state) load_mirror(loading);
}

// Fills state and mirror from one snapshot. `known`: the log's identity, or null. What the state refuses leaves no state, and the mirror as it
// was. *out_mirror: what the mirror said to what the state took.
static enum tally_status try_snapshot(struct tally_server *server, const struct tally_log_identity *known,
                                      struct tally_bytes file, struct tally_snapshot_header *out_header,
                                      enum tally_status *out_mirror, const char **out_text)
{
    *out_text = "it does not verify";
    enum tally_status status = tally_snapshot_open(file, out_header);
    if (status) return status;
    if (!tally_bytes_equal(out_header->dataset, server->options.dataset)) {
        *out_text = "it is of another dataset";
        return TALLY_WRONG_DATASET;
    }
    if (known && known->lineage != out_header->lineage) {
        *out_text = "it belongs to another log";
        return TALLY_CORRUPT;
    }
    status = state_init(server, out_header->epoch, server->options.seed_new); // the snapshot has the seed
    if (!status) {
        struct loading loading = {.server = server, .file = file};
        load_both(server, &loading);
        status = loading.state;
        if (status)
            tally_mirror_abandon(server->mirror, server->memory);
        else
            *out_mirror =
                loading.mirror ? loading.mirror : tally_mirror_apply(server->mirror, server->memory, loading.last);
    }
    if (status) tally_state_deinit(&server->state);
    return status;
}

// The newest snapshot that verifies, in the state and in the mirror. TALLY_NOT_FOUND: there is none at all; TALLY_CORRUPT: none verifies.
static enum tally_status load_snapshot(struct tally_server *server, const struct tally_log_identity *known,
                                       struct tally_snapshot_header *out_header)
{
    struct tally_snapshot_store *store = server->snapshots;
    enum tally_status verdict = TALLY_NOT_FOUND;
    if (!store) return TALLY_NOT_FOUND;
    for (uint32_t nth = 0;; nth++) {
        struct tally_bytes file;
        const char *text = "it cannot be read";
        uint64_t version = 0;
        enum tally_status status = store->ops->load(store, nth, &version, &file);
        if (status == TALLY_NOT_FOUND) return verdict;
        enum tally_status mirror = TALLY_OK;
        if (!status) status = try_snapshot(server, known, file, out_header, &mirror, &text);
        if (!status) {
            server->snapshot_previous = server->state.version;
            return mirror;
        }
        tally_server_tell(server, TALLY_SERVER_EVENT_SNAPSHOT_REFUSED, status, version, nth, text);
        if (status == TALLY_NO_MEMORY || status == TALLY_WRONG_DATASET) return status;
        verdict = TALLY_CORRUPT;
    }
}

// ---------------------------------------------------------------------------------------------------- the log

static enum tally_status reset_log(struct tally_server *server, uint64_t lineage, uint64_t now_ms)
{
    struct tally_log_identity identity = {.dataset_bytes = server->options.dataset.size,
                                          .lineage = lineage,
                                          .epoch = server->state.epoch,
                                          .seed = server->state.seed,
                                          .created_ms = now_ms};
    memcpy(identity.dataset, server->dataset, identity.dataset_bytes);
    enum tally_status status = server->log->ops->reset(server->log, &identity);
    if (status) return refuse_log(server, status, server->state.version, "a new log cannot be written");
    server->identity = identity;
    return TALLY_OK;
}

// Verifies as many versions as are pending in the state: one.
static enum tally_status settle(struct tally_server *server, uint64_t now_ms)
{
    enum tally_status status = tally_server_verify(server, now_ms);
    // No reader holds anything yet.
    if (status == TALLY_STALLED)
        status = tally_server_fail(server, TALLY_SERVER_EVENT_MIRROR_REFUSED, TALLY_NO_MEMORY, server->state.version,
                                   "the mirror's memory is too small");
    return status;
}

static enum tally_status replay(struct tally_server *server, uint64_t last, uint64_t now_ms)
{
    for (uint64_t version = server->state.version + 1; version <= last; version++) {
        struct tally_bytes record;
        struct tally_record_reader reader;
        enum tally_status status = server->log->ops->read(server->log, version, &record);
        if (status == TALLY_NOT_FOUND) status = TALLY_CORRUPT;
        if (!status) status = tally_record_open(record, &reader);
        if (!status && reader.header.version != version) status = TALLY_CORRUPT;
        if (status) return refuse_log(server, status, version, "this record cannot be read, and no snapshot covers it");
        if ((status = tally_server_apply(server, version, record))) return status;
        if ((status = settle(server, now_ms))) return status;
    }
    return TALLY_OK;
}

static enum tally_status begin_epoch(struct tally_server *server, uint64_t now_ms, const char *why)
{
    enum tally_status status = tally_server_new_epoch(server, now_ms, why);
    return status ? status : settle(server, now_ms);
}

// Everything behind the state that was found. `reborn`: why the log was begun anew, or null.
static enum tally_status follow_log(struct tally_server *server, const char *reborn, uint64_t now_ms)
{
    uint64_t base = server->state.version, first, last;
    bool continuous;
    char text[128];
    tally_history_restart(&server->history, server->state.epoch, base);
    server->log->ops->range(server->log, &first, &last, &continuous);
    if (!reborn && last < base) {
        reborn = "the log ends before the snapshot: what was behind is lost";
        enum tally_status status = reset_log(server, server->identity.lineage, now_ms);
        if (status) return status;
    } else if (last > base) {
        if (first > base + 1) {
            (void)snprintf(text, sizeof text, "the log begins at %llu and nothing leads there from %llu",
                           (unsigned long long)first, (unsigned long long)base);
            return refuse_log(server, TALLY_CORRUPT, first, text);
        }
        enum tally_status status = replay(server, last, now_ms);
        if (status) return status;
    }
    if (!continuous && !reborn) reborn = "the log was not synchronous and not closed cleanly: its end may be lost";
    if (!reborn) reborn = server->options.doubt;
    return reborn ? begin_epoch(server, now_ms, reborn) : TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- all of it

static enum tally_status find_known(struct tally_server *server, uint64_t now_ms)
{
    struct tally_snapshot_header header;
    const struct tally_log_identity *identity = &server->identity;
    if (!tally_bytes_equal(tally_bytes(identity->dataset, identity->dataset_bytes), server->options.dataset))
        return refuse_log(server, TALLY_WRONG_DATASET, 0, "the log is of another dataset");
    enum tally_status status = load_snapshot(server, identity, &header);
    if (status == TALLY_NOT_FOUND || status == TALLY_CORRUPT)
        status = state_init(server, identity->epoch, identity->seed);
    if (status) return refuse_log(server, status, 0, "no snapshot could be loaded");
    return follow_log(server, NULL, now_ms);
}

static enum tally_status find_new(struct tally_server *server, uint64_t now_ms)
{
    struct tally_snapshot_header header;
    const struct tally_server_options *options = &server->options;
    enum tally_status status = load_snapshot(server, NULL, &header);
    if (status == TALLY_OK) {
        status = reset_log(server, header.lineage, now_ms);
        return status ? status : follow_log(server, "the log is gone: the last snapshot is what is left", now_ms);
    }
    if (status != TALLY_NOT_FOUND)
        return refuse_log(server, status, 0,
                          "the log is gone, and no snapshot verifies: empty the directory to begin anew");
    status = state_init(server, options->epoch_new, options->seed_new);
    if (status) return refuse_log(server, status, 0, "");
    status = reset_log(server, options->epoch_new, now_ms);
    if (status) return status;
    tally_history_restart(&server->history, server->state.epoch, 0);
    tally_server_tell(server, TALLY_SERVER_EVENT_NEW, TALLY_OK, 0, 0, "");
    return TALLY_OK;
}

// Whether a table is what the options want it to be.
static bool defined_so(const struct tally_server *server, const struct tally_named_definition *named)
{
    uint32_t number = tally_state_table(&server->state, named->table);
    return number != TALLY_TABLES_MAX &&
           tally_definition_equal(&server->state.tables[number].definition, &named->definition);
}

static enum tally_status refuse_definition(struct tally_server *server, enum tally_status status,
                                           struct tally_bytes table, const char *why)
{
    char text[TALLY_NAME_BYTES_MAX + 160];
    (void)snprintf(text, sizeof text, "table \"%.*s\": %s", (int)table.size, (const char *)table.data,
                   why ? why : tally_status_str(status));
    return tally_server_fail(server, TALLY_SERVER_EVENT_DEFINITION_REFUSED, status, server->state.version, text);
}

// A record of its own makes the tables what the options say, when they are not.
static enum tally_status define_tables(struct tally_server *server, uint64_t now_ms)
{
    struct tally_bytes record;
    struct tally_gather *gather = &server->gather;
    for (size_t i = 0; i < server->options.definitions_count; i++) {
        const struct tally_named_definition *named = &server->options.definitions[i];
        const char *why = NULL;
        if (defined_so(server, named)) continue;
        enum tally_status status =
            tally_gather_define(gather, &server->state, named->table, &named->definition, false, 0, &why);
        if (status) return refuse_definition(server, status, named->table, why);
    }
    if (gather->definitions == 0) return TALLY_OK;
    uint64_t time_ms = now_ms > server->state.time_ms ? now_ms : server->state.time_ms;
    const struct tally_record_header header = {.version = server->state.version + 1, .time_ms = time_ms};
    enum tally_status status = tally_gather_cut(gather, &header, &record);
    if (!status) status = tally_server_commit(server, header.version, record);
    if (!status) status = settle(server, now_ms);
    if (!status)
        tally_server_tell(server, TALLY_SERVER_EVENT_DEFINED, TALLY_OK, header.version, gather->definitions, "");
    tally_gather_reset(gather);
    return status;
}

enum tally_status tally_server_recover(struct tally_server *server, uint64_t now_ms)
{
    if (server->recovered || server->failed) return TALLY_INVALID;
    enum tally_status status = server->log->ops->identity(server->log, &server->identity);
    if (status == TALLY_OK)
        status = find_known(server, now_ms);
    else if (status == TALLY_NOT_FOUND)
        status = find_new(server, now_ms);
    else
        return refuse_log(server, status, 0, "its identity cannot be read");
    uint64_t replayed = server->state.version - server->snapshot_previous;
    if (!status) status = define_tables(server, now_ms);
    if (status) {
        server->failed = status;
        return status;
    }
    if (server->snapshots && server->snapshots->ops->release) server->snapshots->ops->release(server->snapshots);
    uint64_t base = server->snapshot_previous;
    server->snapshot_due = base + server->options.snapshot_every;
    server->recovered = true;
    // What is counted for people begins with the process: the replay was counted in another's life.
    server->state.stats = (struct tally_state_stats){0};
    tally_mirror_confirm(server->mirror, server->state.epoch, server->state.version, now_ms);
    tally_server_tell(server, TALLY_SERVER_EVENT_RECOVERED, TALLY_OK, server->state.version, replayed, "");
    return TALLY_OK;
}
