// SPDX-License-Identifier: Apache-2.0
#include "parts.h"

#include <messages/messages.h>
#include <tallycast/framefile.h>

#include "aging_parts.h"

enum { PART_TABLE = 1, PART_SKETCHES, PART_MONITORED, PART_TOUCHES, PART_PANE };
enum { SKETCHES_IDS = 1, SKETCHES_SKETCHES };
enum { MONITORED_KEYS = 1, MONITORED_COUNTS, MONITORED_ERRORS, MONITORED_FLOOR };
enum { TOUCHES_IDS = 1, TOUCHES_TIMES };
enum { PANE_NUMBER = 1, PANE_IDS, PANE_AMOUNTS };

// ---------------------------------------------------------------------------------------------------- writing

static uint64_t parts_of(uint64_t entries, uint64_t entries_max) { return (entries + entries_max - 1) / entries_max; }

static uint64_t parts_of_sketches(const struct tally_state_table *table)
{
    return table->definition.kind == TALLY_KIND_DISTINCT ? parts_of(table->rows.live, TALLY_PART_SKETCHES_MAX) : 0;
}

// One at least, which has the floor.
static uint64_t parts_of_topk(const struct tally_topk *topk)
{
    return topk->alloc ? 1 + topk->count / TALLY_PART_KEYS_MAX : 0;
}

uint64_t tally_parts_count(const struct tally_state *state)
{
    uint64_t parts = 0;
    for (uint32_t i = 0; i < state->tables_count; i++) {
        const struct tally_aging *aging = &state->tables[i].aging;
        parts += parts_of_sketches(&state->tables[i]) + parts_of_topk(&state->tables[i].topk);
        parts += parts_of(aging->expiry.count, TALLY_PART_ENTRIES_MAX);
        for (uint32_t pane = 0; pane < aging->panes.count; pane++)
            parts += parts_of(aging->panes.ring[pane].entries, TALLY_PART_ENTRIES_MAX);
    }
    return parts;
}

// Of one part, used for the next one again.
struct columns {
    const struct tally_alloc *alloc;
    struct tally_writer first, second, body, message;
};

static void columns_begin(struct columns *columns)
{
    columns->first.size = columns->second.size = columns->body.size = columns->message.size = 0;
}

static void columns_free(struct columns *columns)
{
    tally_writer_free(&columns->first);
    tally_writer_free(&columns->second);
    tally_writer_free(&columns->body);
    tally_writer_free(&columns->message);
}

// The body is complete: it becomes part `field` of the table.
static enum tally_status part_end(struct columns *columns, uint32_t table, uint32_t field, struct tally_writer *out)
{
    struct tally_writer *message = &columns->message;
    if (columns->first.failed || columns->second.failed || columns->body.failed) return TALLY_NO_MEMORY;
    if (table) tally_write_uint(message, PART_TABLE, table);
    tally_write_bytes(message, field, tally_writer_bytes(&columns->body));
    tally_seal(message, 0);
    if (message->failed) return TALLY_NO_MEMORY;
    tally_framefile_append(out, tally_writer_bytes(message));
    return out->failed ? TALLY_NO_MEMORY : TALLY_OK;
}

static enum tally_status write_sketches(const struct tally_state_table *table, uint32_t number, struct columns *columns,
                                        struct tally_writer *out)
{
    uint32_t precision = table->definition.precision, id = 0;
    enum tally_status status = TALLY_OK;
    while (!status && id < table->rows.ids) {
        uint32_t count = 0;
        columns_begin(columns);
        for (; id < table->rows.ids && count < TALLY_PART_SKETCHES_MAX; id++) {
            if (!tally_row_live(&table->rows.rows[id])) continue;
            tally_write_varint(&columns->first, id);
            tally_write_varint(&columns->second, SKETCHES_SKETCHES << 3 | TALLY_WIRE_BYTES);
            tally_write_varint(&columns->second, tally_sketch_bytes(table->sketches[id], precision));
            tally_sketch_write(table->sketches[id], precision, &columns->second);
            count++;
        }
        if (count == 0) break;
        tally_write_bytes(&columns->body, SKETCHES_IDS, tally_writer_bytes(&columns->first));
        tally_write_raw(&columns->body, columns->second.data, columns->second.size);
        status = part_end(columns, number, PART_SKETCHES, out);
    }
    return status;
}

