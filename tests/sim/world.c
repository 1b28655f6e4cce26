// SPDX-License-Identifier: Apache-2.0
//
// A seed's life: what it means, its steps with faults, and the end without: then everything that was counted is acknowledged, and
// every edge holds what the server holds.
#include "sim.h"

#include <stdarg.h>

bool sim_fault(struct sim *sim, unsigned chance)
{
    return sim->faults && chance && test_random_below(&sim->random, 10000) < chance;
}

void sim_trace(struct sim *sim, const char *what, uint64_t a, uint64_t b, uint64_t c)
{
    for (const char *p = what; *p; p++) sim->trace = tally_mix64(sim->trace ^ (uint8_t)*p);
    sim->trace = tally_mix64(sim->trace ^ a);
    sim->trace = tally_mix64(sim->trace ^ b);
    sim->trace = tally_mix64(sim->trace ^ c);
    sim->trace = tally_mix64(sim->trace ^ sim->now_ms);
    if (sim->verbose)
        printf("%8llu %s %llu %llu %llu\n", (unsigned long long)sim->now_ms, what, (unsigned long long)a,
               (unsigned long long)b, (unsigned long long)c);
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fprintf(stderr, "seed %llu, step %llu, %llu ms: ", (unsigned long long)sim->seed, (unsigned long long)sim->step,
            (unsigned long long)sim->now_ms);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\nagain: tally_sim --seed %llu --seeds 1 --steps %llu --verbose\n", (unsigned long long)sim->seed,
            (unsigned long long)sim->steps);
    va_end(args);
    exit(1);
}

// ---------------------------------------------------------------------------------------------------- what a seed means

// Some seeds have much of a fault, some little, some none of it.
static unsigned some(struct test_random *random, unsigned most)
{
    switch (test_random_below(random, 4)) {
    case 0: return 0;
    case 1: return (unsigned)test_random_below(random, most / 10 + 1);
    default: return (unsigned)test_random_below(random, most + 1);
    }
}

static void draw_faults(struct test_random *random, struct sim_config *config)
{
    config->drop = some(random, 1500);
    config->duplicate = some(random, 1500);
    config->delay = some(random, 2000);
    config->delay_ms_max = test_random_between(random, 10, 3000);
    config->corrupt = some(random, 600);
    config->forge = test_random_percent(random, 20) ? some(random, 300) : 0;
    config->reorder = test_random_percent(random, 60);
    config->replay = test_random_percent(random, 30) ? some(random, 500) : 0;
    config->foreign = test_random_percent(random, 30) ? some(random, 5000) : 0;
    config->partition = some(random, 60);
    config->crash_server = some(random, 60);
    config->stop_server = some(random, 100);
    config->crash_edge = some(random, 60);
    config->doom = some(random, 80);
    config->clock_jump = some(random, 100);
    config->no_memory = test_random_percent(random, 25) ? some(random, 200) : 0;
    config->disk_fails = test_random_percent(random, 25) ? some(random, 300) : 0;
    config->loss = test_random_percent(random, 20) ? some(random, 4000) : 0;
    config->synchronous = !test_random_percent(random, 20);
}

// A table that ages, or takes only so many keys.
static void draw_definition(struct test_random *random, struct tally_definition *definition)
{
    *definition = (struct tally_definition){.kind = TALLY_KIND_COUNTER};
    if (test_random_percent(random, 60)) definition->ttl_ms = test_random_between(random, 1, 3000);
    if (test_random_percent(random, 40)) definition->max_keys = test_random_between(random, 1, 40);
    if (test_random_percent(random, 50)) return;
    bool slides = test_random_percent(random, 60);
    uint64_t panes = slides ? test_random_between(random, 1, 12) : 1, pane_ms = test_random_between(random, 1, 500);
    definition->window = slides ? TALLY_WINDOW_SLIDING : TALLY_WINDOW_TUMBLING;
    definition->window_ms = pane_ms * panes;
    definition->pane_ms = slides ? pane_ms : 0;
}

