// SPDX-License-Identifier: Apache-2.0
#include "pull.h"

#include <nng/protocol/pipeline0/pull.h>
#include <stdlib.h>

struct slot {
    struct tally_mail mail; // first: the mailbox hands it back
    nng_msg *message;
    struct slot *next_free;
};

struct tally_pull {
    struct tally_pull_options options;
    nng_socket socket;
    nng_aio *aio;
    bool opened;
    struct tally_mailbox mailbox;
    struct slot *slots;
    pthread_mutex_t mutex; // of the two below
    struct slot *free;
    bool paused;
};

// NNG's thread, one call at a time: the next receive is begun by this one, or by the loop when it was paused.
static void on_received(void *argument)
{
    struct tally_pull *pull = argument;
    int failed = nng_aio_result(pull->aio);
    if (failed == NNG_ECLOSED || failed == NNG_ECANCELED) return;
    if (failed) {
        nng_recv_aio(pull->socket, pull->aio);
        return;
    }
    // A slot is free: a receive is only begun when there is one.
    pthread_mutex_lock(&pull->mutex);
    struct slot *slot = pull->free;
    pull->free = slot->next_free;
    bool more = pull->free != NULL;
    pull->paused = !more;
    slot->message = nng_aio_get_msg(pull->aio);
    pthread_mutex_unlock(&pull->mutex);
    tally_mailbox_put(&pull->mailbox, &slot->mail);
    if (more) nng_recv_aio(pull->socket, pull->aio);
}

static void on_mail(void *ctx, struct tally_mail *mail)
{
    struct tally_pull *pull = ctx;
    struct slot *slot = (struct slot *)mail;
    nng_msg *message = slot->message;
    pull->options.message(pull->options.ctx, tally_bytes(nng_msg_body(message), nng_msg_len(message)));
    nng_msg_free(message);
    pthread_mutex_lock(&pull->mutex);
    slot->next_free = pull->free;
    pull->free = slot;
    bool resume = pull->paused;
    pull->paused = false;
    pthread_mutex_unlock(&pull->mutex);
    if (resume) nng_recv_aio(pull->socket, pull->aio);
}

static void drop_mail(void *ctx, struct tally_mail *mail)
{
    (void)ctx;
    nng_msg_free(((struct slot *)mail)->message);
}

// An open that failed half-way: closes what is there and frees it once the loop has run the close callback. Nobody is connected yet.
static void give_up(struct tally_pull **pull);

enum tally_status tally_pull_open(const struct tally_pull_options *options, uv_loop_t *loop,
                                  struct tally_pull **out_pull, struct tally_reason *out_reason)
{
    tally_reason_set(out_reason, "--%s %s: %s", options->setting, options->url, tally_status_str(TALLY_NO_MEMORY));
    struct tally_pull *pull = calloc(1, sizeof *pull);
    if (!pull) return TALLY_NO_MEMORY;
    pull->options = *options;
    pull->slots = calloc(options->slots, sizeof *pull->slots);
    pthread_mutex_init(&pull->mutex, NULL);
    enum tally_status status = tally_mailbox_open(&pull->mailbox, loop, on_mail, pull);
    if (status) {
        free(pull->slots);
        free(pull);
        return status;
    }
    for (unsigned i = 0; pull->slots && i < options->slots; i++) {
        pull->slots[i].next_free = pull->free;
        pull->free = &pull->slots[i];
    }
    status = TALLY_NO_MEMORY;
    if (pull->slots && nng_pull0_open(&pull->socket) == 0) {
        pull->opened = true;
        if (nng_aio_alloc(&pull->aio, on_received, pull) == 0)
            status = tally_endpoint_listen(pull->socket, options->setting, options->url, &options->endpoint, NULL,
                                           out_reason);
    }
    if (status)
        give_up(&pull);
    else
        *out_pull = pull;
    return status;
}

void tally_pull_arm(struct tally_pull *pull) { nng_recv_aio(pull->socket, pull->aio); }

static void on_mailbox_closed(uv_handle_t *handle)
{
    struct tally_mailbox *mailbox = handle->data;
    struct tally_pull *pull = mailbox->ctx;
    pthread_mutex_destroy(&pull->mutex);
    free(pull->slots);
    free(pull);
}

static void give_up(struct tally_pull **pull)
{
    struct tally_pull *closing = *pull;
    if (!closing) return;
    *pull = NULL;
    closing->mailbox.receive = drop_mail;
    if (closing->opened) (void)nng_close(closing->socket);
    if (closing->aio) {
        nng_aio_stop(closing->aio);
        nng_aio_free(closing->aio);
    }
    tally_mailbox_close(&closing->mailbox, on_mailbox_closed);
}
