// SPDX-License-Identifier: Apache-2.0
//
// Readers and the loop about a mirror that stays behind: what was told before a read began is in what it reads.
#include "../support/with_cmocka.h"

#include "../../server/daemon/lag.h"

#define READERS  3
#define VERSIONS 3000

struct shared {
    uv_loop_t loop;
    uv_idle_t idle;
    struct lag lag;
    _Atomic uint64_t mirror, told; // versions: that the mirror has, that somebody may know of
    uint64_t version, lagged;      // the loop's
    _Atomic bool over;
    _Atomic uint64_t reads, wrong;
};

static void catch_up(void *ctx)
{
    struct shared *shared = ctx;
    atomic_store(&shared->mirror, shared->version);
    lag_current(&shared->lag);
}

static void on_idle(uv_idle_t *idle)
{
    struct shared *shared = idle->data;
    shared->version++;
    // As long after a read that it may stay behind again.
    if (shared->version % 2) atomic_store(&shared->lag.read_ms, 1);
    if (lag_may(&shared->lag)) {
        shared->lagged++;
    } else {
        atomic_store(&shared->mirror, shared->version);
        lag_current(&shared->lag);
    }
    atomic_store(&shared->told, shared->version);
    if (shared->version >= VERSIONS && atomic_load(&shared->reads) > 1000 && shared->lagged &&
        shared->lagged < shared->version)
        uv_stop(&shared->loop);
}

static void *reader(void *argument)
{
    struct shared *shared = argument;
    while (!atomic_load(&shared->over)) {
        uint64_t told = atomic_load(&shared->told);
        if (lag_read(&shared->lag) != TALLY_OK) continue;
        if (atomic_load(&shared->mirror) < told) atomic_fetch_add(&shared->wrong, 1);
        atomic_fetch_add(&shared->reads, 1);
    }
    return NULL;
}

static void test_nobody_reads_what_is_behind(void **unused)
{
    (void)unused;
    static struct shared shared;
    pthread_t threads[READERS];
    assert_int_equal(uv_loop_init(&shared.loop), 0);
    assert_int_equal(lag_open(&shared.lag, &shared.loop, catch_up, &shared), TALLY_OK);
    assert_int_equal(uv_idle_init(&shared.loop, &shared.idle), 0);
    shared.idle.data = &shared;
    assert_true(lag_may(&shared.lag)); // nobody ever read
    assert_int_equal(uv_idle_start(&shared.idle, on_idle), 0);
    for (unsigned i = 0; i < READERS; i++) assert_int_equal(pthread_create(&threads[i], NULL, reader, &shared), 0);
    (void)uv_run(&shared.loop, UV_RUN_DEFAULT);
    lag_end(&shared.lag);
    atomic_store(&shared.over, true);
    for (unsigned i = 0; i < READERS; i++) assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&shared.wrong), 0);
    // The loop is gone: a mirror that is behind stays so, and nobody waits for it.
    atomic_store(&shared.lag.behind, true);
    assert_int_equal(lag_read(&shared.lag), TALLY_STALLED);
    lag_current(&shared.lag);
    assert_int_equal(lag_read(&shared.lag), TALLY_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nobody_reads_what_is_behind)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
