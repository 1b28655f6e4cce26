// SPDX-License-Identifier: Apache-2.0
//
// The live rows of one table at the server: by id, with an index from fingerprint to id, the free ids, and the ids touched by the
// record that is being applied.
//
//   index    slot = (32 bits of the fingerprint) << 32 | id + 1; 0: empty. Linear probing from those bits, at most 3/4 full;
//            a removal moves later slots back, so there are no tombstones.
//   rows     rows[id], one cache line each, the key within it unless it is long: a known key costs two lines, its slot and its row
//   touched  one bit an id, and above it one bit for each word of those that is not 0: a walk in the order of ids without sorting
//   free     a binary heap: the smallest free id is taken first
//
// Threads: belongs to one thread. Cost: O(1), a removal and an id from the heap O(log free).
#ifndef TALLYCAST_SERVER_ROWS_H
#define TALLYCAST_SERVER_ROWS_H

#include <tallycast/alloc.h>
#include <tallycast/bytes.h>
#include <tallycast/limits.h>
#include <tallycast/status.h>

#include "keys.h"

#define TALLY_ROW_KEY_BYTES 36u // of a key that lies within its row

enum {
    TALLY_ROW_TOUCHED = 1,    // by the record that is being applied; the others mean something only beside it
    TALLY_ROW_WAS_LIVE = 2,   // when the record began, with old_value
    TALLY_ROW_REPLACED = 4,   // it was live, and another row came to its id
    TALLY_ROW_SUBTRACTED = 8, // what it was is out of the digest
    TALLY_ROW_KEPT = 16       // for a moment, while rows follow others (state_conclude.c)
};

struct tally_state_row {
    uint64_t fingerprint;
    int64_t value, old_value; // old_value: before the record, when it is touched and was live
    uint16_t key_bytes;       // 0: a free id
    uint16_t flags;
    uint8_t key[TALLY_ROW_KEY_BYTES]; // a longer one: its address, of struct tally_keys
};
_Static_assert(sizeof(struct tally_state_row) == 64, "a row is a line");

struct tally_rows {
    const struct tally_alloc *alloc;
    struct tally_keys *keys; // of long keys
    void *rows_block;        // what `rows` lies in, aligned to a line
    struct tally_state_row *rows;
    uint32_t ids; // ids ever given: rows[0 .. ids - 1]
    uint32_t ids_capacity;
    uint32_t live;
    uint64_t *index; // a power of two of slots, or null
    uint32_t index_bits;
    uint64_t *touched, *touched_words; // bits for ids_capacity ids; one bit a word of them
    uint32_t *free;                    // heap of free ids below `ids`
    uint32_t free_count, free_capacity;
    uint64_t clash_mask; // fingerprints are compared in these bits (all of them, but for tests)
};

#define TALLY_NO_ROW UINT32_MAX

void tally_rows_init(struct tally_rows *rows, const struct tally_alloc *alloc, struct tally_keys *keys,
                     uint64_t clash_mask);
void tally_rows_deinit(struct tally_rows *rows);

static inline bool tally_row_live(const struct tally_state_row *row) { return row->key_bytes != 0; }

// Borrowed as long as the row lives and no row is added.
static inline struct tally_bytes tally_row_key(const struct tally_state_row *row)
{
    const uint8_t *data = row->key;
    if (row->key_bytes > TALLY_ROW_KEY_BYTES) memcpy(&data, row->key, sizeof data);
    return tally_bytes(data, row->key_bytes);
}

bool tally_row_key_is(const struct tally_state_row *row, struct tally_bytes key);

// The live row with this fingerprint, or TALLY_NO_ROW.
uint32_t tally_rows_find(const struct tally_rows *rows, uint64_t fingerprint);

// Whether that is the live row `id`; any id.
static inline bool tally_rows_is(const struct tally_rows *rows, uint32_t id, uint64_t fingerprint)
{
    if (id >= rows->ids || !tally_row_live(&rows->rows[id])) return false;
    return ((rows->rows[id].fingerprint ^ fingerprint) & rows->clash_mask) == 0;
}

// A new row of value 0 at the smallest free id, which keeps its flags; its fingerprint must not be there. The key is copied. TALLY_NO_MEMORY.
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

// ---------------------------------------------------------------------------------------------------- touched rows

// The bit of an id is set; its flags are the caller's.
static inline void tally_rows_touch(struct tally_rows *rows, uint32_t id)
{
    rows->touched[id / 64] |= (uint64_t)1 << id % 64;
    rows->touched_words[id / 4096] |= (uint64_t)1 << id / 64 % 64;
}

// The touched ids, ascending: begin with {0}; false after the last. Nothing may be touched meanwhile.
struct tally_rows_walk {
    uint64_t word, words; // bits that are left of the two levels
    uint32_t at, next;    // number of the word; of the next word of words
};
bool tally_rows_touched(const struct tally_rows *rows, struct tally_rows_walk *walk, uint32_t *out_id);

// Clears all bits; the flags are the caller's. Cost: the touched rows / 64.
void tally_rows_untouch(struct tally_rows *rows);

// ---------------------------------------------------------------------------------------------------- hints

// For the cache, for lookups that come soon; they change nothing.
void tally_rows_prefetch_index(const struct tally_rows *rows, uint64_t fingerprint);
// The row that is probably meant, or TALLY_NO_ROW.
uint32_t tally_rows_prefetch_row(const struct tally_rows *rows, uint64_t fingerprint);
static inline void tally_rows_prefetch(const struct tally_rows *rows, uint32_t id)
{
    __builtin_prefetch(&rows->rows[id], 1);
}

#endif
