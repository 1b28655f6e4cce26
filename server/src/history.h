// SPDX-License-Identifier: Apache-2.0
//
// The newest frames of one epoch, kept for those who are behind: a ring, bounded in frames and bytes. Threads: belongs to one thread.
#ifndef TALLYCAST_SERVER_HISTORY_H
#define TALLYCAST_SERVER_HISTORY_H

#include <tallycast/alloc.h>
#include <tallycast/bytes.h>
#include <tallycast/status.h>

#define TALLY_HISTORY_STRETCH 4u

struct tally_history {
    const struct tally_alloc *alloc;
    struct tally_bytes *frames; // ring: the frame to version v is at (v % versions_max)
    uint32_t versions_max;
    uint64_t bytes_max;
    uint64_t epoch;
    uint64_t first, last; // frames lead from version `first` to `last`; equal: none is kept
    uint64_t bytes;
    uint64_t needed_from; // not 0: somebody is on the way to this version and will go on from it; then the bytes may
                          // grow to TALLY_HISTORY_STRETCH times their bound
};

TALLY_CHECKED enum tally_status tally_history_init(struct tally_history *history, uint32_t versions_max,
                                                   uint64_t bytes_max, const struct tally_alloc *alloc);
void tally_history_deinit(struct tally_history *history);

// Forgets everything: (epoch, version) is the place from which frames come.
void tally_history_restart(struct tally_history *history, uint64_t epoch, uint64_t version);

// Keeps a copy of the frame from `last` to `last + 1`, letting go of the oldest as far as needed. When there is no memory, it forgets everything
// instead (who is behind gets a whole state): it cannot fail.
void tally_history_add(struct tally_history *history, struct tally_bytes frame);

// Whether the frames from `version` on are kept (also when there are none to come).
bool tally_history_has(const struct tally_history *history, uint64_t epoch, uint64_t version);

// The frame that leads to `version`, first < version <= last. Borrowed until the next add or restart.
struct tally_bytes tally_history_frame(const struct tally_history *history, uint64_t version);

// Bytes of the frames from `version` (which it has) to the newest.
uint64_t tally_history_bytes_from(const struct tally_history *history, uint64_t version);

#endif
