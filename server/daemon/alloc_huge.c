// SPDX-License-Identifier: Apache-2.0
#include "alloc_huge.h"

#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES  ((size_t)2 << 20)
#define LARGE_BYTES HUGE_BYTES // of a block that gets a mapping of its own
#define LARGE_MAX   64u

struct large {
    void *block; // null: free
    size_t bytes;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; // of `blocks`
static struct large blocks[LARGE_MAX];

static size_t round_up(size_t size) { return (size + HUGE_BYTES - 1) / HUGE_BYTES * HUGE_BYTES; }

// Address space of `bytes`, a multiple of HUGE_BYTES, that begins at one. Null without.
static void *reserve(size_t bytes)
{
    uint8_t *wide = mmap(NULL, bytes + HUGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (wide == MAP_FAILED) return NULL;
    size_t before = (HUGE_BYTES - (uintptr_t)wide % HUGE_BYTES) % HUGE_BYTES;
    if (before) (void)munmap(wide, before);
    (void)munmap(wide + before + bytes, HUGE_BYTES - before);
    return wide + before;
}

static void *map(size_t bytes)
{
    void *block = reserve(bytes);
    if (!block) return NULL;
    if (mprotect(block, bytes, PROT_READ | PROT_WRITE)) {
        (void)munmap(block, bytes);
        return NULL;
    }
    (void)madvise(block, bytes, MADV_HUGEPAGE);
    return block;
}

// Whole page tables move when both ends are aligned alike: nothing is copied, and huge pages stay huge.
static void *move(void *block, size_t bytes, size_t wanted)
{
    if (wanted <= bytes) return mremap(block, bytes, wanted, 0);
    void *place = reserve(wanted);
    if (!place) return NULL;
    void *moved = mremap(block, bytes, wanted, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    if (moved != MAP_FAILED) {
        (void)madvise(moved, wanted, MADV_HUGEPAGE);
        return moved;
    }
    (void)munmap(place, wanted);
    return NULL;
}

static struct large *find(const void *block)
{
    for (unsigned i = 0; i < LARGE_MAX; i++) {
        if (blocks[i].block == block) return &blocks[i];
    }
    return NULL;
}

static void *resize_large(struct large *large, size_t size)
{
    size_t bytes = round_up(size);
    if (size == 0) {
        (void)munmap(large->block, large->bytes);
        large->block = NULL;
        return NULL;
    }
    // What was large once stays so: it is about to grow again.
    if (bytes == large->bytes) return large->block;
    void *block = move(large->block, large->bytes, bytes);
    if (!block || block == MAP_FAILED) return NULL;
    *large = (struct large){block, bytes};
    return block;
}

// From the C library to a mapping of its own, or a new one. Null: it is the C library's to do.
static void *begin_large(void *block, size_t size)
{
    struct large *large = find(NULL);
    void *begun = large ? map(round_up(size)) : NULL;
    if (!begun) return NULL;
    if (block) {
        size_t old = malloc_usable_size(block);
        memcpy(begun, block, old < size ? old : size);
        free(block);
    }
    *large = (struct large){begun, round_up(size)};
    return begun;
}

static void *huge_resize(void *ctx, void *block, size_t size)
{
    (void)ctx;
    struct large *large = NULL;
    void *resized = NULL;
    pthread_mutex_lock(&mutex);
    if (block && (large = find(block)))
        resized = resize_large(large, size);
    else if (size >= LARGE_BYTES)
        resized = begin_large(block, size);
    pthread_mutex_unlock(&mutex);
    if (large || resized) return resized;
    if (size) return realloc(block, size);
    free(block);
    return NULL;
}

const struct tally_alloc alloc_huge = {.resize = huge_resize};
