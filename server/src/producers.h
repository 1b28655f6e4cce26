// SPDX-License-Identifier: Apache-2.0
//
// The dedupe table: each producer's last counted batch. Bounded: when one more comes, the one that was silent longest is
// forgotten, silence being counted in batches of the log, so that every server that reads the log forgets the same one.
// Threads: belongs to one thread. Cost: O(1).
#ifndef TALLYCAST_SERVER_PRODUCERS_H
#define TALLYCAST_SERVER_PRODUCERS_H

#include <tallycast/alloc.h>
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
    uint32_t count, capacity, count_max;
    uint32_t oldest, newest;
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

// From the one longest silent to the newest; start with null; null after the last.
const struct tally_producer *tally_producers_next(const struct tally_producers *producers,
                                                  const struct tally_producer *producer);

#endif
