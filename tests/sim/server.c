// SPDX-License-Identifier: Apache-2.0
//
// The server process: the real core over a log and a snapshot store in memory that outlive it. It may end at any step, and inside any call of
// the core to the outside: before or after the disk has what it was given, between two messages.
#include "sim.h"

#include <server/src/record.h>

static struct sim_server *server_of_log(struct tally_record_log *log)
{
    return (struct sim_server *)(void *)((uint8_t *)(void *)log - offsetof(struct sim_server, log));
}

static struct sim_server *server_of_snapshots(struct tally_snapshot_store *store)
{
    return (struct sim_server *)(void *)((uint8_t *)(void *)store - offsetof(struct sim_server, snapshots));
}

// Whether the process ends now, inside a call.
static bool doomed(struct sim_server *server)
{
    if (server->dead || !sim_fault(server->sim, server->sim->config.doom)) return server->dead;
    sim_trace(server->sim, "server-doomed", 0, 0, 0);
    server->sim->counters.server_dooms++;
    return server->dead = true;
}

static bool disk_fails(struct sim_server *server)
{
    if (!sim_fault(server->sim, server->sim->config.disk_fails)) return false;
    server->sim->counters.disk_failures++;
    sim_trace(server->sim, "disk-fails", 0, 0, 0);
    return true;
}

// ---------------------------------------------------------------------------------------------------- the log

static enum tally_status log_identity(struct tally_record_log *log, struct tally_log_identity *out)
{
    return test_log_identity(&server_of_log(log)->log_disk.log, out);
}

static enum tally_status log_reset(struct tally_record_log *log, const struct tally_log_identity *identity)
{
    struct sim_server *server = server_of_log(log);
    if (doomed(server) || disk_fails(server)) return TALLY_IO;
    server->settled = false;
    return test_log_reset(&server->log_disk.log, identity);
}

static void log_range(struct tally_record_log *log, uint64_t *out_first, uint64_t *out_last, bool *out_continuous)
{
    test_log_range(&server_of_log(log)->log_disk.log, out_first, out_last, out_continuous);
}

// An append that does not return TALLY_OK may or may not have reached the disk.
static enum tally_status log_append(struct tally_record_log *log, uint64_t version, struct tally_bytes record)
{
    struct sim_server *server = server_of_log(log);
    if (doomed(server)) return TALLY_IO;
    bool fails = disk_fails(server);
    if (fails && test_random_percent(&server->sim->random, 50)) return TALLY_IO;
    enum tally_status status = test_log_append(&server->log_disk.log, version, record);
    if (status) sim_fail(server->sim, "record %llu does not follow the log", (unsigned long long)version);
    sim_truth_append(server->sim, version, record);
    if (!server->sim->config.synchronous) {
        // The first one is durable in any case.
        server->unsynchronized++;
        if (!server->settled || test_random_percent(&server->sim->random, 10)) server->unsynchronized = 0;
        server->settled = true;
    }
    return fails || doomed(server) ? TALLY_IO : TALLY_OK;
}

static enum tally_status log_read(struct tally_record_log *log, uint64_t version, struct tally_bytes *out)
{
    return test_log_read(&server_of_log(log)->log_disk.log, version, out);
}

static enum tally_status log_trim(struct tally_record_log *log, uint64_t version, bool *out_more)
{
    struct sim_server *server = server_of_log(log);
    if (doomed(server) || disk_fails(server)) return TALLY_IO;
    // A part of it, and the rest later.
    uint64_t part = version;
    if (server->log_disk.count > 4 && test_random_percent(&server->sim->random, 50)) part = server->log_disk.first + 2;
    enum tally_status status = test_log_trim(&server->log_disk.log, part < version ? part : version, out_more);
    *out_more = part < version;
    return status;
}

static void log_close(struct tally_record_log *log) { (void)log; }

static const struct tally_record_log_ops log_ops = {
    .identity = log_identity,
    .reset = log_reset,
    .range = log_range,
    .append = log_append,
    .read = log_read,
    .trim = log_trim,
    .close = log_close,
};

// ---------------------------------------------------------------------------------------------------- snapshots

