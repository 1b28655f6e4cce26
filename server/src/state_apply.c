// SPDX-License-Identifier: Apache-2.0
//
// One record applied: rows move as the batches say, each row's first touch notes what it was, and the frame is written
// from what the touched rows were and are.
#include <assert.h>

#include "aging_parts.h"

// A seed under which the rows clash again is replaced again. With real fingerprints even a second time does not happen.
#define RESEEDS_MAX 64u

// Lookups are made in groups, so that their cache misses overlap.
#define GROUP 32u

// Touched rows are fetched so many ahead of their turn.
#define AHEAD 24u

struct item {
    uint64_t fingerprint;
    struct tally_bytes key;
    int64_t amount;
    uint32_t hint; // an id that may be its row's
};

// ---------------------------------------------------------------------------------------------------- rows

void tally_state_row_touch(struct tally_state_table *table, uint32_t id)
{
    struct tally_state_row *row = &table->rows.rows[id];
    if (row->flags) return;
    row->flags = TALLY_ROW_TOUCHED | (tally_row_live(row) ? TALLY_ROW_WAS_LIVE : 0);
    row->old_value = row->value;
    tally_rows_touch(&table->rows, id);
}

enum tally_status tally_state_row_begin(struct tally_state *state, struct tally_state_table *table,
                                        uint64_t fingerprint, struct tally_bytes key, uint32_t *out_id)
{
    enum tally_status status = tally_rows_add(&table->rows, fingerprint, key, out_id);
    if (status) return status;
    struct tally_state_row *row = &table->rows.rows[*out_id];
    if (row->flags & TALLY_ROW_WAS_LIVE) row->flags |= TALLY_ROW_REPLACED;
    if (!row->flags) {
        row->flags = TALLY_ROW_TOUCHED;
        tally_rows_touch(&table->rows, *out_id);
    }
    state->rows++;
    state->key_bytes += key.size;
    return TALLY_OK;
}

// What an entry does to its row.
enum op { OP_ADD, OP_SET, OP_ADJUST, OP_MIN, OP_MAX, OP_MEMBER };

static enum op op_of(const struct tally_state_table *table, const struct tally_entries_reader *entries)
{
    switch (table->definition.kind) {
    case TALLY_KIND_GAUGE: return entries->adjust ? OP_ADJUST : OP_SET;
    case TALLY_KIND_MIN: return OP_MIN;
    case TALLY_KIND_MAX: return OP_MAX;
    case TALLY_KIND_DISTINCT: return OP_MEMBER;
    default: return OP_ADD;
    }
}

// The value that a live row gets of an amount. *saturated counts what did not fit.
static int64_t value_after(enum op op, int64_t value, int64_t amount, uint64_t *saturated)
{
    int64_t sum;
    switch (op) {
    case OP_SET: return amount;
    case OP_MIN: return amount < value ? amount : value;
    case OP_MAX: return amount > value ? amount : value;
    case OP_ADJUST:
        sum = value + amount; // of two within TALLY_LEVEL_MAX: it fits
        if (sum >= -TALLY_LEVEL_MAX && sum <= TALLY_LEVEL_MAX) return sum;
        ++*saturated;
        return sum < 0 ? -TALLY_LEVEL_MAX : TALLY_LEVEL_MAX;
    default:
        if (!__builtin_add_overflow(value, amount, &sum)) return sum;
        ++*saturated;
        return INT64_MAX;
    }
}

// A member of a row of a distinct table; what the row's value becomes is reckoned once a record (state_conclude.c).
static enum tally_status row_member(struct tally_state *state, struct tally_state_table *table, uint32_t id,
                                    int64_t member)
{
    bool changed;
    enum tally_status status = tally_state_sketches_reserve(state, table);
    if (status) return status;
    status =
        tally_sketch_add(&table->sketches[id], table->definition.precision, (uint64_t)member, state->alloc, &changed);
    if (!status && changed) tally_state_row_touch(table, id);
    return status;
}

static enum tally_status row_add(struct tally_state *state, struct tally_state_table *table, enum op op,
                                 const struct item *item);

