// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>
#include <tallycast/memory.h>

#define UNIT_BYTES ((size_t)2 << 20) // of a huge page

static bool round_up(size_t bytes, size_t *out_bytes)
{
    if (bytes > SIZE_MAX - UNIT_BYTES) return false;
    *out_bytes = (bytes + UNIT_BYTES - 1) & ~(UNIT_BYTES - 1);
    return true;
}

static bool grow(struct tally_memory *memory, size_t size_min)
{
    size_t size;
    if (size_min <= memory->size) return true;
    if (size_min > memory->size_max || !round_up(size_min, &size)) return false;
    uint8_t *from = (uint8_t *)memory->base + memory->size;
    if (mprotect(from, size - memory->size, PROT_READ | PROT_WRITE)) return false;
    memory->size = size;
    return true;
}

enum tally_status tally_memory_map(size_t size_max, unsigned flags, struct tally_memory *out_memory)
{
    size_t size;
    if (size_max == 0 || !round_up(size_max, &size)) return TALLY_INVALID;
    if (size > SIZE_MAX - UNIT_BYTES) return TALLY_NO_MEMORY;
    int kind = flags & TALLY_MEMORY_SHARED ? MAP_SHARED : MAP_PRIVATE;
    uint8_t *run = mmap(NULL, size + UNIT_BYTES, PROT_NONE, kind | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (run == MAP_FAILED) return TALLY_NO_MEMORY;
    // Keep the part that is aligned to huge pages.
    size_t before = (UNIT_BYTES - (uintptr_t)run % UNIT_BYTES) % UNIT_BYTES;
    if (before) munmap(run, before);
    munmap(run + before + size, UNIT_BYTES - before);
    if (flags & TALLY_MEMORY_HUGE)
        (void)madvise(run + before, size, MADV_HUGEPAGE); // advice: without it all is as before, slower
    *out_memory = (struct tally_memory){.base = run + before, .size_max = size, .grow = grow};
    return TALLY_OK;
}

void tally_memory_unmap(struct tally_memory *memory)
{
    if (memory->base) munmap(memory->base, memory->size_max);
    *memory = (struct tally_memory){0};
}
