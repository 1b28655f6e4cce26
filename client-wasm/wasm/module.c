// SPDX-License-Identifier: Apache-2.0
//
// The scalar ABI of module.h over mirror.h. State is in the memory, so that it is the same for every instance on it.
#include "../src/arena.h"
#include "areas.h"

#define PAGE_UNIT        65536u
#define HUGE_UNIT        (2u << 20) // memory grows to a multiple of it: the host may back it with huge pages
#define EARLY_BYTES      4096u
#define GET_MANY_AT_ONCE 64u

static struct tally_memory memory;              // the applier's
static struct tally_mirror *_Atomic the_mirror; // null until tallycast_open; set once
static struct {
    uint32_t address, bytes;
} buffer; // the applier's; address 0: the early one
static _Alignas(64) uint8_t early_buffer[EARLY_BYTES];

// A reader and its views: written by the thread that owns the slot.
static struct seat {
    _Alignas(64) struct tally_reader reader;
    struct tally_view views[TALLYCAST_VIEWS_MAX]; // root null: not pinned
    uint64_t epoch; // that the numbers from tallycast_read_table are of; 0: none was asked for
    bool open;
} seats[TALLY_READERS_MAX];

static void *pointer(uint32_t address) { return (void *)(uintptr_t)address; }
static uint32_t address_of(const void *data) { return (uint32_t)(uintptr_t)data; }
static struct tally_mirror *mirror(void) { return atomic_load_explicit(&the_mirror, memory_order_acquire); }

// ---------------------------------------------------------------------------------------------------- any

uint32_t tallycast_abi(void) { return TALLYCAST_ABI; }

