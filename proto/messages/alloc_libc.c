// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <tallycast/alloc.h>

static void *libc_resize(void *ctx, void *block, size_t size)
{
    (void)ctx;
    if (size == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, size);
}

const struct tally_alloc tally_alloc_libc = {.resize = libc_resize};
