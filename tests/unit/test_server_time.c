// SPDX-License-Identifier: Apache-2.0
//
// The server's core and time: what is due happens although nothing arrives, whatever the clock does, and a restart changes nothing of it.
#include "../support/with_cmocka.h"

#include "../support/aged.h"
#include "../support/server_world.h"

static uint64_t token = 1;

static struct tally_named_definition definition(const char *text)
{
    struct tally_named_definition named;
    struct tally_bytes word;
    const char *why = "";
    bool defined;
    assert_int_equal(tally_definition_parse(text, &named.table, &named.definition, &defined, &word, &why), TALLY_OK);
    assert_true(defined);
    return named;
}

static void start(struct server_world *world, const struct tally_named_definition *definitions, size_t count)
{
    world->options.definitions = definitions;
    world->options.definitions_count = count;
    assert_int_equal(server_world_start(world), TALLY_OK);
}

static uint64_t version(struct server_world *world) { return server_world_stats(world).version; }

// Ticks of 20 ms that last `ms`.
static void pass(struct server_world *world, uint64_t ms)
{
    for (; ms; ms -= 20) assert_int_equal(server_world_tick(world), TALLY_OK);
    server_world_forget(world);
}

static int64_t get(struct server_world *world, const char *table, const char *key)
{
    return server_world_get(world, ++token, table, key);
}

static void send(struct server_world *world, uint64_t sequence, const char *words)
{
    server_world_send(world, ++token, 7, sequence, words);
    assert_int_equal(server_world_tick(world), TALLY_OK);
}

static void test_expires_when_nothing_arrives(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    struct tally_named_definition definitions[] = {definition("idle counter ttl=100ms")};
    struct follower follower;
    start(world, definitions, 1);
    follower_open(&follower);
    (void)follower_catch_up(&follower, world, &token);
    send(world, 1, "idle/a idle/b t/x");
    send(world, 2, "idle/b t/x"); // 20 ms later
    uint64_t counted = version(world);
    pass(world, 60);
    assert_int_equal(version(world), counted);
    assert_int_equal(get(world, "idle", "a"), 1);
    assert_int_equal(server_world_tick(world), TALLY_OK); // a's 100 ms
    assert_int_equal(version(world), counted + 1);
    assert_int_equal(get(world, "idle", "a"), -1);
    assert_int_equal(get(world, "idle", "b"), 2);
    assert_int_equal(server_world_tick(world), TALLY_OK);
    assert_int_equal(version(world), counted + 2);
    assert_int_equal(get(world, "idle", "b"), -1);
    assert_int_equal(get(world, "t", "x"), 2);
    pass(world, 2000); // nothing is due: no more versions
    assert_int_equal(version(world), counted + 2);
    (void)follower_catch_up(&follower, world, &token);
    follower_equals(&follower, world);
    follower_close(&follower);
    server_world_end(world);
}

// A jump ahead is time that passed. Set back, what is counted then goes in twice its time.
static void test_a_clock_that_jumps(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    struct tally_named_definition definitions[] = {definition("idle counter ttl=1s"),
                                                   definition("win counter window=10s/1s")};
    start(world, definitions, 2);
    send(world, 1, "idle/a win/a t/x");
    world->now_ms += 365 * 86400000ull;
    assert_int_equal(server_world_tick(world), TALLY_OK);
    assert_int_equal(get(world, "idle", "a"), -1);
    assert_int_equal(get(world, "win", "a"), -1);
    assert_int_equal(get(world, "t", "x"), 1);
    world->now_ms -= 365 * 86400000ull;
    send(world, 2, "idle/b win/b");
    uint64_t from = world->now_ms;
    pass(world, 1900);
    assert_int_equal(get(world, "idle", "b"), 1);
    pass(world, 200);
    assert_int_equal(get(world, "idle", "b"), -1);
    pass(world, 18000 - (world->now_ms - from));
    assert_int_equal(get(world, "win", "b"), 1);
    pass(world, 2100);
    assert_int_equal(get(world, "win", "b"), -1);
    // So it is after a restart.
    server_world_crash(world);
    start(world, definitions, 2);
    send(world, 3, "idle/c");
    pass(world, 1800);
    assert_int_equal(get(world, "idle", "c"), 1);
    pass(world, 300);
    assert_int_equal(get(world, "idle", "c"), -1);
    server_world_end(world);
}

// The log is trimmed, the frames of old versions are let go, the process ends again and again: the window knows all of it.
static void test_a_window_longer_than_what_is_kept(void **state)
{
    (void)state;
    struct test_random random = test_random_start("server time: a long window");
    struct server_world *world = server_world_make();
    struct tally_named_definition definitions[] = {definition("win counter window=1h/5m max-keys=6"),
                                                   definition("low min window=30m")};
    struct aged_key win[5] = {0}, low = {0};
    world->options.snapshot_every = 20;
    world->options.retention_versions = 4;
    start(world, definitions, 2);
    for (uint64_t sequence = 1; sequence <= 400; sequence++) {
        char words[64];
        unsigned key = (unsigned)test_random_below(&random, 5), amount = 1 + (unsigned)test_random_below(&random, 50);
        world->now_ms += test_random_below(&random, 60000);
        (void)snprintf(words, sizeof words, "win/%u=%u low/k=%u", key, amount, amount);
        send(world, sequence, words);
        aged_count(&win[key], world->now_ms, amount);
        aged_count(&low, world->now_ms, amount);
        pass(world, 200); // for snapshots
        if (sequence % 37 == 0) {
            server_world_crash(world);
            start(world, definitions, 2);
        }
        for (unsigned k = 0; k < 5; k++) {
            char name[8];
            (void)snprintf(name, sizeof name, "%u", k);
            (void)aged_advance(&win[k], &definitions[0].definition, world->now_ms);
            assert_int_equal(get(world, "win", name), win[k].live ? aged_value(&win[k], TALLY_KIND_COUNTER) : -1);
        }
        (void)aged_advance(&low, &definitions[1].definition, world->now_ms);
        assert_int_equal(get(world, "low", "k"), low.live ? aged_value(&low, TALLY_KIND_MIN) : -1);
        server_world_forget(world);
    }
    assert_true(world->log.first > 100);
    for (unsigned k = 0; k < 5; k++) aged_free(&win[k]);
    aged_free(&low);
    server_world_end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_expires_when_nothing_arrives),
        cmocka_unit_test(test_a_clock_that_jumps),
        cmocka_unit_test(test_a_window_longer_than_what_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
