// SPDX-License-Identifier: Apache-2.0
//
// Frames in: the order of versions, the staging of chunks, the walk over a frame's rows.
#include "add.h"
#include "change.h"
#include "ids.h"
#include "table.h"

static void count(_Atomic uint64_t *stat)
{
    atomic_store_explicit(stat, atomic_load_explicit(stat, memory_order_relaxed) + 1, memory_order_relaxed);
}

// ---------------------------------------------------------------------------------------------------- rows

static enum tally_status apply_removed(struct work *work, struct tally_table_reader *change)
{
    enum tally_status status;
    uint32_t id;
    while ((status = tally_table_next_removed(change, &id)) == TALLY_OK) {
        const struct row *row = id_row(work->mirror, work->root->seed, work->table, id);
        int64_t value;
        if (!row) return TALLY_MALFORMED;
        uint64_t fingerprint = row->fingerprint;
        if ((status = mirror_table_remove(work, fingerprint, &value))) return status;
        if ((status = mirror_ids_remove(work, id))) return status;
        tally_digest_subtract(&work->root->digest, tally_digest_row(work->table->digest_key, fingerprint, value));
        work->mirror->transaction.rows_changed++;
    }
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

static enum tally_status apply_tables(struct work *work, struct tally_frame_reader *reader)
{
    struct tally_table_reader change;
    enum tally_status status;
    while ((status = tally_frame_next_table(reader, &change)) == TALLY_OK) {
        // A whole state has nothing that could leave or move.
        if (!work->old && !(tally_wire_done(&change.removed) && tally_wire_done(&change.changed)))
            return TALLY_MALFORMED;
        if ((status = mirror_table_open(work, &change))) return status;
        if ((status = apply_removed(work, &change))) return status;
        if ((status = mirror_change(work, &change))) return status;
        if ((status = mirror_add(work, &change))) return status;
    }
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

// ---------------------------------------------------------------------------------------------------- order

// Whether the frame leads from the held version to a later one.
static enum tally_status check_order(const struct tally_root *held, const struct tally_frame_header *header)
{
    if (header->epoch < held->epoch || (header->epoch == held->epoch && header->to <= held->version)) return TALLY_OLD;
    if (header->from == 0) return TALLY_OK;
    if (header->epoch != held->epoch) return TALLY_WRONG_EPOCH;
    return header->from == held->version ? TALLY_OK : TALLY_GAP;
}

// Whether the chunk belongs to the change that is staged, and is its next one.
static bool follows(const struct transaction *transaction, const struct tally_frame_header *header)
{
    const struct change_header *first = &transaction->header;
    return transaction->open && header->chunk == transaction->next_chunk && header->epoch == first->epoch &&
           header->from == first->from && header->to == first->to && header->cut_ms == first->cut_ms &&
           tally_digest_equal(header->digest, first->digest) && header->rows == first->rows &&
           header->seed.k0 == first->seed.k0 && header->seed.k1 == first->seed.k1;
}

static enum tally_status apply(struct tally_mirror *mirror, struct tally_memory *memory, struct tally_bytes frame)
{
    struct tally_frame_reader reader;
    enum tally_status status = tally_frame_open(frame, &reader);
    if (status) return status;
    const struct tally_frame_header *header = &reader.header;
    if (!tally_bytes_equal(header->dataset, tally_bytes(mirror->dataset, mirror->dataset_bytes)))
        return TALLY_WRONG_DATASET;
    const struct tally_root *held = at(mirror, atomic_load_explicit(&mirror->root, memory_order_relaxed));
    if ((status = check_order(held, header))) return status;

    struct transaction *transaction = &mirror->transaction;
    if (header->chunk == 0) {
        mirror_transaction_abort(mirror);
        if ((status = mirror_transaction_begin(mirror, memory, header))) return status;
    } else if (!follows(transaction, header)) {
        return TALLY_GAP;
    }
    struct work work = {
        .mirror = mirror,
        .memory = memory,
        .root = at(mirror, transaction->root),
        .old = transaction->old ? at(mirror, transaction->old) : NULL,
    };
    if ((status = apply_tables(&work, &reader))) return status;
    transaction->next_chunk++;
    return header->more ? TALLY_MORE : mirror_transaction_commit(mirror);
}

static void note_memory(struct tally_mirror *mirror)
{
    atomic_store_explicit(&mirror->used_bytes, mirror->arena.used_lines * LINE_BYTES, memory_order_relaxed);
}

enum tally_status tally_mirror_apply(struct tally_mirror *mirror, struct tally_memory *memory, struct tally_bytes frame)
{
    assert(memory->base == mirror);
    enum tally_status status = apply(mirror, memory, frame);
    if (status == TALLY_OK || status == TALLY_MORE) {
        count(&mirror->applies);
    } else if (status != TALLY_OLD) {
        mirror_transaction_abort(mirror);
        count(&mirror->refused);
    }
    if (status == TALLY_OK) mirror_reclaim(mirror);
    note_memory(mirror);
    return status;
}

void tally_mirror_abandon(struct tally_mirror *mirror, struct tally_memory *memory)
{
    assert(memory->base == mirror);
    (void)memory;
    mirror_transaction_abort(mirror);
    note_memory(mirror);
}

void tally_mirror_confirm(struct tally_mirror *mirror, uint64_t epoch, uint64_t version, uint64_t now_ms)
{
    struct tally_root *root = at(mirror, atomic_load_explicit(&mirror->root, memory_order_relaxed));
    if (version == 0 || root->epoch != epoch || root->version != version) return;
    if (now_ms > atomic_load_explicit(&root->fresh_ms, memory_order_relaxed))
        atomic_store_explicit(&root->fresh_ms, now_ms, memory_order_relaxed);
}
