// SPDX-License-Identifier: Apache-2.0
//
// An edge process: the real sync core over a real mirror, and a stored copy on a disk that may lose or damage what was written.
#include "sim.h"

struct tally_sync_now sim_edge_now(const struct sim_edge *edge)
{
    uint64_t now_ms = edge->sim->now_ms;
    return (struct tally_sync_now){now_ms, (uint64_t)((int64_t)(SIM_UNIX_MS + now_ms) + edge->clock_ms)};
}

static void see(struct sim_edge *edge, struct tally_view_info *out_info)
{
    struct tally_view view;
    tally_view_pin(&edge->reader, &view);
    tally_view_info(&view, out_info);
    tally_view_unpin(&view);
}

// ---------------------------------------------------------------------------------------------------- what it serves

static bool served_before(const struct sim_edge *edge, uint64_t epoch, uint64_t version)
{
    for (size_t i = edge->places_count; i-- > 0;) {
        if (edge->places[i].epoch == epoch && edge->places[i].version == version) return true;
    }
    return false;
}

static void remember(struct sim_edge *edge, uint64_t epoch, uint64_t version)
{
    if (served_before(edge, epoch, version)) return;
    if (edge->places_count == edge->places_capacity) {
        edge->places_capacity = edge->places_capacity ? edge->places_capacity * 2 : 64;
        edge->places = realloc(edge->places, edge->places_capacity * sizeof *edge->places);
        if (!edge->places) abort();
    }
    edge->places[edge->places_count++] = (struct sim_place){epoch, version};
}

// After everything that happens at the edge: what a reader sees is what a server cut, whole and right, and never goes back. After a
// restart, while only the stored copy was read, it is something that this edge served in an earlier life.
static void check_served(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    struct tally_view_info info;
    see(edge, &info);
    const struct tally_view_info *held = &edge->held;
    if (info.epoch == held->epoch && info.version == held->version) {
        SIM_CHECK(sim, tally_digest_equal(info.digest, held->digest));
        SIM_CHECK(sim, info.fresh_ms >= held->fresh_ms);
        edge->held = info;
        return;
    }
    if (info.epoch < held->epoch || (info.epoch == held->epoch && info.version < held->version))
        sim_fail(sim, "edge %u goes back from %016llx:%llu to %016llx:%llu", edge->number,
                 (unsigned long long)held->epoch, (unsigned long long)held->version, (unsigned long long)info.epoch,
                 (unsigned long long)info.version);
    const struct sim_cut *cut = sim_truth_find(sim, info.epoch, info.version);
    if (!cut)
        sim_fail(sim, "edge %u serves %016llx:%llu, which no server cut", edge->number, (unsigned long long)info.epoch,
                 (unsigned long long)info.version);
    struct tally_view view;
    tally_view_pin(&edge->reader, &view);
    struct tally_digest digest = sim_view_digest(sim, &view);
    tally_view_unpin(&view);
    if (!tally_digest_equal(digest, cut->digest) || !tally_digest_equal(info.digest, cut->digest) ||
        info.rows != cut->rows)
        sim_fail(sim, "edge %u serves something else as %016llx:%llu than the server cut", edge->number,
                 (unsigned long long)info.epoch, (unsigned long long)info.version);
    if (edge->booting && !served_before(edge, info.epoch, info.version))
        sim_fail(sim, "edge %u comes back with %016llx:%llu, which it never served", edge->number,
                 (unsigned long long)info.epoch, (unsigned long long)info.version);
    remember(edge, info.epoch, info.version);
    sim_trace(sim, "serves", edge->number, info.epoch, info.version);
    edge->held = info;
}

static void check_pinned(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    struct tally_view_info info;
    tally_view_info(&edge->view, &info);
    SIM_CHECK(sim, info.epoch == edge->view_info.epoch && info.version == edge->view_info.version);
    SIM_CHECK(sim, info.rows == edge->view_info.rows && tally_digest_equal(info.digest, edge->view_info.digest));
    if (!tally_digest_equal(sim_view_digest(sim, &edge->view), edge->view_digest))
        sim_fail(sim, "edge %u: the pinned version %llu changed", edge->number, (unsigned long long)info.version);
}