static void draw_config(struct test_random *random, struct sim_config *config)
{
    *config = (struct sim_config){.synchronous = true};
    config->edges = (unsigned)test_random_between(random, 1, SIM_EDGES_MAX);
    config->links = (unsigned)test_random_between(random, 1, SIM_LINKS);
    config->producers = (unsigned)test_random_between(random, 1, SIM_PRODUCERS_MAX);
    config->tables = (unsigned)test_random_between(random, 1, SIM_TABLES_DRAWN);
    config->keys = (unsigned)test_random_between(random, 2, test_random_percent(random, 70) ? 40 : 200);
    config->entries = (unsigned)test_random_between(random, 1, SIM_BATCH_ENTRIES);
    config->removals = (unsigned)test_random_below(random, 60);
    config->huge_amounts = test_random_percent(random, 10) ? 20 : 0;
    config->tick_ms = test_random_between(random, 5, 60);
    config->heartbeat_ms = test_random_between(random, 50, 600);
    config->retention_versions = (uint32_t)test_random_between(random, 1, test_random_percent(random, 50) ? 8 : 100);
    config->snapshot_every = test_random_between(random, 2, test_random_percent(random, 50) ? 10 : 100);
    if (test_random_percent(random, 20)) config->retired_bytes_max = test_random_between(random, 4 << 10, 256 << 10);
    // So few bits that some keys clash, and so many that a new seed helps.
    config->kinds = test_random_percent(random, 50);
    unsigned keys = config->kinds && config->keys < 64 ? 64 : config->keys;
    unsigned bits = 2 * (32 - (unsigned)__builtin_clz(keys)) + (unsigned)test_random_below(random, 6);
    if (test_random_percent(random, 10)) config->clash_mask = ((uint64_t)1 << bits) - 1;
    // Versions whose frame is too large to be told.
    if (test_random_percent(random, 10)) config->frame_bytes_max = (uint32_t)test_random_between(random, 100, 500);
    for (uint32_t t = 1; t < config->tables; t++) {
        if (test_random_percent(random, 35)) draw_definition(random, &config->definitions[t]);
    }
    config->redefine = test_random_percent(random, 30);
    config->tallies = test_random_percent(random, 60);
    config->spool_bytes_max = test_random_between(random, 200, test_random_percent(random, 50) ? 2000 : 100000);
    config->tally_batch_bytes_max = test_random_between(random, 700, 4000);
    // Whole states of several chunks: the state must be large, and so the run is slow.
    bool large = test_random_percent(random, 4);
    if (large) {
        config->keys = SIM_KEYS_MAX;
        config->key_bytes = 1000;
        config->entries = SIM_BATCH_ENTRIES;
        config->clash_mask = 0;
        config->tallies = false;
        config->edges = (unsigned)test_random_between(random, 1, 2);
        config->retention_versions = (uint32_t)test_random_between(random, 1, 4);
    }
    if (test_random_percent(random, 4))
        config->calm = true;
    else
        draw_faults(random, config);
    if (large && !config->calm) config->crash_server += 50; // so that they are cut off in the middle
}

static void print_config(const struct sim *sim)
{
    const struct sim_config *c = &sim->config;
    printf("seed %llu: %u edges with %u links, %u producers, %u tables of %u keys, tick %llu ms, retention %u, "
           "snapshot every %llu\n"
           "  of 10000: drop %u duplicate %u delay %u (to %llu ms) corrupt %u partition %u crash %u/%u stop %u doom %u "
           "clock %u "
           "memory %u disk %u loss %u\n  %s %s%sclash mask %llx retired %llu\n",
           (unsigned long long)sim->seed, c->edges, c->links, c->producers, c->tables, c->keys,
           (unsigned long long)c->tick_ms, c->retention_versions, (unsigned long long)c->snapshot_every, c->drop,
           c->duplicate, c->delay, (unsigned long long)c->delay_ms_max, c->corrupt, c->partition, c->crash_server,
           c->crash_edge, c->stop_server, c->doom, c->clock_jump, c->no_memory, c->disk_fails, c->loss,
           c->synchronous ? "synchronous" : "not synchronous", c->calm ? "calm " : "", c->reorder ? "reordering " : "",
           (unsigned long long)c->clash_mask, (unsigned long long)c->retired_bytes_max);
}

// ---------------------------------------------------------------------------------------------------- steps

static void deliver(struct sim *sim)
{
    struct sim_message message;
    while (sim_receive(sim, &message)) {
        switch (message.kind) {
        case SIM_PUBLISH:
        case SIM_ANSWER: sim_edge_receive(&sim->edges[message.node], &message); break;
        case SIM_ASK:
        case SIM_INGEST:
        case SIM_PUSH: sim_server_receive(sim, &message); break;
        case SIM_ACK:
            if (message.node >= SIM_PRODUCERS_MAX) {
                sim_tally_ack(&sim->edges[message.node - SIM_PRODUCERS_MAX], &message);
                break;
            }
            sim_producer_ack(sim, message.node, message.request, tally_bytes(message.data, message.size));
            break;
        }
        free(message.data);
    }
}

static void step(struct sim *sim, bool more)
{
    sim->step++;
    sim->now_ms += test_random_between(&sim->random, 1, 10);
    if (sim->faults) {
        sim_server_faults(sim);
        for (uint32_t i = 0; i < sim->config.edges; i++) sim_edge_faults(&sim->edges[i]);
    }
    deliver(sim);
    sim_server_step(sim);
    for (uint32_t i = 0; i < sim->config.edges; i++) sim_edge_step(&sim->edges[i], more);
    for (uint32_t i = 0; i < sim->config.producers; i++) sim_producer_step(sim, &sim->producers[i], more);
}

// ---------------------------------------------------------------------------------------------------- the end

