// SPDX-License-Identifier: Apache-2.0
//
// memory.h for guests that link libtallycast-wasm.a. Linear memory is one run that others grow as well, so a mirror's memory is taken at
// once, all of size_max: pages that nobody has written cost their host address space and nothing else. It cannot be given back.
#include <tallycast/memory.h>

#define PAGE_BYTES ((size_t)65536)

enum tally_status tally_memory_map(size_t size_max, unsigned flags, struct tally_memory *out_memory)
{
    (void)flags; // the host's to decide
    if (size_max == 0) return TALLY_INVALID;
    if (size_max > SIZE_MAX - PAGE_BYTES) return TALLY_NO_MEMORY;
    size_t pages = (size_max + PAGE_BYTES - 1) / PAGE_BYTES;
    size_t before = __builtin_wasm_memory_grow(0, pages);
    if (before == SIZE_MAX) return TALLY_NO_MEMORY;
    size_t size = pages * PAGE_BYTES;
    *out_memory = (struct tally_memory){.base = (void *)(before * PAGE_BYTES), .size = size, .size_max = size};
    return TALLY_OK;
}

void tally_memory_unmap(struct tally_memory *memory) { *memory = (struct tally_memory){0}; }
