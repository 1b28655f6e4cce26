// SPDX-License-Identifier: Apache-2.0
//
// The map of shards, each with a lock word and open addressing (linear probing) inside.
//
// The lock word is 0 when free, else who holds it, and WAITERS when somebody may be waiting (the third mutex of Drepper, "Futexes are tricky",
// 2005). It is taken with acquire and given back with release: whoever holds it has seen all that was done under it before. It is held for a
// probe and an addition, so the one who wants it spins for a while before waiting; who may not wait spins on, up to a bound. Whoever gives it
// back wakes one who waits, and that one takes it with WAITERS set, as it cannot know whether it was the last.
//
// What a holder that never comes back leaves (its worker was terminated): tally_map_evict frees the lock that has its name. Under the lock, room
// is taken before it is written and the cell is written last, so a half-made entry is unused room, not a wrong count.
//
// A drain of generation g points each shard at its other half, under its lock and only for that; what is drained then has no writers.
#include "tally_map.h"

#define WAITERS    0x80000000u
#define SPINS      256u       // before waiting
#define SPINS_MAX  (1u << 22) // of those who cannot wait; then TALLY_BUSY
#define FULL_PARTS 8u         // at most 7 of 8 cells are used

struct cell {
    uint32_t tag;   // bits of the hash that did not choose the place
    uint32_t entry; // reference; 0: free
};

static struct shard *shards_of(const struct tally_map *map) { return map_at(map, map->shards_at); }

