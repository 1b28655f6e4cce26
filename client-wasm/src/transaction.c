// SPDX-License-Identifier: Apache-2.0
#include "transaction.h"
#include "table.h"

// ---------------------------------------------------------------------------------------------------- journals

static bool journal_add(struct work *work, struct journal *journal, uint32_t block, size_t bytes)
{
    struct tally_mirror *mirror = work->mirror;
    struct journal_chunk *last = journal->last ? at(mirror, journal->last) : NULL;
    if (!last || last->count == JOURNAL_ENTRIES) {
        uint32_t chunk = mirror_arena_alloc(mirror, work->memory, JOURNAL_BYTES);
        if (!chunk) return false;
        memset(at(mirror, chunk), 0, sizeof(struct journal_chunk));
        if (last)
            last->next = chunk;
        else
            journal->first = chunk;
        journal->last = chunk;
        last = at(mirror, chunk);
        journal->chunk_bytes += mirror_arena_block_bytes(JOURNAL_BYTES);
    }
    if (block == 0) return true; // only the room was asked for
    last->entries[last->count++] = (struct journal_entry){block, lines_of(bytes)};
    journal->bytes += mirror_arena_block_bytes(bytes);
    return true;
}

// Frees the chunks of a list, and with them, if told to, the blocks that they name.
static void journal_free(struct tally_mirror *mirror, uint32_t first, bool with_blocks)
{
    while (first) {
        struct journal_chunk *chunk = at(mirror, first);
        for (uint32_t i = 0; with_blocks && i < chunk->count; i++)
            mirror_arena_free(mirror, chunk->entries[i].block, (size_t)chunk->entries[i].lines * LINE_BYTES);
        uint32_t next = chunk->next;
        mirror_arena_free(mirror, first, JOURNAL_BYTES);
        first = next;
    }
}

uint32_t mirror_block_make(struct work *work, size_t bytes)
{
    struct journal *made = &work->mirror->transaction.made;
    if (!journal_add(work, made, 0, 0)) return 0; // room first: a block must not be lost
    uint32_t block = mirror_arena_alloc(work->mirror, work->memory, bytes);
    if (block && !journal_add(work, made, block, bytes)) return 0; // cannot fail: there is room
    return block;
}

bool mirror_block_drop(struct work *work, uint32_t block, size_t bytes)
{
    return journal_add(work, &work->mirror->transaction.replaced, block, bytes);
}

uint32_t mirror_block_copy(struct work *work, uint32_t block, size_t bytes, size_t bytes_new)
{
    uint32_t copy = mirror_block_make(work, bytes_new);
    if (!copy || !mirror_block_drop(work, block, bytes)) return 0;
    memcpy(at(work->mirror, copy), at(work->mirror, block), bytes < bytes_new ? bytes : bytes_new);
    return copy;
}

// ---------------------------------------------------------------------------------------------------- reclamation

// The oldest generation that a reader may be looking at. The loads are sequentially consistent: with the store and the load of
// tally_view_pin they are the proof in reader.c. A load that sees a reader's last release store makes its reads happen before.
static uint64_t oldest_announced(struct tally_mirror *mirror)
{
    uint64_t oldest = UINT64_MAX;
    for (uint32_t i = 0; i < TALLY_READERS_MAX; i++) {
        uint64_t announced = atomic_load(&mirror->slots[i].announced);
        if (announced && announced < oldest) oldest = announced;
    }
    return oldest;
}

void mirror_reclaim(struct tally_mirror *mirror)
{
    if (!mirror->retired_first) return;
    uint64_t oldest = oldest_announced(mirror);
    uint64_t retired = atomic_load_explicit(&mirror->retired_bytes, memory_order_relaxed);
    while (mirror->retired_first) {
        uint32_t first = mirror->retired_first;
        struct journal_chunk *batch = at(mirror, first);
        if (batch->tag > oldest) break;
        mirror->retired_first = batch->next_batch;
        if (!mirror->retired_first) mirror->retired_last = 0;
        retired -= batch->bytes;
        if (batch->tree) mirror_tree_free(mirror, batch->tree);
        journal_free(mirror, first, true);
    }
    atomic_store_explicit(&mirror->retired_bytes, retired, memory_order_relaxed);
}

