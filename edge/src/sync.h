// SPDX-License-Identifier: Apache-2.0
//
// The sync core of an edge: keeps one mirror at the newest version that any of several servers has, whatever the
// network loses, repeats, reorders or damages. It does no I/O: bytes, time and a seed for its random numbers come in,
// actions go out through one table of functions. The same core runs in the edge and in the simulator.
//
//            boot_begin            boot_end, something held
//   COLD ──────────────► BOOTING ───────────────────────────► CATCHING_UP ◄──────────► LIVE
//    │                      │ boot_end, nothing held            ▲   a server has more │  nothing newer is
//    │◄─────────────────────┘                                   │
//    └──────────────────────────────────────────────────────────┘  a server has something to ask for
//
//   STALE is shown in place of CATCHING_UP or LIVE while the age of the held version is over max_age_ms.
//
// What it promises:
//   - (epoch, version) of the mirror never goes back; a greater epoch wins, data of a lower one is ignored;
//   - it asks for what is missing as long as a reachable server is known to have it, one request at a time, and never in
//     a hot loop: failed requests and failed repairs are repeated at a jittered, exponentially growing distance;
//   - memory is bounded: at most early_frames_max frames of early_bytes_max bytes in all are held ahead of their turn;
//   - no message from outside harms: what is malformed, corrupt, of another dataset or does not verify is counted and
//     dropped.
//
// Threads: an object belongs to one thread. The functions of the table are called from inside the inputs below, never
// later, and must not call back into the core.
#ifndef TALLYCAST_EDGE_SYNC_H
#define TALLYCAST_EDGE_SYNC_H

#include <tallycast/alloc.h>
#include <tallycast/mirror.h>

#define TALLY_SYNC_SERVERS_MAX 16u
#define TALLY_SYNC_STATUSES    32u // size of arrays indexed by enum tally_status

// Two clocks. `monotonic_ms` never goes back and drives timeouts; `unix_ms` may jump and is only compared with the
// times that servers put into frames and heartbeats.
struct tally_sync_now {
    uint64_t monotonic_ms;
    uint64_t unix_ms;
};

enum tally_sync_state {
    TALLY_SYNC_COLD,        // nothing is held and no server is known to have anything
    TALLY_SYNC_BOOTING,     // the stored copy is being read
    TALLY_SYNC_CATCHING_UP, // a newer version is known or may exist, and is being asked for
    TALLY_SYNC_LIVE,        // nothing newer than the held version is known
    TALLY_SYNC_STALE,       // the held version is older than max_age_ms
};

// "cold", "booting", "catching_up", "live", "stale".
const char *tally_sync_state_str(enum tally_sync_state state);

// ---------------------------------------------------------------------------------------------------- events

enum tally_sync_event_kind {
    TALLY_SYNC_EVENT_STATE,          // state_from -> state_to
    TALLY_SYNC_EVENT_CONNECTED,      // server
    TALLY_SYNC_EVENT_DISCONNECTED,   // server
    TALLY_SYNC_EVENT_EPOCH,          // the mirror moved to (epoch, version) of a new epoch
    TALLY_SYNC_EVENT_GAP,            // server published a frame to `version` ahead of its turn; once while it is open
    TALLY_SYNC_EVENT_CATCH_UP,       // a catch-up ended well at (epoch, version); count: chunks and frames it took
    TALLY_SYNC_EVENT_REQUEST_FAILED, // server, status, text (may be empty)
    TALLY_SYNC_EVENT_REFUSED,     // server (or TALLY_SYNC_NO_SERVER), status; count: so many since the last such event
    TALLY_SYNC_EVENT_LOWER_EPOCH, // server offers only the older `epoch`; count as above
};

#define TALLY_SYNC_NO_SERVER UINT32_MAX

struct tally_sync_event {
    enum tally_sync_event_kind kind;
    uint32_t server;
    enum tally_status status;
    enum tally_sync_state state_from, state_to;
    uint64_t epoch, version;
    uint64_t count;
    struct tally_bytes text; // from the peer: any bytes; borrowed for the call
};

// ---------------------------------------------------------------------------------------------------- actions

enum tally_sync_persist {
    TALLY_SYNC_PERSIST_DELTA,  // `frame` alone leads from the version held before to the one held now: append it
    TALLY_SYNC_PERSIST_REBASE, // the way there was a whole state or came in chunks: write the held state anew. No frame
};

struct tally_sync_ops {
    // tally_mirror_apply of the one mirror. Any status that it may give. Called for published frames, answers and the
    // stored copy.
    enum tally_status (*apply)(void *ctx, struct tally_bytes frame);
    // tally_mirror_confirm, tally_mirror_abandon.
    void (*confirm)(void *ctx, uint64_t epoch, uint64_t version, uint64_t now_ms);
    void (*abandon)(void *ctx);
    // tally_view_info of the newest version; epoch and version 0 when nothing is held.
    void (*held)(void *ctx, struct tally_view_info *out_info);
    // Sends a sealed Request to the catch-up endpoint of `server`; must not block; `bytes` is borrowed for the call.
    // The outcome comes later by tally_sync_answer or tally_sync_answer_failed with the same `request` (numbers never
    // repeat), or not at all: the core has its own timeout. At most one request is open: a send means that any
    // earlier one is given up and may be cancelled. May be called before the answer that is being taken was applied. A status other than TALLY_OK counts as a failed request.
    enum tally_status (*send)(void *ctx, uint32_t server, uint64_t request, struct tally_bytes bytes);
    // A version was published that the stored copy does not have. May do I/O; has no say in what happens. May be
    // null.
    void (*persist)(void *ctx, enum tally_sync_persist kind, struct tally_bytes frame);
    // For logs. May be null.
    void (*event)(void *ctx, const struct tally_sync_event *event);
};

