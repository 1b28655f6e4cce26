// SPDX-License-Identifier: Apache-2.0
//
// Interface `concurrent-map` of tallycast.wit, on the tally's lock-free map. A map's representation is its number here plus 1; one over the last is of
// all maps that could not be had.
//
// Keys that were taken out keep their room until a generation is emptied (tally.h). So when there is no room for a key and some were taken out, the
// keys that are there move to the other generation, which has as much room: this costs as much as inserting them.
#include "component.h"

#include <tallycast/tally.h>

#define INTERFACE   "tallycast:client/concurrent-map@0.1.0"
#define METHOD(one) INTERFACE "#[method]concurrent-map." one

#define MAPS_MAX      64u
#define BYTES_DEFAULT (1u << 20)
#define BYTES_MAX     (1u << 30)
#define NO_MAP        "out of memory: there was no room for this map, or 64 are open"

static struct seat {
    uint32_t base, bytes; // base 0: free
    struct tally_member member;
    uint32_t table;
    uint64_t removed; // keys whose room is not used
} seats[MAPS_MAX];

__attribute__((import_module("[export]" INTERFACE), import_name("[resource-new]concurrent-map"))) uint32_t
map_handle_new(uint32_t map);

static struct seat *seat_of(uint32_t map) { return map <= MAPS_MAX ? &seats[map - 1] : NULL; }

static bool open_map(struct seat *seat, uint32_t bytes, uint64_t seed)
{
    const struct tally_map_options options = {.kind = TALLY_MAP_CAS, .seed = {seed, ~seed}};
    struct tally_map *map;
    uint32_t base = component_take(bytes);
    if (!base) return false;
    if (tally_map_init(pointer(base), bytes, &options, &map) || tally_map_join(map, NULL, &seat->member) ||
        tally_map_table(map, tally_bytes("map", 3), &seat->table)) {
        component_give(base, bytes, bytes);
        return false;
    }
    seat->base = base;
    seat->bytes = bytes;
    seat->removed = 0;
    return true;
}

EXPORT(INTERFACE "#[constructor]concurrent-map") uint32_t map_open(uint32_t bytes, uint64_t seed);
uint32_t map_open(uint32_t bytes, uint64_t seed)
{
    uint32_t number = 0;
    bytes = !bytes ? BYTES_DEFAULT : bytes < TALLY_MAP_BYTES_MIN ? TALLY_MAP_BYTES_MIN : bytes & ~63u;
    while (number < MAPS_MAX && seats[number].base) number++;
    if (number < MAPS_MAX && (bytes > BYTES_MAX || !open_map(&seats[number], bytes, seed))) number = MAPS_MAX;
    return map_handle_new(number + 1);
}

EXPORT(INTERFACE "#[dtor]concurrent-map") void map_drop(uint32_t map);
void map_drop(uint32_t map)
{
    struct seat *seat = seat_of(map);
    if (!seat) return;
    component_give(seat->base, seat->bytes, seat->bytes);
    *seat = (struct seat){0};
}

static const char *text_of(enum tally_status status)
{
    switch (status) {
    case TALLY_LIMIT: return "over a limit: a key is 1 to 1024 bytes";
    case TALLY_INVALID: return "invalid: a count is at most 4611686018427387904, an addition at most 9007199254740992";
    case TALLY_FULL: return "full: there is no room for the key, or the sum would be over its bound";
    default: return tally_status_str(status);
    }
}

// One thread: a drain never finds anybody at work.
static void move_keys(struct seat *seat)
{
    struct tally_drain drain;
    struct tally_entry entry;
    int64_t was;
    if (tally_drain_begin(&seat->member, &drain)) return;
    while (tally_drain_next(&drain, &entry)) {
        // The last addition may have gone over what an exchange sets.
        int64_t set = entry.amount < TALLY_MAP_EXCHANGE_MAX ? entry.amount : TALLY_MAP_EXCHANGE_MAX;
        enum tally_status status = tally_map_exchange(&seat->member, seat->table, entry.key, set, &was);
        if (status == TALLY_OK) status = tally_map_add(&seat->member, seat->table, entry.key, entry.amount - set);
        if (status) __builtin_trap(); // cannot happen: they had room in a half of the same size
    }
    tally_drain_end(&drain);
    seat->removed = 0;
}

// `add`: whether the amount is added, else it is set, or the key taken out.
static enum tally_status change(struct seat *seat, struct tally_bytes key, int64_t amount, bool add, int64_t *out_was)
{
    for (;;) {
        enum tally_status status = add ? tally_map_add(&seat->member, seat->table, key, amount)
                                       : tally_map_exchange(&seat->member, seat->table, key, amount, out_was);
        if (status != TALLY_FULL || !seat->removed) return status;
        move_keys(seat);
    }
}