// Puts what the transaction replaced into the queue, and the whole state `tree` if that is not 0. Allocates nothing: the first
// chunk was made when it began.
static void retire(struct tally_mirror *mirror, uint32_t tree)
{
    const struct transaction *transaction = &mirror->transaction;
    const struct journal *made = &transaction->made, *replaced = &transaction->replaced;
    struct journal_chunk *batch = at(mirror, replaced->first);
    uint64_t tree_bytes = tree ? mirror->live_bytes : 0;
    batch->tag = transaction->generation;
    batch->tree = tree;
    batch->bytes = replaced->bytes + replaced->chunk_bytes + tree_bytes;
    mirror->live_bytes += made->bytes - replaced->bytes - tree_bytes;

    if (mirror->retired_last)
        ((struct journal_chunk *)at(mirror, mirror->retired_last))->next_batch = replaced->first;
    else
        mirror->retired_first = replaced->first;
    mirror->retired_last = replaced->first;
    uint64_t retired = atomic_load_explicit(&mirror->retired_bytes, memory_order_relaxed);
    atomic_store_explicit(&mirror->retired_bytes, retired + batch->bytes, memory_order_relaxed);
}

// ---------------------------------------------------------------------------------------------------- begin and end

enum tally_status mirror_transaction_begin(struct tally_mirror *mirror, struct tally_memory *memory,
                                           const struct tally_frame_header *header)
{
    assert(!mirror->transaction.open);
    mirror_reclaim(mirror);
    if (atomic_load_explicit(&mirror->retired_bytes, memory_order_relaxed) > mirror->retired_bytes_max)
        return TALLY_STALLED;

    uint32_t published = atomic_load_explicit(&mirror->root, memory_order_relaxed);
    struct transaction *transaction = &mirror->transaction;
    *transaction = (struct transaction){
        .open = true,
        .old = header->from ? published : 0,
        .generation = atomic_load_explicit(&mirror->generation, memory_order_relaxed) + 1,
        .header = {header->epoch, header->from, header->to, header->cut_ms, header->digest, header->seed, header->rows},
    };
    struct work work = {.mirror = mirror, .memory = memory};
    size_t bytes = sizeof(struct tally_root);
    bool ok = journal_add(&work, &transaction->replaced, 0, 0);
    if (ok)
        transaction->root =
            transaction->old ? mirror_block_copy(&work, published, bytes, bytes) : mirror_block_make(&work, bytes);
    if (!transaction->root) {
        mirror_transaction_abort(mirror);
        return TALLY_NO_MEMORY;
    }
    struct tally_root *root = at(mirror, transaction->root);
    if (!transaction->old) {
        memset(root, 0, bytes);
        root->seed = header->seed;
    }
    root->epoch = header->epoch;
    root->version = header->to;
    root->generation = transaction->generation;
    root->cut_ms = header->cut_ms;
    atomic_store_explicit(&root->fresh_ms, header->cut_ms, memory_order_relaxed);
    return TALLY_OK;
}

static void bump_stat(_Atomic uint64_t *stat, uint64_t by)
{
    atomic_store_explicit(stat, atomic_load_explicit(stat, memory_order_relaxed) + by, memory_order_relaxed);
}

enum tally_status mirror_transaction_commit(struct tally_mirror *mirror)
{
    struct transaction *transaction = &mirror->transaction;
    const struct tally_root *root = at(mirror, transaction->root);
    assert(transaction->open);
    if (!tally_digest_equal(root->digest, transaction->header.digest) || root->rows != transaction->header.rows)
        return TALLY_DIGEST_MISMATCH;

    retire(mirror, transaction->old ? 0 : atomic_load_explicit(&mirror->root, memory_order_relaxed));
    // The partner of both stores is in tally_view_pin; reader.c says why this order.
    atomic_store(&mirror->root, transaction->root);
    atomic_store(&mirror->generation, transaction->generation);

    journal_free(mirror, transaction->made.first, false);
    transaction->open = false;
    bump_stat(&mirror->swaps, 1);
    bump_stat(&mirror->rows_changed, transaction->rows_changed);
    return TALLY_OK;
}

void mirror_transaction_abort(struct tally_mirror *mirror)
{
    struct transaction *transaction = &mirror->transaction;
    if (!transaction->open) return;
    journal_free(mirror, transaction->made.first, true);
    journal_free(mirror, transaction->replaced.first, false);
    transaction->open = false;
}
