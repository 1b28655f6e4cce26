// SPDX-License-Identifier: Apache-2.0
//
// From the one thread that takes versions to the HTTP threads that send them on: the newest version, and the recent changes as messages that
// all guests share. A frame is copied once, whatever the number of guests.
//
// Threads. The owner's functions on one thread at a time, the others on any. A mutex is held for as long as it takes to look something up.
#ifndef TALLYCAST_IO_FEED_H
#define TALLYCAST_IO_FEED_H

#include <replay/pace.h>
#include <tallycast/mirror.h>

struct tally_feed;

struct tally_feed_options {
    struct tally_bytes dataset; // copied
    uint32_t changes_max;       // 0: 4096
    uint64_t bytes_max;         // of recent changes
};

// TALLY_INVALID, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_feed_create(const struct tally_feed_options *options,
                                                  struct tally_feed **out_feed);
void tally_feed_destroy(struct tally_feed **feed); // nobody listens any more; null is fine

// ---------------------------------------------------------------------------------------------------- the owner

// `held` was reached by `frame` alone, a delta in one piece, from what was held before. Without memory for it the changes begin anew at `held`.
void tally_feed_frame(struct tally_feed *feed, const struct tally_view_info *held, struct tally_bytes frame);
// `held` was reached in any other way: guests that are elsewhere get the whole state.
void tally_feed_restart(struct tally_feed *feed, const struct tally_view_info *held);
// Who is asked said at its time `now_ms` that (epoch, version) is the newest. Nothing happens when that is not what is held.
void tally_feed_fresh(struct tally_feed *feed, uint64_t epoch, uint64_t version, uint64_t now_ms);

// The mirror takes no more versions before pinned ones are let go: guests who are in one lose it, and are to come again.
void tally_feed_press(struct tally_feed *feed);

// ---------------------------------------------------------------------------------------------------- listeners

// From now on `wake` is called, on the owner's thread and without the lock, after each change; it must not block. TALLY_FULL.
TALLY_CHECKED enum tally_status tally_feed_listen(struct tally_feed *feed, void (*wake)(void *ctx), void *ctx);
// Afterwards `wake` is not called with `ctx` any more, nor is it running.
void tally_feed_leave(struct tally_feed *feed, void *ctx);

// What a guest is to be sent.
struct tally_feed_next {
    struct tally_pace_next pace;
    uint64_t epoch, from, to;                               // where RUN, MERGE and SPLIT lead
    uint32_t count;                                         // of messages
    struct tally_message *messages[TALLY_PACE_RUN_CHANGES]; // RUN, SPLIT: held for the caller, who releases them
    struct tally_view_info held;
};

// tally_pace_next on what is recent.
void tally_feed_next(struct tally_feed *feed, const struct tally_pace *pace, uint64_t heartbeat_ms, uint64_t now_ms,
                     struct tally_feed_next *out_next);

// The `count` changes from `version` on (as MERGE says), to be merged: *out_messages is an array for free(), each held for the caller.
// TALLY_GONE when they are not kept any more, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_feed_changes(struct tally_feed *feed, uint64_t epoch, uint64_t version,
                                                   uint32_t count, struct tally_message ***out_messages,
                                                   uint64_t *out_to);

// The first change from `version` on, held for the caller; null when it is not kept any more.
struct tally_message *tally_feed_change(struct tally_feed *feed, uint64_t epoch, uint64_t version, uint64_t *out_to);

// Whether guests at (epoch, version) can go on by changes, and how many bytes they have to take. Status TALLY_GONE: they cannot.
TALLY_CHECKED enum tally_status tally_feed_distance(struct tally_feed *feed, uint64_t epoch, uint64_t version,
                                                    uint64_t *out_bytes, uint64_t *out_whole_bytes);

// A whole state took so many bytes: better than the guess that is made from the number of rows.
void tally_feed_whole_took(struct tally_feed *feed, uint64_t bytes, uint64_t rows);

// A Heartbeat message of what is held now, whose version is as fresh as held.fresh_ms. Null without memory.
struct tally_message *tally_feed_heartbeat(const struct tally_feed *feed, const struct tally_view_info *held);

// How often it was pressed.
uint64_t tally_feed_presses(const struct tally_feed *feed);

void tally_feed_held(struct tally_feed *feed, struct tally_view_info *out_held);
void tally_feed_kept(struct tally_feed *feed, uint32_t *out_changes, uint64_t *out_bytes);

#endif
