// SPDX-License-Identifier: Apache-2.0
//
// Frame codec: the change from one version to another, as drawn in proto/tallycast.proto.
//
// Reading walks the message in place, allocates nothing and is safe on any bytes. Unknown fields are skipped; a
// column that comes twice, unsorted ids, columns of unequal length, a size over proto/limits.h are refused.
// Writing collects one table at a time in column buffers and appends it to the output. Each column is written as varints or as blocks
// (block.h), whichever takes fewer bytes; no frame is larger than with varints alone. Both are read a block of rows at a time.
// Threads: an object belongs to one thread.
#ifndef TALLYCAST_FRAME_H
#define TALLYCAST_FRAME_H

#include <tallycast/block.h>
#include <tallycast/digest.h>
#include <tallycast/kind.h>
#include <tallycast/wire.h>

struct tally_frame_header {
    struct tally_bytes dataset;
    uint64_t epoch;
    uint64_t from, to; // from 0: the whole state
    uint64_t cut_ms;
    struct tally_digest digest; // of the state at `to`
    uint64_t rows;              // live rows at `to`
    struct tally_seed seed;     // only when from == 0
    uint32_t chunk;
    bool more;
};

enum tally_column {
    TALLY_COLUMN_REMOVED,
    TALLY_COLUMN_CHANGED,
    TALLY_COLUMN_DIFFERENCES,
    TALLY_COLUMN_ADDED,
    TALLY_COLUMN_KEY_SIZES,
    TALLY_COLUMN_KEYS,
    TALLY_COLUMN_VALUES,
    TALLY_COLUMNS
};

// ---------------------------------------------------------------------------------------------------- reading

struct tally_frame_reader {
    struct tally_frame_header header;
    struct tally_wire tables; // where the next TableChange is looked for
    uint64_t tables_seen;     // to hold `table` to ascending order
};

// One TableChange, opened: its columns are validated for shape when it is opened, and for values as they are walked. May be copied, to look ahead.
struct tally_table_reader {
    uint32_t table;
    struct tally_bytes name; // size 0: the table is known
    enum tally_kind kind;
    uint64_t rows; // that the table is said to have in the end, 0: not said. To make room by; nothing was checked
    struct tally_wire removed, changed, differences, added, key_sizes, values; // what was not decoded yet
    struct tally_wire keys;
    uint32_t blocks;              // a bit for each column that is in blocks
    uint32_t left[TALLY_COLUMNS]; // numbers in those blocks
    uint64_t id;                  // last id of the list being walked, plus one
    // Rows of that list, decoded and not handed out yet: from `at` to `count`.
    uint32_t at, count;
    uint32_t ids[TALLY_BLOCK_NUMBERS];
    int64_t numbers[2][TALLY_BLOCK_NUMBERS]; // differences; or sizes of keys, and values
};

// Checks the seal and parses the header; `message` must stay in place while the reader is used.
// TALLY_MALFORMED, TALLY_CORRUPT, TALLY_LIMIT, TALLY_UNSUPPORTED.
TALLY_CHECKED enum tally_status tally_frame_open(struct tally_bytes message, struct tally_frame_reader *out_reader);

// The next table of the frame; TALLY_NOT_FOUND after the last.
TALLY_CHECKED enum tally_status tally_frame_next_table(struct tally_frame_reader *reader,
                                                       struct tally_table_reader *out_table);

// The rows of a table, to be walked in this order: all removed, then all changed, then all added. TALLY_NOT_FOUND after
// the last of a list. The id order and the ends of the paired columns are checked on the way, for a block of rows before its first is handed out.
// TALLY_MALFORMED, TALLY_LIMIT, TALLY_UNSUPPORTED.
TALLY_CHECKED static inline enum tally_status tally_table_next_removed(struct tally_table_reader *table,
                                                                       uint32_t *out_id);
TALLY_CHECKED static inline enum tally_status tally_table_next_changed(struct tally_table_reader *table,
                                                                       uint32_t *out_id, int64_t *out_difference);
