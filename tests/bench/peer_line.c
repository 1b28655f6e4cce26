// SPDX-License-Identifier: Apache-2.0
//
// The physical limit: one random 64-byte line of an array as large as the mirror's memory. Its "keys" are draws
// scaled to the array. `build` takes the number of lines; there are no keys.
#include "bench.h"
#include "peer.h"

struct lines {
    size_t count;
    uint64_t *words;
};

static void *build(const uint64_t *keys, size_t count)
{
    (void)keys;
    static struct lines lines;
    lines = (struct lines){count, bench_huge(count * 64)};
    for (size_t i = 0; i < count; i++) lines.words[i * 8] = i + 1;
    return &lines;
}

static inline uint64_t get(const void *map, uint64_t key)
{
    const struct lines *lines = map;
    return lines->words[(size_t)((unsigned __int128)key * lines->count >> 64) * 8];
}

PEER_LOOPS(get)

static void destroy(void *map)
{
    struct lines *lines = map;
    bench_huge_free(lines->words, lines->count * 64);
}

const struct peer peer_line = {"one 64-byte line", build, dependent, independent, destroy, NULL, NULL, NULL, NULL};