static enum tally_status write_monitored(const struct tally_topk *topk, uint32_t number, struct columns *columns,
                                         struct tally_writer *out)
{
    enum tally_status status = TALLY_OK;
    uint32_t at = 0;
    for (uint64_t part = 0; part < parts_of_topk(topk) && !status; part++) {
        columns_begin(columns);
        for (uint32_t n = 0; n < TALLY_PART_KEYS_MAX && at < topk->count; n++) {
            const struct tally_state_row *row = &topk->rows.rows[topk->heap[at++]];
            tally_write_bytes(&columns->body, MONITORED_KEYS, tally_row_key(row));
            tally_write_varint(&columns->first, tally_zigzag(row->value));
            tally_write_varint(&columns->second, tally_zigzag(row->old_value));
        }
        tally_write_bytes(&columns->body, MONITORED_COUNTS, tally_writer_bytes(&columns->first));
        tally_write_bytes(&columns->body, MONITORED_ERRORS, tally_writer_bytes(&columns->second));
        tally_write_uint(&columns->body, MONITORED_FLOOR, tally_zigzag(topk->floor));
        status = part_end(columns, number, PART_MONITORED, out);
    }
    return status;
}

static enum tally_status write_touches(const struct tally_expiry *expiry, uint32_t table, struct columns *columns,
                                       struct tally_writer *out)
{
    uint32_t id = tally_expiry_next(expiry, TALLY_EXPIRY_NONE);
    enum tally_status status = TALLY_OK;
    while (!status && id != TALLY_EXPIRY_NONE) {
        uint64_t last = 0;
        columns_begin(columns);
        for (uint32_t n = 0; n < TALLY_PART_ENTRIES_MAX && id != TALLY_EXPIRY_NONE; n++) {
            tally_write_varint(&columns->first, id);
            tally_write_varint(&columns->second, expiry->nodes[id].touched_ms - last);
            last = expiry->nodes[id].touched_ms;
            id = tally_expiry_next(expiry, id);
        }
        tally_write_bytes(&columns->body, TOUCHES_IDS, tally_writer_bytes(&columns->first));
        tally_write_bytes(&columns->body, TOUCHES_TIMES, tally_writer_bytes(&columns->second));
        status = part_end(columns, table, PART_TOUCHES, out);
    }
    return status;
}

static enum tally_status write_panes(const struct tally_panes *panes, uint32_t table, struct columns *columns,
                                     struct tally_writer *out)
{
    struct tally_panes_walk walk = {0};
    uint64_t pane, pane_now = 0;
    uint32_t id, entries = 0;
    int64_t amount;
    enum tally_status status = TALLY_OK;
    while (!status) {
        bool more = tally_panes_walk(panes, &walk, &pane, &id, &amount);
        if (entries && (!more || pane != pane_now || entries == TALLY_PART_ENTRIES_MAX)) {
            if (pane_now) tally_write_uint(&columns->body, PANE_NUMBER, pane_now);
            tally_write_bytes(&columns->body, PANE_IDS, tally_writer_bytes(&columns->first));
            tally_write_bytes(&columns->body, PANE_AMOUNTS, tally_writer_bytes(&columns->second));
            status = part_end(columns, table, PART_PANE, out);
            entries = 0;
        }
        if (!more) break;
        if (entries++ == 0) columns_begin(columns);
        pane_now = pane;
        tally_write_varint(&columns->first, id);
        tally_write_varint(&columns->second, tally_zigzag(amount));
    }
    return status;
}

enum tally_status tally_parts_write(const struct tally_state *state, struct tally_writer *out)
{
    struct columns columns = {.alloc = state->alloc};
    columns.first = columns.second = columns.body = columns.message = tally_writer_growable(state->alloc);
    enum tally_status status = TALLY_OK;
    for (uint32_t i = 0; !status && i < state->tables_count; i++) {
        const struct tally_aging *aging = &state->tables[i].aging;
        if (parts_of_sketches(&state->tables[i])) status = write_sketches(&state->tables[i], i, &columns, out);
        if (!status && state->tables[i].topk.alloc) status = write_monitored(&state->tables[i].topk, i, &columns, out);
        if (!status && aging->expiry.count) status = write_touches(&aging->expiry, i, &columns, out);
        if (!status && aging->panes.entries) status = write_panes(&aging->panes, i, &columns, out);
    }
    columns_free(&columns);
    return status;
}

// ---------------------------------------------------------------------------------------------------- reading

struct part {
    uint64_t number;
    struct tally_wire first, second;
};

