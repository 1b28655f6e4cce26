// SPDX-License-Identifier: Apache-2.0
//
// The server's core over a log in memory: an input is several events (fuzz.h): requests to both endpoints as they are and sealed, pushes, ticks,
// restarts. Every request gets one answer that decodes, every version verifies at an edge's mirror, memory is given back.
#include "../support/build.h"
#include "../support/log_memory.h"
#include "fuzz.h"

#include <messages/messages.h>
#include <server/src/server.h>
#include <tallycast/memory.h>

enum { MEMORY = 64 << 20, EVENTS = 100, REQUESTS = 4096 };

struct world {
    struct test_log log;
    struct test_snapshots snapshots;
    struct tally_memory memory, edge_memory;
    struct tally_mirror *edge;
    struct test_alloc alloc;
    struct tally_server *server;
    uint64_t now_ms, token, answered;
    bool open[REQUESTS];
};

static void on_publish(void *ctx, struct tally_bytes message)
{
    struct world *world = ctx;
    struct tally_bytes dataset, sealed;
    enum tally_published_what what;
    FUZZ_CHECK(tally_published_open(message, &dataset, &what, &sealed) == TALLY_OK);
    FUZZ_CHECK(tally_bytes_equal(dataset, test_text("main")));
    if (what == TALLY_PUBLISHED_HEARTBEAT) {
        struct tally_heartbeat beat;
        FUZZ_CHECK(tally_heartbeat_decode(&tally_alloc_libc, sealed, &beat) == TALLY_OK);
        tally_heartbeat_free(&tally_alloc_libc, &beat);
        return;
    }
    enum tally_status status = tally_mirror_apply(world->edge, &world->edge_memory, sealed);
    FUZZ_CHECK(status == TALLY_OK || status == TALLY_MORE);
}

static void on_reply(void *ctx, uint64_t token, struct tally_bytes bytes)
{
    struct world *world = ctx;
    struct tally_answer answer;
    FUZZ_CHECK(token < REQUESTS && world->open[token]);
    world->open[token] = false;
    world->answered++;
    FUZZ_CHECK(tally_answer_decode(&tally_alloc_libc, bytes, &answer) == TALLY_OK);
    tally_answer_free(&tally_alloc_libc, &answer);
}

static const struct tally_server_ops ops = {.publish = on_publish, .reply = on_reply};

static void start(struct world *world)
{
    const struct tally_server_options options = {.dataset = test_text("main"),
                                                 .epoch_new = 0x01935a2b3c4d5e6f,
                                                 .seed_new = {7, 8},
                                                 .retention_versions = 3,
                                                 .snapshot_every = 2,
                                                 .waiters_max = 16};
    FUZZ_CHECK(tally_memory_map(MEMORY, 0, &world->memory) == TALLY_OK);
    FUZZ_CHECK(tally_server_create(&options, &world->log.log, &world->snapshots.store, &world->memory, &ops, world,
                                   &world->alloc.alloc, &world->server) == TALLY_OK);
    FUZZ_CHECK(tally_server_recover(world->server, world->now_ms) == TALLY_OK);
}

static void stop(struct world *world)
{
    tally_server_destroy(&world->server);
    tally_memory_unmap(&world->memory);
    FUZZ_CHECK(world->alloc.blocks == 0);
    memset(world->open, 0, sizeof world->open);
}

static void request(struct world *world, enum tally_endpoint endpoint, struct tally_bytes bytes)
{
    if (world->token >= REQUESTS) return;
    world->open[world->token] = true;
    uint8_t *exact = test_exact_copy(bytes.data, bytes.size);
    tally_server_request(world->server, endpoint, world->token++, tally_bytes(exact, bytes.size), world->now_ms);
    free(exact);
}

static void tick(struct world *world)
{
    FUZZ_CHECK(tally_server_tick(world->server, world->now_ms) == TALLY_OK);
    for (uint64_t i = 0; i < world->token; i++) FUZZ_CHECK(!world->open[i]);
    struct tally_server_stats stats;
    tally_server_stats(world->server, &stats);
    FUZZ_CHECK(stats.failed == TALLY_OK && stats.pending_batches == 0);
}

static void event(struct world *world, uint8_t what, uint8_t detail, struct tally_bytes payload)
{
    struct tally_bytes sealed = fuzz_reseal(payload);
    switch (what % 8) {
    case 0: request(world, TALLY_ENDPOINT_INGEST, sealed); break;
    case 1: request(world, TALLY_ENDPOINT_INGEST, payload); break;
    case 2: request(world, TALLY_ENDPOINT_CATCH_UP, sealed); break;
    case 3: request(world, TALLY_ENDPOINT_CATCH_UP, payload); break;
    case 4: tally_server_push(world->server, detail & 1 ? sealed : payload, world->now_ms); break;
    case 5:
    case 6:
        world->now_ms += (uint64_t)detail * 100;
        tick(world);
        break;
    default:
        tick(world);
        stop(world);
        world->now_ms -= (uint64_t)detail * 10;
        start(world);
        break;
    }
    fuzz_free(sealed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world world;
    const struct tally_mirror_options options = {.dataset = test_text("main")};
    world = (struct world){.log = test_log(), .snapshots = test_snapshots(), .now_ms = 1732300000000};
    test_alloc_init(&world.alloc);
    FUZZ_CHECK(tally_memory_map(MEMORY, 0, &world.edge_memory) == TALLY_OK);
    FUZZ_CHECK(tally_mirror_init(&world.edge_memory, &options, &world.edge) == TALLY_OK);
    start(&world);
    struct tally_bytes input = tally_bytes(data, size), message;
    for (unsigned i = 0; i < EVENTS && fuzz_next(&input, &message); i++) {
        if (message.size < 2) continue;
        event(&world, message.data[0], message.data[1], tally_bytes(message.data + 2, message.size - 2));
    }
    tick(&world);
    stop(&world);
    tally_memory_unmap(&world.edge_memory);
    test_log_free(&world.log);
    test_snapshots_free(&world.snapshots);
    return 0;
}
