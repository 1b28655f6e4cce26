// SPDX-License-Identifier: Apache-2.0
//
// The mirror in memory: reads beside the physical limit and other maps, memory a key; and what bench_apply.c adds.
#include "bench.h"
#include "bench_apply.h"
#include "peer.h"
#include "world.h"

#include <stdio.h>

#include "../../client-wasm/src/layout.h"

volatile uint64_t peer_no_bits = 0;

// ---------------------------------------------------------------------------------------------------- ours as a peer

struct ours {
    struct tally_view view;
};

static inline uint64_t get(void *map, uint64_t key)
{
    int64_t value = 0;
    if (tally_view_get(&((struct ours *)map)->view, 0, tally_bytes((const uint8_t *)&key, 8), &value)) return 0;
    return (uint64_t)value;
}

PEER_LOOPS(get)

#define MANY 16u

static uint64_t get_many(void *map, const uint64_t *draws, size_t count)
{
    struct ours *ours = map;
    uint64_t sum = 0;
    for (size_t i = 0; i + MANY <= count; i += MANY) {
        struct tally_bytes keys[MANY];
        int64_t values[MANY];
        bool found[MANY];
        for (unsigned j = 0; j < MANY; j++) keys[j] = tally_bytes((const uint8_t *)&draws[i + j], 8);
        tally_view_get_many(&ours->view, 0, keys, MANY, values, found);
        for (unsigned j = 0; j < MANY; j++) sum += (uint64_t)values[j];
    }
    return sum;
}

// ---------------------------------------------------------------------------------------------------- reads

#define PEERS_MAX 6u

enum { OURS, LINE, TABLE, RWLOCK, CK, URCU };

static const struct peer peer_ours = {"mirror", NULL, dependent, independent, NULL, NULL, NULL, NULL, NULL};

static const struct peer *const peers[PEERS_MAX] = {
    [OURS] = &peer_ours, [LINE] = &peer_line, [TABLE] = &peer_table, [RWLOCK] = &peer_rwlock,
#ifdef BENCH_CK
    [CK] = &peer_ck,
#endif
#ifdef BENCH_URCU
    [URCU] = &peer_urcu,
#endif
};

static const char *const names[PEERS_MAX] = {"mirror", "one 64-byte line",      "16-byte open addressing",
                                             "rwlock", "Concurrency Kit ck_ht", "liburcu rculfhash"};

struct reads {
    struct bench_figures dependent[PEERS_MAX], independent[PEERS_MAX], many;
};

typedef uint64_t loop(void *map, const uint64_t *draws, size_t count);

static void measure(struct bench_figures *figures, loop *reads, void *map, const uint64_t *draws, size_t count)
{
    double start = bench_now_ns();
    uint64_t sum = reads(map, draws, count);
    double end = bench_now_ns();
    if (sum == 0) fprintf(stderr, "bench: nothing was read\n"), exit(1);
    bench_add(figures, (end - start) / (double)count);
}

static void print_reads(const struct reads *reads, const char *size, bool cold, bool hot)
{
    char subject[96];
    for (unsigned i = LINE; i < PEERS_MAX; i++) {
        const char *target = i >= RWLOCK ? "< 1" : "";
        if (cold && i == LINE) target = "<= 1.25";
        if (cold && i == TABLE) target = "<= 1.15";
        if (hot && i == TABLE) target = "<= 2";
        if (cold && i >= CK) target = "<= 0.5";
        snprintf(subject, sizeof subject, "dependent read, %s keys", size);
        bench_print("mirror", subject, &reads->dependent[OURS], "ns", names[i], &reads->dependent[i], target);
    }
    for (unsigned i = LINE; i < PEERS_MAX; i++) {
        snprintf(subject, sizeof subject, "independent read, %s keys", size);
        bench_print("mirror", subject, &reads->independent[OURS], "ns", names[i], &reads->independent[i],
                    i >= RWLOCK ? "< 1" : "");
    }
    snprintf(subject, sizeof subject, "get_many of 16, %s keys", size);
    bench_print("mirror", subject, &reads->many, "ns", "single reads", &reads->independent[OURS], cold ? "<= 0.5" : "");
}

