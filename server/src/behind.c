// SPDX-License-Identifier: Apache-2.0
#include "behind.h"
#include "state_parts.h"

// Beside TALLY_CHANGE_REMOVED and TALLY_CHANGE_ADDED.
#define CHANGED 4u

void tally_behind_init(struct tally_behind *behind, const struct tally_alloc *alloc)
{
    *behind = (struct tally_behind){.alloc = alloc};
}

void tally_behind_deinit(struct tally_behind *behind)
{
    if (behind->alloc) tally_behind_forget(behind, false);
}

void tally_behind_forget(struct tally_behind *behind, bool keep)
{
    for (uint32_t i = 0; i < TALLY_TABLES_MAX; i++) {
        struct tally_behind_table *table = &behind->table[i];
        if (keep && behind->versions && table->capacity) memset(table->what, 0, table->capacity);
        if (keep) continue;
        tally_alloc_free(behind->alloc, table->what);
        tally_alloc_free(behind->alloc, table->differences);
        *table = (struct tally_behind_table){0};
    }
    behind->versions = 0;
}

// Room for `ids` ids; what is new has not changed.
static enum tally_status reserve(const struct tally_behind *behind, struct tally_behind_table *table, uint32_t ids)
{
    if (ids <= table->capacity) return TALLY_OK;
    uint64_t more = (uint64_t)table->capacity + table->capacity / 2;
    if (more < ids) more = ids;
    if (more > TALLY_ROWS_MAX) more = TALLY_ROWS_MAX;
    uint8_t *what = tally_alloc_resize(behind->alloc, table->what, (size_t)more);
    if (!what) return TALLY_NO_MEMORY;
    table->what = what;
    int64_t *differences = tally_alloc_resize(behind->alloc, table->differences, (size_t)more * sizeof *differences);
    if (!differences) return TALLY_NO_MEMORY;
    table->differences = differences;
    memset(what + table->capacity, 0, (size_t)more - table->capacity);
    table->capacity = (uint32_t)more;
    return TALLY_OK;
}

// A row left, or another one came to its id, or both.
static void note_moved(struct tally_behind_table *table, const struct tally_change *change)
{
    uint8_t *what = &table->what[change->id];
    bool mirrored = !(*what & TALLY_CHANGE_ADDED); // what was there is a row of the mirror, or nothing
    if (change->what & TALLY_CHANGE_REMOVED)
        *what = mirrored ? TALLY_CHANGE_REMOVED : (uint8_t)(*what & ~TALLY_CHANGE_ADDED);
    if (change->what & TALLY_CHANGE_ADDED) *what |= TALLY_CHANGE_ADDED;
}

static void note_table(struct tally_behind_table *table, const struct tally_change *changes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct tally_change *change = &changes[i];
        uint8_t what = table->what[change->id];
        if (change->what) {
            note_moved(table, change);
        } else if (what & CHANGED) {
            table->differences[change->id] += change->difference;
        } else if (!what) {
            table->what[change->id] = CHANGED;
            table->differences[change->id] = change->difference;
        } // else the row is new: it is told as it is
    }
}

enum tally_status tally_behind_note(struct tally_behind *behind, const struct tally_state *state)
{
    if (behind->versions++ == 0) behind->tables = state->tables_before;
    for (uint32_t i = 0; i < state->tables_count; i++) {
        const struct tally_state_table *table = &state->tables[i];
        if (!table->changes_count) continue;
        enum tally_status status = reserve(behind, &behind->table[i], table->rows.ids);
        if (status) return status;
        note_table(&behind->table[i], state->changes + table->changes_at, table->changes_count);
    }
    return TALLY_OK;
}

// The changes of one table, ascending, into the state's list.
static enum tally_status list_table(const struct tally_behind_table *from, struct tally_state *state,
                                    struct tally_state_table *table)
{
    table->changes_at = state->changes_count;
    for (uint32_t id = 0; id < from->capacity; id++) {
        // Eight ids at a time of those that did not change.
        if (id % 8 == 0 && id + 8 <= from->capacity && tally_load64(from->what + id) == 0) {
            id += 7;
            continue;
        }
        uint8_t what = from->what[id];
        if (!what) continue;
        struct tally_change change = {.id = id, .what = what & ~CHANGED};
        if (what == CHANGED && !(change.difference = from->differences[id])) continue;
        enum tally_status status = tally_state_changes_reserve(state, state->changes_count + 1);
        if (status) return status;
        state->changes[state->changes_count++] = change;
    }
    table->changes_count = state->changes_count - table->changes_at;
    return TALLY_OK;
}

enum tally_status tally_behind_write(const struct tally_behind *behind, struct tally_state *state,
                                     struct tally_writer *out)
{
    state->changes_count = 0;
    for (uint32_t i = 0; i < state->tables_count; i++) {
        enum tally_status status = list_table(&behind->table[i], state, &state->tables[i]);
        if (status) return status;
    }
    return tally_state_write_changes(state, state->version - behind->versions, behind->tables, true, out);
}