// An entry of a key that may not begin a row: it goes to the overflow row.
static enum tally_status row_overflow(struct tally_state *state, struct tally_state_table *table, enum op op,
                                      const struct item *item)
{
    struct item overflow = {.key = tally_overflow_key(), .amount = item->amount, .hint = TALLY_NO_ROW};
    overflow.fingerprint = tally_fingerprint(state->seed, overflow.key.data, overflow.key.size);
    state->stats.overflowed++;
    table->aging.overflowed++;
    return row_add(state, table, op, &overflow);
}

// TALLY_CLASH: nothing changed, and another key has this fingerprint.
static enum tally_status row_add(struct tally_state *state, struct tally_state_table *table, enum op op,
                                 const struct item *item)
{
    uint32_t id = item->hint;
    if (!tally_rows_is(&table->rows, id, item->fingerprint)) id = tally_rows_find(&table->rows, item->fingerprint);
    bool there = id != TALLY_NO_ROW;
    if (!there || !tally_row_key_is(&table->rows.rows[id], item->key)) {
        if (table->definition.max_keys && tally_aging_full(state, table, item->key))
            return row_overflow(state, table, op, item);
        if (there) return TALLY_CLASH;
        enum tally_status status = tally_state_row_begin(state, table, item->fingerprint, item->key, &id);
        if (status) return status;
        // A first one is what it is, whatever the kind.
        if (op != OP_MEMBER) table->rows.rows[id].value = item->amount;
    } else if (op != OP_MEMBER) {
        struct tally_state_row *row = &table->rows.rows[id];
        int64_t value = value_after(op, row->value, item->amount, &state->stats.saturated);
        if (value != row->value) {
            tally_state_row_touch(table, id);
            row->value = value;
        }
    }
    if (op == OP_MEMBER) {
        enum tally_status status = row_member(state, table, id, item->amount);
        if (status) return status;
    }
    return tally_table_ages(table) ? tally_aging_count(state, table, id, item->amount) : TALLY_OK;
}

enum tally_status tally_state_row_leave(struct tally_state *state, struct tally_state_table *table, uint32_t id)
{
    struct tally_state_row *row = &table->rows.rows[id];
    uint64_t key_bytes = row->key_bytes;
    tally_state_row_touch(table, id);
    if ((row->flags & (TALLY_ROW_WAS_LIVE | TALLY_ROW_SUBTRACTED)) == TALLY_ROW_WAS_LIVE) {
        // Its fingerprint goes with it.
        tally_digest_subtract(&state->digest, tally_digest_row(table->digest_key, row->fingerprint, row->old_value));
        row->flags |= TALLY_ROW_SUBTRACTED;
    }
    enum tally_status status = tally_rows_remove(&table->rows, id);
    if (status) return status;
    if (tally_table_ages(table)) tally_aging_drop(table, id);
    if (id < table->sketches_capacity) {
        tally_alloc_free(state->alloc, table->sketches[id]);
        table->sketches[id] = NULL;
    }
    state->rows--;
    state->key_bytes -= key_bytes;
    return TALLY_OK;
}

static enum tally_status row_remove(struct tally_state *state, struct tally_state_table *table, struct tally_bytes key)
{
    uint32_t id = tally_rows_find(&table->rows, tally_fingerprint(state->seed, key.data, key.size));
    if (id == TALLY_NO_ROW || !tally_row_key_is(&table->rows.rows[id], key)) return TALLY_OK;
    return tally_state_row_leave(state, table, id);
}

// ---------------------------------------------------------------------------------------------------- a new seed

static enum tally_status rehash_rows(const struct tally_state *state, struct tally_rows *rows)
{
    for (uint32_t id = 0; id < rows->ids; id++) {
        struct tally_state_row *row = &rows->rows[id];
        struct tally_bytes key = tally_row_key(row);
        if (key.size) row->fingerprint = tally_fingerprint(state->seed, key.data, key.size);
    }
    return tally_rows_rebuild(rows);
}

static enum tally_status rehash(struct tally_state *state)
{
    for (uint32_t i = 0; i < state->tables_count; i++) {
        struct tally_state_table *table = &state->tables[i];
        table->digest_key = tally_digest_table(state->seed, tally_bytes(table->name, table->name_bytes));
        enum tally_status status = rehash_rows(state, &table->rows);
        if (!status && table->topk.alloc) status = rehash_rows(state, &table->topk.rows);
        if (status) return status;
    }
    return TALLY_OK;
}

