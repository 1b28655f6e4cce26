// SPDX-License-Identifier: Apache-2.0
//
// Reads by several threads, and reads beside an applier: the mirror and its peers, 8-byte keys.
//
// Every read is alone: of the mirror, a version is pinned, the table found by its name, the key read, the version let go. Reads that are timed
// one by one pay for the clock; what that takes is measured too, shown, and taken off. The greatest of them belong to the machine (timer
// ticks, other processes, the host under it), so idle phases and busy ones alternate, and both are shown. Each phase begins with reads that are
// not counted: what the phase before has left in the caches is not its own.
#define _GNU_SOURCE // sched_setaffinity
#include "bench.h"
#include "peer.h"
#include "world.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

volatile uint64_t peer_no_bits = 0;

// ---------------------------------------------------------------------------------------------------- time

static double wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

// Ticks that wait for what came before and hold back what comes after.
static inline uint64_t ticks(void)
{
#if defined(__x86_64__)
    unsigned core;
    uint64_t now = __rdtscp(&core);
    _mm_lfence();
    return now;
#else
    return (uint64_t)wall_ns();
#endif
}

static double tick_ns(void)
{
    double wall = wall_ns();
    uint64_t start = ticks();
    while (wall_ns() - wall < 2e7) {
    }
    return (wall_ns() - wall) / (double)(ticks() - start);
}

// Each thread on a core of its own where there are two.
static void pin_to(int core)
{
    cpu_set_t all, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof all, &all)) return;
    for (int i = 0, n = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &all) && n++ == core) CPU_SET(i, &one);
    if (CPU_COUNT(&one)) (void)sched_setaffinity(0, sizeof one, &one);
}

// ---------------------------------------------------------------------------------------------------- what is read

#define DRAWS (1u << 20)

// Keys to be read, in their order; a thread starts where it likes.
static uint64_t draws[DRAWS];

static void draw_keys(struct world *world)
{
    for (uint32_t i = 0; i < DRAWS; i++) draws[i] = world->keys[bench_below(&world->random, world->keys_count)];
}

static uint64_t mirror_get(void *map, uint64_t key)
{
    int64_t value = 0;
    if (tally_get(map, tally_bytes("t", 1), tally_bytes(&key, 8), &value)) return 0;
    return (uint64_t)value;
}

static const struct peer peer_mirror = {"mirror", NULL, NULL, NULL, NULL, mirror_get, NULL, NULL, NULL};

enum { OURS, RWLOCK, CK, URCU, PEERS };

static const struct peer *const peers[PEERS] = {
    [OURS] = &peer_mirror,
    [RWLOCK] = &peer_rwlock,
#ifdef BENCH_CK
    [CK] = &peer_ck,
#endif
#ifdef BENCH_URCU
    [URCU] = &peer_urcu,
#endif
};

static const char *const names[PEERS] = {"mirror", "rwlock", "ck_ht", "rculfhash"};

#define WARM_NS 6e7

// ---------------------------------------------------------------------------------------------------- two threads

struct reading {
    pthread_barrier_t *barrier;
    const struct peer *peer;
    void *map;
    struct tally_mirror *mirror; // ours: a reader of its own
    double seconds, rate;        // reads a second
    int core;
};

static void *read_on(void *argument)
{
    struct reading *reading = argument;
    struct tally_reader reader;
    void *map = reading->map;
    uint64_t sum = 0, reads = 0;
    uint32_t at = (uint32_t)reading->core * (DRAWS / 2);
    pin_to(reading->core);
    if (reading->mirror && tally_reader_open(reading->mirror, &reader)) exit(1);
    if (reading->mirror) map = &reader;
    if (reading->peer->attach) reading->peer->attach();
    pthread_barrier_wait(reading->barrier);
    double start = 0, warm = wall_ns() + WARM_NS, end = warm + reading->seconds * 1e9;
    for (double now = 0; now < end; now = wall_ns()) {
        if (start == 0 && now >= warm) start = bench_now_ns(), reads = 0;
        for (unsigned i = 0; i < 1000; i++, reads++) sum += reading->peer->get(map, draws[at++ & (DRAWS - 1)]);
    }
    reading->rate = sum && start > 0 ? (double)reads * 1e9 / (bench_now_ns() - start) : 0;
    if (reading->peer->detach) reading->peer->detach();
    if (reading->mirror) tally_reader_close(&reader);
    return NULL;
}