static enum tally_status snapshots_load(struct tally_snapshot_store *store, uint32_t nth, uint64_t *out_version,
                                        struct tally_bytes *out_bytes)
{
    return test_snapshots_load(&server_of_snapshots(store)->snapshots_disk.store, nth, out_version, out_bytes);
}

static enum tally_status snapshots_begin(struct tally_snapshot_store *store, uint64_t version)
{
    struct sim_server *server = server_of_snapshots(store);
    if (doomed(server) || disk_fails(server)) return TALLY_NO_SPACE;
    return test_snapshots_begin(&server->snapshots_disk.store, version);
}

static enum tally_status snapshots_write(struct tally_snapshot_store *store, struct tally_bytes bytes)
{
    struct sim_server *server = server_of_snapshots(store);
    if (doomed(server) || disk_fails(server)) return TALLY_NO_SPACE;
    return test_snapshots_write(&server->snapshots_disk.store, bytes);
}

static enum tally_status snapshots_commit(struct tally_snapshot_store *store)
{
    struct sim_server *server = server_of_snapshots(store);
    if (doomed(server) || disk_fails(server)) return TALLY_NO_SPACE;
    enum tally_status status = test_snapshots_commit(&server->snapshots_disk.store);
    server->sim->counters.snapshots++;
    sim_trace(server->sim, "snapshot", server->snapshots_disk.kept[0].version, server->snapshots_disk.kept[0].size, 0);
    return doomed(server) ? TALLY_IO : status;
}

static void snapshots_abort(struct tally_snapshot_store *store)
{
    test_snapshots_abort(&server_of_snapshots(store)->snapshots_disk.store);
}

static void snapshots_close(struct tally_snapshot_store *store) { (void)store; }

static const struct tally_snapshot_store_ops snapshots_ops = {
    .load = snapshots_load,
    .begin = snapshots_begin,
    .write = snapshots_write,
    .commit = snapshots_commit,
    .abort = snapshots_abort,
    .close = snapshots_close,
};

// ---------------------------------------------------------------------------------------------------- actions

static void on_publish(void *ctx, struct tally_bytes message)
{
    struct sim_server *server = ctx;
    struct sim *sim = server->sim;
    if (doomed(server)) return;
    sim_truth_cut(sim);
    sim_truth_published(sim, message);
    for (uint32_t e = 0; e < sim->config.edges; e++) {
        for (uint32_t l = 0; l < sim->config.links; l++) {
            const struct sim_edge *edge = &sim->edges[e];
            if (!edge->up || !edge->links[l].up || edge->links[l].silent) continue;
            sim_send(sim, &(struct sim_message){.kind = SIM_PUBLISH, .node = e, .link = l, .life = edge->life},
                     message);
        }
    }
}

// What an acknowledgement promises holds in the moment when it is given.
static void check_ack(struct sim *sim, const struct sim_token *token, struct tally_bytes bytes)
{
    struct tally_answer answer;
    SIM_CHECK(sim, tally_answer_decode(&tally_alloc_libc, bytes, &answer) == TALLY_OK);
    if (answer.status == TALLY_OK || answer.status == TALLY_REPEAT) {
        // request: batch number << 1, or a hello.
        const struct sim_instance *instance = sim_instance(sim, token->from.request >> 32);
        uint64_t sequence = (token->from.request & UINT32_MAX) >> 1;
        bool hello = token->from.request & 1;
        if (!hello && !instance->batches[sequence - 1]->effective)
            sim_fail(sim, "batch %llu of producer %llu is acknowledged and not in the log",
                     (unsigned long long)sequence, (unsigned long long)(token->from.request >> 32));
        if (hello && answer.expected_sequence != instance->last_effective + 1)
            sim_fail(sim, "producer %llu is told to go on at %llu, the log says %llu",
                     (unsigned long long)(token->from.request >> 32), (unsigned long long)answer.expected_sequence,
                     (unsigned long long)instance->last_effective + 1);
        SIM_CHECK(sim, answer.version <= sim->truth.version);
    }
    if (answer.status == TALLY_HOLE || answer.status == TALLY_UNKNOWN_PRODUCER) {
        const struct sim_instance *instance = sim_instance(sim, token->from.request >> 32);
        SIM_CHECK(sim, answer.expected_sequence > instance->last_effective);
        SIM_CHECK(sim, answer.status == TALLY_HOLE || instance->last_effective == 0);
    }
    tally_answer_free(&tally_alloc_libc, &answer);
}

