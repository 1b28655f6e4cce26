// SPDX-License-Identifier: Apache-2.0
//
// What an edge counts for tables that are no counters: the tables of kinds.c, of keys that no one else counts.
//
// The ledger of an edge has, by row, what it was told is durable, and the list of what came since. The log has what the batches of this edge
// in it come to. What "counted once" means by kind: counter and topk: the sum of all; gauge: sets and adjustments in their order; min, max: the least and the greatest;
// distinct: the same members. (That the server makes the right value of its log is for kinds.c.)
#include "sim.h"

#include "../support/count_model.h"

enum { KEYS = 4, MEMBERS = 60, KINDS = 5, ROWS = KINDS * KEYS };

static const struct {
    const char *table;
    enum tally_counting counting; // of a gauge: or ADJUST
    enum tally_kind kind;
    bool
        exact; // the row's value is what was counted, so that mine can be held against it: not of sketches, nor of what is not among the first
} kinds[KINDS] = {{"gauge", TALLY_COUNTING_SET, TALLY_KIND_GAUGE, true},
                  {"min", TALLY_COUNTING_MIN, TALLY_KIND_MIN, true},
                  {"max", TALLY_COUNTING_MAX, TALLY_KIND_MAX, true},
                  {"hot", TALLY_COUNTING_TOPK, TALLY_KIND_TOPK, false},
                  {"distinct", TALLY_COUNTING_MEMBER, TALLY_KIND_DISTINCT, false}};

struct row {
    bool any;
    int64_t number; // distinct: a bit for each member
};

struct op {
    uint64_t drain; // UINT64_MAX: not drained yet
    uint32_t row;
    enum tally_counting counting;
    int64_t number; // distinct: which member
};

struct sim_tally_kinds {
    struct row durable[ROWS], logged[ROWS], logged_before[ROWS]; // before: without the last batch
    int64_t members_durable[ROWS], members_taken[ROWS];          // ever
    struct op *ops;                                              // not durable, in their order
    size_t count, capacity;
};

static void apply(struct row *row, enum tally_counting counting, int64_t number)
{
    struct tally_merged merged = {row->any, counting, row->number};
    if (counting == TALLY_COUNTING_MEMBER)
        row->number |= (int64_t)1 << number;
    else if (!row->any)
        row->number = number;
    else
        tally_merged_add(&merged, counting, number), row->number = merged.number;
    row->any = true;
}

static struct tally_bytes key_of(const struct sim_edge *edge, uint32_t row, char room[static 24])
{
    (void)snprintf(room, 24, "edge-%u-%u", edge->number, row % KEYS);
    return test_text(room);
}

static struct tally_sum sum_of(const struct sim_edge *edge, const struct op *op, char room[static 24])
{
    int64_t member = op->counting == TALLY_COUNTING_MEMBER ? (int64_t)model_member((uint64_t)op->number) : 0;
    return (struct tally_sum){.counting = op->counting,
                              .table = test_text(kinds[op->row / KEYS].table),
                              .key = key_of(edge, op->row, room),
                              .number = member ? member : op->number};
}

// ---------------------------------------------------------------------------------------------------- the log

static struct sim_tally_kinds *ledger_of(struct sim_edge *edge)
{
    if (!edge->tally.kinds) edge->tally.kinds = calloc(1, sizeof *edge->tally.kinds);
    if (!edge->tally.kinds) abort();
    return edge->tally.kinds;
}

void sim_tally_kinds_reset(struct sim_edge *edge)
{
    struct sim_tally_kinds *it = ledger_of(edge);
    memset(it->logged, 0, sizeof it->logged);
    memset(it->logged_before, 0, sizeof it->logged_before);
}

static void log_entry(struct sim_edge *edge, const struct tally_entries_reader *entries, struct tally_bytes key,
                      int64_t amount)
{
    struct sim_tally_kinds *it = ledger_of(edge);
    char room[24];
    for (uint32_t row = 0; row < ROWS; row++) {
        if (kinds[row / KEYS].kind != entries->kind || !tally_bytes_equal(key_of(edge, row, room), key)) continue;
        enum tally_counting counting = entries->adjust ? TALLY_COUNTING_ADJUST : kinds[row / KEYS].counting;
        for (int64_t m = 0; entries->members && m < MEMBERS; m++)
            if ((int64_t)model_member((uint64_t)m) == amount) {
                amount = m;
                break;
            }
        apply(&it->logged[row], counting, amount);
        return;
    }
    sim_fail(edge->sim, "a batch of edge %u has a key that it does not count", edge->number);
}

