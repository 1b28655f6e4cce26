// SPDX-License-Identifier: Apache-2.0
#include "producers.h"

#include <tallycast/digest.h>

#define NONE UINT32_MAX

void tally_producers_init(struct tally_producers *producers, const struct tally_alloc *alloc, uint32_t count_max,
                          uint64_t salt)
{
    *producers = (struct tally_producers){
        .alloc = alloc, .count_max = count_max, .pools = {{0, NONE, NONE}, {0, NONE, NONE}}, .salt = salt};
}

void tally_producers_deinit(struct tally_producers *producers)
{
    tally_alloc_free(producers->alloc, producers->list);
    tally_alloc_free(producers->alloc, producers->index);
    tally_producers_init(producers, producers->alloc, producers->count_max, producers->salt);
}

// Ids are chosen outside: the salt keeps their places in the index from being chosen too.
static uint32_t home_of(const struct tally_producers *producers, uint64_t id)
{
    return (uint32_t)(tally_mix64(id ^ producers->salt) >> (64 - producers->index_bits));
}

static struct tally_producers_pool *pool_of(struct tally_producers *producers, uint64_t id)
{
    return &producers->pools[tally_producer_once(id)];
}

static uint32_t mask_of(const struct tally_producers *producers) { return (1u << producers->index_bits) - 1; }

static uint32_t find(const struct tally_producers *producers, uint64_t id)
{
    if (!producers->index) return NONE;
    uint32_t mask = mask_of(producers);
    for (uint32_t at = home_of(producers, id); producers->index[at]; at = (at + 1) & mask) {
        if (producers->list[producers->index[at] - 1].id == id) return producers->index[at] - 1;
    }
    return NONE;
}

static void index_insert(struct tally_producers *producers, uint32_t number)
{
    uint32_t mask = mask_of(producers), at = home_of(producers, producers->list[number].id);
    while (producers->index[at]) at = (at + 1) & mask;
    producers->index[at] = number + 1;
}

static void index_remove(struct tally_producers *producers, uint32_t number)
{
    uint32_t mask = mask_of(producers), at = home_of(producers, producers->list[number].id);
    while (producers->index[at] != number + 1) at = (at + 1) & mask;
    for (uint32_t next = (at + 1) & mask; producers->index[next]; next = (next + 1) & mask) {
        uint32_t home = home_of(producers, producers->list[producers->index[next] - 1].id);
        if (((next - home) & mask) >= ((next - at) & mask)) {
            producers->index[at] = producers->index[next];
            at = next;
        }
    }
    producers->index[at] = 0;
}

// Room for one more, in list and index.
static enum tally_status grow(struct tally_producers *producers)
{
    if (producers->count < producers->capacity) return TALLY_OK;
    uint32_t capacity = producers->capacity ? producers->capacity * 2 : 32, bits = 6;
    if (capacity > producers->count_max * 2) capacity = producers->count_max * 2;
    while ((1u << bits) < capacity * 2) bits++;
    uint32_t *index = tally_alloc_resize(producers->alloc, NULL, sizeof *index << bits);
    if (!index) return TALLY_NO_MEMORY;
    struct tally_producer *list = tally_alloc_resize(producers->alloc, producers->list, capacity * sizeof *list);
    if (!list) {
        tally_alloc_free(producers->alloc, index);
        return TALLY_NO_MEMORY;
    }
    memset(index, 0, sizeof *index << bits);
    tally_alloc_free(producers->alloc, producers->index);
    producers->list = list;
    producers->capacity = capacity;
    producers->index = index;
    producers->index_bits = bits;
    for (uint32_t i = 0; i < producers->count; i++) index_insert(producers, i);
    return TALLY_OK;
}

static void unlink_producer(struct tally_producers *producers, uint32_t number)
{
    struct tally_producer *p = &producers->list[number];
    struct tally_producers_pool *pool = pool_of(producers, p->id);
    *(p->older == NONE ? &pool->oldest : &producers->list[p->older].newer) = p->newer;
    *(p->newer == NONE ? &pool->newest : &producers->list[p->newer].older) = p->older;
}

static void link_newest(struct tally_producers *producers, uint32_t number)
{
    struct tally_producer *p = &producers->list[number];
    struct tally_producers_pool *pool = pool_of(producers, p->id);
    p->older = pool->newest;
    p->newer = NONE;
    *(p->older == NONE ? &pool->oldest : &producers->list[p->older].newer) = number;
    pool->newest = number;
}

const struct tally_producer *tally_producers_find(const struct tally_producers *producers, uint64_t id)
{
    uint32_t number = find(producers, id);
    return number == NONE ? NULL : &producers->list[number];
}

enum tally_status tally_producers_note(struct tally_producers *producers, uint64_t id, uint64_t sequence,
                                       uint64_t version)
{
    uint32_t number = find(producers, id);
    struct tally_producers_pool *pool = pool_of(producers, id);
    if (number != NONE) {
        unlink_producer(producers, number);
    } else {
        if (pool->count < producers->count_max) {
            enum tally_status status = grow(producers);
            if (status) return status;
            number = producers->count++;
            pool->count++;
        } else {
            number = pool->oldest;
            index_remove(producers, number);
            unlink_producer(producers, number);
        }
        producers->list[number].id = id;
        index_insert(producers, number);
    }
    producers->list[number].sequence = sequence;
    producers->list[number].version = version;
    link_newest(producers, number);
    return TALLY_OK;
}

bool tally_producers_full(const struct tally_producers *producers, uint64_t id)
{
    return producers->pools[tally_producer_once(id)].count == producers->count_max;
}

const struct tally_producer *tally_producers_next(const struct tally_producers *producers,
                                                  const struct tally_producer *producer)
{
    uint32_t number = producer ? producer->newer : producers->pools[0].oldest;
    if (number == NONE && (!producer || !tally_producer_once(producer->id))) number = producers->pools[1].oldest;
    return number == NONE ? NULL : &producers->list[number];
}
