// SPDX-License-Identifier: Apache-2.0
//
// The server's process: one thread runs the libuv loop and owns the core; NNG's threads hand requests over by mailbox; HTTP threads read
// the core's mirror, each with a reader of its own, and a copy of the figures.
//
// Start: settings, data directory, log, recovery, sockets, HTTP, "ready". SIGTERM, SIGINT or SIGHUP: a last tick (durable, published, acknowledged),
// then whatever answers are under way for at most the grace time. A second signal ends it at once.
#ifndef TALLYCAST_SERVER_DAEMON_H
#define TALLYCAST_SERVER_DAEMON_H

#include <io/reads_native.h>
#include <messages/messages.h>
#include <pthread.h>
#include <tallycast/memory.h>
#include <uv.h>

#include "../lmdb/log_lmdb.h"
#include "../nng/pub.h"
#include "../nng/pull.h"
#include "../nng/rep.h"
#include "../src/server.h"
#include "../src/state.h"
#include "../store/data_dir.h"
#include "../store/snapshot_files.h"
#include "inputs.h"
#include "lag.h"
#include "options.h"
#include "statsd.h"
#include "timed_log.h"

enum exit_code { EXIT_DONE = 0, EXIT_WRONG_USE = 2, EXIT_CANNOT_REACH = 3, EXIT_REFUSED = 4 };

struct daemon {
    const struct options *options;
    struct tally_table_names tables;                             // of --table, and ...
    struct tally_named_definition definitions[TALLY_TABLES_MAX]; // ... what they are to be
    size_t definitions_count;
    enum exit_code exit_code;

    // What the core stands on.
    struct tally_data_dir data_dir;
    bool data_dir_open;
    struct timed_log log;
    struct tally_snapshot_store *snapshots;
    struct tally_memory memory;
    struct tally_server *server;

    // The loop's thread.
    uv_loop_t loop;
    uv_timer_t tick, rush, refusals, stopping;
    uint64_t inputs_seen, rush_seen; // how often something came; by the last look of `rush`
    uv_signal_t ends[3]; // SIGTERM, SIGINT, SIGHUP
    struct tally_rep *ingest, *catchup;
    struct tally_pull *pull;
    struct tally_pub pub;
    struct inputs inputs;
    struct statsd_input statsd;
    bool ending, loop_open;
    uint64_t grace_end_ms;
    unsigned quiet_rounds;

    // HTTP.
    struct lag lag; // of the mirror that it reads
    struct tally_reads_native *reads;
    struct tally_http *http;
    struct tally_feed *feed; // to the guests of /v1/stream
    pthread_mutex_t mutex;   // of the two below, and of statsd.listener: written by the loop's thread, read by any
    struct tally_server_stats stats;
    uint64_t ticks;
    _Atomic bool ready;
};

// daemon.c: everything from options to exit code.
enum exit_code daemon_run(const struct options *options);

// storage.c: opens data directory, log, snapshots and memory; creates and recovers the core. Logs why when it fails, and sets exit_code.
bool storage_open(struct daemon *daemon, const struct tally_server_ops *ops);
void storage_close(struct daemon *daemon);

// http_source.c
bool http_open(struct daemon *daemon);
void http_figures_update(struct daemon *daemon); // the loop's thread
// The loop's thread: tells the guests of /v1/stream of a message that was published.
void http_published(struct daemon *daemon, struct tally_bytes message);

// Logs event=cannot_start (or "failed") and sets the exit code.
bool daemon_refuse(struct daemon *daemon, enum exit_code code, enum tally_status status, const char *reason);

uint64_t daemon_now_ms(void);

// After a batch was taken: ticks before the time when that is worth it.
void daemon_after_input(struct daemon *daemon);

#endif
