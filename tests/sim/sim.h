// SPDX-License-Identifier: Apache-2.0
//
// The simulator: the real server core, real edge sync cores and real mirrors in one process and one thread, on a virtual network, virtual
// disks and virtual clocks. Everything that happens follows from one seed. docs: tests/sim/README.md.
//
//   main.c      options, the loop over seeds
//   world.c     what a seed means, the steps, the faults, the end
//   net.c       messages in flight
//   server.c    the server process and its disk
//   edge.c      an edge process and its stored copy
//   tally.c     what an edge counts itself, and its spool
//   tally_kinds.c  the same of tables that are no counters
//   producer.c  those who count, and resend until they know
//   kinds.c     tables of other kinds than counters, and what they should be
//   truth.c     what must hold: a naive model that follows the log, and the versions that were cut
#ifndef TALLY_SIM_H
#define TALLY_SIM_H

#include "../support/aged.h"
#include "../support/build.h"
#include "../support/log_memory.h"
#include "../support/random.h"

#include <edge/src/producer.h>
#include <edge/src/sync.h>
#include <messages/messages.h>
#include <server/src/server.h>
#include <tallycast/fingerprint.h>
#include <tallycast/framefile.h>
#include <tallycast/memory.h>

enum {
    SIM_EDGES_MAX = 5,
    SIM_LINKS = 2, // of an edge to the server: as two servers of one log would be to it
    SIM_PRODUCERS_MAX = 5,
    SIM_TABLES_DRAWN = 4,                 // of producers; the last one has removals
    SIM_TABLE_TALLIED = SIM_TABLES_DRAWN, // what edges count themselves
    SIM_TABLES,
    SIM_TALLY_SHARED = 3, // keys of it that all edges count; the others belong to one each
    SIM_KEYS_MAX = 1800,
    SIM_WINDOW = 3, // batches that a producer has in doubt at a time
    SIM_BATCH_ENTRIES = 40,
    SIM_OLD = 32,
};

#define SIM_DATASET       "main"
#define SIM_UNIX_MS       1732300000000u
#define SIM_MEMORY_BYTES  (64u << 20)
#define SIM_CONVERGE_MS   20000u
#define SIM_TABLE_REMOVED (SIM_TABLES_DRAWN - 1)
#define SIM_OVERFLOW      SIM_KEYS_MAX // the number of the key, of tables with max_keys

// ---------------------------------------------------------------------------------------------------- what a seed means

// Chances are of ten thousand: of a message for the network's, of a step for the others', of a call for `doom`.
struct sim_config {
    unsigned edges, links, producers, tables, keys, key_bytes, entries;
    unsigned drop, duplicate, delay, corrupt, forge, replay;
    uint64_t delay_ms_max;
    bool reorder;
    unsigned partition, crash_server, stop_server, crash_edge, doom, clock_jump, no_memory, disk_fails, loss, foreign;
    unsigned removals, huge_amounts;
    bool synchronous; // a log that is not may lose its end in a crash
    bool calm;        // no faults at all
    bool tallies;     // edges count, too
    uint64_t spool_bytes_max, tally_batch_bytes_max;
    uint64_t tick_ms, heartbeat_ms;
    uint64_t retired_bytes_max;
    uint64_t clash_mask;
    struct tally_definition definitions[SIM_TABLES]; // of kind 0: the table is not defined
    bool kinds;                                      // tables of every kind beside the counters
    bool redefine;                                   // ttl and max_keys are others at each start
    uint32_t frame_bytes_max;                        // 0: the limit's
    uint32_t retention_versions;
    uint64_t snapshot_every;
};

// ---------------------------------------------------------------------------------------------------- the network

enum sim_kind { SIM_PUBLISH, SIM_ASK, SIM_ANSWER, SIM_INGEST, SIM_ACK, SIM_PUSH };

struct sim_message {
    enum sim_kind kind;
    uint32_t node, link; // edge and link, or producer
    uint64_t life;       // of the edge: what was for an earlier one is gone
    uint64_t request;    // as the asker numbers it
    uint64_t due_ms, order;
    uint8_t *data;
    size_t size;
};

// ---------------------------------------------------------------------------------------------------- truth

struct sim_batch {
    uint64_t producer, sequence;
    uint8_t *request;
    size_t request_bytes;
    struct tally_bytes inner; // the Batch in it
    bool sent, acked, effective;
    unsigned entries;
    struct {
        uint32_t table, key;
        int64_t amount; // -1: a removal
    } *entry;
};