// The fields of a Touches or a Pane: `number`, if it may have one, and two columns.
static enum tally_status columns_open(struct tally_bytes bytes, bool numbered, struct part *out_part)
{
    struct tally_wire wire = tally_wire(bytes);
    struct tally_wire_field field;
    enum tally_status status;
    struct part part = {0};
    while ((status = tally_wire_next(&wire, &field)) == TALLY_OK) {
        uint32_t number = field.number + !numbered;
        if (number > PANE_AMOUNTS) continue;
        if (field.type != (number == PANE_NUMBER ? TALLY_WIRE_VARINT : TALLY_WIRE_BYTES)) return TALLY_MALFORMED;
        if (number == PANE_NUMBER)
            part.number = field.value;
        else
            *(number == PANE_IDS ? &part.first : &part.second) = tally_wire(field.bytes);
    }
    if (status != TALLY_NOT_FOUND) return status;
    *out_part = part;
    return TALLY_OK;
}

// The next pair. TALLY_NOT_FOUND after the last. The id is of a live row.
static enum tally_status part_next(struct part *part, const struct tally_state_table *table, uint32_t *out_id,
                                   uint64_t *out_coded)
{
    uint64_t id;
    bool first = tally_wire_done(&part->first), second = tally_wire_done(&part->second);
    if (first && second) return TALLY_NOT_FOUND;
    if (first || second || !tally_wire_varint(&part->first, &id) || !tally_wire_varint(&part->second, out_coded))
        return TALLY_MALFORMED;
    if (id >= table->rows.ids || !tally_row_live(&table->rows.rows[id])) return TALLY_MALFORMED;
    *out_id = (uint32_t)id;
    return TALLY_OK;
}

static enum tally_status load_sketch(struct tally_state *state, struct tally_state_table *table, struct tally_wire *ids,
                                     struct tally_bytes bytes)
{
    uint64_t id;
    if (!tally_wire_varint(ids, &id) || id >= table->rows.ids || !tally_row_live(&table->rows.rows[id]))
        return TALLY_MALFORMED;
    if (table->sketches[id]) return TALLY_MALFORMED;
    return tally_sketch_read(bytes, table->definition.precision, state->alloc, &table->sketches[id]);
}

static enum tally_status load_sketches(struct tally_state *state, struct tally_state_table *table,
                                       struct tally_bytes bytes)
{
    struct tally_wire wire = tally_wire(bytes), ids = {bytes.data, bytes.data};
    struct tally_wire_field field;
    if (table->definition.kind != TALLY_KIND_DISTINCT) return TALLY_MALFORMED;
    enum tally_status status = tally_state_sketches_reserve(state, table);
    while (!status && !(status = tally_wire_next(&wire, &field))) {
        if (field.number > SKETCHES_SKETCHES) continue;
        if (field.type != TALLY_WIRE_BYTES) return TALLY_MALFORMED;
        if (field.number == SKETCHES_IDS)
            ids = tally_wire(field.bytes);
        else
            status = load_sketch(state, table, &ids, field.bytes);
    }
    if (status != TALLY_NOT_FOUND) return status;
    return tally_wire_done(&ids) ? TALLY_OK : TALLY_MALFORMED;
}

