// SPDX-License-Identifier: Apache-2.0
//
// The pace of one guest of a stream: what to send it next, each time that it has taken what it was sent before. Nothing is queued for a guest; it has a
// place, and what it needs from there is looked up when it can take more. So a slow guest costs a place, and gets more in one message.
//
//   at the newest version          nothing, or a heartbeat when it was silent for long
//   a little behind                the changes as they are, several in one go
//   further behind                 several changes merged into one
//   behind all that is kept,       the whole state, in parts
//   or so far that it is cheaper
//   in the middle of a change      its next part, whatever happens meanwhile: a guest cannot take parts of two changes
//
// Threads: an object belongs to one thread. No clock: `now_ms` is handed in, and never goes back.
#ifndef TALLYCAST_REPLAY_PACE_H
#define TALLYCAST_REPLAY_PACE_H

#include "recent.h"

// The changes that go out in one go as they are.
#define TALLY_PACE_RUN_CHANGES 16u
#define TALLY_PACE_RUN_BYTES   (64u << 10)
// Bytes of changes that are merged into one, which fits a message then: merging makes nothing larger. At least two of them.
#define TALLY_PACE_MERGE_BYTES (960u << 10)
// Changes are preferred to a whole state while they have at most so many times its bytes (merged they may be less than one), and a little.
#define TALLY_PACE_WHOLE_TIMES 4u
#define TALLY_PACE_WHOLE_SLACK (64u << 10)

enum tally_pace_step {
    TALLY_PACE_NOTHING,   // there is nothing to say now
    TALLY_PACE_HEARTBEAT, // that this is the newest version
    TALLY_PACE_RUN,       // the next `count` changes as they are, each fits a message
    TALLY_PACE_MERGE,     // the next `count` changes (2 or more) merged into one
    TALLY_PACE_SPLIT,     // the next change, in parts: it does not fit a message
    TALLY_PACE_WHOLE,     // the whole state, in parts
    TALLY_PACE_PART,      // the next part of the change that is on its way
};

struct tally_pace_next {
    enum tally_pace_step step;
    uint32_t count;
};

struct tally_pace {
    uint64_t epoch, version; // what the guest holds when all has arrived that was sent
    bool parts;              // a change is on its way in parts
    bool spoke;              // anything was sent yet
    uint64_t spoke_ms;       // when
};

static inline struct tally_pace tally_pace(uint64_t epoch, uint64_t version)
{
    return (struct tally_pace){.epoch = epoch, .version = version};
}

// What to do for a guest that can take more. `whole_bytes`: about what a whole state takes.
struct tally_pace_next tally_pace_next(const struct tally_pace *pace, const struct tally_recent *recent,
                                       uint64_t whole_bytes, uint64_t message_bytes_max, uint64_t heartbeat_ms,
                                       uint64_t now_ms);

// It was done: the guest is at (epoch, version) when that has arrived; with `more`, parts of it are yet to come.
void tally_pace_sent(struct tally_pace *pace, uint64_t epoch, uint64_t version, bool more, uint64_t now_ms);
void tally_pace_heartbeat_sent(struct tally_pace *pace, uint64_t now_ms);

#endif
