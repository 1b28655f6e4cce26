// SPDX-License-Identifier: Apache-2.0
//
// The server's core of one dataset: gathers batches, cuts a record a tick, appends it to the log, applies it to the state, lets
// its own mirror verify the frame, publishes it, acknowledges, answers who is behind, writes snapshots. It has no
// clock, no random numbers and no sockets: bytes, time and seeds come in, actions go out through one table of functions. The daemon
// and the simulator drive this very code.
//
//   request, push ──► gather ──tick──► record ──► log (durable) ──► state ──► frame ──► own mirror (verified)
//                                                                                          │
//                                     publish ◄── history (retention) ◄────────────────────┤
//                                     reply   ◄── verdict of each batch                    │
//
// It stops rather than serve what is not right: when the log does not take a record, when memory ends while a durable record is applied,
// or when the mirror refuses the server's own frame (or several merged, see ops->may_lag), nothing is published or acknowledged, the failing call and every later
// tick give that status, requests are answered with TALLY_BUSY, and the process is to end and start again from snapshot and log.
//
// Threads: an object belongs to one thread (or the caller's lock). The functions of the table are called from inside the inputs
// below, never later, and must not call back. Other threads may read the mirror, each with its own reader.
#ifndef TALLYCAST_SERVER_SERVER_H
#define TALLYCAST_SERVER_SERVER_H

#include <tallycast/alloc.h>
#include <tallycast/mirror.h>

#include "definitions.h"
#include "record_log.h"
#include "snapshot_store.h"

// ---------------------------------------------------------------------------------------------------- events

enum tally_server_level { TALLY_SERVER_DEBUG, TALLY_SERVER_INFO, TALLY_SERVER_WARN, TALLY_SERVER_ERROR };

#define TALLY_SERVER_EVENT_LIST(X)                                                                                     \
    X(NEW, INFO, "new_log")                        /* epoch: nothing was found, a new lineage begins */                \
    X(RECOVERED, INFO, "recovered")                /* epoch, version; count: records replayed */                       \
    X(SNAPSHOT_REFUSED, ERROR, "snapshot_refused") /* version, status, text: an older one is tried */                  \
    X(LOG_REFUSED, ERROR, "log_refused")           /* version, status, text: recovery cannot go on */                  \
    X(CONTINUITY_LOST, WARN, "continuity_lost")    /* epoch (the new one), version, text: why */                       \
    X(EPOCH, WARN, "new_epoch")                    /* epoch, version: two keys shared a fingerprint, or as above */    \
    X(APPEND_FAILED, ERROR, "append_failed")       /* version, status */                                               \
    X(APPLY_FAILED, ERROR, "apply_failed")         /* version, status: out of memory on a durable record */            \
    X(MIRROR_REFUSED, ERROR, "mirror_refused")     /* version, status: its own frame did not verify */                 \
    X(MIRROR_STALLED, WARN, "mirror_stalled")      /* version: readers hold too much; tried again each tick */         \
    X(SNAPSHOT_WRITTEN, INFO, "snapshot_written")  /* version; count: bytes */                                         \
    X(SNAPSHOT_FAILED, ERROR, "snapshot_failed")   /* version, status: the log stays; tried again later */             \
    X(TRIM_FAILED, ERROR, "trim_failed")           /* version, status */                                               \
    X(REQUEST_REFUSED, DEBUG, "request_refused")   /* status, text */                                                  \
    X(DEFINED, INFO, "defined")                    /* version; count: tables that are what the settings say */         \
    X(DEFINITION_REFUSED, ERROR, "definition_refused") /* status, text: the settings do not fit what is there */       \
    X(STOPPED, INFO, "stopped")                        /* epoch, version */

enum tally_server_event_kind {
#define X(name, level, text) TALLY_SERVER_EVENT_##name,
    TALLY_SERVER_EVENT_LIST(X)
#undef X
};

struct tally_server_event {
    enum tally_server_event_kind kind;
    enum tally_server_level level;
    const char *name; // of the list above
    enum tally_status status;
    uint64_t epoch, version, count;
    const char *text; // for people; "" when there is nothing to add; borrowed for the call
};

// ---------------------------------------------------------------------------------------------------- actions

