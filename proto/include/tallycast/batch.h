// SPDX-License-Identifier: Apache-2.0
//
// Batch codec, in place and without allocation, like frame.h. Threads: an object belongs to one thread.
#ifndef TALLYCAST_BATCH_H
#define TALLYCAST_BATCH_H

#include <tallycast/wire.h>

struct tally_batch_header {
    struct tally_bytes dataset;
    uint64_t producer;
    uint64_t sequence;
};

struct tally_batch_reader {
    struct tally_batch_header header;
    struct tally_wire tables;
};

struct tally_entries_reader {
    struct tally_bytes table;
    struct tally_wire keys, amounts, removed; // keys, removed: of the TableEntries, filtered by field
};

// Validates the whole batch: names, key sizes, counts, and that every key has its amount. After TALLY_OK the walk below
// cannot fail. TALLY_MALFORMED, TALLY_LIMIT. Cost: one pass.
TALLY_CHECKED enum tally_status tally_batch_open(struct tally_bytes message, struct tally_batch_reader *out_reader);

// The same of bytes that tally_batch_open took before. Cost: the walk over its tables, not over their entries.
TALLY_CHECKED enum tally_status tally_batch_open_again(struct tally_bytes message,
                                                       struct tally_batch_reader *out_reader);

// Each returns false after the last.
bool tally_batch_next_table(struct tally_batch_reader *reader, struct tally_entries_reader *out_entries);
bool tally_entries_next(struct tally_entries_reader *entries, struct tally_bytes *out_key, int64_t *out_amount);
bool tally_entries_next_removed(struct tally_entries_reader *entries, struct tally_bytes *out_key);

// Where a Request (sealed or not) holds a Batch: TALLY_OK and the batch's bytes, borrowed; TALLY_NOT_FOUND when it holds something
// else; TALLY_MALFORMED (also for a Batch beside something else), TALLY_CORRUPT, TALLY_LIMIT over TALLY_BATCH_BYTES_MAX.
TALLY_CHECKED enum tally_status tally_request_batch(struct tally_bytes request, struct tally_bytes *out_batch);

// ---------------------------------------------------------------------------------------------------- writing
// begin, { table_begin, { key }, { removed }, table_end }, finish: writes a sealed Request that holds the batch. In a table all keys
// with amounts come before all removed ones (asserted). Amounts and nested sizes need scratch: `body` holds the Batch, `entries` one
// table, `amounts` its amounts; each growable or fixed by the caller. Failure to grow is sticky until the next `begin`, and told by
// `finish`: TALLY_NO_MEMORY (then `out->failed` is set too, which is the caller's to clear).
struct tally_batch_writer {
    struct tally_writer *out;
    struct tally_writer body, entries, amounts;
    bool removing;
};

void tally_batch_begin(struct tally_batch_writer *writer, const struct tally_batch_header *header);
void tally_batch_table_begin(struct tally_batch_writer *writer, struct tally_bytes table);
void tally_batch_add(struct tally_batch_writer *writer, struct tally_bytes key, int64_t amount);
void tally_batch_remove(struct tally_batch_writer *writer, struct tally_bytes key);
void tally_batch_table_end(struct tally_batch_writer *writer);
TALLY_CHECKED enum tally_status tally_batch_finish(struct tally_batch_writer *writer);

#endif
