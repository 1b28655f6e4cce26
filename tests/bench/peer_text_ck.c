// SPDX-License-Identifier: Apache-2.0
//
// Concurrency Kit's ck_ht of byte strings, with the peers' hash instead of its own, which is slower.
#include "peer_text.h"

#include <ck_ht.h>
#include <stdlib.h>

static void *ck_alloc(size_t size) { return malloc(size); }
static void ck_dispose(void *memory, size_t size, bool defer) { (void)size, (void)defer, free(memory); }
static struct ck_malloc allocator = {.malloc = ck_alloc, .free = ck_dispose};

static void hash_text(struct ck_ht_hash *out_hash, const void *key, size_t key_bytes, uint64_t seed)
{
    (void)seed;
    out_hash->value = peer_text_hash(tally_bytes(key, key_bytes));
}

static void *build(const struct names *names)
{
    ck_ht_t *map = malloc(sizeof *map);
    if (!map || !ck_ht_init(map, CK_HT_MODE_BYTESTRING, hash_text, &allocator, names->count, 6602834)) abort();
    for (uint32_t i = 0; i < names->count; i++) {
        struct tally_bytes key = names_key(names, i);
        ck_ht_hash_t hash;
        ck_ht_entry_t entry;
        ck_ht_hash(&hash, map, key.data, (uint16_t)key.size);
        ck_ht_entry_set(&entry, hash, key.data, (uint16_t)key.size, (void *)(uintptr_t)(i + 1));
        if (!ck_ht_put_spmc(map, hash, &entry)) abort();
    }
    return map;
}

static inline uint64_t get(void *map, struct tally_bytes key)
{
    ck_ht_hash_t hash;
    ck_ht_entry_t entry;
    ck_ht_hash(&hash, map, key.data, (uint16_t)key.size);
    ck_ht_entry_key_set(&entry, key.data, (uint16_t)key.size);
    if (!ck_ht_get_spmc(map, hash, &entry)) return 0;
    return (uintptr_t)ck_ht_entry_value(&entry);
}

PEER_TEXT_LOOPS(ck, get)

static void destroy(void *map)
{
    ck_ht_destroy(map);
    free(map);
}

const struct peer_text peer_text_ck = {"ck_ht", build, ck_dependent, ck_independent, destroy};