// result<option<u64>, string>
static uint32_t exchange(uint32_t map, const uint8_t *key, uint32_t key_bytes, int64_t amount)
{
    struct seat *seat = seat_of(map);
    int64_t was;
    if (!seat) return component_error(8, NO_MAP);
    enum tally_status status = change(seat, tally_bytes(key, key_bytes), amount, false, &was);
    if (status) return component_error(8, text_of(status));
    seat->removed += amount == TALLY_MAP_NONE && was != TALLY_MAP_NONE;
    return component_option(was != TALLY_MAP_NONE, (uint64_t)was);
}

EXPORT(METHOD("insert")) uint32_t map_insert(uint32_t map, const uint8_t *key, uint32_t key_bytes, uint64_t count);
uint32_t map_insert(uint32_t map, const uint8_t *key, uint32_t key_bytes, uint64_t count)
{
    if (count > TALLY_MAP_EXCHANGE_MAX) return component_error(8, text_of(TALLY_INVALID));
    return exchange(map, key, key_bytes, (int64_t)count);
}

EXPORT(METHOD("remove")) uint32_t map_remove(uint32_t map, const uint8_t *key, uint32_t key_bytes);
uint32_t map_remove(uint32_t map, const uint8_t *key, uint32_t key_bytes)
{
    return exchange(map, key, key_bytes, TALLY_MAP_NONE);
}

EXPORT(METHOD("add")) uint32_t map_add(uint32_t map, const uint8_t *key, uint32_t key_bytes, uint64_t amount);
uint32_t map_add(uint32_t map, const uint8_t *key, uint32_t key_bytes, uint64_t amount)
{
    struct seat *seat = seat_of(map);
    int64_t was;
    if (!seat) return component_error(4, NO_MAP);
    if (amount > TALLY_MAP_AMOUNT_MAX) return component_error(4, text_of(TALLY_INVALID));
    enum tally_status status = change(seat, tally_bytes(key, key_bytes), (int64_t)amount, true, &was);
    if (status) return component_error(4, text_of(status));
    component_result[0] = 0;
    return address_of(component_result);
}

EXPORT(METHOD("get")) uint32_t map_get(uint32_t map, const uint8_t *key, uint32_t key_bytes);
uint32_t map_get(uint32_t map, const uint8_t *key, uint32_t key_bytes)
{
    struct seat *seat = seat_of(map);
    int64_t count;
    if (!seat) return component_error(8, NO_MAP);
    enum tally_status status = tally_map_find(&seat->member, seat->table, tally_bytes(key, key_bytes), &count);
    if (status) return component_error(8, text_of(status));
    return component_option(count != TALLY_MAP_NONE, (uint64_t)count);
}

EXPORT(METHOD("len")) uint64_t map_len(uint32_t map);
uint64_t map_len(uint32_t map)
{
    const struct seat *seat = seat_of(map);
    return seat ? tally_map_len(seat->member.map) : 0;
}

EXPORT(METHOD("drain")) uint32_t map_drain(uint32_t map);
uint32_t map_drain(uint32_t map)
{
    struct seat *seat = seat_of(map);
    struct tally_drain drain;
    struct tally_entry entry;
    uint32_t count = 0;
    if (!seat) return component_error(4, NO_MAP);
    // First the room for all of it: keys are no longer than the map, and once begun a drain is not given up.
    uint64_t keys = tally_map_len(seat->member.map);
    uint8_t *entries = component_alloc((size_t)keys * 16 + 8), *texts = component_alloc(seat->bytes);
    if (!entries || !texts || tally_drain_begin(&seat->member, &drain)) return component_error(4, "out of memory");
    for (; tally_drain_next(&drain, &entry); count++) {
        memcpy(texts, entry.key.data, entry.key.size);
        tally_store32(entries + count * 16, address_of(texts));
        tally_store32(entries + count * 16 + 4, (uint32_t)entry.key.size);
        tally_store64(entries + count * 16 + 8, (uint64_t)entry.amount);
        texts += entry.key.size;
    }
    tally_drain_end(&drain);
    seat->removed = 0;
    component_result[0] = 0;
    tally_store32(component_result + 4, address_of(entries));
    tally_store32(component_result + 8, count);
    return address_of(component_result);
}

// ---------------------------------------------------------------------------------------------------- after the host has read a result

#define ENDS(name, function)                                                                                           \
    POST(METHOD(name)) void function(uint32_t result);                                                                 \
    void function(uint32_t result)                                                                                     \
    {                                                                                                                  \
        (void)result;                                                                                                  \
        component_end();                                                                                               \
    }

ENDS("insert", map_insert_ends)
ENDS("remove", map_remove_ends)
ENDS("add", map_add_ends)
ENDS("get", map_get_ends)
ENDS("drain", map_drain_ends)
