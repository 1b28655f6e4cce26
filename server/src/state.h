// SPDX-License-Identifier: Apache-2.0
//
// The state of a dataset at the server: a pure function of its log. Applying a record gives one frame, byte for byte the same at
// every server and at every replay.
//
// Rules of a record:
//   - batches apply in order; in each, table by table, amounts first, then removals;
//   - a batch counts when its sequence is the producer's last plus one (or 1, of a producer not known). A repeat, a hole and
//     what does not pass tally_state_admit change nothing, and use up no sequence number;
//   - the state's time is the record's, or the one before it if that is later;
//   - definitions first (definitions.h): each begins its table, or changes what may be changed; one that may not be is nothing;
//   - then what time makes leave, or slide: aging.h has those rules;
//   - a table begins with its definition or with the first batch that counts and names it with an amount or a member, as what that batch takes it
//     for, a counter if it does not say; a key begins with its first amount, even 0;
//   - a batch that takes a table for another kind than it has is refused as a whole;
//   - the rows of a topk table are the k greatest of the keys that it counts (topk.h), with their counts, and NAME.error has the same keys with
//     what may be too much; those of the top of another table are that table's k greatest rows at the end of the record, by value and then by
//     key. Rows that leave the k go, by id; then those that come to them come, the greatest first;
//   - a row of a distinct table is the estimate of its sketch (sketch.h), or what it was if that was more: it never falls;
//   - a sum stops at INT64_MAX; a gauge that is adjusted, at TALLY_LEVEL_MAX and its negative; a removal of what is not there is nothing;
//   - the frame tells the net effect: a row that came and went leaves no trace; one that went and came back is removed and
//     added; a difference of 0 is left out. A record that changes nothing still gives a frame, without tables.
//   - when two live keys of a table share a fingerprint: tally_seed_next, epoch + 1, all fingerprints anew (again, if need be), and
//     the record gives no frame: its version is told as a whole state. So is one whose frame would be over TALLY_FRAME_BYTES_MAX.
//
// Threads: belongs to one thread. Out of memory in the middle of a record leaves a state that is of no use (`broken`): every
// later call says so. It must be rebuilt from the log.
#ifndef TALLYCAST_SERVER_STATE_H
#define TALLYCAST_SERVER_STATE_H

#include <tallycast/alloc.h>
#include <tallycast/batch.h>
#include <tallycast/frame.h>
#include <tallycast/limits.h>

#include "aging.h"
#include "definitions.h"
#include "keys.h"
#include "producers.h"
#include "record.h"
#include "rows.h"
#include "sketch.h"
#include "top.h"
#include "topk.h"

struct tally_state_options {
    struct tally_bytes dataset; // copied
    uint64_t epoch;             // of version 0
    struct tally_seed seed;
    // 0: those of limits.h. They are part of the function: all servers of a log have the same. Others are for tests.
    uint32_t producers_max, tables_max, rows_max, frame_bytes_max, expired_max;
    uint64_t clash_mask; // 0: all bits; see server.h
};

// What the frame tells of one row.
enum { TALLY_CHANGE_REMOVED = 1, TALLY_CHANGE_ADDED = 2 }; // neither: its value changed

struct tally_change {
    uint32_t id, what;
    int64_t difference;
};

struct tally_state_table {
    uint8_t name[TALLY_NAME_BYTES_MAX];
    uint32_t name_bytes;
    struct tally_definition definition; // complete
    bool errors;                        // the table of errors of the topk table before it: no batch counts in it
    uint64_t digest_key;                // tally_digest_table
    struct tally_rows rows;
    struct tally_sketch **sketches; // distinct: of the rows, by id; null for a free one
    uint32_t sketches_capacity;
    struct tally_topk topk; // topk without source: what is counted; begun when it has an allocator
    struct tally_top top;   // topk: which of that, or of the source's rows, come first
    struct tally_aging aging;
    size_t changes_at, changes_count; // of this record, in the state's list
};

