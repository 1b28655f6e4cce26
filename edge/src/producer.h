// SPDX-License-Identifier: Apache-2.0
//
// The producer core of an edge: takes what was counted here, merged, keeps it in a spool and sends it to a server, so that each count is
// counted there exactly once whoever crashes. It does no I/O: bytes, time and random numbers come in, actions go out through one table of
// functions. The same core runs in the edge and in the simulator.
//
//   take ──► fresh ──write──► tail ──write──► batch ──send──► server
//            (memory)         (durable)       (durable, numbered; one at a time)
//                              ▲ never sent: what comes is merged into it
//
// Only the batch was ever sent, so only the batch has a sequence number and keeps its content until a server has answered. All else is one
// tally, the tail, which grows with the number of its keys and not with time. A batch is made of its oldest keys when no other is on its way, and is
// durable before it is sent.
//
// What becomes of a batch:
//   OK, REPEAT              acknowledged; the answer names the version that holds it
//   BUSY, NO_SPACE ...      again, later, at the next server
//   HOLE, UNKNOWN_PRODUCER  the server has not what it acknowledged, or forgot this producer: again, under a new producer id. Were
//                           both it and its answer lost, it is counted twice: the server's loss cannot be told from that
//   any other               refused: not counted, its number not used. Of several tables: it goes back to the tail, and its tables are
//                           sent each by itself until the one at fault is found. Of one table: it is dropped, counted and told by name,
//                           and the table is refused to who counts, for refuse_ms
//
// "Mine": what a reader adds to the value of a version, so that global plus mine has each count of this edge once; see the functions below.
//
// Threads: an object belongs to one thread, or the caller's lock. The functions of the table are called from inside the inputs and must not
// call back. Memory: what waits, as tally_sums holds it, bounded by the gate; the batch; acknowledged parts that the mirror has not yet.
#ifndef TALLYCAST_EDGE_PRODUCER_H
#define TALLYCAST_EDGE_PRODUCER_H

#include <sums/sums.h>

#define TALLY_PRODUCER_SERVERS_MAX 16u
#define TALLY_PRODUCER_ONCE_MAX    4096u

enum tally_producer_event_kind {
    TALLY_PRODUCER_EVENT_RESUMED, // count: entries that waited in the spool; sequence: of the batch that was on its way, or 0
    TALLY_PRODUCER_EVENT_RENAMED,   // server, status, sequence: the batch that it is sent under a new producer id
    TALLY_PRODUCER_EVENT_REFUSED,   // server, status, text, table, count: entries that were dropped, amount: their sum
    TALLY_PRODUCER_EVENT_PUT_OFF,   // server, status, text: it cannot take a batch now; once a reason
    TALLY_PRODUCER_EVENT_WRITTEN,   // status: the spool cannot be written (each change of it), or can again
    TALLY_PRODUCER_EVENT_FULL,      // the gate closed (status) or opened (TALLY_OK)
    TALLY_PRODUCER_EVENT_UNREADABLE // status: a group of the spool, at start
};

struct tally_producer_event {
    enum tally_producer_event_kind kind;
    enum tally_status status;
    uint32_t server;
    uint64_t sequence, count, amount;
    struct tally_bytes table, text; // text: from the peer: any bytes; borrowed for the call
};

struct tally_producer_ops {
    // Makes a group of records durable: behind those that are there, or, `anew`, in the place of all of them; all of it or nothing. Takes a copy.
    // Its outcome comes by tally_producer_written, later. One at a time.
    void (*write)(void *ctx, bool anew, struct tally_bytes group);
    // Sends a sealed Request to the ingest endpoint of `server`; must not block; borrowed for the call. The outcome comes later with the same
    // number, by tally_producer_answer or _answer_failed, or not at all. A status counts as a failed request.
    enum tally_status (*send)(void *ctx, uint32_t server, uint64_t request, struct tally_bytes bytes);
    // What the newest version of the mirror has for each entry of `sums` (0 for those it has not), and its epoch and version.
    // Null: nobody asks for "mine". A status: not now.
    enum tally_status (*values)(void *ctx, const struct tally_sums *sums, int64_t *out_values, uint64_t *out_epoch,
                                uint64_t *out_version);
    // From now on who counts in this table in this way is answered so; TALLY_OK: no more.
    void (*refuse)(void *ctx, enum tally_counting counting, struct tally_bytes table, enum tally_status status);
    // For logs. May be null.
    void (*event)(void *ctx, const struct tally_producer_event *event);
};

struct tally_producer_options {
    struct tally_bytes dataset; // copied
    uint32_t servers;           // 1 to TALLY_PRODUCER_SERVERS_MAX; all read one log
    uint64_t random;            // the producer id is drawn from it, and the jitter: different at each start
    struct tally_seed seed;     // of hashes: random
    // 0 takes the default.
    uint64_t
        spool_bytes_max; // 64 MiB: of what waits; the spool has at most twice as much, three times while it is written anew
    uint64_t reserve_bytes;     // 0: what may still come when the gate is closed: the most of one take
    uint64_t batch_bytes_max;   // TALLY_BATCH_BYTES_MAX
    uint64_t batch_ms;          // 0: batches are made at least so far apart, so that more is merged
    uint64_t mine_bytes_max;    // 16 MiB: of acknowledged parts that the mirror has not yet
    uint64_t answer_ms;         // 10000: an answer that takes longer is not waited for
    uint64_t retry_ms_min;      // 50: first distance of repeated requests and writes, doubling up to ...
    uint64_t retry_ms_max;      // 2000
    uint64_t refuse_ms;         // 10000: a table that the server refused is refused here for so long
    uint64_t rewrite_bytes_min; // 1 MiB: a spool up to this is not written anew
};