static void on_reply(void *ctx, uint64_t token, struct tally_bytes answer)
{
    struct sim_server *server = ctx;
    struct sim *sim = server->sim;
    if (doomed(server)) return;
    size_t i = 0;
    while (i < server->tokens_count && server->tokens[i].token != token) i++;
    if (i == server->tokens_count) sim_fail(sim, "request %llu is answered twice", (unsigned long long)token);
    struct sim_token found = server->tokens[i];
    server->tokens[i] = server->tokens[--server->tokens_count];
    struct sim_message message = found.from;
    if (message.kind == SIM_INGEST) {
        check_ack(sim, &found, answer);
        message.kind = SIM_ACK;
    } else {
        message.kind = SIM_ANSWER;
        const struct sim_edge *edge = &sim->edges[message.node];
        if (!edge->links[message.link].up || edge->links[message.link].silent) return;
    }
    sim_send(sim, &message, answer);
}

static void on_event(void *ctx, const struct tally_server_event *event)
{
    struct sim_server *server = ctx;
    struct sim *sim = server->sim;
    if (event->kind == TALLY_SERVER_EVENT_MIRROR_REFUSED && event->status != TALLY_NO_MEMORY)
        sim_fail(sim, "the server's own frame of version %llu did not verify: %s", (unsigned long long)event->version,
                 tally_status_str(event->status));
    if (event->kind == TALLY_SERVER_EVENT_SNAPSHOT_REFUSED) sim->counters.snapshots_refused++;
    if (event->kind == TALLY_SERVER_EVENT_EPOCH || event->kind == TALLY_SERVER_EVENT_CONTINUITY_LOST)
        sim->counters.epochs++;
    if (sim->verbose)
        printf("    server %s version %llu status \"%s\" %s\n", event->name, (unsigned long long)event->version,
               tally_status_str(event->status), event->text);
}

// Somebody reads the server's mirror now and then; and sometimes the memory that the mirror's lag takes is what fails.
static bool on_may_lag(void *ctx)
{
    struct sim_server *server = ctx;
    if (!test_random_percent(&server->sim->random, 60)) return false;
    server->lags = true;
    server->sim->counters.lags++;
    return true;
}

static void on_current(void *ctx) { ((struct sim_server *)ctx)->lags = false; }

static const struct tally_server_ops ops = {
    .publish = on_publish, .reply = on_reply, .event = on_event, .may_lag = on_may_lag, .current = on_current};

// ---------------------------------------------------------------------------------------------------- the process

uint64_t sim_server_now(const struct sim *sim)
{
    return (uint64_t)((int64_t)(SIM_UNIX_MS + sim->now_ms) + sim->server.clock_ms);
}

static bool grow(struct tally_memory *memory, size_t size_min)
{
    struct sim_server *server =
        (struct sim_server *)(void *)((uint8_t *)(void *)memory - offsetof(struct sim_server, memory));
    if (sim_fault(server->sim, server->sim->config.no_memory)) return false;
    return server->grow(memory, size_min);
}

static void let_go(struct sim_server *server)
{
    if (server->core) tally_reader_close(&server->reader);
    tally_server_destroy(&server->core);
    SIM_CHECK(server->sim, server->alloc.blocks == 0);
    if (server->memory.base) tally_memory_unmap(&server->memory);
    server->up = server->dead = false;
    server->tokens_count = 0;
}

static void fall(struct sim_server *server)
{
    struct sim *sim = server->sim;
    let_go(server);
    sim->counters.server_crashes++;
    server->start_ms = sim->now_ms + (sim->faults ? test_random_below(&sim->random, 1500) : 10);
    // What the disk did not have yet: some of it may be gone, and nobody knows how much.
    if (!sim->config.synchronous && sim->faults) {
        server->log_disk.discontinuous = true;
        uint64_t lost = test_random_below(&sim->random, server->unsynchronized + 1);
        if (lost) {
            sim->counters.tails_lost++;
            sim->counters.losses++;
            sim->truth.loss_allowed = true;
        }
        sim_trace(sim, "tail-lost", lost, server->unsynchronized, 0);
        test_log_lose(&server->log_disk, lost);
        server->unsynchronized = 0;
    }
    sim_trace(sim, "server-falls", server->start_ms, 0, 0);
}