static void pin(struct sim_edge *edge)
{
    tally_view_pin(&edge->reader, &edge->view);
    tally_view_info(&edge->view, &edge->view_info);
    edge->view_digest = sim_view_digest(edge->sim, &edge->view);
    edge->pinned = true;
    edge->unpin_ms = edge->sim->now_ms + test_random_below(&edge->sim->random, 3000);
    edge->sim->counters.pins++;
}

static void unpin(struct sim_edge *edge)
{
    if (!edge->pinned) return;
    check_pinned(edge);
    tally_view_unpin(&edge->view);
    edge->pinned = false;
}

// ---------------------------------------------------------------------------------------------------- the stored copy

static void rewrite_store(struct sim_edge *edge)
{
    static uint8_t scratch[TALLY_CHUNK_BYTES_MAX], chunk_bytes[TALLY_CHUNK_BYTES_MAX];
    struct sim *sim = edge->sim;
    struct tally_view view;
    struct tally_cursor cursor = {0};
    uint32_t chunk = 0;
    bool more = true;
    size_t size;
    tally_view_pin(&edge->reader, &view);
    edge->store.size = 0;
    tally_framefile_begin(&edge->store);
    while (more) {
        enum tally_status status = tally_view_write_chunk(&view, &cursor, &chunk, scratch, chunk_bytes, &size, &more);
        SIM_CHECK(sim, status == TALLY_OK && size <= TALLY_CHUNK_BYTES_MAX);
        tally_framefile_append(&edge->store, tally_bytes(chunk_bytes, size));
    }
    tally_view_unpin(&view);
    edge->store_base = edge->store.size;
    edge->rebase = false;
    sim->counters.stores_rewritten++;
}

static void on_persist(void *ctx, enum tally_sync_persist kind, struct tally_bytes frame)
{
    struct sim_edge *edge = ctx;
    if (kind == TALLY_SYNC_PERSIST_REBASE || edge->rebase || edge->store.size > 4096 + 4 * edge->store_base)
        rewrite_store(edge);
    else
        tally_framefile_append(&edge->store, frame);
    SIM_CHECK(edge->sim, !edge->store.failed);
}

