// SPDX-License-Identifier: Apache-2.0
//
// A PULL socket: batches that nobody waits for. One receive at a time keeps the order of each sender; what was received waits in a bounded
// number of slots for the loop, and receiving pauses when they are all taken.
//
// Threads: every function on the loop's thread.
#ifndef TALLYCAST_SERVER_PULL_H
#define TALLYCAST_SERVER_PULL_H

#include <io/endpoint.h>
#include <io/mailbox.h>
#include <tallycast/bytes.h>

struct tally_pull;

struct tally_pull_options {
    const char *setting, *url;
    struct tally_endpoint_options endpoint;
    unsigned slots;
    void (*message)(void *ctx, struct tally_bytes message); // borrowed for the call
    void *ctx;
};

// As tally_rep_open, tally_rep_arm.
TALLY_CHECKED enum tally_status tally_pull_open(const struct tally_pull_options *options, uv_loop_t *loop,
                                                struct tally_pull **out_pull, struct tally_reason *out_reason);
void tally_pull_arm(struct tally_pull *pull);

#endif
