// SPDX-License-Identifier: Apache-2.0
#include "requester.h"

#include <nng/protocol/reqrep0/req.h>

// NNG may send a request again by itself after so long. The cores do that, sooner and to another server. It also does when a connection is lost,
// which is as good as our own sending: the request is the same.
#define RESEND_MS (3600 * 1000)
// Longer than the cores wait: ends the operation of a server that is not there.
#define REQUEST_MS 30000

static void on_asked(void *ctx)
{
    struct edge_requester *requester = ctx;
    tally_mailbox_put(requester->mailbox, &requester->asked);
}

int edge_requester_open(struct edge_requester *requester, uint32_t server, struct tally_mailbox *mailbox,
                        const struct edge_requester_ops *ops, void *ctx)
{
    *requester = (struct edge_requester){.ops = ops, .ctx = ctx, .mailbox = mailbox, .server = server};
    int failed = nng_req0_open(&requester->req);
    if (!failed) failed = nng_setopt_ms(requester->req, NNG_OPT_REQ_RESENDTIME, RESEND_MS);
    if (!failed) failed = nng_ctx_open(&requester->context, requester->req);
    if (!failed) failed = nng_aio_alloc(&requester->ask, on_asked, requester);
    return failed;
}

static void start_request(struct edge_requester *requester)
{
    requester->state = EDGE_REQUESTER_SENDING;
    requester->given_up = false;
    requester->request = requester->request_next;
    nng_aio_set_timeout(requester->ask, REQUEST_MS);
    nng_aio_set_msg(requester->ask, requester->next);
    requester->next = NULL;
    nng_ctx_send(requester->context, requester->ask);
}

static void take_asked(struct edge_requester *requester)
{
    int failed = nng_aio_result(requester->ask);
    nng_msg *message = NULL;
    bool sending = requester->state == EDGE_REQUESTER_SENDING;
    if (failed && sending) nng_msg_free(nng_aio_get_msg(requester->ask)); // was not taken
    if (!failed && requester->state == EDGE_REQUESTER_RECEIVING) message = nng_aio_get_msg(requester->ask);
    if (!failed && sending && !requester->given_up && !requester->stopped) {
        requester->state = EDGE_REQUESTER_RECEIVING;
        nng_ctx_recv(requester->context, requester->ask);
        return;
    }
    requester->state = EDGE_REQUESTER_IDLE;
    // A request that comes in from the calls below finds it idle.
    if (!requester->given_up && !requester->stopped) {
        if (message)
            requester->ops->answer(requester->ctx, requester->server, requester->request,
                                   tally_bytes(nng_msg_body(message), nng_msg_len(message)));
        else
            requester->ops->failed(requester->ctx, requester->server, requester->request,
                                   tally_status_from_nng(failed));
    }
    if (message) nng_msg_free(message);
    if (requester->state == EDGE_REQUESTER_IDLE && requester->next && !requester->stopped) start_request(requester);
}

bool edge_requester_take(struct edge_requester *requester, const struct tally_mail *mail)
{
    if (mail != &requester->asked) return false;
    take_asked(requester);
    return true;
}

void edge_requester_give_up(struct edge_requester *requester)
{
    if (requester->next) nng_msg_free(requester->next);
    requester->next = NULL;
    if (requester->state == EDGE_REQUESTER_IDLE) return;
    requester->given_up = true;
    nng_aio_cancel(requester->ask);
}

enum tally_status edge_requester_send(struct edge_requester *requester, uint64_t request, struct tally_bytes bytes)
{
    nng_msg *message;
    if (nng_msg_alloc(&message, 0)) return TALLY_NO_MEMORY;
    if (nng_msg_append(message, bytes.data, bytes.size)) {
        nng_msg_free(message);
        return TALLY_NO_MEMORY;
    }
    edge_requester_give_up(requester);
    requester->next = message;
    requester->request_next = request;
    if (requester->state == EDGE_REQUESTER_IDLE) start_request(requester);
    return TALLY_OK;
}

void edge_requester_stop(struct edge_requester *requester) { requester->stopped = true; }
