// SPDX-License-Identifier: Apache-2.0
//
// Frame codec: the change from one version to another, as drawn in proto/tallycast.proto.
//
// Reading walks the message in place, allocates nothing and is safe on any bytes. Unknown fields are skipped; a
// column that comes twice, unsorted ids, columns of unequal length, a size over proto/limits.h are refused.
// Writing collects one table at a time in column buffers and appends it to the output.
// Threads: an object belongs to one thread.
#ifndef TALLYCAST_FRAME_H
#define TALLYCAST_FRAME_H

#include <tallycast/digest.h>
#include <tallycast/wire.h>

enum tally_kind { TALLY_KIND_UNSPECIFIED = 0, TALLY_KIND_COUNTER = 1 };

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

// ---------------------------------------------------------------------------------------------------- reading

struct tally_frame_reader {
    struct tally_frame_header header;
    struct tally_wire tables; // where the next TableChange is looked for
    uint64_t tables_seen;     // to hold `table` to ascending order
};

// One TableChange, opened: its columns are validated for shape when it is opened, and for values as they are walked.
struct tally_table_reader {
    uint32_t table;
    struct tally_bytes name; // size 0: the table is known
    enum tally_kind kind;
    struct tally_wire removed, changed, differences, added, key_sizes, values;
    struct tally_wire keys;
    uint64_t id; // last id of the list being walked, plus one
};

// Checks the seal and parses the header; `message` must stay in place while the reader is used.
// TALLY_MALFORMED, TALLY_CORRUPT, TALLY_LIMIT, TALLY_UNSUPPORTED.
TALLY_CHECKED enum tally_status tally_frame_open(struct tally_bytes message, struct tally_frame_reader *out_reader);

// The next table of the frame; TALLY_NOT_FOUND after the last.
TALLY_CHECKED enum tally_status tally_frame_next_table(struct tally_frame_reader *reader,
                                                       struct tally_table_reader *out_table);

// The rows of a table, to be walked in this order: all removed, then all changed, then all added. TALLY_NOT_FOUND after
// the last of a list. The id order and the ends of the paired columns are checked on the way.
TALLY_CHECKED enum tally_status tally_table_next_removed(struct tally_table_reader *table, uint32_t *out_id);
TALLY_CHECKED enum tally_status tally_table_next_changed(struct tally_table_reader *table, uint32_t *out_id,
                                                         int64_t *out_difference);
TALLY_CHECKED enum tally_status tally_table_next_added(struct tally_table_reader *table, uint32_t *out_id,
                                                       struct tally_bytes *out_key, int64_t *out_value);

// ---------------------------------------------------------------------------------------------------- writing

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

struct tally_frame_writer {
    struct tally_writer *out;                   // the caller's; growable or fixed
    struct tally_writer columns[TALLY_COLUMNS]; // the caller sets each up before `begin`: growable or fixed
    size_t start;
    uint32_t table;
    struct tally_bytes name;
    enum tally_kind kind;
    uint64_t next_id[TALLY_COLUMNS];
};

// Protocol: begin, { table_begin, { removed }, { changed }, { added }, table_end }, finish. Tables by ascending number, ids
// ascending in each list (asserted). `name` may be empty for a table that the reader knows. A table without rows
// and without a name is left out. Failure to grow is sticky until the next `begin`, and told by `finish`: TALLY_NO_MEMORY (then
// `out->failed` is set too, which is the caller's to clear). The bytes are those of any protobuf encoder that writes fields in order
// and leaves defaults out.
void tally_frame_begin(struct tally_frame_writer *writer, const struct tally_frame_header *header);
void tally_frame_table_begin(struct tally_frame_writer *writer, uint32_t table, struct tally_bytes name,
                             enum tally_kind kind);
void tally_frame_removed(struct tally_frame_writer *writer, uint32_t id);
void tally_frame_changed(struct tally_frame_writer *writer, uint32_t id, int64_t difference);
void tally_frame_added(struct tally_frame_writer *writer, uint32_t id, struct tally_bytes key, int64_t value);
void tally_frame_table_end(struct tally_frame_writer *writer);
TALLY_CHECKED enum tally_status tally_frame_finish(struct tally_frame_writer *writer);

#endif
