// SPDX-License-Identifier: Apache-2.0
//
// What the state would take: batches, and definitions of tables. And how tables begin.
#include <assert.h>

#include "state_parts.h"

// ---------------------------------------------------------------------------------------------------- names

static uint32_t find_name(const struct tally_table_names *names, struct tally_bytes name)
{
    uint32_t i = 0;
    while (i < names->count && !tally_bytes_equal(tally_bytes(names->names[i], names->sizes[i]), name)) i++;
    return i;
}

// Whether a table of this name is there or about to be.
static bool name_taken(const struct tally_state *state, const struct tally_table_names *names, struct tally_bytes name)
{
    return tally_state_table(state, name) != TALLY_TABLES_MAX || find_name(names, name) != names->count;
}

// Adds a name that is not there yet. False when there is no room for it beside the tables that are there.
static bool note_name(const struct tally_state *state, struct tally_table_names *names, struct tally_bytes name,
                      uint8_t kind)
{
    if (state->tables_count + names->count >= state->tables_max) return false;
    memcpy(names->names[names->count], name.data, name.size);
    names->sizes[names->count] = (uint8_t)name.size;
    names->kinds[names->count++] = kind;
    return true;
}

// A table that is not there, and what comes with it, is about to begin. TALLY_INVALID with *out_why, TALLY_FULL.
static enum tally_status note_table(const struct tally_state *state, struct tally_table_names *names,
                                    struct tally_bytes name, const struct tally_definition *definition,
                                    const char **out_why)
{
    uint8_t buffer[TALLY_NAME_BYTES_MAX];
    bool errors = tally_definition_has_errors(definition);
    struct tally_bytes error = errors ? tally_error_name(name, buffer) : name;
    if (errors && name_taken(state, names, error)) {
        *out_why = "the table NAME.error, which a topk table needs for itself, is there already";
        return TALLY_INVALID;
    }
    uint8_t kind = tally_definition_topk_of(definition) ? TALLY_NAME_TOP_OF : (uint8_t)definition->kind;
    if (!note_name(state, names, name, kind)) return TALLY_FULL;
    return !errors || note_name(state, names, error, TALLY_NAME_ERRORS) ? TALLY_OK : TALLY_FULL;
}

// What a table that is there is, in the words of tally_table_names.
static uint8_t kind_of(const struct tally_state_table *table)
{
    if (table->errors) return TALLY_NAME_ERRORS;
    return tally_definition_topk_of(&table->definition) ? TALLY_NAME_TOP_OF : (uint8_t)table->definition.kind;
}

// ---------------------------------------------------------------------------------------------------- one batch

// The entry number `at` is what is wrong.
static void tell_entry(const struct tally_entries_reader *entries, uint64_t at, struct tally_refusal *out_refusal)
{
    struct tally_entries_reader reader = *entries;
    while (tally_entries_next(&reader, &out_refusal->key, &out_refusal->amount) && at > 0) at--;
    out_refusal->has_amount = true;
}

// Whether every amount is one of the kind. *out_count: how many there are.
static enum tally_status check_amounts(const struct tally_entries_reader *entries, uint8_t kind, uint64_t *out_count,
                                       struct tally_refusal *out_refusal)
{
    struct tally_wire amounts = entries->amounts;
    uint64_t count = 0, coded;
    bool sums = kind == TALLY_KIND_COUNTER || kind == TALLY_KIND_TOPK;
    while (!tally_wire_done(&amounts) && tally_wire_varint(&amounts, &coded)) {
        // Zigzag: odd is negative; and half of it is the amount, or, of a negative one, the amount's size less 1.
        bool wrong = sums ? coded & 1 : (coded >> 1) + (coded & 1) > (uint64_t)TALLY_LEVEL_MAX;
        if (wrong) {
            out_refusal->what = sums ? "an amount below 0" : "an amount beyond 2^62 - 1";
            tell_entry(entries, count, out_refusal);
            return TALLY_INVALID;
        }
        count++;
    }
    *out_count = count;
    return TALLY_OK;
}

