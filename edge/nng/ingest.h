// SPDX-License-Identifier: Apache-2.0
//
// The edge's way to the ingest endpoints of its servers: a REQ socket each. What NNG's threads receive is handed to the loop's thread.
// Bounds: one request a server is on its way; no answer is longer than TALLY_CONTROL_BYTES_MAX.
#ifndef TALLYCAST_EDGE_INGEST_H
#define TALLYCAST_EDGE_INGEST_H

#include <edge/nng/requester.h>
#include <io/settings.h>
#include <uv.h>

struct edge_ingest_options {
    struct tally_strings urls;
    struct tally_tls tls;
};

struct edge_ingest;

// Dials all; connections come up later. TALLY_INVALID, TALLY_NO_MEMORY, TALLY_IO with the reason. Once a process: there is no closing, as in
// links.h. After edge_ingest_stop nothing is called any more.
TALLY_CHECKED enum tally_status edge_ingest_open(const struct edge_ingest_options *options,
                                                 const struct edge_requester_ops *ops, void *ctx, uv_loop_t *loop,
                                                 struct edge_ingest **out_ingest, struct tally_reason *out_reason);
void edge_ingest_stop(struct edge_ingest *ingest);

// Takes a copy and returns at once. Requests that are on their way, to whatever server, are given up; their outcome is not told any more.
// TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status edge_ingest_send(struct edge_ingest *ingest, uint32_t server, uint64_t request,
                                                 struct tally_bytes bytes);

#endif
