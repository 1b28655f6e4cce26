// SPDX-License-Identifier: Apache-2.0
#include "panes.h"

#include <assert.h>
#include <string.h>

#define BLOCK_BITS    10u
#define BLOCK_ENTRIES (1u << BLOCK_BITS)
#define NO_ID         UINT32_MAX // of a free entry

static struct tally_pane_entry *entry_at(const struct tally_panes *panes, uint32_t number)
{
    return &panes->blocks[number >> BLOCK_BITS][number & (BLOCK_ENTRIES - 1)];
}

enum tally_status tally_panes_init(struct tally_panes *panes, uint64_t pane_ms, uint32_t count,
                                   const struct tally_alloc *alloc)
{
    assert(pane_ms && count);
    struct tally_pane *ring = tally_alloc_resize(alloc, NULL, count * sizeof *ring);
    if (!ring) return TALLY_NO_MEMORY;
    memset(ring, 0, count * sizeof *ring);
    *panes = (struct tally_panes){.alloc = alloc, .pane_ms = pane_ms, .count = count, .ring = ring, .used = 1};
    return TALLY_OK;
}

void tally_panes_deinit(struct tally_panes *panes)
{
    if (!panes->alloc) return;
    for (uint32_t i = 0; i < panes->blocks_count; i++) tally_alloc_free(panes->alloc, panes->blocks[i]);
    tally_alloc_free(panes->alloc, panes->blocks);
    tally_alloc_free(panes->alloc, panes->newest);
    tally_alloc_free(panes->alloc, panes->ring);
    *panes = (struct tally_panes){0};
}