// ---------------------------------------------------------------------------------------------------- object

struct tally_sync_options {
    struct tally_bytes dataset; // copied
    uint32_t servers;           // 1 to TALLY_SYNC_SERVERS_MAX
    uint64_t random;            // seed of the jitter: different at each edge
    // 0 takes the default.
    uint64_t max_age_ms;         // 5000
    uint32_t early_frames_max;   // 1024
    uint64_t early_bytes_max;    // 64 MiB
    uint64_t request_timeout_ms; // 5000
    uint64_t retry_ms_min;       // 100: first distance of repeated requests (half of it to all of it, at random) ...
    uint64_t retry_ms_max;       // 10000: ... doubling up to this
    uint64_t repair_ms_min;      // 500: the same for whole states asked for because something did not verify
    uint64_t repair_ms_max;      // 60000
    uint64_t log_ms;             // 10000: REFUSED and LOWER_EPOCH events of one kind are at least so far apart
};

struct tally_sync;

// `ops` is borrowed and must outlive the object, as must `alloc` and what ctx points to. TALLY_INVALID,
// TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_sync_create(const struct tally_sync_options *options,
                                                  const struct tally_sync_ops *ops, void *ctx,
                                                  const struct tally_alloc *alloc, struct tally_sync **out_sync);

// Frees it and clears the pointer. Null-safe. Calls none of the ops.
void tally_sync_destroy(struct tally_sync **sync);

// ---------------------------------------------------------------------------------------------------- inputs

// The stored copy, before anything else: begin, then its messages in order, then end. A message that is refused gives
// its status: the ones before it stay applied, the ones after it are of no use. TALLY_OK and TALLY_MORE are success.
// A whole state that ends early is abandoned by `end`.
void tally_sync_boot_begin(struct tally_sync *sync, struct tally_sync_now now);
TALLY_CHECKED enum tally_status tally_sync_boot_message(struct tally_sync *sync, struct tally_sync_now now,
                                                        struct tally_bytes frame);
void tally_sync_boot_end(struct tally_sync *sync, struct tally_sync_now now);

// The subscription to a server came up or went down. Only servers that are up are asked.
void tally_sync_connected(struct tally_sync *sync, struct tally_sync_now now, uint32_t server);
void tally_sync_disconnected(struct tally_sync *sync, struct tally_sync_now now, uint32_t server);

// A published message with its topic, borrowed for the call.
void tally_sync_message(struct tally_sync *sync, struct tally_sync_now now, uint32_t server,
                        struct tally_bytes message);

// What became of a request. Late answers (of a request that was given up) are counted and dropped.
void tally_sync_answer(struct tally_sync *sync, struct tally_sync_now now, uint32_t server, uint64_t request,
                       struct tally_bytes answer);
void tally_sync_answer_failed(struct tally_sync *sync, struct tally_sync_now now, uint32_t server, uint64_t request,
                              enum tally_status status);

// Time passes: to be called by tally_sync_due at the latest, oftener does no harm.
void tally_sync_tick(struct tally_sync *sync, struct tally_sync_now now);

// The monotonic time of the next timeout or retry; UINT64_MAX: none. It does not include going stale, for which a
// tick every 100 ms or so is needed.
uint64_t tally_sync_due(const struct tally_sync *sync);

// ---------------------------------------------------------------------------------------------------- what is known

struct tally_sync_stats {
    uint64_t messages, message_bytes;    // published messages received
    uint64_t answers, answer_bytes;      // answers received, late ones included
    uint64_t heartbeats;                 // good ones
    uint64_t frames_applied;             // versions published in the mirror, whole states included, the stored copy not
    uint64_t frames_old;                 // held already
    uint64_t frames_lower_epoch;         // of an epoch older than the held one
    uint64_t early_frames, early_bytes;  // held now, ahead of their turn
    uint64_t early_total, early_dropped; // held ever; given up because the bound was reached
    uint64_t gaps;                       // times that a hole opened
    uint64_t requests, requests_failed, requests_timed_out, answers_late;
    uint64_t catch_ups_current; // requests answered with "nothing newer"
    uint64_t catch_ups_delta;   // versions published from merged frames
    uint64_t catch_ups_whole;   // versions published from whole states
    uint64_t chunks;            // chunks staged
    uint64_t restarts;          // whole states started again: the server had let go of the version
    uint64_t repairs;           // whole states wanted because something did not verify
    uint64_t booted;            // messages of the stored copy that were applied
    uint64_t refused[TALLY_SYNC_STATUSES];
};

struct tally_sync_server_info {
    bool connected;
    uint64_t epoch, version; // newest that it said it has; 0: nothing yet
};

struct tally_sync_info {
    enum tally_sync_state state;
    struct tally_view_info held;
    uint64_t newest; // newest version known in the held epoch
    uint64_t lag;    // newest - held.version
    uint64_t age_ms; // 0 when nothing is held
};

void tally_sync_info(const struct tally_sync *sync, struct tally_sync_now now, struct tally_sync_info *out_info);
void tally_sync_server_info(const struct tally_sync *sync, uint32_t server, struct tally_sync_server_info *out_info);
const struct tally_sync_stats *tally_sync_stats(const struct tally_sync *sync);

#endif