// What a table that is about to begin is: its kind, or one of two in which no batch counts.
enum { TALLY_NAME_ERRORS = TALLY_KINDS, TALLY_NAME_TOP_OF };

// Names of tables that are about to begin, each once.
struct tally_table_names {
    uint32_t count;
    uint8_t kinds[TALLY_TABLES_MAX];
    uint8_t sizes[TALLY_TABLES_MAX];
    uint8_t names[TALLY_TABLES_MAX][TALLY_NAME_BYTES_MAX];
};

// Why a batch, or a definition, was refused, for people: what is wrong, and where. All borrowed from what was refused.
struct tally_refusal {
    const char *what;              // a sentence; null: the status says it all
    struct tally_bytes table, key; // size 0: not about one
    bool has_amount;
    int64_t amount;
};

// What became of a batch.
struct tally_verdict {
    enum tally_status status; // TALLY_OK, REPEAT, HOLE, UNKNOWN_PRODUCER, or what tally_state_admit said
    uint64_t version;         // OK, REPEAT: a version that holds it
    uint64_t expected;        // the producer's next sequence number
};

struct tally_state_stats {
    uint64_t batches, events, repeats, holes, refused, saturated, clashes, forgotten;
    uint64_t amounts;                  // sum of the amounts of the events, modulo 2^64
    uint64_t rows_changed, rows_added; // all rows of frames; those that came new
    uint64_t added_bytes;              // of the columns that bring new rows
    uint64_t expired, slid;            // rows that left because they were idle; amounts that left a window
    uint64_t overflowed;               // entries of keys beyond max_keys
};

struct tally_state {
    const struct tally_alloc *alloc;
    uint8_t dataset[TALLY_NAME_BYTES_MAX];
    uint32_t dataset_bytes;
    uint32_t tables_max, rows_max, frame_bytes_max, expired_max;
    uint64_t clash_mask;
    uint64_t epoch, version, time_ms;
    struct tally_seed seed;
    struct tally_digest digest;
    uint64_t rows, key_bytes;
    struct tally_state_table *tables; // tables_max of them
    uint32_t tables_count;
    struct tally_keys keys;
    struct tally_producers producers;
    struct tally_state_stats stats;
    enum tally_status broken;
    // Of the record being applied, kept to be used again.
    bool whole;
    uint32_t tables_before; // that were there when it began
    struct tally_table_names names;
    struct tally_verdict *verdicts;
    size_t verdicts_count, verdicts_capacity;
    struct tally_change *changes;
    size_t changes_count, changes_capacity;
    struct tally_frame_writer frame;
};

// TALLY_INVALID, TALLY_NO_MEMORY. `alloc` must outlive the state.
TALLY_CHECKED enum tally_status tally_state_init(struct tally_state *state, const struct tally_state_options *options,
                                                 const struct tally_alloc *alloc);
void tally_state_deinit(struct tally_state *state);

static inline struct tally_bytes tally_state_dataset(const struct tally_state *state)
{
    return tally_bytes(state->dataset, state->dataset_bytes);
}

// When the next row expires or the next amount leaves a window: the time of the record by which it should be; UINT64_MAX: never. It may lie in
// the past when more was due than one record takes. Cost: the tables.
uint64_t tally_state_due(const struct tally_state *state);

// ---------------------------------------------------------------------------------------------------- one batch

// Whether the state would count a batch, its sequence aside. `pending_names` and `pending_rows` come on top (of batches that came before and are not
// applied yet); tables that this batch would begin are added to the names. TALLY_WRONG_DATASET; TALLY_INVALID: another kind, or an amount that is not
// of the kind, which *out_refusal tells; TALLY_FULL: too many tables, or perhaps too many rows: every entry is taken for a new key. Then names may
// have been added: set their count back. *out_entries: entries with amounts or members. Cost: one pass.
TALLY_CHECKED enum tally_status tally_state_admit(const struct tally_state *state,
                                                  const struct tally_batch_reader *batch,
                                                  struct tally_table_names *pending_names, uint64_t pending_rows,
                                                  uint64_t *out_entries, struct tally_refusal *out_refusal);

