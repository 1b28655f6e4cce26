// SPDX-License-Identifier: Apache-2.0
//
// Counting inside an edge under threads: what was answered TALLY_OK is drained, once, whatever the drain does meanwhile; who waits is told when it
// was. Run by ThreadSanitizer too.
//
//   test_counts_threads [ROUNDS]
#include "../support/random.h"
#include "check.h"

#include <edge/counts/counts.h>
#include <messages/messages.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define THREADS    6u
#define DRAINS_MIN 60u // so that everything that the drainer does has happened

static struct tally_counts *counts;
static _Atomic uint64_t added, offered; // sums of counters; of topk
static _Atomic unsigned writers_left;
static _Atomic uint64_t waited_for, attempts;
static _Atomic unsigned drains;
static unsigned rounds = 60000;

struct waiting {
    struct tally_counts_waiter waiter;
    _Atomic uint32_t done;
};

static void told(struct tally_counts_waiter *waiter, enum tally_status status)
{
    CHECK(status == TALLY_OK);
    atomic_store(&((struct waiting *)waiter)->done, 1);
}

static void *writer(void *argument)
{
    struct test_random random = {(uint64_t)(uintptr_t)argument};
    struct tally_counter *counter;
    uint64_t mine = 0, others = 0;
    CHECK(tally_counts_join(counts, &counter) == TALLY_OK);
    unsigned i = 0;
    for (; i < rounds || atomic_load(&drains) < DRAINS_MIN; i++) {
        char key[16], name[16];
        struct tally_sum sum = {
            .counting = test_random_percent(&random, 95) ? TALLY_COUNTING_ADD : TALLY_COUNTING_TOPK,
            .table =
                tally_bytes(name, (size_t)snprintf(name, sizeof name, "t%u", (unsigned)test_random_below(&random, 3))),
            .key = tally_bytes(key, (size_t)snprintf(key, sizeof key, "%u", (unsigned)test_random_below(&random, 500))),
            .number = (int64_t)test_random_below(&random, 1000)};
        if (tally_counts_put(counter, &sum) != TALLY_OK) {
            sched_yield();
            continue;
        }
        if (sum.counting == TALLY_COUNTING_ADD)
            mine += (uint64_t)sum.number;
        else
            others += (uint64_t)sum.number;
        if (i % (rounds / 5) == 7) { // now and then it wants to know
            struct waiting waiting = {.waiter.done = told};
            atomic_fetch_add(&waited_for, 1);
            tally_counts_wait(counts, &waiting.waiter);
            while (!atomic_load(&waiting.done)) sched_yield();
        }
        if (i % 9973 == 0) { // and comes anew
            tally_counts_leave(&counter);
            CHECK(tally_counts_join(counts, &counter) == TALLY_OK);
        }
    }
    tally_counts_leave(&counter);
    atomic_fetch_add(&attempts, i);
    atomic_fetch_add(&added, mine);
    atomic_fetch_add(&offered, others);
    atomic_fetch_sub(&writers_left, 1);
    return NULL;
}

struct totals {
    uint64_t added, offered, now_added, now_offered, takes;
    struct test_random random;
};

static enum tally_status take(void *ctx, const struct tally_sum *sum)
{
    struct totals *totals = ctx;
    if (test_random_below(&totals->random, 5000) == 0 || !totals->takes++) return TALLY_NO_MEMORY;
    if (sum->counting == TALLY_COUNTING_ADD)
        totals->now_added += (uint64_t)sum->number;
    else
        totals->now_offered += (uint64_t)sum->number;
    return TALLY_OK;
}

int main(int argc, char **argv)
{
    struct totals totals = {.random = test_random_start("counts_threads")};
    const struct tally_counts_options options = {.bytes = 1 << 20, .seed = {1, 2}};
    pthread_t threads[THREADS];
    if (argc > 1) rounds = (unsigned)atoi(argv[1]);
    CHECK(tally_counts_create(&options, &counts) == TALLY_OK);
    writers_left = THREADS;
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, writer, (void *)(totals.random.state + i)) == 0);
    unsigned failed = 0;
    for (bool last = false; !last;) {
        uint64_t drain;
        last = atomic_load(&writers_left) == 0 && !tally_counts_due(counts);
        totals.now_added = totals.now_offered = 0;
        enum tally_status status = tally_counts_drain(counts, take, &totals, &drain);
        if (status != TALLY_OK) {
            failed++;
            last = false;
            continue;
        }
        totals.added += totals.now_added;
        totals.offered += totals.now_offered;
        tally_counts_settle(counts, drain);
        struct tally_counts_stats stats;
        tally_counts_stats(counts, &stats);
        unsigned number = atomic_fetch_add(&drains, 1);
        bool gate = number % 10 == 0, refuse = number % 8 == 0;
        tally_counts_gate(counts, gate ? TALLY_FULL : TALLY_OK);
        tally_counts_refuse(counts, TALLY_COUNTING_ADD, tally_bytes("t1", 2), refuse ? TALLY_FORBIDDEN : TALLY_OK);
        // So that somebody meets them, however few processors there are.
        for (unsigned i = 0; (gate || refuse) && i < 100; i++) sched_yield();
    }
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    if (totals.added != added)
        fprintf(stderr, "%llu drained of %llu\n", (unsigned long long)totals.added, (unsigned long long)added);
    CHECK(totals.added == added && totals.offered == offered);
    CHECK(added && offered && waited_for && failed);
    struct tally_counts_stats stats;
    tally_counts_stats(counts, &stats);
    CHECK(stats.adds + stats.refused_full + stats.refused_table == attempts);
    printf("%u drains (%u cut short), %llu counted, %llu and %llu refused\n", drains, failed,
           (unsigned long long)stats.adds, (unsigned long long)stats.refused_full,
           (unsigned long long)stats.refused_table);
    CHECK(stats.refused_full && stats.refused_table && stats.threads == 0 && stats.waiters == 0);
    tally_counts_destroy(&counts);
    return 0;
}