// Reads a second of all of the threads, each by its own CPU time: what they do to each other counts, being interrupted does not.
static double read_by(unsigned threads, struct world *world, unsigned peer, void *map, double seconds)
{
    pthread_t thread[2];
    struct reading reading[2];
    pthread_barrier_t barrier;
    double rate = 0;
    pthread_barrier_init(&barrier, NULL, threads);
    for (unsigned i = 0; i < threads; i++) {
        reading[i] = (struct reading){
            &barrier, peers[peer], map, peer == OURS ? world->mirror : NULL, seconds, 0, (int)i,
        };
        if (pthread_create(&thread[i], NULL, read_on, &reading[i])) exit(1);
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
        rate += reading[i].rate;
    }
    pthread_barrier_destroy(&barrier);
    return rate;
}

static void bench_two(struct world *world, void *const *maps, const struct bench_options *options, const char *size)
{
    struct bench_figures rates[PEERS][2] = {0};
    double seconds = options->size == BENCH_SMOKE ? 0.02 : options->size == BENCH_QUICK ? 0.04 : 0.3;
    char subject[96];
    for (unsigned round = 0; round < options->rounds; round++) {
        draw_keys(world);
        for (unsigned i = 0; i < PEERS; i++) {
            // Who comes second finds the caches warmer: in turn.
            for (unsigned n = 0; peers[i] && n < 2; n++) {
                unsigned threads = 1 + ((n + round) & 1);
                bench_add(&rates[i][threads - 1], read_by(threads, world, i, maps[i], seconds) / 1e6);
            }
        }
    }
    for (unsigned i = 0; i < PEERS; i++) {
        snprintf(subject, sizeof subject, "two threads read, %s keys: %s", size, names[i]);
        bench_print("threads", subject, &rates[i][1], "M/s", "one thread", &rates[i][0], i == OURS ? ">= 1.9" : "");
    }
}

// ---------------------------------------------------------------------------------------------------- beside a writer

#define VERSION_NS      1e8 // 10 versions a second
#define VERSIONS_MAX    10u
#define SAMPLES_MAX     (8u << 20)
#define CHANGES_VERSION 100000u

static uint32_t *samples; // ticks of each read

// What a writer does during a phase of reads.
struct writing {
    struct world *world;
    const struct peer *peer; // null: the mirror's applier
    void *map;
    struct test_frame frames[VERSIONS_MAX];
    unsigned versions;     // 0: nothing at all
    uint32_t changes;      // in each
    bool once;             // only what is read while it writes counts
    _Atomic bool on, done; // relaxed: they order nothing
    double updates_s;      // a second of its writing
};

static void wait_until(double at_ns)
{
    struct timespec at = {(time_t)(at_ns / 1e9), (long)(at_ns - 1e9 * (double)(time_t)(at_ns / 1e9))};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
}

static void *write_on(void *argument)
{
    struct writing *writing = argument;
    double start = wall_ns(), busy = 0;
    uint64_t random = writing->changes;
    pin_to(1);
    if (writing->peer && writing->peer->attach) writing->peer->attach();
    for (unsigned version = 0; version < writing->versions; version++) {
        wait_until(start + (version + 0.5) * VERSION_NS);
        double before = wall_ns();
        atomic_store_explicit(&writing->on, true, memory_order_relaxed);
        if (!writing->peer) {
            world_apply(writing->world, test_frame_bytes(&writing->frames[version]), TALLY_OK);
        } else {
            // Not for longer than its turn: a writer behind a rwlock does not get through.
            for (uint32_t i = 0; i < writing->changes && (i % 64 || wall_ns() - before < VERSION_NS); i++) {
                uint64_t key = writing->world->keys[bench_below(&random, writing->world->keys_count)];
                writing->peer->set(writing->map, key, i + 1);
                writing->updates_s += 1;
            }
        }
        atomic_store_explicit(&writing->on, false, memory_order_relaxed);
        busy += wall_ns() - before;
    }
    writing->updates_s = busy > 0 ? writing->updates_s * 1e9 / busy : 0;
    if (writing->peer && writing->peer->detach) writing->peer->detach();
    atomic_store_explicit(&writing->done, true, memory_order_relaxed);
    return NULL;
}

