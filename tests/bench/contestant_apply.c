// SPDX-License-Identifier: Apache-2.0
//
// Ours as a contestant of bench_hollow.py: contestant_apply ids|names KEYS CHANGES SEED. A native mirror of names (from $TALLY_BENCH_NAMES) or of
// 8-byte keys; each `apply` cuts the frame of CHANGES uniformly random changes by 1 to 50, and measures the mirror's apply of it, in ns a change. `bytes`
// is the last frame's, a change.
#include "bench.h"
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

struct contestant {
    struct world world;
    uint32_t changes;
    double bytes;
};

static double apply(void *ctx)
{
    struct contestant *contestant = ctx;
    struct test_frame frame;
    struct tally_bytes bytes = world_cut(&contestant->world, contestant->changes, &frame);
    double start = bench_now_ns();
    world_apply(&contestant->world, bytes, TALLY_OK);
    double end = bench_now_ns();
    contestant->bytes = (double)bytes.size / contestant->changes;
    test_frame_free(&frame);
    return (end - start) / contestant->changes;
}

static double bytes_a_change(void *ctx) { return ((struct contestant *)ctx)->bytes; }

static const struct bench_measurement measurements[] = {{"apply", apply}, {"bytes", bytes_a_change}};

int main(int argc, char **argv)
{
    static struct contestant contestant;
    static struct names names;
    if (argc != 5) {
        fprintf(stderr, "usage: %s ids|names KEYS CHANGES SEED\n", argv[0]);
        return 2;
    }
    uint32_t keys = (uint32_t)strtoul(argv[2], NULL, 10);
    uint64_t seed = strtoull(argv[4], NULL, 10);
    contestant.changes = (uint32_t)strtoul(argv[3], NULL, 10);
    if (!strcmp(argv[1], "ids")) {
        world_init(&contestant.world, keys, seed);
    } else {
        names_load(&names, keys);
        world_init_names(&contestant.world, &names, seed);
    }
    for (int i = 0; i < 3; i++) apply(&contestant); // the memory grows once
    bench_contest(measurements, sizeof measurements / sizeof *measurements, &contestant, NULL);
    world_deinit(&contestant.world);
    names_free(&names);
    return 0;
}
