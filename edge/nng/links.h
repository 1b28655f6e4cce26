// SPDX-License-Identifier: Apache-2.0
//
// The edge's links to its servers: for each one a SUB socket that follows the dataset, and a REQ socket that asks. What NNG's threads
// receive is handed to the loop's thread; everything here but that is the loop's.
//
// Bounds: one message of a server is with the loop at a time, RECEIVE_FRAMES wait in NNG (more are dropped there, which the sync core
// notices), none is longer than TALLY_ANSWER_BYTES_MAX. One request a server is on its way.
#ifndef TALLYCAST_EDGE_LINKS_H
#define TALLYCAST_EDGE_LINKS_H

#include <edge/nng/requester.h>
#include <edge/src/sync.h>
#include <io/settings.h>
#include <uv.h>

struct edge_links_ops {
    // All on the loop's thread; `server` is the place in the lists of URLs. Bytes are borrowed for the call.
    void (*connected)(void *ctx, uint32_t server);
    void (*disconnected)(void *ctx, uint32_t server);
    void (*message)(void *ctx, uint32_t server, struct tally_bytes message);
    struct edge_requester_ops requests;
};

struct edge_links_options {
    const char *dataset;
    struct tally_strings subscribe, catch_up; // as many of the one as of the other
    struct tally_tls tls;
};

struct edge_links;

// Dials all; connections come up later. TALLY_INVALID, TALLY_NO_MEMORY, TALLY_IO with the reason. Once a process: there is no closing, NNG 1.5.2
// has faults in it; the sockets end with the process. After edge_links_stop nothing is called any more.
TALLY_CHECKED enum tally_status edge_links_open(const struct edge_links_options *options,
                                                const struct edge_links_ops *ops, void *ctx, uv_loop_t *loop,
                                                struct edge_links **out_links, struct tally_reason *out_reason);
void edge_links_stop(struct edge_links *links);

// Takes a copy and returns at once. A request to this server that is on its way is given up; its outcome is not told any more. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status edge_links_send(struct edge_links *links, uint32_t server, uint64_t request,
                                                struct tally_bytes bytes);

#endif
