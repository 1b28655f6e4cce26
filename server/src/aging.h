// SPDX-License-Identifier: Apache-2.0
//
// What time and a bound on its keys do to a table: idle expiry (`ttl`), windows, and the overflow row (`max_keys`). All of it follows from the
// record's own time and its batches, in this order, when a record is applied:
//
//   1. its definitions; a ttl that is new to a table begins for every row at the record's time
//   2. what is due at its time: amounts whose pane is in the window no more leave, and rows without any with them; then rows that were idle for
//      their time to live, the longest idle first, at most TALLY_EXPIRED_MAX in one record (the rest in the next ones)
//   3. its batches
//
// Rules:
//   - a row is touched by each entry of a batch that counts, even with amount 0: at `touched + ttl_ms` it leaves;
//   - a window is made of panes from one multiple of their length (of Unix time) to the next; the window at a time is the pane that this lies in and
//     those before it: a tumbling one has one pane. A row's value is the sum (least, greatest) of its amounts in the window. A row is
//     there exactly as long as the window has an entry for it, even of amount 0;
//   - a table of max_keys rows takes no further key: an amount of one goes to the row TALLY_OVERFLOW_KEY, which is a row like any other, but is not
//     among the max_keys (kind.h). Rows that are there stay exact. A row that leaves, by whatever, makes room for the next key that comes;
//   - a row that was removed by a batch is gone with all its panes.
//
// Threads: belongs to the state's thread. TALLY_NO_MEMORY leaves the state broken, as anywhere in a record.
#ifndef TALLYCAST_SERVER_AGING_H
#define TALLYCAST_SERVER_AGING_H

#include "expiry.h"
#include "panes.h"

// Of one table. All zeros: of a table that nothing was counted in.
struct tally_aging {
    struct tally_expiry expiry; // ttl; begun when it has an allocator
    struct tally_panes panes;   // window; begun when it has an allocator
    uint64_t overflowed;        // entries that went to the overflow row, since the process began
};

void tally_aging_deinit(struct tally_aging *aging);

#endif
