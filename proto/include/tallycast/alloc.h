// SPDX-License-Identifier: Apache-2.0
//
// Where the cores that run natively take memory from: handed in, so that a test can count it, bound it and make the
// nth request fail. The client core does not use it: it lives in one run of memory (mirror.h).
#ifndef TALLYCAST_ALLOC_H
#define TALLYCAST_ALLOC_H

#include <stddef.h>

struct tally_alloc {
    // Semantics of C's realloc with size 0 meaning free: returns null and frees. On failure returns null and `block` stays as it was.
    void *(*resize)(void *ctx, void *block, size_t size);
    void *ctx;
};

static inline void *tally_alloc_resize(const struct tally_alloc *alloc, void *block, size_t size)
{
    return alloc->resize(alloc->ctx, block, size);
}

static inline void tally_alloc_free(const struct tally_alloc *alloc, void *block)
{
    if (block) (void)alloc->resize(alloc->ctx, block, 0);
}

// malloc and free of the C library (proto/messages/ provides it: the freestanding part of proto has none).
extern const struct tally_alloc tally_alloc_libc;

#endif
