// SPDX-License-Identifier: Apache-2.0
//
// The batches of the tick that is under way: checked against the state and against each other when they come, so that nothing that the state
// would refuse gets into the log; kept verbatim in the record to be; with those who wait for the outcome.
// Threads: belongs to one thread. Cost of an offer: two passes over the batch and a copy.
#ifndef TALLYCAST_SERVER_GATHER_H
#define TALLYCAST_SERVER_GATHER_H

#include "state.h"

struct tally_waiter {
    uint64_t token;
    uint32_t batch; // number in the record, or TALLY_WAITS_DEFINED
};
#define TALLY_WAITS_DEFINED UINT32_MAX

// A batch of the record to be; its number is its place in the list.
struct tally_pending {
    uint64_t producer, sequence;
    uint32_t before; // number of this producer's pending batch before this one, or UINT32_MAX
};

struct tally_gather {
    const struct tally_alloc *alloc;
    struct tally_writer record;
    struct tally_pending *pending; // one a batch
    uint32_t count, capacity;
    uint32_t *index; // producer -> its newest pending batch, plus one
    uint32_t index_bits;
    uint64_t salt;
    struct tally_waiter *waiters;
    uint32_t waiters_count, waiters_capacity, waiters_max;
    uint64_t pending_rows;          // at most so many new rows are pending
    uint32_t definitions;           // pending
    struct tally_table_names names; // tables that pending batches and definitions begin
    bool tables_closed;
    const struct tally_table_names *tables_allowed;
};

struct tally_gather_options {
    bool tables_closed;                             // a batch may begin only ...
    const struct tally_table_names *tables_allowed; // ... these tables; borrowed; null: none
    uint32_t waiters_max;
    uint64_t salt;
};

// TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_gather_init(struct tally_gather *gather,
                                                  const struct tally_gather_options *options,
                                                  const struct tally_alloc *alloc);
void tally_gather_deinit(struct tally_gather *gather);

// Offers a batch (copied). With `waits` the token is kept for the outcome. Returns true when the batch is pending, alone or as a repeat of one that is: its
// verdict comes with the record. False: *out_verdict is the answer now, and nothing was kept: what tally_batch_open and tally_state_admit
// say, TALLY_REPEAT, TALLY_HOLE, TALLY_UNKNOWN_PRODUCER, TALLY_FORBIDDEN (a new table that may not begin), TALLY_BUSY (the record or the list
// of waiters is full), TALLY_NO_MEMORY; *out_refusal tells more, and borrows from the batch.
bool tally_gather_offer(struct tally_gather *gather, const struct tally_state *state, struct tally_bytes batch,
                        bool waits, uint64_t token, struct tally_verdict *out_verdict,
                        struct tally_refusal *out_refusal);

// Offers a complete definition, which will be applied before the batches of the record; with `waits` the token is kept for the outcome, which is
// TALLY_OK. TALLY_INVALID, TALLY_FULL with *out_why, TALLY_BUSY, TALLY_NO_MEMORY: nothing was kept.
TALLY_CHECKED enum tally_status tally_gather_define(struct tally_gather *gather, const struct tally_state *state,
                                                    struct tally_bytes table, const struct tally_definition *definition,
                                                    bool waits, uint64_t token, const char **out_why);

// The sealed record of everything pending, borrowed until the reset. TALLY_NO_MEMORY (nothing changed; it may be tried again).
TALLY_CHECKED enum tally_status tally_gather_cut(struct tally_gather *gather, const struct tally_record_header *header,
                                                 struct tally_bytes *out_record);

// Forgets batches and waiters; keeps the memory.
void tally_gather_reset(struct tally_gather *gather);

static inline uint64_t tally_gather_bytes(const struct tally_gather *gather) { return gather->record.size; }

#endif
