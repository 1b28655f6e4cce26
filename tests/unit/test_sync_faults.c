// SPDX-License-Identifier: Apache-2.0
//
// The edge's sync core under random faults: messages lost, repeated, reordered, damaged and late, servers
// that come, go, lose their data and restart. After every step: (epoch, version) did not go back
// (sync_world.h aborts), what is held is a state that a server cut, memory is within its bounds. When the
// faults stop: it is live with the newest version of the greatest epoch.
#include "../support/with_cmocka.h"
#include "sync_world.h"

#define FLIGHT_MAX 64

struct flight {
    bool answer;
    uint32_t server;
    uint64_t request;
    struct world_blob blob;
};

static struct world world;
static struct test_random rnd;
static struct flight flights[FLIGHT_MAX];
static unsigned flight_count;
static bool up[WORLD_SERVERS];
static uint32_t servers;
static uint64_t epoch_last;
// Every state ever cut: a server that lost its data begins another history.
static struct world_server *histories[256];
static unsigned history_count;

static void put(struct flight flight)
{
    if (flight_count == FLIGHT_MAX) {
        free(flight.blob.data);
        return;
    }
    flights[flight_count++] = flight;
}

static void publish(uint32_t server, struct world_blob message)
{
    if (!up[server] || test_random_percent(&rnd, 15)) {
        free(message.data);
        return;
    }
    if (test_random_percent(&rnd, 10))
        put((struct flight){.server = server, .blob = {test_exact_copy(message.data, message.size), message.size}});
    put((struct flight){.server = server, .blob = message});
}

static void deliver(bool faults)
{
    if (!flight_count) return;
    unsigned which = faults ? (unsigned)test_random_below(&rnd, flight_count) : 0;
    struct flight flight = flights[which];
    memmove(flights + which, flights + which + 1, (--flight_count - which) * sizeof *flights);
    if (faults && test_random_percent(&rnd, 8))
        flight.blob.data[test_random_below(&rnd, flight.blob.size)] ^= (uint8_t)(1u << test_random_below(&rnd, 8));
    if (flight.answer && faults && test_random_percent(&rnd, 10)) {
        tally_sync_answer_failed(world.sync, world.now, flight.server, flight.request, TALLY_UNREACHABLE);
    } else if (flight.answer) {
        tally_sync_answer(world.sync, world.now, flight.server, flight.request, world_bytes(flight.blob));
    } else {
        tally_sync_message(world.sync, world.now, flight.server, world_bytes(flight.blob));
    }
    free(flight.blob.data);
}

static void serve(void)
{
    if (!world.asked) return;
    world.asked = false;
    if (!up[world.asked_server]) return;
    put((struct flight){.answer = true,
                        .server = world.asked_server,
                        .request = world.request,
                        .blob = world_answer(&world.servers[world.asked_server], &world.ask)});
}

static void cut(uint32_t server)
{
    struct world_server *it = &world.servers[server];
    if (it->version + 1 >= WORLD_VERSIONS) return;
    int64_t increment = (int64_t)test_random_below(&rnd, 1000);
    uint64_t epoch = it->epoch;
    // All servers of an epoch read one log.
    for (uint32_t i = 0; i < servers; i++) {
        if (world.servers[i].epoch != epoch) continue;
        world_server_cut(&world.servers[i], increment, world.now.unix_ms);
        publish(i, world_published(&world.servers[i], world.servers[i].version - 1, world.servers[i].version));
    }
    for (unsigned i = 0; i < history_count; i++) {
        if (histories[i]->epoch == epoch) *histories[i] = *it;
    }
}

static void lose_data(uint32_t server)
{
    if (history_count == 256) return;
    world_server_init(&world.servers[server], ++epoch_last);
    world.servers[server].chunks = (uint32_t)test_random_between(&rnd, 1, 5);
    histories[history_count] = malloc(sizeof **histories);
    if (!histories[history_count]) abort();
    *histories[history_count++] = world.servers[server];
}

