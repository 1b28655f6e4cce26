// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <tallycast/frame.h>

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
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) {
        writer->columns[i].size = 0;
        writer->next_id[i] = 0;
    }
}

static void write_id(struct tally_frame_writer *writer, enum tally_column column, uint32_t id)
{
    uint64_t next = writer->next_id[column];
    assert(id >= next);
    tally_write_varint(&writer->columns[column], next == 0 ? id : id - (next - 1));
    writer->next_id[column] = (uint64_t)id + 1;
}

void tally_frame_removed(struct tally_frame_writer *writer, uint32_t id) { write_id(writer, TALLY_COLUMN_REMOVED, id); }

void tally_frame_changed(struct tally_frame_writer *writer, uint32_t id, int64_t difference)
{
    write_id(writer, TALLY_COLUMN_CHANGED, id);
    tally_write_varint(&writer->columns[TALLY_COLUMN_DIFFERENCES], tally_zigzag(difference));
}

void tally_frame_added(struct tally_frame_writer *writer, uint32_t id, struct tally_bytes key, int64_t value)
{
    write_id(writer, TALLY_COLUMN_ADDED, id);
    tally_write_varint(&writer->columns[TALLY_COLUMN_KEY_SIZES], key.size);
    tally_write_raw(&writer->columns[TALLY_COLUMN_KEYS], key.data, key.size);
    tally_write_varint(&writer->columns[TALLY_COLUMN_VALUES], tally_zigzag(value));
}

// Field number of each column in TableChange.
static const uint8_t column_field[TALLY_COLUMNS] = {5, 6, 7, 8, 9, 10, 11};

void tally_frame_table_end(struct tally_frame_writer *writer)
{
    size_t size = writer->table ? 1 + tally_varint_size(writer->table) : 0, rows = 0;
    if (writer->name.size) size += 1 + tally_varint_size(writer->name.size) + writer->name.size + 2;
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) {
        size_t column = writer->columns[i].size;
        rows += column;
        if (column) size += 1 + tally_varint_size(column) + column;
    }
    if (rows == 0 && writer->name.size == 0) return;

    struct tally_writer *out = writer->out;
    tally_write_varint(out, 11 << 3 | TALLY_WIRE_BYTES);
    tally_write_varint(out, size);
    if (writer->table) tally_write_uint(out, 1, writer->table);
    if (writer->name.size) {
        tally_write_bytes(out, 2, writer->name);
        tally_write_uint(out, 3, writer->kind);
    }
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) {
        if (writer->columns[i].size) tally_write_bytes(out, column_field[i], tally_writer_bytes(&writer->columns[i]));
    }
}

enum tally_status tally_frame_finish(struct tally_frame_writer *writer)
{
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) {
        if (writer->columns[i].failed) writer->out->failed = true;
    }
    tally_seal(writer->out, writer->start);
    return writer->out->failed ? TALLY_NO_MEMORY : TALLY_OK;
}
