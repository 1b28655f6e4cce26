// SPDX-License-Identifier: Apache-2.0
#include "tally_module.h"
#include "module.h"

#include <assert.h>
#include <stdatomic.h>
#include <tallycast/tally.h>

static struct tally_map *_Atomic the_map; // null until tallycast_tally_open; set once
static struct tally_drain drain;          // the drainer's

static struct seat {
    struct tally_member member; // written by its owner
    _Atomic bool open;
} seats[TALLY_MEMBERS_MAX];

static void *pointer(uint32_t address) { return (void *)(uintptr_t)address; }
// Acquire: the partner is the release in tallycast_tally_open.
static struct tally_map *map(void) { return atomic_load_explicit(&the_map, memory_order_acquire); }

// Function pointers mean the same in every instance: they are all of one module.
#ifdef __wasm_atomics__
static void wait_here(void *ctx, _Atomic uint32_t *word, uint32_t expected)
{
    (void)ctx;
    __builtin_wasm_memory_atomic_wait32((int *)word, (int)expected, -1);
}

static void wake_one(void *ctx, _Atomic uint32_t *word)
{
    (void)ctx;
    __builtin_wasm_memory_atomic_notify((int *)word, 1);
}
#else
#define wait_here NULL
#define wake_one  NULL
#endif

uint32_t tallycast_tally_open(uint32_t kind, uint32_t bytes, uint32_t shards, uint64_t seed_k0, uint64_t seed_k1)
{
    const struct tally_map_options options = {
        .kind = (enum tally_map_kind)kind, .seed = {seed_k0, seed_k1}, .shards = shards};
    struct tally_map *opened;
    if (map()) return TALLY_INVALID;
    uint32_t memory = tallycast_alloc(bytes);
    if (!memory) return TALLY_NO_MEMORY;
    enum tally_status status = tally_map_init(pointer(memory), bytes, &options, &opened);
    if (status) {
        tallycast_free(memory, bytes);
        return status;
    }
    atomic_store_explicit(&the_map, opened, memory_order_release);
    return TALLY_OK;
}

static struct tally_member *member_of(uint32_t number)
{
    return number < TALLY_MEMBERS_MAX && atomic_load_explicit(&seats[number].open, memory_order_relaxed)
               ? &seats[number].member
               : NULL;
}

int32_t tallycast_tally_join(uint32_t may_wait)
{
    struct tally_map_waiter waiter = {.wait = wait_here, .wake = wake_one};
    struct tally_member member;
    if (!may_wait) waiter.wait = NULL;
    if (!map()) return -TALLY_INVALID;
    enum tally_status status = tally_map_join(map(), &waiter, &member);
    if (status) return -(int32_t)status;
    seats[member.slot].member = member;
    atomic_store_explicit(&seats[member.slot].open, true, memory_order_relaxed);
    return (int32_t)member.slot;
}

void tallycast_tally_leave(uint32_t number)
{
    struct tally_member *member = member_of(number);
    if (!member) return;
    struct tally_member leaving = *member;
    atomic_store_explicit(&seats[number].open, false, memory_order_relaxed);
    tally_map_leave(&leaving); // last: from here on the seat may be another's
}

void tallycast_tally_evict(uint32_t by, uint32_t number)
{
    struct tally_member *member = member_of(by);
    if (!member || !member_of(number) || by == number) return;
    atomic_store_explicit(&seats[number].open, false, memory_order_relaxed);
    tally_map_evict(member, number);
}

int32_t tallycast_tally_table(uint32_t name, uint32_t name_bytes)
{
    uint32_t table;
    if (!map()) return -TALLY_INVALID;
    enum tally_status status = tally_map_table(map(), tally_bytes(pointer(name), name_bytes), &table);
    return status ? -(int32_t)status : (int32_t)table;
}

uint32_t tallycast_tally_table_name(uint32_t table, uint32_t out)
{
    struct tally_bytes name = map() ? tally_map_table_name(map(), table) : tally_bytes(NULL, 0);
    if (name.size) memcpy(pointer(out), name.data, name.size);
    return (uint32_t)name.size;
}

uint32_t tallycast_tally_add(uint32_t number, uint32_t table, uint32_t key, uint32_t key_bytes, int64_t amount)
{
    struct tally_member *member = member_of(number);
    if (!member) return TALLY_INVALID;
    return tally_map_add(member, table, tally_bytes(pointer(key), key_bytes), amount);
}

uint32_t tallycast_tally_get(uint32_t number, uint32_t table, uint32_t key, uint32_t key_bytes, uint32_t out_amount)
{
    struct tally_member *member = member_of(number);
    if (!member) return TALLY_INVALID;
    return tally_map_get(member, table, tally_bytes(pointer(key), key_bytes), pointer(out_amount));
}

uint32_t tallycast_tally_stats(uint32_t out_stats)
{
    if (!map()) return TALLY_INVALID;
    struct tally_map_stats stats;
    tally_map_stats(map(), &stats);
    static_assert(sizeof stats == 64, "tally_module.h says how it lies in memory");
    memcpy(pointer(out_stats), &stats, sizeof stats);
    return TALLY_OK;
}

uint32_t tallycast_tally_drain_begin(uint32_t number)
{
    struct tally_member *member = member_of(number);
    if (!member) return TALLY_INVALID;
    return tally_drain_begin(member, &drain);
}

uint32_t tallycast_tally_drain_next(uint32_t out_entry)
{
    struct tally_entry entry;
    if (!drain.map || !tally_drain_next(&drain, &entry)) return 0;
    uint8_t *out = pointer(out_entry);
    tally_store64(out, (uint64_t)entry.amount);
    tally_store32(out + 8, entry.table);
    tally_store32(out + 12, (uint32_t)(uintptr_t)entry.key.data);
    tally_store32(out + 16, (uint32_t)entry.key.size);
    tally_store32(out + 20, 0);
    return 1;
}

void tallycast_tally_drain_end(void)
{
    if (drain.map) tally_drain_end(&drain);
}
