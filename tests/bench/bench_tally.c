// SPDX-License-Identifier: Apache-2.0
//
// Counting from several threads: the two maps of tally.h beside a map with a read-write lock, as people write it: the read lock to find the key
// and add atomically, the write lock for a new one. All are drained every 20 ms by the first thread, as an edge does.
//
// Wall time an addition over all threads: two threads that do not hinder each other take half of one's. Real names as keys.
//
//   bench_tally --contest KEYS ADDS SEED    answers bench_counting.py: cas.1, cas.2, sharded.1 ... rwlock.2
#include "bench.h"
#include "names.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tallycast/tally.h>
#include <time.h>

#define MEMORY   (64u << 20)
#define DRAIN_NS 20e6
#define DRAWS    (1u << 18)
#define CHAINS   (1u << 18)
#define THREADS  2u

static double wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static _Noreturn void give_up(const char *what)
{
    fprintf(stderr, "bench_tally: %s\n", what);
    exit(1);
}

// ---------------------------------------------------------------------------------------------------- the peer

struct node {
    struct node *next;
    uint64_t hash;
    _Atomic uint64_t amount;
    uint32_t bytes;
    uint8_t key[];
};

static struct {
    pthread_rwlock_t lock;
    struct node *chains[CHAINS];
} locked = {.lock = PTHREAD_RWLOCK_INITIALIZER};

static struct node *node_of(uint64_t hash, struct tally_bytes key)
{
    struct node *node = locked.chains[hash % CHAINS];
    while (node && (node->hash != hash || !tally_bytes_equal(tally_bytes(node->key, node->bytes), key)))
        node = node->next;
    return node;
}

static void locked_add(struct tally_member *member, struct tally_bytes key)
{
    (void)member;
    uint64_t hash = tally_siphash((struct tally_seed){1, 2}, key.data, key.size);
    pthread_rwlock_rdlock(&locked.lock);
    struct node *node = node_of(hash, key);
    if (node) atomic_fetch_add_explicit(&node->amount, 1, memory_order_relaxed);
    pthread_rwlock_unlock(&locked.lock);
    if (node) return;
    pthread_rwlock_wrlock(&locked.lock);
    node = node_of(hash, key);
    if (!node) {
        node = malloc(sizeof *node + key.size);
        if (!node) give_up("out of memory");
        *node = (struct node){.next = locked.chains[hash % CHAINS], .hash = hash, .bytes = (uint32_t)key.size};
        memcpy(node->key, key.data, key.size);
        locked.chains[hash % CHAINS] = node;
    }
    atomic_fetch_add_explicit(&node->amount, 1, memory_order_relaxed);
    pthread_rwlock_unlock(&locked.lock);
}

static uint64_t locked_drain(struct tally_member *member)
{
    (void)member;
    uint64_t sum = 0;
    pthread_rwlock_wrlock(&locked.lock);
    for (size_t i = 0; i < CHAINS; i++) {
        for (struct node *node = locked.chains[i], *next; node; node = next) {
            next = node->next;
            sum += atomic_load_explicit(&node->amount, memory_order_relaxed);
            free(node);
        }
        locked.chains[i] = NULL;
    }
    pthread_rwlock_unlock(&locked.lock);
    return sum;
}

// ---------------------------------------------------------------------------------------------------- ours

static uint32_t table;

static void tally_add(struct tally_member *member, struct tally_bytes key)
{
    if (tally_map_add(member, table, key, 1) != TALLY_OK) give_up("an addition was refused");
}

static uint64_t tally_drain(struct tally_member *member)
{
    struct tally_drain drain;
    struct tally_entry entry;
    uint64_t sum = 0;
    while (tally_drain_begin(member, &drain) == TALLY_BUSY) sched_yield();
    while (tally_drain_next(&drain, &entry)) sum += (uint64_t)entry.amount;
    tally_drain_end(&drain);
    return sum;
}

// ---------------------------------------------------------------------------------------------------- rounds

struct contestant {
    const char *name;
    void (*add)(struct tally_member *member, struct tally_bytes key);
    uint64_t (*drain)(struct tally_member *member);
    struct tally_map *map; // null: the peer
};

struct run {
    const struct contestant *of;
    const struct draws *draws;
    unsigned threads;
    uint64_t adds; // of each thread
    pthread_barrier_t barrier;
    _Atomic uint64_t drained;
};

struct runner {
    struct run *run;
    unsigned number;
    double begin, end;
};

static void *add_all(void *argument)
{
    struct runner *runner = argument;
    struct run *run = runner->run;
    const struct contestant *of = run->of;
    struct tally_member member = {0};
    if (of->map && tally_map_join(of->map, NULL, &member) != TALLY_OK) give_up("no room for a member");
    pthread_barrier_wait(&run->barrier);
    runner->begin = wall_ns();
    double drain_at = runner->begin + DRAIN_NS;
    for (uint64_t i = 0, at = runner->number * DRAWS / THREADS; i < run->adds; i++, at++) {
        of->add(&member, run->draws->keys[at % DRAWS]);
        if (runner->number == 0 && i % 256 == 0 && wall_ns() >= drain_at) {
            run->drained += of->drain(&member);
            drain_at = wall_ns() + DRAIN_NS;
        }
    }
    runner->end = wall_ns();
    pthread_barrier_wait(&run->barrier);
    if (runner->number == 0) {
        run->drained += of->drain(&member);
        run->drained += of->drain(&member);
    }
    if (of->map) tally_map_leave(&member);
    return NULL;
}

