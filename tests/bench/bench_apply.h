// SPDX-License-Identifier: Apache-2.0
//
// Applies to a world: of 10 to 1M uniformly random changes, of what is drawn by real weights, and the memory that they take.
#ifndef TALLY_BENCH_APPLY_H
#define TALLY_BENCH_APPLY_H

#include "bench.h"
#include "world.h"

// Prints all of it. `size` is the number of keys in words.
void bench_applies(struct world *world, const struct bench_options *options, const char *size);

#endif
