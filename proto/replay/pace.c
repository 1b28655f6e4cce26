// SPDX-License-Identifier: Apache-2.0
#include "pace.h"

#include <assert.h>

static struct tally_pace_next step(enum tally_pace_step step, uint32_t count)
{
    return (struct tally_pace_next){.step = step, .count = count};
}

// Nothing newer is held than what the guest has. It may even have more: it was at another edge, which is further.
static bool is_current(const struct tally_pace *pace, const struct tally_recent *recent)
{
    if (recent->last == 0 || pace->epoch > recent->epoch) return true;
    return pace->epoch == recent->epoch && pace->version >= recent->last;
}

// How many of the oldest of `behind` changes fit: at most `count_max`, `bytes_max` in all, each `each_max`.
static uint32_t fitting(const struct tally_recent *recent, uint32_t behind, uint32_t count_max, uint64_t bytes_max,
                        uint64_t each_max)
{
    uint64_t bytes = 0;
    uint32_t count = 0;
    while (count < behind && count < count_max) {
        uint64_t size = tally_recent_at(recent, behind - count)->message->size;
        if (size > each_max || bytes + size > bytes_max) break;
        bytes += size;
        count++;
    }
    return count;
}

static struct tally_pace_next next_change(const struct tally_recent *recent, uint32_t behind,
                                          uint64_t message_bytes_max)
{
    uint32_t run = fitting(recent, behind, TALLY_PACE_RUN_CHANGES, TALLY_PACE_RUN_BYTES, message_bytes_max);
    if (run == behind) return step(TALLY_PACE_RUN, run);
    if (behind > 1) {
        uint32_t merge = fitting(recent, behind, UINT32_MAX, TALLY_PACE_MERGE_BYTES, UINT64_MAX);
        if (merge > 1) return step(TALLY_PACE_MERGE, merge);
    }
    bool fits = tally_recent_at(recent, behind)->message->size <= message_bytes_max;
    return step(fits ? TALLY_PACE_RUN : TALLY_PACE_SPLIT, 1);
}

struct tally_pace_next tally_pace_next(const struct tally_pace *pace, const struct tally_recent *recent,
                                       uint64_t whole_bytes, uint64_t message_bytes_max, uint64_t heartbeat_ms,
                                       uint64_t now_ms)
{
    uint32_t behind;
    if (pace->parts) return step(TALLY_PACE_PART, 1);
    if (is_current(pace, recent)) {
        bool due = !pace->spoke || now_ms - pace->spoke_ms >= heartbeat_ms;
        return step(due ? TALLY_PACE_HEARTBEAT : TALLY_PACE_NOTHING, 0);
    }
    if (!tally_recent_behind(recent, pace->epoch, pace->version, &behind)) return step(TALLY_PACE_WHOLE, 1);
    uint64_t bytes = tally_recent_bytes(recent, behind);
    if (bytes / TALLY_PACE_WHOLE_TIMES > whole_bytes + TALLY_PACE_WHOLE_SLACK) return step(TALLY_PACE_WHOLE, 1);
    return next_change(recent, behind, message_bytes_max);
}

void tally_pace_sent(struct tally_pace *pace, uint64_t epoch, uint64_t version, bool more, uint64_t now_ms)
{
    pace->parts = more;
    pace->spoke = true;
    pace->spoke_ms = now_ms;
    if (more) return;
    assert(epoch > pace->epoch || (epoch == pace->epoch && version > pace->version));
    pace->epoch = epoch;
    pace->version = version;
}

void tally_pace_heartbeat_sent(struct tally_pace *pace, uint64_t now_ms)
{
    pace->spoke = true;
    pace->spoke_ms = now_ms;
}
