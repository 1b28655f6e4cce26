// SPDX-License-Identifier: Apache-2.0
//
// The inputs that are producers inside the server's process: POST /v1/count, and StatsD. What they bring goes the way of every batch, through
// tally_server_request: to the core there is no difference.
//
// A POST with an Idempotency-Key is the one batch of a producer of its own, which the key names. The others share one producer each, drawn at start, whose
// sequence counts on with each batch that is taken; nobody sends those again, so nothing of it has to be kept.
//
// Threads: the loop's, but for tally_inputs_count. Limits: INPUTS_WAITING_MAX requests wait at a time.
#ifndef TALLYCAST_SERVER_INPUTS_H
#define TALLYCAST_SERVER_INPUTS_H

#include <io/http.h>
#include <tallycast/batch.h>

struct daemon;

#define INPUTS_WAITING_MAX 4096u

struct input_producer {
    uint64_t id, sequence; // of its last batch that was taken
};

struct inputs {
    struct daemon *daemon;
    struct tally_mailbox mailbox; // from HTTP threads
    struct tally_http_count *waiting[INPUTS_WAITING_MAX];
    uint32_t next; // where to look for a free place
    struct input_producer http;
    struct tally_writer request;
    struct tally_batch_writer writer;
    // The answer to the batch that is being offered, when it comes at once.
    bool offering, answered;
    enum tally_status status;
    struct tally_reason reason;
};

// TALLY_NO_MEMORY, TALLY_IO.
TALLY_CHECKED enum tally_status inputs_open(struct inputs *inputs, struct daemon *daemon);

// Any thread: tally_http_source.count.
bool inputs_count(struct inputs *inputs, struct tally_http_count *count);

// What the core answers to a token of theirs: bit TOKEN_INPUTS is set.
#define TOKEN_INPUTS ((uint64_t)1 << 33)
void inputs_reply(struct inputs *inputs, uint64_t token, struct tally_bytes answer);

// Offers entries of `sums` as the next batch of a producer. TALLY_OK: it is taken, and counted with the next version, unless the server fails before. Anything
// else: it is not, and inputs->reason says why. TALLY_BUSY and the like: again later.
TALLY_CHECKED enum tally_status inputs_offer(struct inputs *inputs, struct input_producer *producer,
                                             const struct tally_sums *sums, uint32_t first, uint32_t count);

void input_producer_draw(struct input_producer *producer);

#endif