TALLY_CHECKED enum tally_status tally_table_next_added(struct tally_table_reader *table, uint32_t *out_id,
                                                       struct tally_bytes *out_key, int64_t *out_value);

// No more rows are changed than this, counted from what was not handed out yet.
static inline size_t tally_table_changed_max(const struct tally_table_reader *table)
{
    size_t decoded = table->count - table->at;
    if (table->blocks >> TALLY_COLUMN_CHANGED & 1) return decoded + table->left[TALLY_COLUMN_CHANGED];
    return decoded + (size_t)(table->changed.end - table->changed.at); // at least a byte each
}

// For those above: decode what comes next of a list.
TALLY_CHECKED enum tally_status tally_table_decode_removed(struct tally_table_reader *table);
TALLY_CHECKED enum tally_status tally_table_decode_changed(struct tally_table_reader *table);

static inline enum tally_status tally_table_next_removed(struct tally_table_reader *table, uint32_t *out_id)
{
    if (table->at == table->count) {
        enum tally_status status = tally_table_decode_removed(table);
        if (status) return status;
    }
    *out_id = table->ids[table->at++];
    return TALLY_OK;
}

static inline enum tally_status tally_table_next_changed(struct tally_table_reader *table, uint32_t *out_id,
                                                         int64_t *out_difference)
{
    if (table->at == table->count) {
        enum tally_status status = tally_table_decode_changed(table);
        if (status) return status;
    }
    *out_id = table->ids[table->at];
    *out_difference = table->numbers[0][table->at++];
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- writing

struct tally_frame_writer {
    struct tally_writer *out;                   // the caller's; growable or fixed
    struct tally_writer columns[TALLY_COLUMNS]; // the caller sets each up before `begin`: growable or fixed (see below)
    size_t start;
    uint32_t table;
    struct tally_bytes name;
    enum tally_kind kind;
    uint64_t rows;
    uint64_t next_id[TALLY_COLUMNS];
    // Of the table: numbers in each column; bytes of all but those of the last block as varints; the last block. After table_end: what
    // each column took in the frame, tag and size included (0: nothing).
    uint64_t counts[TALLY_COLUMNS];
    uint64_t varint_bytes[TALLY_COLUMNS];
    int64_t numbers[TALLY_COLUMNS][TALLY_BLOCK_NUMBERS];
    uint64_t column_bytes[TALLY_COLUMNS];
};

// What a column of n numbers that are 1 to 2^w in size may need while it is written, in bytes; 64 for w when they may be negative.
#define TALLY_COLUMN_ROOM(n, w) ((size_t)(n) * (w) / 8 + (n) / (TALLY_BLOCK_NUMBERS / 2) + 2 + TALLY_BLOCK_BEHIND)

// Protocol: begin, { table_begin, { removed }, { changed }, { added }, table_end }, finish. Tables by ascending number, ids
// ascending in each list (asserted). `name` may be empty for a table that the reader knows. A table without rows
// and without a name is left out. Failure to grow is sticky until the next `begin`, and told by `finish`: TALLY_NO_MEMORY (then
// `out->failed` is set too, which is the caller's to clear). The bytes are those of any protobuf encoder that writes fields in order
// and leaves defaults out; they depend on the rows alone.
void tally_frame_begin(struct tally_frame_writer *writer, const struct tally_frame_header *header);
void tally_frame_table_begin(struct tally_frame_writer *writer, uint32_t table, struct tally_bytes name,
                             enum tally_kind kind);
// Of a table with a name, any time before its end: how many live rows it has when the whole change is applied.
static inline void tally_frame_table_rows(struct tally_frame_writer *writer, uint64_t rows) { writer->rows = rows; }
void tally_frame_removed(struct tally_frame_writer *writer, uint32_t id);
void tally_frame_changed(struct tally_frame_writer *writer, uint32_t id, int64_t difference);
void tally_frame_added(struct tally_frame_writer *writer, uint32_t id, struct tally_bytes key, int64_t value);
void tally_frame_table_end(struct tally_frame_writer *writer);
TALLY_CHECKED enum tally_status tally_frame_finish(struct tally_frame_writer *writer);

#endif