static void set_up(uint32_t server, bool now_up)
{
    if (up[server] == now_up) return;
    up[server] = now_up;
    if (now_up)
        tally_sync_connected(world.sync, world.now, server);
    else
        tally_sync_disconnected(world.sync, world.now, server);
}

static void check(void)
{
    struct tally_sync_info info = world_info(&world);
    const struct tally_sync_stats *stats = tally_sync_stats(world.sync);
    assert_true(stats->early_frames <= 16 && stats->early_bytes <= 2000);
    assert_int_equal(info.held.version, world.mirror.info.version);
    if (!info.held.epoch) return;
    for (unsigned i = 0; i < history_count; i++) {
        if (histories[i]->epoch != info.held.epoch) continue;
        assert_true(info.held.version <= histories[i]->version);
        assert_int_equal(world.mirror.value, histories[i]->values[info.held.version]);
        return;
    }
    fail_msg("an epoch that no server ever had");
}

static void step(void)
{
    uint32_t server = (uint32_t)test_random_below(&rnd, servers);
    unsigned dice = (unsigned)test_random_below(&rnd, 1000);
    if (dice < 300)
        cut(server);
    else if (dice < 400)
        publish(server, world_heartbeat(&world.servers[server], world.now.unix_ms));
    else if (dice < 750)
        deliver(true);
    else if (dice < 850)
        serve();
    else if (dice < 860)
        set_up(server, !up[server]);
    else if (dice < 863)
        lose_data(server);
    else if (dice < 866)
        world.servers[server].sick = !world.servers[server].sick;
    else if (dice < 870 && servers > 1)
        world.servers[server] = world.servers[(server + 1) % servers]; // restored
    else if (dice < 875) {
        world.mirror.fail = test_random_percent(&rnd, 50) ? TALLY_NO_MEMORY : TALLY_STALLED;
        world.mirror.fail_count = (unsigned)test_random_between(&rnd, 1, 3);
    } else
        world_pass(&world, test_random_below(&rnd, 200));
    check();
}

// The greatest epoch may have died with its servers: nobody can lead on from it then, but the next log begins
// above it.
static void anew_if_lost(void)
{
    for (uint32_t i = 0; i < servers; i++) {
        if (world.servers[i].epoch >= world.mirror.info.epoch) return;
    }
    lose_data(0);
    cut(0);
}

static void settle(void)
{
    for (uint32_t i = 0; i < servers; i++) {
        world.servers[i].sick = false;
        if (world.servers[i].version == 0) cut(i);
        set_up(i, true);
    }
    world.mirror.fail_count = 0;
    for (unsigned i = 0; i < 2500; i++) {
        if (i == 1000) anew_if_lost();
        if (i % 40 == 0) {
            for (uint32_t k = 0; k < servers; k++) {
                struct world_blob beat = world_heartbeat(&world.servers[k], world.now.unix_ms);
                put((struct flight){.server = k, .blob = beat});
            }
        }
        serve();
        while (flight_count) deliver(false);
        world_pass(&world, 50);
        check();
    }
    struct world_server *best = &world.servers[0];
    for (uint32_t i = 1; i < servers; i++) {
        struct world_server *it = &world.servers[i];
        if (it->epoch > best->epoch || (it->epoch == best->epoch && it->version > best->version)) best = it;
    }
    struct tally_sync_info info = world_info(&world);
    assert_int_equal(info.held.epoch, best->epoch);
    assert_true(info.held.version >= best->version);
    assert_string_equal(tally_sync_state_str(info.state), "live");
    assert_int_equal(info.lag, 0);
}