static void bench_reads(struct world *world, const struct bench_options *options, const char *size)
{
    size_t count = options->size == BENCH_SMOKE ? 1000 : options->size == BENCH_QUICK ? 250000 : 1000000;
    count -= count % MANY;
    uint64_t *draws = malloc(count * sizeof *draws), *places = malloc(count * sizeof *places);
    struct tally_mirror_stats stats;
    struct ours ours;
    static struct reads reads;
    void *maps[PEERS_MAX] = {&ours};
    if (!draws || !places) exit(1);
    reads = (struct reads){0};
    tally_mirror_stats(world->mirror, &stats);
    for (unsigned i = LINE; i < PEERS_MAX; i++)
        if (peers[i]) maps[i] = peers[i]->build(world->keys, i == LINE ? stats.used_bytes / 64 : world->keys_count);
    tally_view_pin(&world->reader, &ours.view);
    for (unsigned round = 0; round < options->rounds; round++) {
        for (size_t i = 0; i < count; i++) {
            draws[i] = world->keys[bench_below(&world->random, world->keys_count)];
            places[i] = bench_random(&world->random);
        }
        for (unsigned i = 0; i < PEERS_MAX; i++) {
            if (!peers[i]) continue;
            const uint64_t *keys = i == LINE ? places : draws;
            measure(&reads.dependent[i], peers[i]->dependent, maps[i], keys, count);
            measure(&reads.independent[i], peers[i]->independent, maps[i], keys, count);
            if (i == OURS) measure(&reads.many, get_many, maps[i], keys, count);
        }
    }
    tally_view_unpin(&ours.view);
    for (unsigned i = LINE; i < PEERS_MAX; i++)
        if (peers[i]) peers[i]->destroy(maps[i]);
    free(draws);
    free(places);
    print_reads(&reads, size, world->keys_count >= 10000000, world->keys_count <= 10000);
}

// ---------------------------------------------------------------------------------------------------- memory

// The bytes of keys' blocks, which hold the keys themselves and their ends.
static uint64_t key_block_bytes(const struct tally_mirror *mirror)
{
    const struct tally_root *root = at(mirror, atomic_load(&mirror->root));
    const struct table *table = root_table(mirror, root, 0);
    uint64_t lines = 0;
    for (uint32_t id = 0; id < table->rows; id += ID_PAGE_IDS)
        lines += ((const struct keys *)at(mirror, id_page_of(mirror, table, id)->keys))->lines;
    return lines * LINE_BYTES;
}

static void bench_memory(const struct world *world, const char *size, const char *when)
{
    struct tally_mirror_stats stats;
    char subject[96];
    double keys = world->keys_count, apart = (double)key_block_bytes(world->mirror);
    const char *target = world->keys_count >= 10000000 ? "<= 32" : "";
    tally_mirror_stats(world->mirror, &stats);
    snprintf(subject, sizeof subject, "memory used, %s keys%s, key blocks apart", size, when);
    bench_print_value("mirror", subject, ((double)stats.used_bytes - apart) / keys, "bytes/key", target);
    snprintf(subject, sizeof subject, "memory taken from the host, %s keys%s, key blocks apart", size, when);
    bench_print_value("mirror", subject, ((double)stats.memory_bytes - apart) / keys, "bytes/key", "");
    snprintf(subject, sizeof subject, "key blocks, %s keys%s", size, when);
    bench_print_value("mirror", subject, apart / keys, "bytes/key", "");
}

static void bench_load(const struct world *world, const char *size)
{
    char subject[96];
    const char *target = world->keys_count >= 10000000 ? "<= 120" : "";
    snprintf(subject, sizeof subject, "load a whole state of %s keys", size);
    bench_print_value("mirror", subject, world->load_ns / world->keys_count, "ns/key", target);
    snprintf(subject, sizeof subject, "load a whole state of %s keys: frames", size);
    bench_print_value("mirror", subject, (double)world->load_bytes * 1e3 / world->load_ns, "MB/s", "");
}

static void bench_size(const struct bench_options *options, uint32_t keys, const char *size)
{
    static struct world world;
    if (options->keys && options->keys != keys) return;
    double start = bench_now_ns();
    world_init(&world, keys, options->seed);
    fprintf(stderr, "%s keys loaded after %.1f s\n", size, (bench_now_ns() - start) / 1e9);
    bench_load(&world, size);
    bench_memory(&world, size, "");
    if (bench_wants(options, "reads")) bench_reads(&world, options, size);
    if (bench_wants(options, "apply")) bench_applies(&world, options, size);
    bench_memory(&world, size, " after applies");
    world_deinit(&world);
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_options(argc, argv);
    if (options.size == BENCH_SMOKE) {
        bench_size(&options, 2000, "2k");
        return 0;
    }
    bench_size(&options, 10000, "10k");
    bench_size(&options, 1000000, "1M");
    bench_size(&options, 10000000, "10M");
    return 0;
}
