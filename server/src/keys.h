// SPDX-License-Identifier: Apache-2.0
//
// Where the bytes of live keys are kept. Pieces of 8, 16, 24 ... 1024 bytes, those of one size in slabs of 16 KiB; a slab in which no piece is left is
// used again for any size, so keys that come and go take no more than the most there was at once, whatever their sizes become.
//
//   region (256 KiB of the allocator's) ─► slabs, each at a multiple of its size ─► header, pieces
//   slabs[class] ─► slabs of that size of piece which have a free one; free ─► slabs that have no piece
//
// Regions go back to the allocator only all together. Threads: belongs to one thread. Cost: O(1) and a copy of the key.
#ifndef TALLYCAST_SERVER_KEYS_H
#define TALLYCAST_SERVER_KEYS_H

#include <tallycast/alloc.h>
#include <tallycast/bytes.h>
#include <tallycast/limits.h>

#define TALLY_KEY_CLASSES (TALLY_KEY_BYTES_MAX / 8u)

struct tally_key_region;
struct tally_key_slab;

struct tally_keys {
    const struct tally_alloc *alloc;
    struct tally_key_region *regions;
    uint8_t *at, *end; // what is left of the newest region: whole slabs
    struct tally_key_slab *free;
    struct tally_key_slab *slabs[TALLY_KEY_CLASSES];
};

void tally_keys_init(struct tally_keys *keys, const struct tally_alloc *alloc);
void tally_keys_deinit(struct tally_keys *keys);

// A copy of `key` (1 to TALLY_KEY_BYTES_MAX bytes), aligned to 8; null when there is no memory.
const uint8_t *tally_keys_put(struct tally_keys *keys, struct tally_bytes key);
void tally_keys_drop(struct tally_keys *keys, const uint8_t *data, size_t size);

#endif
