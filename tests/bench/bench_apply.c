// SPDX-License-Identifier: Apache-2.0
#include "bench_apply.h"

#include <stdio.h>
#include <stdlib.h>

#include "../../client-wasm/src/layout.h"

static const char *apply_target(uint32_t keys, uint32_t changes)
{
    if (keys < 10000000) return "";
    return changes == 1000000 ? "<= 60" : changes == 100000 ? "<= 250" : "";
}

// The physical limit of a change that is alone in its page: a KiB from a random place of the mirror's memory to the next place of
// another array.
static void copy_pages(struct bench_figures *figures, struct world *world)
{
    enum { PAGES = 20000, PAGES_ROUND = 16 * PAGES };
    static uint8_t *to;
    static size_t next; // round an array that no cache holds
    const uint8_t *from = world->memory.base;
    size_t pages = world->memory.size / 1024;
    if (!to) memset(to = bench_huge((size_t)PAGES_ROUND * 1024), 1, (size_t)PAGES_ROUND * 1024);
    double start = bench_now_ns();
    for (size_t i = 0; i < PAGES; i++, next = (next + 1) % PAGES_ROUND)
        memcpy(to + next * 1024, from + bench_below(&world->random, pages) * 1024, 1024);
    bench_add(figures, (bench_now_ns() - start) / PAGES);
}

// Fewer are over too soon to be compared with it, and it leaves nothing in the caches for the next.
#define LIMIT_CHANGES_MIN 10000u

static void bench_uniform(struct world *world, const struct bench_options *options, const char *size, uint32_t changes)
{
    struct bench_figures time = {0}, copied = {0}, copy = {0};
    char subject[96];
    unsigned rounds = options->rounds * (changes < 10000 ? 3 : 1);
    for (unsigned round = 0; round < rounds + 1; round++) {
        struct test_frame frame;
        struct tally_bytes bytes = world_cut(world, changes, &frame);
        double start = bench_now_ns();
        world_apply(world, bytes, TALLY_OK);
        double end = bench_now_ns();
        test_frame_free(&frame);
        if (round == 0) continue; // grows the memory, which happens once
        bench_add(&time, (end - start) / changes);
        bench_add(&copied, (double)world->mirror->transaction.made.bytes / changes);
        if (changes >= LIMIT_CHANGES_MIN) copy_pages(&copy, world);
    }
    snprintf(subject, sizeof subject, "apply %u of %s keys", changes, size);
    bench_print("mirror", subject, &time, "ns/change", NULL, NULL, apply_target(world->keys_count, changes));
    if (changes >= LIMIT_CHANGES_MIN)
        bench_print("mirror", subject, &time, "ns/change", "one random KiB copied", &copy, "");
    snprintf(subject, sizeof subject, "apply %u of %s keys: copied", changes, size);
    bench_print("mirror", subject, &copied, "bytes/change", NULL, NULL, "");
}

// ---------------------------------------------------------------------------------------------------- memory on the way

// What an apply of 1 % takes at its highest, when no reader pins anything: beside what the version before it takes, keys and all.
static void bench_peak(struct world *world, const struct bench_options *options, const char *size)
{
    struct bench_figures used = {0}, steady = {0}, taken = {0};
    uint32_t changes = world->keys_count / 100;
    const char *target = world->keys_count >= 10000000 ? "<= 1.1" : "";
    double keys = world->keys_count;
    char subject[96];
    for (unsigned round = 0; round < options->rounds; round++) {
        struct tally_mirror_stats before, after;
        struct test_frame frame;
        struct tally_bytes bytes = world_cut(world, changes, &frame);
        tally_mirror_stats(world->mirror, &before);
        world->mirror->arena.used_lines_max = 0;
        world_apply(world, bytes, TALLY_OK);
        tally_mirror_stats(world->mirror, &after);
        test_frame_free(&frame);
        bench_add(&steady, (double)before.used_bytes / keys);
        bench_add(&used, (double)(world->mirror->arena.used_lines_max * LINE_BYTES) / keys);
        bench_add(&taken, (double)after.memory_bytes / keys);
    }
    snprintf(subject, sizeof subject, "peak of memory used while 1 %% of %s keys is applied", size);
    bench_print("mirror", subject, &used, "bytes/key", "before it", &steady, target);
    snprintf(subject, sizeof subject, "memory taken from the host for applies of 1 %% of %s keys", size);
    bench_print("mirror", subject, &taken, "bytes/key", "used before it", &steady, "");
}

