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
    T_REMOVED_BLOCKS,
    T_CHANGED_BLOCKS,
    T_DIFFERENCES_BLOCKS,
    T_ADDED_BLOCKS,
    T_KEY_SIZES_BLOCKS,
    T_VALUES_BLOCKS,
    T_ROWS,
};

enum coding { CODING_VARINT, CODING_BLOCKS };

// The column that a field holds as varints, or as blocks.
static struct tally_wire *column_of(struct tally_table_reader *table, uint32_t field, enum tally_column *out_column)
{
    switch (field) {
    case T_REMOVED:
    case T_REMOVED_BLOCKS: *out_column = TALLY_COLUMN_REMOVED; return &table->removed;
    case T_CHANGED:
    case T_CHANGED_BLOCKS: *out_column = TALLY_COLUMN_CHANGED; return &table->changed;
    case T_DIFFERENCES:
    case T_DIFFERENCES_BLOCKS: *out_column = TALLY_COLUMN_DIFFERENCES; return &table->differences;
    case T_ADDED:
    case T_ADDED_BLOCKS: *out_column = TALLY_COLUMN_ADDED; return &table->added;
    case T_KEY_SIZES:
    case T_KEY_SIZES_BLOCKS: *out_column = TALLY_COLUMN_KEY_SIZES; return &table->key_sizes;
    case T_VALUES:
    case T_VALUES_BLOCKS: *out_column = TALLY_COLUMN_VALUES; return &table->values;
    default: *out_column = TALLY_COLUMN_KEYS; return &table->keys;
    }
}

// A column that comes twice, as the same field or in both codings, is refused.
static enum tally_status column_field(struct tally_table_reader *table, const struct tally_wire_field *field,
                                      uint32_t *columns_seen)
{
    enum tally_column column;
    struct tally_wire *wire = column_of(table, field->number, &column);
    if (!first_time(columns_seen, column)) return TALLY_MALFORMED;
    *wire = tally_wire(field->bytes);
    if (field->number < T_REMOVED_BLOCKS) return TALLY_OK;
    uint64_t numbers;
    if (!tally_wire_varint(wire, &numbers)) return TALLY_MALFORMED;
    if (numbers > TALLY_ROWS_MAX) return TALLY_LIMIT;
    if (numbers == 0 || tally_wire_done(wire)) return TALLY_MALFORMED;
    table->blocks |= 1u << column;
    table->left[column] = (uint32_t)numbers;
    return TALLY_OK;
}

static enum tally_status scalar_field(struct tally_table_reader *table, const struct tally_wire_field *field,
                                      enum coding *coding)
{
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
        if (field->value < TALLY_KIND_COUNTER || field->value >= TALLY_KINDS) return TALLY_UNSUPPORTED;
        table->kind = (enum tally_kind)field->value;
        break;
    case T_ROWS: table->rows = field->value; break;
    default:
        if (field->value > CODING_BLOCKS) return TALLY_UNSUPPORTED;
        *coding = (enum coding)field->value;
        break;
    }
    return TALLY_OK;
}

static enum tally_status table_open(struct tally_bytes message, uint64_t number_min,
                                    struct tally_table_reader *out_table)
{
    // Columns that are absent are empty, at a place that is not null.
    struct tally_wire none = {message.data, message.data};
    struct tally_table_reader table;
    memset(&table, 0, offsetof(struct tally_table_reader, ids));
    table.removed = table.changed = table.differences = table.added = none;
    table.key_sizes = table.values = table.keys = none;
    struct tally_wire wire = tally_wire(message);
    struct tally_wire_field field;
    enum tally_status status;
    enum coding coding = CODING_VARINT;
    uint32_t seen = 0, columns_seen = 0;
    while ((status = tally_wire_next(&wire, &field)) == TALLY_OK) {
        if (field.number > T_ROWS) continue; // a newer version's: skipped, and may repeat
        bool number =
            field.number == T_TABLE || field.number == T_KIND || field.number == T_CODING || field.number == T_ROWS;
        if (field.type != (number ? TALLY_WIRE_VARINT : TALLY_WIRE_BYTES)) return TALLY_MALFORMED;
        if (!first_time(&seen, field.number)) return TALLY_MALFORMED;
        status = number || field.number == T_NAME ? scalar_field(&table, &field, &coding)
                                                  : column_field(&table, &field, &columns_seen);
        if (status) return status;
    }
    if (status != TALLY_NOT_FOUND) return status;
    if ((table.name.size != 0) != (table.kind != TALLY_KIND_UNSPECIFIED)) return TALLY_MALFORMED;
    if (table.table < number_min) return TALLY_MALFORMED;
    // Who knows no blocks skips those fields, and must be told not to.
    if (table.blocks && coding != CODING_BLOCKS) return TALLY_MALFORMED;
    memcpy(out_table, &table, offsetof(struct tally_table_reader, ids));
    return TALLY_OK;
}

enum tally_status tally_frame_next_table(struct tally_frame_reader *reader, struct tally_table_reader *out_table)
{
    struct tally_wire_field field;
    enum tally_status status;
    while ((status = tally_wire_next(&reader->tables, &field)) == TALLY_OK) {
        if (field.number != F_TABLES) continue;
        if ((status = table_open(field.bytes, reader->tables_seen, out_table))) return status;
        reader->tables_seen = (uint64_t)out_table->table + 1;
        return TALLY_OK;
    }
    return status;
}

// ---------------------------------------------------------------------------------------------------- rows