enum tally_status tally_panes_reserve(struct tally_panes *panes, uint32_t ids)
{
    if (ids <= panes->ids) return TALLY_OK;
    uint32_t more = panes->ids + panes->ids / 2;
    if (more < ids) more = ids;
    uint32_t *newest = tally_alloc_resize(panes->alloc, panes->newest, (size_t)more * sizeof *newest);
    if (!newest) return TALLY_NO_MEMORY;
    memset(newest + panes->ids, 0, (more - panes->ids) * sizeof *newest);
    panes->newest = newest;
    panes->ids = more;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- entries

static enum tally_status block_add(struct tally_panes *panes)
{
    if (panes->blocks_count == UINT32_MAX >> BLOCK_BITS) return TALLY_NO_MEMORY;
    if (panes->blocks_count == panes->blocks_capacity) {
        uint32_t capacity = panes->blocks_capacity ? panes->blocks_capacity * 2 : 16;
        struct tally_pane_entry **blocks = tally_alloc_resize(panes->alloc, panes->blocks, capacity * sizeof *blocks);
        if (!blocks) return TALLY_NO_MEMORY;
        panes->blocks = blocks;
        panes->blocks_capacity = capacity;
    }
    struct tally_pane_entry *block = tally_alloc_resize(panes->alloc, NULL, BLOCK_ENTRIES * sizeof *block);
    if (!block) return TALLY_NO_MEMORY;
    panes->blocks[panes->blocks_count++] = block;
    return TALLY_OK;
}

// A free entry; 0: no memory.
static uint32_t entry_take(struct tally_panes *panes)
{
    uint32_t number = panes->free;
    if (number) {
        panes->free = entry_at(panes, number)->next;
        return number;
    }
    if (panes->used >> BLOCK_BITS == panes->blocks_count && block_add(panes)) return 0;
    return panes->used++;
}

static struct tally_pane *pane_of(const struct tally_panes *panes, uint64_t number)
{
    return &panes->ring[number % panes->count];
}

// Takes an entry out of its pane. The row's chain is the caller's, or ends here by itself.
static void entry_free(struct tally_panes *panes, uint32_t number)
{
    struct tally_pane_entry *entry = entry_at(panes, number);
    struct tally_pane *pane = pane_of(panes, entry->pane);
    if (entry->previous)
        entry_at(panes, entry->previous)->next = entry->next;
    else
        pane->first = entry->next;
    if (entry->next) entry_at(panes, entry->next)->previous = entry->previous;
    pane->entries--;
    panes->entries--;
    entry->id = NO_ID;
    entry->next = panes->free;
    panes->free = number;
}

// The entry that follows in a row's chain; see the top of panes.h.
static uint32_t older_of(const struct tally_panes *panes, const struct tally_pane_entry *entry)
{
    if (!entry->older) return 0;
    const struct tally_pane_entry *older = entry_at(panes, entry->older);
    return older->id == entry->id && older->pane < entry->pane ? entry->older : 0;
}

// A row's newest entry, 0: none.
static uint32_t newest_of(const struct tally_panes *panes, uint32_t id)
{
    uint32_t number = id < panes->ids ? panes->newest[id] : 0;
    return number && entry_at(panes, number)->id == id ? number : 0;
}

enum tally_status tally_panes_entry(struct tally_panes *panes, uint32_t id, uint64_t number, int64_t **out_amount,
                                    bool *out_new)
{
    uint32_t newest = newest_of(panes, id);
    *out_new = !newest || entry_at(panes, newest)->pane != number;
    if (!*out_new) {
        *out_amount = &entry_at(panes, newest)->amount;
        return TALLY_OK;
    }
    assert(!newest || entry_at(panes, newest)->pane < number);
    enum tally_status status = tally_panes_reserve(panes, id + 1);
    uint32_t made = status ? 0 : entry_take(panes);
    if (!made) return TALLY_NO_MEMORY;
    struct tally_pane *pane = pane_of(panes, number);
    if (pane->first == 0) pane->number = number;
    assert(pane->number == number);
    if (panes->entries == 0) panes->oldest = number;
    panes->newest_pane = number;
    struct tally_pane_entry *entry = entry_at(panes, made);
    *entry = (struct tally_pane_entry){.pane = number, .id = id, .older = newest, .next = pane->first};
    if (pane->first) entry_at(panes, pane->first)->previous = made;
    pane->first = made;
    pane->entries++;
    panes->entries++;
    panes->newest[id] = made;
    *out_amount = &entry->amount;
    return TALLY_OK;
}

// The oldest pane that has entries, if it is at most `last`.
static struct tally_pane *oldest_pane(const struct tally_panes *panes, uint64_t last)
{
    if (panes->entries == 0) return NULL;
    for (uint64_t number = panes->oldest; number <= last; number++) {
        struct tally_pane *pane = pane_of(panes, number);
        if (pane->first && pane->number == number) return pane;
        if (number - panes->oldest >= panes->count) break; // cannot be: all lie within a window
    }
    return NULL;
}

bool tally_panes_leave(struct tally_panes *panes, uint64_t now, uint32_t *out_id, int64_t *out_amount)
{
    if (now < panes->count) return false;
    struct tally_pane *pane = oldest_pane(panes, now - panes->count);
    if (!pane) {
        if (panes->oldest < now - panes->count + 1) panes->oldest = now - panes->count + 1;
        return false;
    }
    panes->oldest = pane->number;
    uint32_t number = pane->first;
    const struct tally_pane_entry *entry = entry_at(panes, number);
    *out_id = entry->id;
    *out_amount = entry->amount;
    if (panes->newest[entry->id] == number) panes->newest[entry->id] = 0;
    entry_free(panes, number);
    return true;
}

uint64_t tally_panes_due(const struct tally_panes *panes)
{
    const struct tally_pane *pane = panes->entries ? oldest_pane(panes, UINT64_MAX) : NULL;
    uint64_t due;
    if (!pane || __builtin_add_overflow(pane->number, panes->count, &due) ||
        __builtin_mul_overflow(due, panes->pane_ms, &due))
        return UINT64_MAX;
    return due;
}

// ---------------------------------------------------------------------------------------------------- rows

bool tally_panes_has(const struct tally_panes *panes, uint32_t id) { return newest_of(panes, id) != 0; }

uint32_t tally_panes_next(const struct tally_panes *panes, uint32_t id, uint32_t entry, int64_t *out_amount)
{
    uint32_t next = entry ? older_of(panes, entry_at(panes, entry)) : newest_of(panes, id);
    if (next) *out_amount = entry_at(panes, next)->amount;
    return next;
}

void tally_panes_drop(struct tally_panes *panes, uint32_t id)
{
    uint32_t number = newest_of(panes, id);
    while (number) {
        uint32_t older = older_of(panes, entry_at(panes, number));
        entry_free(panes, number);
        number = older;
    }
    if (id < panes->ids) panes->newest[id] = 0;
}

// ---------------------------------------------------------------------------------------------------- as a whole

bool tally_panes_walk(const struct tally_panes *panes, struct tally_panes_walk *walk, uint64_t *out_pane,
                      uint32_t *out_id, int64_t *out_amount)
{
    if (!walk->begun) *walk = (struct tally_panes_walk){.pane = panes->oldest, .begun = true};
    if (!walk->entry) {
        for (uint64_t end = panes->oldest + panes->count; walk->pane < end && !walk->entry; walk->pane++) {
            const struct tally_pane *pane = pane_of(panes, walk->pane);
            if (pane->number == walk->pane) walk->entry = pane->first;
        }
        if (!walk->entry) return false;
    }
    const struct tally_pane_entry *entry = entry_at(panes, walk->entry);
    *out_pane = entry->pane;
    *out_id = entry->id;
    *out_amount = entry->amount;
    walk->entry = entry->next;
    return true;
}
