// SPDX-License-Identifier: Apache-2.0
//
// What both maps behind tally.h share: how the memory lies, entries, members' slots.
//
//     header with tables' names and members' slots | half 0 | half 1
//
// Generation g counts in half g & 1. A drain of generation g makes g + 1 current, waits until nobody can write to g's half any more, and owns it
// until its end, when it is empty again.
#ifndef TALLYCAST_TALLY_MAP_H
#define TALLYCAST_TALLY_MAP_H

#include <assert.h>
#include <stdatomic.h>
#include <tallycast/limits.h>
#include <tallycast/tally.h>

#define MAP_LINE      64u
#define MAP_UNIT      8u // entries are multiples of it; a reference counts them from the map's start, 0 is none
#define MAP_BYTES_MAX ((uint64_t)16 << 30) // so that references have 32 bits with room to spare
#define MAP_SUM_MAX   ((uint64_t)1 << 62)
#define MAP_REMOVED                                                                                                    \
    ((uint64_t)1 << 63) // the amount of a key that was taken out; additions after that lie below this bit
#define MAP_ENTRY_MEAN                                                                                                 \
    48u // bytes of an entry, for the size of what leads to them; right or wrong, only speed depends on it

// Never changes once it can be reached, but for `amount`.
struct entry {
    _Atomic uint64_t amount;
    uint32_t next; // in the chain (TALLY_MAP_CAS)
    uint32_t hash;
    uint16_t table, key_bytes;
    uint8_t key[];
};

#define ENTRY_BYTES(key_bytes) ((offsetof(struct entry, key) + (key_bytes) + MAP_UNIT - 1) / MAP_UNIT * MAP_UNIT)

// Counters have one writer, the owner; others read them: relaxed, they say nothing about anything else.
struct map_slot {
    _Alignas(
        MAP_LINE) _Atomic uint64_t announced; // generation in which the owner may be writing; 0: none. See tally_cas.c
    _Atomic uint64_t adds, refused, refused_amount, contention;
    _Atomic uint32_t used;
};

enum { NAME_FREE, NAME_MAKING, NAME_READY };

struct map_name {
    _Atomic uint32_t state; // NAME_READY: release, by who made it; the partner is the acquire of who looks
    uint32_t bytes;
    uint8_t name[TALLY_NAME_BYTES_MAX];
};

// One half of a TALLY_MAP_CAS.
struct cas_half {
    _Alignas(MAP_LINE) uint32_t heads, begin; // references
    uint32_t end;
    _Atomic uint32_t top; // the next free unit
    _Atomic uint32_t keys;
};

// One shard of a TALLY_MAP_SHARDED. All but the lock is read and written under it, and the half that is not current by the drainer alone.
struct shard {
    _Alignas(MAP_LINE) _Atomic uint32_t lock;
    uint32_t current;
    _Atomic uint32_t keys[2]; // written under the lock, read by anyone for stats: relaxed
    uint32_t cells[2], begin[2], end[2], top[2];
    uint32_t used[2]; // cells, those of keys that were taken out among them
};

struct tally_map {
    uint64_t bytes;
    struct tally_seed seed;
    uint32_t kind, shards; // shards: a power of two
    uint32_t places;       // a power of two: chain heads of a half, cells of a shard's half
    uint32_t shards_at;    // reference
    // The drainer's, handed from one to the next by release and acquire.
    _Alignas(MAP_LINE) _Atomic uint32_t phase;
    _Atomic uint64_t drains, evicted;
    _Alignas(MAP_LINE) _Atomic uint64_t generation; // from 1
    struct cas_half halves[2];
    struct map_slot slots[TALLY_MEMBERS_MAX];
    struct map_name names[TALLY_MAP_TABLES_MAX];
};

enum { PHASE_IDLE, PHASE_SWAPPING, PHASE_DRAINING };

static inline void *map_at(const struct tally_map *map, uint64_t reference)
{
    return (uint8_t *)(uintptr_t)map + reference * MAP_UNIT;
}

static inline struct map_slot *member_slot(const struct tally_member *member)
{
    return &member->map->slots[member->slot];
}

