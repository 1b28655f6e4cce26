// SPDX-License-Identifier: Apache-2.0
//
// Pinning, and why what a view reads is never freed under it.
//
// Versions have generations 1, 2, 3 ... A block that the step from g-1 to g replaced is tagged g: no root of generation g or
// later leads to it. The applier frees it when every slot announces 0 or at least its tag.
//
//   reader (pin)                                     applier (publish generation g, then free)
//   1  G = generation          (load)                a  root = root of g          (store)
//   2  announced = G           (store)               b  generation = g            (store)
//   3  R = root                (load)                c  read every slot's announced (loads)
//
// All six are sequentially consistent, so there is one order of them that all threads agree on.
// - R is of generation at least G: what 1 read was stored by some b, and its a was before that. So R's blocks that will ever be
//   replaced have tags greater than G, as long as the slot's announcement is seen.
// - If c reads the slot before 2: then a is before c, c before 2, 2 before 3, so 3 reads g's root or a later one, which leads to no block
//   tagged g or less. Those are the only ones that this pass of c can free.
// - If c reads it after 2, it sees G (or what the slot announced since, which is later), and frees only blocks of tags up to G: R leads
//   to none of them, as R is of generation G or later.
// There is no loop: a reader that pauses between 1 and 2 announces an old generation, which only keeps more.
//
// A slot with several views keeps the announcement of the oldest of them until the last is unpinned: it is older than, or as old
// as, what later pins would announce.
//
// Unpinning stores 0 with release; a c that reads the 0 (or a later announcement) acquires it, so the view's reads happen before the
// block is used again.
#include "layout.h"

static struct slot *slot_of(const struct tally_reader *reader) { return &reader->mirror->slots[reader->slot]; }

enum tally_status tally_reader_open(struct tally_mirror *mirror, struct tally_reader *out_reader)
{
    for (uint32_t i = 0; i < TALLY_READERS_MAX; i++) {
        uint32_t expected = 0;
        // Acquire: the partner is the release in tally_reader_close. The last owner's plain `depth` is seen.
        if (!atomic_compare_exchange_strong_explicit(&mirror->slots[i].open, &expected, 1, memory_order_acquire,
                                                     memory_order_relaxed))
            continue;
        *out_reader = (struct tally_reader){mirror, i};
        return TALLY_OK;
    }
    return TALLY_FULL;
}

void tally_reader_close(struct tally_reader *reader)
{
    struct slot *slot = slot_of(reader);
    assert(slot->depth == 0);
    atomic_store_explicit(&slot->open, 0, memory_order_release);
    reader->mirror = NULL;
}

void tally_reader_evict(struct tally_reader *reader)
{
    struct slot *slot = slot_of(reader);
    slot->depth = 0;
    atomic_store_explicit(&slot->announced, 0, memory_order_release); // as the last unpin
    tally_reader_close(reader);
}

void tally_view_pin(struct tally_reader *reader, struct tally_view *out_view)
{
    struct tally_mirror *mirror = reader->mirror;
    struct slot *slot = slot_of(reader);
    if (slot->depth++ == 0) atomic_store(&slot->announced, atomic_load(&mirror->generation));
    *out_view = (struct tally_view){reader, at(mirror, atomic_load(&mirror->root))};
}

void tally_view_unpin(struct tally_view *view)
{
    struct slot *slot = slot_of(view->reader);
    assert(slot->depth > 0);
    if (--slot->depth == 0) atomic_store_explicit(&slot->announced, 0, memory_order_release);
    view->root = NULL;
}
