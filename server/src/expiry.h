// SPDX-License-Identifier: Apache-2.0
//
// When each row of a table was last touched, and which is the next to be idle for too long. One list a table in the order of the last
// touch is enough: all its rows have the same time to live, and time does not go back, so a touched row belongs at the end.
//
//   oldest ─► node ─► node ─► ... ─► newest      nodes[id], 16 bytes an id that was ever given
//
// Threads: belongs to one thread. Cost: O(1) each; a row that is touched again at the same time costs a look.
#ifndef TALLYCAST_SERVER_EXPIRY_H
#define TALLYCAST_SERVER_EXPIRY_H

#include <stdint.h>
#include <tallycast/alloc.h>
#include <tallycast/status.h>

struct tally_expiry_node {
    uint64_t touched_ms;
    uint32_t older, newer; // ids; private marks where there is none
};

struct tally_expiry {
    const struct tally_alloc *alloc;
    struct tally_expiry_node *nodes;
    uint32_t capacity;
    uint32_t oldest, newest;
    uint32_t count; // in the list
};

#define TALLY_EXPIRY_NONE UINT32_MAX // no id

void tally_expiry_init(struct tally_expiry *expiry, const struct tally_alloc *alloc);
void tally_expiry_deinit(struct tally_expiry *expiry);

// Makes room for ids below `ids`. TALLY_NO_MEMORY: nothing changed.
TALLY_CHECKED enum tally_status tally_expiry_reserve(struct tally_expiry *expiry, uint32_t ids);

// The row was touched at `now_ms`, which must not be before any earlier touch; it need not be in the list yet. There must be room.
void tally_expiry_touch(struct tally_expiry *expiry, uint32_t id, uint64_t now_ms);

// The row leaves; nothing if it is not in the list.
void tally_expiry_drop(struct tally_expiry *expiry, uint32_t id);

// From the row that was touched longest ago to the last one: start with TALLY_EXPIRY_NONE, which also comes after the last. The list must not
// change meanwhile.
static inline uint32_t tally_expiry_next(const struct tally_expiry *expiry, uint32_t id)
{
    return id == TALLY_EXPIRY_NONE ? expiry->oldest : expiry->nodes[id].newer;
}

// When the oldest row's time is over; UINT64_MAX: there is none, or never.
static inline uint64_t tally_expiry_due(const struct tally_expiry *expiry, uint64_t ttl_ms)
{
    if (expiry->oldest == TALLY_EXPIRY_NONE) return UINT64_MAX;
    uint64_t touched = expiry->nodes[expiry->oldest].touched_ms;
    return touched > UINT64_MAX - ttl_ms ? UINT64_MAX : touched + ttl_ms;
}

#endif
