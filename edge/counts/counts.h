// SPDX-License-Identifier: Apache-2.0
//
// Counting inside an edge: the one way by which HTTP threads, the StatsD loop and guests' threads count. What they count is merged
// here, in memory that many threads share, and emptied by the edge's loop at each tick of `count-tick`, into the spool and on to a server.
//
//     thread ── counter ──┐
//     thread ── counter ──┼─► counts ──drain, a tick──► producer ──► spool (durable) ──► server
//     thread ── counter ──┘
//
// A thread joins once and keeps its counter; a counter belongs to one thread at a time. Everything that takes a counter may be called from its
// thread at any time between join and leave.
//
// What an answer means. TALLY_OK: it is merged, in memory: it will be counted exactly once, unless the process dies before the spool has it.
// Who must know waits for that with tally_counts_wait. Anything else: it is not merged, will not be counted, and is in the stats.
//
// Cost of an addition to a counter: that of tally_map_add (tally.h), and a look into a cache of tables' names: about 50 ns, no lock. Other kinds,
// counters of more than 64 tables and amounts over 2^53 take a mutex that is held for a hash look-up.
// Limits: TALLY_COUNTS_THREADS_MAX threads; keys and names as limits.h says; memory as in the options, fixed.
#ifndef TALLYCAST_EDGE_COUNTS_H
#define TALLYCAST_EDGE_COUNTS_H

#include <sums/sums.h>
#include <tallycast/tally.h>

#define TALLY_COUNTS_THREADS_MAX (TALLY_MEMBERS_MAX - 1u) // one place is the drain's

struct tally_counts;
struct tally_counter;

// ---------------------------------------------------------------------------------------------------- counting: any thread

// The calling thread's place. TALLY_FULL over TALLY_COUNTS_THREADS_MAX, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_counts_join(struct tally_counts *counts, struct tally_counter **out_counter);
// Null-safe, clears the pointer. What was counted stays.
void tally_counts_leave(struct tally_counter **counter);

// Adds `amount` (0 or more) to a key of a counter table.
//   TALLY_OK        merged
//   TALLY_INVALID   the table's name, or an amount below 0
//   TALLY_LIMIT     an empty key, or one over TALLY_KEY_BYTES_MAX
//   TALLY_FULL      no room for a new key until the next tick, or, when the spool is full, until a server has taken something;
//                   keys that wait already are still counted
//   TALLY_BUSY      a moment's hindrance: call again
//   any other       what a server answered about this table not long ago: TALLY_FORBIDDEN, TALLY_INVALID (another kind) ...
TALLY_CHECKED enum tally_status tally_counts_add(struct tally_counter *counter, struct tally_bytes table,
                                                 struct tally_bytes key, int64_t amount);

// The same for every kind of table: sum->counting says what the number does. Numbers below 0 are fine for SET, ADJUST, MIN and MAX.
// Of a member the number is its hash: XXH3 in 64 bits, seed 0, of its bytes, so that every producer agrees.
TALLY_CHECKED enum tally_status tally_counts_put(struct tally_counter *counter, const struct tally_sum *sum);

// To be told when all that this process was answered TALLY_OK about before the call is in the spool, durable.
struct tally_counts_waiter {
    // On the edge's loop thread, once, without any lock held; it must not block, and hands over to its own thread. TALLY_OK: durable. TALLY_IO: the
    // edge stops, and it is not known; the disk fails meanwhile: it is waited for.
    void (*done)(struct tally_counts_waiter *waiter, enum tally_status status);
    struct tally_counts_waiter *next;
    uint64_t drain;
};
// The waiter is the caller's, and must live until it is done.
void tally_counts_wait(struct tally_counts *counts, struct tally_counts_waiter *waiter);

// Merges what (table, key) has that no drain took yet over what is in *merged: of a gauge SET asks for both. No members. TALLY_BUSY: a drain is
// half-way. To be asked while no drain can run.
TALLY_CHECKED enum tally_status tally_counts_undrained(struct tally_counter *counter, enum tally_counting counting,
                                                       struct tally_bytes table, struct tally_bytes key,
                                                       struct tally_merged *merged);

struct tally_counts_stats {
    uint64_t adds;           // merged
    uint64_t refused_full;   // for lack of room, here or in the spool
    uint64_t refused_table;  // of tables that a server would not take
    uint64_t refused_bad;    // names, keys, amounts
    uint64_t refused_amount; // what those for lack of room would have added to counters
    uint64_t drains, keys;   // keys: that wait for the next drain
    uint32_t threads, waiters;
};
void tally_counts_stats(struct tally_counts *counts, struct tally_counts_stats *out_stats);

// ---------------------------------------------------------------------------------------------------- the edge's own: its loop

struct tally_counts_options {
    uint64_t bytes;         // of memory for counters, half of it for keys of one tick; 0: 16 MiB
    uint64_t others_bytes;  // what the keys of other kinds may take, between two ticks; 0: 4 MiB
    struct tally_seed seed; // random
    // Whether a sum would need no new room in the spool. Asked by any thread while the gate is closed; may take locks. Null: never.
    bool (*known)(void *ctx, const struct tally_sum *sum);
    void *ctx;
};

// TALLY_INVALID (bytes out of the bounds of tally.h), TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_counts_create(const struct tally_counts_options *options,
                                                    struct tally_counts **out_counts);
// All counters have left. Waiters are told TALLY_IO. Null-safe, clears the pointer.
void tally_counts_destroy(struct tally_counts **counts);

// Gives all that was merged to `take`, each key once, and forgets it. A status of `take` other than TALLY_OK ends the drain and is
// returned: nothing is forgotten, the caller forgets what it took, and the next drain brings it again, with what was merged in between left for
// the drain after. TALLY_BUSY: a thread did not finish its addition; call again.
// *out_drain, when it is TALLY_OK: the number by which tally_counts_settle tells that what this drain brought is durable.
TALLY_CHECKED enum tally_status tally_counts_drain(struct tally_counts *counts,
                                                   enum tally_status (*take)(void *ctx, const struct tally_sum *sum),
                                                   void *ctx, uint64_t *out_drain);
// False: nothing was merged since the last drain, and nobody waits.
bool tally_counts_due(struct tally_counts *counts);
// What this drain and those before it brought is durable.
void tally_counts_settle(struct tally_counts *counts, uint64_t drain);

// The most bytes that a drain can bring, in batches.
uint64_t tally_counts_bytes_max(const struct tally_counts *counts);

// TALLY_OK: open. Otherwise: what is told to who brings a new key.
void tally_counts_gate(struct tally_counts *counts, enum tally_status status);

// What is told of a table at present: TALLY_OK, or what a server said.
enum tally_status tally_counts_refusal(struct tally_counts *counts, const struct tally_sum *sum);

// What a server says about a table, for everybody who counts in it in this way, until it is taken back with TALLY_OK.
void tally_counts_refuse(struct tally_counts *counts, enum tally_counting counting, struct tally_bytes table,
                         enum tally_status status);

#endif
