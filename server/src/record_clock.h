// SPDX-License-Identifier: Apache-2.0
//
// The time that records are given, of the clock that is handed in with each tick. It never goes back, and it never stands still while the clock
// goes on: what expires, and windows that slide, depend on nothing else.
//
//   the clock is ahead of the last record   the clock's time. A jump ahead is time that passed: nobody can tell it from a machine that slept
//   it is behind (it was set back)          half as fast as the clock goes on, until the clock has caught up
//
// Threads: a value of one thread.
#ifndef TALLYCAST_SERVER_RECORD_CLOCK_H
#define TALLYCAST_SERVER_RECORD_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct tally_record_clock {
    uint64_t time_ms; // what a record would be given now
    uint64_t seen_ms; // the clock, when it was seen last
    uint64_t half_ms; // half a millisecond that is not counted yet: 0 or 1
    bool begun;
};

// The clock says `now_ms`; the last record has `record_ms`. Returns the time of a record of now.
static inline uint64_t tally_record_clock_see(struct tally_record_clock *clock, uint64_t now_ms, uint64_t record_ms)
{
    uint64_t passed = clock->begun && now_ms > clock->seen_ms ? now_ms - clock->seen_ms : 0;
    clock->begun = true;
    clock->seen_ms = now_ms;
    if (clock->time_ms < record_ms) clock->time_ms = record_ms;
    if (now_ms >= clock->time_ms) {
        clock->time_ms = now_ms;
        clock->half_ms = 0;
        return now_ms;
    }
    uint64_t halves = passed % 2 + clock->half_ms, slow = passed / 2 + halves / 2;
    clock->half_ms = halves % 2;
    clock->time_ms += slow < UINT64_MAX - clock->time_ms ? slow : UINT64_MAX - clock->time_ms;
    return clock->time_ms;
}

#endif