// `version` is the one that is being made. TALLY_CLASH when no seed helps (only a narrow clash_mask can make that).
static enum tally_status reseed(struct tally_state *state, uint64_t version)
{
    enum tally_status status = TALLY_CLASH;
    for (unsigned i = 0; i < RESEEDS_MAX && status == TALLY_CLASH; i++) {
        state->seed = tally_seed_next(state->seed, version);
        state->epoch++;
        state->stats.clashes++;
        state->whole = true;
        status = rehash(state);
    }
    return status;
}

// ---------------------------------------------------------------------------------------------------- a batch

// Entries on their way into the state, `count` at a time. While the rows of one group are fetched the next one is read and hashed; while
// the slots of that one are fetched the rows of the first change: nothing waits for memory alone.
struct group {
    size_t count;
    struct item items[GROUP];
};

static void group_hash(const struct tally_state *state, const struct tally_state_table *table, struct group *group,
                       size_t from)
{
    for (size_t i = from; i < group->count; i++) {
        struct item *item = &group->items[i];
        item->fingerprint = tally_fingerprint(state->seed, item->key.data, item->key.size);
        item->hint = TALLY_NO_ROW;
        tally_rows_prefetch_index(&table->rows, item->fingerprint);
    }
}

static void group_read(struct tally_state *state, const struct tally_state_table *table,
                       struct tally_entries_reader *entries, struct group *group)
{
    struct item *items = group->items;
    uint64_t count = 0, sum = 0;
    while (count < GROUP && tally_entries_next(entries, &items[count].key, &items[count].amount))
        sum += (uint64_t)items[count++].amount;
    state->stats.events += count;
    if (table->definition.kind == TALLY_KIND_COUNTER) state->stats.amounts += sum;
    group->count = count;
    group_hash(state, table, group, 0);
}

static void group_find(const struct tally_state_table *table, struct group *group)
{
    for (size_t i = 0; i < group->count; i++)
        group->items[i].hint = tally_rows_prefetch_row(&table->rows, group->items[i].fingerprint);
}

static enum tally_status group_add(struct tally_state *state, struct tally_state_table *table, enum op op,
                                   struct group *group, uint64_t version)
{
    for (size_t i = 0; i < group->count; i++) {
        enum tally_status status = row_add(state, table, op, &group->items[i]);
        for (unsigned tries = 0; status == TALLY_CLASH && tries < RESEEDS_MAX; tries++) {
            if ((status = reseed(state, version))) return status;
            group_hash(state, table, group, i);
            status = row_add(state, table, op, &group->items[i]);
        }
        if (status) return status;
    }
    return TALLY_OK;
}

static enum tally_status add_entries(struct tally_state *state, struct tally_state_table *table,
                                     struct tally_entries_reader *entries, uint64_t version)
{
    struct group groups[2];
    unsigned now = 0;
    enum op op = op_of(table, entries);
    group_read(state, table, entries, &groups[now]);
    for (; groups[now].count; now ^= 1) {
        uint64_t clashes = state->stats.clashes;
        group_find(table, &groups[now]);
        group_read(state, table, entries, &groups[now ^ 1]);
        enum tally_status status = group_add(state, table, op, &groups[now], version);
        if (status) return status;
        // Under another seed.
        if (state->stats.clashes != clashes) group_hash(state, table, &groups[now ^ 1], 0);
    }
    return TALLY_OK;
}

// The entries of a topk table: nothing but what is counted moves; its rows follow at the end of the record.
static enum tally_status add_to_topk(struct tally_state *state, struct tally_state_table *table,
                                     struct tally_entries_reader *entries, uint64_t version)
{
    struct tally_bytes key;
    int64_t amount;
    enum tally_status status = tally_state_topk_begin(state, table);
    while (!status && tally_entries_next(entries, &key, &amount)) {
        status = TALLY_CLASH;
        for (unsigned tries = 0; status == TALLY_CLASH && tries < RESEEDS_MAX; tries++) {
            if (tries && (status = reseed(state, version))) break;
            uint64_t fingerprint = tally_fingerprint(state->seed, key.data, key.size);
            status = tally_topk_add(&table->topk, fingerprint, key, amount, &state->stats.saturated);
        }
        state->stats.events++;
        state->stats.amounts += (uint64_t)amount;
    }
    return status;
}

