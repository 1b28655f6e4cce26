// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <tallycast/frame.h>
#include <tallycast/limits.h>

void tally_frame_begin(struct tally_frame_writer *writer, const struct tally_frame_header *header)
{
    struct tally_writer *out = writer->out;
    uint8_t bytes[16];
    writer->start = out->size;
    // A column that once could not grow may grow again: the failure was that frame's.
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) writer->columns[i].failed = false;
    tally_write_bytes(out, 1, header->dataset);
    tally_write_fixed64(out, 2, header->epoch);
    if (header->from) tally_write_uint(out, 3, header->from);
    tally_write_uint(out, 4, header->to);
    if (header->cut_ms) tally_write_uint(out, 5, header->cut_ms);
    tally_digest_store(bytes, header->digest);
    tally_write_bytes(out, 6, tally_bytes(bytes, sizeof bytes));
    if (header->rows) tally_write_uint(out, 7, header->rows);
    if (header->from == 0) {
        tally_store64(bytes, header->seed.k0);
        tally_store64(bytes + 8, header->seed.k1);
        tally_write_bytes(out, 8, tally_bytes(bytes, sizeof bytes));
    }
    if (header->chunk) tally_write_uint(out, 9, header->chunk);
    if (header->more) tally_write_uint(out, 10, 1);
}

void tally_frame_table_begin(struct tally_frame_writer *writer, uint32_t table, struct tally_bytes name,
                             enum tally_kind kind)
{
    writer->table = table;
    writer->name = name;
    writer->kind = kind;
    writer->rows = 0;
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) {
        writer->columns[i].size = 0;
        writer->next_id[i] = 0;
        writer->counts[i] = 0;
        writer->varint_bytes[i] = 0;
        writer->column_bytes[i] = 0;
    }
}

// ---------------------------------------------------------------------------------------------------- columns

// What stands in the varint column for a number of the column in blocks, which is its `place`th.
static inline uint64_t varint_of(enum tally_column column, uint64_t place, int64_t number)
{
    switch (column) {
    case TALLY_COLUMN_DIFFERENCES:
    case TALLY_COLUMN_VALUES: return tally_zigzag(number);
    case TALLY_COLUMN_KEY_SIZES: return (uint64_t)number;
    default: return (uint64_t)number - (place == 0); // the first id is not a gap
    }
}

// One byte for each number, and one more for each 7 bits that it goes beyond.
static uint64_t varint_bytes(enum tally_column column, uint64_t place, const int64_t *numbers, uint32_t count)
{
    bool zigzag = column == TALLY_COLUMN_DIFFERENCES || column == TALLY_COLUMN_VALUES;
    uint64_t all = 0, bytes = count;
    for (uint32_t i = 0; i < count; i++) all |= (uint64_t)numbers[i];
    // Most blocks: none is negative, and none large.
    if (all >> (zigzag ? 6 : 7) == 0) return bytes;
    if (count == TALLY_BLOCK_NUMBERS && all < (uint64_t)1 << 31) {
        int32_t small[TALLY_BLOCK_NUMBERS];
        for (uint32_t i = 0; i < TALLY_BLOCK_NUMBERS; i++) small[i] = (int32_t)numbers[i];
        if (!zigzag && column != TALLY_COLUMN_KEY_SIZES && place == 0) small[0]--;
        for (unsigned shift = zigzag ? 6 : 7; all >> shift; shift += 7) {
            uint32_t more = 0;
            int32_t most = (int32_t)(((uint32_t)1 << shift) - 1);
            for (uint32_t i = 0; i < TALLY_BLOCK_NUMBERS; i++) more += small[i] > most;
            bytes += more;
        }
        return bytes;
    }
    bytes = 0;
    for (uint32_t i = 0; i < count; i++) bytes += tally_varint_size(varint_of(column, place + i, numbers[i]));
    return bytes;
}

// The last block of a column, which has `count` numbers, goes to the column's buffer.
static void flush(struct tally_frame_writer *writer, enum tally_column column, uint32_t count)
{
    const int64_t *numbers = writer->numbers[column];
    writer->varint_bytes[column] += varint_bytes(column, writer->counts[column] - count, numbers, count);
    tally_block_write(&writer->columns[column], numbers, count);
}

static inline void add(struct tally_frame_writer *writer, enum tally_column column, int64_t number)
{
    uint64_t at = writer->counts[column]++ % TALLY_BLOCK_NUMBERS;
    writer->numbers[column][at] = number;
    if (at == TALLY_BLOCK_NUMBERS - 1) flush(writer, column, TALLY_BLOCK_NUMBERS);
}

static inline void add_id(struct tally_frame_writer *writer, enum tally_column column, uint32_t id)
{
    uint64_t next = writer->next_id[column];
    assert(id >= next && id < TALLY_ROWS_MAX);
    add(writer, column, (int64_t)(id - next) + 1);
    writer->next_id[column] = (uint64_t)id + 1;
}

void tally_frame_removed(struct tally_frame_writer *writer, uint32_t id) { add_id(writer, TALLY_COLUMN_REMOVED, id); }

void tally_frame_changed(struct tally_frame_writer *writer, uint32_t id, int64_t difference)
{
    add_id(writer, TALLY_COLUMN_CHANGED, id);
    add(writer, TALLY_COLUMN_DIFFERENCES, difference);
}

void tally_frame_added(struct tally_frame_writer *writer, uint32_t id, struct tally_bytes key, int64_t value)
{
    add_id(writer, TALLY_COLUMN_ADDED, id);
    add(writer, TALLY_COLUMN_KEY_SIZES, (int64_t)key.size);
    tally_write_raw(&writer->columns[TALLY_COLUMN_KEYS], key.data, key.size);
    add(writer, TALLY_COLUMN_VALUES, value);
}

