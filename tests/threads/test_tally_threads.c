// SPDX-License-Identifier: Apache-2.0
//
// The tally under threads, both maps: every addition that was accepted is in exactly one drain, and what concurrent members see can be put in
// one order that respects time (linearizability: short histories are recorded and checked by the search of Wing and Gong, "Testing and
// verifying concurrent objects", 1993). Run by ThreadSanitizer too.
//
//   test_tally_threads [ROUNDS]
#include "check.h"

#include "../support/random.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <tallycast/tally.h>
#include <unistd.h>

#define THREADS 4u

static void futex_wait(void *ctx, _Atomic uint32_t *word, uint32_t expected)
{
    (void)ctx;
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(void *ctx, _Atomic uint32_t *word)
{
    (void)ctx;
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static const struct tally_map_waiter futex = {NULL, futex_wait, futex_wake};
static struct tally_map *map;
static uint32_t table;

static struct tally_map *map_of(enum tally_map_kind kind, size_t bytes, uint32_t shards)
{
    const struct tally_map_options options = {.kind = kind, .seed = {3, 4}, .shards = shards};
    void *memory = aligned_alloc(64, bytes);
    struct tally_map *made;
    CHECK(memory && tally_map_init(memory, bytes, &options, &made) == TALLY_OK);
    CHECK(tally_map_table(made, tally_bytes("t", 1), &table) == TALLY_OK);
    return made;
}

// ---------------------------------------------------------------------------------------------------- sums

// Few keys, which all fight for, and more than there is room for, which a drain makes room for.
#define KEYS_HOT  16u
#define KEYS_COLD 60000u

static _Atomic unsigned writers_left;
static _Atomic uint64_t added, refused;
static unsigned adds_each;

static void *writer(void *argument)
{
    struct test_random random = {(uint64_t)(uintptr_t)argument};
    struct tally_member member;
    uint64_t mine = 0, not_mine = 0;
    char key[16];
    CHECK(tally_map_join(map, &futex, &member) == TALLY_OK);
    for (unsigned i = 0; i < adds_each; i++) {
        uint32_t keys = test_random_percent(&random, 50) ? KEYS_HOT : KEYS_COLD;
        int size = snprintf(key, sizeof key, "%u", (unsigned)test_random_below(&random, keys));
        int64_t amount = (int64_t)test_random_below(&random, 100);
        enum tally_status status = tally_map_add(&member, table, tally_bytes(key, (size_t)size), amount);
        CHECK(status == TALLY_OK || status == TALLY_FULL);
        if (status == TALLY_OK)
            mine += (uint64_t)amount;
        else
            not_mine++;
        if (i % 4096 == 0) { // members come and go
            tally_map_leave(&member);
            CHECK(tally_map_join(map, &futex, &member) == TALLY_OK);
        }
    }
    tally_map_leave(&member);
    atomic_fetch_add(&added, mine);
    atomic_fetch_add(&refused, not_mine);
    atomic_fetch_sub(&writers_left, 1);
    return NULL;
}

static uint64_t drain_once(struct tally_member *member, uint64_t *out_keys)
{
    struct tally_drain drain;
    struct tally_entry entry;
    uint64_t sum = 0;
    while (tally_drain_begin(member, &drain) == TALLY_BUSY) sched_yield();
    for (*out_keys = 0; tally_drain_next(&drain, &entry); ++*out_keys) {
        CHECK(entry.table == table && entry.key.size > 0 && entry.key.size < 6);
        sum += (uint64_t)entry.amount;
    }
    tally_drain_end(&drain);
    return sum;
}

static void test_sums(enum tally_map_kind kind, unsigned adds)
{
    pthread_t threads[THREADS];
    uint64_t drained = 0, keys, drains = 0;
    struct tally_map_stats stats;
    struct tally_member member;
    map = map_of(kind, 1u << 20, 0);
    CHECK(tally_map_join(map, &futex, &member) == TALLY_OK);
    atomic_store(&added, 0);
    atomic_store(&refused, 0);
    atomic_store(&writers_left, THREADS);
    adds_each = adds;
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, writer, (void *)(i + 1)));
    while (atomic_load(&writers_left)) {
        drained += drain_once(&member, &keys);
        drains++;
    }
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < 2; i++, drains++) drained += drain_once(&member, &keys);
    tally_map_stats(map, &stats);
    CHECK(drained == atomic_load(&added));
    CHECK(keys == 0 && stats.keys == 0);
    CHECK(stats.adds + stats.refused == (uint64_t)THREADS * adds && stats.refused == atomic_load(&refused));
    CHECK(stats.drains == drains);
    printf("%s: %llu additions, %llu refused, %llu drains, %llu times contended\n",
           kind == TALLY_MAP_CAS ? "cas" : "sharded", (unsigned long long)stats.adds, (unsigned long long)stats.refused,
           (unsigned long long)drains, (unsigned long long)stats.contention);
    free(map);
}

