// SPDX-License-Identifier: Apache-2.0
//
// A table of 16-byte entries by open addressing, 50 to 75 % full, in huge pages: what a read costs without versions. And the same
// behind a pthread_rwlock, so that it could change.
#include "bench.h"
#include "peer.h"

#include <pthread.h>
#include <stdlib.h>

struct entry {
    uint64_t fingerprint, value;
};

struct table {
    pthread_rwlock_t lock;
    uint64_t mask;
    struct entry *entries;
};

static void *build(const uint64_t *keys, size_t count)
{
    struct table *table = malloc(sizeof *table);
    if (!table) abort();
    uint64_t size = 16;
    while (size * 3 < count * 4) size *= 2;
    *table = (struct table){.mask = size - 1, .entries = bench_huge(size * sizeof(struct entry))};
    pthread_rwlock_init(&table->lock, NULL);
    for (size_t i = 0; i < count; i++) {
        uint64_t fingerprint = peer_hash(keys[i]), at = fingerprint & table->mask;
        while (table->entries[at].fingerprint) at = (at + 1) & table->mask;
        table->entries[at] = (struct entry){fingerprint, i + 1};
    }
    return table;
}

static inline uint64_t get(const void *map, uint64_t key)
{
    const struct table *table = map;
    uint64_t fingerprint = peer_hash(key);
    for (uint64_t at = fingerprint & table->mask;; at = (at + 1) & table->mask) {
        const struct entry *entry = &table->entries[at];
        if (entry->fingerprint == fingerprint) return entry->value;
        if (entry->fingerprint == 0) return 0;
    }
}

PEER_LOOPS(get)

static void destroy(void *map)
{
    struct table *table = map;
    bench_huge_free(table->entries, (table->mask + 1) * sizeof(struct entry));
    pthread_rwlock_destroy(&table->lock);
    free(table);
}

const struct peer peer_table = {
    "16-byte open addressing", build, dependent, independent, destroy, NULL, NULL, NULL, NULL};

static inline uint64_t get_locked(void *map, uint64_t key)
{
    struct table *table = map;
    pthread_rwlock_rdlock(&table->lock);
    uint64_t value = get(map, key);
    pthread_rwlock_unlock(&table->lock);
    return value;
}

static void set_locked(void *map, uint64_t key, uint64_t value)
{
    struct table *table = map;
    uint64_t fingerprint = peer_hash(key), at = fingerprint & table->mask;
    pthread_rwlock_wrlock(&table->lock);
    while (table->entries[at].fingerprint != fingerprint) at = (at + 1) & table->mask;
    table->entries[at].value = value;
    pthread_rwlock_unlock(&table->lock);
}

#define dependent   dependent_locked
#define independent independent_locked
PEER_LOOPS(get_locked)

const struct peer peer_rwlock = {
    "table and pthread_rwlock", build, dependent, independent, destroy, get_locked, set_locked, NULL, NULL};