// What belongs to the keys stands behind them.
static enum tally_status monitored_columns(struct tally_bytes bytes, struct tally_wire *counts,
                                           struct tally_wire *errors, int64_t *floor)
{
    struct tally_wire wire = tally_wire(bytes);
    struct tally_wire_field field;
    enum tally_status status;
    *counts = *errors = (struct tally_wire){bytes.data, bytes.data};
    while (!(status = tally_wire_next(&wire, &field))) {
        if (field.number == MONITORED_COUNTS && field.type == TALLY_WIRE_BYTES) *counts = tally_wire(field.bytes);
        if (field.number == MONITORED_ERRORS && field.type == TALLY_WIRE_BYTES) *errors = tally_wire(field.bytes);
        if (field.number == MONITORED_FLOOR && field.type == TALLY_WIRE_VARINT) *floor = tally_unzigzag(field.value);
    }
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

static enum tally_status load_monitored(struct tally_state *state, struct tally_state_table *table,
                                        struct tally_bytes bytes)
{
    struct tally_wire wire = tally_wire(bytes), counts = {0}, errors = {0};
    struct tally_wire_field field;
    uint64_t count, error;
    if (!tally_definition_has_errors(&table->definition)) return TALLY_MALFORMED;
    enum tally_status status = tally_state_topk_begin(state, table);
    if (!status) status = monitored_columns(bytes, &counts, &errors, &table->topk.floor);
    while (!status && !tally_wire_next(&wire, &field)) {
        if (field.number != MONITORED_KEYS) continue;
        struct tally_bytes key = field.bytes;
        if (field.type != TALLY_WIRE_BYTES || key.size == 0 || key.size > TALLY_KEY_BYTES_MAX) return TALLY_MALFORMED;
        if (!tally_wire_varint(&counts, &count) || !tally_wire_varint(&errors, &error)) return TALLY_MALFORMED;
        status = tally_topk_put(&table->topk, tally_fingerprint(state->seed, key.data, key.size), key,
                                tally_unzigzag(count), tally_unzigzag(error));
    }
    if (status) return status;
    return tally_wire_done(&counts) && tally_wire_done(&errors) ? TALLY_OK : TALLY_MALFORMED;
}

static enum tally_status load_touches(struct tally_state *state, struct tally_state_table *table,
                                      struct tally_bytes bytes)
{
    struct tally_expiry *expiry = &table->aging.expiry;
    struct part part;
    uint64_t gap, time_ms = 0;
    uint32_t id;
    if (!table->definition.ttl_ms) return TALLY_MALFORMED;
    enum tally_status status = columns_open(bytes, false, &part);
    if (!expiry->alloc) tally_expiry_init(expiry, state->alloc);
    if (!status) status = tally_expiry_reserve(expiry, table->rows.ids);
    while (!status && !(status = part_next(&part, table, &id, &gap))) {
        // In order, each once, not in the future.
        if (__builtin_add_overflow(time_ms, gap, &time_ms) || time_ms > state->time_ms) return TALLY_MALFORMED;
        if (expiry->count && expiry->nodes[expiry->newest].touched_ms > time_ms) return TALLY_MALFORMED;
        uint32_t count = expiry->count;
        tally_expiry_touch(expiry, id, time_ms);
        if (expiry->count == count) return TALLY_MALFORMED;
    }
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

static enum tally_status load_pane(struct tally_state *state, struct tally_state_table *table, struct tally_bytes bytes)
{
    struct part part;
    uint64_t coded;
    uint32_t id;
    if (!table->definition.window) return TALLY_MALFORMED;
    enum tally_status status = columns_open(bytes, true, &part);
    if (!status) status = tally_aging_load_pane(state, table, part.number);
    while (!status && !(status = part_next(&part, table, &id, &coded)))
        status = tally_aging_load_amount(table, part.number, id, tally_unzigzag(coded));
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

enum tally_status tally_part_load(struct tally_state *state, struct tally_bytes message)
{
    struct tally_bytes inner;
    struct tally_wire_field field, part = {0};
    enum tally_status status = tally_unseal(message, &inner);
    if (status) return status;
    struct tally_wire wire = tally_wire(inner);
    uint64_t number = 0;
    while ((status = tally_wire_next(&wire, &field)) == TALLY_OK) {
        if (field.number == PART_TABLE && field.type == TALLY_WIRE_VARINT)
            number = field.value;
        else if (field.type != TALLY_WIRE_BYTES || part.number)
            return TALLY_MALFORMED;
        else
            part = field;
    }
    if (status != TALLY_NOT_FOUND) return status;
    if (number >= state->tables_count) return TALLY_MALFORMED;
    struct tally_state_table *table = &state->tables[number];
    switch (part.number) {
    case PART_SKETCHES: return load_sketches(state, table, part.bytes);
    case PART_MONITORED: return load_monitored(state, table, part.bytes);
    case PART_TOUCHES: return load_touches(state, table, part.bytes);
    case PART_PANE: return load_pane(state, table, part.bytes);
    default: return TALLY_UNSUPPORTED;
    }
}

// A row of a distinct table begins with a member.
static bool sketches_complete(const struct tally_state_table *table)
{
    for (uint32_t id = 0; table->definition.kind == TALLY_KIND_DISTINCT && id < table->rows.ids; id++) {
        bool held = id < table->sketches_capacity && table->sketches[id];
        if (tally_row_live(&table->rows.rows[id]) && !held) return false;
    }
    return true;
}

// The rows of a topk table are some of the keys that it counts.
static bool topk_complete(const struct tally_state_table *table)
{
    if (table->definition.kind != TALLY_KIND_TOPK) return true;
    uint32_t k = table->definition.k, counted = table->topk.count;
    if (table->rows.live > k) return false;
    return !tally_definition_has_errors(&table->definition) || table->rows.live == (counted < k ? counted : k);
}

enum tally_status tally_parts_verify(const struct tally_state *state)
{
    for (uint32_t i = 0; i < state->tables_count; i++) {
        if (!tally_aging_complete(&state->tables[i]) || !sketches_complete(&state->tables[i]) ||
            !topk_complete(&state->tables[i]))
            return TALLY_MALFORMED;
    }
    return TALLY_OK;
}
