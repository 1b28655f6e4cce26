// SPDX-License-Identifier: Apache-2.0
//
// Interface `mirror` of tallycast.wit. A mirror's representation, by which calls name it, is its number here plus 1.
#include "component.h"

#include <tallycast/mirror.h>

#define INTERFACE   "tallycast:client/mirror@0.1.0"
#define METHOD(one) INTERFACE "#[method]mirror." one

#define MIRRORS_MAX      16u
#define BYTES_DEFAULT    (64u << 20)
#define PAGE_BYTES       65536u
#define GET_MANY_AT_ONCE 64u
#define NO_SUCH_TABLE    "not found: there is no such table in this version"

static struct seat {
    struct tally_memory memory; // base null: free
    struct tally_mirror *mirror;
    struct tally_reader reader;
} seats[MIRRORS_MAX];

static struct seat *seat_of(uint32_t mirror) { return &seats[mirror - 1]; }

__attribute__((import_module("[export]" INTERFACE), import_name("[resource-new]mirror"))) uint32_t
mirror_handle_new(uint32_t mirror);

// All of it is zero, and the host's from the beginning: growing is using more of it.
static bool grow(struct tally_memory *memory, size_t size_min)
{
    if (size_min > memory->size_max) return false;
    size_t size = (size_min + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
    memory->size = size < memory->size_max ? size : memory->size_max;
    return true;
}

static void give_back(struct seat *seat)
{
    component_give(address_of(seat->memory.base), (uint32_t)seat->memory.size_max, (uint32_t)seat->memory.size);
    *seat = (struct seat){0};
}

EXPORT(INTERFACE "#[static]mirror.open")
uint32_t mirror_open(const uint8_t *dataset, uint32_t dataset_bytes, uint64_t bytes_max);
uint32_t mirror_open(const uint8_t *dataset, uint32_t dataset_bytes, uint64_t bytes_max)
{
    struct tally_mirror_options options = {.dataset = tally_bytes(dataset, dataset_bytes)};
    uint32_t number = 0;
    if (!tally_name_valid(options.dataset))
        return component_error(4, "invalid: a dataset's name is [a-z0-9_.-], 1 to 64 bytes");
    while (number < MIRRORS_MAX && seats[number].memory.base) number++;
    if (number == MIRRORS_MAX) return component_error(4, "full: 16 mirrors are open, close one first");
    if (!bytes_max) bytes_max = BYTES_DEFAULT;
    uint32_t base = bytes_max < UINT32_MAX - PAGE_BYTES ? component_take((uint32_t)bytes_max) : 0;
    if (!base) return component_error(4, "out of memory: there is no room for bytes-max");

    struct seat *seat = &seats[number];
    size_t size = bytes_max < PAGE_BYTES ? (size_t)bytes_max : PAGE_BYTES;
    seat->memory =
        (struct tally_memory){.base = pointer(base), .size = size, .size_max = (size_t)bytes_max, .grow = grow};
    enum tally_status status = tally_mirror_init(&seat->memory, &options, &seat->mirror);
    if (status == TALLY_OK) status = tally_reader_open(seat->mirror, &seat->reader);
    if (status) {
        give_back(seat);
        return component_error(4, status == TALLY_NO_MEMORY
                                      ? "out of memory: bytes-max is less than an empty mirror takes"
                                      : tally_status_str(status));
    }
    component_result[0] = 0;
    tally_store32(component_result + 4, mirror_handle_new(number + 1));
    return address_of(component_result);
}

EXPORT(INTERFACE "#[dtor]mirror") void mirror_drop(uint32_t mirror);
void mirror_drop(uint32_t mirror) { give_back(seat_of(mirror)); }

EXPORT(METHOD("apply")) uint32_t mirror_apply(uint32_t mirror, const uint8_t *frame, uint32_t frame_bytes);
uint32_t mirror_apply(uint32_t mirror, const uint8_t *frame, uint32_t frame_bytes)
{
    struct seat *seat = seat_of(mirror);
    enum tally_status status = tally_mirror_apply(seat->mirror, &seat->memory, tally_bytes(frame, frame_bytes));
    component_result[0] = 0;
    component_result[4] = status == TALLY_MORE ? 1 : status == TALLY_OLD ? 2 : 0;
    if (status == TALLY_OK || component_result[4]) return address_of(component_result);
    return component_error(4, tally_status_str(status));
}

EXPORT(METHOD("confirm")) void mirror_confirm(uint32_t mirror, uint64_t epoch, uint64_t version, uint64_t now_ms);
void mirror_confirm(uint32_t mirror, uint64_t epoch, uint64_t version, uint64_t now_ms)
{
    tally_mirror_confirm(seat_of(mirror)->mirror, epoch, version, now_ms);
}

// ---------------------------------------------------------------------------------------------------- reads

static struct tally_view_info info_of(uint32_t mirror)
{
    struct tally_view view;
    struct tally_view_info info;
    tally_view_pin(&seat_of(mirror)->reader, &view);
    tally_view_info(&view, &info);
    tally_view_unpin(&view);
    return info;
}

static void put_version(uint8_t *out, const struct tally_view_info *info)
{
    tally_store64(out, info->epoch);
    tally_store64(out + 8, info->version);
    tally_store64(out + 16, info->cut_ms);
    tally_store64(out + 24, info->fresh_ms);
}

EXPORT(METHOD("version")) uint32_t mirror_version(uint32_t mirror);
uint32_t mirror_version(uint32_t mirror)
{
    struct tally_view_info info = info_of(mirror);
    put_version(component_result, &info);
    return address_of(component_result);
}

EXPORT(METHOD("digest")) uint32_t mirror_digest(uint32_t mirror);
uint32_t mirror_digest(uint32_t mirror)
{
    struct tally_digest digest = info_of(mirror).digest;
    tally_store64(component_result, digest.lo);
    tally_store64(component_result + 8, digest.hi);
    return address_of(component_result);
}

EXPORT(METHOD("len")) uint64_t mirror_len(uint32_t mirror);
uint64_t mirror_len(uint32_t mirror) { return info_of(mirror).rows; }

EXPORT(METHOD("get"))
uint32_t mirror_get(uint32_t mirror, const uint8_t *table, uint32_t table_bytes, const uint8_t *key,
                    uint32_t key_bytes);
uint32_t mirror_get(uint32_t mirror, const uint8_t *table, uint32_t table_bytes, const uint8_t *key, uint32_t key_bytes)
{
    struct tally_view view;
    uint32_t number;
    int64_t value = 0;
    tally_view_pin(&seat_of(mirror)->reader, &view);
    enum tally_status status = tally_view_table(&view, tally_bytes(table, table_bytes), &number);
    bool there = status == TALLY_OK && tally_view_get(&view, number, tally_bytes(key, key_bytes), &value) == TALLY_OK;
    tally_view_unpin(&view);
    return status ? component_error(8, NO_SUCH_TABLE) : component_option(there, (uint64_t)value);
}

EXPORT(METHOD("get-bytes"))
uint32_t mirror_get_bytes(uint32_t mirror, const uint8_t *table, uint32_t table_bytes, const uint8_t *key,
                          uint32_t key_bytes);
uint32_t mirror_get_bytes(uint32_t mirror, const uint8_t *table, uint32_t table_bytes, const uint8_t *key,
                          uint32_t key_bytes)
{
    return mirror_get(mirror, table, table_bytes, key, key_bytes);
}

// `texts` are (u32 address, u32 bytes); `out` has 16 bytes for each: u8 whether there is one, at 8 its value.
static void get_values(const struct tally_view *view, uint32_t table, const uint8_t *texts, uint32_t count,
                       uint8_t *out)
{
    struct tally_bytes keys[GET_MANY_AT_ONCE];
    int64_t values[GET_MANY_AT_ONCE];
    bool found[GET_MANY_AT_ONCE];
    for (uint32_t done = 0, some; done < count; done += some) {
        some = count - done < GET_MANY_AT_ONCE ? count - done : GET_MANY_AT_ONCE;
        for (uint32_t i = 0; i < some; i++, texts += 8)
            keys[i] = tally_bytes(pointer(tally_load32(texts)), tally_load32(texts + 4));
        tally_view_get_many(view, table, keys, some, values, found);
        for (uint32_t i = 0; i < some; i++, out += 16) {
            out[0] = found[i];
            tally_store64(out + 8, (uint64_t)values[i]);
        }
    }
}

EXPORT(METHOD("get-many"))
uint32_t mirror_get_many(uint32_t mirror, const uint8_t *table, uint32_t table_bytes, const uint8_t *keys,
                         uint32_t count);
uint32_t mirror_get_many(uint32_t mirror, const uint8_t *table, uint32_t table_bytes, const uint8_t *keys,
                         uint32_t count)
{
    struct tally_view view;
    struct tally_view_info info;
    uint32_t number;
    uint8_t *values = component_alloc((size_t)count * 16 + 8);
    if (!values || count > UINT32_MAX / 32) return component_error(8, "out of memory: fewer keys at once");
    tally_view_pin(&seat_of(mirror)->reader, &view);
    enum tally_status status = tally_view_table(&view, tally_bytes(table, table_bytes), &number);
    tally_view_info(&view, &info);
    if (status == TALLY_OK) get_values(&view, number, keys, count, values);
    tally_view_unpin(&view);
    if (status) return component_error(8, NO_SUCH_TABLE);
    component_result[0] = 0;
    put_version(component_result + 8, &info);
    tally_store32(component_result + 40, address_of(values));
    tally_store32(component_result + 44, count);
    return address_of(component_result);
}

// ---------------------------------------------------------------------------------------------------- after the host has read a result

#define ENDS(name, function)                                                                                           \
    POST(name) void function(uint32_t result);                                                                         \
    void function(uint32_t result)                                                                                     \
    {                                                                                                                  \
        (void)result;                                                                                                  \
        component_end();                                                                                               \
    }

ENDS(INTERFACE "#[static]mirror.open", mirror_open_ends)
ENDS(METHOD("apply"), mirror_apply_ends)
ENDS(METHOD("get"), mirror_get_ends)
ENDS(METHOD("get-bytes"), mirror_get_bytes_ends)
ENDS(METHOD("get-many"), mirror_get_many_ends)
