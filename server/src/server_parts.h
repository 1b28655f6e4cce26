// SPDX-License-Identifier: Apache-2.0
//
// What the files of the server's core share among themselves.
#ifndef TALLYCAST_SERVER_SERVER_PARTS_H
#define TALLYCAST_SERVER_SERVER_PARTS_H

#include "behind.h"
#include "catchup.h"
#include "gather.h"
#include "record_clock.h"
#include "server.h"
#include "snapshot.h"

// A whole state of at most so many chunks is published; of a larger one only the heartbeat, and edges come and ask.
#define TALLY_WHOLE_CHUNKS_PUBLISHED 8u

struct tally_server {
    struct tally_server_options options; // defaults filled in; dataset points to `dataset`
    uint8_t dataset[TALLY_NAME_BYTES_MAX];
    struct tally_record_log *log;
    struct tally_snapshot_store *snapshots;
    struct tally_memory *memory;
    const struct tally_server_ops *ops;
    void *ctx;
    const struct tally_alloc *alloc;

    struct tally_mirror *mirror;
    struct tally_reader reader; // for queries and snapshots
    bool reader_open;
    struct tally_state state;
    struct tally_gather gather;
    struct tally_record_clock clock;
    struct tally_history history;
    struct tally_catchup catchup;

    bool recovered, stopping;
    enum tally_status failed;
    // Somebody holds a version of this epoch that was never cut here: the next record begins another epoch. Once for a process, so that a peer
    // that lies costs everybody one whole state and no more.
    bool epoch_due, overtaken;
    struct tally_log_identity identity;

    // The version that the state has and the mirror has not taken yet.
    struct tally_writer frame; // topic, then the frame
    struct tally_applied applied;
    bool unverified;
    // server_mirror.c: what the mirror has not taken of the versions before, and perhaps of this one.
    struct tally_behind behind;
    bool noted;                 // this one, too
    bool lost;                  // there was no memory to note it all: the mirror takes the whole state
    struct tally_writer merged; // frame, or chunk, for the mirror alone

    uint64_t published_ms; // last frame or heartbeat
    bool published;        // anything yet

    struct tally_snapshot_writer snapshot;
    struct tally_writer snapshot_out;
    uint64_t snapshot_due;      // version at which the next one begins
    uint64_t snapshot_previous; // version of the newest one that is durable, 0: none
    uint64_t snapshot_behind;   // bytes of the records since the last one began
    uint64_t trim_before;       // 0: nothing to trim

    struct tally_writer answer;
    bool *found;
    int64_t *values;

    struct tally_server_stats stats;
};

void tally_server_tell(struct tally_server *server, enum tally_server_event_kind kind, enum tally_status status,
                       uint64_t version, uint64_t count, const char *text);

// Final: see the top of server.h. Returns `status`.
TALLY_CHECKED enum tally_status tally_server_fail(struct tally_server *server, enum tally_server_event_kind kind,
                                                  enum tally_status status, uint64_t version, const char *text);

// Appends a record to the log and applies it to the state; the frame is then in server->frame, not verified yet.
TALLY_CHECKED enum tally_status tally_server_commit(struct tally_server *server, uint64_t version,
                                                    struct tally_bytes record);
TALLY_CHECKED enum tally_status tally_server_apply(struct tally_server *server, uint64_t version,
                                                   struct tally_bytes record);

// Has the mirror take what the state has, or note it for later: TALLY_OK, TALLY_STALLED (nothing is lost: try again), or the failure that is
// final. Puts the frame into the history.
TALLY_CHECKED enum tally_status tally_server_verify(struct tally_server *server, uint64_t now_ms);

static inline struct tally_bytes tally_server_frame(const struct tally_server *server)
{
    size_t at = server->applied.frame_at;
    return tally_bytes(server->frame.data + at, server->frame.size - at);
}

// Appends and applies a record that begins a new epoch, and nothing else.
TALLY_CHECKED enum tally_status tally_server_new_epoch(struct tally_server *server, uint64_t now_ms, const char *why);

// A bounded piece of a snapshot, or of the trim after it.
void tally_server_store(struct tally_server *server, uint64_t now_ms);

void tally_server_reply_verdict(struct tally_server *server, uint64_t token, const struct tally_verdict *verdict);

// About what a whole state takes on the wire.
uint64_t tally_server_whole_bytes(const struct tally_server *server);

#endif
