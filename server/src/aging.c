// SPDX-License-Identifier: Apache-2.0
#include "aging.h"

#include <assert.h>

#include "aging_parts.h"

void tally_aging_deinit(struct tally_aging *aging)
{
    tally_expiry_deinit(&aging->expiry);
    tally_panes_deinit(&aging->panes);
    *aging = (struct tally_aging){0};
}

// ---------------------------------------------------------------------------------------------------- an entry

static int64_t sum(int64_t a, int64_t b)
{
    int64_t result;
    return __builtin_add_overflow(a, b, &result) ? INT64_MAX : result;
}

// What two amounts of one row are together.
static int64_t together(enum tally_kind kind, int64_t a, int64_t b)
{
    if (kind == TALLY_KIND_MIN) return a < b ? a : b;
    if (kind == TALLY_KIND_MAX) return a > b ? a : b;
    return sum(a, b);
}

static enum tally_status panes_begin(struct tally_state *state, struct tally_state_table *table)
{
    const struct tally_definition *definition = &table->definition;
    if (table->aging.panes.alloc) return TALLY_OK;
    return tally_panes_init(&table->aging.panes, tally_definition_pane_ms(definition),
                            tally_definition_panes(definition), state->alloc);
}

enum tally_status tally_aging_count(struct tally_state *state, struct tally_state_table *table, uint32_t id,
                                    int64_t amount)
{
    struct tally_aging *aging = &table->aging;
    enum tally_status status = TALLY_OK;
    if (table->definition.ttl_ms) {
        if (!aging->expiry.alloc) tally_expiry_init(&aging->expiry, state->alloc);
        if ((status = tally_expiry_reserve(&aging->expiry, id + 1))) return status;
        tally_expiry_touch(&aging->expiry, id, state->time_ms);
    }
    if (!table->definition.window) return TALLY_OK;
    int64_t *held;
    bool first;
    status = panes_begin(state, table);
    if (!status)
        status = tally_panes_entry(&aging->panes, id, tally_panes_number(&aging->panes, state->time_ms), &held, &first);
    if (!status) *held = first ? amount : together(table->definition.kind, *held, amount);
    return status;
}

void tally_aging_drop(struct tally_state_table *table, uint32_t id)
{
    if (table->aging.expiry.alloc) tally_expiry_drop(&table->aging.expiry, id);
    if (table->aging.panes.alloc) tally_panes_drop(&table->aging.panes, id);
}

bool tally_aging_full(const struct tally_state *state, const struct tally_state_table *table, struct tally_bytes key)
{
    const struct tally_bytes overflow = tally_overflow_key();
    uint64_t rows = table->rows.live, max = table->definition.max_keys;
    if (max == 0 || rows < max || tally_bytes_equal(key, overflow)) return false;
    uint32_t id = tally_rows_find(&table->rows, tally_fingerprint(state->seed, overflow.data, overflow.size));
    bool there = id != TALLY_NO_ROW && tally_row_key_is(&table->rows.rows[id], overflow);
    return rows - there >= max;
}

// ---------------------------------------------------------------------------------------------------- time

// The value that the row's panes make; there is one at least.
static int64_t value_of(const struct tally_state_table *table, uint32_t id)
{
    const struct tally_panes *panes = &table->aging.panes;
    int64_t value = 0, amount = 0;
    uint32_t entry = tally_panes_next(panes, id, 0, &value);
    while ((entry = tally_panes_next(panes, id, entry, &amount)))
        value = together(table->definition.kind, value, amount);
    return value;
}

// What becomes of a row of which an amount left the window.
static enum tally_status row_slide(struct tally_state *state, struct tally_state_table *table, uint32_t id,
                                   int64_t amount)
{
    if (!tally_panes_has(&table->aging.panes, id)) return tally_state_row_leave(state, table, id);
    struct tally_state_row *row = &table->rows.rows[id];
    int64_t value;
    // A sum that did not reach the greatest value is exact.
    if (table->definition.kind == TALLY_KIND_COUNTER && row->value != INT64_MAX)
        value = row->value - amount;
    else
        value = value_of(table, id);
    if (value == row->value) return TALLY_OK;
    tally_state_row_touch(table, id);
    row->value = value;
    return TALLY_OK;
}

