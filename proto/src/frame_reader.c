// SPDX-License-Identifier: Apache-2.0
#include <tallycast/frame.h>
#include <tallycast/limits.h>

// A field that we know may come once: `seen` has a bit for each.
static bool first_time(uint32_t *seen, uint32_t number)
{
    uint32_t bit = 1u << number;
    bool first = !(*seen & bit);
    *seen |= bit;
    return first;
}

enum header_field {
    F_DATASET = 1,
    F_EPOCH,
    F_FROM,
    F_TO,
    F_CUT_MS,
    F_DIGEST,
    F_ROWS,
    F_SEED,
    F_CHUNK,
    F_MORE,
    F_TABLES,
};

static enum tally_wire_type header_type(uint32_t number)
{
    switch (number) {
    case F_DATASET:
    case F_DIGEST:
    case F_SEED:
    case F_TABLES: return TALLY_WIRE_BYTES;
    case F_EPOCH: return TALLY_WIRE_FIXED64;
    default: return TALLY_WIRE_VARINT;
    }
}

static enum tally_status header_field(struct tally_frame_header *header, const struct tally_wire_field *field)
{
    switch (field->number) {
    case F_DATASET: header->dataset = field->bytes; break;
    case F_EPOCH: header->epoch = field->value; break;
    case F_FROM: header->from = field->value; break;
    case F_TO: header->to = field->value; break;
    case F_CUT_MS: header->cut_ms = field->value; break;
    case F_DIGEST:
        if (field->bytes.size != TALLY_DIGEST_BYTES) return TALLY_MALFORMED;
        header->digest = tally_digest_load(field->bytes.data);
        break;
    case F_ROWS: header->rows = field->value; break;
    case F_SEED:
        if (field->bytes.size != 16) return TALLY_MALFORMED;
        header->seed = (struct tally_seed){tally_load64(field->bytes.data), tally_load64(field->bytes.data + 8)};
        break;
    case F_CHUNK:
        if (field->value > UINT32_MAX) return TALLY_LIMIT;
        header->chunk = (uint32_t)field->value;
        break;
    case F_MORE: header->more = field->value != 0; break;
    default: break;
    }
    return TALLY_OK;
}

enum tally_status tally_frame_open(struct tally_bytes message, struct tally_frame_reader *out_reader)
{
    if (message.size > TALLY_FRAME_BYTES_MAX) return TALLY_LIMIT;
    struct tally_bytes inner;
    enum tally_status status = tally_unseal(message, &inner);
    if (status) return status;

    struct tally_frame_reader reader = {.tables = tally_wire(inner)};
    struct tally_wire wire = tally_wire(inner);
    struct tally_wire_field field;
    uint32_t seen = 0;
    uint32_t tables = 0;
    while ((status = tally_wire_next(&wire, &field)) == TALLY_OK) {
        if (field.number > F_TABLES) continue; // a newer version's: skipped, and may repeat
        if (field.type != header_type(field.number)) return TALLY_MALFORMED;
        if (field.number == F_TABLES) {
            if (++tables > TALLY_TABLES_MAX) return TALLY_LIMIT;
            seen |= 1u << F_TABLES;
            continue;
        }
        if (!first_time(&seen, field.number)) return TALLY_MALFORMED;
        if ((status = header_field(&reader.header, &field))) return status;
    }
    if (status != TALLY_NOT_FOUND) return status;

    const struct tally_frame_header *header = &reader.header;
    const uint32_t needed = 1u << F_DATASET | 1u << F_EPOCH | 1u << F_TO | 1u << F_DIGEST;
    if ((seen & needed) != needed || header->epoch == 0) return TALLY_MALFORMED;
    if (!tally_name_valid(header->dataset)) return TALLY_MALFORMED;
    if (header->from >= header->to) return TALLY_MALFORMED;
    bool has_seed = seen >> F_SEED & 1;
    if (has_seed != (header->from == 0)) return TALLY_MALFORMED;
    *out_reader = reader;
    return TALLY_OK;
}

enum table_field {
    T_TABLE = 1,
    T_NAME,
    T_KIND,
    T_CODING,
    T_REMOVED,
    T_CHANGED,
    T_DIFFERENCES,
    T_ADDED,
    T_KEY_SIZES,
    T_KEYS,
    T_VALUES,
};

static enum tally_status table_field(struct tally_table_reader *table, const struct tally_wire_field *field)
{
    struct tally_wire column = tally_wire(field->bytes);
    switch (field->number) {
    case T_TABLE:
        if (field->value >= TALLY_TABLES_MAX) return TALLY_LIMIT;
        table->table = (uint32_t)field->value;
        break;
    case T_NAME:
        if (!tally_name_valid(field->bytes)) return TALLY_MALFORMED;
        table->name = field->bytes;
        break;
    case T_KIND:
        if (field->value != TALLY_KIND_COUNTER) return TALLY_UNSUPPORTED;
        table->kind = TALLY_KIND_COUNTER;
        break;
    case T_CODING:
        if (field->value != 0) return TALLY_UNSUPPORTED;
        break;
    case T_REMOVED: table->removed = column; break;
    case T_CHANGED: table->changed = column; break;
    case T_DIFFERENCES: table->differences = column; break;
    case T_ADDED: table->added = column; break;
    case T_KEY_SIZES: table->key_sizes = column; break;
    case T_KEYS: table->keys = column; break;
    case T_VALUES: table->values = column; break;
    default: break;
    }
    return TALLY_OK;
}

