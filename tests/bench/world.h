// SPDX-License-Identifier: Apache-2.0
//
// One table of 8-byte keys, the frames that a server would cut of it, and a mirror that takes them.
#ifndef TALLY_BENCH_WORLD_H
#define TALLY_BENCH_WORLD_H

#include "../support/build.h"

#include <tallycast/memory.h>
#include <tallycast/mirror.h>

struct world {
    uint32_t keys_count;
    uint64_t *keys;
    int64_t *values;
    struct tally_seed seed;
    struct tally_digest digest;
    uint64_t version, random;
    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_reader reader;
};

// Key i has the value i + 1, and the mirror holds version 1: a whole state, applied chunk by chunk. Ends the process when it cannot.
void world_init(struct world *world, uint32_t keys_count, uint64_t seed);
void world_deinit(struct world *world);

// A frame to the next version that changes `count` rows drawn uniformly, each by 1 to 50. Valid until test_frame_free.
struct tally_bytes world_cut(struct world *world, uint32_t count, struct test_frame *frame);

void world_apply(struct world *world, struct tally_bytes frame, enum tally_status expected);

#endif