static int ascending(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

struct latency {
    struct bench_figures p50, p9999;
};

// What a read that does nothing takes.
static uint64_t no_get(void *map, uint64_t key) { return (uintptr_t)map + key; }

// Reads until the writer is done, or for `seconds` when there is none.
static uint32_t read_beside(struct writing *writing, uint64_t (*get)(void *, uint64_t), void *map, double seconds)
{
    uint32_t count = 0;
    uint64_t sum = 0;
    double warm = wall_ns() + WARM_NS, end = warm + seconds * 1e9;
    bool cold = true;
    for (uint32_t i = 0;; i++) {
        bool counts = !cold && (!writing->once || atomic_load_explicit(&writing->on, memory_order_relaxed));
        uint64_t key = draws[i & (DRAWS - 1)], start = ticks();
        sum += get(map, key);
        uint64_t took = ticks() - start;
        if (counts && count < SAMPLES_MAX) samples[count++] = took < UINT32_MAX ? (uint32_t)took : UINT32_MAX;
        if (i % 1024) continue;
        cold = cold && wall_ns() < warm;
        if (writing->versions ? atomic_load_explicit(&writing->done, memory_order_relaxed) : wall_ns() >= end) break;
    }
    if (sum == 0) exit(1);
    return count;
}

// The clock may have a coarse step: the median is put into its step by how many samples are below it and in it.
static double median(const uint32_t *sorted, uint32_t count)
{
    uint32_t middle = count / 2, first = middle, last = middle;
    while (first > 0 && sorted[first - 1] == sorted[middle]) first--;
    while (last + 1 < count && sorted[last + 1] == sorted[middle]) last++;
    double low = first > 0 ? (sorted[first - 1] + (double)sorted[middle]) / 2 : sorted[middle];
    double high = last + 1 < count ? (sorted[last + 1] + (double)sorted[middle]) / 2 : sorted[middle];
    return low + (high - low) * (middle - first + 0.5) / (last - first + 1);
}

// One phase: its median and its 99.99th percentile, in ns less `timer` ns.
static void phase(struct latency *latency, struct writing *writing, uint64_t (*get)(void *, uint64_t), void *map,
                  double seconds, double ns, double timer)
{
    pthread_t thread;
    atomic_store(&writing->on, false);
    atomic_store(&writing->done, false);
    writing->updates_s = 0;
    if (writing->versions && pthread_create(&thread, NULL, write_on, writing)) exit(1);
    uint32_t count = read_beside(writing, get, map, seconds);
    if (writing->versions) pthread_join(thread, NULL);
    if (count == 0) return;
    qsort(samples, count, sizeof *samples, ascending);
    bench_add(&latency->p50, median(samples, count) * ns - timer);
    bench_add(&latency->p9999, samples[(size_t)((double)count * 0.9999)] * ns - timer);
}

static void cut_frames(struct writing *writing, unsigned versions, uint32_t changes)
{
    writing->versions = versions;
    writing->changes = changes;
    for (unsigned i = 0; i < versions; i++) (void)world_cut(writing->world, changes, &writing->frames[i]);
}

static void free_frames(struct writing *writing)
{
    for (unsigned i = 0; i < writing->versions; i++) test_frame_free(&writing->frames[i]);
}

static void print_latency(const char *what, const char *size, const struct latency *busy, const struct latency *idle,
                          const char *target_p50, const char *target_p9999)
{
    char subject[128];
    snprintf(subject, sizeof subject, "read %s, p50, %s keys", what, size);
    bench_print("threads", subject, &busy->p50, "ns", "idle", &idle->p50, target_p50);
    snprintf(subject, sizeof subject, "read %s, p99.99, %s keys", what, size);
    bench_print("threads", subject, &busy->p9999, "ns", "idle", &idle->p9999, target_p9999);
}

static void bench_beside(struct world *world, void *const *maps, const struct bench_options *options, const char *size)
{
    static struct latency nothing, idle[PEERS], beside[PEERS], during;
    static struct bench_figures updates[PEERS];
    static struct writing writing;
    double ns = tick_ns(), seconds = options->size == BENCH_SMOKE ? 0.02 : options->size == BENCH_QUICK ? 0.1 : 1;
    unsigned versions = options->size == BENCH_SMOKE ? 1 : options->size == BENCH_QUICK ? 2 : VERSIONS_MAX;
    unsigned peers_count = options->size == BENCH_QUICK ? CK : PEERS; // --quick: the rwlock's only
    uint32_t some = world->keys_count / 10 < CHANGES_VERSION ? world->keys_count / 10 : CHANGES_VERSION;
    uint32_t many = world->keys_count / 2 < 1000000 ? world->keys_count / 2 : 1000000;
    char subject[128];
    samples = bench_huge(SAMPLES_MAX * sizeof *samples);
    memset(samples, 1, SAMPLES_MAX * sizeof *samples);
    pin_to(0);
    writing.world = world;
    for (unsigned round = 0; round < options->rounds + 1; round++) {
        if (round == 1) { // the first grows the memory, which happens once
            nothing = during = (struct latency){0};
            memset(idle, 0, sizeof idle);
            memset(beside, 0, sizeof beside);
            memset(updates, 0, sizeof updates);
        }
        draw_keys(world);
        writing = (struct writing){.world = world};
        phase(&nothing, &writing, no_get, NULL, 0.01, ns, 0);
        double timer = bench_median(&nothing.p50);
        for (unsigned i = 0; i < peers_count; i++) {
            if (!peers[i]) continue;
            writing = (struct writing){.world = world};
            phase(&idle[i], &writing, peers[i]->get, maps[i], seconds, ns, timer);
            if (i == OURS) {
                cut_frames(&writing, versions, some);
            } else {
                writing.peer = peers[i];
                writing.map = maps[i];
                writing.versions = versions;
                writing.changes = some;
            }
            phase(&beside[i], &writing, peers[i]->get, maps[i], 0, ns, timer);
            if (i == OURS)
                free_frames(&writing);
            else
                bench_add(&updates[i], writing.updates_s);
        }
        writing = (struct writing){.world = world, .once = true};
        cut_frames(&writing, 1, many);
        phase(&during, &writing, peers[OURS]->get, maps[OURS], 0, ns, timer);
        free_frames(&writing);
    }
    bench_print("threads", "the clock around a read, taken off below", &nothing.p50, "ns", NULL, NULL, "");
    for (unsigned i = 0; i < peers_count; i++) {
        snprintf(subject, sizeof subject, "beside %u changes 10 times a second: %s", some, names[i]);
        print_latency(subject, size, &beside[i], &idle[i], i == OURS ? "<= 1.1" : "", i == OURS ? "<= 2" : "");
        if (i == OURS) {
            snprintf(subject, sizeof subject, "while one frame of %u changes is applied: mirror", many);
            print_latency(subject, size, &during, &idle[i], "", "<= 2");
        } else {
            snprintf(subject, sizeof subject, "updates a second of the writer beside a reader: %s", names[i]);
            bench_print("threads", subject, &updates[i], "/s", NULL, NULL, "");
        }
    }
    bench_huge_free(samples, SAMPLES_MAX * sizeof *samples);
}

// ---------------------------------------------------------------------------------------------------- main

int main(int argc, char **argv)
{
    static struct world world;
    struct bench_options options = bench_options(argc, argv);
    uint32_t keys = options.size == BENCH_SMOKE ? 20000 : options.size == BENCH_QUICK ? 1000000 : 10000000;
    const char *size = options.size == BENCH_SMOKE ? "20k" : options.size == BENCH_QUICK ? "1M" : "10M";
    void *maps[PEERS] = {&world.reader};
    world_init(&world, keys, options.seed);
    for (unsigned i = RWLOCK; i < PEERS; i++)
        if (peers[i]) maps[i] = peers[i]->build(world.keys, keys);
    if (bench_wants(&options, "two")) bench_two(&world, maps, &options, size);
    if (bench_wants(&options, "beside")) bench_beside(&world, maps, &options, size);
    for (unsigned i = RWLOCK; i < PEERS; i++)
        if (peers[i]) peers[i]->destroy(maps[i]);
    world_deinit(&world);
    return 0;
}
