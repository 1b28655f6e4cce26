// SPDX-License-Identifier: Apache-2.0
#include "lag.h"

#include <time.h>

#define READ_MS 1000u // after a read, for which the mirror stays at the newest version
#define WAIT_S  5     // that a reader waits at most: only views that are held for long can make it so many

static uint64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void on_wanted(uv_async_t *async)
{
    struct lag *lag = async->data;
    lag->catch_up(lag->ctx);
}

enum tally_status lag_open(struct lag *lag, uv_loop_t *loop, void (*catch_up)(void *ctx), void *ctx)
{
    pthread_condattr_t attributes;
    lag->catch_up = catch_up;
    lag->ctx = ctx;
    if (pthread_mutex_init(&lag->mutex, NULL) || pthread_condattr_init(&attributes)) return TALLY_NO_MEMORY;
    bool failed = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) != 0;
    failed = pthread_cond_init(&lag->changed, &attributes) || failed;
    (void)pthread_condattr_destroy(&attributes);
    if (failed || uv_async_init(loop, &lag->wanted, on_wanted)) return TALLY_NO_MEMORY;
    lag->wanted.data = lag;
    return TALLY_OK;
}

static void wake(struct lag *lag)
{
    pthread_mutex_lock(&lag->mutex);
    (void)pthread_cond_broadcast(&lag->changed);
    pthread_mutex_unlock(&lag->mutex);
}

void lag_current(struct lag *lag)
{
    atomic_store(&lag->behind, false);
    wake(lag);
}

bool lag_may(struct lag *lag)
{
    bool was = atomic_load(&lag->behind);
    atomic_store(&lag->behind, true); // partner: the load in lag_read
    uint64_t read_ms = atomic_load_explicit(&lag->read_ms, memory_order_relaxed);
    if (read_ms == 0 || now_ms() > read_ms + READ_MS) return true;
    // Who read it meanwhile need not wait: nothing was told yet. If it was behind before, it is not for long.
    if (!was) lag_current(lag);
    return false;
}

void lag_end(struct lag *lag)
{
    pthread_mutex_lock(&lag->mutex);
    lag->over = true;
    pthread_mutex_unlock(&lag->mutex);
    wake(lag);
}

enum tally_status lag_read(struct lag *lag)
{
    uint64_t now = now_ms();
    if (atomic_load_explicit(&lag->read_ms, memory_order_relaxed) != now)
        atomic_store_explicit(&lag->read_ms, now, memory_order_relaxed);
    if (!atomic_load(&lag->behind)) return TALLY_OK; // partner: the store in lag_may
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_S;
    int waited = 0;
    pthread_mutex_lock(&lag->mutex);
    if (!lag->over) (void)uv_async_send(&lag->wanted);
    while (atomic_load(&lag->behind) && !lag->over && !waited)
        waited = pthread_cond_timedwait(&lag->changed, &lag->mutex, &until);
    pthread_mutex_unlock(&lag->mutex);
    return atomic_load(&lag->behind) ? TALLY_STALLED : TALLY_OK;
}