uint32_t tallycast_stats(uint32_t out_stats)
{
    if (!mirror()) return TALLY_INVALID;
    struct tally_mirror_stats stats;
    tally_mirror_stats(mirror(), &stats);
    static_assert(sizeof stats == 88, "module.h says how it lies in memory");
    memcpy(pointer(out_stats), &stats, sizeof stats);
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- applier

static uint64_t usable_end(void) { return (uint64_t)__builtin_wasm_memory_size(0) * PAGE_UNIT; }

static bool grow(struct tally_memory *grown, size_t size_min)
{
    uint64_t base = address_of(grown->base), end = base + size_min;
    if (size_min > grown->size_max) return false;
    if (end > usable_end()) {
        size_t pages = (size_t)((end - usable_end() + PAGE_UNIT - 1) / PAGE_UNIT);
        size_t whole = (size_t)((end + HUGE_UNIT - 1) / HUGE_UNIT * HUGE_UNIT - usable_end()) / PAGE_UNIT;
        if (__builtin_wasm_memory_grow(0, whole) == SIZE_MAX && __builtin_wasm_memory_grow(0, pages) == SIZE_MAX)
            return false;
    }
    uint64_t size = usable_end() - base;
    grown->size = size < grown->size_max ? (size_t)size : grown->size_max;
    return true;
}

uint32_t tallycast_open(uint32_t dataset, uint32_t dataset_bytes, uint64_t bytes_max, uint64_t retired_bytes_max)
{
    if (mirror()) return TALLY_INVALID;
    uint32_t base = address_of(areas_mirror());
    uint64_t reach = ((uint64_t)1 << 32) - PAGE_UNIT - base;
    if (bytes_max == 0 || bytes_max > reach) bytes_max = reach;
    memory = (struct tally_memory){.base = pointer(base), .size_max = (size_t)bytes_max, .grow = grow};
    const struct tally_mirror_options options = {
        .dataset = tally_bytes(pointer(dataset), dataset_bytes),
        .retired_bytes_max = retired_bytes_max,
    };
    struct tally_mirror *opened;
    enum tally_status status = tally_mirror_init(&memory, &options, &opened);
    if (status) return status;
    atomic_store_explicit(&the_mirror, opened, memory_order_release);
    return TALLY_OK;
}

uint32_t tallycast_alloc(uint32_t bytes)
{
    if (!mirror()) return 0;
    uint32_t block = mirror_arena_alloc(mirror(), &memory, bytes);
    return block ? address_of(at(mirror(), block)) : 0;
}

void tallycast_free(uint32_t address, uint32_t bytes)
{
    if (!mirror() || !address || !bytes) return;
    mirror_arena_free(mirror(), (address - address_of(mirror())) / LINE_BYTES, bytes);
}

uint32_t tallycast_buffer(uint32_t bytes)
{
    if (bytes <= EARLY_BYTES && !buffer.address) return address_of(early_buffer);
    if (bytes <= buffer.bytes) return buffer.address;
    uint32_t address = tallycast_alloc(bytes);
    if (!address) return 0;
    tallycast_free(buffer.address, buffer.bytes);
    buffer.address = address;
    buffer.bytes = bytes;
    return address;
}

uint32_t tallycast_apply(uint32_t frame, uint32_t frame_bytes)
{
    if (!mirror()) return TALLY_INVALID;
    return tally_mirror_apply(mirror(), &memory, tally_bytes(pointer(frame), frame_bytes));
}

void tallycast_abandon(void)
{
    if (mirror()) tally_mirror_abandon(mirror(), &memory);
}

void tallycast_confirm(uint64_t epoch, uint64_t version, uint64_t now_ms)
{
    if (mirror()) tally_mirror_confirm(mirror(), epoch, version, now_ms);
}

// ---------------------------------------------------------------------------------------------------- readers

static struct seat *seat_of(uint32_t slot)
{
    return slot < TALLY_READERS_MAX && seats[slot].open ? &seats[slot] : NULL;
}

// The number of a view is its slot times TALLYCAST_VIEWS_MAX, plus its place there.
static struct tally_view *view_of(uint32_t number)
{
    struct seat *seat = seat_of(number / TALLYCAST_VIEWS_MAX);
    struct tally_view *view = seat ? &seat->views[number % TALLYCAST_VIEWS_MAX] : NULL;
    return view && view->root ? view : NULL;
}

int32_t tallycast_reader_open(void)
{
    struct tally_reader reader;
    if (!mirror()) return -TALLY_INVALID;
    enum tally_status status = tally_reader_open(mirror(), &reader);
    if (status) return -(int32_t)status;
    struct seat *seat = &seats[reader.slot];
    seat->reader = reader;
    seat->epoch = 0;
    seat->open = true;
    return (int32_t)reader.slot;
}

void tallycast_reader_close(uint32_t slot)
{
    struct seat *seat = seat_of(slot);
    if (!seat) return;
    for (uint32_t i = 0; i < TALLYCAST_VIEWS_MAX; i++) seat->views[i].root = NULL;
    seat->open = false;
    struct tally_reader reader = seat->reader;
    tally_reader_evict(&reader); // last: from here on the seat may be another's
}

uint32_t tallycast_reader_scratch(uint32_t slot)
{
    if (slot >= TALLY_READERS_MAX) return 0;
    return areas_start() + stacks_bytes + slot * TALLYCAST_SCRATCH_BYTES;
}

uint32_t tallycast_reader_scratch_size(void) { return TALLYCAST_SCRATCH_BYTES; }

int32_t tallycast_pin(uint32_t slot)
{
    struct seat *seat = seat_of(slot);
    if (!seat) return -TALLY_INVALID;
    for (uint32_t i = 0; i < TALLYCAST_VIEWS_MAX; i++) {
        if (seat->views[i].root) continue;
        tally_view_pin(&seat->reader, &seat->views[i]);
        return (int32_t)(slot * TALLYCAST_VIEWS_MAX + i);
    }
    return -TALLY_FULL;
}

void tallycast_unpin(uint32_t number)
{
    struct tally_view *view = view_of(number);
    if (view) tally_view_unpin(view);
}

// ---------------------------------------------------------------------------------------------------- single reads

int32_t tallycast_read_table(uint32_t slot, uint32_t name, uint32_t name_bytes)
{
    struct seat *seat = seat_of(slot);
    struct tally_view view;
    uint32_t table;
    if (!seat) return -TALLY_INVALID;
    tally_view_pin(&seat->reader, &view);
    uint64_t epoch = view.root->epoch;
    enum tally_status status = tally_view_table(&view, tally_bytes(pointer(name), name_bytes), &table);
    tally_view_unpin(&view);
    bool same = seat->epoch == epoch || seat->epoch == 0;
    seat->epoch = epoch;
    if (!same) return -TALLY_WRONG_EPOCH;
    return status ? -(int32_t)status : (int32_t)table;
}

// The value as a number, and as it is in the slot's scratch. Inline: the key stays in registers.
__attribute__((always_inline)) static inline double read_in(const struct tally_view *view, uint32_t slot,
                                                            uint32_t table, uint32_t key, uint32_t key_bytes)
{
    int64_t value;
    if (tally_view_get(view, table, tally_bytes(pointer(key), key_bytes), &value)) return __builtin_nan("");
    tally_store64(pointer(tallycast_reader_scratch(slot)), (uint64_t)value);
    return (double)value;
}

double tallycast_read(uint32_t slot, uint32_t table, uint32_t key, uint32_t key_bytes)
{
    struct seat *seat = seat_of(slot);
    struct tally_view view;
    double value = __builtin_inf();
    if (!seat) return __builtin_nan("");
    tally_view_pin(&seat->reader, &view);
    if (view.root->epoch == seat->epoch) value = read_in(&view, slot, table, key, key_bytes);
    tally_view_unpin(&view);
    return value;
}

double tallycast_view_read(uint32_t number, uint32_t table, uint32_t key, uint32_t key_bytes)
{
    const struct tally_view *view = view_of(number);
    if (!view) return __builtin_nan("");
    return read_in(view, number / TALLYCAST_VIEWS_MAX, table, key, key_bytes);
}

// ---------------------------------------------------------------------------------------------------- a view

uint32_t tallycast_info(uint32_t number, uint32_t out_info)
{
    const struct tally_view *view = view_of(number);
    if (!view) return TALLY_INVALID;
    struct tally_view_info info;
    tally_view_info(view, &info);
    static_assert(sizeof info == 80, "module.h says how it lies in memory");
    memset(pointer(out_info), 0, sizeof info);
    memcpy(pointer(out_info), &info, offsetof(struct tally_view_info, tables) + sizeof info.tables);
    return TALLY_OK;
}

int32_t tallycast_table(uint32_t number, uint32_t name, uint32_t name_bytes)
{
    const struct tally_view *view = view_of(number);
    if (!view) return -TALLY_INVALID;
    uint32_t table;
    enum tally_status status = tally_view_table(view, tally_bytes(pointer(name), name_bytes), &table);
    return status ? -(int32_t)status : (int32_t)table;
}

uint32_t tallycast_table_info(uint32_t number, uint32_t table, uint32_t out_table_info)
{
    const struct tally_view *view = view_of(number);
    struct tally_table_info info;
    if (!view) return TALLY_INVALID;
    enum tally_status status = tally_view_table_info(view, table, &info);
    if (status) return status;
    uint8_t *out = pointer(out_table_info);
    tally_store64(out, info.rows);
    tally_store32(out + 8, address_of(info.name.data));
    tally_store32(out + 12, (uint32_t)info.name.size);
    tally_store32(out + 16, info.kind);
    tally_store32(out + 20, 0);
    return TALLY_OK;
}

uint32_t tallycast_get(uint32_t number, uint32_t table, uint32_t key, uint32_t key_bytes, uint32_t out_value)
{
    const struct tally_view *view = view_of(number);
    if (!view) return TALLY_INVALID;
    return tally_view_get(view, table, tally_bytes(pointer(key), key_bytes), pointer(out_value));
}

uint32_t tallycast_get_many(uint32_t number, uint32_t table, uint32_t keys, uint32_t keys_bytes, uint32_t count,
                            uint32_t out_values, uint32_t out_found)
{
    const struct tally_view *view = view_of(number);
    if (!view) return TALLY_INVALID;
    const uint8_t *from = pointer(keys);
    uint32_t left = keys_bytes;
    for (uint32_t done = 0; done < count;) {
        struct tally_bytes some[GET_MANY_AT_ONCE];
        uint32_t n = 0;
        for (; n < GET_MANY_AT_ONCE && done + n < count; n++) {
            if (left < 4) return TALLY_INVALID;
            uint32_t size = tally_load32(from);
            if (size > left - 4) return TALLY_INVALID;
            some[n] = tally_bytes(from + 4, size);
            from += 4 + size;
            left -= 4 + size;
        }
        tally_view_get_many(view, table, some, n, (int64_t *)pointer(out_values) + done,
                            (bool *)pointer(out_found) + done);
        done += n;
    }
    return left ? TALLY_INVALID : TALLY_OK;
}

uint32_t tallycast_next(uint32_t number, uint32_t cursor, uint32_t out_row)
{
    const struct tally_view *view = view_of(number);
    struct tally_row row;
    static_assert(sizeof(struct tally_cursor) == 8, "module.h says how it lies in memory");
    if (!view || !tally_view_next(view, pointer(cursor), &row)) return 0;
    uint8_t *out = pointer(out_row);
    tally_store64(out, (uint64_t)row.value);
    tally_store32(out + 8, row.table);
    tally_store32(out + 12, row.id);
    tally_store32(out + 16, address_of(row.key.data));
    tally_store32(out + 20, (uint32_t)row.key.size);
    return 1;
}

uint32_t tallycast_write_chunk(uint32_t number, uint32_t state, uint32_t scratch, uint32_t out)
{
    const struct tally_view *view = view_of(number);
    if (!view) return TALLY_INVALID;
    uint8_t *words = pointer(state);
    struct tally_cursor cursor = {tally_load32(words), tally_load32(words + 4)};
    uint32_t chunk = tally_load32(words + 8);
    size_t bytes;
    bool more;
    enum tally_status status =
        tally_view_write_chunk(view, &cursor, &chunk, pointer(scratch), pointer(out), &bytes, &more);
    if (status) return status;
    tally_store32(words, cursor.table);
    tally_store32(words + 4, cursor.id);
    tally_store32(words + 8, chunk);
    tally_store32(words + 12, (uint32_t)bytes);
    tally_store32(words + 16, more);
    tally_store32(words + 20, 0);
    return TALLY_OK;
}
