// SPDX-License-Identifier: Apache-2.0
//
// What follows at the end of a record from what its batches did: the estimates of sketches that changed, and the rows of topk tables, which
// follow what they count or the rows of another table.
#include "state_parts.h"

static void conclude_distinct(struct tally_state_table *table)
{
    struct tally_rows_walk walk = {0};
    uint32_t id;
    while (tally_rows_touched(&table->rows, &walk, &id)) {
        struct tally_state_row *row = &table->rows.rows[id];
        if (!tally_row_live(row)) continue;
        int64_t estimate = tally_sketch_estimate(table->sketches[id], table->definition.precision);
        if (estimate > row->value) row->value = estimate;
    }
}

// ---------------------------------------------------------------------------------------------------- rows that follow others

// What the rows of `table` are to be: of those of `rows` that `first` names, the key and the value, or the error.
struct following {
    const struct tally_rows *rows;
    const struct tally_ranked *first;
    uint32_t count;
    bool errors;
};

static const struct tally_state_row *leader(const struct following *following, uint32_t n)
{
    return &following->rows->rows[following->first[n].id];
}

static int64_t value_of(const struct following *following, const struct tally_state_row *row)
{
    return following->errors ? row->old_value : row->value;
}

// The row of a key, which has this fingerprint in both.
static uint32_t find(const struct tally_state_table *table, const struct tally_state_row *row)
{
    uint32_t id = tally_rows_find(&table->rows, row->fingerprint);
    if (id == TALLY_NO_ROW || !tally_row_key_is(&table->rows.rows[id], tally_row_key(row))) return TALLY_NO_ROW;
    return id;
}

static enum tally_status follow(struct tally_state *state, struct tally_state_table *table,
                                const struct following *following)
{
    enum tally_status status = TALLY_OK;
    for (uint32_t i = 0; i < following->count; i++) {
        uint32_t id = find(table, leader(following, i));
        if (id == TALLY_NO_ROW) continue;
        struct tally_state_row *row = &table->rows.rows[id];
        int64_t value = value_of(following, leader(following, i));
        if (row->value != value) {
            tally_state_row_touch(table, id);
            row->value = value;
        }
        row->flags |= TALLY_ROW_KEPT; // last: what is not touched has no flags
    }
    for (uint32_t id = 0; id < table->rows.ids && !status; id++) {
        struct tally_state_row *row = &table->rows.rows[id];
        bool goes = tally_row_live(row) && !(row->flags & TALLY_ROW_KEPT);
        row->flags &= (uint16_t)~TALLY_ROW_KEPT;
        if (goes) status = tally_state_row_leave(state, table, id);
    }
    for (uint32_t i = 0; i < following->count && !status; i++) {
        const struct tally_state_row *row = leader(following, i);
        uint32_t id;
        if (find(table, row) != TALLY_NO_ROW) continue;
        // No row has its fingerprint: those that lead have different ones, and what did not follow one has left.
        status = tally_state_row_begin(state, table, row->fingerprint, tally_row_key(row), &id);
        if (!status) table->rows.rows[id].value = value_of(following, row);
    }
    return status;
}

static enum tally_status conclude_topk(struct tally_state *state, uint32_t number, const struct tally_rows *rows)
{
    struct tally_state_table *table = &state->tables[number];
    struct tally_rows_walk walk = {0};
    struct following following = {.rows = rows};
    uint32_t id;
    if (table->top.known && !tally_rows_touched(rows, &walk, &id)) return TALLY_OK;
    if (!table->top.alloc) table->top = tally_top(state->alloc);
    enum tally_status status = tally_top_select(&table->top, rows, table->definition.k, &following.count);
    following.first = table->top.candidates;
    if (!status) status = follow(state, table, &following);
    if (status || !tally_definition_has_errors(&table->definition)) return status;
    following.errors = true;
    return follow(state, table + 1, &following); // the table behind it was begun with it
}

enum tally_status tally_state_topk_begin(struct tally_state *state, struct tally_state_table *table)
{
    if (table->topk.alloc) return TALLY_OK;
    return tally_topk_init(&table->topk, table->definition.capacity, &state->keys, state->clash_mask, state->alloc);
}

enum tally_status tally_state_conclude(struct tally_state *state)
{
    enum tally_status status = TALLY_OK;
    for (uint32_t i = 0; i < state->tables_count; i++) {
        if (state->tables[i].definition.kind == TALLY_KIND_DISTINCT) conclude_distinct(&state->tables[i]);
    }
    for (uint32_t i = 0; i < state->tables_count && !status; i++) {
        struct tally_state_table *table = &state->tables[i];
        if (table->topk.alloc) {
            status = conclude_topk(state, i, &table->topk.rows);
            tally_rows_untouch(&table->topk.rows);
        } else if (tally_definition_topk_of(&table->definition)) {
            uint32_t source = tally_state_table(state, tally_definition_source(&table->definition));
            // One that is a topk table itself has no rows that are final by now; it is as if it were empty.
            bool there = source != TALLY_TABLES_MAX && state->tables[source].definition.kind != TALLY_KIND_TOPK;
            if (there) status = conclude_topk(state, i, &state->tables[source].rows);
        }
    }
    return status;
}