struct tally_server_ops {
    // Sends a message to all subscribers: topic, kind and sealed message, as PUB sends it. Must not block. May drop.
    void (*publish)(void *ctx, struct tally_bytes message);
    // The answer to the request with this token; exactly one for each request, perhaps from within tally_server_request,
    // unless the server failed or was stopped before: then the rest get none, and the peer asks again elsewhere or later.
    void (*reply)(void *ctx, uint64_t token, struct tally_bytes answer);
    // For logs. May be null.
    void (*event)(void *ctx, const struct tally_server_event *event);
    // Calls one(one_ctx) and other(other_ctx), in any order or at the same time in two threads, and returns when both have returned. They
    // share nothing that either changes, and call none of the ops. May be null: one after the other. Called by tally_server_recover.
    void (*both)(void *ctx, void (*one)(void *), void *one_ctx, void (*other)(void *), void *other_ctx);
    // Whether the mirror may stay behind a version of many changes: nobody reads it. Called before anything of that version is told to anyone,
    // for each version anew. From true on, whoever is about to read must have tally_server_current called first. May be null: it never stays behind.
    bool (*may_lag)(void *ctx);
    // The mirror is at the newest version again. May be null.
    void (*current)(void *ctx);
};

// ---------------------------------------------------------------------------------------------------- object

struct tally_named_definition {
    struct tally_bytes table;
    struct tally_definition definition;
};

struct tally_server_options {
    struct tally_bytes dataset; // copied
    // For a log that is new or whose continuity cannot be proven: Unix milliseconds << 20 | 20 random bits, and 128 random bits.
    uint64_t epoch_new;
    struct tally_seed seed_new;
    // Why what is found may be older than what was served from it once; null: it is not. Found data then begins a new epoch.
    const char *doubt;
    bool tables_closed;                             // batches that would begin another table than ...
    const struct tally_table_names *tables_allowed; // ... these are refused; must outlive the object; null: none
    // What tables are to be, complete; those that are not so yet are defined when the server has recovered. Must outlive the object.
    const struct tally_named_definition *definitions;
    size_t definitions_count;
    // 0 takes the default.
    uint64_t heartbeat_ms;       // 1000: distance of heartbeats when nothing is published
    uint32_t retention_versions; // 4096: frames kept for those who are behind ...
    uint64_t retention_bytes;    // 64 MiB: ... and their bytes
    uint64_t snapshot_every;     // 10000 records between two snapshots, or ...
    uint64_t
        snapshot_log_bytes; // 256 MiB: ... so many bytes of them, or of half a snapshot if that is more, so that a restart has
                            // about as much to replay as to load at most
    uint32_t snapshot_chunks; // 4: chunks of a snapshot written in one tick
    uint64_t pin_idle_ms;     // 10000: a whole state that nobody asks on for so long is let go
    uint32_t waiters_max;     // 65536: requests waiting for one tick
    uint32_t lag_versions;    // 16: versions that the mirror may be behind while nobody reads it ...
    uint32_t lag_changes;     // 4096: ... each of which changed so many rows or more, and a 64th of all
    // For tests only. 0: none. Two keys count as clashing when their fingerprints agree in these bits.
    uint64_t clash_mask;
    uint32_t frame_bytes_max; // 0: that of limits.h
};

struct tally_server;

// `log`, `snapshots` (may be null: none are written or read), `memory` (for the mirror; fresh), `ops` and `alloc` are borrowed and must
// outlive the object. TALLY_INVALID, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_server_create(const struct tally_server_options *options,
                                                    struct tally_record_log *log,
                                                    struct tally_snapshot_store *snapshots, struct tally_memory *memory,
                                                    const struct tally_server_ops *ops, void *ctx,
                                                    const struct tally_alloc *alloc, struct tally_server **out_server);

// Frees it and clears the pointer; null-safe; calls none of the ops. No other reader of the mirror may be reading any more.
void tally_server_destroy(struct tally_server **server);

// Once, first: loads the newest snapshot that verifies, replays the log behind it, and begins a new epoch where continuity cannot be proven
// (with a record of its own, so that it is part of the log). A log and snapshots of another dataset: TALLY_WRONG_DATASET. What cannot be put
// together again is refused with TALLY_CORRUPT and an event that says what is wrong: nothing is overwritten. Definitions of the options that
// do not fit what is there: TALLY_INVALID, and an event. TALLY_NO_MEMORY, TALLY_IO,
// TALLY_NO_SPACE, TALLY_UNSUPPORTED. Cost: that of everything found; blocks.
TALLY_CHECKED enum tally_status tally_server_recover(struct tally_server *server, uint64_t now_ms);

