// SPDX-License-Identifier: Apache-2.0
//
// A map whose keys are texts and whose reads are measured: each peer of bench_strings.c in a file of its own. All keys that are asked
// for are there. Peers compare the bytes of keys, as maps without a promise about their hash must.
#ifndef TALLY_BENCH_PEER_TEXT_H
#define TALLY_BENCH_PEER_TEXT_H

#include "names.h"

#ifdef BENCH_XXHASH
#define XXH_INLINE_ALL
#include <xxhash.h>
#else
#include <tallycast/siphash.h>
#endif

struct peer_text {
    const char *name;
    // Key i has the value i + 1. `names` stay in place while the map is used.
    void *(*build)(const struct names *names);
    uint64_t (*dependent)(void *map, const struct draws *draws);
    uint64_t (*independent)(void *map, const struct draws *draws);
    void (*destroy)(void *map);
};

extern const struct peer_text peer_text_table, peer_text_rwlock;
#ifdef BENCH_CK
extern const struct peer_text peer_text_ck;
#endif
#ifdef BENCH_URCU
extern const struct peer_text peer_text_urcu;
#endif

// The hash of the peers that leave it to their user: XXH3, the fastest that Debian has, where that is there; otherwise the same as ours.
static inline uint64_t peer_text_hash(struct tally_bytes key)
{
#ifdef BENCH_XXHASH
    return XXH3_64bits(key.data, key.size);
#else
    return tally_siphash((struct tally_seed){11, 12}, key.data, key.size);
#endif
}

// The two loops. GET is an expression of type uint64_t over KEY; its sum goes to SUM. Which bits of a value go into where the next key
// lies is read through a volatile: none, but the compiler cannot know.
extern volatile uint64_t peer_no_bits;

#define TEXT_DEPENDENT(SUM, GET, DRAWS)                                                                                \
    do {                                                                                                               \
        uint64_t value_ = 0, none_ = peer_no_bits;                                                                     \
        (SUM) = 0;                                                                                                     \
        for (size_t i_ = 0; i_ < (DRAWS)->count; i_++) {                                                               \
            const struct tally_bytes KEY = {(DRAWS)->keys[i_].data + (value_ & none_), (DRAWS)->keys[i_].size};        \
            value_ = (GET);                                                                                            \
            (SUM) += value_;                                                                                           \
        }                                                                                                              \
    } while (0)

#define TEXT_INDEPENDENT(SUM, GET, DRAWS)                                                                              \
    do {                                                                                                               \
        (SUM) = 0;                                                                                                     \
        for (size_t i_ = 0; i_ < (DRAWS)->count; i_++) {                                                               \
            const struct tally_bytes KEY = (DRAWS)->keys[i_];                                                          \
            (SUM) += (GET);                                                                                            \
        }                                                                                                              \
    } while (0)

// Defines both for a get(map, key).
#define PEER_TEXT_LOOPS(NAME, GET)                                                                                     \
    static uint64_t NAME##_dependent(void *map, const struct draws *draws)                                             \
    {                                                                                                                  \
        uint64_t sum;                                                                                                  \
        TEXT_DEPENDENT(sum, GET(map, KEY), draws);                                                                     \
        return sum;                                                                                                    \
    }                                                                                                                  \
    static uint64_t NAME##_independent(void *map, const struct draws *draws)                                           \
    {                                                                                                                  \
        uint64_t sum;                                                                                                  \
        TEXT_INDEPENDENT(sum, GET(map, KEY), draws);                                                                   \
        return sum;                                                                                                    \
    }

#endif