// Whether entries are of the kind that their table has, or will have. The refusal's table is filled in by the caller.
static enum tally_status check_kind(const struct tally_entries_reader *entries, uint8_t kind,
                                    struct tally_refusal *out_refusal)
{
    bool any = !tally_wire_done(&entries->amounts);
    if (kind == TALLY_NAME_ERRORS)
        out_refusal->what = "it holds the errors of a topk table: count in that";
    else if (kind == TALLY_NAME_TOP_OF)
        out_refusal->what = "it is the top of another table: count in that";
    else if (entries->kind && entries->kind != kind)
        out_refusal->what = "the batch takes it for another kind than it has";
    else if (any && entries->members != (kind == TALLY_KIND_DISTINCT))
        out_refusal->what = entries->members ? "members, but it is not distinct" : "amounts, but it is distinct";
    else if (entries->adjust && kind != TALLY_KIND_GAUGE)
        out_refusal->what = "adjustments, but it is no gauge";
    return out_refusal->what ? TALLY_INVALID : TALLY_OK;
}

// One table of a batch; *total: entries so far. *full: told only when nothing else is wrong, whatever the order of the tables.
static enum tally_status admit_table(const struct tally_state *state, const struct tally_entries_reader *entries,
                                     struct tally_table_names *names, uint64_t pending_rows, uint64_t *total,
                                     bool *full, struct tally_refusal *out_refusal)
{
    uint64_t amounts = 0;
    uint32_t number = tally_state_table(state, entries->table), pending;
    bool known = number != TALLY_TABLES_MAX;
    enum tally_status status = TALLY_OK;
    uint8_t kind;
    if (known) {
        kind = kind_of(&state->tables[number]);
    } else if ((pending = find_name(names, entries->table)) < names->count) {
        kind = names->kinds[pending];
    } else {
        if (tally_wire_done(&entries->amounts)) return TALLY_OK; // removals from a table that is not there
        struct tally_definition definition = {.kind = entries->kind};
        status = tally_definition_complete(&definition, entries->table, &out_refusal->what);
        if (!status) status = note_table(state, names, entries->table, &definition, &out_refusal->what);
        if (status == TALLY_FULL) *full = true;
        if (status && status != TALLY_FULL) return status;
        kind = (uint8_t)definition.kind;
    }
    if ((status = check_kind(entries, kind, out_refusal))) return status;
    if (entries->members)
        amounts = (uint64_t)(entries->amounts.end - entries->amounts.at) / sizeof(uint64_t);
    else if ((status = check_amounts(entries, kind, &amounts, out_refusal)))
        return status;
    *total += amounts;
    if (amounts && (known ? state->tables[number].rows.live : 0) + pending_rows + *total > state->rows_max)
        *full = true;
    return TALLY_OK;
}

