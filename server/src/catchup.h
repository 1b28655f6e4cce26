// SPDX-License-Identifier: Apache-2.0
//
// What to tell an edge that is behind: nothing, frames merged into one, or the whole state in chunks.
//
//   held == newest                                          no frame
//   held inside the retention, and its frames are cheaper   one merged frame, perhaps only a part of the way (MERGE_BYTES_MAX): ask again
//   otherwise                                               chunks of a pinned version, one an answer, by the cursor in the answer
//
// Pinned versions are shared by all who come late: PINS_MAX of them. One is let go when nobody asked on for pin_idle_ms (1 s when it
// holds back more than a little garbage), when it leaves the retention (its reader could not go on from it), or when garbage presses. A cursor into one that is gone: TALLY_GONE.
//
// Threads: belongs to the core's thread.
#ifndef TALLYCAST_SERVER_CATCHUP_H
#define TALLYCAST_SERVER_CATCHUP_H

#include <messages/messages.h>
#include <tallycast/alloc.h>
#include <tallycast/mirror.h>

#include "history.h"

#define TALLY_CATCHUP_PINS_MAX        4u
#define TALLY_CATCHUP_MERGE_BYTES_MAX (8u << 20) // bytes of frames merged for one answer

struct tally_catchup_pin {
    bool used;
    struct tally_view view;
    uint64_t epoch, version;
    uint64_t used_ms;
};

struct tally_catchup {
    const struct tally_alloc *alloc;
    struct tally_mirror *mirror;
    struct tally_reader reader;
    uint64_t pin_idle_ms;
    struct tally_catchup_pin pins[TALLY_CATCHUP_PINS_MAX];
    uint8_t *chunk, *scratch;                      // TALLY_CHUNK_BYTES_MAX each
    struct tally_writer merged;                    // the last merge, kept for those who ask the same
    uint64_t merged_epoch, merged_from, merged_to; // merged_to 0: none
    bool merged_part;                              // ended by MERGE_BYTES_MAX, not by the newest version
};

enum tally_catchup_how {
    TALLY_CATCHUP_CURRENT,
    TALLY_CATCHUP_DELTA,
    TALLY_CATCHUP_WHOLE,
    TALLY_CATCHUP_GONE,
};

// TALLY_NO_MEMORY, TALLY_FULL.
TALLY_CHECKED enum tally_status tally_catchup_init(struct tally_catchup *catchup, struct tally_mirror *mirror,
                                                   uint64_t pin_idle_ms, const struct tally_alloc *alloc);
void tally_catchup_deinit(struct tally_catchup *catchup);

// Fills status, epoch, version (the newest), frame and cursor of the answer; the frame is borrowed until the next call.
// `whole_bytes`: about what a whole state takes. TALLY_NO_MEMORY, otherwise TALLY_OK (with TALLY_GONE in the answer for such a cursor).
TALLY_CHECKED enum tally_status tally_catchup_answer(struct tally_catchup *catchup, const struct tally_history *history,
                                                     const struct tally_catch_up *request, uint64_t whole_bytes,
                                                     uint64_t now_ms, struct tally_answer *out_answer,
                                                     enum tally_catchup_how *out_how);

// Lets go of pins that are idle or outside the retention; with `pressed`, of all. Tells the history from where on the rest needs it.
void tally_catchup_expire(struct tally_catchup *catchup, struct tally_history *history, uint64_t now_ms, bool pressed);
uint32_t tally_catchup_pins(const struct tally_catchup *catchup);

#endif
