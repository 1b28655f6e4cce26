// SPDX-License-Identifier: Apache-2.0
//
// A map of 8-byte keys whose reads are measured: ours and its peers, each in a file of its own.
//
// Keys are 8 bytes that look random and are all there (hits). The loops are in each file, so that nobody pays for a call that
// the map's own interface does not ask for.
#ifndef TALLY_BENCH_PEER_H
#define TALLY_BENCH_PEER_H

#include <stddef.h>
#include <stdint.h>
#include <tallycast/siphash.h>

struct peer {
    const char *name;
    // Key i has the value i + 1. `keys` stay in place while the map is used.
    void *(*build)(const uint64_t *keys, size_t count);
    // Each read's key depends on the value read before. The sum of the values.
    uint64_t (*dependent)(void *map, const uint64_t *draws, size_t count);
    // Reads that the processor may overlap.
    uint64_t (*independent)(void *map, const uint64_t *draws, size_t count);
    void (*destroy)(void *map);
    // For threads; null for a peer that is not measured with them. One read; and one change while others read, by one thread.
    uint64_t (*get)(void *map, uint64_t key);
    void (*set)(void *map, uint64_t key, uint64_t value);
    // What a thread other than the one that built it calls before its first read and after its last; null: nothing.
    void (*attach)(void), (*detach)(void);
};

extern const struct peer peer_line, peer_table, peer_rwlock;
#ifdef BENCH_CK
extern const struct peer peer_ck;
#endif
#ifdef BENCH_URCU
extern const struct peer peer_urcu;
#endif

// A hash for whom we give one: the same as ours, which nobody outside can make collide.
static inline uint64_t peer_hash(uint64_t key)
{
    const struct tally_seed seed = {11, 12};
    return tally_siphash(seed, &key, sizeof key);
}

// Defines the two loops over `GET(map, key)`, an expression of type uint64_t. Which bits of a value go into the next key is read
// through a volatile: none, but the compiler cannot know.
extern volatile uint64_t peer_no_bits;

#define PEER_LOOPS(GET)                                                                                                \
    static uint64_t dependent(void *map, const uint64_t *draws, size_t count)                                          \
    {                                                                                                                  \
        uint64_t sum = 0, value = 0, none = peer_no_bits;                                                              \
        for (size_t i = 0; i < count; i++) {                                                                           \
            value = GET(map, draws[i] + (value & none));                                                               \
            sum += value;                                                                                              \
        }                                                                                                              \
        return sum;                                                                                                    \
    }                                                                                                                  \
    static uint64_t independent(void *map, const uint64_t *draws, size_t count)                                        \
    {                                                                                                                  \
        uint64_t sum = 0;                                                                                              \
        for (size_t i = 0; i < count; i++) sum += GET(map, draws[i]);                                                  \
        return sum;                                                                                                    \
    }

#endif
