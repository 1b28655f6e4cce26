// SPDX-License-Identifier: Apache-2.0
//
// What an edge counts itself: the real producer core over a spool whose writes take their time, fail, and are there or not after a crash.
//
// Each edge keeps a ledger by key: what it took, what it was told is durable. The log says what was counted. After each start, what the spool gives
// back must fit between them; at the end all three are the same. Key k is counted by edge k % edges alone, but for the first few.
#include "sim.h"

#define DATASET      test_text(SIM_DATASET)
#define DRAIN_MS     20u
#define SPOOL_MS_MAX 30u

static struct tally_bytes key_of(const struct sim *sim, uint32_t key, char *room)
{
    size_t size;
    sim_key(sim, key, room, &size);
    return tally_bytes(room, size);
}

static bool exclusive(const struct sim_edge *edge, uint32_t key)
{
    return key >= SIM_TALLY_SHARED && key % edge->sim->config.edges == edge->number;
}

// ---------------------------------------------------------------------------------------------------- the spool

static void spool_apply(struct sim_tally *tally)
{
    uint8_t head[4];
    if (tally->write_anew) tally->spool.size = 0;
    tally_store32(head, (uint32_t)tally->write.size);
    tally_write_raw(&tally->spool, head, sizeof head);
    tally_write_raw(&tally->spool, tally->write.data, tally->write.size);
}

static void on_write(void *ctx, bool anew, struct tally_bytes group)
{
    struct sim_edge *edge = ctx;
    struct sim_tally *tally = &edge->tally;
    SIM_CHECK(edge->sim, !tally->writing);
    SIM_CHECK(edge->sim, anew || !tally->broken); // after a failure nothing is appended
    tally->writing = true;
    tally->write_anew = anew;
    tally->write.size = 0;
    tally_write_raw(&tally->write, group.data, group.size);
    tally->write_due_ms = edge->sim->now_ms + test_random_below(&edge->sim->random, SPOOL_MS_MAX);
}

static void write_ends(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    struct sim_tally *tally = &edge->tally;
    bool fails = sim_fault(sim, sim->config.disk_fails);
    tally->writing = false;
    // A write that failed may be there all the same.
    if (!fails || test_random_percent(&sim->random, 50)) spool_apply(tally);
    tally->broken = fails;
    sim->counters.spool_failures += fails;
    tally_producer_written(tally->core, sim->now_ms, fails ? TALLY_IO : TALLY_OK);
}

// ---------------------------------------------------------------------------------------------------- the ledger

static void settle(struct sim_edge *edge)
{
    struct sim_tally *tally = &edge->tally;
    uint64_t durable = tally_producer_durable(tally->core);
    size_t kept = 0;
    for (size_t i = 0; i < tally->pending_count; i++) {
        struct sim_pending pending = tally->pending[i];
        if (pending.drain <= durable)
            tally->durable[pending.key] += pending.amount;
        else
            tally->pending[kept++] = pending;
    }
    tally->pending_count = kept;
    sim_tally_kinds_settle(edge, durable);
}

static void note_pending(struct sim_tally *tally, uint64_t drain, uint32_t key, int64_t amount)
{
    if (tally->pending_count == tally->pending_capacity) {
        tally->pending_capacity = tally->pending_capacity ? tally->pending_capacity * 2 : 64;
        tally->pending = realloc(tally->pending, tally->pending_capacity * sizeof *tally->pending);
        if (!tally->pending) abort();
    }
    tally->pending[tally->pending_count++] = (struct sim_pending){drain, key, amount};
}

// What was read back is what was told as durable, perhaps with some of what was not; from here on it is what was taken.
static void check_booted(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    struct sim_tally *tally = &edge->tally;
    struct tally_producer_stats stats;
    char room[1024];
    tally_producer_stats(tally->core, sim->now_ms, &stats);
    const struct sim_instance *instance = sim_instance_of(sim, stats.id);
    // The batch that was on its way: it is in the log, or it is not.
    bool flies = stats.in_flight > 0;
    uint64_t sequence = stats.sequence - flies;
    bool counted = flies && instance && sequence <= instance->count && instance->batches[sequence - 1]->effective;
    tally->boot_sequence = flies ? sequence : 0;
    for (uint32_t k = 0; k < sim->config.keys; k++) {
        struct tally_mine mine, base;
        SIM_CHECK(sim, tally_producer_mine(tally->core, 0, 0, TALLY_COUNTING_ADD, sim_table(SIM_TABLE_TALLIED),
                                           key_of(sim, k, room), &mine) == TALLY_OK);
        int64_t waits = mine.mine.number;
        base = mine;
        if (counted) {
            const struct sim_batch *batch = instance->batches[sequence - 1];
            for (unsigned i = 0; i < batch->entries; i++)
                if (batch->entry[i].key == k) waits -= batch->entry[i].amount;
        }
        int64_t all = waits + sim->truth.tallied[edge->number][k];
        if (sim->counters.losses == 0 && (all < tally->durable[k] || all > tally->taken[k]))
            sim_fail(sim, "edge %u comes back with %lld of key %u (%lld wait): durable were %lld, taken %lld",
                     edge->number, (long long)all, k, (long long)base.mine.number, (long long)tally->durable[k],
                     (long long)tally->taken[k]);
        tally->taken[k] = tally->durable[k] = all;
        tally->undrained[k] = 0;
    }
    tally->pending_count = 0;
    sim_tally_kinds_booted(edge, counted);
}

