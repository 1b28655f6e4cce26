// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <io/mailbox.h>

// Takes the whole queue under the mutex and hands it over outside: `receive` may put again.
static void deliver(struct tally_mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->mutex);
    struct tally_mail *mail = mailbox->head;
    mailbox->head = NULL;
    mailbox->tail = &mailbox->head;
    pthread_mutex_unlock(&mailbox->mutex);
    while (mail) {
        struct tally_mail *next = mail->next;
        mail->next = NULL;
        __atomic_store_n(&mail->queued, false,
                         __ATOMIC_RELEASE); // before receive: it may lead to the next put
        mailbox->receive(mailbox->ctx, mail);
        mail = next;
    }
}

static void on_async(uv_async_t *async) { deliver(async->data); }

enum tally_status tally_mailbox_open(struct tally_mailbox *mailbox, uv_loop_t *loop,
                                     void (*receive)(void *ctx, struct tally_mail *mail), void *ctx)
{
    *mailbox = (struct tally_mailbox){.receive = receive, .ctx = ctx};
    mailbox->tail = &mailbox->head;
    if (pthread_mutex_init(&mailbox->mutex, NULL)) return TALLY_NO_MEMORY;
    if (uv_async_init(loop, &mailbox->async, on_async)) {
        pthread_mutex_destroy(&mailbox->mutex);
        return TALLY_IO;
    }
    mailbox->async.data = mailbox;
    return TALLY_OK;
}

void tally_mailbox_put(struct tally_mailbox *mailbox, struct tally_mail *mail)
{
    bool was_queued = __atomic_exchange_n(&mail->queued, true, __ATOMIC_ACQUIRE);
    assert(!was_queued);
    (void)was_queued;
    mail->next = NULL;
    pthread_mutex_lock(&mailbox->mutex);
    bool first = mailbox->head == NULL;
    *mailbox->tail = mail;
    mailbox->tail = &mail->next;
    pthread_mutex_unlock(&mailbox->mutex);
    // One wake for a queue that was empty: who takes it takes it whole.
    if (first) (void)uv_async_send(&mailbox->async);
}

void tally_mailbox_close(struct tally_mailbox *mailbox, uv_close_cb closed)
{
    deliver(mailbox);
    pthread_mutex_destroy(&mailbox->mutex);
    uv_close((uv_handle_t *)&mailbox->async, closed);
}