static enum tally_status slide(struct tally_state *state, struct tally_state_table *table)
{
    struct tally_panes *panes = &table->aging.panes;
    uint64_t now = tally_panes_number(panes, state->time_ms);
    uint32_t id;
    int64_t amount;
    while (tally_panes_leave(panes, now, &id, &amount)) {
        enum tally_status status = row_slide(state, table, id, amount);
        if (status) return status;
        state->stats.slid++;
    }
    return TALLY_OK;
}

// A ttl that is new to the table, or is taken from it.
static enum tally_status ttl_change(struct tally_state *state, struct tally_state_table *table)
{
    struct tally_expiry *expiry = &table->aging.expiry;
    if (!table->definition.ttl_ms) {
        tally_expiry_deinit(expiry);
        *expiry = (struct tally_expiry){0};
        return TALLY_OK;
    }
    tally_expiry_init(expiry, state->alloc);
    enum tally_status status = tally_expiry_reserve(expiry, table->rows.ids);
    for (uint32_t id = 0; !status && id < table->rows.ids; id++) {
        if (tally_row_live(&table->rows.rows[id])) tally_expiry_touch(expiry, id, state->time_ms);
    }
    return status;
}

static enum tally_status expire(struct tally_state *state, struct tally_state_table *table, uint32_t *budget)
{
    struct tally_expiry *expiry = &table->aging.expiry;
    while (*budget && tally_expiry_due(expiry, table->definition.ttl_ms) <= state->time_ms) {
        enum tally_status status = tally_state_row_leave(state, table, expiry->oldest);
        if (status) return status;
        state->stats.expired++;
        --*budget;
    }
    return TALLY_OK;
}

enum tally_status tally_aging_advance(struct tally_state *state)
{
    uint32_t budget = state->expired_max;
    for (uint32_t i = 0; i < state->tables_count; i++) {
        struct tally_state_table *table = &state->tables[i];
        enum tally_status status = TALLY_OK;
        if (table->aging.panes.alloc) status = slide(state, table);
        if (!status && (table->definition.ttl_ms != 0) != (table->aging.expiry.alloc != NULL))
            status = ttl_change(state, table);
        if (!status && table->definition.ttl_ms) status = expire(state, table, &budget);
        if (status) return status;
    }
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- parts

enum tally_status tally_aging_load_pane(struct tally_state *state, struct tally_state_table *table, uint64_t pane)
{
    enum tally_status status = panes_begin(state, table);
    if (status) return status;
    struct tally_panes *panes = &table->aging.panes;
    uint64_t now = tally_panes_number(panes, state->time_ms);
    if (pane > now || now - pane >= panes->count) return TALLY_MALFORMED;
    return tally_panes_reserve(panes, table->rows.ids);
}

enum tally_status tally_aging_load_amount(struct tally_state_table *table, uint64_t pane, uint32_t id, int64_t amount)
{
    int64_t *held;
    bool first;
    if (table->aging.panes.entries && pane < tally_panes_newest(&table->aging.panes)) return TALLY_MALFORMED;
    enum tally_status status = tally_panes_entry(&table->aging.panes, id, pane, &held, &first);
    if (status) return status;
    *held = amount;
    return first ? TALLY_OK : TALLY_MALFORMED;
}

bool tally_aging_complete(const struct tally_state_table *table)
{
    const struct tally_definition *definition = &table->definition;
    const struct tally_aging *aging = &table->aging;
    if (definition->ttl_ms && aging->expiry.count != table->rows.live) return false;
    if (!definition->window) return true;
    for (uint32_t id = 0; id < table->rows.ids; id++) {
        const struct tally_state_row *row = &table->rows.rows[id];
        if (!tally_row_live(row)) continue;
        if (!tally_panes_has(&aging->panes, id) || value_of(table, id) != row->value) return false;
    }
    return true;
}

uint64_t tally_state_due(const struct tally_state *state)
{
    uint64_t due = UINT64_MAX;
    for (uint32_t i = 0; i < state->tables_count; i++) {
        const struct tally_state_table *table = &state->tables[i];
        const struct tally_aging *aging = &table->aging;
        uint64_t slides = aging->panes.alloc ? tally_panes_due(&aging->panes) : UINT64_MAX;
        uint64_t expires =
            aging->expiry.alloc ? tally_expiry_due(&aging->expiry, table->definition.ttl_ms) : UINT64_MAX;
        if (slides < due) due = slides;
        if (expires < due) due = expires;
    }
    return due;
}
