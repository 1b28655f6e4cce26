// SPDX-License-Identifier: Apache-2.0
//
// Merged counts as batches. Threads: pure functions over their arguments.
#ifndef TALLYCAST_SUMS_BATCH_H
#define TALLYCAST_SUMS_BATCH_H

#include <sums/sums.h>
#include <tallycast/batch.h>

// How many entries from number `first` on fit into one batch, Request included, of at most `bytes_max`: 0 when there are none, else 1 or more.
// Cost: of those that it counts. To be asked of grouped entries (tally_sums_group): else the names of tables take more than is thought.
uint32_t tally_sums_fit(const struct tally_sums *sums, uint32_t first, size_t bytes_max);

// Writes `count` entries from number `first` on as tables of the batch that was begun, each said to be of the kind that its entries are for.
void tally_sums_write(const struct tally_sums *sums, uint32_t first, uint32_t count, struct tally_batch_writer *writer);

// The member of a `distinct` table that these bytes are: XXH3 in 64 bits, seed 0, so that every producer agrees.
uint64_t tally_member(struct tally_bytes bytes);

#endif
