// SPDX-License-Identifier: Apache-2.0
//
// Maps of real names in one process, for bench_strings.py: a mirror and its peers in C. Measurements are PEER.dependent and
// PEER.independent, in ns a read; the mirror's also alone_dependent, alone_independent and get_many.
//
//   contestant_strings --keys N --reads N [--seed N]
//
// The mirror's reads are by the bytes of a key as everybody's are, and compare fingerprints: the server lets no two live keys of a table
// share one. The peers compare bytes, which is what they must do.
#include "bench.h"
#include "mirror_reads.h"
#include "peer_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

volatile uint64_t peer_no_bits = 0;

enum { TABLE, RWLOCK, CK, URCU, PEERS };

static const struct peer_text *const peers[PEERS] = {
    [TABLE] = &peer_text_table,
    [RWLOCK] = &peer_text_rwlock,
#ifdef BENCH_CK
    [CK] = &peer_text_ck,
#endif
#ifdef BENCH_URCU
    [URCU] = &peer_text_urcu,
#endif
};

struct contestant {
    struct world world;
    struct draws draws;
    void *maps[PEERS];
};

typedef uint64_t loop(void *map, const struct draws *draws);

// The first quarter of as many draws is read before, unmeasured: what others left in the caches is not ours.
static double measure(struct contestant *contestant, loop *reads, void *map)
{
    struct draws *draws = &contestant->draws;
    size_t count = draws->count;
    draws->count = count / 4 - count / 4 % MIRROR_MANY;
    world_draw(&contestant->world, draws);
    uint64_t sum = reads(map, draws);
    draws->count = count;
    world_draw(&contestant->world, draws);
    double start = bench_now_ns();
    sum += reads(map, draws);
    double end = bench_now_ns();
    return sum ? (end - start) / (double)count : NAN;
}

static uint64_t ours_dependent(void *map, const struct draws *draws) { return mirror_dependent(map, draws); }
static uint64_t ours_independent(void *map, const struct draws *draws) { return mirror_independent(map, draws); }
static uint64_t ours_many(void *map, const struct draws *draws) { return mirror_many(map, draws); }
static uint64_t alone_dependent(void *map, const struct draws *draws) { return mirror_alone_dependent(map, draws); }
static uint64_t alone_independent(void *map, const struct draws *draws) { return mirror_alone_independent(map, draws); }

static double ours(struct contestant *contestant, loop *reads)
{
    return measure(contestant, reads, &contestant->world);
}

static double peer(struct contestant *contestant, unsigned number, bool dependent)
{
    const struct peer_text *found = peers[number];
    if (!found) return NAN;
    return measure(contestant, dependent ? found->dependent : found->independent, contestant->maps[number]);
}

static double mirror_d(void *ctx) { return ours(ctx, ours_dependent); }
static double mirror_i(void *ctx) { return ours(ctx, ours_independent); }
static double mirror_m(void *ctx) { return ours(ctx, ours_many); }
static double alone_d(void *ctx) { return ours(ctx, alone_dependent); }
static double alone_i(void *ctx) { return ours(ctx, alone_independent); }
static double table_d(void *ctx) { return peer(ctx, TABLE, true); }
static double table_i(void *ctx) { return peer(ctx, TABLE, false); }
static double rwlock_d(void *ctx) { return peer(ctx, RWLOCK, true); }
static double rwlock_i(void *ctx) { return peer(ctx, RWLOCK, false); }
static double ck_d(void *ctx) { return peer(ctx, CK, true); }
static double ck_i(void *ctx) { return peer(ctx, CK, false); }
static double urcu_d(void *ctx) { return peer(ctx, URCU, true); }
static double urcu_i(void *ctx) { return peer(ctx, URCU, false); }

static const struct bench_measurement measurements[] = {
    {"mirror.dependent", mirror_d},      {"mirror.independent", mirror_i},      {"mirror.get_many", mirror_m},
    {"mirror.alone_dependent", alone_d}, {"mirror.alone_independent", alone_i}, {"table.dependent", table_d},
    {"table.independent", table_i},      {"rwlock.dependent", rwlock_d},        {"rwlock.independent", rwlock_i},
    {"ck_ht.dependent", ck_d},           {"ck_ht.independent", ck_i},           {"rculfhash.dependent", urcu_d},
    {"rculfhash.independent", urcu_i},
};

int main(int argc, char **argv)
{
    static struct contestant contestant;
    static struct names names;
    uint64_t keys = 0, reads = 0, seed = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        uint64_t value = strtoull(argv[i + 1], NULL, 0);
        if (!strcmp(argv[i], "--keys"))
            keys = value;
        else if (!strcmp(argv[i], "--reads"))
            reads = value - value % MIRROR_MANY;
        else if (!strcmp(argv[i], "--seed"))
            seed = value;
    }
    if (argc % 2 == 0 || keys == 0 || keys > TALLY_ROWS_MAX || reads == 0) {
        fprintf(stderr, "usage: %s --keys N --reads N [--seed N]\n", argv[0]);
        return 2;
    }
    names_load(&names, (uint32_t)keys);
    world_init_names(&contestant.world, &names, seed);
    for (unsigned i = 0; i < PEERS; i++) {
        // The two tables are one.
        if (i == RWLOCK)
            contestant.maps[i] = contestant.maps[TABLE];
        else if (peers[i])
            contestant.maps[i] = peers[i]->build(&names);
    }
    draws_init(&contestant.draws, reads, NAMES_KEY_BYTES_MAX);
    bench_contest(measurements, sizeof measurements / sizeof *measurements, &contestant, NULL);
    for (unsigned i = 0; i < PEERS; i++)
        if (peers[i] && i != RWLOCK) peers[i]->destroy(contestant.maps[i]);
    draws_free(&contestant.draws);
    world_deinit(&contestant.world);
    names_free(&names);
    return 0;
}
