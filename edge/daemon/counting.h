// SPDX-License-Identifier: Apache-2.0
//
// Counting in the edge's process: counts (any thread) -> producer core -> spool and ingest, put together. There when `count` is set.
//
// Threads. The loop's thread drains, owns spool and ingest, and calls the producer core; HTTP and guests' threads ask the core about "mine" and
// about room. `mutex` is the core's. It is taken before the mutex of counts, never after it, and no one who waits is told with it held.
#ifndef TALLYCAST_EDGE_COUNTING_H
#define TALLYCAST_EDGE_COUNTING_H

#include "options.h"

#include <edge/counts/counts.h>
#include <edge/nng/ingest.h>
#include <edge/src/producer.h>
#include <edge/store/spool.h>
#include <io/http.h>
#include <io/mailbox.h>

struct edge_counting;

struct edge_counting_options {
    const struct edge_options *options;
    const struct tally_http_source *source; // the host's, for reads by the loop's thread
    unsigned reader;                        // number of its reader
    uv_loop_t *loop;
};

// Reads the spool and starts; what was not acknowledged is sent again. Everything else of the edge goes on being dialed and read while this
// has no server. TALLY_IO, TALLY_WRONG_DATASET, TALLY_UNSUPPORTED, TALLY_INVALID, TALLY_NO_MEMORY, with the reason.
TALLY_CHECKED enum tally_status edge_counting_start(const struct edge_counting_options *options,
                                                    struct edge_counting **out_counting,
                                                    struct tally_reason *out_reason);

// When HTTP and guests have ended: drains a last time and waits for the spool, grace_ms at most; then frees. Null-safe, clears the pointer.
void edge_counting_stop(struct edge_counting **counting, unsigned grace_ms);

// To count with: any thread, as counts.h says.
struct tally_counts *edge_counting_counts(struct edge_counting *counting);

// What POST /v1/count brought: any thread. It is decided on the loop's thread, all of it or nothing: counted when it is durable in the spool. An id
// of an Idempotency-Key that was counted before is TALLY_REPEAT, over restarts too, as long as it is among the last TALLY_PRODUCER_ONCE_MAX.
// No version is told: the server is not asked.
void edge_counting_post(struct edge_counting *counting, struct tally_http_count *count);

// The mirror moved to this version. The loop's thread.
void edge_counting_applied(struct edge_counting *counting, uint64_t epoch, uint64_t version);

// Often, whether or not anything is counted: its reader lets go of memory that its host has done with. The loop's thread.
void edge_counting_settle(struct edge_counting *counting);

// What `counter`'s thread reads of a key, and what of this edge's own counts is not in it. `reader` is the thread's. As tally_http_source.get_mine.
TALLY_CHECKED enum tally_status edge_counting_mine(struct edge_counting *counting, struct tally_counter *counter,
                                                   void *reader, struct tally_bytes table, struct tally_bytes key,
                                                   struct tally_http_mine *out_mine);

// Any thread.
void edge_counting_metrics(struct edge_counting *counting, struct tally_writer *out);

#endif