static enum tally_status apply_table(struct tally_state *state, struct tally_entries_reader *entries, uint64_t version)
{
    uint32_t number = tally_state_table(state, entries->table);
    struct tally_state_table *table = NULL;
    if (number != TALLY_TABLES_MAX) {
        table = &state->tables[number];
    } else if (!tally_wire_done(&entries->amounts)) {
        struct tally_definition definition = {.kind = entries->kind};
        const char *why;
        enum tally_status status = tally_definition_complete(&definition, entries->table, &why);
        assert(!status); // it was admitted
        if (status) return status;
        table = tally_state_table_create(state, entries->table, &definition);
    }
    if (!table) return TALLY_OK; // removals from a table that is not there

    bool topk = table->definition.kind == TALLY_KIND_TOPK;
    enum tally_status status =
        topk ? add_to_topk(state, table, entries, version) : add_entries(state, table, entries, version);
    struct tally_bytes key;
    while (!status && tally_entries_next_removed(entries, &key)) {
        uint64_t fingerprint = tally_fingerprint(state->seed, key.data, key.size);
        status = topk ? tally_topk_remove(&table->topk, fingerprint, key) : row_remove(state, table, key);
        state->stats.events++;
    }
    return status;
}

// Decides about a batch and, when it counts, applies it. Any status but TALLY_OK breaks the state.
static enum tally_status apply_batch(struct tally_state *state, struct tally_bytes message, bool admitted,
                                     uint64_t version, struct tally_verdict *verdict)
{
    struct tally_batch_reader batch;
    struct tally_entries_reader entries;
    struct tally_refusal refusal;
    uint64_t entries_count;
    *verdict = (struct tally_verdict){.status = admitted ? tally_batch_open_again(message, &batch)
                                                         : tally_batch_open(message, &batch)};
    if (!verdict->status) {
        const struct tally_producer *producer = tally_producers_find(&state->producers, batch.header.producer);
        uint64_t last = producer ? producer->sequence : 0;
        verdict->expected = last + 1;
        if (batch.header.sequence <= last) {
            verdict->status = TALLY_REPEAT;
            verdict->version = producer->version;
            state->stats.repeats++;
            return TALLY_OK;
        }
        if (batch.header.sequence != last + 1) {
            verdict->status = producer ? TALLY_HOLE : TALLY_UNKNOWN_PRODUCER;
            state->stats.holes++;
            return TALLY_OK;
        }
        state->names.count = 0;
        if (!admitted) verdict->status = tally_state_admit(state, &batch, &state->names, 0, &entries_count, &refusal);
    }
    if (verdict->status) {
        state->stats.refused++;
        return TALLY_OK;
    }
    while (tally_batch_next_table(&batch, &entries)) {
        enum tally_status status = apply_table(state, &entries, version);
        if (status) return status;
    }
    verdict->version = version;
    verdict->expected = batch.header.sequence + 1;
    state->stats.batches++;
    return tally_producers_note(&state->producers, batch.header.producer, batch.header.sequence, version);
}

// ---------------------------------------------------------------------------------------------------- the frame

enum tally_status tally_state_changes_reserve(struct tally_state *state, size_t needed)
{
    if (needed <= state->changes_capacity) return TALLY_OK;
    size_t capacity = needed + needed / 2 + 64;
    struct tally_change *changes = tally_alloc_resize(state->alloc, state->changes, capacity * sizeof *changes);
    if (!changes) return TALLY_NO_MEMORY;
    state->changes = changes;
    state->changes_capacity = capacity;
    return TALLY_OK;
}

// What became of one touched row: into the digest, and its change into *out. False when there is none to tell.
static bool settle_row(struct tally_state *state, const struct tally_state_table *table, uint32_t id,
                       struct tally_change *out)
{
    const struct tally_state_row *row = &table->rows.rows[id];
    bool live = tally_row_live(row), was_live = row->flags & TALLY_ROW_WAS_LIVE;
    *out = (struct tally_change){.id = id};
    if (live && was_live && !(row->flags & (TALLY_ROW_REPLACED | TALLY_ROW_SUBTRACTED))) {
        // Values of counters are 0 or more, others within TALLY_LEVEL_MAX: the difference fits.
        if (!(out->difference = row->value - row->old_value)) return false;
        tally_digest_subtract(&state->digest, tally_digest_row(table->digest_key, row->fingerprint, row->old_value));
        tally_digest_add(&state->digest, tally_digest_row(table->digest_key, row->fingerprint, row->value));
        return true;
    }
    if (live) tally_digest_add(&state->digest, tally_digest_row(table->digest_key, row->fingerprint, row->value));
    out->what = (was_live ? TALLY_CHANGE_REMOVED : 0) | (live ? TALLY_CHANGE_ADDED : 0);
    return out->what;
}

