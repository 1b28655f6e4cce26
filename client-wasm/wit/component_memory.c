// SPDX-License-Identifier: Apache-2.0
//
// Memory of the component: runs of pages for mirrors and maps, and one area for what a call hands over.
#include "component.h"

#define PAGE_BYTES    65536u
#define PLACES_MAX    256u        // free runs; as many as mirrors, maps and areas can leave between them
#define AREA_BYTES    (64u << 10) // to begin with
#define AREA_KEPT_MAX (4u << 20)  // a larger area is given back after the call that wanted it
#define OUTGROWN_MAX  32u         // each area is twice the one before

_Alignas(8) uint8_t component_result[64];

// Free runs in the order of their addresses, no two side by side.
static struct run {
    uint32_t address, bytes;
} runs[PLACES_MAX];
static uint32_t runs_count;

static struct {
    uint32_t address, bytes, used, last; // last: where the newest block begins
    struct run outgrown[OUTGROWN_MAX];   // in this call: arguments still lie there
    uint32_t outgrown_count;
} area;

static void take_out(uint32_t at)
{
    runs_count--;
    memmove(&runs[at], &runs[at + 1], (runs_count - at) * sizeof *runs);
}

uint32_t component_take(uint32_t bytes)
{
    if (bytes > UINT32_MAX - PAGE_BYTES) return 0;
    bytes = (bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
    for (uint32_t i = 0; i < runs_count; i++) {
        if (runs[i].bytes < bytes) continue;
        uint32_t address = runs[i].address;
        runs[i].address += bytes;
        runs[i].bytes -= bytes;
        if (!runs[i].bytes) take_out(i);
        return address;
    }
    size_t page = __builtin_wasm_memory_grow(0, bytes / PAGE_BYTES);
    return page == SIZE_MAX ? 0 : (uint32_t)(page * PAGE_BYTES);
}

void component_give(uint32_t address, uint32_t bytes, uint32_t touched)
{
    bytes = (bytes + PAGE_BYTES - 1) & ~(PAGE_BYTES - 1);
    memset(pointer(address), 0, touched);
    uint32_t at = 0;
    while (at < runs_count && runs[at].address < address) at++;
    bool joins_before = at > 0 && runs[at - 1].address + runs[at - 1].bytes == address;
    bool joins_after = at < runs_count && address + bytes == runs[at].address;
    if (joins_before && joins_after) {
        runs[at - 1].bytes += bytes + runs[at].bytes;
        take_out(at);
    } else if (joins_before) {
        runs[at - 1].bytes += bytes;
    } else if (joins_after) {
        runs[at].address = address;
        runs[at].bytes += bytes;
    } else if (runs_count < PLACES_MAX) {
        memmove(&runs[at + 1], &runs[at], (runs_count - at) * sizeof *runs);
        runs[at] = (struct run){address, bytes};
        runs_count++;
    }
}

// ---------------------------------------------------------------------------------------------------- of a call

// False: there is no memory.
static bool area_grow(uint32_t bytes_min)
{
    uint64_t bytes = area.bytes ? (uint64_t)area.bytes * 2 : AREA_BYTES;
    while (bytes < bytes_min) bytes *= 2;
    if (bytes > UINT32_MAX - PAGE_BYTES) bytes = bytes_min;
    uint32_t address = area.outgrown_count < OUTGROWN_MAX ? component_take((uint32_t)bytes) : 0;
    if (!address) return false;
    if (area.address) area.outgrown[area.outgrown_count++] = (struct run){area.address, area.bytes};
    area.address = address;
    area.bytes = (uint32_t)bytes;
    area.used = area.last = 0;
    return true;
}

static void *area_alloc(uint32_t align, uint32_t bytes)
{
    uint64_t at = ((uint64_t)area.used + align - 1) & ~(uint64_t)(align - 1);
    if (!area.address || at + bytes > area.bytes) {
        if (!area_grow(bytes)) return NULL;
        at = 0;
    }
    area.last = (uint32_t)at;
    area.used = (uint32_t)at + bytes;
    return pointer(area.address + area.last);
}

void *component_alloc(size_t bytes) { return bytes > UINT32_MAX / 2 ? NULL : area_alloc(8, (uint32_t)bytes); }

void component_end(void)
{
    for (; area.outgrown_count; area.outgrown_count--) {
        struct run run = area.outgrown[area.outgrown_count - 1];
        component_give(run.address, run.bytes, run.bytes);
    }
    if (area.bytes > AREA_KEPT_MAX) {
        component_give(area.address, area.bytes, area.bytes);
        area.address = area.bytes = 0;
    }
    area.used = area.last = 0;
}

// The ABI knows no failure here: an argument that does not fit into 4 GiB of memory is the one thing that traps.
EXPORT("cabi_realloc") uint32_t cabi_realloc(uint32_t old, uint32_t old_bytes, uint32_t align, uint32_t bytes);
uint32_t cabi_realloc(uint32_t old, uint32_t old_bytes, uint32_t align, uint32_t bytes)
{
    if (!bytes) return align;
    if (old_bytes && old == area.address + area.last && bytes <= area.bytes - area.last) {
        area.used = area.last + bytes;
        return old;
    }
    uint8_t *block = area_alloc(align, bytes);
    if (!block) __builtin_trap();
    if (old_bytes) memcpy(block, pointer(old), old_bytes < bytes ? old_bytes : bytes);
    return address_of(block);
}
