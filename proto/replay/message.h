// SPDX-License-Identifier: Apache-2.0
//
// A message of the stream, counted by those who still send it, so that a hundred guests share one copy. Its first byte says what follows, as
// in what PUB sends: 'F' a Frame, 'H' a Heartbeat. What it holds never changes once it was handed to a second holder.
// Threads: any; `alloc` must be of any thread, too.
#ifndef TALLYCAST_REPLAY_MESSAGE_H
#define TALLYCAST_REPLAY_MESSAGE_H

#include <stdatomic.h>
#include <tallycast/alloc.h>
#include <tallycast/bytes.h>

struct tally_message {
    const struct tally_alloc *alloc;
    _Atomic uint32_t holders;
    size_t size; // of data
    uint8_t data[];
};

// Room for `size` bytes after the kind, held once. Null when there is no memory.
struct tally_message *tally_message_create(const struct tally_alloc *alloc, uint8_t kind, size_t size);

// A message that has one holder is cut to `size` bytes after the kind, and what is over is given back.
struct tally_message *tally_message_cut(struct tally_message *message, size_t size);

struct tally_message *tally_message_acquire(struct tally_message *message); // the same
void tally_message_release(struct tally_message *message);                  // null is fine; the last one frees

// What follows the kind.
static inline struct tally_bytes tally_message_inner(const struct tally_message *message)
{
    return tally_bytes(message->data + 1, message->size - 1);
}

#endif
