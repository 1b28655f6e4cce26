// SPDX-License-Identifier: Apache-2.0
//
// The process: sync core, host, stored copy, links and HTTP face, put together.
//
// Threads. The loop's thread owns the core and is the host's applier. HTTP threads read through the host and see what the loop publishes
// in `shown`. The stored copy has a thread of its own, and NNG has its own too.
#ifndef TALLYCAST_EDGE_EDGE_H
#define TALLYCAST_EDGE_EDGE_H

#include "counting.h"
#include "options.h"
#include "reload.h"
#include "statsd.h"

#include <edge/guests/guests.h>
#include <edge/host/host.h>
#include <edge/nng/links.h>
#include <edge/src/sync.h>
#include <edge/store/store.h>
#include <pthread.h>
#include <uv.h>

// What HTTP threads are told, as of the last input or tick.
struct edge_shown {
    struct tally_sync_info info;
    struct tally_sync_stats sync;
    struct tally_mirror_stats mirror;
    uint32_t servers, connected;
    bool sound;
};

struct edge {
    const struct edge_options *options;
    uv_loop_t loop;
    uv_timer_t timer;
    uv_signal_t terminate[2], hang_up;

    const struct tally_host_ops *host_ops;
    struct tally_host *host;
    struct tally_http_source host_source,
        source; // the host's readers; the same with what the edge adds, ctx being the edge
    struct tally_store *store;
    struct tally_sync *sync;
    struct edge_links *links;
    struct tally_feed *feed; // to the guests of /v1/stream
    struct tally_http *http;
    struct tally_guests *guests; // null: none were set
    char module[4096];           // of the client; empty: it has none
    struct edge_reload reload;

    struct edge_counting *counting;                         // null: nothing is counted here
    struct tally_counter *counters[TALLY_HTTP_THREADS_MAX]; // one each HTTP thread, by its number
    struct edge_statsd statsd;

    pthread_mutex_t mutex; // of shown
    struct edge_shown shown;
    uint64_t refusals_at_ms;                       // when NNG was last asked about refused peers
    uint64_t absent_at_ms[TALLY_SYNC_SERVERS_MAX]; // when it will be told that the server is not there; 0: it is
};

// Runs until SIGTERM or SIGINT: the exit code.
int edge_run(const struct edge_options *options);

// report.c: what people and machines are told.
void edge_log_event(const struct edge *edge, const struct tally_sync_event *event);
void edge_log_absent(struct edge *edge, uint64_t now_ms); // servers that are not connected, once in a while
void edge_show(struct edge *edge, bool with_mirror);      // the loop's thread
void edge_fill_source(struct edge *edge);                 // source, from host_source
uint64_t edge_unix_ms(void);

#endif