static void run(uint64_t seed)
{
    rnd = (struct test_random){seed};
    servers = (uint32_t)test_random_between(&rnd, 1, WORLD_SERVERS);
    assert_int_equal(
        world_try_init(&world, servers, (struct tally_sync_options){.early_frames_max = 16, .early_bytes_max = 2000}),
        TALLY_OK);
    epoch_last = 100;
    memset(up, 0, sizeof up);
    lose_data(0);
    for (uint32_t i = 1; i < servers; i++) world.servers[i] = world.servers[0];
    unsigned steps = (unsigned)test_random_between(&rnd, 100, 2000);
    for (unsigned i = 0; i < steps; i++) step();
    settle();
    tally_sync_destroy(&world.sync);
    assert_int_equal(world.memory.blocks, 0);
    while (history_count) free(histories[--history_count]);
    while (flight_count) free(flights[--flight_count].blob.data);
}

static void test_random_faults(void **state)
{
    (void)state;
    struct test_random random = test_random_start("test_sync_faults");
    const char *given = getenv("TALLY_RUNS");
    unsigned runs = given ? (unsigned)strtoul(given, NULL, 10) : 300;
    const char *one = getenv("TALLY_RUN");
    for (unsigned i = 0; i < runs; i++) {
        uint64_t seed = one ? strtoull(one, NULL, 0) : test_random_next(&random);
        printf("# TALLY_RUN=%llu\n", (unsigned long long)seed);
        run(seed);
        if (one) break;
    }
}

// A server whose data was put back says so by a heartbeat, before the edge comes to ask: it is asked all the same, once, for it must learn what is held.
static void test_a_server_that_fell_back_is_asked(void **state)
{
    (void)state;
    assert_int_equal(world_try_init(&world, 1, (struct tally_sync_options){0}), TALLY_OK);
    for (unsigned i = 0; i < 3; i++) world_server_cut(&world.servers[0], 7, world.now.unix_ms);
    tally_sync_connected(world.sync, world.now, 0);
    world_answer_now(&world);
    assert_int_equal(world_info(&world).held.version, 3);
    // A request is under way when the connection ends: the next one has to wait for its end.
    world_server_cut(&world.servers[0], 7, world.now.unix_ms);
    world_message(&world, 0, world_heartbeat(&world.servers[0], world.now.unix_ms));
    assert_true(world.asked);
    uint64_t lost = world.request;
    tally_sync_disconnected(world.sync, world.now, 0);
    world.servers[0].version = 1;
    tally_sync_connected(world.sync, world.now, 0);
    world_message(&world, 0, world_heartbeat(&world.servers[0], world.now.unix_ms));
    world.asked = false;
    tally_sync_answer_failed(world.sync, world.now, 0, lost, TALLY_UNREACHABLE);
    for (unsigned i = 0; i < 100 && !world.asked; i++) world_pass(&world, 100);
    assert_true(world.asked);
    assert_int_equal(world.ask.version, 3);
    world_answer_now(&world);
    unsigned sends = world.sends;
    for (unsigned i = 0; i < 100; i++) {
        world_message(&world, 0, world_heartbeat(&world.servers[0], world.now.unix_ms));
        world_pass(&world, 100);
    }
    assert_int_equal(world.sends, sends);
    // The same, but a request from before a later version was held reaches the server that came after: that says nothing to it.
    world.servers[0].version = 3;
    world_message(&world, 0, world_published(&world.servers[0], 2, 3));
    tally_sync_disconnected(world.sync, world.now, 0);
    tally_sync_connected(world.sync, world.now, 0);
    assert_true(world.asked && world.ask.version == 3);
    world_server_cut(&world.servers[0], 7, world.now.unix_ms);
    world_publish(&world, 0, 3, 4);
    assert_int_equal(world_info(&world).held.version, 4);
    tally_sync_disconnected(world.sync, world.now, 0);
    world.servers[0].version = 3;
    tally_sync_connected(world.sync, world.now, 0);
    world_answer_now(&world);
    for (unsigned i = 0; i < 100 && !world.asked; i++) world_pass(&world, 100);
    assert_true(world.asked && world.ask.version == 4);
    tally_sync_destroy(&world.sync);
    assert_int_equal(world.memory.blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_faults),
                                       cmocka_unit_test(test_a_server_that_fell_back_is_asked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