// An operator empties the data directory, or half of it is lost.
static void lose_disk(struct sim_server *server, bool all)
{
    struct sim *sim = server->sim;
    bool snapshots = all || test_random_percent(&sim->random, 50);
    sim->counters.losses++;
    sim_trace(sim, "disk-lost", snapshots, 0, 0);
    test_log_free(&server->log_disk);
    server->damaged = false;
    sim->truth.loss_allowed = true;
    if (snapshots || !server->snapshots_disk.kept[0].data) {
        test_snapshots_free(&server->snapshots_disk);
        sim_truth_lose(sim, 0);
    }
}

static void damage_snapshot(struct sim_server *server)
{
    struct test_snapshot *snapshot = &server->snapshots_disk.kept[0];
    // Only where another way is left: the one before it, and the log behind that.
    if (!snapshot->size || !server->snapshots_disk.kept[1].size) return;
    if (server->damaged_version == server->snapshots_disk.kept[1].version) return;
    server->damaged_version = snapshot->version;
    uint64_t bit = test_random_below(&server->sim->random, snapshot->size * 8);
    snapshot->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    sim_trace(server->sim, "snapshot-damaged", bit, 0, 0);
}

static void damage_record(struct sim_server *server)
{
    struct test_log *log = &server->log_disk;
    if (!log->count) return;
    struct tally_bytes record = log->records[test_random_below(&server->sim->random, log->count)];
    uint64_t bit = test_random_below(&server->sim->random, record.size * 8);
    ((uint8_t *)(uintptr_t)record.data)[bit / 8] ^= (uint8_t)(1u << bit % 8);
    server->damaged = true;
    server->sim->counters.records_damaged++;
    sim_trace(server->sim, "record-damaged", bit, 0, 0);
}

static void damage_disk(struct sim_server *server)
{
    switch (test_random_below(&server->sim->random, 6)) {
    case 0: lose_disk(server, true); break;
    case 1: lose_disk(server, false); break;
    case 2: damage_record(server); break;
    case 3: // the log alone may be too short
        server->damaged = true;
        test_snapshots_free(&server->snapshots_disk);
        sim_trace(server->sim, "snapshots-lost", 0, 0, 0);
        break;
    default: damage_snapshot(server); break;
    }
}

// Another server of the same log was there meanwhile, and logged what producers had sent to both: repeats, new batches, and such as come behind
// a hole. Only the state can tell.
static void append_foreign(struct sim_server *server)
{
    struct sim *sim = server->sim;
    struct tally_writer writer = test_writer();
    struct tally_bytes record;
    uint64_t version = sim->truth.version + 1;
    tally_record_begin(&writer);
    for (uint64_t n = test_random_below(&sim->random, 6); n > 0; n--) {
        const struct sim_instance *instance =
            &sim->truth.instances[test_random_below(&sim->random, sim->truth.instances_count)];
        if (!instance->count) continue;
        uint64_t back = test_random_below(&sim->random, instance->count < 5 ? instance->count : 5);
        const struct sim_batch *batch = instance->batches[instance->count - 1 - back];
        if (batch->sent) tally_record_batch(&writer, batch->inner);
    }
    const struct tally_record_header header = {.version = version, .time_ms = sim_server_now(sim)};
    SIM_CHECK(sim, tally_record_finish(&writer, &header, &record) == TALLY_OK);
    SIM_CHECK(sim, test_log_append(&server->log_disk.log, version, record) == TALLY_OK);
    sim_truth_append(sim, version, record);
    sim->counters.foreign_records++;
    test_writer_free(&writer);
}

