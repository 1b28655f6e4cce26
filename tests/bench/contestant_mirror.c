// SPDX-License-Identifier: Apache-2.0
//
// Ours as a contestant of contest.py: a native mirror of names or of 8-byte keys, whose reads are measured when it is asked.
//
//   contestant_mirror [--names | --ids] [--keys N] [--reads N] [--seed N]
//
// Measurements, in ns a read: dependent, independent, get_many (of 16), through one view; alone_dependent, alone_independent, with a view for each
// read. Each draws its keys anew, uniformly and outside of what is measured.
#include "bench.h"
#include "mirror_reads.h"
#include "peer_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

volatile uint64_t peer_no_bits = 0;

struct contestant {
    struct world world;
    struct draws draws;
};

static double measure(struct contestant *contestant, uint64_t (*reads)(struct world *, const struct draws *))
{
    world_draw(&contestant->world, &contestant->draws);
    double start = bench_now_ns();
    uint64_t sum = reads(&contestant->world, &contestant->draws);
    double end = bench_now_ns();
    return sum ? (end - start) / (double)contestant->draws.count : NAN;
}

static double dependent(void *ctx) { return measure(ctx, mirror_dependent); }
static double independent(void *ctx) { return measure(ctx, mirror_independent); }
static double many(void *ctx) { return measure(ctx, mirror_many); }
static double alone_dependent(void *ctx) { return measure(ctx, mirror_alone_dependent); }
static double alone_independent(void *ctx) { return measure(ctx, mirror_alone_independent); }

static const struct bench_measurement measurements[] = {
    {"dependent", dependent},
    {"independent", independent},
    {"get_many", many},
    {"alone_dependent", alone_dependent},
    {"alone_independent", alone_independent},
};

static void usage(const char *program)
{
    fprintf(stderr, "usage: %s [--names | --ids] [--keys N] [--reads N] [--seed N]\n", program);
    exit(2);
}

int main(int argc, char **argv)
{
    static struct contestant contestant;
    static struct names names;
    uint64_t keys = 1000000, reads = 500000, seed = 1;
    bool ids = false;
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (!strcmp(argv[i], "--names") || !strcmp(argv[i], "--ids"))
            ids = !strcmp(argv[i], "--ids");
        else if (more && !strcmp(argv[i], "--keys"))
            keys = strtoull(argv[++i], NULL, 0);
        else if (more && !strcmp(argv[i], "--reads"))
            reads = strtoull(argv[++i], NULL, 0);
        else if (more && !strcmp(argv[i], "--seed"))
            seed = strtoull(argv[++i], NULL, 0);
        else
            usage(argv[0]);
    }
    reads -= reads % MIRROR_MANY;
    if (keys == 0 || keys > TALLY_ROWS_MAX || reads == 0) usage(argv[0]);
    if (ids) {
        world_init(&contestant.world, (uint32_t)keys, seed);
    } else {
        names_load(&names, (uint32_t)keys);
        world_init_names(&contestant.world, &names, seed);
    }
    draws_init(&contestant.draws, reads, ids ? 8 : NAMES_KEY_BYTES_MAX);
    bench_contest(measurements, sizeof measurements / sizeof *measurements, &contestant, NULL);
    draws_free(&contestant.draws);
    world_deinit(&contestant.world);
    names_free(&names);
    return 0;
}
