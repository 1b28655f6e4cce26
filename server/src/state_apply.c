// SPDX-License-Identifier: Apache-2.0
//
// One record applied: rows move as the batches say, each row's first touch notes what it was, and the frame is written
// from what the touched rows were and are.
#include <assert.h>
#include <replay/radix.h>

#include "state_parts.h"

// A seed under which the rows clash again is replaced again. With real fingerprints even a second time does not happen.
#define RESEEDS_MAX 64u

// Lookups are made in groups, so that their cache misses overlap.
#define GROUP 32u

struct item {
    uint64_t fingerprint;
    struct tally_bytes key;
    int64_t amount;
    uint32_t hint;
};

// ---------------------------------------------------------------------------------------------------- rows

// The row's entry in the list of touched rows, made at the first touch; null without memory. Must be called before the row changes.
static struct tally_touched *touch(struct tally_state *state, struct tally_state_table *table, uint32_t id)
{
    struct tally_state_row *row = &table->rows.rows[id];
    if (row->touched) return &table->touched[row->touched - 1];
    if (table->touched_count == table->touched_capacity) {
        uint32_t capacity = table->touched_capacity ? table->touched_capacity * 2 : 64;
        struct tally_touched *touched = tally_alloc_resize(state->alloc, table->touched, capacity * sizeof *touched);
        if (!touched) return NULL;
        table->touched = touched;
        table->touched_capacity = capacity;
    }
    struct tally_touched *touched = &table->touched[table->touched_count++];
    *touched = (struct tally_touched){.id = id, .was_live = row->key != NULL, .old_value = row->value};
    row->touched = table->touched_count;
    if (row->key)
        tally_digest_subtract(&state->digest, tally_digest_row(table->digest_key, row->fingerprint, row->value));
    return touched;
}

static enum tally_status row_begin(struct tally_state *state, struct tally_state_table *table, const struct item *item,
                                   uint32_t *out_id)
{
    const uint8_t *kept = tally_keys_put(&state->keys, item->key);
    if (!kept) return TALLY_NO_MEMORY;
    enum tally_status status =
        tally_rows_add(&table->rows, item->fingerprint, tally_bytes(kept, item->key.size), out_id);
    if (status) return status;
    struct tally_state_row *row = &table->rows.rows[*out_id];
    if (row->touched) {
        struct tally_touched *touched = &table->touched[row->touched - 1];
        touched->replaced = touched->was_live;
    } else {
        // Not live before: the touch must not see the key.
        row->key = NULL;
        struct tally_touched *touched = touch(state, table, *out_id);
        table->rows.rows[*out_id].key = kept;
        if (!touched) return TALLY_NO_MEMORY;
    }
    state->rows++;
    state->key_bytes += item->key.size;
    return TALLY_OK;
}

// TALLY_CLASH: nothing changed, and another key has this fingerprint.
static enum tally_status row_add(struct tally_state *state, struct tally_state_table *table, const struct item *item)
{
    uint32_t id = tally_rows_find(&table->rows, item->fingerprint);
    if (id == TALLY_NO_ROW) {
        enum tally_status status = row_begin(state, table, item, &id);
        if (status) return status;
    } else {
        const struct tally_state_row *row = &table->rows.rows[id];
        if (!tally_bytes_equal(tally_bytes(row->key, row->key_bytes), item->key)) return TALLY_CLASH;
        if (item->amount == 0) return TALLY_OK;
        if (!touch(state, table, id)) return TALLY_NO_MEMORY;
    }
    struct tally_state_row *row = &table->rows.rows[id];
    if (__builtin_add_overflow(row->value, item->amount, &row->value)) {
        row->value = INT64_MAX;
        state->stats.saturated++;
    }
    return TALLY_OK;
}

