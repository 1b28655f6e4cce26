// SPDX-License-Identifier: Apache-2.0
#include <messages/messages.h>

#define CAPACITY_FIRST 256u

static bool writer_grow(struct tally_writer *writer, size_t capacity_min)
{
    const struct tally_alloc *alloc = writer->grow_ctx;
    size_t capacity = writer->capacity ? writer->capacity : CAPACITY_FIRST;
    while (capacity < capacity_min) {
        if (capacity > SIZE_MAX / 2) return false;
        capacity *= 2;
    }
    uint8_t *data = tally_alloc_resize(alloc, writer->data, capacity);
    if (!data) return false;
    writer->data = data;
    writer->capacity = capacity;
    return true;
}

struct tally_writer tally_writer_growable(const struct tally_alloc *alloc)
{
    return (struct tally_writer){.grow = writer_grow, .grow_ctx = (void *)(uintptr_t)alloc};
}

void tally_writer_free(struct tally_writer *writer)
{
    const struct tally_alloc *alloc = writer->grow_ctx;
    if (alloc) tally_alloc_free(alloc, writer->data);
    *writer = (struct tally_writer){.grow = writer->grow, .grow_ctx = writer->grow_ctx};
}
