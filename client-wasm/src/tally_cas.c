// SPDX-License-Identifier: Apache-2.0
//
// The lock-free map: chains of entries under an array of heads (after Harris, "A pragmatic implementation of non-blocking linked-lists", 2001,
// less removal, which is what makes that one hard).
//
// Adding to a key that is there is an atomic addition to its entry. A new key's entry is written in full, with its amount, and then made the head
// of its chain by compare-and-swap. If that fails others put theirs before it: only those are looked at for the same key, then
// it is tried again. Nothing is ever taken out of a chain.
//
// ABA. The compare-and-swap is right if a head that is still the reference that was read is still the same entry. References are not used
// again within a generation: `top` only goes up, but for an entry that its maker gives back before anybody could reach it. They are used
// again two generations later. So it must not happen that a member reads a head in generation g, sleeps, and exchanges it in g + 2:
//
//   member (enter)                                 drainer
//   1  G = generation          (load)              a  generation = G + 1       (store)
//   2  announced = G           (store)             b  read every slot          (loads)
//   3  generation again        (load)
//
// All five are sequentially consistent. If 3 still reads G then 3 is before a, so 2 is before b, and b sees the announcement, or a later one
// of that slot. While a slot announces G the drain of G answers TALLY_BUSY: it neither hands out the entries nor empties the half, and
// no later drain can begin. If 3 reads something else, the member has touched nothing and begins again at 1; that happens once per drain, so one
// member's retry is another's progress. Leaving stores 0 with release; the b that reads it acquires, so the member's additions happen
// before the entries are handed out. (tests/unit/test_tally.c holds a member between its load and its exchange, and sees the drain wait.)
//
// What is linear: an addition takes effect at its atomic instruction, or, if its generation was swapped away meanwhile, just before the swap:
// it began before it, and no one who entered later looks into that half. The drain takes effect at its swap.
#include "tally_map.h"

static uint64_t enter(const struct tally_member *member)
{
    struct tally_map *map = member->map;
    struct map_slot *slot = member_slot(member);
    uint64_t generation = atomic_load(&map->generation), again;
    for (;;) {
        atomic_store(&slot->announced, generation);
        again = atomic_load(&map->generation);
        if (again == generation) return generation;
        generation = again;
        count(&slot->contention, 1);
    }
}

// Release: the partner is the load in cas_swap.
static void leave(const struct tally_member *member)
{
    atomic_store_explicit(&member_slot(member)->announced, 0, memory_order_release);
}

static _Atomic uint32_t *head_of(const struct tally_map *map, const struct cas_half *half, uint64_t hash)
{
    _Atomic uint32_t *heads = map_at(map, half->heads);
    return &heads[hash & (map->places - 1)];
}

// From the entry `first` up to, and without, `last`.
static struct entry *find(const struct tally_map *map, const struct map_key *key, uint32_t first, uint32_t last)
{
    for (uint32_t at = first; at != last;) {
        struct entry *entry = map_at(map, at);
        if (entry_is(entry, (uint32_t)(key->hash >> 32), key->table, key->bytes)) return entry;
        at = entry->next;
    }
    return NULL;
}

// Acquire: the partner is the release in give_back, whose maker wrote there before us. What is written now is published by the exchange of
// the head.
static uint32_t take(struct cas_half *half, uint32_t units)
{
    uint32_t top = atomic_load_explicit(&half->top, memory_order_relaxed);
    do {
        if (units > half->end - top) return 0;
    } while (!atomic_compare_exchange_weak_explicit(&half->top, &top, top + units, memory_order_acquire,
                                                    memory_order_relaxed));
    return top;
}

// If others took room meanwhile it stays unused until the half is emptied.
static void give_back(struct cas_half *half, uint32_t at, uint32_t units)
{
    uint32_t top = at + units;
    atomic_compare_exchange_strong_explicit(&half->top, &top, at, memory_order_release, memory_order_relaxed);
}

// Relaxed: the entry was reached by an acquire, and the drainer sees the amount by the member's leaving. An addition and an exchange are one
// instruction each, and the word that it found says whether the key came or went; so `keys` is right when nobody is at work.
ONE_OF_TWO enum tally_status change_entry(struct cas_half *half, struct entry *entry, struct map_change *change)
{
    // 64 members may pass this test together, and still add less than what is left above it.
    static_assert(TALLY_MEMBERS_MAX * (uint64_t)TALLY_MAP_AMOUNT_MAX < MAP_SUM_MAX, "a sum stays in 63 bits");
    if (change->exchange) {
        change->was = atomic_exchange_explicit(&entry->amount, change->amount, memory_order_relaxed);
    } else {
        if ((uint64_t)amount_of(amount_load(entry)) > MAP_SUM_MAX) return TALLY_FULL;
        change->was = atomic_fetch_add_explicit(&entry->amount, change->amount, memory_order_relaxed);
    }
    int keys = map_change_keys(change, change->was);
    if (keys) atomic_fetch_add_explicit(&half->keys, (uint32_t)keys, memory_order_relaxed);
    return TALLY_OK;
}