// What the settings say of tables when the process starts: an operator may have changed what may be changed.
static void draw_settings(struct sim_server *server)
{
    const struct sim_config *config = &server->sim->config;
    struct test_random *random = &server->sim->random;
    server->definitions_count = 0;
    for (uint32_t t = 0; t < SIM_TABLES; t++) {
        struct tally_definition definition = config->definitions[t];
        if (definition.kind == TALLY_KIND_UNSPECIFIED) continue;
        if (config->redefine && test_random_percent(random, 30)) definition.ttl_ms = test_random_below(random, 400);
        if (config->redefine && test_random_percent(random, 30)) definition.max_keys = test_random_below(random, 30);
        server->definitions[server->definitions_count++] =
            (struct tally_named_definition){.table = sim_table(t), .definition = definition};
    }
    server->definitions_count += sim_kinds_settings(server->sim, server->definitions + server->definitions_count);
}

static enum tally_status create(struct sim_server *server)
{
    struct sim *sim = server->sim;
    const struct sim_config *config = &sim->config;
    // The epoch of a log that is new is the time: from a clock that is behind it would be one that nobody follows.
    uint64_t now_ms = sim_server_now(sim);
    if (!server->log_disk.identified && now_ms < server->newest_ms + 1000)
        server->clock_ms += (int64_t)(server->newest_ms + 1000 - now_ms);
    if (sim_server_now(sim) > server->newest_ms) server->newest_ms = sim_server_now(sim);
    draw_settings(server);
    const struct tally_server_options options = {
        .dataset = test_text(SIM_DATASET),
        .epoch_new = sim_server_now(sim) << 20 | test_random_below(&sim->random, 1 << 20),
        .seed_new = {test_random_next(&sim->random), test_random_next(&sim->random)},
        .heartbeat_ms = config->heartbeat_ms,
        .retention_versions = config->retention_versions,
        .snapshot_every = config->snapshot_every,
        .snapshot_chunks = 1,
        .pin_idle_ms = 1000,
        .waiters_max = 100,
        .lag_versions = 5,
        .lag_changes = 1,
        .clash_mask = config->clash_mask,
        .frame_bytes_max = config->frame_bytes_max,
        .definitions = server->definitions,
        .definitions_count = server->definitions_count,
    };
    enum tally_status status = tally_memory_map(SIM_MEMORY_BYTES, 0, &server->memory);
    if (status) return status;
    server->grow = server->memory.grow;
    server->memory.grow = grow;
    status = tally_server_create(&options, &server->log, &server->snapshots, &server->memory, &ops, server,
                                 &server->alloc.alloc, &server->core);
    if (status) return status;
    server->lags = false;
    status = tally_reader_open(tally_server_mirror(server->core), &server->reader);
    SIM_CHECK(sim, status == TALLY_OK);
    return tally_server_recover(server->core, sim_server_now(sim));
}

static void start(struct sim_server *server)
{
    struct sim *sim = server->sim;
    bool whole = server->log_disk.count && !sim->truth.loss_allowed;
    if (whole && sim->config.synchronous && sim_fault(sim, sim->config.foreign)) append_foreign(server);
    if (sim_fault(sim, sim->config.loss)) damage_disk(server);
    server->life++;
    server->settled = false;
    server->alloc.fail_at = 0;
    enum tally_status status = create(server);
    sim_trace(sim, "server-starts", status, server->life, server->dead);
    if (status == TALLY_OK && !server->dead) {
        sim->counters.server_restarts++;
        server->up = true;
        server->log_disk.discontinuous = !sim->config.synchronous;
        server->tick_ms = sim->now_ms;
        // Nothing lost means nothing lost.
        struct tally_server_stats stats;
        tally_server_stats(server->core, &stats);
        if (stats.version != sim->truth.version && sim->truth.loss_allowed) sim_truth_lose(sim, stats.version);
        sim->truth.loss_allowed = false;
        SIM_CHECK(sim, stats.version == sim->truth.version);
        sim_truth_cut(sim);
        return;
    }
    bool accident = server->dead || status == TALLY_NO_MEMORY || status == TALLY_IO || status == TALLY_NO_SPACE;
    fall(server);
    if (accident) return;
    if (!sim->counters.losses && !server->damaged)
        sim_fail(sim, "the server does not find itself again: %s", tally_status_str(status));
    sim->counters.recover_refused++;
    lose_disk(server, true);
}

