// SPDX-License-Identifier: Apache-2.0
//
// The greatest rows of a table, by a scan: the greatest values first, keys of the same value by their bytes. A table that is asked for
// it often, or is large, is better off with a topk table `of` it, which a server keeps (docs/decisions/0019).
//
// A heap of the best so far with the least on top (Knuth 5.2.3), so that most rows cost one comparison.
#ifndef TALLYCAST_TOP_H
#define TALLYCAST_TOP_H

#include <tallycast/mirror.h>

// The caller's. `rows` has room for `capacity` rows; rows borrow their keys from where they came from.
struct tally_best {
    struct tally_row *rows;
    uint32_t capacity, count;
};

// Cost: a comparison, and O(log capacity) when it is one of the greatest so far.
void tally_best_offer(struct tally_best *top, const struct tally_row *row);
// In order, after the last offer. Cost: O(count log count).
void tally_best_sort(struct tally_best *top);

// The `k` greatest rows of a table in order; fewer when there are fewer. TALLY_NOT_FOUND: no such table. Thread: the view's. Cost: every row of the table, some 100 ns
// each where no cache holds them.
TALLY_CHECKED enum tally_status tally_view_top(const struct tally_view *view, uint32_t table, uint32_t k,
                                               struct tally_row *out_rows, uint32_t *out_count);

#endif