// ---------------------------------------------------------------------------------------------------- the table

// Field numbers of each column in TableChange: as varints, in blocks.
static const uint8_t column_fields[TALLY_COLUMNS][2] = {{5, 12}, {6, 13}, {7, 14}, {8, 15}, {9, 16}, {10, 0}, {11, 17}};

#define CODING_FIELD_BYTES 2u
#define ROWS_FIELD         18u

static uint64_t field_bytes(uint32_t number, uint64_t size)
{
    return tally_varint_size((uint64_t)number << 3) + tally_varint_size(size) + size;
}

// Ends the columns and decides how each is written: true for blocks. Fills column_bytes. False when a column could not grow.
static bool choose(struct tally_frame_writer *writer, bool blocks[TALLY_COLUMNS])
{
    uint64_t saved = 0, as_varints[TALLY_COLUMNS] = {0};
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) {
        uint64_t count = writer->counts[i], bytes = writer->columns[i].size;
        blocks[i] = false;
        if (i == TALLY_COLUMN_KEYS && bytes) writer->column_bytes[i] = field_bytes(column_fields[i][0], bytes);
        if (i == TALLY_COLUMN_KEYS || count == 0) continue;
        if (count % TALLY_BLOCK_NUMBERS) flush(writer, (enum tally_column)i, (uint32_t)(count % TALLY_BLOCK_NUMBERS));
        as_varints[i] = field_bytes(column_fields[i][0], writer->varint_bytes[i]);
        writer->column_bytes[i] = field_bytes(column_fields[i][1], tally_varint_size(count) + writer->columns[i].size);
        blocks[i] = writer->column_bytes[i] < as_varints[i];
        if (blocks[i]) saved += as_varints[i] - writer->column_bytes[i];
    }
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) {
        if (writer->columns[i].failed) return false;
        if (i == TALLY_COLUMN_KEYS) continue;
        if (saved <= CODING_FIELD_BYTES) blocks[i] = false;
        if (!blocks[i]) writer->column_bytes[i] = as_varints[i];
    }
    return true;
}

// Blocks did not pay: rare, and then mostly a column of a few numbers. They are read again.
static void write_varints(struct tally_frame_writer *writer, enum tally_column column)
{
    struct tally_wire wire = tally_wire(tally_writer_bytes(&writer->columns[column]));
    uint64_t count = writer->counts[column];
    tally_write_varint(writer->out, column_fields[column][0] << 3 | TALLY_WIRE_BYTES);
    tally_write_varint(writer->out, writer->varint_bytes[column]);
    for (uint64_t place = 0; place < count; place += TALLY_BLOCK_NUMBERS) {
        int64_t numbers[TALLY_BLOCK_NUMBERS];
        uint32_t some = count - place < TALLY_BLOCK_NUMBERS ? (uint32_t)(count - place) : TALLY_BLOCK_NUMBERS;
        enum tally_status status = tally_block_read(&wire, some, numbers);
        assert(status == TALLY_OK);
        if (status) writer->out->failed = true;
        for (uint32_t i = 0; i < some; i++) tally_write_varint(writer->out, varint_of(column, place + i, numbers[i]));
    }
}

static void write_blocks(struct tally_frame_writer *writer, enum tally_column column)
{
    uint64_t count = writer->counts[column];
    const struct tally_writer *blocks = &writer->columns[column];
    tally_write_varint(writer->out, (uint32_t)column_fields[column][1] << 3 | TALLY_WIRE_BYTES);
    tally_write_varint(writer->out, tally_varint_size(count) + blocks->size);
    tally_write_varint(writer->out, count);
    tally_write_raw(writer->out, blocks->data, blocks->size);
}

void tally_frame_table_end(struct tally_frame_writer *writer)
{
    struct tally_writer *out = writer->out;
    bool blocks[TALLY_COLUMNS], any = false;
    if (!choose(writer, blocks)) {
        out->failed = true;
        return;
    }
    uint64_t size = writer->table ? 1 + tally_varint_size(writer->table) : 0, rows = 0;
    bool rows_told = writer->name.size && writer->rows;
    if (writer->name.size) size += field_bytes(2, writer->name.size) + 2;
    if (rows_told) size += tally_varint_size(ROWS_FIELD << 3) + tally_varint_size(writer->rows);
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) {
        rows += writer->column_bytes[i];
        any |= blocks[i];
    }
    if (rows == 0 && writer->name.size == 0) return;

    tally_write_varint(out, 11 << 3 | TALLY_WIRE_BYTES);
    tally_write_varint(out, size + rows + (any ? CODING_FIELD_BYTES : 0));
    if (writer->table) tally_write_uint(out, 1, writer->table);
    if (writer->name.size) {
        tally_write_bytes(out, 2, writer->name);
        tally_write_uint(out, 3, writer->kind);
    }
    if (any) tally_write_uint(out, 4, 1);
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) {
        if (blocks[i] || writer->column_bytes[i] == 0) continue;
        if (i == TALLY_COLUMN_KEYS)
            tally_write_bytes(out, column_fields[i][0], tally_writer_bytes(&writer->columns[i]));
        else
            write_varints(writer, (enum tally_column)i);
    }
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) {
        if (blocks[i]) write_blocks(writer, (enum tally_column)i);
    }
    if (rows_told) tally_write_uint(out, ROWS_FIELD, writer->rows);
}

enum tally_status tally_frame_finish(struct tally_frame_writer *writer)
{
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) {
        if (writer->columns[i].failed) writer->out->failed = true;
    }
    tally_seal(writer->out, writer->start);
    return writer->out->failed ? TALLY_NO_MEMORY : TALLY_OK;
}