void sim_server_receive(struct sim *sim, const struct sim_message *message)
{
    struct sim_server *server = &sim->server;
    if (!server->up) return;
    struct tally_bytes bytes = tally_bytes(message->data, message->size);
    if (message->kind == SIM_PUSH) {
        tally_server_push(server->core, bytes, sim_server_now(sim));
    } else {
        if (server->tokens_count == server->tokens_capacity) {
            server->tokens_capacity = server->tokens_capacity ? server->tokens_capacity * 2 : 32;
            server->tokens = realloc(server->tokens, server->tokens_capacity * sizeof *server->tokens);
            if (!server->tokens) abort();
        }
        struct sim_message from = *message;
        from.data = NULL;
        server->tokens[server->tokens_count++] = (struct sim_token){++server->token, from};
        tally_server_request(server->core,
                             message->kind == SIM_INGEST ? TALLY_ENDPOINT_INGEST : TALLY_ENDPOINT_CATCH_UP,
                             server->token, bytes, sim_server_now(sim));
    }
    if (server->dead) fall(server);
}

static void tick(struct sim_server *server)
{
    struct sim *sim = server->sim;
    bool stop = sim_fault(sim, sim->config.stop_server);
    enum tally_status status = stop ? tally_server_stop(server->core, sim_server_now(sim))
                                    : tally_server_tick(server->core, sim_server_now(sim));
    server->tick_ms = sim->now_ms + sim->config.tick_ms;
    if (status || server->dead) {
        sim_trace(sim, "server-fails", status, server->dead, 0);
        fall(server);
        return;
    }
    // Somebody is about to read.
    if (test_random_percent(&sim->random, 20)) {
        status = tally_server_current(server->core, sim_server_now(sim));
        if ((status && status != TALLY_STALLED) || server->dead) {
            sim_trace(sim, "server-fails", status, server->dead, 1);
            fall(server);
            return;
        }
        SIM_CHECK(sim, status || !server->lags);
    }
    sim_truth_cut(sim);
    // Nobody who asked is forgotten: after a tick that went well none waits.
    struct tally_server_stats stats;
    tally_server_stats(server->core, &stats);
    if (stats.pending_batches == 0 && server->tokens_count)
        sim_fail(sim, "%zu requests are left without an answer", server->tokens_count);
    if (!stop) return;
    sim->counters.server_stops++;
    server->unsynchronized = 0;
    server->log_disk.discontinuous = false;
    let_go(server);
    server->start_ms = sim->now_ms + test_random_below(&sim->random, 500);
    sim_trace(sim, "server-stops", 0, 0, 0);
}

void sim_server_faults(struct sim *sim)
{
    struct sim_server *server = &sim->server;
    const struct sim_config *config = &sim->config;
    if (server->up && sim_fault(sim, config->crash_server)) fall(server);
    if (sim_fault(sim, config->clock_jump)) {
        server->clock_ms += (int64_t)test_random_below(&sim->random, 40000) - 20000;
        sim->counters.clock_jumps++;
    }
    if (server->up && sim_fault(sim, config->no_memory)) {
        server->alloc.fail_at = server->alloc.requests + 1 + test_random_below(&sim->random, 20);
        sim->counters.no_memory++;
    }
}

void sim_server_step(struct sim *sim)
{
    struct sim_server *server = &sim->server;
    if (!server->up && sim->now_ms >= server->start_ms) start(server);
    if (server->up && sim->now_ms >= server->tick_ms) tick(server);
}

void sim_server_init(struct sim *sim)
{
    struct sim_server *server = &sim->server;
    *server = (struct sim_server){.sim = sim,
                                  .log = {&log_ops},
                                  .snapshots = {&snapshots_ops},
                                  .log_disk = test_log(),
                                  .snapshots_disk = test_snapshots()};
    test_alloc_init(&server->alloc);
}

void sim_server_free(struct sim *sim)
{
    let_go(&sim->server);
    test_log_free(&sim->server.log_disk);
    test_snapshots_free(&sim->server.snapshots_disk);
    free(sim->server.tokens);
}
