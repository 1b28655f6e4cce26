// SPDX-License-Identifier: Apache-2.0
//
// Reads of a mirror by the bytes of keys, as bench_strings.c and contestant_mirror.c measure them. The sums of the values.
#ifndef TALLY_BENCH_MIRROR_READS_H
#define TALLY_BENCH_MIRROR_READS_H

#include "world.h"

#define MIRROR_MANY 16u // keys of one get_many

// One view for all reads.
uint64_t mirror_dependent(struct world *world, const struct draws *draws); // each key depends on the value read before
uint64_t mirror_independent(struct world *world, const struct draws *draws);
uint64_t mirror_many(struct world *world, const struct draws *draws); // MIRROR_MANY keys at a time
// A view for each read: pinned, the table found by name, read, unpinned.
uint64_t mirror_alone_dependent(struct world *world, const struct draws *draws);
uint64_t mirror_alone_independent(struct world *world, const struct draws *draws);

#endif