// For a counter that only the caller writes.
static inline void count(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

static inline bool entry_is(const struct entry *entry, uint32_t hash, uint32_t table, struct tally_bytes key)
{
    return entry->hash == hash && entry->table == table && entry->key_bytes == key.size &&
           memcmp(entry->key, key.data, key.size) == 0;
}

static inline void entry_fill(struct entry *entry, uint32_t hash, uint32_t table, struct tally_bytes key,
                              uint64_t amount)
{
    // Relaxed: what makes the entry reachable publishes it.
    atomic_store_explicit(&entry->amount, amount, memory_order_relaxed);
    entry->next = 0;
    entry->hash = hash;
    entry->table = (uint16_t)table;
    entry->key_bytes = (uint16_t)key.size;
    memcpy(entry->key, key.data, key.size);
}

static inline uint64_t amount_load(const struct entry *entry)
{
    return atomic_load_explicit(&entry->amount, memory_order_relaxed);
}

static inline bool amount_is_there(uint64_t word) { return word != MAP_REMOVED; }
static inline int64_t amount_of(uint64_t word) { return (int64_t)(word & ~MAP_REMOVED); }

// What get and find tell of an entry, or of none.
static inline int64_t amount_found(const struct entry *entry)
{
    uint64_t word = entry ? amount_load(entry) : MAP_REMOVED;
    return amount_is_there(word) ? amount_of(word) : TALLY_MAP_NONE;
}

static inline struct tally_entry entry_of(const struct entry *entry)
{
    return (struct tally_entry){entry->table, tally_bytes(entry->key, entry->key_bytes), amount_of(amount_load(entry))};
}

// A key as the maps take it: its hash chooses shard and place by different bits.
struct map_key {
    uint64_t hash;
    uint32_t table;
    struct tally_bytes bytes;
};

// What is done to a key: an addition, or an exchange. The two are one code, compiled for each: as one function it costs an addition 1.2 ns.
#define ONE_OF_TWO __attribute__((always_inline)) static inline

struct map_change {
    uint64_t amount; // MAP_REMOVED: takes the key out
    uint64_t was;    // what an exchange found; MAP_REMOVED: nothing
    bool exchange;
};

// By how much a change that found the word `was` changes the number of keys.
static inline int map_change_keys(const struct map_change *change, uint64_t was)
{
    if (!change->exchange) return !amount_is_there(was) && change->amount;
    return amount_is_there(change->amount) - amount_is_there(was);
}

// What each map does; the arguments are checked, and refusals counted, by the caller.
void cas_init(struct tally_map *map, uint64_t at, uint64_t end);
enum tally_status cas_add(struct tally_member *member, const struct map_key *key, uint64_t amount);
enum tally_status cas_exchange(struct tally_member *member, const struct map_key *key, uint64_t amount,
                               uint64_t *out_was);
enum tally_status cas_find(struct tally_member *member, const struct map_key *key, int64_t *out_amount);
enum tally_status cas_swap(const struct tally_map *map); // phase PHASE_SWAPPING: TALLY_OK or TALLY_BUSY
bool cas_next(struct tally_drain *drain, struct tally_entry *out_entry);
void cas_clear(struct tally_map *map);
uint64_t cas_len(const struct tally_map *map);

bool sharded_init(struct tally_map *map, uint64_t at, uint64_t end); // false: too little memory for so many shards
enum tally_status sharded_add(struct tally_member *member, const struct map_key *key, uint64_t amount);
enum tally_status sharded_exchange(struct tally_member *member, const struct map_key *key, uint64_t amount,
                                   uint64_t *out_was);
enum tally_status sharded_find(struct tally_member *member, const struct map_key *key, int64_t *out_amount);
enum tally_status sharded_swap(struct tally_member *member);
bool sharded_next(struct tally_drain *drain, struct tally_entry *out_entry);
void sharded_clear(struct tally_map *map);
uint64_t sharded_len(const struct tally_map *map);
void sharded_evict(struct tally_member *by, uint32_t slot);

#endif