// One producer id. Its number is its place in the list plus one.
struct sim_instance {
    uint64_t last_effective; // its last sequence in the log
    uint64_t acked_max;
    uint64_t id;                // of an edge's producer: drawn by itself. Else 0: it is its number
    uint32_t edge;              // its number
    struct sim_batch **batches; // by sequence
    size_t count;
};

struct sim_cut {
    uint64_t epoch, version; // epoch 0: an empty place
    struct tally_digest digest;
    uint64_t rows;
};

struct sim_cell {
    struct aged_key aged; // in a table that ages
    bool live;
    int64_t value;       // by the log
    int64_t acked, sent; // sums of the batches that are acknowledged, and that ever left
};

struct sim_truth {
    struct tally_bytes *records; // of version 1, 2 ...; none is ever trimmed
    uint64_t *frames;            // check of the frame published for each version, 0: none was
    size_t version, capacity;
    struct sim_cell cells[SIM_TABLES][SIM_KEYS_MAX + 1]; // the last is the overflow row's
    uint64_t rows;
    uint64_t time_ms;                                // of the last record
    struct tally_definition definitions[SIM_TABLES]; // as the log has them
    int64_t tallied[SIM_EDGES_MAX][SIM_KEYS_MAX];    // of SIM_TABLE_TALLIED, by the log
    struct sim_cut *cuts;
    size_t cuts_count, cuts_bits;
    struct sim_instance *instances;
    size_t instances_count, instances_capacity;
    bool loss_allowed; // the disk just lost something: the next append may go back
};

// ---------------------------------------------------------------------------------------------------- nodes

struct sim;

struct sim_token {
    uint64_t token;
    struct sim_message from; // data is not used
};

struct sim_server {
    struct sim *sim;
    bool up;
    bool dead; // the process ended inside the call that is under way: nothing that it does any more has an effect
    uint64_t start_ms, tick_ms, life;
    int64_t clock_ms;
    struct tally_named_definition definitions[SIM_TABLES + 2]; // its settings
    size_t definitions_count;
    uint64_t newest_ms; // that an epoch was drawn from
    struct test_alloc alloc;
    struct tally_memory memory;
    bool lags; // its mirror is behind what it tells
    bool (*grow)(struct tally_memory *, size_t);
    struct tally_server *core;
    struct tally_reader reader;
    // The disk.
    struct tally_record_log log;
    struct tally_snapshot_store snapshots;
    struct test_log log_disk;
    struct test_snapshots snapshots_disk;
    uint64_t unsynchronized;  // records at the end that a crash may take
    bool settled;             // something was appended since it started
    bool damaged;             // something that nobody may have noticed yet: it may not find itself again
    uint64_t damaged_version; // of the snapshot that was damaged last
    // Who waits for an answer.
    struct sim_token *tokens;
    size_t tokens_count, tokens_capacity;
    uint64_t token;
};

struct sim_place {
    uint64_t epoch, version;
};

struct sim_pending {
    uint64_t drain;
    uint32_t key;
    int64_t amount;
};

// What an edge counts itself: tally.c.
struct sim_tally {
    struct tally_producer *core;
    struct tally_writer spool, write; // groups on the disk; the one that is being written
    bool writing, write_anew, broken;
    uint64_t write_due_ms, drain_ms, drain;
    uint64_t boot_sequence;               // of the batch that was on its way when the process started; 0: none
    uint64_t acked_version, boot_version; // of the log when something was acknowledged last; and in an earlier life
    int64_t undrained[SIM_KEYS_MAX], taken[SIM_KEYS_MAX], durable[SIM_KEYS_MAX];
    struct sim_pending *pending; // taken, not told as durable
    size_t pending_count, pending_capacity;
    struct sim_tally_kinds *kinds;
};

struct sim_edge {
    struct sim *sim;
    uint32_t number;
    bool up;
    uint64_t start_ms, tick_ms, life;
    int64_t clock_ms;
    struct test_alloc alloc;
    struct tally_memory memory;
    bool lags; // its mirror is behind what it tells
    bool (*grow)(struct tally_memory *, size_t);
    struct tally_mirror *mirror;
    struct tally_reader reader;
    struct tally_sync *sync;
    struct {
        bool up;        // messages pass
        bool silent;    // they do not, and nobody told the edge
        bool connected; // as the edge was told
        uint64_t until_ms;
    } links[SIM_LINKS];
    struct sim_tally tally;
    // The stored copy.
    struct tally_writer store;
    size_t store_base; // its size when it was written anew
    bool rebase;
    // What it served.
    struct tally_view_info held;
    struct sim_place *places; // over all lives
    size_t places_count, places_capacity;
    bool booting;
    bool pinned;
    struct tally_view view;
    struct tally_digest view_digest;
    struct tally_view_info view_info;
    uint64_t unpin_ms;
};

