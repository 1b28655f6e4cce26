// SPDX-License-Identifier: Apache-2.0
#include "ingest.h"

#include <io/mailbox.h>
#include <nng/protocol/reqrep0/req.h>
#include <stddef.h>
#include <stdlib.h>
#include <tallycast/limits.h>

// NNG may send a request again by itself after so long: the producer core does that. It also does when a connection is lost, which is as
// good as our own sending: the batch is the same.
#define RESEND_MS (3600 * 1000)
// Longer than the core waits: ends the operation of a server that is not there.
#define REQUEST_MS 30000

enum request_state { REQUEST_IDLE, REQUEST_SENDING, REQUEST_RECEIVING };

struct lane {
    struct edge_ingest *ingest;
    uint32_t server;
    nng_socket req;
    nng_ctx context;
    nng_aio *ask;
    struct tally_mail asked;  // the aio has a result
    enum request_state state; // the loop's thread
    bool given_up;            // what is on its way is of no interest
    uint64_t request, request_next;
    nng_msg *next; // to be sent when what is on its way has ended; owned
};

struct edge_ingest {
    const struct edge_ingest_ops *ops;
    void *ctx;
    struct tally_mailbox mailbox;
    bool stopped;
    uint32_t count;
    struct lane lanes[];
};

static void on_asked(void *ctx)
{
    struct lane *lane = ctx;
    tally_mailbox_put(&lane->ingest->mailbox, &lane->asked);
}

static void start_request(struct lane *lane)
{
    lane->state = REQUEST_SENDING;
    lane->given_up = false;
    lane->request = lane->request_next;
    nng_aio_set_timeout(lane->ask, REQUEST_MS);
    nng_aio_set_msg(lane->ask, lane->next);
    lane->next = NULL;
    nng_ctx_send(lane->context, lane->ask);
}

static void on_mail(void *ctx, struct tally_mail *mail)
{
    struct edge_ingest *ingest = ctx;
    struct lane *lane = (struct lane *)(void *)((char *)mail - offsetof(struct lane, asked));
    int failed = nng_aio_result(lane->ask);
    nng_msg *message = NULL;
    if (failed && lane->state == REQUEST_SENDING) nng_msg_free(nng_aio_get_msg(lane->ask)); // was not taken
    if (!failed && lane->state == REQUEST_RECEIVING) message = nng_aio_get_msg(lane->ask);
    if (!failed && lane->state == REQUEST_SENDING && !lane->given_up && !ingest->stopped) {
        lane->state = REQUEST_RECEIVING;
        nng_ctx_recv(lane->context, lane->ask);
        return;
    }
    lane->state = REQUEST_IDLE;
    // A request that comes in from the calls below finds the lane idle.
    if (!lane->given_up && !ingest->stopped) {
        if (message)
            ingest->ops->answer(ingest->ctx, lane->server, lane->request,
                                tally_bytes(nng_msg_body(message), nng_msg_len(message)));
        else
            ingest->ops->failed(ingest->ctx, lane->server, lane->request, tally_status_from_nng(failed));
    }
    if (message) nng_msg_free(message);
    if (lane->state == REQUEST_IDLE && lane->next && !ingest->stopped) start_request(lane);
}

// A request that is on its way is not waited for any more.
static void give_up(struct lane *lane)
{
    if (lane->next) nng_msg_free(lane->next);
    lane->next = NULL;
    if (lane->state == REQUEST_IDLE) return;
    lane->given_up = true;
    nng_aio_cancel(lane->ask);
}

enum tally_status edge_ingest_send(struct edge_ingest *ingest, uint32_t server, uint64_t request,
                                   struct tally_bytes bytes)
{
    struct lane *lane = &ingest->lanes[server];
    nng_msg *message;
    if (nng_msg_alloc(&message, 0)) return TALLY_NO_MEMORY;
    if (nng_msg_append(message, bytes.data, bytes.size)) {
        nng_msg_free(message);
        return TALLY_NO_MEMORY;
    }
    for (uint32_t i = 0; i < ingest->count; i++) give_up(&ingest->lanes[i]);
    lane->next = message;
    lane->request_next = request;
    if (lane->state == REQUEST_IDLE) start_request(lane);
    return TALLY_OK;
}

static enum tally_status open_lane(struct lane *lane, const struct edge_ingest_options *options,
                                   struct tally_reason *out_reason)
{
    const struct tally_endpoint_options endpoint = {.receive_bytes_max = TALLY_CONTROL_BYTES_MAX, .tls = &options->tls};
    const char *url = options->urls.items[lane->server];
    int failed = nng_req0_open(&lane->req);
    if (!failed) failed = nng_setopt_ms(lane->req, NNG_OPT_REQ_RESENDTIME, RESEND_MS);
    if (!failed) failed = nng_ctx_open(&lane->context, lane->req);
    if (!failed) failed = nng_aio_alloc(&lane->ask, on_asked, lane);
    if (failed) {
        tally_reason_set(out_reason, "no socket for %s: %s", url, nng_strerror(failed));
        return tally_status_from_nng(failed);
    }
    return tally_endpoint_dial(lane->req, "count", url, &endpoint, NULL, out_reason);
}

enum tally_status edge_ingest_open(const struct edge_ingest_options *options, const struct edge_ingest_ops *ops,
                                   void *ctx, uv_loop_t *loop, struct edge_ingest **out_ingest,
                                   struct tally_reason *out_reason)
{
    uint32_t count = (uint32_t)options->urls.count;
    struct edge_ingest *ingest = calloc(1, sizeof *ingest + count * sizeof *ingest->lanes);
    if (!ingest) {
        tally_reason_set(out_reason, "no memory");
        return TALLY_NO_MEMORY;
    }
    ingest->ops = ops;
    ingest->ctx = ctx;
    ingest->count = count;
    enum tally_status status = tally_mailbox_open(&ingest->mailbox, loop, on_mail, ingest);
    if (status != TALLY_OK) tally_reason_set(out_reason, "no mailbox: %s", tally_status_str(status));
    for (uint32_t i = 0; i < count; i++) {
        ingest->lanes[i].ingest = ingest;
        ingest->lanes[i].server = i;
    }
    *out_ingest = ingest; // threads of NNG may hold it from here on: it is never freed
    for (uint32_t i = 0; status == TALLY_OK && i < count; i++)
        status = open_lane(&ingest->lanes[i], options, out_reason);
    return status;
}

void edge_ingest_stop(struct edge_ingest *ingest)
{
    if (ingest) ingest->stopped = true;
}
