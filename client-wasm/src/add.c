// SPDX-License-Identifier: Apache-2.0
//
// New rows come in the order of their ids, which is a random order of pages. They are taken in batches: all are hashed and their
// directory entries fetched, then the lines that they will go to; while those come the next batch is hashed, and only then each is put
// where it belongs.
#include "add.h"
#include "ids.h"
#include "table.h"
#include <platform.h>

#define BATCH_ROWS 64u

struct batch {
    struct added rows[BATCH_ROWS];
    uint32_t count;
    struct tally_table_reader after; // what follows it
    enum tally_status status;        // why it has no more rows
};

// The next rows, with their fingerprints, to BATCH_ROWS of them. With any status the ones before it are there.
static void gather(const struct work *work, struct tally_table_reader *change, struct batch *batch)
{
    batch->status = TALLY_OK;
    for (batch->count = 0; batch->count < BATCH_ROWS; batch->count++) {
        struct added *row = &batch->rows[batch->count];
        if ((batch->status = tally_table_next_added(change, &row->id, &row->key, &row->value))) break;
        row->fingerprint = tally_fingerprint(work->root->seed, row->key.data, row->key.size);
    }
    // In a loop of their own: see fetch_line in WASM.
    for (uint32_t i = 0; work->table->directory && i < batch->count; i++)
        fetch_line(directory_entry(work->mirror, work->table, batch->rows[i].fingerprint));
    batch->after = *change;
}

// Always inline: see arena.c.
static inline __attribute__((always_inline)) void fetch(const struct work *work, const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        uint64_t fingerprint = batch->rows[i].fingerprint;
        const union page *page = page_of(work->mirror, work->table, fingerprint);
        fetch_line(page);
        fetch_line(&page->cells[home_line(fingerprint) * PAGE_LINE_ROWS]);
    }
}

// The rest of those pages that will be copied, or split.
static inline __attribute__((always_inline)) void fetch_whole(const struct work *work, const struct batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        const union page *page = page_of(work->mirror, work->table, batch->rows[i].fingerprint);
        if (page->head.generation == work->root->generation && page->head.rows < PAGE_ROWS_MAX) continue;
        for (uint32_t j = 1; j < PAGE_LINES; j++) fetch_line(&page->cells[j * PAGE_LINE_ROWS]);
    }
}

// Bytes of the keys that the frame adds to the same 64 ids, from here on. `ahead` is a copy.
static uint32_t key_bytes_ahead(struct tally_table_reader ahead, uint32_t id)
{
    uint32_t bytes = 0, next;
    struct tally_bytes key;
    int64_t value;
    while (tally_table_next_added(&ahead, &next, &key, &value) == TALLY_OK &&
           next >> ID_PAGE_BITS == id >> ID_PAGE_BITS)
        bytes += (uint32_t)key.size;
    return bytes;
}

static enum tally_status add_ids(struct work *work, const struct batch *batch)
{
    const struct added *rows = batch->rows;
    for (uint32_t first = 0, end; first < batch->count; first = end) {
        uint32_t page = rows[first].id >> ID_PAGE_BITS;
        for (end = first + 1; end < batch->count && rows[end].id >> ID_PAGE_BITS == page;) end++;
        bool last = end == batch->count && (rows[end - 1].id + 1) % ID_PAGE_IDS != 0; // of those that were gathered
        uint32_t ahead = last ? key_bytes_ahead(batch->after, rows[first].id) : 0;
        enum tally_status status = mirror_ids_add(work, rows + first, end - first, ahead);
        if (status) return status;
    }
    return TALLY_OK;
}

static enum tally_status add_rows(struct work *work, const struct batch *batch)
{
    if (work->table->directory) fetch_whole(work, batch);
    enum tally_status status = add_ids(work, batch); // first: an id in use is told before the key that it has
    if (status) return status;
    struct tally_digest digest = work->root->digest;
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct added *row = &batch->rows[i];
        if ((status = mirror_table_add(work, row->fingerprint, row->value))) return status;
        tally_digest_add(&digest, tally_digest_row(work->table->digest_key, row->fingerprint, row->value));
    }
    work->root->digest = digest;
    work->mirror->transaction.rows_changed += batch->count;
    return TALLY_OK;
}

enum tally_status mirror_add(struct work *work, struct tally_table_reader *change)
{
    struct batch batches[2];
    uint32_t now = 0;
    gather(work, change, &batches[0]);
    for (;;) {
        struct batch *batch = &batches[now], *next = &batches[now ^= 1];
        if (work->table->directory) fetch(work, batch);
        if (!batch->status) gather(work, change, next);
        enum tally_status status = add_rows(work, batch);
        if (!status) status = batch->status;
        if (status) return status == TALLY_NOT_FOUND ? TALLY_OK : status;
    }
}
