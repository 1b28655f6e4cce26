// SPDX-License-Identifier: Apache-2.0
//
// Batch codec, in place and without allocation, like frame.h. Threads: an object belongs to one thread.
#ifndef TALLYCAST_BATCH_H
#define TALLYCAST_BATCH_H

#include <tallycast/frame.h>
#include <tallycast/wire.h>

// Ids of producers that send one batch only, their first: those beginning with the byte 0xff. They are remembered apart from the others, which they
// come to outnumber. Who counts on and on draws an id that does not begin with it.
#define TALLY_PRODUCER_ONCE ((uint64_t)0xff << 56)
static inline bool tally_producer_once(uint64_t producer) { return producer >= TALLY_PRODUCER_ONCE; }

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
    enum tally_kind kind;                     // unspecified: whatever the table is
    bool adjust, members;                     // members: `amounts` holds them, 8 bytes each
};

// Validates the whole batch: names, key sizes, counts, and that every key has its amount or its member; that members are of a table
// that is distinct or unspecified, and adjustments of one that is a gauge or unspecified. After TALLY_OK the walk below cannot fail.
// TALLY_MALFORMED, TALLY_LIMIT, TALLY_UNSUPPORTED (a kind that is not known). Cost: one pass.
TALLY_CHECKED enum tally_status tally_batch_open(struct tally_bytes message, struct tally_batch_reader *out_reader);

// The same of bytes that tally_batch_open took before. Cost: the walk over its tables, not over their entries.
TALLY_CHECKED enum tally_status tally_batch_open_again(struct tally_bytes message,
                                                       struct tally_batch_reader *out_reader);

// Each returns false after the last. Of members, *out_amount is the member.
bool tally_batch_next_table(struct tally_batch_reader *reader, struct tally_entries_reader *out_entries);
bool tally_entries_next(struct tally_entries_reader *entries, struct tally_bytes *out_key, int64_t *out_amount);
bool tally_entries_next_removed(struct tally_entries_reader *entries, struct tally_bytes *out_key);

// Where a Request (sealed or not) holds a Batch: TALLY_OK and the batch's bytes, borrowed; TALLY_NOT_FOUND when it holds something
// else; TALLY_MALFORMED (also for a Batch beside something else), TALLY_CORRUPT, TALLY_LIMIT over TALLY_BATCH_BYTES_MAX.
TALLY_CHECKED enum tally_status tally_request_batch(struct tally_bytes request, struct tally_bytes *out_batch);

// ---------------------------------------------------------------------------------------------------- writing
// begin, { table_begin, { key }, { removed }, table_end }, finish: writes a sealed Request that holds the batch. In a table all keys
// with amounts, or all with members, come before all removed ones (asserted). Amounts and nested sizes need scratch: `body` holds the
// Batch, `entries` one table, `amounts` its amounts or members; each growable or fixed by the caller. Failure to grow is sticky until the next `begin`, and told by
// `finish`: TALLY_NO_MEMORY (then `out->failed` is set too, which is the caller's to clear).
struct tally_batch_writer {
    struct tally_writer *out;
    struct tally_writer body, entries, amounts;
    enum tally_kind kind;
    bool removing, adjust, members;
};

void tally_batch_begin(struct tally_batch_writer *writer, const struct tally_batch_header *header);
void tally_batch_table_begin(struct tally_batch_writer *writer, struct tally_bytes table);
// The same, and says what the table is taken for (unspecified: nothing is said). `adjust`: a gauge's amounts are added.
void tally_batch_table_begin_as(struct tally_batch_writer *writer, struct tally_bytes table, enum tally_kind kind,
                                bool adjust);
void tally_batch_add(struct tally_batch_writer *writer, struct tally_bytes key, int64_t amount);
// For a table with members, then of every key.
void tally_batch_add_member(struct tally_batch_writer *writer, struct tally_bytes key, uint64_t member);
void tally_batch_remove(struct tally_batch_writer *writer, struct tally_bytes key);
void tally_batch_table_end(struct tally_batch_writer *writer);
TALLY_CHECKED enum tally_status tally_batch_finish(struct tally_batch_writer *writer);

#endif
