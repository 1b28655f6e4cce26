// SPDX-License-Identifier: Apache-2.0
//
// A REP socket with many contexts for the one thread that owns the core. A context receives on NNG's threads, hands its request to the loop by
// mailbox, and is not armed again before its answer is sent: who waits for a tick occupies a context, so their number bounds what
// can be under way, and further requests wait in NNG and then in their senders.
//
// Threads: every function on the loop's thread.
#ifndef TALLYCAST_SERVER_REP_H
#define TALLYCAST_SERVER_REP_H

#include <io/endpoint.h>
#include <io/mailbox.h>
#include <tallycast/bytes.h>

struct tally_rep;

struct tally_rep_options {
    const char *setting, *url;
    struct tally_endpoint_options endpoint;
    unsigned contexts;
    // A request, borrowed for the call; tally_rep_answer with this token must follow, from within or later.
    void (*request)(void *ctx, uint32_t token, struct tally_bytes request);
    void *ctx;
};

// Listens, as long as the process lives: nng_close (1.5.2) can wait for ever while a peer connects. Nothing is received before
// tally_rep_arm. Options are copied, strings borrowed. Status as tally_endpoint_listen.
TALLY_CHECKED enum tally_status tally_rep_open(const struct tally_rep_options *options, uv_loop_t *loop,
                                               struct tally_rep **out_rep, struct tally_reason *out_reason);
void tally_rep_arm(struct tally_rep *rep);

// Sends the answer (copied). Without memory for it none is sent: the peer asks again.
void tally_rep_answer(struct tally_rep *rep, uint32_t token, struct tally_bytes answer);

// Contexts whose answer is on its way to the socket.
unsigned tally_rep_sending(const struct tally_rep *rep);

#endif
