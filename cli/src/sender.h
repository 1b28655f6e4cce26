// SPDX-License-Identifier: Apache-2.0
//
// Acknowledged batches on their way to a server, by NNG REQ.
//
// A lane is a producer: a batch in flight at most, its sequence counted up with each. So the batches of a
// producer cannot overtake each other (a hole would be refused), and several lanes fill the time that a tick
// and a disk write take. NNG sends a batch again whenever the connection was lost, and after RESEND_MS
// without an answer; the server drops the repeat by (producer, sequence). Busy answers are tried again with
// back-off.
//
// Threads: the functions belong to the main thread; NNG's threads only hand over what arrived and write to
// `wake_fd`.
#ifndef TALLYCAST_CLI_SENDER_H
#define TALLYCAST_CLI_SENDER_H

#include "merge.h"

#define CLI_LANES_MAX 16u

struct cli_sender;

struct cli_sender_options {
    const char *url, *dataset;
    const char *tls_ca, *tls_cert, *tls_key; // null: none
    unsigned lanes;                          // 1 to CLI_LANES_MAX
    uint64_t producer;                       // 0: a random one a lane; else its sequence goes on, and there is one lane
    // Null, or called with each batch before it is sent; any other code than CLI_DONE: it is not, and the code is given on. Then there is
    // one lane, whose sequence begins with cli_sender_resume.
    int (*keep)(void *ctx, uint64_t producer, uint64_t sequence, uint64_t events, struct tally_bytes request);
    void *ctx;
};

struct cli_sender_figures {
    uint64_t events, batches, bytes; // acknowledged
    uint64_t version;                // highest that holds one of them
    uint64_t repeats;                // acknowledged as counted before
    uint64_t refused;                // events of batches that the server will not have: not counted
    unsigned in_flight;
    bool connected;
};

// Complains and answers an exit code other than CLI_DONE when it cannot be set up. Does not wait for the
// server.
int cli_sender_open(const struct cli_sender_options *options, struct cli_sender **out_sender);
// Before the process ends: gives up what is in flight. Does not wait, and does not give the memory back. Null-safe.
void cli_sender_end(struct cli_sender **sender);

// Readable when cli_sender_work has something to do.
int cli_sender_wake_fd(const struct cli_sender *sender);

// Takes in what arrived and sends again what was put off. CLI_DONE, or CLI_REFUSED after a complaint: the
// server will not have a batch.
int cli_sender_work(struct cli_sender *sender);

// With `keep`, once, first: the last batch that was kept, sent again; sequence 0: there is none yet. Its events are not among the figures.
// CLI_DONE, or an exit code after a complaint.
int cli_sender_resume(struct cli_sender *sender, uint64_t sequence, struct tally_bytes request);

// True when a lane is free for another batch.
bool cli_sender_ready(const struct cli_sender *sender);

// Sends what is merged on a free lane. CLI_DONE, or an exit code after a complaint.
int cli_sender_send(struct cli_sender *sender, struct cli_merge *merge);

void cli_sender_figures(const struct cli_sender *sender, struct cli_sender_figures *out_figures);

// Milliseconds since the server last answered (or since the start) while something is in flight; 0 when
// nothing is.
uint64_t cli_sender_silent_ms(const struct cli_sender *sender);

#endif
