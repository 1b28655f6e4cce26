// SPDX-License-Identifier: Apache-2.0
//
// Inside of the producer core: producer.c (what happens when), producer_log.c (groups of the spool), producer_mine.c.
#ifndef TALLYCAST_EDGE_PRODUCER_INTERNAL_H
#define TALLYCAST_EDGE_PRODUCER_INTERNAL_H

#include "producer.h"

#include <assert.h>
#include <string.h>
#include <tallycast/batch.h>
#include <tallycast/digest.h>
#include <tallycast/limits.h>

// A version, and the epoch in which it was named. Versions go on over epochs, so a batch of an old epoch may be named in a new one (a repeat):
// only when a log is lost do they begin anew, and then the later epoch has nothing of before.
struct place {
    uint64_t epoch, version;
};

static inline bool place_before(struct place a, struct place b) { return a.version < b.version && a.epoch <= b.epoch; }

enum batch_state {
    BATCH_NONE,
    BATCH_WRITING, // made, not durable yet
    BATCH_WAITING, // durable, to be sent at retry_at_ms
    BATCH_SENT,
};

// The batch on its way.
struct flight {
    enum batch_state state;
    struct tally_sums sums;
    struct tally_writer request; // as it is sent
    uint64_t sequence, since_ms;
    uint64_t tries;
    unsigned refusals;       // in a row, of a kind that may come from a request that was damaged on its way
    bool ever_sent, resumed; // resumed: perhaps sent in an earlier life
    // For "mine": what the mirror had for each entry when it was sent first. Null: not known.
    int64_t *base;
    struct place base_place;
};

// An acknowledged batch that the mirror has perhaps not yet.
struct part {
    struct part *next;
    struct tally_sums sums;
    struct place place;
};

struct refusal {
    struct tally_sum sum; // counting and table, which points to `name`
    uint8_t name[TALLY_NAME_BYTES_MAX];
    uint64_t until_ms; // 0: an empty place
};

#define REFUSALS_MAX 64u

enum settled { SETTLED_NOTHING, SETTLED_DONE, SETTLED_PUT_BACK };

struct tally_producer {
    struct tally_producer_options options;
    const struct tally_producer_ops *ops;
    void *ctx;
    const struct tally_alloc *alloc;
    uint8_t dataset[TALLY_NAME_BYTES_MAX];
    uint64_t random;
    uint64_t id, sequence; // of the next batch

    struct tally_sums taking; // of the drain that is under way
    bool taking_whole;        // that drain has ended; what is left of it could not be merged for lack of memory
    uint64_t taking_drain;
    struct tally_sums fresh, tail;
    struct flight flight;
    uint64_t since_ms;    // when the oldest of fresh and tail came; about, after a batch
    uint32_t isolate;     // so many entries at the front of the tail are sent table by table
    enum settled settled; // what the spool does not know yet

    // Ids of what was taken once: the last of them, in a ring.
    uint64_t once[TALLY_PRODUCER_ONCE_MAX];
    uint64_t once_count, once_logged; // ever, of this life; in the spool

    // Writing.
    bool anew;                      // all of it must be written
    bool writing, writing_anew;     // a group is under way
    bool writing_flight;            // it holds the batch, which is durable with it
    uint64_t write_at_ms, write_ms; // when it is tried again; the distance
    uint64_t writing_drain, taken_drain, durable_drain;
    uint64_t written_bytes; // of the group under way
    struct tally_writer group, body, entries, amounts;
    uint8_t logged_name[TALLY_NAME_BYTES_MAX]; // table of the last entry in the group
    uint32_t logged_size;                      // 0: none yet
    enum tally_counting logged_counting;
    enum tally_status write_status;

    // Sending.
    uint32_t server;
    uint64_t request, answer_by_ms, retry_at_ms, retry_ms;
    enum tally_status put_off;
    uint64_t batch_at_ms; // the next batch is not made before

    struct refusal refusals[REFUSALS_MAX];

    // Mine.
    struct part *parts; // oldest first
    uint64_t parts_bytes;
    struct place held; // of the mirror
    struct place gone; // the newest part that was let go of

    bool booted;
    struct tally_producer_stats stats;
};

// producer_log.c. What is written into producer->group; false when memory ended, then the writer is as it was.
void log_begin(struct tally_producer *producer);
bool log_header(struct tally_producer *producer);
bool log_sum(struct tally_producer *producer, const struct tally_sum *sum); // into the tail
bool log_batch(struct tally_producer *producer, uint32_t taken);
bool log_done(struct tally_producer *producer);
bool log_once(struct tally_producer *producer, uint64_t id);
bool log_put_back(struct tally_producer *producer);
// Puts the batch on its way back under the tail, tables together. TALLY_NO_MEMORY: nothing changed.
enum tally_status put_back(struct tally_producer *producer);
// The request of flight.sums, under id and flight.sequence.
enum tally_status encode_request(struct tally_producer *producer);

// producer_mine.c
void mine_sent(struct tally_producer *producer);                      // the batch is sent for the first time
void mine_resolved(struct tally_producer *producer, struct place at); // it is in this version; takes its sums
void mine_unsent(struct tally_producer *producer);                    // it is not, and will not be
void mine_free(struct tally_producer *producer);

#endif
