// SPDX-License-Identifier: Apache-2.0
//
// How other threads (NNG's) hand work to the one thread that runs a libuv loop and owns a core: an intrusive
// queue and one uv_async_t. Every item is embedded in something that has one place (a request context, a
// receive slot), so the queue is bounded by the number of those, and putting never allocates, fails or waits
// (but for a mutex held for a few instructions).
#ifndef TALLYCAST_IO_MAILBOX_H
#define TALLYCAST_IO_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <tallycast/status.h>
#include <uv.h>

struct tally_mail {
    struct tally_mail *next;
    bool queued; // it is in the mailbox: putting it again is a programming error (asserted)
};

struct tally_mailbox {
    uv_async_t async;
    pthread_mutex_t mutex;
    struct tally_mail *head, **tail;
    void (*receive)(void *ctx, struct tally_mail *mail);
    void *ctx;
};

// `receive` is called on the loop's thread, once for each item, in the order they were put. The caller's
// storage, which must stay until the close callback of `async` (tally_mailbox_close) ran.
TALLY_CHECKED enum tally_status tally_mailbox_open(struct tally_mailbox *mailbox, uv_loop_t *loop,
                                                   void (*receive)(void *ctx, struct tally_mail *mail), void *ctx);
// Thread: any, until close.
void tally_mailbox_put(struct tally_mailbox *mailbox, struct tally_mail *mail);
// Thread: the loop's. Items still queued are handed over first.
void tally_mailbox_close(struct tally_mailbox *mailbox, uv_close_cb closed);

#endif
