// SPDX-License-Identifier: Apache-2.0
//
// For test_sync*.c: one world a test, and what most of them say of it. Include once per test.
#ifndef TALLY_TEST_SYNC_CASE_H
#define TALLY_TEST_SYNC_CASE_H

#include "../support/with_cmocka.h"
#include "sync_world.h"

static struct world world;

static inline void init_with(uint32_t servers, struct tally_sync_options options)
{
    assert_int_equal(world_try_init(&world, servers, options), TALLY_OK);
}

static inline void init(uint32_t servers) { init_with(servers, (struct tally_sync_options){0}); }

static inline int teardown(void **state)
{
    (void)state;
    tally_sync_destroy(&world.sync);
    assert_null(world.sync);
    assert_int_equal(world.memory.blocks, 0);
    return 0;
}

static inline void cut(uint32_t server, unsigned versions)
{
    while (versions--) world_server_cut(&world.servers[server], 3, world.now.unix_ms);
}

static inline const struct tally_sync_stats *stats(void) { return tally_sync_stats(world.sync); }

static inline void assert_held(uint64_t epoch, uint64_t version)
{
    struct tally_sync_info info = world_info(&world);
    assert_int_equal(info.held.epoch, epoch);
    assert_int_equal(info.held.version, version);
    assert_int_equal(world.mirror.info.version, version);
}

static inline void assert_state(enum tally_sync_state state)
{
    assert_string_equal(tally_sync_state_str(world_info(&world).state), tally_sync_state_str(state));
}

// One server with `versions` versions, and the edge live on it.
static inline void live(unsigned versions)
{
    init(1);
    cut(0, versions);
    tally_sync_connected(world.sync, world.now, 0);
    world_answer_now(&world);
    assert_state(TALLY_SYNC_LIVE);
}

#endif
