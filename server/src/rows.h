// SPDX-License-Identifier: Apache-2.0
//
// The live rows of one table at the server: by id, with an index from fingerprint to id, and the free ids.
//
//   index   slot = (32 bits of the fingerprint) << 32 | id + 1; 0: empty. Linear probing from those bits, at most 3/4 full;
//           a removal moves later slots back, so there are no tombstones.
//   rows    rows[id]; a free row has key null
//   free    a binary heap: the smallest free id is taken first
//
// Threads: belongs to one thread. Cost: O(1), a removal and an id from the heap O(log free).
#ifndef TALLYCAST_SERVER_ROWS_H
#define TALLYCAST_SERVER_ROWS_H

#include <tallycast/alloc.h>
#include <tallycast/bytes.h>
#include <tallycast/limits.h>
#include <tallycast/status.h>

struct tally_state_row {
    uint64_t fingerprint;
    int64_t value;
    const uint8_t *key; // of struct tally_keys; null: a free id
    uint32_t key_bytes;
    uint32_t touched; // number of its entry in the tick's list of touched rows, plus one; 0: not touched
};

struct tally_rows {
    const struct tally_alloc *alloc;
    struct tally_state_row *rows;
    uint32_t ids; // ids ever given: rows[0 .. ids - 1]
    uint32_t ids_capacity;
    uint32_t live;
    uint64_t *index; // a power of two of slots, or null
    uint32_t index_bits;
    uint32_t *free; // heap of free ids below `ids`
    uint32_t free_count, free_capacity;
    uint64_t clash_mask; // fingerprints are compared in these bits (all of them, but for tests)
};

#define TALLY_NO_ROW UINT32_MAX

void tally_rows_init(struct tally_rows *rows, const struct tally_alloc *alloc, uint64_t clash_mask);
void tally_rows_deinit(struct tally_rows *rows);

// The live row with this fingerprint, or TALLY_NO_ROW.
uint32_t tally_rows_find(const struct tally_rows *rows, uint64_t fingerprint);

// A new row of value 0 at the smallest free id; its fingerprint must not be there. The key is borrowed as long as the row lives.
// TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_rows_add(struct tally_rows *rows, uint64_t fingerprint, struct tally_bytes key,
                                               uint32_t *out_id);

// As add, at a given id at or above `ids`, as whole states list them; ids in between become free with tally_rows_settle. TALLY_MALFORMED
// for an id below `ids`, TALLY_LIMIT, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_rows_put(struct tally_rows *rows, uint32_t id, uint64_t fingerprint,
                                               struct tally_bytes key, int64_t value);
TALLY_CHECKED enum tally_status tally_rows_settle(struct tally_rows *rows);

// The row leaves; its id is free. Makes room in the heap before it changes anything: TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_rows_remove(struct tally_rows *rows, uint32_t id);

// Builds the index anew from the rows' fingerprints, which the caller changed. TALLY_CLASH when two agree; TALLY_NO_MEMORY. The index
// is then of no use until a rebuild that succeeds.
TALLY_CHECKED enum tally_status tally_rows_rebuild(struct tally_rows *rows);

// Hints for the cache, for lookups that come soon; they change nothing.
void tally_rows_prefetch_index(const struct tally_rows *rows, uint64_t fingerprint);
uint32_t tally_rows_prefetch_row(const struct tally_rows *rows, uint64_t fingerprint);
void tally_rows_prefetch_key(const struct tally_rows *rows, uint32_t id);

#endif