// ---------------------------------------------------------------------------------------------------- inputs

enum tally_endpoint {
    TALLY_ENDPOINT_INGEST,   // batch, hello
    TALLY_ENDPOINT_CATCH_UP, // catch_up, query, hello
};

// A request, borrowed for the call. Whatever the bytes, the answer comes through ops->reply with this token.
void tally_server_request(struct tally_server *server, enum tally_endpoint endpoint, uint64_t token,
                          struct tally_bytes request, uint64_t now_ms);

// A batch that nobody waits for. What is refused is counted.
void tally_server_push(struct tally_server *server, struct tally_bytes request, uint64_t now_ms);

// What a table is to be from the next record on; kind unspecified: as it is. The answer comes through ops->reply with this token: TALLY_OK
// with the version when it is durable; TALLY_INVALID, TALLY_LIMIT, TALLY_FULL, TALLY_BUSY, TALLY_NO_MEMORY with words that say why.
void tally_server_define(struct tally_server *server, uint64_t token, struct tally_bytes table,
                         const struct tally_definition *definition);

// Cuts the record of what was gathered since the last tick, if there is anything, and takes it all the way; publishes a heartbeat when one is due;
// does a bounded piece of whatever snapshot or trim is under way. Any status but TALLY_OK is final: see the top.
TALLY_CHECKED enum tally_status tally_server_tick(struct tally_server *server, uint64_t now_ms);

// Has the mirror take what it stayed behind; it never does when ops->may_lag is null. Nothing happens when it is at the newest version. TALLY_STALLED:
// readers hold too many old versions, try again later. Any other status but TALLY_OK is final, as of tick. Cost: an apply of what changed.
TALLY_CHECKED enum tally_status tally_server_current(struct tally_server *server, uint64_t now_ms);

// True when it is worth to tick before the time: the record has room for two more batches of the largest size.
bool tally_server_hurry(const struct tally_server *server);

// A last tick; from now on requests are answered with TALLY_BUSY. Status as tick.
TALLY_CHECKED enum tally_status tally_server_stop(struct tally_server *server, uint64_t now_ms);

// ---------------------------------------------------------------------------------------------------- what is known

// For readers of other threads: see ops->may_lag.
struct tally_mirror *tally_server_mirror(struct tally_server *server);

struct tally_server_stats {
    uint64_t epoch, version, cut_ms;
    struct tally_digest digest;
    uint64_t rows;
    uint32_t tables, producers;
    uint64_t requests, pushes;        // received
    uint64_t batches, batch_bytes;    // taken into records
    uint64_t events;                  // entries of batches that were counted
    uint64_t amounts;                 // their sum, modulo 2^64: the events of producers that merge
    uint64_t repeats, holes, refused; // batches that were not, by reason
    uint64_t busy;                    // requests turned away because the tick was full
    uint64_t expired, slid;           // rows that left because they were idle; amounts that left a window
    uint64_t overflowed;              // entries of keys beyond a table's max_keys
    uint64_t saturated;               // counters that stopped at the greatest value
    uint64_t clashes;                 // fingerprint clashes since the start
    uint64_t records, record_bytes;   // appended
    uint64_t frames, frame_bytes;     // published
    uint64_t rows_changed;            // rows removed, changed and added by them
    uint64_t rows_added, added_bytes; // of those the new ones, and the bytes of the columns that bring them
    uint64_t heartbeats;
    uint64_t catch_ups_current, catch_ups_delta, catch_ups_whole, catch_ups_gone;
    uint64_t catch_up_bytes; // frames and chunks in answers
    uint64_t chunks;         // in answers
    uint64_t queries;
    uint64_t history_versions, history_bytes; // kept now
    uint64_t pins;                            // whole states held for late joiners now
    uint64_t snapshots, snapshot_version;
    uint64_t pending_batches, pending_bytes;
    uint32_t mirror_behind;   // versions
    enum tally_status failed; // TALLY_OK while it works
};

void tally_server_stats(const struct tally_server *server, struct tally_server_stats *out_stats);

#endif
