// SPDX-License-Identifier: Apache-2.0
//
// Between HTTP threads, which read the core's mirror, and the loop's thread, which may leave it behind while nobody reads (server.h, may_lag): a
// reader that finds it behind waits until the loop has brought it to the newest version, and for a second after a read it is not left behind again. So
// what was acknowledged before a read began is in what it reads, and only the first read after a quiet second under load ever waits.
//
// Proof: the loop stores `behind` before anything of the version is told to anyone. Who knows of the version and then reads loads `behind` after that, and
// either finds it set and waits, or finds it cleared again by lag_current, which comes after the mirror's new version.
#ifndef TALLYCAST_SERVER_LAG_H
#define TALLYCAST_SERVER_LAG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <tallycast/status.h>
#include <uv.h>

struct lag {
    uv_async_t wanted; // a reader waits
    void (*catch_up)(void *ctx);
    void *ctx;
    _Atomic bool behind;
    _Atomic uint64_t read_ms; // the last read, by the monotonic clock: relaxed, it is only a hint
    pthread_mutex_t mutex;    // of `over`; who waits holds it between looking and waiting
    pthread_cond_t changed;
    bool over;
};

// `catch_up` is called by the loop's thread when a reader waits. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status lag_open(struct lag *lag, uv_loop_t *loop, void (*catch_up)(void *ctx), void *ctx);

// The loop's thread: whether the mirror may be left behind; that it is no more; that it never will be current any more if it is not.
bool lag_may(struct lag *lag);
void lag_current(struct lag *lag);
void lag_end(struct lag *lag);

// Any thread, before it reads. TALLY_STALLED: it waited for seconds, or lag_end was called.
TALLY_CHECKED enum tally_status lag_read(struct lag *lag);

#endif