// ---------------------------------------------------------------------------------------------------- actions

static enum tally_status on_send(void *ctx, uint32_t server, uint64_t request, struct tally_bytes bytes)
{
    struct sim_edge *edge = ctx;
    struct sim *sim = edge->sim;
    SIM_CHECK(sim, server < sim->config.links);
    struct sim_batch *batch = sim_tally_batch(sim, edge->number, bytes);
    sim_truth_sent(sim, batch);
    if (!edge->links[server].up) return TALLY_UNREACHABLE;
    if (edge->links[server].silent) return TALLY_OK;
    const struct sim_message message = {.kind = SIM_INGEST,
                                        .node = SIM_PRODUCERS_MAX + edge->number,
                                        .link = server,
                                        .life = edge->life << 32 | request,
                                        .request = batch->producer << 32 | batch->sequence << 1};
    sim_send(sim, &message, bytes);
    return TALLY_OK;
}

static int64_t value_at(const struct tally_view *view, struct tally_bytes table, struct tally_bytes key)
{
    uint32_t number;
    int64_t value;
    if (tally_view_table(view, table, &number) != TALLY_OK) return 0;
    return tally_view_get(view, number, key, &value) == TALLY_OK ? value : 0;
}

static enum tally_status on_values(void *ctx, const struct tally_sums *sums, int64_t *out_values, uint64_t *out_epoch,
                                   uint64_t *out_version)
{
    struct sim_edge *edge = ctx;
    struct tally_view view;
    struct tally_view_info info;
    tally_view_pin(&edge->reader, &view);
    tally_view_info(&view, &info);
    for (uint32_t i = 0; i < tally_sums_count(sums); i++) {
        struct tally_sum sum;
        tally_sums_at(sums, i, &sum);
        out_values[i] = value_at(&view, sum.table, sum.key);
    }
    tally_view_unpin(&view);
    *out_epoch = info.epoch;
    *out_version = info.version;
    return TALLY_OK;
}

static void on_refuse(void *ctx, enum tally_counting counting, struct tally_bytes table, enum tally_status status)
{
    (void)counting, (void)table;
    sim_fail(((struct sim_edge *)ctx)->sim, "a table is refused: %s", tally_status_str(status));
}

static void on_event(void *ctx, const struct tally_producer_event *event)
{
    struct sim_edge *edge = ctx;
    struct sim *sim = edge->sim;
    sim_trace(sim, "tally-event", edge->number, event->kind, event->status);
    if (event->kind == TALLY_PRODUCER_EVENT_REFUSED) sim_fail(sim, "counts of edge %u are dropped", edge->number);
    if (event->kind == TALLY_PRODUCER_EVENT_FULL && event->status != TALLY_OK) sim->counters.spool_full++;
    if (event->kind != TALLY_PRODUCER_EVENT_RENAMED) return;
    sim->counters.renamed++;
    if (!sim->counters.losses) sim_fail(sim, "edge %u gives up its id, and nothing was lost", edge->number);
}

static const struct tally_producer_ops ops = {
    .write = on_write, .send = on_send, .values = on_values, .refuse = on_refuse, .event = on_event};

// ---------------------------------------------------------------------------------------------------- inputs