// What a crash leaves of it.
static void damage_store(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    uint64_t what = test_random_below(&sim->random, 10);
    if (what < 4 || !sim->faults) return;
    sim->counters.stores_damaged++;
    if (what < 7) { // a torn end
        edge->store.size -= test_random_below(&sim->random, edge->store.size < 300 ? edge->store.size + 1 : 300);
    } else if (what < 9) {
        for (uint64_t n = test_random_between(&sim->random, 1, 3); n > 0 && edge->store.size; n--) {
            uint64_t bit = test_random_below(&sim->random, edge->store.size * 8);
            edge->store.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    } else {
        sim->counters.stores_lost++;
        edge->store.size = 0;
    }
    sim_trace(sim, "store-damaged", edge->number, what, edge->store.size);
}

// Reads the stored copy. What is behind the good part goes; sometimes the next version is written anew, sometimes behind the good part.
static void boot(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    struct tally_framefile file;
    struct tally_bytes message;
    enum tally_status status = tally_framefile_open(tally_writer_bytes(&edge->store), &file);
    size_t good = TALLY_FRAMEFILE_MAGIC_BYTES;
    bool staged = false;
    edge->booting = true;
    tally_sync_boot_begin(edge->sync, sim_edge_now(edge));
    while (status == TALLY_OK && (status = tally_framefile_next(&file, &message)) == TALLY_OK) {
        status = tally_sync_boot_message(edge->sync, sim_edge_now(edge), message);
        sim->counters.boot_messages++;
        staged = status == TALLY_MORE;
        if (staged) status = TALLY_OK;
        if (status == TALLY_OK && !staged) good = file.at;
        check_served(edge);
    }
    tally_sync_boot_end(edge->sync, sim_edge_now(edge));
    check_served(edge);
    edge->booting = false;
    edge->rebase = edge->held.version == 0 || test_random_percent(&sim->random, 30);
    if (edge->store.size > good) edge->store.size = good;
    if (edge->held.version) sim->counters.edge_boots++;
    sim_trace(sim, "boots", edge->number, edge->held.version, status);
}

// ---------------------------------------------------------------------------------------------------- actions

static enum tally_status on_apply(void *ctx, struct tally_bytes frame)
{
    struct sim_edge *edge = ctx;
    enum tally_status status = tally_mirror_apply(edge->mirror, &edge->memory, frame);
    if (status == TALLY_STALLED) edge->sim->counters.stalled++;
    if (status == TALLY_OK) check_served(edge); // one message may lead over several versions
    return status;
}

static void on_confirm(void *ctx, uint64_t epoch, uint64_t version, uint64_t now_ms)
{
    tally_mirror_confirm(((struct sim_edge *)ctx)->mirror, epoch, version, now_ms);
}

static void on_abandon(void *ctx)
{
    struct sim_edge *edge = ctx;
    tally_mirror_abandon(edge->mirror, &edge->memory);
}

static void on_held(void *ctx, struct tally_view_info *out_info) { see(ctx, out_info); }

static enum tally_status on_send(void *ctx, uint32_t server, uint64_t request, struct tally_bytes bytes)
{
    struct sim_edge *edge = ctx;
    SIM_CHECK(edge->sim, server < edge->sim->config.links && edge->links[server].connected);
    if (!edge->links[server].up) return TALLY_UNREACHABLE;
    if (edge->links[server].silent) return TALLY_OK;
    const struct sim_message message = {
        .kind = SIM_ASK, .node = edge->number, .link = server, .life = edge->life, .request = request};
    sim_send(edge->sim, &message, bytes);
    return TALLY_OK;
}

static void on_event(void *ctx, const struct tally_sync_event *event)
{
    static const char *const names[] = {"state",    "connected",      "disconnected", "epoch",      "gap",
                                        "catch-up", "request-failed", "refused",      "lower-epoch"};
    struct sim_edge *edge = ctx;
    if (!edge->sim->verbose) return;
    printf("    edge %u %s status \"%s\" epoch %016llx version %llu count %llu\n", edge->number, names[event->kind],
           tally_status_str(event->status), (unsigned long long)event->epoch, (unsigned long long)event->version,
           (unsigned long long)event->count);
}

static const struct tally_sync_ops ops = {.apply = on_apply,
                                          .confirm = on_confirm,
                                          .abandon = on_abandon,
                                          .held = on_held,
                                          .send = on_send,
                                          .persist = on_persist,
                                          .event = on_event};

// ---------------------------------------------------------------------------------------------------- the process

static bool grow(struct tally_memory *memory, size_t size_min)
{
    struct sim_edge *edge = (struct sim_edge *)(void *)((uint8_t *)(void *)memory - offsetof(struct sim_edge, memory));
    if (sim_fault(edge->sim, edge->sim->config.no_memory)) return false;
    return edge->grow(memory, size_min);
}

static void collect(struct sim_edge *edge)
{
    struct sim_counters *counters = &edge->sim->counters;
    const struct tally_sync_stats *stats = tally_sync_stats(edge->sync);
    counters->frames_applied += stats->frames_applied;
    counters->deltas += stats->catch_ups_delta;
    counters->wholes += stats->catch_ups_whole;
    counters->chunks += stats->chunks;
    counters->restarts += stats->restarts;
    counters->repairs += stats->repairs;
    counters->early += stats->early_total;
    counters->timeouts += stats->requests_timed_out;
    for (unsigned i = 0; i < TALLY_SYNC_STATUSES; i++) counters->refused += stats->refused[i];
    if (!edge->sim->config.calm) return;
    for (unsigned i = 0; i < TALLY_SYNC_STATUSES; i++) SIM_CHECK(edge->sim, stats->refused[i] == 0);
    SIM_CHECK(edge->sim, stats->repairs == 0 && stats->requests_timed_out == 0);
}

static void let_go(struct sim_edge *edge)
{
    unpin(edge);
    if (edge->sync) collect(edge);
    sim_tally_stop(edge);
    tally_sync_destroy(&edge->sync);
    SIM_CHECK(edge->sim, edge->alloc.blocks == 0);
    if (edge->mirror) tally_reader_close(&edge->reader);
    edge->mirror = NULL;
    if (edge->memory.base) tally_memory_unmap(&edge->memory);
    edge->up = false;
}

static void fall(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    let_go(edge);
    damage_store(edge);
    sim->counters.edge_crashes++;
    edge->start_ms = sim->now_ms + (sim->faults ? test_random_below(&sim->random, 1500) : 10);
    sim_trace(sim, "edge-falls", edge->number, edge->start_ms, 0);
}

static bool create(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    const struct tally_mirror_options mirror = {.dataset = test_text(SIM_DATASET),
                                                .retired_bytes_max = sim->config.retired_bytes_max};
    const struct tally_sync_options options = {
        .dataset = test_text(SIM_DATASET),
        .servers = sim->config.links,
        .random = test_random_next(&sim->random),
        .max_age_ms = 2000,
        .early_frames_max = 16,
        .early_bytes_max = 256 << 10,
        .request_timeout_ms = 500,
        .retry_ms_max = 2000,
        .repair_ms_max = 5000,
    };
    if (tally_memory_map(SIM_MEMORY_BYTES, 0, &edge->memory) != TALLY_OK) return false;
    edge->grow = edge->memory.grow;
    edge->memory.grow = grow;
    if (tally_mirror_init(&edge->memory, &mirror, &edge->mirror) != TALLY_OK) {
        edge->mirror = NULL;
        return false;
    }
    SIM_CHECK(sim, tally_reader_open(edge->mirror, &edge->reader) == TALLY_OK);
    return tally_sync_create(&options, &ops, edge, &edge->alloc.alloc, &edge->sync) == TALLY_OK &&
           sim_tally_start(edge);
}

static void start(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    edge->life++;
    edge->alloc.fail_at = 0;
    edge->held = (struct tally_view_info){0};
    if (!create(edge)) {
        fall(edge);
        return;
    }
    boot(edge);
    for (unsigned i = 0; i < SIM_LINKS; i++) edge->links[i].connected = false;
    edge->up = true;
    edge->tick_ms = sim->now_ms;
}

static void connect_links(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    for (uint32_t i = 0; i < sim->config.links; i++) {
        bool up = edge->links[i].up && sim->server.up;
        if (up == edge->links[i].connected || edge->links[i].silent) continue;
        // Noticed after a while.
        if (sim->faults && !test_random_percent(&sim->random, 20)) continue;
        edge->links[i].connected = up;
        sim_trace(sim, "link", edge->number, i, up);
        if (up)
            tally_sync_connected(edge->sync, sim_edge_now(edge), i);
        else
            tally_sync_disconnected(edge->sync, sim_edge_now(edge), i);
        check_served(edge);
    }
}

void sim_edge_receive(struct sim_edge *edge, const struct sim_message *message)
{
    if (!edge->up || message->life != edge->life || !edge->links[message->link].up || edge->links[message->link].silent)
        return;
    struct tally_bytes bytes = tally_bytes(message->data, message->size);
    if (message->kind == SIM_PUBLISH) {
        tally_sync_message(edge->sync, sim_edge_now(edge), message->link, bytes);
    } else if (message->size == 0) {
        tally_sync_answer_failed(edge->sync, sim_edge_now(edge), message->link, message->request, TALLY_UNREACHABLE);
    } else {
        tally_sync_answer(edge->sync, sim_edge_now(edge), message->link, message->request, bytes);
    }
    check_served(edge);
}

void sim_edge_faults(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    const struct sim_config *config = &sim->config;
    if (edge->up && sim_fault(sim, config->crash_edge)) fall(edge);
    for (unsigned i = 0; i < config->links; i++) {
        if (edge->links[i].until_ms && sim->now_ms >= edge->links[i].until_ms) {
            edge->links[i].up = true;
            edge->links[i].silent = false;
            edge->links[i].until_ms = 0;
        }
        if (edge->links[i].until_ms || !sim_fault(sim, config->partition)) continue;
        edge->links[i].silent = test_random_percent(&sim->random, 50);
        edge->links[i].up = edge->links[i].silent;
        edge->links[i].until_ms =
            sim->now_ms + test_random_below(&sim->random, test_random_percent(&sim->random, 50) ? 300 : 6000);
        sim->counters.partitions++;
        sim_trace(sim, "partition", edge->number, i, edge->links[i].silent);
    }
    if (sim_fault(sim, config->clock_jump)) {
        edge->clock_ms += (int64_t)test_random_below(&sim->random, 40000) - 20000;
        sim->counters.clock_jumps++;
    }
    if (edge->up && sim_fault(sim, config->no_memory)) {
        edge->alloc.fail_at = edge->alloc.requests + 1 + test_random_below(&sim->random, 10);
        sim->counters.no_memory++;
    }
}

void sim_edge_calm(struct sim_edge *edge)
{
    unpin(edge);
    edge->alloc.fail_at = 0;
    for (unsigned i = 0; i < SIM_LINKS; i++) {
        edge->links[i].up = true;
        edge->links[i].silent = false;
    }
}

void sim_edge_step(struct sim_edge *edge, bool more)
{
    struct sim *sim = edge->sim;
    if (!edge->up && sim->now_ms >= edge->start_ms) start(edge);
    if (!edge->up) return;
    connect_links(edge);
    uint64_t due = tally_sync_due(edge->sync);
    if (sim->now_ms >= edge->tick_ms || sim->now_ms >= due) {
        tally_sync_tick(edge->sync, sim_edge_now(edge));
        edge->tick_ms = sim->now_ms + 100;
        // It does not want to be woken for ever at the same time.
        SIM_CHECK(sim, tally_sync_due(edge->sync) > sim->now_ms);
        check_served(edge);
    }
    sim_tally_step(edge, more);
    struct tally_sync_info info;
    tally_sync_info(edge->sync, sim_edge_now(edge), &info);
    SIM_CHECK(sim, info.held.epoch == edge->held.epoch && info.held.version == edge->held.version);
    if (edge->pinned && (sim->now_ms >= edge->unpin_ms || sim->step % 64 == edge->number)) {
        if (sim->now_ms >= edge->unpin_ms)
            unpin(edge);
        else
            check_pinned(edge);
    }
    if (!edge->pinned && sim->faults && test_random_percent(&sim->random, 2)) pin(edge);
}

void sim_edge_init(struct sim *sim, uint32_t number)
{
    struct sim_edge *edge = &sim->edges[number];
    *edge = (struct sim_edge){.sim = sim, .number = number, .store = test_writer(), .rebase = true};
    edge->tally.spool = edge->tally.write = test_writer();
    test_alloc_init(&edge->alloc);
    for (unsigned i = 0; i < SIM_LINKS; i++) edge->links[i].up = true;
    edge->start_ms = sim->now_ms + test_random_below(&sim->random, 2000);
}

void sim_edge_free(struct sim_edge *edge)
{
    let_go(edge);
    test_writer_free(&edge->store);
    sim_tally_free(edge);
    free(edge->places);
}
