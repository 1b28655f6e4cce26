// SPDX-License-Identifier: Apache-2.0
#include "sketch.h"

#include <assert.h>

#define LIST_BITS  26u // of the hash, that an entry tells members apart by
#define REST_BITS  (64u - LIST_BITS)
#define RANK_BITS  6u // of an entry
#define ROOM_FIRST 4u // entries

// The list is turned into registers when it would be larger than they are.
static uint32_t list_max(uint32_t precision) { return (1u << precision) / 4; }
static uint32_t rank_max(uint32_t precision) { return 63 - precision; }

static uint8_t *registers_of(struct tally_sketch *sketch) { return (uint8_t *)sketch->entries; }
static const uint8_t *registers_in(const struct tally_sketch *sketch) { return (const uint8_t *)sketch->entries; }

// 1 + the zeros that `bits` begin with, of `size` bits that stand at the top.
static uint32_t rank_of(uint64_t bits, uint32_t size) { return bits ? (uint32_t)__builtin_clzll(bits) + 1 : size + 1; }

static uint32_t entry_of(uint64_t member)
{
    return (uint32_t)(member >> REST_BITS) << RANK_BITS | rank_of(member << LIST_BITS, REST_BITS);
}

// ---------------------------------------------------------------------------------------------------- registers

// Whether it changed.
static bool register_raise(struct tally_sketch *sketch, uint32_t precision, uint32_t index, uint32_t rank)
{
    uint8_t *value = &registers_of(sketch)[index];
    uint32_t max = rank_max(precision);
    if (rank > max) rank = max;
    if (rank <= *value) return false;
    if (*value)
        sketch->sum -= (uint64_t)1 << (max - *value);
    else
        sketch->count--;
    sketch->sum += (uint64_t)1 << (max - rank);
    *value = (uint8_t)rank;
    return true;
}

static bool registers_add(struct tally_sketch *sketch, uint32_t precision, uint64_t member)
{
    return register_raise(sketch, precision, (uint32_t)(member >> (64 - precision)),
                          rank_of(member << precision, 64 - precision));
}

// What an entry of a list says of a register.
static bool registers_add_entry(struct tally_sketch *sketch, uint32_t precision, uint32_t entry)
{
    uint32_t upper = entry >> RANK_BITS, rest = LIST_BITS - precision;
    uint32_t tail = upper & ((1u << rest) - 1), index = upper >> rest;
    uint32_t rank = tail ? rank_of((uint64_t)tail << (64 - rest), rest) : rest + (entry & ((1u << RANK_BITS) - 1));
    return register_raise(sketch, precision, index, rank);
}

static struct tally_sketch *registers_make(uint32_t precision, const struct tally_alloc *alloc)
{
    struct tally_sketch *sketch = tally_alloc_resize(alloc, NULL, sizeof *sketch + ((size_t)1 << precision));
    if (!sketch) return NULL;
    *sketch = (struct tally_sketch){.count = 1u << precision};
    memset(registers_of(sketch), 0, (size_t)1 << precision);
    return sketch;
}

