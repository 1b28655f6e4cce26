// SPDX-License-Identifier: Apache-2.0
//
// Counts of the keys that count most, in bounded memory: Space-Saving (Metwally et al. 2005), with amounts. At most `capacity` keys are counted.
// When one more comes, the last in order (least count, of equal ones the greatest key) makes place, and the new one takes over its count as its
// possible error. So, with N the sum of all amounts:
//
//   count - error <= the key's true sum <= count          for each key that is counted
//   true sum <= floor                                     for every other, and for error: error <= floor <= N / capacity
//
// (but for keys that were removed: what is left of their sums stays in N). What is counted follows from the order of the amounts alone.
//
// Two of them merge to one that keeps the first bounds for both together (Agarwal et al. 2012).
//
// Threads: belongs to one thread. Cost: O(log capacity) an amount; 64 bytes a key, long keys apart, and an index.
#ifndef TALLYCAST_SERVER_TOPK_H
#define TALLYCAST_SERVER_TOPK_H

#include "rows.h"

struct tally_topk {
    const struct tally_alloc *alloc;
    struct tally_rows
        rows;         // `value` is the count, `old_value` the error; touched: what changed since the owner untouched it
    uint32_t *heap;   // ids, the last in order at the root
    uint32_t *places; // id -> its place in the heap
    uint32_t count, capacity;
    int64_t floor;
};

// `keys` holds long keys and must outlive it. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_topk_init(struct tally_topk *topk, uint32_t capacity, struct tally_keys *keys,
                                                uint64_t clash_mask, const struct tally_alloc *alloc);
void tally_topk_deinit(struct tally_topk *topk);

// Adds an amount of 0 or more; 0 begins no key. Sums stop at INT64_MAX, which *saturated counts. TALLY_CLASH: another key that is counted has this
// fingerprint, nothing changed. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_topk_add(struct tally_topk *topk, uint64_t fingerprint, struct tally_bytes key,
                                               int64_t amount, uint64_t *saturated);

// The key is not counted any more; nothing if it is not. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_topk_remove(struct tally_topk *topk, uint64_t fingerprint,
                                                  struct tally_bytes key);

// A key as it was, of a snapshot. TALLY_MALFORMED for what cannot have been; TALLY_CLASH, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_topk_put(struct tally_topk *topk, uint64_t fingerprint, struct tally_bytes key,
                                               int64_t count, int64_t error);

// Takes in what `from` counted, of the same seed. TALLY_CLASH, TALLY_NO_MEMORY: `into` is of no use.
TALLY_CHECKED enum tally_status tally_topk_merge(struct tally_topk *into, const struct tally_topk *from);

#endif