struct sim_producer {
    uint64_t id;
    struct {
        struct sim_batch *batch;
        uint64_t resend_ms;
    } window[SIM_WINDOW];
    uint64_t next_ms;
};

// ---------------------------------------------------------------------------------------------------- everything

#define SIM_COUNTERS(X)                                                                                                \
    X(steps)                                                                                                           \
    X(versions)                                                                                                        \
    X(epochs)                                                                                                          \
    X(messages)                                                                                                        \
    X(dropped)                                                                                                         \
    X(duplicated)                                                                                                      \
    X(corrupted)                                                                                                       \
    X(forged)                                                                                                          \
    X(replayed)                                                                                                        \
    X(partitions)                                                                                                      \
    X(server_crashes)                                                                                                  \
    X(server_dooms)                                                                                                    \
    X(server_stops)                                                                                                    \
    X(server_restarts)                                                                                                 \
    X(recover_refused)                                                                                                 \
    X(disk_failures)                                                                                                   \
    X(losses) X(records_damaged) X(foreign_records) X(tails_lost) X(snapshots) X(snapshots_refused) X(edge_crashes)    \
        X(edge_boots) X(boot_messages) X(stores_damaged) X(stores_lost) X(stores_rewritten) X(clock_jumps)             \
            X(no_memory) X(batches) X(acks) X(repeats) X(holes) X(given_up) X(pushes) X(removals) X(frames_applied)    \
                X(deltas) X(wholes) X(chunks) X(restarts) X(repairs) X(early) X(refused) X(timeouts) X(stalled)        \
                    X(pins) X(verified_rows) X(lags) X(frames_replayed) X(keys_drawn) X(kinds) X(expired) X(slid)      \
                        X(overflowed) X(redefined) X(virtual_ms) X(converge_ms_max) X(tallied) X(tally_refused)        \
                            X(tally_acks) X(spool_full) X(spool_failures) X(renamed) X(mine_checked) X(mine_based)     \
                                X(mine_old) X(tallied_kinds) X(mine_kinds) X(mine_in_doubt)

struct sim_counters {
#define X(name) uint64_t name;
    SIM_COUNTERS(X)
#undef X
};

struct sim {
    uint64_t seed, steps;
    bool verbose;
    struct test_random random;
    struct sim_config config;
    uint64_t now_ms, step;
    bool faults; // false at the end
    uint64_t trace;
    struct sim_message *heap; // by due_ms, then order
    size_t heap_count, heap_capacity;
    uint64_t order;
    struct sim_message old[SIM_OLD]; // published messages and answers of any time before
    uint64_t channel_ms[SIM_EDGES_MAX + SIM_PRODUCERS_MAX + SIM_EDGES_MAX][SIM_LINKS]
                       [6]; // last due of a channel that keeps order
    struct sim_server server;
    struct sim_edge edges[SIM_EDGES_MAX];
    struct sim_producer producers[SIM_PRODUCERS_MAX];
    struct sim_truth truth;
    struct sim_kinds *kinds; // the same of kinds.c
    struct sim_counters counters;
};

// True in `chance` of ten thousand; never when there are no faults.
bool sim_fault(struct sim *sim, unsigned chance);

// Mixes what happened into the trace, and prints it when verbose.
void sim_trace(struct sim *sim, const char *what, uint64_t a, uint64_t b, uint64_t c);