static enum tally_status to_registers(struct tally_sketch **sketch, uint32_t precision, const struct tally_alloc *alloc)
{
    struct tally_sketch *made = registers_make(precision, alloc), *list = *sketch;
    if (!made) return TALLY_NO_MEMORY;
    for (uint32_t i = 0; list && i < list->count; i++) (void)registers_add_entry(made, precision, list->entries[i]);
    tally_alloc_free(alloc, list);
    *sketch = made;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- the list

static enum tally_status list_reserve(struct tally_sketch **sketch, uint32_t precision, const struct tally_alloc *alloc)
{
    struct tally_sketch *list = *sketch;
    uint32_t capacity = list ? list->capacity * 2 : ROOM_FIRST;
    if (list && list->count < list->capacity) return TALLY_OK;
    if (capacity > list_max(precision)) capacity = list_max(precision);
    list = tally_alloc_resize(alloc, list, sizeof *list + capacity * sizeof list->entries[0]);
    if (!list) return TALLY_NO_MEMORY;
    if (!*sketch) *list = (struct tally_sketch){0};
    list->capacity = capacity;
    *sketch = list;
    return TALLY_OK;
}

// The place of the first entry whose upper bits are those of `entry` or greater.
static uint32_t list_place(const struct tally_sketch *list, uint32_t entry)
{
    uint32_t from = 0, to = list ? list->count : 0;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (list->entries[middle] >> RANK_BITS < entry >> RANK_BITS)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static enum tally_status list_add(struct tally_sketch **sketch, uint32_t precision, uint32_t entry,
                                  const struct tally_alloc *alloc, bool *out_changed)
{
    struct tally_sketch *list = *sketch;
    uint32_t at = list_place(list, entry);
    if (list && at < list->count && list->entries[at] >> RANK_BITS == entry >> RANK_BITS) {
        *out_changed = entry > list->entries[at];
        if (*out_changed) list->entries[at] = entry;
        return TALLY_OK;
    }
    if (list && list->count == list_max(precision)) {
        enum tally_status status = to_registers(sketch, precision, alloc);
        if (!status) *out_changed = registers_add_entry(*sketch, precision, entry);
        return status;
    }
    enum tally_status status = list_reserve(sketch, precision, alloc);
    if (status) return status;
    list = *sketch;
    memmove(&list->entries[at + 1], &list->entries[at], (list->count - at) * sizeof list->entries[0]);
    list->entries[at] = entry;
    list->count++;
    *out_changed = true;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- both

enum tally_status tally_sketch_add(struct tally_sketch **sketch, uint32_t precision, uint64_t member,
                                   const struct tally_alloc *alloc, bool *out_changed)
{
    if (!*sketch || (*sketch)->capacity) return list_add(sketch, precision, entry_of(member), alloc, out_changed);
    *out_changed = registers_add(*sketch, precision, member);
    return TALLY_OK;
}

enum tally_status tally_sketch_merge(struct tally_sketch **into, const struct tally_sketch *from, uint32_t precision,
                                     const struct tally_alloc *alloc)
{
    enum tally_status status = TALLY_OK;
    bool changed;
    if (!from) return TALLY_OK;
    if (!from->capacity && (!*into || (*into)->capacity)) status = to_registers(into, precision, alloc);
    for (uint32_t i = 0; !status && from->capacity && i < from->count; i++) {
        if (!*into || (*into)->capacity)
            status = list_add(into, precision, from->entries[i], alloc, &changed);
        else
            (void)registers_add_entry(*into, precision, from->entries[i]);
    }
    if (status || from->capacity) return status;
    for (uint32_t i = 0; i < 1u << precision; i++) (void)register_raise(*into, precision, i, registers_in(from)[i]);
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- the estimate

static uint64_t square(uint64_t x) { return (uint64_t)((unsigned __int128)x * x >> 62); }

// sigma(x) = x + x^2 + 2 x^4 + 4 x^8 + 8 x^16 ..., below 2^precision, for the share x < 1 of registers that are 0.
static unsigned __int128 sigma(uint64_t x)
{
    unsigned __int128 sum = x;
    for (unsigned shift = 0; x; shift++) {
        x = square(x);
        sum += (unsigned __int128)x << shift;
    }
    return sum;
}

int64_t tally_sketch_estimate(const struct tally_sketch *sketch, uint32_t precision)
{
    if (!sketch) return 0;
    if (sketch->capacity) return sketch->count;
    if (sketch->count == 1u << precision) return 0;
    // With m registers, of which a share x is 0: alpha m^2 / (m sigma(x) + sum), alpha = 1 / (2 ln 2); below and above in units of
    // 2^-(63 - precision).
    const uint64_t alpha = 0xb8aa3b295c17f0bc; // * 2^-64
    unsigned __int128 above = (unsigned __int128)alpha << (precision - 1);
    unsigned __int128 below = (sigma((uint64_t)sketch->count << (62 - precision)) << 1) + sketch->sum;
    return (int64_t)((above + below / 2) / below);
}

// ---------------------------------------------------------------------------------------------------- codec

enum { FORM_LIST, FORM_REGISTERS };

size_t tally_sketch_memory(const struct tally_sketch *sketch, uint32_t precision)
{
    if (!sketch) return 0;
    return sizeof *sketch + (sketch->capacity ? sketch->capacity * sizeof sketch->entries[0] : (size_t)1 << precision);
}

size_t tally_sketch_bytes(const struct tally_sketch *sketch, uint32_t precision)
{
    if (sketch && !sketch->capacity) return 1 + ((size_t)1 << precision);
    return 1 + (sketch ? sketch->count : 0) * sizeof sketch->entries[0];
}

void tally_sketch_write(const struct tally_sketch *sketch, uint32_t precision, struct tally_writer *out)
{
    uint8_t bytes[4];
    bytes[0] = sketch && !sketch->capacity ? FORM_REGISTERS : FORM_LIST;
    tally_write_raw(out, bytes, 1);
    if (bytes[0] == FORM_REGISTERS) {
        tally_write_raw(out, registers_in(sketch), (size_t)1 << precision);
        return;
    }
    for (uint32_t i = 0; sketch && i < sketch->count; i++) {
        tally_store32(bytes, sketch->entries[i]);
        tally_write_raw(out, bytes, sizeof bytes);
    }
}

static enum tally_status read_list(struct tally_bytes bytes, uint32_t precision, const struct tally_alloc *alloc,
                                   struct tally_sketch **out_sketch)
{
    size_t count = bytes.size / 4;
    uint64_t before = 0;
    if (bytes.size % 4 || count > list_max(precision)) return TALLY_MALFORMED;
    for (size_t i = 0; i < count; i++) {
        uint32_t entry = tally_load32(bytes.data + 4 * i), rank = entry & ((1u << RANK_BITS) - 1);
        if (rank == 0 || rank > REST_BITS + 1 || (entry >> RANK_BITS) + (uint64_t)1 <= before) return TALLY_MALFORMED;
        before = (entry >> RANK_BITS) + (uint64_t)1;
    }
    *out_sketch = NULL;
    if (count == 0) return TALLY_OK;
    struct tally_sketch *list = tally_alloc_resize(alloc, NULL, sizeof *list + bytes.size);
    if (!list) return TALLY_NO_MEMORY;
    *list = (struct tally_sketch){.count = (uint32_t)count, .capacity = (uint32_t)count};
    for (size_t i = 0; i < count; i++) list->entries[i] = tally_load32(bytes.data + 4 * i);
    *out_sketch = list;
    return TALLY_OK;
}

static enum tally_status read_registers(struct tally_bytes bytes, uint32_t precision, const struct tally_alloc *alloc,
                                        struct tally_sketch **out_sketch)
{
    if (bytes.size != (size_t)1 << precision) return TALLY_MALFORMED;
    for (size_t i = 0; i < bytes.size; i++) {
        if (bytes.data[i] > rank_max(precision)) return TALLY_MALFORMED;
    }
    struct tally_sketch *sketch = registers_make(precision, alloc);
    if (!sketch) return TALLY_NO_MEMORY;
    for (uint32_t i = 0; i < bytes.size; i++) (void)register_raise(sketch, precision, i, bytes.data[i]);
    *out_sketch = sketch;
    return TALLY_OK;
}

enum tally_status tally_sketch_read(struct tally_bytes bytes, uint32_t precision, const struct tally_alloc *alloc,
                                    struct tally_sketch **out_sketch)
{
    assert(precision >= TALLY_PRECISION_MIN && precision <= TALLY_PRECISION_MAX);
    if (bytes.size == 0 || bytes.data[0] > FORM_REGISTERS) return TALLY_MALFORMED;
    struct tally_bytes inner = tally_bytes(bytes.data + 1, bytes.size - 1);
    return bytes.data[0] == FORM_LIST ? read_list(inner, precision, alloc, out_sketch)
                                      : read_registers(inner, precision, alloc, out_sketch);
}