static enum tally_status settle_table(struct tally_state *state, struct tally_state_table *table)
{
    struct tally_rows *rows = &table->rows;
    struct tally_rows_walk walk = {0}, ahead = {0};
    uint32_t id, soon;
    for (unsigned i = 0; i < AHEAD && tally_rows_touched(rows, &ahead, &soon); i++) tally_rows_prefetch(rows, soon);
    table->changes_at = state->changes_count;
    while (tally_rows_touched(rows, &walk, &id)) {
        if (tally_rows_touched(rows, &ahead, &soon)) tally_rows_prefetch(rows, soon);
        enum tally_status status = tally_state_changes_reserve(state, state->changes_count + 1);
        if (status) return status;
        state->changes_count += settle_row(state, table, id, &state->changes[state->changes_count]);
        rows->rows[id].flags = 0;
    }
    table->changes_count = state->changes_count - table->changes_at;
    tally_rows_untouch(rows);
    return TALLY_OK;
}

// The changes of all tables, by table and ascending id, and the digest after them, which stands in the frame's header, before the rows.
// No row is touched any more.
static enum tally_status settle(struct tally_state *state)
{
    state->changes_count = 0;
    for (uint32_t i = 0; i < state->tables_count; i++) {
        enum tally_status status = settle_table(state, &state->tables[i]);
        if (status) return status;
    }
    return TALLY_OK;
}

// `begins`: whoever takes the frame has not heard of the table.
static void write_table(struct tally_state *state, uint32_t number, bool begins)
{
    const struct tally_state_table *table = &state->tables[number];
    const struct tally_change *changes = table->changes_count ? state->changes + table->changes_at : NULL;
    struct tally_frame_writer *frame = &state->frame;
    tally_frame_table_begin(frame, number, tally_bytes(table->name, begins ? table->name_bytes : 0),
                            table->definition.kind);
    tally_frame_table_rows(frame, table->rows.live);
    for (size_t i = 0; i < table->changes_count; i++) {
        const struct tally_change *change = &changes[i];
        if (!change->what) tally_frame_changed(frame, change->id, change->difference);
        if (change->what & TALLY_CHANGE_REMOVED) tally_frame_removed(frame, change->id);
        if (change->what & TALLY_CHANGE_ADDED) {
            const struct tally_state_row *row = &table->rows.rows[change->id];
            tally_frame_added(frame, change->id, tally_row_key(row), row->value);
        }
    }
    tally_frame_table_end(frame);
}

// The figures, of a table that was just written.
static void count_table(struct tally_state *state, const struct tally_state_table *table)
{
    static const enum tally_column of_added[] = {TALLY_COLUMN_ADDED, TALLY_COLUMN_KEY_SIZES, TALLY_COLUMN_KEYS,
                                                 TALLY_COLUMN_VALUES};
    for (size_t i = 0; i < table->changes_count; i++) {
        unsigned what = state->changes[table->changes_at + i].what;
        state->stats.rows_added += (what & TALLY_CHANGE_ADDED) != 0;
        state->stats.rows_changed += what == (TALLY_CHANGE_REMOVED | TALLY_CHANGE_ADDED);
    }
    state->stats.rows_changed += table->changes_count;
    for (unsigned i = 0; i < sizeof of_added / sizeof *of_added; i++)
        state->stats.added_bytes += state->frame.column_bytes[of_added[i]];
}

// From all rows; none is touched any more.
static void digest_anew(struct tally_state *state)
{
    state->digest = (struct tally_digest){0};
    for (uint32_t i = 0; i < state->tables_count; i++) {
        struct tally_state_table *table = &state->tables[i];
        for (uint32_t id = 0; id < table->rows.ids; id++) {
            struct tally_state_row *row = &table->rows.rows[id];
            if (tally_row_live(row))
                tally_digest_add(&state->digest, tally_digest_row(table->digest_key, row->fingerprint, row->value));
            row->flags = 0;
        }
        tally_rows_untouch(&table->rows);
    }
}