void sim_tally_kinds_log(struct sim_edge *edge, struct tally_bytes batch)
{
    struct sim_tally_kinds *it = ledger_of(edge);
    struct tally_batch_reader reader;
    struct tally_entries_reader entries;
    struct tally_bytes key;
    int64_t amount;
    memcpy(it->logged_before, it->logged, sizeof it->logged);
    SIM_CHECK(edge->sim, tally_batch_open(batch, &reader) == TALLY_OK);
    while (tally_batch_next_table(&reader, &entries)) {
        if (!sim_kinds_has(entries.table)) continue;
        while (tally_entries_next(&entries, &key, &amount)) log_entry(edge, &entries, key, amount);
    }
}

// ---------------------------------------------------------------------------------------------------- counting

static bool row_waits(const struct sim_tally_kinds *it, const struct op *op)
{
    for (size_t i = 0; i < it->count; i++)
        if (it->ops[i].drain == UINT64_MAX && it->ops[i].row == op->row &&
            (op->counting != TALLY_COUNTING_MEMBER || it->ops[i].number == op->number))
            return true;
    return false;
}

void sim_tally_kinds_count(struct sim_edge *edge)
{
    struct sim *sim = edge->sim;
    struct sim_tally_kinds *it = ledger_of(edge);
    char room[24];
    if (!sim->config.kinds) return;
    for (uint64_t n = test_random_below(&sim->random, 3); n > 0; n--) {
        struct op op = {.drain = UINT64_MAX, .row = (uint32_t)test_random_below(&sim->random, ROWS)};
        op.counting = kinds[op.row / KEYS].counting;
        if (op.counting == TALLY_COUNTING_SET && test_random_percent(&sim->random, 50))
            op.counting = TALLY_COUNTING_ADJUST;
        op.number = (int64_t)test_random_below(&sim->random, op.counting == TALLY_COUNTING_MEMBER ? MEMBERS : 1000);
        if (op.row / KEYS < 3 && test_random_percent(&sim->random, 50)) op.number = -op.number;
        const struct tally_sum sum = sum_of(edge, &op, room);
        if (tally_producer_gate(edge->tally.core) != TALLY_OK && !row_waits(it, &op) &&
            !tally_producer_known(edge->tally.core, &sum)) {
            sim->counters.tally_refused++;
            continue;
        }
        if (it->count == it->capacity) {
            it->capacity = it->capacity ? it->capacity * 2 : 64;
            it->ops = realloc(it->ops, it->capacity * sizeof *it->ops);
            if (!it->ops) abort();
        }
        it->ops[it->count++] = op;
        sim->counters.tallied_kinds++;
    }
}

enum tally_status sim_tally_kinds_take(struct sim_edge *edge)
{
    struct sim_tally_kinds *it = ledger_of(edge);
    enum tally_status status = TALLY_OK;
    char room[24];
    for (size_t i = 0; status == TALLY_OK && i < it->count; i++) {
        if (it->ops[i].drain != UINT64_MAX) continue;
        const struct tally_sum sum = sum_of(edge, &it->ops[i], room);
        status = tally_producer_take(edge->tally.core, &sum);
    }
    return status;
}

void sim_tally_kinds_taken(struct sim_edge *edge)
{
    struct sim_tally_kinds *it = ledger_of(edge);
    for (size_t i = 0; i < it->count; i++) {
        struct op *op = &it->ops[i];
        if (op->drain != UINT64_MAX) continue;
        op->drain = edge->tally.drain;
        if (op->counting == TALLY_COUNTING_MEMBER) it->members_taken[op->row] |= (int64_t)1 << op->number;
    }
}

void sim_tally_kinds_settle(struct sim_edge *edge, uint64_t durable)
{
    struct sim_tally_kinds *it = ledger_of(edge);
    size_t kept = 0;
    for (size_t i = 0; i < it->count; i++) {
        const struct op op = it->ops[i];
        if (op.drain > durable) {
            it->ops[kept++] = op;
            continue;
        }
        apply(&it->durable[op.row], op.counting, op.number);
        if (op.counting == TALLY_COUNTING_MEMBER) it->members_durable[op.row] |= (int64_t)1 << op.number;
    }
    it->count = kept;
}

bool sim_tally_kinds_idle(struct sim_edge *edge) { return ledger_of(edge)->count == 0; }

// ---------------------------------------------------------------------------------------------------- what must hold

static bool same(struct row a, struct row b) { return a.any == b.any && a.number == b.number; }

