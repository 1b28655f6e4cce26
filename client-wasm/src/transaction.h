// SPDX-License-Identifier: Apache-2.0
//
// The change from the published version to the next: which blocks it made, which it replaced, and how it ends.
// The applier's own: one thread at a time.
//
// A block that the transaction made may be changed in place; a published one is copied first, once. Which is which: a page carries
// the generation that wrote it; every other block was made by the transaction when its reference differs from the one at
// the same place of the published version.
#ifndef TALLYCAST_TRANSACTION_H
#define TALLYCAST_TRANSACTION_H

#include "arena.h"

// What the functions that change a table work on. All pointers are into the mirror's memory, which does not move.
struct work {
    struct tally_mirror *mirror;
    struct tally_memory *memory;
    struct tally_root *root;       // the version to be
    const struct tally_root *old;  // the published one, null for a whole state
    struct table *table;           // of root, made by this transaction
    const struct table *old_table; // the same one of old, null when it is new
};

// Starts one for the frame's header. TALLY_NO_MEMORY, TALLY_STALLED; nothing is open then.
TALLY_CHECKED enum tally_status mirror_transaction_begin(struct tally_mirror *mirror, struct tally_memory *memory,
                                                         const struct tally_frame_header *header);

// Compares digest and rows, publishes. TALLY_DIGEST_MISMATCH: it is still open.
TALLY_CHECKED enum tally_status mirror_transaction_commit(struct tally_mirror *mirror);

// Frees what was made. Nothing when none is open.
void mirror_transaction_abort(struct tally_mirror *mirror);

// A new block for this transaction, not zeroed; 0: no memory.
uint32_t mirror_block_make(struct work *work, size_t bytes);

// A copy of `block` (of `bytes`; it is replaced by the copy) with room for `bytes_new`; 0: no memory.
uint32_t mirror_block_copy(struct work *work, uint32_t block, size_t bytes, size_t bytes_new);

// Notes that the version to be does not use `block` any more. False: no memory.
TALLY_CHECKED bool mirror_block_drop(struct work *work, uint32_t block, size_t bytes);

// Frees what no reader can see any more.
void mirror_reclaim(struct tally_mirror *mirror);

#endif