void sim_tally_ack(struct sim_edge *edge, const struct sim_message *message)
{
    if (!edge->up || message->life >> 32 != edge->life) return;
    if (!edge->links[message->link].up || edge->links[message->link].silent) return;
    struct sim_instance *instance = sim_instance(edge->sim, message->request >> 32);
    struct tally_producer_stats before, after;
    tally_producer_stats(edge->tally.core, edge->sim->now_ms, &before);
    tally_producer_answer(edge->tally.core, edge->sim->now_ms, message->link, message->life & UINT32_MAX,
                          tally_bytes(message->data, message->size));
    tally_producer_stats(edge->tally.core, edge->sim->now_ms, &after);
    if (after.acknowledged == before.acknowledged) return;
    struct sim_batch *batch = instance->batches[((message->request & UINT32_MAX) >> 1) - 1];
    if (batch->effective)
        sim_truth_acked(edge->sim, batch);
    else if (!edge->sim->counters.losses)
        sim_fail(edge->sim, "edge %u believes in a batch that is not in the log", edge->number);
    edge->sim->counters.tally_acks++;
    edge->tally.acked_version = edge->sim->truth.version; // at least where it is
}

static void count_some(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    struct sim_tally *tally = &edge->tally;
    char room[1024];
    for (uint64_t n = test_random_below(&sim->random, 4); n > 0; n--) {
        uint32_t key = (uint32_t)test_random_below(&sim->random, sim->config.keys);
        if (key >= SIM_TALLY_SHARED) key -= (key + sim->config.edges - edge->number) % sim->config.edges;
        if (key >= sim->config.keys || (!exclusive(edge, key) && key >= SIM_TALLY_SHARED)) continue;
        const struct tally_sum sum = {.table = sim_table(SIM_TABLE_TALLIED), .key = key_of(sim, key, room)};
        if (tally_producer_gate(tally->core) != TALLY_OK && !tally->undrained[key] &&
            !tally_producer_known(tally->core, &sum)) {
            sim->counters.tally_refused++;
            continue;
        }
        tally->undrained[key] += (int64_t)test_random_between(&sim->random, 1, 9);
        sim->counters.tallied++;
    }
    sim_tally_kinds_count(edge);
}

static void drain(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    struct sim_tally *tally = &edge->tally;
    enum tally_status status = TALLY_OK;
    char room[1024];
    for (uint32_t k = 0; status == TALLY_OK && k < sim->config.keys; k++) {
        const struct tally_sum sum = {
            .table = sim_table(SIM_TABLE_TALLIED), .key = key_of(sim, k, room), .number = tally->undrained[k]};
        if (sum.number) status = tally_producer_take(tally->core, &sum);
    }
    if (status == TALLY_OK) status = sim_tally_kinds_take(edge);
    if (status != TALLY_OK) {
        tally_producer_untake(tally->core);
        return;
    }
    tally->drain++;
    for (uint32_t k = 0; k < sim->config.keys; k++) {
        if (!tally->undrained[k]) continue;
        tally->taken[k] += tally->undrained[k];
        note_pending(tally, tally->drain, k, tally->undrained[k]);
        tally->undrained[k] = 0;
    }
    sim_tally_kinds_taken(edge);
    tally_producer_taken(tally->core, sim->now_ms, tally->drain);
}

// There may be doubt only about a batch of an earlier life, and where there was no memory for what the values had been.
static void check_doubt(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    struct tally_producer_stats stats;
    tally_producer_stats(edge->tally.core, sim->now_ms, &stats);
    sim->counters.mine_in_doubt++;
    if (!sim->config.no_memory && stats.sequence - 1 != edge->tally.boot_sequence)
        sim_fail(sim, "edge %u is in doubt about batch %llu, of this life", edge->number,
                 (unsigned long long)stats.sequence - 1);
}

// Global plus mine, of a key that nobody else counts, is all that was counted: no more, no less, whatever is on its way.
static void check_mine(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    struct sim_tally *tally = &edge->tally;
    uint32_t key = (uint32_t)test_random_below(&sim->random, sim->config.keys);
    struct tally_bytes table = sim_table(SIM_TABLE_TALLIED);
    struct tally_view view;
    struct tally_view_info info;
    struct tally_mine mine;
    char room[1024];
    if (!exclusive(edge, key) || sim->counters.losses) return;
    struct tally_bytes name = key_of(sim, key, room);
    tally_view_pin(&edge->reader, &view);
    tally_view_info(&view, &info);
    int64_t value = value_at(&view, table, name);
    sim_tally_kinds_mine(edge, &view);
    tally_view_unpin(&view);
    enum tally_status status =
        tally_producer_mine(tally->core, info.epoch, info.version, TALLY_COUNTING_ADD, table, name, &mine);
    if (status == TALLY_OLD) {
        sim->counters.mine_old++;
        SIM_CHECK(sim, !sim->config.calm);
        return;
    }
    SIM_CHECK(sim, status == TALLY_OK);
    if (mine.in_doubt) check_doubt(edge);
    // What was acknowledged in an earlier life is not there yet.
    if (mine.in_doubt || mine.version < tally->boot_version) return;
    if (mine.based) value = mine.value, sim->counters.mine_based++;
    sim->counters.mine_checked++;
    int64_t total = value + mine.mine.number + tally->undrained[key], all = tally->taken[key] + tally->undrained[key];
    if (total != all)
        sim_fail(sim, "edge %u reads %lld of key %u (%lld at version %llu%s, mine %lld), counted were %lld",
                 edge->number, (long long)total, key, (long long)value, (unsigned long long)mine.version,
                 mine.based ? ", based" : "", (long long)mine.mine.number, (long long)all);
}