static struct shard *shard_of(const struct tally_map *map, uint64_t hash)
{
    return &shards_of(map)[(hash >> 48) & (map->shards - 1)];
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

// False: the holder does not go on, and we may not wait.
static bool lock(struct tally_member *member, struct shard *shard, uint32_t spins_max)
{
    uint32_t held = 0, mine = member->slot + 1;
    if (atomic_compare_exchange_strong_explicit(&shard->lock, &held, mine, memory_order_acquire, memory_order_relaxed))
        return true;
    count(&member_slot(member)->contention, 1);
    for (uint32_t spins = 0;; spins++) {
        held = 0;
        if (atomic_compare_exchange_weak_explicit(&shard->lock, &held, mine, memory_order_acquire,
                                                  memory_order_relaxed))
            return true;
        if (spins == spins_max) return false;
        if (spins < SPINS || !member->waiter.wait) {
            relax();
        } else if (held) {
            // From here on nobody can give it back without waking us.
            if (held & WAITERS || atomic_compare_exchange_strong_explicit(&shard->lock, &held, held | WAITERS,
                                                                          memory_order_relaxed, memory_order_relaxed))
                member->waiter.wait(member->waiter.ctx, &shard->lock, held | WAITERS);
            mine |= WAITERS; // others may wait still, and only who holds it can wake them
        }
    }
}

static void unlock(const struct tally_member *member, struct shard *shard)
{
    uint32_t was = atomic_exchange_explicit(&shard->lock, 0, memory_order_release);
    if (was & WAITERS && member->waiter.wake) member->waiter.wake(member->waiter.ctx, &shard->lock);
}

// The cell of the key, or the free one where it would be. There is always a free one.
static struct cell *probe(const struct tally_map *map, const struct shard *shard, const struct map_key *key)
{
    struct cell *cells = map_at(map, shard->cells[shard->current]);
    uint32_t tag = (uint32_t)(key->hash >> 32);
    for (uint32_t place = (uint32_t)key->hash;; place++) {
        struct cell *cell = &cells[place & (map->places - 1)];
        if (!cell->entry || (cell->tag == tag && entry_is(map_at(map, cell->entry), tag, key->table, key->bytes)))
            return cell;
    }
}

static enum tally_status insert(struct tally_map *map, struct shard *shard, struct cell *cell,
                                const struct map_key *key, const struct map_change *change)
{
    uint32_t half = shard->current, units = (uint32_t)(ENTRY_BYTES(key->bytes.size) / MAP_UNIT);
    uint32_t keys = atomic_load_explicit(&shard->keys[half], memory_order_relaxed), at = shard->top[half];
    if (units > shard->end[half] - at || shard->used[half] >= map->places - map->places / FULL_PARTS) return TALLY_FULL;
    shard->top[half] = at + units;
    shard->used[half]++;
    atomic_store_explicit(&shard->keys[half], keys + 1, memory_order_relaxed);
    entry_fill(map_at(map, at), (uint32_t)(key->hash >> 32), key->table, key->bytes, change->amount);
    cell->tag = (uint32_t)(key->hash >> 32);
    atomic_signal_fence(memory_order_release); // the order in which an evicted holder's stores are found
    cell->entry = at;
    return TALLY_OK;
}

ONE_OF_TWO enum tally_status change_entry(struct shard *shard, struct entry *entry, struct map_change *change)
{
    _Atomic uint32_t *keys = &shard->keys[shard->current];
    uint64_t was = amount_load(entry), now = change->exchange ? change->amount : was + change->amount;
    if (!change->exchange && (uint64_t)amount_of(now) > MAP_SUM_MAX) return TALLY_FULL;
    atomic_store_explicit(&entry->amount, now, memory_order_relaxed);
    change->was = was;
    uint32_t more = (uint32_t)map_change_keys(change, was);
    if (more)
        atomic_store_explicit(keys, atomic_load_explicit(keys, memory_order_relaxed) + more, memory_order_relaxed);
    return TALLY_OK;
}

ONE_OF_TWO enum tally_status change_key(struct tally_member *member, const struct map_key *key,
                                        struct map_change *change)
{
    struct tally_map *map = member->map;
    struct shard *shard = shard_of(map, key->hash);
    enum tally_status status = TALLY_OK;
    if (!lock(member, shard, SPINS_MAX)) return TALLY_BUSY;
    struct cell *cell = probe(map, shard, key);
    if (cell->entry)
        status = change_entry(shard, map_at(map, cell->entry), change);
    else if (amount_is_there(change->amount)) // what is not there need not be taken out
        status = insert(map, shard, cell, key, change);
    unlock(member, shard);
    return status;
}

enum tally_status sharded_add(struct tally_member *member, const struct map_key *key, uint64_t amount)
{
    return change_key(member, key, &(struct map_change){.amount = amount});
}

enum tally_status sharded_exchange(struct tally_member *member, const struct map_key *key, uint64_t amount,
                                   uint64_t *out_was)
{
    struct map_change change = {.amount = amount, .was = MAP_REMOVED, .exchange = true};
    enum tally_status status = change_key(member, key, &change);
    *out_was = change.was;
    return status;
}

enum tally_status sharded_find(struct tally_member *member, const struct map_key *key, int64_t *out_amount)
{
    struct tally_map *map = member->map;
    struct shard *shard = shard_of(map, key->hash);
    if (!lock(member, shard, SPINS_MAX)) return TALLY_BUSY;
    const struct cell *cell = probe(map, shard, key);
    *out_amount = amount_found(cell->entry ? map_at(map, cell->entry) : NULL);
    unlock(member, shard);
    return TALLY_OK;
}

void sharded_evict(struct tally_member *by, uint32_t slot)
{
    struct shard *shards = shards_of(by->map);
    for (uint32_t i = 0; i < by->map->shards; i++) {
        uint32_t held = atomic_load_explicit(&shards[i].lock, memory_order_relaxed);
        if ((held & ~WAITERS) != slot + 1) continue;
        unlock(by, &shards[i]);
    }
}

// ---------------------------------------------------------------------------------------------------- drain

enum tally_status sharded_swap(struct tally_member *member)
{
    struct tally_map *map = member->map;
    uint32_t half = atomic_load_explicit(&map->generation, memory_order_relaxed) & 1;
    struct shard *shards = shards_of(map);
    for (uint32_t i = 0; i < map->shards; i++) {
        if (!lock(member, &shards[i], SPINS)) return TALLY_BUSY; // those before it are done, and stay so
        shards[i].current = half;
        unlock(member, &shards[i]);
    }
    return TALLY_OK;
}

static uint32_t drained(const struct tally_map *map)
{
    return ~atomic_load_explicit(&map->generation, memory_order_relaxed) & 1;
}

// Of the half that is not current: its last writer's unlock is before the lock under which it was swapped away. `chain` is the shard.
bool sharded_next(struct tally_drain *drain, struct tally_entry *out_entry)
{
    const struct tally_map *map = drain->map;
    uint32_t half = drained(map);
    for (; drain->chain < map->shards; drain->chain++, drain->place = 0) {
        const struct shard *shard = &shards_of(map)[drain->chain];
        if (atomic_load_explicit(&shard->keys[half], memory_order_relaxed) == 0) continue;
        const struct cell *cells = map_at(map, shard->cells[half]);
        while (drain->place < map->places) {
            const struct cell *cell = &cells[drain->place++];
            if (!cell->entry || !amount_is_there(amount_load(map_at(map, cell->entry)))) continue;
            *out_entry = entry_of(map_at(map, cell->entry));
            return true;
        }
    }
    return false;
}

void sharded_clear(struct tally_map *map)
{
    uint32_t half = drained(map);
    for (uint32_t i = 0; i < map->shards; i++) {
        struct shard *shard = &shards_of(map)[i];
        if (shard->top[half] == shard->begin[half]) continue;
        memset(map_at(map, shard->cells[half]), 0, (size_t)map->places * sizeof(struct cell));
        shard->top[half] = shard->begin[half];
        shard->used[half] = 0;
        atomic_store_explicit(&shard->keys[half], 0, memory_order_relaxed);
    }
}

uint64_t sharded_len(const struct tally_map *map)
{
    uint32_t half = atomic_load_explicit(&map->generation, memory_order_relaxed) & 1;
    uint64_t keys = 0;
    for (uint32_t i = 0; i < map->shards; i++)
        keys += atomic_load_explicit(&shards_of(map)[i].keys[half], memory_order_relaxed);
    return keys;
}

bool sharded_init(struct tally_map *map, uint64_t at, uint64_t end)
{
    map->shards_at = (uint32_t)(at / MAP_UNIT);
    at += map->shards * sizeof(struct shard);
    if (at >= end) return false;
    uint64_t bytes = (end - at) / map->shards / 2 / MAP_UNIT * MAP_UNIT;
    map->places = 1;
    // A cell is 8 bytes, and an eighth of them stays free.
    while ((uint64_t)map->places * 2 * MAP_ENTRY_MEAN <= bytes) map->places *= 2;
    uint64_t cells = map->places * sizeof(struct cell);
    if (map->places < FULL_PARTS || bytes < cells + ENTRY_BYTES(TALLY_KEY_BYTES_MAX)) return false;
    for (uint32_t i = 0; i < map->shards; i++) {
        struct shard *shard = &shards_of(map)[i];
        memset(shard, 0, sizeof *shard);
        shard->current = 1; // the first generation is 1
        for (uint32_t half = 0; half < 2; half++, at += bytes) {
            shard->cells[half] = (uint32_t)(at / MAP_UNIT);
            shard->begin[half] = shard->top[half] = (uint32_t)((at + cells) / MAP_UNIT);
            shard->end[half] = (uint32_t)((at + bytes) / MAP_UNIT);
            memset(map_at(map, shard->cells[half]), 0, (size_t)cells);
        }
    }
    return true;
}