// ---------------------------------------------------------------------------------------------------- real weights

#define WEIGHT_LINES 226993u // of tests/data/npm-downloads.tsv.gz: see the README there

static uint64_t *sums_of_weights(void)
{
    struct names names;
    uint64_t *sums = malloc(WEIGHT_LINES * sizeof *sums), sum = 0;
    if (!sums) exit(1);
    names_load(&names, WEIGHT_LINES);
    for (uint32_t i = 0; i < WEIGHT_LINES; i++) sums[i] = sum += names.weight[i];
    names_free(&names);
    return sums;
}

// A key drawn by weight: its line by the weights, then one of the line's keys.
static uint32_t draw_by_weight(struct world *world, const uint64_t *sums)
{
    for (;;) {
        uint64_t point = bench_below(&world->random, sums[WEIGHT_LINES - 1]);
        uint32_t low = 0, high = WEIGHT_LINES - 1; // the first sum above the point is in low to high
        while (low < high) {
            uint32_t middle = (low + high) / 2;
            if (sums[middle] > point)
                high = middle;
            else
                low = middle + 1;
        }
        uint32_t times = (world->keys_count + WEIGHT_LINES - 1) / WEIGHT_LINES;
        uint64_t id = low + bench_below(&world->random, times) * WEIGHT_LINES;
        if (id < world->keys_count) return (uint32_t)id;
    }
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

// As many events, each of a key drawn by weight, and a frame of what they sum up to.
static struct tally_bytes cut_weighted(struct world *world, const uint64_t *sums, uint32_t events,
                                       struct test_frame *frame, uint32_t *out_changes)
{
    uint32_t *ids = malloc(events * sizeof *ids), changes = 0;
    int64_t *differences = calloc(events, sizeof *differences);
    if (!ids || !differences) exit(1);
    for (uint32_t i = 0; i < events; i++) ids[i] = draw_by_weight(world, sums);
    qsort(ids, events, sizeof *ids, ascending);
    for (uint32_t i = 0; i < events; i++) {
        if (i == 0 || ids[i] != ids[changes - 1]) ids[changes++] = ids[i];
        differences[changes - 1]++;
    }
    struct tally_bytes bytes = world_cut_rows(world, ids, differences, changes, frame);
    free(ids);
    free(differences);
    *out_changes = changes;
    return bytes;
}

static void bench_weighted(struct world *world, const struct bench_options *options, const char *size, uint32_t events)
{
    struct bench_figures time = {0}, per_event = {0}, changed = {0};
    char subject[96];
    uint64_t *sums = getenv("TALLY_BENCH_NAMES") ? sums_of_weights() : NULL;
    if (!sums) fprintf(stderr, "not run: applies by real weights: TALLY_BENCH_NAMES is not set\n");
    for (unsigned round = 0; sums && round < options->rounds + 1; round++) {
        struct test_frame frame;
        uint32_t changes;
        struct tally_bytes bytes = cut_weighted(world, sums, events, &frame, &changes);
        double start = bench_now_ns();
        world_apply(world, bytes, TALLY_OK);
        double end = bench_now_ns();
        test_frame_free(&frame);
        if (round == 0) continue;
        bench_add(&time, (end - start) / changes);
        bench_add(&per_event, (end - start) / events);
        bench_add(&changed, changes);
    }
    free(sums);
    snprintf(subject, sizeof subject, "apply %u events drawn by real weights, %s keys", events, size);
    bench_print("mirror", subject, &time, "ns/change", NULL, NULL, world->keys_count >= 10000000 ? "<= 120" : "");
    bench_print("mirror", subject, &per_event, "ns/event", NULL, NULL, "");
    snprintf(subject, sizeof subject, "%u events drawn by real weights, %s keys: rows changed", events, size);
    bench_print("mirror", subject, &changed, "rows", NULL, NULL, "");
}

void bench_applies(struct world *world, const struct bench_options *options, const char *size)
{
    uint32_t keys = world->keys_count;
    bench_peak(world, options, size);
    for (uint32_t changes = 10; changes <= keys / 10 && changes <= 1000000; changes *= 10)
        bench_uniform(world, options, size, changes);
    if (keys >= 1000000) bench_weighted(world, options, size, 100000);
}