// ns an addition, over all threads; everything that was added is drained.
static double round_of(const struct contestant *of, const struct draws *draws, unsigned threads, uint64_t adds)
{
    struct run run = {.of = of, .draws = draws, .threads = threads, .adds = adds / threads};
    struct runner runners[THREADS];
    pthread_t ids[THREADS];
    double begin = 0, end = 0;
    pthread_barrier_init(&run.barrier, NULL, threads);
    for (unsigned i = 0; i < threads; i++) {
        runners[i] = (struct runner){.run = &run, .number = i};
        if (pthread_create(&ids[i], NULL, add_all, &runners[i])) give_up("no thread");
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        if (i == 0 || runners[i].begin < begin) begin = runners[i].begin;
        if (i == 0 || runners[i].end > end) end = runners[i].end;
    }
    pthread_barrier_destroy(&run.barrier);
    if (atomic_load(&run.drained) != run.adds * threads) give_up("what was added is not what was drained");
    return (end - begin) / (double)(run.adds * threads);
}

static void bench_keys(const struct bench_options *options, const struct names *names, uint32_t keys,
                       const struct contestant *contestants, size_t count)
{
    uint64_t random = options->seed, adds = options->size == BENCH_SMOKE   ? 20000
                                            : options->size == BENCH_QUICK ? 400000
                                                                           : 5000000;
    struct draws draws;
    draws_init(&draws, DRAWS, NAMES_KEY_BYTES_MAX);
    for (size_t i = 0; i < DRAWS; i++) draws_set(&draws, i, names_key(names, (uint32_t)bench_below(&random, keys)));
    for (unsigned threads = 1; threads <= THREADS; threads++) {
        struct bench_figures figures[3] = {0};
        char subject[96];
        for (unsigned round = 0; round <= options->rounds; round++) {
            for (size_t i = 0; i < count; i++) {
                double ns = round_of(&contestants[i], &draws, threads, adds);
                if (round) bench_add(&figures[i], ns); // the first touches the memory
            }
        }
        for (size_t i = 0; i + 1 < count; i++) {
            for (size_t against = i + 1; against < count; against++) {
                snprintf(subject, sizeof subject, "%s: add, %u thread%s, %u names", contestants[i].name, threads,
                         threads > 1 ? "s" : "", keys);
                bench_print("tally", subject, &figures[i], "ns", contestants[against].name, &figures[against], "");
            }
        }
    }
    draws_free(&draws);
}

// ---------------------------------------------------------------------------------------------------- as a contestant

struct contest {
    struct contestant *contestants;
    struct draws draws;
    uint64_t adds;
};

#define MEASURE(name, which, threads)                                                                                  \
    static double name##_##threads(void *ctx)                                                                          \
    {                                                                                                                  \
        struct contest *contest = ctx;                                                                                 \
        round_of(&contest->contestants[which], &contest->draws, threads, contest->adds / 4); /* what others left */    \
        return round_of(&contest->contestants[which], &contest->draws, threads, contest->adds);                        \
    }

MEASURE(cas, 0, 1)
MEASURE(cas, 0, 2)
MEASURE(sharded, 1, 1)
MEASURE(sharded, 1, 2)
MEASURE(rwlock, 2, 1)
MEASURE(rwlock, 2, 2)

static int answer(struct contestant *contestants, const struct names *names, char **argv)
{
    static const struct bench_measurement measurements[] = {
        {"cas.1", cas_1},         {"cas.2", cas_2},       {"sharded.1", sharded_1},
        {"sharded.2", sharded_2}, {"rwlock.1", rwlock_1}, {"rwlock.2", rwlock_2},
    };
    struct contest contest = {.contestants = contestants, .adds = strtoull(argv[1], NULL, 0)};
    uint32_t keys = (uint32_t)strtoul(argv[0], NULL, 0);
    uint64_t random = strtoull(argv[2], NULL, 0);
    if (keys == 0 || keys > names->count) give_up("keys");
    draws_init(&contest.draws, DRAWS, NAMES_KEY_BYTES_MAX);
    for (size_t i = 0; i < DRAWS; i++)
        draws_set(&contest.draws, i, names_key(names, (uint32_t)bench_below(&random, keys)));
    bench_contest(measurements, sizeof measurements / sizeof *measurements, &contest, NULL);
    draws_free(&contest.draws);
    return 0;
}

int main(int argc, char **argv)
{
    bool contest = argc == 5 && !strcmp(argv[1], "--contest");
    struct bench_options options = bench_options(contest ? 1 : argc, argv);
    struct contestant contestants[] = {
        {.name = "lock-free tally", .add = tally_add, .drain = tally_drain},
        {.name = "sharded tally", .add = tally_add, .drain = tally_drain},
        {.name = "map with a read-write lock", .add = locked_add, .drain = locked_drain},
    };
    struct names names;
    names_load(&names, 100000);
    for (enum tally_map_kind kind = TALLY_MAP_CAS; kind <= TALLY_MAP_SHARDED; kind++) {
        const struct tally_map_options map = {.kind = kind, .seed = {1, 2}};
        if (tally_map_init(bench_huge(MEMORY), MEMORY, &map, &contestants[kind].map) != TALLY_OK ||
            tally_map_table(contestants[kind].map, tally_bytes("t", 1), &table) != TALLY_OK)
            give_up("no map");
    }
    if (contest) return answer(contestants, &names, argv + 2);
    bench_keys(&options, &names, 16, contestants, 3);
    bench_keys(&options, &names, 100000, contestants, 3);
    return 0;
}