enum tally_status tally_state_write_changes(struct tally_state *state, uint64_t from, uint32_t tables, bool again,
                                            struct tally_writer *out)
{
    const struct tally_frame_header header = {.dataset = tally_state_dataset(state),
                                              .epoch = state->epoch,
                                              .from = from,
                                              .to = state->version,
                                              .cut_ms = state->time_ms,
                                              .rows = state->rows,
                                              .digest = state->digest,
                                              .seed = state->seed};
    size_t frame_at = out->size;
    state->frame.out = out;
    tally_frame_begin(&state->frame, &header);
    for (uint32_t i = 0; i < state->tables_count; i++) {
        if (!state->tables[i].changes_count && i < tables) continue;
        write_table(state, i, i >= tables);
        if (!again) count_table(state, &state->tables[i]);
    }
    enum tally_status status = tally_frame_finish(&state->frame);
    if (status || out->size - frame_at <= state->frame_bytes_max) return status;
    out->size = frame_at;
    return TALLY_LIMIT;
}

static enum tally_status write_frame(struct tally_state *state, struct tally_writer *out)
{
    enum tally_status status = settle(state);
    if (status) return status;
    status = tally_state_write_changes(state, state->version - 1, state->tables_before, false, out);
    if (status != TALLY_LIMIT) return status;
    // More than anyone takes in one message: it is told as a whole state.
    state->whole = true;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- a record

static enum tally_status verdicts_reserve(struct tally_state *state, uint64_t count)
{
    if (count <= state->verdicts_capacity) return TALLY_OK;
    struct tally_verdict *verdicts =
        tally_alloc_resize(state->alloc, state->verdicts, (size_t)(count + count / 2) * sizeof *verdicts);
    if (!verdicts) return TALLY_NO_MEMORY;
    state->verdicts = verdicts;
    state->verdicts_capacity = (size_t)(count + count / 2);
    return TALLY_OK;
}

static enum tally_status apply(struct tally_state *state, struct tally_record_reader *reader, bool admitted,
                               struct tally_writer *out)
{
    struct tally_bytes batch;
    enum tally_status status = verdicts_reserve(state, reader->batches_count);
    if (status) return status;
    uint64_t version = reader->header.version;
    state->whole = false;
    state->tables_before = state->tables_count;
    state->verdicts_count = 0;
    if (reader->header.epoch > state->epoch) {
        state->epoch = reader->header.epoch;
        state->whole = true;
    }
    if (reader->header.time_ms > state->time_ms) state->time_ms = reader->header.time_ms;
    status = tally_state_define(state, reader);
    if (!status) status = tally_aging_advance(state);
    if (status) return status;
    while (tally_record_next(reader, &batch)) {
        status = apply_batch(state, batch, admitted, version, &state->verdicts[state->verdicts_count]);
        if (status) return status;
        state->verdicts_count++;
    }
    if ((status = tally_state_conclude(state))) return status;
    state->version = version;
    if (state->whole)
        digest_anew(state);
    else if ((status = write_frame(state, out)))
        return status;
    return TALLY_OK;
}

static enum tally_status apply_record(struct tally_state *state, struct tally_bytes record, bool admitted,
                                      struct tally_writer *out, struct tally_applied *out_applied)
{
    if (state->broken) return state->broken;
    struct tally_record_reader reader;
    enum tally_status status = admitted ? tally_record_open_again(record, &reader) : tally_record_open(record, &reader);
    if (status) return status;
    if (reader.header.version != state->version + 1) return TALLY_GAP;
    size_t frame_at = out->size;
    status = apply(state, &reader, admitted, out);
    if (status) {
        state->broken = status;
        return status;
    }
    *out_applied = (struct tally_applied){.whole = state->whole,
                                          .frame_at = frame_at,
                                          .verdicts = state->verdicts,
                                          .verdicts_count = state->verdicts_count};
    return TALLY_OK;
}

enum tally_status tally_state_apply(struct tally_state *state, struct tally_bytes record, struct tally_writer *out,
                                    struct tally_applied *out_applied)
{
    return apply_record(state, record, false, out, out_applied);
}

enum tally_status tally_state_apply_admitted(struct tally_state *state, struct tally_bytes record,
                                             struct tally_writer *out, struct tally_applied *out_applied)
{
    return apply_record(state, record, true, out, out_applied);
}