// The next block of a column that is in blocks: `count` numbers, which must be all that are left of it, or a whole block of them.
static enum tally_status decode_block(struct tally_table_reader *table, struct tally_wire *wire,
                                      enum tally_column column, uint32_t count, int64_t *out_numbers)
{
    uint32_t *left = &table->left[column];
    if (count != (*left < TALLY_BLOCK_NUMBERS ? *left : TALLY_BLOCK_NUMBERS) || count == 0) return TALLY_MALFORMED;
    enum tally_status status = tally_block_read(wire, count, out_numbers);
    if (status) return status;
    *left -= count;
    return (*left == 0) == tally_wire_done(wire) ? TALLY_OK : TALLY_MALFORMED;
}

// The gaps of the next ids as in blocks: the first is counted from -1, so that all are 1 or more.
static enum tally_status decode_gaps(struct tally_table_reader *table, struct tally_wire *wire,
                                     enum tally_column column, int64_t *gaps, uint32_t *out_count)
{
    if (table->blocks >> column & 1) {
        uint32_t left = table->left[column];
        *out_count = left < TALLY_BLOCK_NUMBERS ? left : TALLY_BLOCK_NUMBERS;
        return decode_block(table, wire, column, *out_count, gaps);
    }
    uint32_t count = 0;
    for (; count < TALLY_BLOCK_NUMBERS && !tally_wire_done(wire); count++) {
        uint64_t gap;
        if (!tally_wire_varint(wire, &gap)) return TALLY_MALFORMED;
        if (gap >= TALLY_ROWS_MAX) return TALLY_LIMIT;
        gaps[count] = (int64_t)gap;
    }
    if (table->id == 0) gaps[0]++;
    *out_count = count;
    return TALLY_OK;
}

// The next ids of a list: table->ids and table->count. table->id is the lowest that may come.
static enum tally_status decode_ids(struct tally_table_reader *table, struct tally_wire *wire, enum tally_column column)
{
    int64_t *gaps = table->numbers[0];
    uint32_t count;
    table->at = table->count = 0;
    if (tally_wire_done(wire)) {
        table->id = 0; // the next list starts anew
        return TALLY_NOT_FOUND;
    }
    enum tally_status status = decode_gaps(table, wire, column, gaps, &count);
    if (status) return status;
    uint64_t id = table->id, any = 0;
    for (uint32_t i = 0; i < count; i++) {
        any |= (uint64_t)gaps[i] - 1;
        id += (uint64_t)gaps[i];
        table->ids[i] = (uint32_t)(id - 1);
    }
    if (any >> 63) return TALLY_MALFORMED; // a gap below 1
    if (any >= TALLY_ROWS_MAX || id > TALLY_ROWS_MAX) return TALLY_LIMIT;
    table->id = id;
    table->count = count;
    return TALLY_OK;
}

// The numbers of a column that stand beside `count` ids.
static enum tally_status decode_numbers(struct tally_table_reader *table, struct tally_wire *wire,
                                        enum tally_column column, uint32_t count, int64_t *out_numbers)
{
    if (table->blocks >> column & 1) return decode_block(table, wire, column, count, out_numbers);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t coded;
        if (!tally_wire_varint(wire, &coded)) return TALLY_MALFORMED;
        out_numbers[i] = column == TALLY_COLUMN_KEY_SIZES ? (int64_t)coded : tally_unzigzag(coded);
    }
    return TALLY_OK;
}

enum tally_status tally_table_decode_removed(struct tally_table_reader *table)
{
    return decode_ids(table, &table->removed, TALLY_COLUMN_REMOVED);
}

enum tally_status tally_table_decode_changed(struct tally_table_reader *table)
{
    enum tally_status status = decode_ids(table, &table->changed, TALLY_COLUMN_CHANGED);
    if (status == TALLY_NOT_FOUND && !tally_wire_done(&table->differences)) return TALLY_MALFORMED;
    if (status) return status;
    uint32_t count = table->count;
    table->count = 0; // nothing to hand out until all is there
    status = decode_numbers(table, &table->differences, TALLY_COLUMN_DIFFERENCES, count, table->numbers[0]);
    if (!status) table->count = count;
    return status;
}

static enum tally_status decode_added(struct tally_table_reader *table)
{
    enum tally_status status = decode_ids(table, &table->added, TALLY_COLUMN_ADDED);
    if (status == TALLY_NOT_FOUND &&
        !(tally_wire_done(&table->key_sizes) && tally_wire_done(&table->keys) && tally_wire_done(&table->values)))
        return TALLY_MALFORMED;
    if (status) return status;
    uint32_t count = table->count;
    table->count = 0;
    status = decode_numbers(table, &table->key_sizes, TALLY_COLUMN_KEY_SIZES, count, table->numbers[0]);
    if (!status) status = decode_numbers(table, &table->values, TALLY_COLUMN_VALUES, count, table->numbers[1]);
    if (!status) table->count = count;
    return status;
}

enum tally_status tally_table_next_added(struct tally_table_reader *table, uint32_t *out_id,
                                         struct tally_bytes *out_key, int64_t *out_value)
{
    if (table->at == table->count) {
        enum tally_status status = decode_added(table);
        if (status) return status;
    }
    uint64_t key_bytes = (uint64_t)table->numbers[0][table->at];
    if (key_bytes == 0) return TALLY_MALFORMED;
    if (key_bytes > TALLY_KEY_BYTES_MAX) return TALLY_LIMIT;
    if (key_bytes > (size_t)(table->keys.end - table->keys.at)) return TALLY_MALFORMED;
    *out_key = tally_bytes(table->keys.at, (size_t)key_bytes);
    table->keys.at += key_bytes;
    *out_id = table->ids[table->at];
    *out_value = table->numbers[1][table->at++];
    return TALLY_OK;
}
