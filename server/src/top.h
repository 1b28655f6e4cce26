// SPDX-License-Identifier: Apache-2.0
//
// Which k rows of a struct tally_rows are the greatest, kept as rows change: by value, of equal values the one whose key comes first byte by
// byte. What it answers follows from the rows alone, whatever happened before.
//
// Kept are the candidates, a set of ids at least k and at most some times k large, with a bound: every live row that is not below the bound is a
// candidate. A row that passes the bound becomes one, a row that falls below it (or leaves) stops being one; when there are too many the bound
// is raised, and when there are less than k of more rows, all rows are looked through once.
//
// Threads: belongs to one thread. Cost: O(1) a changed row and O(k) a selection, all rows where many of the greatest leave; memory one bit a row
// and some words for each candidate.
#ifndef TALLYCAST_SERVER_TOP_H
#define TALLYCAST_SERVER_TOP_H

#include "rows.h"

struct tally_ranked {
    int64_t value;
    uint32_t id;
};

struct tally_top {
    const struct tally_alloc *alloc;
    struct tally_ranked *candidates; // after a selection the first ones are the answer, in order
    uint32_t count, capacity;
    uint64_t *member; // one bit an id: it is a candidate
    uint32_t member_ids;
    bool known;          // every live row that is not below the bound is a candidate
    bool bounded;        // there is a bound
    int64_t bound_value; // of the bound's row, and its key
    uint32_t bound_bytes;
    uint8_t bound_key[TALLY_KEY_BYTES_MAX];
};

// All zeros but the allocator: nothing is known of any row. The first selection looks through all.
static inline struct tally_top tally_top(const struct tally_alloc *alloc) { return (struct tally_top){.alloc = alloc}; }
void tally_top_deinit(struct tally_top *top);

// Takes in the touched rows, which are all that changed since the last selection, and selects. *out_count: min(k, live rows); they are
// top->candidates[0 ..], the greatest first, until the next call. TALLY_NO_MEMORY: the next selection must look through all (tally_top_forget).
TALLY_CHECKED enum tally_status tally_top_select(struct tally_top *top, const struct tally_rows *rows, uint32_t k,
                                                 uint32_t *out_count);

// The next selection looks through all rows.
void tally_top_forget(struct tally_top *top);

#endif
