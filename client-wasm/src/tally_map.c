// SPDX-License-Identifier: Apache-2.0
#include "tally_map.h"

#define NAME_SPINS (1u << 20)

enum tally_status tally_map_init(void *memory, size_t bytes, const struct tally_map_options *options,
                                 struct tally_map **out_map)
{
    struct tally_map *map = memory;
    uint32_t shards = options->shards ? options->shards : TALLY_MAP_SHARDS;
    if (!memory || (uintptr_t)memory % MAP_LINE || bytes < TALLY_MAP_BYTES_MIN || (uint64_t)bytes > MAP_BYTES_MAX)
        return TALLY_INVALID;
    if (options->kind > TALLY_MAP_SHARDED || shards > TALLY_MAP_SHARDS_MAX || (shards & (shards - 1)))
        return TALLY_INVALID;
    memset(map, 0, sizeof *map);
    map->bytes = bytes;
    map->seed = options->seed;
    map->kind = options->kind;
    map->shards = shards;
    atomic_store_explicit(&map->generation, 1, memory_order_relaxed);
    uint64_t at = (sizeof *map + MAP_LINE - 1) / MAP_LINE * MAP_LINE;
    if (map->kind == TALLY_MAP_CAS)
        cas_init(map, at, bytes);
    else if (!sharded_init(map, at, bytes))
        return TALLY_INVALID;
    *out_map = map;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- members

enum tally_status tally_map_join(struct tally_map *map, const struct tally_map_waiter *waiter,
                                 struct tally_member *out_member)
{
    for (uint32_t i = 0; i < TALLY_MEMBERS_MAX; i++) {
        uint32_t expected = 0;
        // Acquire: the partner is the release by which the last owner left, or was evicted; its counters go on.
        if (!atomic_compare_exchange_strong_explicit(&map->slots[i].used, &expected, 1, memory_order_acquire,
                                                     memory_order_relaxed))
            continue;
        *out_member = (struct tally_member){.map = map, .slot = i};
        if (waiter) out_member->waiter = *waiter;
        return TALLY_OK;
    }
    return TALLY_FULL;
}

void tally_map_leave(struct tally_member *member)
{
    atomic_store_explicit(&member_slot(member)->used, 0, memory_order_release);
    member->map = NULL;
}

void tally_map_evict(struct tally_member *by, uint32_t slot)
{
    struct tally_map *map = by->map;
    if (slot >= TALLY_MEMBERS_MAX || slot == by->slot || !atomic_load(&map->slots[slot].used)) return;
    if (map->kind == TALLY_MAP_SHARDED) sharded_evict(by, slot);
    // Release, as the member's own leaving would: whoever told us that its thread has ended had seen all that it did.
    atomic_store_explicit(&map->slots[slot].announced, 0, memory_order_release);
    atomic_store_explicit(&map->slots[slot].used, 0, memory_order_release);
    atomic_fetch_add_explicit(&map->evicted, 1, memory_order_relaxed);
}

// ---------------------------------------------------------------------------------------------------- tables

// Names are made in order, and only when all before them are ready and differ: so there are no two of the same.
enum tally_status tally_map_table(struct tally_map *map, struct tally_bytes name, uint32_t *out_table)
{
    if (!tally_name_valid(name)) return TALLY_INVALID;
    uint32_t spins = 0;
    for (uint32_t i = 0; i < TALLY_MAP_TABLES_MAX;) {
        struct map_name *at = &map->names[i];
        uint32_t state = atomic_load_explicit(&at->state, memory_order_acquire);
        if (state == NAME_READY) {
            if (tally_bytes_equal(tally_bytes(at->name, at->bytes), name)) {
                *out_table = i;
                return TALLY_OK;
            }
            i++;
        } else if (state == NAME_MAKING) {
            if (++spins == NAME_SPINS) return TALLY_BUSY;
        } else if (atomic_compare_exchange_strong_explicit(&at->state, &state, NAME_MAKING, memory_order_relaxed,
                                                           memory_order_relaxed)) {
            memcpy(at->name, name.data, name.size);
            at->bytes = (uint32_t)name.size;
            atomic_store_explicit(&at->state, NAME_READY, memory_order_release);
        }
    }
    return TALLY_FULL;
}

struct tally_bytes tally_map_table_name(const struct tally_map *map, uint32_t table)
{
    if (table >= TALLY_MAP_TABLES_MAX ||
        atomic_load_explicit(&map->names[table].state, memory_order_acquire) != NAME_READY)
        return tally_bytes(NULL, 0);
    return tally_bytes(map->names[table].name, map->names[table].bytes);
}

// ---------------------------------------------------------------------------------------------------- add and get

static enum tally_status key_of(const struct tally_map *map, uint32_t table, struct tally_bytes key,
                                struct map_key *out_key)
{
    // Relaxed: the name itself is not looked at.
    if (table >= TALLY_MAP_TABLES_MAX ||
        atomic_load_explicit(&map->names[table].state, memory_order_relaxed) != NAME_READY)
        return TALLY_INVALID;
    if (key.size == 0 || key.size > TALLY_KEY_BYTES_MAX) return TALLY_LIMIT;
    uint64_t hash = tally_siphash(map->seed, key.data, key.size) ^ table * 0x9e3779b97f4a7c15u;
    *out_key = (struct map_key){hash, table, key};
    return TALLY_OK;
}

enum tally_status tally_map_add(struct tally_member *member, uint32_t table, struct tally_bytes key, int64_t amount)
{
    struct tally_map *map = member->map;
    struct map_slot *slot = member_slot(member);
    struct map_key found;
    if (amount < 0 || amount > TALLY_MAP_AMOUNT_MAX) return TALLY_INVALID;
    enum tally_status status = key_of(map, table, key, &found);
    if (status) return status;
    status = map->kind == TALLY_MAP_CAS ? cas_add(member, &found, (uint64_t)amount)
                                        : sharded_add(member, &found, (uint64_t)amount);
    if (status == TALLY_OK) {
        count(&slot->adds, 1);
    } else {
        count(&slot->refused, 1);
        count(&slot->refused_amount, (uint64_t)amount);
    }
    return status;
}

enum tally_status tally_map_exchange(struct tally_member *member, uint32_t table, struct tally_bytes key,
                                     int64_t amount, int64_t *out_was)
{
    struct tally_map *map = member->map;
    struct map_key found;
    if (amount < TALLY_MAP_NONE || amount > TALLY_MAP_EXCHANGE_MAX) return TALLY_INVALID;
    enum tally_status status = key_of(map, table, key, &found);
    if (status) return status;
    uint64_t word = amount == TALLY_MAP_NONE ? MAP_REMOVED : (uint64_t)amount, was;
    status = map->kind == TALLY_MAP_CAS ? cas_exchange(member, &found, word, &was)
                                        : sharded_exchange(member, &found, word, &was);
    if (status == TALLY_OK)
        *out_was = amount_is_there(was) ? amount_of(was) : TALLY_MAP_NONE;
    else
        count(&member_slot(member)->refused, 1);
    return status;
}

enum tally_status tally_map_find(struct tally_member *member, uint32_t table, struct tally_bytes key,
                                 int64_t *out_amount)
{
    struct map_key found;
    enum tally_status status = key_of(member->map, table, key, &found);
    if (status) return status;
    return member->map->kind == TALLY_MAP_CAS ? cas_find(member, &found, out_amount)
                                              : sharded_find(member, &found, out_amount);
}

enum tally_status tally_map_get(struct tally_member *member, uint32_t table, struct tally_bytes key,
                                int64_t *out_amount)
{
    enum tally_status status = tally_map_find(member, table, key, out_amount);
    if (status == TALLY_OK && *out_amount == TALLY_MAP_NONE) *out_amount = 0;
    return status;
}

uint64_t tally_map_len(const struct tally_map *map)
{
    return map->kind == TALLY_MAP_CAS ? cas_len(map) : sharded_len(map);
}

void tally_map_stats(const struct tally_map *map, struct tally_map_stats *out_stats)
{
    struct tally_map_stats stats = {.bytes = map->bytes, .keys = tally_map_len(map)};
    for (uint32_t i = 0; i < TALLY_MEMBERS_MAX; i++) {
        const struct map_slot *slot = &map->slots[i];
        stats.adds += atomic_load_explicit(&slot->adds, memory_order_relaxed);
        stats.refused += atomic_load_explicit(&slot->refused, memory_order_relaxed);
        stats.refused_amount += atomic_load_explicit(&slot->refused_amount, memory_order_relaxed);
        stats.contention += atomic_load_explicit(&slot->contention, memory_order_relaxed);
    }
    stats.drains = atomic_load_explicit(&map->drains, memory_order_relaxed);
    stats.evicted = atomic_load_explicit(&map->evicted, memory_order_relaxed);
    *out_stats = stats;
}

// ---------------------------------------------------------------------------------------------------- drain

enum tally_status tally_drain_begin(struct tally_member *member, struct tally_drain *out_drain)
{
    struct tally_map *map = member->map;
    // Acquire: the partner is the release of the drainer before, who emptied the half that is made current.
    uint32_t phase = atomic_load_explicit(&map->phase, memory_order_acquire);
    if (phase == PHASE_IDLE) {
        // The phase first: if the drainer vanishes in between, the next one drains the empty half, and the one after it swaps.
        atomic_store_explicit(&map->phase, PHASE_SWAPPING, memory_order_release);
        atomic_fetch_add(&map->generation, 1); // sequentially consistent: `a` in tally_cas.c
        phase = PHASE_SWAPPING;
    }
    if (phase == PHASE_SWAPPING) {
        enum tally_status status = map->kind == TALLY_MAP_CAS ? cas_swap(map) : sharded_swap(member);
        if (status) return status;
        atomic_store_explicit(&map->phase, PHASE_DRAINING, memory_order_release);
    }
    *out_drain = (struct tally_drain){.map = map};
    return TALLY_OK;
}

bool tally_drain_next(struct tally_drain *drain, struct tally_entry *out_entry)
{
    return drain->map->kind == TALLY_MAP_CAS ? cas_next(drain, out_entry) : sharded_next(drain, out_entry);
}

void tally_drain_end(struct tally_drain *drain)
{
    struct tally_map *map = drain->map;
    if (map->kind == TALLY_MAP_CAS)
        cas_clear(map);
    else
        sharded_clear(map);
    count(&map->drains, 1);
    atomic_store_explicit(&map->phase, PHASE_IDLE, memory_order_release);
    drain->map = NULL;
}