static enum tally_status row_remove(struct tally_state *state, struct tally_state_table *table, struct tally_bytes key)
{
    uint32_t id = tally_rows_find(&table->rows, tally_fingerprint(state->seed, key.data, key.size));
    if (id == TALLY_NO_ROW) return TALLY_OK;
    const struct tally_state_row *row = &table->rows.rows[id];
    if (!tally_bytes_equal(tally_bytes(row->key, row->key_bytes), key)) return TALLY_OK;
    if (!touch(state, table, id)) return TALLY_NO_MEMORY;
    const uint8_t *kept = row->key;
    enum tally_status status = tally_rows_remove(&table->rows, id);
    if (status) return status;
    tally_keys_drop(&state->keys, kept, key.size);
    state->rows--;
    state->key_bytes -= key.size;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- a new seed

static enum tally_status rehash(struct tally_state *state)
{
    for (uint32_t i = 0; i < state->tables_count; i++) {
        struct tally_state_table *table = &state->tables[i];
        table->digest_key = tally_digest_table(state->seed, tally_bytes(table->name, table->name_bytes));
        for (uint32_t id = 0; id < table->rows.ids; id++) {
            struct tally_state_row *row = &table->rows.rows[id];
            if (row->key) row->fingerprint = tally_fingerprint(state->seed, row->key, row->key_bytes);
        }
        enum tally_status status = tally_rows_rebuild(&table->rows);
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

static void fingerprint_items(struct tally_state *state, const struct tally_state_table *table, struct item *items,
                              size_t count)
{
    for (size_t i = 0; i < count; i++) {
        items[i].fingerprint = tally_fingerprint(state->seed, items[i].key.data, items[i].key.size);
        tally_rows_prefetch_index(&table->rows, items[i].fingerprint);
    }
}

static enum tally_status add_items(struct tally_state *state, struct tally_state_table *table, struct item *items,
                                   size_t count, uint64_t version)
{
    fingerprint_items(state, table, items, count);
    for (size_t i = 0; i < count; i++) items[i].hint = tally_rows_prefetch_row(&table->rows, items[i].fingerprint);
    for (size_t i = 0; i < count; i++) tally_rows_prefetch_key(&table->rows, items[i].hint);
    for (size_t i = 0; i < count; i++) {
        enum tally_status status = row_add(state, table, &items[i]);
        for (unsigned tries = 0; status == TALLY_CLASH && tries < RESEEDS_MAX; tries++) {
            if ((status = reseed(state, version))) return status;
            fingerprint_items(state, table, items + i, count - i);
            status = row_add(state, table, &items[i]);
        }
        if (status) return status;
    }
    return TALLY_OK;
}

static enum tally_status apply_table(struct tally_state *state, struct tally_entries_reader *entries, uint64_t version)
{
    uint32_t number = tally_state_table(state, entries->table);
    struct tally_state_table *table = NULL;
    if (number != TALLY_TABLES_MAX) {
        table = &state->tables[number];
    } else if (!tally_wire_done(&entries->amounts)) {
        table = tally_state_table_begin(state, entries->table);
        table->created = true;
    }
    if (!table) return TALLY_OK; // removals from a table that is not there

    struct item items[GROUP];
    enum tally_status status;
    size_t count;
    do {
        for (count = 0; count < GROUP && tally_entries_next(entries, &items[count].key, &items[count].amount);
             count++) {
        }
        if ((status = add_items(state, table, items, count, version))) return status;
        state->stats.events += count;
        for (size_t i = 0; i < count; i++) state->stats.amounts += (uint64_t)items[i].amount;
    } while (count == GROUP);
    struct tally_bytes key;
    while (tally_entries_next_removed(entries, &key)) {
        if ((status = row_remove(state, table, key))) return status;
        state->stats.events++;
    }
    return TALLY_OK;
}

// Decides about a batch and, when it counts, applies it. Any status but TALLY_OK breaks the state.
static enum tally_status apply_batch(struct tally_state *state, struct tally_bytes message, uint64_t version,
                                     struct tally_verdict *verdict)
{
    struct tally_batch_reader batch;
    struct tally_entries_reader entries;
    uint64_t entries_count;
    *verdict = (struct tally_verdict){.status = tally_batch_open(message, &batch)};
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
        verdict->status = tally_state_admit(state, &batch, &state->names, 0, &entries_count);
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

// The touched rows of a table by ascending id: values are (id, number in the list).
static enum tally_status sort_touched(struct tally_state *state, const struct tally_state_table *table)
{
    size_t needed = (size_t)table->touched_count * 2;
    if (state->sorted_capacity < needed) {
        size_t capacity = needed + needed / 2;
        uint64_t *sorted = tally_alloc_resize(state->alloc, state->sorted, capacity * sizeof *sorted);
        if (!sorted) return TALLY_NO_MEMORY;
        state->sorted = sorted;
        state->sorted_capacity = capacity;
    }
    for (uint32_t i = 0; i < table->touched_count; i++) state->sorted[i] = (uint64_t)table->touched[i].id << 32 | i;
    tally_radix_sort(state->sorted, state->sorted + table->touched_count, table->touched_count);
    return TALLY_OK;
}

static enum tally_status write_table(struct tally_state *state, uint32_t number)
{
    struct tally_state_table *table = &state->tables[number];
    struct tally_frame_writer *frame = &state->frame;
    enum tally_status status = sort_touched(state, table);
    if (status) return status;
    uint32_t count = table->touched_count;
    tally_frame_table_begin(frame, number, tally_bytes(table->name, table->created ? table->name_bytes : 0),
                            table->kind);
    for (uint32_t i = 0; i < count; i++) {
        const struct tally_touched *touched = &table->touched[(uint32_t)state->sorted[i]];
        const struct tally_state_row *row = &table->rows.rows[touched->id];
        if (touched->was_live && (!row->key || touched->replaced)) {
            tally_frame_removed(frame, touched->id);
            state->stats.rows_changed++;
        } else if (touched->was_live && row->value != touched->old_value) {
            // Values of counters are 0 or more: the difference fits.
            tally_frame_changed(frame, touched->id, row->value - touched->old_value);
            state->stats.rows_changed++;
        }
        if (row->key && (!touched->was_live || touched->replaced)) {
            tally_frame_added(frame, touched->id, tally_bytes(row->key, row->key_bytes), row->value);
            state->stats.rows_changed++;
            state->stats.rows_added++;
        }
    }
    static const enum tally_column of_added[] = {TALLY_COLUMN_ADDED, TALLY_COLUMN_KEY_SIZES, TALLY_COLUMN_KEYS,
                                                 TALLY_COLUMN_VALUES};
    tally_frame_table_end(frame);
    for (unsigned i = 0; i < sizeof of_added / sizeof *of_added; i++)
        state->stats.added_bytes += frame->column_bytes[of_added[i]];
    return TALLY_OK;
}

static void untouch(struct tally_state *state)
{
    for (uint32_t i = 0; i < state->tables_count; i++) {
        struct tally_state_table *table = &state->tables[i];
        for (uint32_t j = 0; j < table->touched_count; j++) table->rows.rows[table->touched[j].id].touched = 0;
        table->touched_count = 0;
        table->created = false;
    }
}

static void digest_anew(struct tally_state *state)
{
    state->digest = (struct tally_digest){0};
    for (uint32_t i = 0; i < state->tables_count; i++) {
        const struct tally_state_table *table = &state->tables[i];
        for (uint32_t id = 0; id < table->rows.ids; id++) {
            const struct tally_state_row *row = &table->rows.rows[id];
            if (row->key)
                tally_digest_add(&state->digest, tally_digest_row(table->digest_key, row->fingerprint, row->value));
        }
    }
}

// The digest stands in the frame's header, before the tables: hence a pass over the touched rows for it, then one for the columns.
static enum tally_status write_frame(struct tally_state *state, struct tally_writer *out)
{
    struct tally_frame_header header = {.dataset = tally_state_dataset(state),
                                        .epoch = state->epoch,
                                        .from = state->version - 1,
                                        .to = state->version,
                                        .cut_ms = state->time_ms,
                                        .rows = state->rows,
                                        .seed = state->seed};
    for (uint32_t i = 0; i < state->tables_count; i++) {
        struct tally_state_table *table = &state->tables[i];
        for (uint32_t j = 0; j < table->touched_count; j++) {
            const struct tally_state_row *row = &table->rows.rows[table->touched[j].id];
            if (row->key)
                tally_digest_add(&state->digest, tally_digest_row(table->digest_key, row->fingerprint, row->value));
        }
    }
    header.digest = state->digest;
    state->frame.out = out;
    tally_frame_begin(&state->frame, &header);
    for (uint32_t i = 0; i < state->tables_count; i++) {
        if (!state->tables[i].touched_count && !state->tables[i].created) continue;
        enum tally_status status = write_table(state, i);
        if (status) return status;
    }
    return tally_frame_finish(&state->frame);
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

static enum tally_status apply(struct tally_state *state, struct tally_record_reader *reader, struct tally_writer *out)
{
    struct tally_bytes batch;
    enum tally_status status = verdicts_reserve(state, reader->batches_count);
    if (status) return status;
    uint64_t version = reader->header.version;
    state->whole = false;
    state->verdicts_count = 0;
    if (reader->header.epoch > state->epoch) {
        state->epoch = reader->header.epoch;
        state->whole = true;
    }
    while (tally_record_next(reader, &batch)) {
        status = apply_batch(state, batch, version, &state->verdicts[state->verdicts_count]);
        if (status) return status;
        state->verdicts_count++;
    }
    state->version = version;
    if (reader->header.time_ms > state->time_ms) state->time_ms = reader->header.time_ms;
    if (state->whole)
        digest_anew(state);
    else if ((status = write_frame(state, out)))
        return status;
    untouch(state);
    return TALLY_OK;
}

enum tally_status tally_state_apply(struct tally_state *state, struct tally_bytes record, struct tally_writer *out,
                                    struct tally_applied *out_applied)
{
    if (state->broken) return state->broken;
    struct tally_record_reader reader;
    enum tally_status status = tally_record_open(record, &reader);
    if (status) return status;
    if (reader.header.version != state->version + 1) return TALLY_GAP;
    size_t frame_at = out->size;
    status = apply(state, &reader, out);
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
