// SPDX-License-Identifier: Apache-2.0
//
// Blocks of whole lines out of the mirror's memory. The applier's own: one thread at a time.
//
// Sizes are rounded up to classes, four to a doubling (1 2 3 4 5 6 7 8 10 12 14 16 20 ... lines), so a block is at most a fifth
// larger than asked for (plus one line). Each class has a list of free blocks (struct trunk); new ones are cut from the end of what is used;
// when that ends the memory grows; when it cannot, a larger free block is cut up. Sizes of a mirror's blocks are few (pages, directory blocks,
// tags) but for keys and tops, so in steady churn what the arena holds is close to the highest use. Where sizes drift, keys that
// become longer above all, it would be the sum over classes of each one's own highest use: therefore a class that has no free block cuts up a larger
// one first while more than FREE_PART of what is used is free, and free neighbours are joined when as much as all the memory was
// taken since the last time. So the memory is at most about 1 + 1/FREE_PART times the highest use, and what is broken to pieces in between.
#ifndef TALLYCAST_ARENA_H
#define TALLYCAST_ARENA_H

#include "layout.h"

// Makes [first line, size of the memory) the arena's.
void mirror_arena_init(struct tally_mirror *mirror, const struct tally_memory *memory, uint32_t first_line);

// A block of at least `bytes`, aligned to 64, not zeroed; 0 when there is no memory. May grow the memory. Sizes that are powers of 2 lie on boundaries of their size (fewer TLB and DRAM pages a copy) unless they were cut out of something larger.
uint32_t mirror_arena_alloc(struct tally_mirror *mirror, struct tally_memory *memory, size_t bytes);

// `bytes`: as asked for, or any size of the same class.
void mirror_arena_free(struct tally_mirror *mirror, uint32_t block, size_t bytes);

// Bytes that a block for `bytes` takes.
size_t mirror_arena_block_bytes(size_t bytes);

#endif
