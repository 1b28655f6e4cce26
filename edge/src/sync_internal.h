// SPDX-License-Identifier: Apache-2.0
//
// Inside of the sync core: sync.c (object, inputs, state), sync_early.c (frames ahead of their turn),
// sync_catch_up.c (asking).
#ifndef TALLYCAST_EDGE_SYNC_INTERNAL_H
#define TALLYCAST_EDGE_SYNC_INTERNAL_H

#include "sync.h"
#include <messages/messages.h>

// A frame whose chain is still missing is given up after so long: by then a catch-up went past it or nobody
// has the rest.
#define EARLY_MS_MAX 30000u
// So many failures in a row in the middle of a whole state, and it is begun anew.
#define STAGING_FAILURES_MAX 3u
// So many messages of a server in a row name less than it said before, and it is believed.
#define BELOW_MAX 8u

struct early_frame {
    uint64_t epoch, from, to;
    uint64_t since_ms;
    uint32_t server;
    uint8_t *data; // owned
    size_t size;
};

struct server {
    bool connected;
    bool check;              // it came up since it was last heard: something may have been missed, so ask once
    uint64_t epoch, version; // newest it said it has since it came up
    uint32_t below;          // messages in a row that named less than that
};

// Rate limit of one kind of event.
struct damper {
    uint64_t next_ms;
    uint64_t count; // since the last event
};

struct tally_sync {
    struct tally_sync_options options;
    char dataset[TALLY_NAME_BYTES_MAX];
    const struct tally_sync_ops *ops;
    void *ctx;
    struct tally_alloc alloc;
    struct tally_sync_now now; // of the input that is being handled
    uint64_t random;

    struct tally_view_info held; // as ops->held last said
    bool booting;
    enum tally_sync_state shown; // last state told by an event

    struct server servers[TALLY_SYNC_SERVERS_MAX];

    // Sorted by (epoch, from, to), no two alike.
    struct early_frame *early;
    uint32_t early_count;

    // The open request.
    bool asking;
    bool asked_whole;       // it asks for the whole state, with (0, 0)
    uint64_t request;       // its number, or that of the last one
    uint32_t asked;         // server
    uint64_t asked_version; // what it was told is held
    uint64_t deadline_ms;

    // When the next one may go out, and to whom first.
    uint64_t ask_at_ms;
    uint32_t failures; // in a row: exponent of the back-off
    uint32_t turn;

    // A whole state, or a change in chunks, on its way.
    bool staging;
    struct tally_whole_cursor cursor;
    uint64_t taken; // chunks and frames taken since this catch-up began

    // Something did not verify: the whole state is wanted.
    bool repair;
    uint32_t repairs;      // in a row, without a delta verified between: exponent of their distance
    uint64_t repair_at_ms; // when it may be asked for

    struct damper refused[TALLY_SYNC_STATUSES];
    struct damper lower_epoch;
    struct tally_writer out; // requests are written here
    struct tally_sync_stats stats;
};

// ---------------------------------------------------------------------------------------------------- sync.c

void sync_emit(struct tally_sync *sync, const struct tally_sync_event *event);
// Counts a refusal, and tells it once in a while.
void sync_refused(struct tally_sync *sync, uint32_t server, enum tally_status status);
void sync_lower_epoch(struct tally_sync *sync, uint32_t server, uint64_t epoch);
// Notes that the server has (epoch, version).
void sync_learned(struct tally_sync *sync, uint32_t server, uint64_t epoch, uint64_t version);
// Brings a frame to the mirror and keeps `held`, stored copy, statistics and the wish for a repair in step
// with what came of it.
enum tally_status sync_apply(struct tally_sync *sync, uint32_t server, struct tally_bytes frame, bool delta);
bool sync_ahead(const struct tally_sync *sync, const struct server *server);
// Whether a server, as far as it said, has less of the held epoch than is held here: it lost something, or its data was put back. It is to be asked
// all the same, once, so that it sees that.
bool sync_fell_back(const struct tally_sync *sync, uint32_t server);
uint64_t sync_backoff(struct tally_sync *sync, uint64_t min_ms, uint64_t max_ms, uint32_t exponent);

// ---------------------------------------------------------------------------------------------------- sync_early.c

// Takes a copy of the frame, unless it is there or too large; makes room by giving up the lowest.
void early_hold(struct tally_sync *sync, uint32_t server, const struct tally_frame_header *header,
                struct tally_bytes frame);
// Applies what has its turn now, drops what is of no use any more.
void early_drain(struct tally_sync *sync);
void early_clear(struct tally_sync *sync);

// ---------------------------------------------------------------------------------------------------- sync_catch_up.c

// Sends a request when one is wanted, allowed and possible.
void catch_up_advance(struct tally_sync *sync);
// A newer version is known, or the held one is in doubt.
bool catch_up_behind(const struct tally_sync *sync);
void catch_up_fail(struct tally_sync *sync, enum tally_status status, struct tally_bytes text);
void catch_up_answer(struct tally_sync *sync, struct tally_bytes message);
void catch_up_abandon(struct tally_sync *sync);

#endif