struct tally_producer;

// `ops` and `alloc` are borrowed and must outlive the object. TALLY_INVALID, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_producer_create(const struct tally_producer_options *options,
                                                      const struct tally_producer_ops *ops, void *ctx,
                                                      const struct tally_alloc *alloc,
                                                      struct tally_producer **out_producer);
// Null-safe, clears the pointer. Calls none of the ops.
void tally_producer_destroy(struct tally_producer **producer);

// ---------------------------------------------------------------------------------------------------- inputs

// What the spool has, before anything else: each group in order, then boot_end, which begins to write it anew. TALLY_WRONG_DATASET: the spool is
// another dataset's; TALLY_MALFORMED, TALLY_UNSUPPORTED: not written by this program; TALLY_NO_MEMORY. The object is of no use then.
TALLY_CHECKED enum tally_status tally_producer_boot(struct tally_producer *producer, struct tally_bytes group);
void tally_producer_boot_end(struct tally_producer *producer, uint64_t now_ms);

// One merged count of a drain; then `taken` after the last, with the drain's number, which does not go back. After a status the drain is as if it had not been: what of it
// was taken is forgotten by tally_producer_untake.
TALLY_CHECKED enum tally_status tally_producer_take(struct tally_producer *producer, const struct tally_sum *sum);
void tally_producer_untake(struct tally_producer *producer);
void tally_producer_taken(struct tally_producer *producer, uint64_t now_ms, uint64_t drain);

// What is taken now is what `id` (not 0) stands for, and becomes durable together with that. The last TALLY_PRODUCER_ONCE_MAX are remembered, over
// restarts too: TALLY_REPEAT for one of them, then it is not to be taken.
TALLY_CHECKED enum tally_status tally_producer_take_once(struct tally_producer *producer, uint64_t id);
// Whether it is one of those that are remembered.
bool tally_producer_took_once(const struct tally_producer *producer, uint64_t id);

void tally_producer_written(struct tally_producer *producer, uint64_t now_ms, enum tally_status status);
void tally_producer_answer(struct tally_producer *producer, uint64_t now_ms, uint32_t server, uint64_t request,
                           struct tally_bytes answer);
void tally_producer_answer_failed(struct tally_producer *producer, uint64_t now_ms, uint32_t server, uint64_t request,
                                  enum tally_status status);
// The mirror holds this version now.
void tally_producer_applied(struct tally_producer *producer, uint64_t epoch, uint64_t version);
void tally_producer_tick(struct tally_producer *producer, uint64_t now_ms);

// When it wants to be ticked; UINT64_MAX: not by time.
uint64_t tally_producer_due(const struct tally_producer *producer);

// ---------------------------------------------------------------------------------------------------- what is known

// The highest drain that is durable, with all before it.
uint64_t tally_producer_durable(const struct tally_producer *producer);

// Everything that was taken is durable: all of it would be found again after a crash.
bool tally_producer_kept(const struct tally_producer *producer);

// Nothing waits: everything that was taken is acknowledged.
bool tally_producer_idle(const struct tally_producer *producer);

// TALLY_OK, or TALLY_FULL: what waits may leave no room in the spool for another key. Then the caller takes no new keys, that is
// those that tally_producer_known does not know.
enum tally_status tally_producer_gate(const struct tally_producer *producer);
bool tally_producer_known(const struct tally_producer *producer, const struct tally_sum *sum);

// What this edge counted for a key and a version of the mirror has not: all that was taken and is not in it.
struct tally_mine {
    struct tally_merged mine;
    // The batch that is on its way has this key, and may be in newer versions, nobody knows: the value to add it to is this one, of that version.
    bool based;
    int64_t value;
    uint64_t epoch, version;
    // The same, but what the value was before is not known, for the batch was on its way when the edge started: `mine` may be twice in the total
    // until a server has answered.
    bool in_doubt;
};
// For the value of (epoch, version), of what was counted in this way (of a gauge SET asks for both). No members: what they would add to an estimate
// is not known. TALLY_OLD: parts that this version has not are not kept any more: pin a newer one.
TALLY_CHECKED enum tally_status tally_producer_mine(const struct tally_producer *producer, uint64_t epoch,
                                                    uint64_t version, enum tally_counting counting,
                                                    struct tally_bytes table, struct tally_bytes key,
                                                    struct tally_mine *out_mine);

struct tally_producer_stats {
    uint64_t id, sequence;               // sequence: of the next batch
    uint64_t taken, merged;              // entries taken; of these, merged with what waited already
    uint64_t waiting, waiting_bytes;     // entries that were never sent
    uint64_t in_flight, in_flight_bytes; // of the batch
    uint64_t spool_bytes, writes, write_bytes, rewrites, write_failures;
    uint64_t age_ms;                              // how long the oldest of it waits
    uint64_t batches, batch_bytes, batch_entries; // made
    uint64_t sent, sent_bytes, resends;           // requests
    uint64_t acknowledged, repeats, renamed;      // batches
    uint64_t refused, dropped, dropped_amount;    // batches; entries that were given up, their sum
    uint64_t put_back;                            // batches that were taken apart
    uint64_t failed;                              // requests without an answer, or put off
    uint64_t full;                                // times that the gate closed
    bool gate_closed, failing;                    // failing: the spool cannot be written
};
void tally_producer_stats(const struct tally_producer *producer, uint64_t now_ms,
                          struct tally_producer_stats *out_stats);

#endif