static enum tally_status table_open(struct tally_bytes message, struct tally_table_reader *out_table)
{
    // Columns that are absent are empty, at a place that is not null.
    struct tally_wire none = {message.data, message.data};
    struct tally_table_reader table = {.removed = none,
                                       .changed = none,
                                       .differences = none,
                                       .added = none,
                                       .key_sizes = none,
                                       .values = none,
                                       .keys = none};
    struct tally_wire wire = tally_wire(message);
    struct tally_wire_field field;
    enum tally_status status;
    uint32_t seen = 0;
    while ((status = tally_wire_next(&wire, &field)) == TALLY_OK) {
        if (field.number > T_VALUES) continue; // a newer version's: skipped, and may repeat
        bool scalar = field.number == T_TABLE || field.number == T_KIND || field.number == T_CODING;
        if (field.type != (scalar ? TALLY_WIRE_VARINT : TALLY_WIRE_BYTES)) return TALLY_MALFORMED;
        if (!first_time(&seen, field.number)) return TALLY_MALFORMED;
        if ((status = table_field(&table, &field))) return status;
    }
    if (status != TALLY_NOT_FOUND) return status;
    if ((table.name.size != 0) != (table.kind != TALLY_KIND_UNSPECIFIED)) return TALLY_MALFORMED;
    *out_table = table;
    return TALLY_OK;
}

enum tally_status tally_frame_next_table(struct tally_frame_reader *reader, struct tally_table_reader *out_table)
{
    struct tally_wire_field field;
    enum tally_status status;
    while ((status = tally_wire_next(&reader->tables, &field)) == TALLY_OK) {
        if (field.number != F_TABLES) continue;
        struct tally_table_reader table;
        if ((status = table_open(field.bytes, &table))) return status;
        if (table.table < reader->tables_seen) return TALLY_MALFORMED;
        reader->tables_seen = (uint64_t)table.table + 1;
        *out_table = table;
        return TALLY_OK;
    }
    return status;
}

// ---------------------------------------------------------------------------------------------------- rows

// The next id of a gap column. `*next` is the lowest id that may come.
static enum tally_status next_id(struct tally_wire *column, uint64_t *next, uint32_t *out_id)
{
    uint64_t gap;
    if (tally_wire_done(column)) {
        *next = 0; // the next list starts anew
        return TALLY_NOT_FOUND;
    }
    if (!tally_wire_varint(column, &gap)) return TALLY_MALFORMED;
    if (gap >= TALLY_ROWS_MAX) return TALLY_LIMIT;
    // The first gap is the id itself, later ones are distances: at least 1.
    if (*next != 0 && gap == 0) return TALLY_MALFORMED;
    uint64_t id = *next == 0 ? gap : *next - 1 + gap;
    if (id >= TALLY_ROWS_MAX) return TALLY_LIMIT;
    *next = id + 1;
    *out_id = (uint32_t)id;
    return TALLY_OK;
}

enum tally_status tally_table_next_removed(struct tally_table_reader *table, uint32_t *out_id)
{
    return next_id(&table->removed, &table->id, out_id);
}

enum tally_status tally_table_next_changed(struct tally_table_reader *table, uint32_t *out_id, int64_t *out_difference)
{
    enum tally_status status = next_id(&table->changed, &table->id, out_id);
    if (status == TALLY_NOT_FOUND && !tally_wire_done(&table->differences)) return TALLY_MALFORMED;
    if (status) return status;
    uint64_t coded;
    if (!tally_wire_varint(&table->differences, &coded)) return TALLY_MALFORMED;
    *out_difference = tally_unzigzag(coded);
    return TALLY_OK;
}

enum tally_status tally_table_next_added(struct tally_table_reader *table, uint32_t *out_id,
                                         struct tally_bytes *out_key, int64_t *out_value)
{
    enum tally_status status = next_id(&table->added, &table->id, out_id);
    if (status == TALLY_NOT_FOUND &&
        !(tally_wire_done(&table->key_sizes) && tally_wire_done(&table->keys) && tally_wire_done(&table->values)))
        return TALLY_MALFORMED;
    if (status) return status;
    uint64_t key_bytes, coded;
    if (!tally_wire_varint(&table->key_sizes, &key_bytes) || !tally_wire_varint(&table->values, &coded))
        return TALLY_MALFORMED;
    if (key_bytes == 0) return TALLY_MALFORMED;
    if (key_bytes > TALLY_KEY_BYTES_MAX) return TALLY_LIMIT;
    if (key_bytes > (size_t)(table->keys.end - table->keys.at)) return TALLY_MALFORMED;
    *out_key = tally_bytes(table->keys.at, (size_t)key_bytes);
    table->keys.at += key_bytes;
    *out_value = tally_unzigzag(coded);
    return TALLY_OK;
}
