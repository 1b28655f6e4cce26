// SPDX-License-Identifier: Apache-2.0
//
// Rows are taken one by one and weighed by the most that their columns can take. A row that does not fit any more waits for the next chunk. Whether more
// follow is known when a row waits; the header that says so is written last, before the tables, which are kept apart until then.
#include "split.h"

#include <assert.h>
#include <messages/messages.h>

// What may come beside the rows: the header's fields; a table's tags, sizes, number, name and kind.
#define HEADER_BYTES_MAX 256u
#define TABLE_BYTES_MAX  176u

enum tally_status tally_split_begin(struct tally_bytes frame, struct tally_split *out_split)
{
    struct tally_split split = {0};
    enum tally_status status = tally_frame_open(frame, &split.reader);
    if (status) return status;
    if (split.reader.header.chunk || split.reader.header.more) return TALLY_INVALID;
    *out_split = split;
    return TALLY_OK;
}

// The next row of the table; TALLY_NOT_FOUND after the last.
static enum tally_status read_row(struct tally_split *split)
{
    enum tally_status status = TALLY_NOT_FOUND;
    for (;;) {
        split->key = (struct tally_bytes){0};
        switch (split->list) {
        case TALLY_SPLIT_REMOVED: status = tally_table_next_removed(&split->table, &split->id); break;
        case TALLY_SPLIT_CHANGED: status = tally_table_next_changed(&split->table, &split->id, &split->number); break;
        case TALLY_SPLIT_ADDED:
            status = tally_table_next_added(&split->table, &split->id, &split->key, &split->number);
            break;
        }
        if (status != TALLY_NOT_FOUND || split->list == TALLY_SPLIT_ADDED) return status;
        split->list++;
    }
}

static size_t row_bytes(const struct tally_split *split)
{
    // An id gap takes 5 bytes at most, a number 10, a key's size 2.
    return split->list == TALLY_SPLIT_REMOVED ? 5 : 17 + split->key.size;
}

static void write_row(struct tally_frame_writer *writer, const struct tally_split *split)
{
    switch (split->list) {
    case TALLY_SPLIT_REMOVED: tally_frame_removed(writer, split->id); break;
    case TALLY_SPLIT_CHANGED: tally_frame_changed(writer, split->id, split->number); break;
    case TALLY_SPLIT_ADDED: tally_frame_added(writer, split->id, split->key, split->number); break;
    }
}

// The rows of the table, as far as they fit into *budget. TALLY_OK: all of them; TALLY_MORE: one waits.
static enum tally_status write_table(struct tally_split *split, struct tally_frame_writer *writer, size_t *budget)
{
    enum tally_status status = TALLY_OK;
    if (*budget < TABLE_BYTES_MAX) return TALLY_MORE;
    *budget -= TABLE_BYTES_MAX;
    tally_frame_table_begin(writer, split->table.table, split->table.name, split->table.kind);
    tally_frame_table_rows(writer, split->table.rows);
    // A new table is named once; in a whole state each time.
    if (split->reader.header.from) split->table.name = (struct tally_bytes){0};
    while (status == TALLY_OK) {
        if (!split->has_row) status = read_row(split);
        if (status) break;
        split->has_row = true;
        size_t bytes = row_bytes(split);
        if (bytes > *budget) {
            status = TALLY_MORE;
        } else {
            *budget -= bytes;
            write_row(writer, split);
            split->has_row = false;
        }
    }
    tally_frame_table_end(writer);
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

static enum tally_status write_tables(struct tally_split *split, struct tally_frame_writer *writer, size_t budget)
{
    for (;;) {
        enum tally_status status = TALLY_OK;
        if (!split->in_table) {
            status = tally_frame_next_table(&split->reader, &split->table);
            if (status) return status == TALLY_NOT_FOUND ? TALLY_OK : status;
            split->in_table = true;
            split->list = TALLY_SPLIT_REMOVED;
        }
        status = write_table(split, writer, &budget);
        if (status) return status;
        split->in_table = false;
    }
}

enum tally_status tally_split_next(struct tally_split *split, size_t bytes_max, const struct tally_alloc *alloc,
                                   struct tally_writer *out, bool *out_more)
{
    assert(bytes_max >= 8192);
    struct tally_writer tables = tally_writer_growable(alloc);
    struct tally_frame_writer writer = {.out = &tables};
    struct tally_frame_header header = split->reader.header;
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) writer.columns[i] = tally_writer_growable(alloc);
    enum tally_status status = write_tables(split, &writer, bytes_max - HEADER_BYTES_MAX - TALLY_SEAL_BYTES);
    if (status == TALLY_OK || status == TALLY_MORE) {
        for (unsigned i = 0; i < TALLY_COLUMNS; i++)
            if (writer.columns[i].failed) tables.failed = true;
        header.chunk = split->chunk++;
        header.more = *out_more = status == TALLY_MORE;
        size_t start = out->size;
        writer.out = out;
        tally_frame_begin(&writer, &header);
        tally_write_raw(out, tables.data, tables.size);
        status = tally_frame_finish(&writer);
        if (tables.failed) status = TALLY_NO_MEMORY;
        assert(status || out->size - start <= bytes_max);
        (void)start; // read by the assertion alone
    }
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) tally_writer_free(&writer.columns[i]);
    tally_writer_free(&tables);
    return status;
}
