// SPDX-License-Identifier: Apache-2.0
//
// Random numbers for tests: a seed that is printed, and everything else from it. TALLY_SEED=N in the
// environment replays a run. Threads: a generator belongs to one thread.
#ifndef TALLY_TEST_RANDOM_H
#define TALLY_TEST_RANDOM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct test_random {
    uint64_t state;
};

static inline uint64_t test_random_next(struct test_random *random)
{
    // SplitMix64.
    uint64_t x = random->state += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

// 0 to n - 1; 0 for n 0. The bias for large n does not matter to a test.
static inline uint64_t test_random_below(struct test_random *random, uint64_t n)
{
    return n ? test_random_next(random) % n : 0;
}

// Low to high, both included.
static inline uint64_t test_random_between(struct test_random *random, uint64_t low, uint64_t high)
{
    return low + test_random_below(random, high - low + 1);
}

// True `percent` times of a hundred.
static inline bool test_random_percent(struct test_random *random, unsigned percent)
{
    return test_random_below(random, 100) < percent;
}

// A number of any magnitude: as many small as large ones, and the extremes now and then.
static inline uint64_t test_random_wide(struct test_random *random)
{
    if (test_random_percent(random, 4)) return UINT64_MAX - test_random_below(random, 3);
    return test_random_next(random) >> test_random_below(random, 64);
}

static inline void test_random_fill(struct test_random *random, void *out, size_t size)
{
    for (uint8_t *p = out; size--; p++) *p = (uint8_t)test_random_next(random);
}

// The seed of this run: TALLY_SEED, or one from the clock. Prints it, with the name of the test, so that a
// failure can be replayed.
static inline struct test_random test_random_start(const char *name)
{
    const char *given = getenv("TALLY_SEED");
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)now.tv_sec * 1000003u ^ (uint64_t)now.tv_nsec;
    printf("# %s: TALLY_SEED=%llu\n", name, (unsigned long long)seed);
    fflush(stdout);
    return (struct test_random){seed};
}

#endif
