// SPDX-License-Identifier: Apache-2.0
//
// The newest changes of one epoch as messages, each from one version to a later one (not always the next: an edge that was behind takes several in
// one), each beginning where the one before ends. Bounded in number and bytes; the oldest go first.
//
//   first ──►────►──►─────────►──► last          a guest at any of these places can go on from there
//
// Threads: belongs to one thread, or to the caller's lock.
#ifndef TALLYCAST_REPLAY_RECENT_H
#define TALLYCAST_REPLAY_RECENT_H

#include <stdbool.h>
#include <tallycast/status.h>

#include "message.h"

struct tally_recent_change {
    uint64_t from, to;
    uint64_t bytes_before; // of all changes that were ever added before it
    struct tally_message *message;
};

struct tally_recent {
    const struct tally_alloc *alloc;
    struct tally_recent_change *ring;
    uint32_t changes_max, start, count;
    uint64_t bytes_max, bytes, bytes_total; // kept now; ever added
    uint64_t epoch;
    uint64_t first, last; // equal: none is kept
};

// TALLY_INVALID for changes_max 0, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_recent_init(struct tally_recent *recent, uint32_t changes_max, uint64_t bytes_max,
                                                  const struct tally_alloc *alloc);
void tally_recent_deinit(struct tally_recent *recent);

// Forgets everything: (epoch, version) is the place from which changes come.
void tally_recent_restart(struct tally_recent *recent, uint64_t epoch, uint64_t version);

// Takes the change from `last` to `to`, and the caller's hold of the message. One that is larger than the bound is not kept, nor is anything before it.
void tally_recent_add_take(struct tally_recent *recent, uint64_t to, struct tally_message *message);

// How many changes lead from `version` to the newest; false when they are not kept (any more), or none ever began there. Cost: O(log count).
bool tally_recent_behind(const struct tally_recent *recent, uint64_t epoch, uint64_t version, uint32_t *out_count);

// The change that is `behind` changes before the end: 1 the newest, to count. Borrowed until the next add or restart.
const struct tally_recent_change *tally_recent_at(const struct tally_recent *recent, uint32_t behind);

// Bytes of the newest `behind` changes.
uint64_t tally_recent_bytes(const struct tally_recent *recent, uint32_t behind);

#endif