// ---------------------------------------------------------------------------------------------------- histories

// Thread 0 drains, the others add, exchange, take out and get: one key of many, so that it is new in each generation and there are neighbours.
#define OPS       6u
#define OPS_TOTAL (THREADS * OPS)

#define NONE UINT32_MAX // the key's state: not there

enum { ADD, GET, EXCHANGE, DRAIN };

struct op {
    int what;
    uint64_t value; // added, got, drained, what an exchange found
    uint64_t set;   // by an exchange
    uint64_t begin, end;
};

static struct op history[THREADS][OPS];
static _Atomic uint64_t clock_now;
static pthread_barrier_t barrier;
static unsigned rounds;
static uint64_t seed;

static struct op act(struct tally_member *member, unsigned thread, struct test_random *random)
{
    static const int mix[] = {ADD, ADD, ADD, GET, GET, EXCHANGE, EXCHANGE};
    struct op op = {.what = thread == 0 ? DRAIN : mix[test_random_below(random, sizeof mix / sizeof *mix)]};
    struct tally_bytes key = tally_bytes("key", 3);
    struct tally_drain drain;
    struct tally_entry entry;
    int64_t amount = (int64_t)test_random_between(random, 1, 3), was;
    if (op.what == EXCHANGE && test_random_percent(random, 50)) amount = TALLY_MAP_NONE;
    op.begin = atomic_fetch_add(&clock_now, 1);
    switch (op.what) {
    case ADD:
        CHECK(tally_map_add(member, table, key, amount) == TALLY_OK);
        op.value = (uint64_t)amount;
        break;
    case GET:
        CHECK(tally_map_get(member, table, key, &amount) == TALLY_OK);
        op.value = (uint64_t)amount;
        break;
    case EXCHANGE:
        CHECK(tally_map_exchange(member, table, key, amount, &was) == TALLY_OK);
        op.value = was == TALLY_MAP_NONE ? NONE : (uint64_t)was;
        op.set = amount == TALLY_MAP_NONE ? NONE : (uint64_t)amount;
        break;
    default:
        while (tally_drain_begin(member, &drain) == TALLY_BUSY) sched_yield();
        while (tally_drain_next(&drain, &entry))
            if (entry.key.size == 3) op.value = (uint64_t)entry.amount;
        tally_drain_end(&drain);
    }
    op.end = atomic_fetch_add(&clock_now, 1);
    return op;
}

static void *actor(void *argument)
{
    unsigned thread = (unsigned)(uintptr_t)argument;
    struct test_random random = {seed + thread};
    struct tally_member member;
    CHECK(tally_map_join(map, &futex, &member) == TALLY_OK);
    for (unsigned round = 0; round < rounds; round++) {
        pthread_barrier_wait(&barrier); // the checker has looked at the last one
        for (unsigned i = 0; i < OPS; i++) {
            for (uint64_t idle = test_random_below(&random, 60); idle; idle--)
                atomic_signal_fence(memory_order_seq_cst);
            history[thread][i] = act(&member, thread, &random);
        }
        pthread_barrier_wait(&barrier);
    }
    tally_map_leave(&member);
    return NULL;
}

