// SPDX-License-Identifier: Apache-2.0
//
// The dedupe table: each producer's last counted batch. Bounded: when one more comes, the one that was silent longest is
// forgotten, silence being counted in batches of the log, so that every server that reads the log forgets the same one.
// Producers of one batch (tally_producer_once) are bounded apart: however many they are, those that count on and on are not forgotten for them.
// Threads: belongs to one thread. Cost: O(1).
#ifndef TALLYCAST_SERVER_PRODUCERS_H
#define TALLYCAST_SERVER_PRODUCERS_H

#include <tallycast/alloc.h>
#include <tallycast/batch.h>
#include <tallycast/status.h>
#include <tallycast/wire.h>

struct tally_producer {
    uint64_t id;
    uint64_t sequence; // of its last counted batch
    uint64_t version;  // of the record that held it
    uint32_t older, newer;
};

struct tally_producers {
    const struct tally_alloc *alloc;
    struct tally_producer *list;
    uint32_t count, capacity;
    uint32_t count_max; // of each pool
    struct tally_producers_pool {
        uint32_t count, oldest, newest;
    } pools[2];      // those that go on, and those of one batch
    uint32_t *index; // number + 1; 0: empty
    uint32_t index_bits;
    uint64_t salt;
};

void tally_producers_init(struct tally_producers *producers, const struct tally_alloc *alloc, uint32_t count_max,
                          uint64_t salt);
void tally_producers_deinit(struct tally_producers *producers);

// Null when it is not known. Valid until the next note.
const struct tally_producer *tally_producers_find(const struct tally_producers *producers, uint64_t id);

// Its batch `sequence` was counted in `version`: it is now the newest. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_producers_note(struct tally_producers *producers, uint64_t id, uint64_t sequence,
                                                     uint64_t version);

// Whether one more like this makes another one be forgotten.
bool tally_producers_full(const struct tally_producers *producers, uint64_t id);

// From the one longest silent to the newest, those of one batch after the others; start with null; null after the last.
const struct tally_producer *tally_producers_next(const struct tally_producers *producers,
                                                  const struct tally_producer *producer);

#endif