// Whether the state would take a complete definition of a table, with the pending names on top, to which what it begins is added.
// TALLY_INVALID with *out_why; TALLY_FULL: too many tables, and names may have been added.
TALLY_CHECKED enum tally_status tally_state_admit_definition(const struct tally_state *state, struct tally_bytes table,
                                                             const struct tally_definition *definition,
                                                             struct tally_table_names *pending_names,
                                                             const char **out_why);

// The number of a table, or TALLY_TABLES_MAX.
uint32_t tally_state_table(const struct tally_state *state, struct tally_bytes name);

// ---------------------------------------------------------------------------------------------------- one record

struct tally_applied {
    bool whole;                           // the version must be told as a whole state; nothing was appended to `out`
    size_t frame_at;                      // where in `out` the frame begins
    const struct tally_verdict *verdicts; // one a batch, in order; valid until the next apply
    size_t verdicts_count;
};

// `record` must be version + 1 (TALLY_GAP otherwise, nothing changed). The sealed frame is appended to `out`. TALLY_MALFORMED, TALLY_CORRUPT,
// TALLY_LIMIT: the record does not open, nothing changed. TALLY_NO_MEMORY: the state is broken.
TALLY_CHECKED enum tally_status tally_state_apply(struct tally_state *state, struct tally_bytes record,
                                                  struct tally_writer *out, struct tally_applied *out_applied);

// The same, sooner, of a record that was made in this process of batches that all passed tally_batch_open and tally_state_admit: on this version of
// the state, with those before it in the record pending. Admission then cannot end otherwise, because what is pending is taken for new rows. So the
// outcome is that of tally_state_apply, as replay sees it; the simulator holds both against each other.
TALLY_CHECKED enum tally_status tally_state_apply_admitted(struct tally_state *state, struct tally_bytes record,
                                                           struct tally_writer *out, struct tally_applied *out_applied);

// ---------------------------------------------------------------------------------------------------- whole states

struct tally_state_cursor {
    uint32_t table, id, chunk;
    bool done;
    struct tally_digest digest; // when loading: what the first chunk said
    uint64_t rows;
};

// Appends the next chunk of the whole state as a sealed frame of at most TALLY_CHUNK_BYTES_MAX; begin with {0}, go on until `done`. The state
// must not change meanwhile. TALLY_NO_MEMORY; TALLY_NOT_FOUND for version 0.
TALLY_CHECKED enum tally_status tally_state_write_chunk(struct tally_state *state, struct tally_state_cursor *cursor,
                                                        struct tally_writer *out);

// Fills a fresh state (no version yet) from the chunks of a whole state, in order; the last one verifies digest and rows.
// TALLY_MORE: further chunks are needed. TALLY_MALFORMED, TALLY_CORRUPT, TALLY_GAP, TALLY_WRONG_DATASET, TALLY_CLASH, TALLY_DIGEST_MISMATCH,
// TALLY_LIMIT, TALLY_UNSUPPORTED, TALLY_NO_MEMORY: the state is broken.
TALLY_CHECKED enum tally_status tally_state_load_chunk(struct tally_state *state, struct tally_bytes frame,
                                                       struct tally_state_cursor *cursor);

// What a table is of which the chunks brought name and kind: for each, by ascending number, after the last chunk. `name` null: from before
// there were definitions. TALLY_MALFORMED when they do not agree: the state is broken.
TALLY_CHECKED enum tally_status tally_state_load_definition(struct tally_state *state, uint32_t number,
                                                            const struct tally_bytes *name,
                                                            const struct tally_definition *definition);

#endif
