// SPDX-License-Identifier: Apache-2.0
#include "rep.h"

#include <assert.h>
#include <io/log.h>
#include <nng/protocol/reqrep0/rep.h>
#include <stdatomic.h>
#include <stdlib.h>

// RECEIVING ──message, NNG's thread──► QUEUED ──loop──► ANSWERING ──tally_rep_answer, loop──► SENDING ──sent, NNG's thread──► RECEIVING
enum context_state { CONTEXT_RECEIVING, CONTEXT_QUEUED, CONTEXT_ANSWERING, CONTEXT_SENDING, CONTEXT_DEAD };

struct context {
    struct tally_mail mail; // first: the mailbox hands it back
    struct tally_rep *rep;
    nng_ctx ctx;
    nng_aio *aio;
    nng_msg *request;
    // Written by whoever holds the context at that point of the circle above; atomic for tally_rep_sending alone.
    _Atomic enum context_state state;
    bool opened;
};

struct tally_rep {
    struct tally_rep_options options;
    nng_socket socket;
    bool opened;
    struct tally_mailbox mailbox;
    struct context *contexts;
};

static void receive(struct context *context)
{
    atomic_store(&context->state, CONTEXT_RECEIVING);
    nng_ctx_recv(context->ctx, context->aio);
}

// NNG's thread.
static void on_done(void *argument)
{
    struct context *context = argument;
    int failed = nng_aio_result(context->aio);
    if (atomic_load(&context->state) == CONTEXT_SENDING) {
        if (failed) nng_msg_free(nng_aio_get_msg(context->aio)); // a failed send leaves the message with us
        if (failed == NNG_ECANCELED)
            atomic_store(&context->state, CONTEXT_DEAD);
        else
            receive(context); // also when the peer is gone; a closed socket says so
        return;
    }
    if (failed == NNG_ECLOSED || failed == NNG_ECANCELED) {
        atomic_store(&context->state, CONTEXT_DEAD);
        return;
    }
    if (failed) {
        receive(context);
        return;
    }
    context->request = nng_aio_get_msg(context->aio);
    atomic_store(&context->state, CONTEXT_QUEUED);
    tally_mailbox_put(&context->rep->mailbox, &context->mail);
}

static void on_mail(void *ctx, struct tally_mail *mail)
{
    struct tally_rep *rep = ctx;
    struct context *context = (struct context *)mail;
    nng_msg *request = context->request;
    context->request = NULL;
    atomic_store(&context->state, CONTEXT_ANSWERING);
    rep->options.request(rep->options.ctx, (uint32_t)(context - rep->contexts),
                         tally_bytes(nng_msg_body(request), nng_msg_len(request)));
    nng_msg_free(request);
}

void tally_rep_answer(struct tally_rep *rep, uint32_t token, struct tally_bytes answer)
{
    struct context *context = &rep->contexts[token];
    nng_msg *message;
    assert(token < rep->options.contexts && atomic_load(&context->state) == CONTEXT_ANSWERING);
    if (nng_msg_alloc(&message, answer.size)) {
        tally_warn("answer_dropped", tally_log_status(TALLY_NO_MEMORY));
        receive(context);
        return;
    }
    memcpy(nng_msg_body(message), answer.data, answer.size);
    nng_aio_set_msg(context->aio, message);
    atomic_store(&context->state, CONTEXT_SENDING);
    nng_ctx_send(context->ctx, context->aio);
}

// An open that failed half-way: closes what is there and frees it once the loop has run the close callback. Nobody is connected yet.
static void give_up(struct tally_rep **rep);

enum tally_status tally_rep_open(const struct tally_rep_options *options, uv_loop_t *loop, struct tally_rep **out_rep,
                                 struct tally_reason *out_reason)
{
    tally_reason_set(out_reason, "--%s %s: %s", options->setting, options->url, tally_status_str(TALLY_NO_MEMORY));
    struct tally_rep *rep = calloc(1, sizeof *rep);
    if (!rep) return TALLY_NO_MEMORY;
    rep->options = *options;
    rep->contexts = calloc(options->contexts, sizeof *rep->contexts);
    enum tally_status status = tally_mailbox_open(&rep->mailbox, loop, on_mail, rep);
    if (status) {
        free(rep->contexts);
        free(rep);
        return status;
    }
    if (!rep->contexts || nng_rep0_open(&rep->socket)) {
        status = TALLY_NO_MEMORY;
        goto failed;
    }
    rep->opened = true;
    for (unsigned i = 0; i < options->contexts; i++) {
        struct context *context = &rep->contexts[i];
        context->rep = rep;
        context->state = CONTEXT_DEAD;
        if (nng_ctx_open(&context->ctx, rep->socket) || nng_aio_alloc(&context->aio, on_done, context)) {
            status = TALLY_NO_MEMORY;
            goto failed;
        }
        context->opened = true;
    }
    status = tally_endpoint_listen(rep->socket, options->setting, options->url, &options->endpoint, NULL, out_reason);
    if (status) goto failed;
    *out_rep = rep;
    return TALLY_OK;
failed:
    give_up(&rep);
    return status;
}

void tally_rep_arm(struct tally_rep *rep)
{
    for (unsigned i = 0; i < rep->options.contexts; i++) receive(&rep->contexts[i]);
}

unsigned tally_rep_sending(const struct tally_rep *rep)
{
    unsigned sending = 0;
    for (unsigned i = 0; i < rep->options.contexts; i++)
        sending += atomic_load(&rep->contexts[i].state) == CONTEXT_SENDING;
    return sending;
}

static void on_mailbox_closed(uv_handle_t *handle)
{
    struct tally_mailbox *mailbox = handle->data;
    struct tally_rep *rep = mailbox->ctx;
    free(rep->contexts);
    free(rep);
}

// Requests that come in while it closes are not looked at any more.
static void drop_mail(void *ctx, struct tally_mail *mail)
{
    struct context *context = (struct context *)mail;
    (void)ctx;
    nng_msg_free(context->request);
    context->request = NULL;
}

static void give_up(struct tally_rep **rep)
{
    struct tally_rep *closing = *rep;
    if (!closing) return;
    *rep = NULL;
    closing->mailbox.receive = drop_mail;
    if (closing->opened) (void)nng_close(closing->socket); // ends every aio with NNG_ECLOSED
    for (unsigned i = 0; closing->contexts && i < closing->options.contexts; i++) {
        struct context *context = &closing->contexts[i];
        if (!context->aio) continue;
        nng_aio_stop(context->aio); // waits for its callback
        nng_aio_free(context->aio);
    }
    tally_mailbox_close(&closing->mailbox, on_mailbox_closed);
}
