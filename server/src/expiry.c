// SPDX-License-Identifier: Apache-2.0
#include "expiry.h"

#include <assert.h>

#define NONE   TALLY_EXPIRY_NONE
#define ABSENT (UINT32_MAX - 1) // in `older`: not in the list. Ids are below 2^28

void tally_expiry_init(struct tally_expiry *expiry, const struct tally_alloc *alloc)
{
    *expiry = (struct tally_expiry){.alloc = alloc, .oldest = NONE, .newest = NONE};
}

void tally_expiry_deinit(struct tally_expiry *expiry)
{
    if (expiry->alloc) tally_alloc_free(expiry->alloc, expiry->nodes);
    tally_expiry_init(expiry, expiry->alloc);
}

enum tally_status tally_expiry_reserve(struct tally_expiry *expiry, uint32_t ids)
{
    if (ids <= expiry->capacity) return TALLY_OK;
    uint32_t capacity = expiry->capacity + expiry->capacity / 2;
    if (capacity < ids) capacity = ids;
    struct tally_expiry_node *nodes =
        tally_alloc_resize(expiry->alloc, expiry->nodes, (size_t)capacity * sizeof *nodes);
    if (!nodes) return TALLY_NO_MEMORY;
    for (uint32_t id = expiry->capacity; id < capacity; id++) nodes[id] = (struct tally_expiry_node){.older = ABSENT};
    expiry->nodes = nodes;
    expiry->capacity = capacity;
    return TALLY_OK;
}

static void take_out(struct tally_expiry *expiry, uint32_t id)
{
    const struct tally_expiry_node *node = &expiry->nodes[id];
    if (node->older == NONE)
        expiry->oldest = node->newer;
    else
        expiry->nodes[node->older].newer = node->newer;
    if (node->newer == NONE)
        expiry->newest = node->older;
    else
        expiry->nodes[node->newer].older = node->older;
}

void tally_expiry_touch(struct tally_expiry *expiry, uint32_t id, uint64_t now_ms)
{
    assert(id < expiry->capacity);
    struct tally_expiry_node *node = &expiry->nodes[id];
    if (node->older != ABSENT) {
        if (node->touched_ms == now_ms) return; // it is among the newest already
        take_out(expiry, id);
        expiry->count--;
    }
    assert(expiry->newest == NONE || expiry->nodes[expiry->newest].touched_ms <= now_ms);
    *node = (struct tally_expiry_node){.touched_ms = now_ms, .older = expiry->newest, .newer = NONE};
    if (expiry->newest == NONE)
        expiry->oldest = id;
    else
        expiry->nodes[expiry->newest].newer = id;
    expiry->newest = id;
    expiry->count++;
}

void tally_expiry_drop(struct tally_expiry *expiry, uint32_t id)
{
    if (id >= expiry->capacity || expiry->nodes[id].older == ABSENT) return;
    take_out(expiry, id);
    expiry->nodes[id].older = ABSENT;
    expiry->count--;
}