void sim_tally_step(struct sim_edge *edge, bool more)
{
    struct sim *sim = edge->sim;
    struct sim_tally *tally = &edge->tally;
    if (!sim->config.tallies) return;
    tally_producer_applied(tally->core, edge->held.epoch, edge->held.version);
    if (more) count_some(edge);
    if (tally->writing && sim->now_ms >= tally->write_due_ms) write_ends(edge);
    if (sim->now_ms >= tally->drain_ms) {
        tally->drain_ms = sim->now_ms + DRAIN_MS;
        drain(edge);
    }
    if (sim->now_ms >= tally_producer_due(tally->core)) {
        tally_producer_tick(tally->core, sim->now_ms);
        SIM_CHECK(sim, tally_producer_due(tally->core) > sim->now_ms);
    }
    settle(edge);
    check_mine(edge);
}

// ---------------------------------------------------------------------------------------------------- the process

bool sim_tally_start(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    struct sim_tally *tally = &edge->tally;
    if (!sim->config.tallies) return true;
    const struct tally_producer_options options = {.dataset = DATASET,
                                                   .servers = sim->config.links,
                                                   .random = test_random_next(&sim->random),
                                                   .seed = {test_random_next(&sim->random), 1},
                                                   .spool_bytes_max = sim->config.spool_bytes_max,
                                                   .reserve_bytes = sim->config.spool_bytes_max / 4,
                                                   .batch_bytes_max = sim->config.tally_batch_bytes_max,
                                                   .answer_ms = 500,
                                                   .retry_ms_max = 1000,
                                                   .rewrite_bytes_min = 500};
    if (tally_producer_create(&options, &ops, edge, &edge->alloc.alloc, &tally->core) != TALLY_OK) return false;
    for (size_t at = 0; at < tally->spool.size;) {
        size_t size = tally_load32(tally->spool.data + at);
        enum tally_status status = tally_producer_boot(tally->core, tally_bytes(tally->spool.data + at + 4, size));
        if (status == TALLY_NO_MEMORY) return false;
        SIM_CHECK(sim, status == TALLY_OK);
        at += 4 + size;
    }
    check_booted(edge);
    tally->writing = tally->broken = false;
    tally->drain = 0;
    tally->boot_version = tally->acked_version;
    tally_producer_boot_end(tally->core, sim->now_ms);
    return true;
}

// Of a crash, too: what was being written is there or not.
void sim_tally_stop(struct sim_edge *edge)
{
    struct sim_tally *tally = &edge->tally;
    if (tally->core && tally->writing && test_random_percent(&edge->sim->random, 50)) spool_apply(tally);
    tally->writing = false;
    tally_producer_destroy(&tally->core);
}

bool sim_tally_idle(const struct sim_edge *edge)
{
    if (!edge->sim->config.tallies) return true;
    if (!edge->up || !tally_producer_idle(edge->tally.core)) return false;
    for (uint32_t k = 0; k < edge->sim->config.keys; k++)
        if (edge->tally.undrained[k]) return false;
    return sim_tally_kinds_idle((struct sim_edge *)edge);
}

void sim_tally_final(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    for (uint32_t k = 0; k < sim->config.keys && sim->counters.losses == 0; k++) {
        int64_t counted = sim->truth.tallied[edge->number][k];
        if (counted != edge->tally.taken[k] || counted != edge->tally.durable[k])
            sim_fail(sim, "at the end key %u of edge %u was counted %lld times; taken %lld, durable %lld", k,
                     edge->number, (long long)counted, (long long)edge->tally.taken[k],
                     (long long)edge->tally.durable[k]);
    }
    sim_tally_kinds_final(edge);
}

void sim_tally_free(struct sim_edge *edge)
{
    test_writer_free(&edge->tally.spool);
    test_writer_free(&edge->tally.write);
    free(edge->tally.pending);
    sim_tally_kinds_free(edge);
}