#define SEEN (1u << 16)

// What was tried and led nowhere: which operations are done, and the count they leave. A set that forgets, which only costs time.
static struct seen {
    uint32_t done, state;
} seen[SEEN];

// Whether `op` may find the key in this state, and what it leaves.
static bool step(const struct op *op, uint64_t state, uint64_t *out_state)
{
    uint64_t amount = state == NONE ? 0 : state;
    *out_state = op->what == ADD        ? amount + op->value
                 : op->what == EXCHANGE ? op->set
                 : op->what == DRAIN    ? NONE
                                        : state;
    return op->what == ADD || op->value == (op->what == EXCHANGE ? state : amount);
}

static bool can_be_ordered(uint32_t next[THREADS], uint64_t state, uint64_t left_state)
{
    uint64_t end_min = UINT64_MAX;
    uint32_t done = 0;
    for (unsigned t = 0; t < THREADS; t++) {
        done = done * (OPS + 1) + next[t];
        if (next[t] < OPS && history[t][next[t]].end < end_min) end_min = history[t][next[t]].end;
    }
    if (end_min == UINT64_MAX) return (state == NONE ? 0 : state) == left_state;
    struct seen *memo = &seen[(done * 31 + state) % SEEN];
    if (memo->done == done + 1 && memo->state == state) return false;
    for (unsigned t = 0; t < THREADS; t++) {
        // An operation may be the next if none of the others ended before it began.
        const struct op *op = next[t] < OPS ? &history[t][next[t]] : NULL;
        uint64_t then;
        if (!op || op->begin > end_min || !step(op, state, &then)) continue;
        next[t]++;
        if (can_be_ordered(next, then, left_state)) return true;
        next[t]--;
    }
    *memo = (struct seen){done + 1, (uint32_t)state};
    return false;
}

static void print_history(void)
{
    static const char *names[] = {"add", "get", "exchange", "drain"};
    for (unsigned t = 0; t < THREADS; t++)
        for (unsigned i = 0; i < OPS; i++)
            fprintf(stderr, "thread %u: %s %llu (%llu) from %llu to %llu\n", t, names[history[t][i].what],
                    (unsigned long long)history[t][i].value, (unsigned long long)history[t][i].set,
                    (unsigned long long)history[t][i].begin, (unsigned long long)history[t][i].end);
}

static void test_histories(enum tally_map_kind kind)
{
    pthread_t threads[THREADS];
    struct tally_member member;
    uint64_t keys, overlapping = 0;
    map = map_of(kind, 256u << 10, 4);
    CHECK(tally_map_join(map, &futex, &member) == TALLY_OK);
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (uintptr_t i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, actor, (void *)i));
    for (unsigned round = 0; round < rounds; round++) {
        uint32_t next[THREADS] = {0};
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        memset(seen, 0, sizeof seen);
        for (unsigned t = 1; t < THREADS; t++)
            overlapping +=
                history[t][0].begin < history[0][OPS - 1].end && history[0][0].begin < history[t][OPS - 1].end;
        if (!can_be_ordered(next, NONE, drain_once(&member, &keys))) {
            print_history();
            CHECK(!"the history can be ordered");
        }
    }
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    printf("%s: %u histories of %u operations, each in an order; %llu threads of them met the drainer\n",
           kind == TALLY_MAP_CAS ? "cas" : "sharded", rounds, OPS_TOTAL, (unsigned long long)overlapping);
    free(map);
}

int main(int argc, char **argv)
{
    struct test_random random = test_random_start("tally threads");
    seed = random.state;
    rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 3000;
    for (enum tally_map_kind kind = TALLY_MAP_CAS; kind <= TALLY_MAP_SHARDED; kind++) {
        test_histories(kind);
        test_sums(kind, rounds * 100);
    }
    return 0;
}