// Global plus mine of a row, by what this edge counted: what is durable and what came since.
void sim_tally_kinds_mine(struct sim_edge *edge, const struct tally_view *view)
{
    struct sim *sim = edge->sim;
    struct sim_tally_kinds *it = ledger_of(edge);
    uint32_t row = (uint32_t)test_random_below(&sim->random, ROWS), table;
    struct tally_view_info info;
    struct tally_mine mine;
    char room[24];
    if (!sim->config.kinds || sim->counters.losses || !kinds[row / KEYS].exact) return;
    struct tally_bytes name = test_text(kinds[row / KEYS].table), key = key_of(edge, row, room);
    struct row value = {0}, expected = it->durable[row];
    tally_view_info(view, &info);
    if (tally_view_table(view, name, &table) == TALLY_OK)
        value.any = tally_view_get(view, table, key, &value.number) == TALLY_OK;
    enum tally_status status =
        tally_producer_mine(edge->tally.core, info.epoch, info.version, kinds[row / KEYS].counting, name, key, &mine);
    if (status == TALLY_OLD) return; // counted by the caller, for counters
    SIM_CHECK(sim, status == TALLY_OK);
    if (mine.in_doubt || mine.version < edge->tally.boot_version) return;
    if (mine.based) value = (struct row){mine.value != 0, mine.value};
    for (size_t i = 0; i < it->count; i++) {
        const struct op *op = &it->ops[i];
        if (op->row != row) continue;
        apply(&expected, op->counting, op->number);
        if (op->drain == UINT64_MAX) tally_merged_add(&mine.mine, op->counting, op->number);
    }
    int64_t total = tally_merged_over(&mine.mine, value.any, value.number);
    if (total != expected.number)
        sim_fail(sim, "edge %u reads %lld of %s %s (%lld at version %llu%s, mine %lld), counted was %lld", edge->number,
                 (long long)total, kinds[row / KEYS].table, room, (long long)value.number,
                 (unsigned long long)mine.version, mine.based ? ", based" : "", (long long)mine.mine.number,
                 (long long)expected.number);
    sim->counters.mine_kinds++;
}

// What was read back is what was told as durable, perhaps with some of the drains after it. `counted`: the batch that was on its way is in the log.
void sim_tally_kinds_booted(struct sim_edge *edge, bool counted)
{
    struct sim *sim = edge->sim;
    struct sim_tally_kinds *it = ledger_of(edge);
    char room[24];
    for (uint32_t row = 0; row < ROWS; row++) {
        struct tally_mine mine;
        struct row back = counted ? it->logged_before[row] : it->logged[row], could = it->durable[row];
        if (kinds[row / KEYS].counting == TALLY_COUNTING_MEMBER) continue; // held against at the end
        SIM_CHECK(sim,
                  tally_producer_mine(edge->tally.core, 0, 0, kinds[row / KEYS].counting,
                                      test_text(kinds[row / KEYS].table), key_of(edge, row, room), &mine) == TALLY_OK);
        back = (struct row){back.any || mine.mine.any, tally_merged_over(&mine.mine, back.any, back.number)};
        bool found = same(back, could);
        for (size_t i = 0; i < it->count && !found; i++) {
            const struct op *op = &it->ops[i];
            if (op->row != row || op->drain == UINT64_MAX) continue;
            apply(&could, op->counting, op->number);
            bool last = true; // of its drain
            for (size_t j = i + 1; j < it->count; j++) last &= it->ops[j].row != row || it->ops[j].drain != op->drain;
            found = last && same(back, could);
        }
        if (!found && sim->counters.losses == 0)
            sim_fail(sim, "edge %u comes back with %lld of %s %s: durable was %lld", edge->number,
                     (long long)back.number, kinds[row / KEYS].table, room, (long long)it->durable[row].number);
        it->durable[row] = back;
    }
    it->count = 0;
}

void sim_tally_kinds_final(struct sim_edge *edge)
{
    struct sim_tally_kinds *it = ledger_of(edge);
    for (uint32_t row = 0; row < ROWS && edge->sim->counters.losses == 0; row++) {
        struct row logged = it->logged[row];
        bool right = kinds[row / KEYS].counting == TALLY_COUNTING_MEMBER
                         ? !(it->members_durable[row] & ~logged.number) && !(logged.number & ~it->members_taken[row])
                         : same(logged, it->durable[row]);
        if (!right)
            sim_fail(edge->sim, "at the end edge %u has %lld of %s %u in the log, durable was %lld", edge->number,
                     (long long)logged.number, kinds[row / KEYS].table, row % KEYS, (long long)it->durable[row].number);
    }
}

void sim_tally_kinds_free(struct sim_edge *edge)
{
    if (edge->tally.kinds) free(edge->tally.kinds->ops);
    free(edge->tally.kinds);
    edge->tally.kinds = NULL;
}
