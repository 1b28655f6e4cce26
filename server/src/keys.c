// SPDX-License-Identifier: Apache-2.0
#include "keys.h"

#define BLOCK_BYTES (256u << 10)

struct tally_key_block {
    struct tally_key_block *next;
    uint64_t align;
};

void tally_keys_init(struct tally_keys *keys, const struct tally_alloc *alloc)
{
    *keys = (struct tally_keys){.alloc = alloc};
}

void tally_keys_deinit(struct tally_keys *keys)
{
    while (keys->blocks) {
        struct tally_key_block *block = keys->blocks;
        keys->blocks = block->next;
        tally_alloc_free(keys->alloc, block);
    }
    tally_keys_init(keys, keys->alloc);
}

static size_t class_of(size_t size) { return (size - 1) / 8; }

static void free_push(struct tally_keys *keys, size_t class, void *piece)
{
    memcpy(piece, &keys->free[class], sizeof(void *));
    keys->free[class] = piece;
}

const uint8_t *tally_keys_put(struct tally_keys *keys, struct tally_bytes key)
{
    size_t class = class_of(key.size), bytes = (class + 1) * 8;
    uint8_t *piece = keys->free[class];
    if (piece) {
        memcpy(&keys->free[class], piece, sizeof(void *));
    } else {
        if ((size_t)(keys->end - keys->at) < bytes) {
            struct tally_key_block *block = tally_alloc_resize(keys->alloc, NULL, BLOCK_BYTES);
            if (!block) return NULL;
            // What is left of the old block is one piece of its size: always a multiple of 8, and at most 1024.
            size_t left = (size_t)(keys->end - keys->at);
            if (left) free_push(keys, class_of(left), keys->at);
            block->next = keys->blocks;
            keys->blocks = block;
            keys->at = (uint8_t *)(block + 1);
            keys->end = (uint8_t *)block + BLOCK_BYTES;
        }
        piece = keys->at;
        keys->at += bytes;
    }
    memcpy(piece, key.data, key.size);
    return piece;
}

void tally_keys_drop(struct tally_keys *keys, const uint8_t *data, size_t size)
{
    free_push(keys, class_of(size), (void *)(uintptr_t)data);
}