static bool all_acknowledged(const struct sim *sim)
{
    for (uint32_t i = 0; i < sim->config.producers; i++) {
        if (!sim_producer_idle(&sim->producers[i])) return false;
    }
    for (uint32_t i = 0; i < sim->config.edges; i++) {
        if (!sim_tally_idle(&sim->edges[i])) return false;
    }
    return true;
}

static bool all_hold(const struct sim *sim, const struct tally_server_stats *server)
{
    for (uint32_t i = 0; i < sim->config.edges; i++) {
        const struct sim_edge *edge = &sim->edges[i];
        struct tally_sync_info info;
        if (!edge->up) return false;
        tally_sync_info(edge->sync, sim_edge_now(edge), &info);
        // A log that is new has nothing to take yet: what is held from before it stays, and is stale.
        if (server->version == 0) continue;
        if (info.held.version != server->version || info.held.epoch != server->epoch ||
            !tally_digest_equal(info.held.digest, server->digest))
            return false;
        if (info.state != TALLY_SYNC_LIVE) return false;
    }
    return true;
}

static void converge(struct sim *sim)
{
    uint64_t since_ms = sim->now_ms, until_ms = since_ms + SIM_CONVERGE_MS;
    struct tally_server_stats stats = {0};
    sim->faults = false;
    // Clocks are set: age, and so `stale`, is reckoned between them. Not back behind an epoch: see README.md.
    struct sim_server *server = &sim->server;
    server->clock_ms = 0;
    if (sim_server_now(sim) < server->newest_ms + 1000)
        server->clock_ms = (int64_t)(server->newest_ms + 1000 - sim_server_now(sim));
    for (uint32_t i = 0; i < sim->config.edges; i++) {
        sim->edges[i].clock_ms = server->clock_ms;
        sim_edge_calm(&sim->edges[i]);
    }
    sim->server.alloc.fail_at = 0;
    for (;;) {
        step(sim, false);
        if (sim->server.up) tally_server_stats(sim->server.core, &stats);
        if (sim->server.up && all_acknowledged(sim) && sim->heap_count == 0 && all_hold(sim, &stats)) break;
        if (sim->now_ms < until_ms) continue;
        for (uint32_t i = 0; i < sim->config.edges; i++) {
            const struct sim_edge *edge = &sim->edges[i];
            struct tally_sync_info info = {0};
            if (edge->up) tally_sync_info(edge->sync, sim_edge_now(edge), &info);
            fprintf(stderr, "edge %u: up %d %s holds %016llx:%llu of %llu, age %llu ms\n", i, edge->up,
                    tally_sync_state_str(info.state), (unsigned long long)info.held.epoch,
                    (unsigned long long)info.held.version, (unsigned long long)info.newest,
                    (unsigned long long)info.age_ms);
        }
        fprintf(stderr, "server: up %d holds %016llx:%llu; all acknowledged: %d; in flight: %zu\n", sim->server.up,
                (unsigned long long)stats.epoch, (unsigned long long)stats.version, all_acknowledged(sim),
                sim->heap_count);
        sim_fail(sim, "no faults for %u s, and it does not converge", SIM_CONVERGE_MS / 1000);
    }
    sim->counters.converge_ms_max = sim->now_ms - since_ms;
    for (uint32_t i = 0; i < sim->config.edges && stats.version; i++) {
        struct tally_view view;
        tally_view_pin(&sim->edges[i].reader, &view);
        sim_truth_final(sim, &view);
        sim_truth_memory(sim, &view, sim->edges[i].mirror);
        tally_view_unpin(&view);
    }
}

void sim_run(struct sim *sim, uint64_t seed, uint64_t steps, bool verbose)
{
    *sim = (struct sim){
        .seed = seed, .steps = steps, .verbose = verbose, .random = {seed * 0x9e3779b97f4a7c15u + 1}, .now_ms = 1000};
    draw_config(&sim->random, &sim->config);
    if (verbose) print_config(sim);
    sim->faults = !sim->config.calm;
    sim_kinds_reset(sim);
    sim_server_init(sim);
    for (uint32_t i = 0; i < sim->config.edges; i++) sim_edge_init(sim, i);
    for (uint32_t i = 0; i < sim->config.producers; i++)
        sim->producers[i] = (struct sim_producer){.id = sim_instance_new(sim)};
    while (sim->step < steps) step(sim, true);
    converge(sim);
    for (uint32_t i = 0; i < sim->config.edges; i++) sim_tally_final(&sim->edges[i]);
    // After a loss the log does not begin with the identity that it has now.
    if (!sim->counters.losses) sim_truth_replay(sim);
    sim->counters.steps = sim->step;
    sim->counters.virtual_ms = sim->now_ms;
    sim_trace(sim, "end", sim->truth.version, sim->truth.rows, 0);
    for (uint32_t i = 0; i < sim->config.edges; i++) sim_edge_free(&sim->edges[i]);
    sim_server_free(sim);
    sim_net_clear(sim);
    sim_truth_free(sim);
}
