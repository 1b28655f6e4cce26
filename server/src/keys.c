// SPDX-License-Identifier: Apache-2.0
#include "keys.h"

#include <assert.h>

#define REGION_BYTES (256u << 10)
#define SLAB_BYTES   (16u << 10)

struct tally_key_region {
    struct tally_key_region *next;
};

// At the start of a slab. Lists are of slabs of one class, by next and previous.
struct tally_key_slab {
    struct tally_key_slab *next, *previous;
    uint8_t *free; // pieces that were dropped: each begins with the address of the next
    uint32_t cut;  // bytes of the slab that were ever taken
    uint16_t used, class;
};

void tally_keys_init(struct tally_keys *keys, const struct tally_alloc *alloc)
{
    *keys = (struct tally_keys){.alloc = alloc};
}

void tally_keys_deinit(struct tally_keys *keys)
{
    while (keys->regions) {
        struct tally_key_region *region = keys->regions;
        keys->regions = region->next;
        tally_alloc_free(keys->alloc, region);
    }
    tally_keys_init(keys, keys->alloc);
}

static uint16_t class_of(size_t size) { return (uint16_t)((size - 1) / 8); }

static uint32_t piece_bytes(const struct tally_key_slab *slab) { return (slab->class + 1u) * 8; }

static bool slab_full(const struct tally_key_slab *slab)
{
    return !slab->free && slab->cut + piece_bytes(slab) > SLAB_BYTES;
}

static void link_slab(struct tally_key_slab **list, struct tally_key_slab *slab)
{
    slab->previous = NULL;
    slab->next = *list;
    if (*list) (*list)->previous = slab;
    *list = slab;
}

static void unlink_slab(struct tally_key_slab **list, struct tally_key_slab *slab)
{
    if (slab->previous)
        slab->previous->next = slab->next;
    else
        *list = slab->next;
    if (slab->next) slab->next->previous = slab->previous;
}

static bool region_add(struct tally_keys *keys)
{
    struct tally_key_region *region = tally_alloc_resize(keys->alloc, NULL, REGION_BYTES);
    if (!region) return false;
    region->next = keys->regions;
    keys->regions = region;
    uint8_t *block = (uint8_t *)region, *first = block + sizeof *region;
    first += (SLAB_BYTES - (uintptr_t)first % SLAB_BYTES) % SLAB_BYTES;
    keys->at = first;
    keys->end = first + (size_t)(block + REGION_BYTES - first) / SLAB_BYTES * SLAB_BYTES;
    return true;
}

// A slab of that class with a free piece, in its list; null: no memory.
static struct tally_key_slab *slab_take(struct tally_keys *keys, uint16_t class)
{
    struct tally_key_slab *slab = keys->free;
    if (slab) {
        unlink_slab(&keys->free, slab);
    } else {
        if (keys->at == keys->end && !region_add(keys)) return NULL;
        slab = (struct tally_key_slab *)(void *)keys->at;
        keys->at += SLAB_BYTES;
    }
    *slab = (struct tally_key_slab){.cut = (sizeof *slab + 7) / 8 * 8, .class = class};
    link_slab(&keys->slabs[class], slab);
    return slab;
}

const uint8_t *tally_keys_put(struct tally_keys *keys, struct tally_bytes key)
{
    uint16_t class = class_of(key.size);
    struct tally_key_slab *slab = keys->slabs[class];
    if (!slab && !(slab = slab_take(keys, class))) return NULL;
    uint8_t *piece = slab->free;
    if (piece) {
        memcpy(&slab->free, piece, sizeof slab->free);
    } else {
        piece = (uint8_t *)slab + slab->cut;
        slab->cut += piece_bytes(slab);
    }
    slab->used++;
    if (slab_full(slab)) unlink_slab(&keys->slabs[class], slab);
    memcpy(piece, key.data, key.size);
    return piece;
}

void tally_keys_drop(struct tally_keys *keys, const uint8_t *data, size_t size)
{
    uint8_t *piece = (uint8_t *)(uintptr_t)data;
    struct tally_key_slab *slab =
        (struct tally_key_slab *)(void *)(uintptr_t)((uintptr_t)piece & ~(uintptr_t)(SLAB_BYTES - 1));
    assert(slab->class == class_of(size) && slab->used);
    (void)size;
    if (slab_full(slab)) link_slab(&keys->slabs[slab->class], slab);
    memcpy(piece, &slab->free, sizeof slab->free);
    slab->free = piece;
    if (--slab->used) return;
    unlink_slab(&keys->slabs[slab->class], slab);
    link_slab(&keys->free, slab);
}
