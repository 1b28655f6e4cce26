// SPDX-License-Identifier: Apache-2.0
//
// Open addressing, 50 to 75 % full, in huge pages: entries of 32 bytes, so that none is in two lines, with the whole hash, which spares all
// but the last comparison of bytes. What a read of texts costs without versions; and the same behind a pthread_rwlock, so that it could change.
#include "bench.h"
#include "peer_text.h"

#include <pthread.h>
#include <stdlib.h>

struct entry {
    uint64_t hash, value; // value 0: free
    const uint8_t *key;
    uint64_t key_bytes;
};

struct table {
    pthread_rwlock_t lock;
    uint64_t mask;
    struct entry *entries;
};

static void *build(const struct names *names)
{
    struct table *table = malloc(sizeof *table);
    uint64_t size = 16;
    if (!table) abort();
    while (size * 3 < (uint64_t)names->count * 4) size *= 2;
    *table = (struct table){.mask = size - 1, .entries = bench_huge(size * sizeof(struct entry))};
    pthread_rwlock_init(&table->lock, NULL);
    for (uint32_t i = 0; i < names->count; i++) {
        struct tally_bytes key = names_key(names, i);
        uint64_t hash = peer_text_hash(key), at = hash & table->mask;
        while (table->entries[at].value) at = (at + 1) & table->mask;
        table->entries[at] = (struct entry){hash, i + 1, key.data, key.size};
    }
    return table;
}

static inline uint64_t get(void *map, struct tally_bytes key)
{
    const struct table *table = map;
    uint64_t hash = peer_text_hash(key);
    for (uint64_t at = hash & table->mask;; at = (at + 1) & table->mask) {
        const struct entry *entry = &table->entries[at];
        if (entry->value == 0) return 0;
        if (entry->hash == hash && entry->key_bytes == key.size && memcmp(entry->key, key.data, key.size) == 0)
            return entry->value;
    }
}

static inline uint64_t get_locked(void *map, struct tally_bytes key)
{
    struct table *table = map;
    pthread_rwlock_rdlock(&table->lock);
    uint64_t value = get(map, key);
    pthread_rwlock_unlock(&table->lock);
    return value;
}

PEER_TEXT_LOOPS(open, get)
PEER_TEXT_LOOPS(locked, get_locked)

static void destroy(void *map)
{
    struct table *table = map;
    bench_huge_free(table->entries, (table->mask + 1) * sizeof(struct entry));
    pthread_rwlock_destroy(&table->lock);
    free(table);
}

const struct peer_text peer_text_table = {"table", build, open_dependent, open_independent, destroy};
const struct peer_text peer_text_rwlock = {"rwlock", build, locked_dependent, locked_independent, destroy};