enum tally_status tally_state_admit(const struct tally_state *state, const struct tally_batch_reader *batch,
                                    struct tally_table_names *pending_names, uint64_t pending_rows,
                                    uint64_t *out_entries, struct tally_refusal *out_refusal)
{
    *out_refusal = (struct tally_refusal){0};
    if (!tally_bytes_equal(batch->header.dataset, tally_state_dataset(state))) return TALLY_WRONG_DATASET;
    struct tally_batch_reader reader = *batch;
    struct tally_entries_reader entries;
    uint64_t total = 0;
    bool full = false;
    while (tally_batch_next_table(&reader, &entries)) {
        enum tally_status status =
            admit_table(state, &entries, pending_names, pending_rows, &total, &full, out_refusal);
        if (status) {
            out_refusal->table = entries.table;
            return status;
        }
    }
    if (full) return TALLY_FULL;
    *out_entries = total;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- definitions

enum tally_status tally_state_admit_definition(const struct tally_state *state, struct tally_bytes table,
                                               const struct tally_definition *definition,
                                               struct tally_table_names *pending_names, const char **out_why)
{
    uint32_t number = tally_state_table(state, table), pending = find_name(pending_names, table);
    if (number == TALLY_TABLES_MAX && pending == pending_names->count) {
        enum tally_status status = note_table(state, pending_names, table, definition, out_why);
        if (status == TALLY_FULL) *out_why = "too many tables";
        return status;
    }
    if (number == TALLY_TABLES_MAX) {
        // What is on its way begins it with the defaults of a kind, and comes after this.
        uint8_t kind = tally_definition_topk_of(definition) ? TALLY_NAME_TOP_OF : (uint8_t)definition->kind;
        if (pending_names->kinds[pending] == kind) return TALLY_OK;
        *out_why = "the table is about to begin as another kind";
        return TALLY_INVALID;
    }
    if (state->tables[number].errors) {
        *out_why = "it holds the errors of a topk table";
        return TALLY_INVALID;
    }
    return tally_definition_change(&state->tables[number].definition, definition, out_why);
}

struct tally_state_table *tally_state_table_create(struct tally_state *state, struct tally_bytes name,
                                                   const struct tally_definition *definition)
{
    uint8_t buffer[TALLY_NAME_BYTES_MAX];
    struct tally_state_table *table = tally_state_table_begin(state, name, definition);
    if (!tally_definition_has_errors(definition)) return table;
    const struct tally_definition gauge = {.kind = TALLY_KIND_GAUGE};
    struct tally_state_table *errors = tally_state_table_begin(state, tally_error_name(name, buffer), &gauge);
    errors->errors = true;
    return table;
}

static void redefine(struct tally_state_table *table, const struct tally_definition *definition)
{
    // Of another k other rows are the first ones.
    if (table->definition.k != definition->k) tally_top_forget(&table->top);
    table->definition = *definition;
}

enum tally_status tally_state_define(struct tally_state *state, struct tally_record_reader *reader)
{
    struct tally_bytes message, name;
    struct tally_definition definition;
    const char *why;
    while (tally_record_next_definition(reader, &message)) {
        enum tally_status status = tally_definition_read(message, &name, &definition);
        if (status == TALLY_UNSUPPORTED) return status; // what a newer version meant cannot be guessed
        if (!status) status = tally_definition_complete(&definition, name, &why);
        state->names.count = 0;
        if (!status) status = tally_state_admit_definition(state, name, &definition, &state->names, &why);
        if (status) {
            state->stats.refused++;
            continue;
        }
        uint32_t number = tally_state_table(state, name);
        if (number == TALLY_TABLES_MAX)
            (void)tally_state_table_create(state, name, &definition);
        else
            redefine(&state->tables[number], &definition);
    }
    return TALLY_OK;
}

enum tally_status tally_state_load_definition(struct tally_state *state, uint32_t number,
                                              const struct tally_bytes *name, const struct tally_definition *definition)
{
    uint8_t buffer[TALLY_NAME_BYTES_MAX];
    struct tally_state_table *table = &state->tables[number];
    struct tally_bytes held = tally_bytes(table->name, table->name_bytes);
    struct tally_definition complete = *definition;
    const char *why;
    bool same = definition->kind == table->definition.kind && (!name || tally_bytes_equal(*name, held));
    if (!same || tally_definition_complete(&complete, held, &why)) {
        state->broken = TALLY_MALFORMED;
        return TALLY_MALFORMED;
    }
    table->definition = complete;
    // The table of errors is begun with the one that it is of, directly behind it.
    const struct tally_state_table *before = number ? &state->tables[number - 1] : NULL;
    table->errors = before && tally_definition_has_errors(&before->definition) &&
                    tally_bytes_equal(held, tally_error_name(tally_bytes(before->name, before->name_bytes), buffer));
    return TALLY_OK;
}