// An invariant does not hold: prints where and how to run it again, and ends the program.
_Noreturn void sim_fail(struct sim *sim, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define SIM_CHECK(sim, what)                                                                                           \
    do {                                                                                                               \
        if (!(what)) sim_fail((sim), "%s:%d: does not hold: %s", __FILE__, __LINE__, #what);                           \
    } while (0)

void sim_key(const struct sim *sim, uint32_t key, char *out, size_t *out_bytes); // out: 1024 bytes
struct tally_bytes sim_table(uint32_t table);

// world.c
void sim_run(struct sim *sim, uint64_t seed, uint64_t steps, bool verbose);

// tally.c
bool sim_tally_start(struct sim_edge *edge);
void sim_tally_stop(struct sim_edge *edge);
void sim_tally_step(struct sim_edge *edge, bool more);
void sim_tally_ack(struct sim_edge *edge, const struct sim_message *message);
bool sim_tally_idle(const struct sim_edge *edge);
void sim_tally_final(struct sim_edge *edge);
void sim_tally_free(struct sim_edge *edge);

// tally_kinds.c
void sim_tally_kinds_reset(struct sim_edge *edge);                         // nothing is in the log
void sim_tally_kinds_log(struct sim_edge *edge, struct tally_bytes batch); // it is in the log now
void sim_tally_kinds_count(struct sim_edge *edge);
enum tally_status sim_tally_kinds_take(struct sim_edge *edge);
void sim_tally_kinds_taken(struct sim_edge *edge);
void sim_tally_kinds_settle(struct sim_edge *edge, uint64_t durable);
bool sim_tally_kinds_idle(struct sim_edge *edge);
void sim_tally_kinds_mine(struct sim_edge *edge, const struct tally_view *view);
void sim_tally_kinds_booted(struct sim_edge *edge, bool counted);
void sim_tally_kinds_final(struct sim_edge *edge);
void sim_tally_kinds_free(struct sim_edge *edge);

// kinds.c
size_t sim_kinds_settings(struct sim *sim, struct tally_named_definition *out);
void sim_kinds_encode(struct sim *sim, struct tally_batch_writer *writer);
bool sim_kinds_has(struct tally_bytes name);
void sim_kinds_reset(struct sim *sim); // nothing is in the log
void sim_kinds_free(struct sim *sim);
void sim_kinds_define(struct sim *sim, struct tally_bytes name, const struct tally_definition *definition);
void sim_kinds_count(struct sim *sim, struct tally_bytes batch); // a batch that counts
void sim_kinds_conclude(struct sim *sim);                        // the end of a record
uint64_t sim_kinds_digest(struct sim *sim, struct tally_seed seed, struct tally_digest *sum);

// net.c
void sim_send(struct sim *sim, const struct sim_message *message, struct tally_bytes bytes);
bool sim_receive(struct sim *sim, struct sim_message *out_message); // owns its data
void sim_net_clear(struct sim *sim);

// server.c
void sim_server_init(struct sim *sim);
void sim_server_free(struct sim *sim);
void sim_server_step(struct sim *sim);
void sim_server_faults(struct sim *sim);
void sim_server_receive(struct sim *sim, const struct sim_message *message);
uint64_t sim_server_now(const struct sim *sim);

// edge.c
void sim_edge_init(struct sim *sim, uint32_t number);
void sim_edge_free(struct sim_edge *edge);
void sim_edge_step(struct sim_edge *edge, bool more);
void sim_edge_faults(struct sim_edge *edge);
void sim_edge_calm(struct sim_edge *edge); // all faults of the edge end
void sim_edge_receive(struct sim_edge *edge, const struct sim_message *message);
struct tally_sync_now sim_edge_now(const struct sim_edge *edge);

// producer.c
void sim_producer_step(struct sim *sim, struct sim_producer *producer, bool more);
void sim_producer_ack(struct sim *sim, uint32_t producer, uint64_t request, struct tally_bytes answer);
bool sim_producer_idle(const struct sim_producer *producer);

// truth.c
struct sim_instance *sim_instance(struct sim *sim, uint64_t producer);
// By the id on the wire; null when none has it.
struct sim_instance *sim_instance_of(struct sim *sim, uint64_t id);
// The batch in an edge's request: known, with the same bytes, or noted now. Never null.
struct sim_batch *sim_tally_batch(struct sim *sim, uint32_t edge, struct tally_bytes request);
uint64_t sim_instance_new(struct sim *sim);
void sim_truth_sent(struct sim *sim, struct sim_batch *batch);
void sim_truth_acked(struct sim *sim, struct sim_batch *batch);
void sim_truth_append(struct sim *sim, uint64_t version, struct tally_bytes record);
void sim_truth_lose(struct sim *sim, uint64_t version); // the log now ends there
void sim_truth_cut(struct sim *sim);                    // the server's mirror holds a version: is it right?
void sim_truth_published(struct sim *sim, struct tally_bytes message);
void sim_truth_replay(struct sim *sim); // the log once more, by another server: the same frames
const struct sim_cut *sim_truth_find(const struct sim *sim, uint64_t epoch, uint64_t version);
// Digest of a view, reckoned from its rows; each is also read by its key.
struct tally_digest sim_view_digest(struct sim *sim, const struct tally_view *view);
void sim_truth_final(struct sim *sim, const struct tally_view *view); // all is acknowledged: exactly this
void sim_truth_memory(struct sim *sim, const struct tally_view *view, const struct tally_mirror *mirror);
void sim_truth_free(struct sim *sim);

#endif
