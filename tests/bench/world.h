// SPDX-License-Identifier: Apache-2.0
//
// One table of 8-byte keys or of names, the frames that a server would cut of it, and a mirror that takes them.
#ifndef TALLY_BENCH_WORLD_H
#define TALLY_BENCH_WORLD_H

#include "../support/build.h"
#include "names.h"

#include <tallycast/memory.h>
#include <tallycast/mirror.h>

struct world {
    uint32_t keys_count;
    uint64_t *keys;            // null: names
    const struct names *names; // borrowed; null: keys of 8 bytes
    int64_t *values;
    struct tally_seed seed;
    struct tally_digest digest;
    uint64_t version, random;
    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_reader reader;
    double load_ns; // that the applies of the first version took
    size_t load_bytes;
};

// Key i has the value i + 1, and the mirror holds version 1: a whole state, applied chunk by chunk. Ends the process when it cannot.
void world_init(struct world *world, uint32_t keys_count, uint64_t seed);
void world_init_names(struct world *world, const struct names *names, uint64_t seed);
void world_deinit(struct world *world);

static inline struct tally_bytes world_key(const struct world *world, uint32_t id)
{
    return world->names ? names_key(world->names, id) : tally_bytes((const uint8_t *)&world->keys[id], 8);
}

// Draws keys uniformly; all of them are there.
void world_draw(struct world *world, struct draws *draws);

// A frame to the next version that changes `count` rows drawn uniformly, each by 1 to 50. Valid until test_frame_free.
struct tally_bytes world_cut(struct world *world, uint32_t count, struct test_frame *frame);

// The same of rows that the caller chose, by ascending ids.
struct tally_bytes world_cut_rows(struct world *world, const uint32_t *ids, const int64_t *differences, uint32_t count,
                                  struct test_frame *frame);

void world_apply(struct world *world, struct tally_bytes frame, enum tally_status expected);

#endif