ONE_OF_TWO enum tally_status insert(struct tally_member *member, struct cas_half *half, const struct map_key *key,
                                    uint32_t first, struct map_change *change)
{
    struct tally_map *map = member->map;
    _Atomic uint32_t *head = head_of(map, half, key->hash);
    uint32_t units = (uint32_t)(ENTRY_BYTES(key->bytes.size) / MAP_UNIT), mine = take(half, units), seen = first;
    if (!mine) return TALLY_FULL;
    struct entry *entry = map_at(map, mine);
    entry_fill(entry, (uint32_t)(key->hash >> 32), key->table, key->bytes, change->amount);
    for (;;) {
        entry->next = seen;
        uint32_t now = seen;
        // Release: the partners are the acquires here and in `look`, by which others read the entry. The acquire on failure is such a one.
        if (atomic_compare_exchange_strong_explicit(head, &now, mine, memory_order_release, memory_order_acquire)) {
            atomic_fetch_add_explicit(&half->keys, 1, memory_order_relaxed);
            return TALLY_OK;
        }
        count(&member_slot(member)->contention, 1);
        struct entry *theirs = find(map, key, now, seen);
        if (theirs) {
            give_back(half, mine, units);
            return change_entry(half, theirs, change);
        }
        seen = now;
    }
}

ONE_OF_TWO enum tally_status change_key(struct tally_member *member, const struct map_key *key,
                                        struct map_change *change)
{
    struct tally_map *map = member->map;
    struct cas_half *half = &map->halves[enter(member) & 1];
    uint32_t first = atomic_load_explicit(head_of(map, half, key->hash), memory_order_acquire);
    struct entry *entry = find(map, key, first, 0);
    enum tally_status status = TALLY_OK;
    if (entry)
        status = change_entry(half, entry, change);
    else if (amount_is_there(change->amount)) // what is not there need not be taken out
        status = insert(member, half, key, first, change);
    leave(member);
    return status;
}

enum tally_status cas_add(struct tally_member *member, const struct map_key *key, uint64_t amount)
{
    return change_key(member, key, &(struct map_change){.amount = amount});
}

enum tally_status cas_exchange(struct tally_member *member, const struct map_key *key, uint64_t amount,
                               uint64_t *out_was)
{
    struct map_change change = {.amount = amount, .was = MAP_REMOVED, .exchange = true};
    enum tally_status status = change_key(member, key, &change);
    *out_was = change.was;
    return status;
}

enum tally_status cas_find(struct tally_member *member, const struct map_key *key, int64_t *out_amount)
{
    struct tally_map *map = member->map;
    struct cas_half *half = &map->halves[enter(member) & 1];
    uint32_t first = atomic_load_explicit(head_of(map, half, key->hash), memory_order_acquire);
    struct entry *entry = find(map, key, first, 0);
    *out_amount = amount_found(entry);
    leave(member);
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- drain

enum tally_status cas_swap(const struct tally_map *map)
{
    uint64_t old = atomic_load(&map->generation) - 1; // the drain has made the next one current
    for (uint32_t i = 0; i < TALLY_MEMBERS_MAX; i++) {
        if (atomic_load(&map->slots[i].announced) == old) return TALLY_BUSY;
    }
    return TALLY_OK;
}

static struct cas_half *drained(const struct tally_map *map)
{
    uint64_t old = atomic_load_explicit(&map->generation, memory_order_relaxed) - 1;
    return (struct cas_half *)(uintptr_t)&map->halves[old & 1];
}

// The half is ours: cas_swap acquired what its writers released.
bool cas_next(struct tally_drain *drain, struct tally_entry *out_entry)
{
    struct tally_map *map = drain->map;
    const uint32_t *heads = map_at(map, drained(map)->heads);
    for (;;) {
        while (!drain->chain) {
            if (drain->place == map->places) return false;
            drain->chain = heads[drain->place++];
        }
        const struct entry *entry = map_at(map, drain->chain);
        drain->chain = entry->next;
        if (!amount_is_there(amount_load(entry))) continue;
        *out_entry = entry_of(entry);
        return true;
    }
}

void cas_clear(struct tally_map *map)
{
    struct cas_half *half = drained(map);
    memset(map_at(map, half->heads), 0, (size_t)map->places * sizeof(uint32_t));
    atomic_store_explicit(&half->top, half->begin, memory_order_relaxed);
    atomic_store_explicit(&half->keys, 0, memory_order_relaxed);
}

uint64_t cas_len(const struct tally_map *map)
{
    uint64_t generation = atomic_load_explicit(&map->generation, memory_order_relaxed);
    // Counted after what it counts: a key may have gone whose coming is not counted yet.
    int32_t keys = (int32_t)atomic_load_explicit(&map->halves[generation & 1].keys, memory_order_relaxed);
    return keys > 0 ? (uint64_t)keys : 0;
}

void cas_init(struct tally_map *map, uint64_t at, uint64_t end)
{
    uint64_t bytes = (end - at) / 2 / MAP_LINE * MAP_LINE;
    map->places = 1;
    while ((uint64_t)map->places * 2 * MAP_ENTRY_MEAN <= bytes) map->places *= 2;
    for (uint32_t i = 0; i < 2; i++) {
        struct cas_half *half = &map->halves[i];
        half->heads = (uint32_t)((at + i * bytes) / MAP_UNIT);
        half->begin = half->heads + (uint32_t)((map->places * sizeof(uint32_t) + MAP_UNIT - 1) / MAP_UNIT);
        half->end = (uint32_t)((at + (i + 1) * bytes) / MAP_UNIT);
        memset(map_at(map, half->heads), 0, (size_t)map->places * sizeof(uint32_t));
        atomic_store_explicit(&half->top, half->begin, memory_order_relaxed);
    }
}
