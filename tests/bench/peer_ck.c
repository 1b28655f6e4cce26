// SPDX-License-Identifier: Apache-2.0
//
// Concurrency Kit's ck_ht: one writer, many readers, no versions. Byte strings, its own default hash.
#include "peer.h"

#include <ck_ht.h>
#include <stdlib.h>

static void *ck_alloc(size_t size) { return malloc(size); }
static void ck_dispose(void *memory, size_t size, bool defer) { (void)size, (void)defer, free(memory); }
static struct ck_malloc allocator = {.malloc = ck_alloc, .free = ck_dispose};

static void *build(const uint64_t *keys, size_t count)
{
    ck_ht_t *map = malloc(sizeof *map);
    if (!map || !ck_ht_init(map, CK_HT_MODE_BYTESTRING, NULL, &allocator, count, 6602834)) abort();
    for (size_t i = 0; i < count; i++) {
        ck_ht_hash_t hash;
        ck_ht_entry_t entry;
        ck_ht_hash(&hash, map, &keys[i], sizeof keys[i]);
        ck_ht_entry_set(&entry, hash, &keys[i], sizeof keys[i], (void *)(uintptr_t)(i + 1));
        if (!ck_ht_put_spmc(map, hash, &entry)) abort();
    }
    return map;
}

static inline uint64_t get(void *map, uint64_t key)
{
    ck_ht_hash_t hash;
    ck_ht_entry_t entry;
    ck_ht_hash(&hash, map, &key, sizeof key);
    ck_ht_entry_key_set(&entry, &key, sizeof key);
    if (!ck_ht_get_spmc(map, hash, &entry)) return 0;
    return (uintptr_t)ck_ht_entry_value(&entry);
}

PEER_LOOPS(get)

// The table keeps a pointer to the key: the one that it has.
static void set(void *map, uint64_t key, uint64_t value)
{
    ck_ht_hash_t hash;
    ck_ht_entry_t entry;
    ck_ht_hash(&hash, map, &key, sizeof key);
    ck_ht_entry_key_set(&entry, &key, sizeof key);
    if (!ck_ht_get_spmc(map, hash, &entry)) abort();
    const void *kept = ck_ht_entry_key(&entry);
    ck_ht_entry_set(&entry, hash, kept, sizeof key, (void *)(uintptr_t)value);
    if (!ck_ht_set_spmc(map, hash, &entry)) abort();
}

static void destroy(void *map)
{
    ck_ht_destroy(map);
    free(map);
}

const struct peer peer_ck = {"Concurrency Kit ck_ht", build, dependent, independent, destroy, get, set, NULL, NULL};
