// SPDX-License-Identifier: Apache-2.0
#include "message.h"

#include <assert.h>

struct tally_message *tally_message_create(const struct tally_alloc *alloc, uint8_t kind, size_t size)
{
    struct tally_message *message = tally_alloc_resize(alloc, NULL, sizeof *message + 1 + size);
    if (!message) return NULL;
    message->alloc = alloc;
    atomic_init(&message->holders, 1);
    message->size = 1 + size;
    message->data[0] = kind;
    return message;
}

struct tally_message *tally_message_cut(struct tally_message *message, size_t size)
{
    assert(1 + size <= message->size && atomic_load_explicit(&message->holders, memory_order_relaxed) == 1);
    message->size = 1 + size;
    struct tally_message *cut = tally_alloc_resize(message->alloc, message, sizeof *message + message->size);
    return cut ? cut : message; // as long as it was is fine, too
}

// Who holds it hands it on: no ordering is needed to count another one.
struct tally_message *tally_message_acquire(struct tally_message *message)
{
    atomic_fetch_add_explicit(&message->holders, 1, memory_order_relaxed);
    return message;
}

// Release: all reads of this holder come before the count; acquire: the last one sees them all done before it frees.
void tally_message_release(struct tally_message *message)
{
    if (message && atomic_fetch_sub_explicit(&message->holders, 1, memory_order_acq_rel) == 1)
        tally_alloc_free(message->alloc, message);
}
