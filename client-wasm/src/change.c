// SPDX-License-Identifier: Apache-2.0
//
// A frame lists changes by id, which is a random order of pages. Taken in that order, each change waits for its page, and in a large
// frame the next change of the same page comes when the copy has left the caches again. So they are gathered, put into the order of the
// directory (a counting sort by the tag's upper bits: one bucket is about one directory block) and then made, with what comes
// fetched ahead.
#include "change.h"
#include "table.h"

#define DECODED_AT_ONCE 32u
#define SCRATCH_ROWS    32u        // without memory for more
#define GATHERED_MAX    (1u << 20) // changes sorted at once
#define SORTED_MIN      256u       // fewer are not worth it
#define BUCKET_BITS_MAX 10u

// How many changes before it is made a change's directory entry, its line, and the rest of its page are fetched.
#define AHEAD_ENTRY 24u
#define AHEAD_LINE  16u
#define AHEAD_PAGE  6u

struct change {
    uint32_t tag, id;
    int64_t difference;
};

// The next changes, with their tags, to `rows_max` of them. With any status the ones before it are there.
static enum tally_status gather(const struct work *work, struct tally_table_reader *change, struct change *rows,
                                uint32_t rows_max, uint32_t *out_count)
{
    const struct tally_mirror *mirror = work->mirror;
    enum tally_status status = TALLY_OK;
    uint32_t count = 0;
    while (status == TALLY_OK && count < rows_max) {
        uint32_t first = count, end = rows_max - count > DECODED_AT_ONCE ? count + DECODED_AT_ONCE : rows_max;
        for (; count < end; count++) {
            struct change *row = &rows[count];
            if ((status = tally_table_next_changed(change, &row->id, &row->difference))) break;
            const struct id_page *page = id_page_of(mirror, work->table, row->id);
            if (page) __builtin_prefetch((const uint32_t *)at(mirror, page->tags) + (row->id & (ID_PAGE_IDS - 1)));
        }
        for (uint32_t i = first; i < count; i++) {
            rows[i].tag = id_tag(mirror, work->table, rows[i].id);
            if (rows[i].tag) continue;
            status = TALLY_MALFORMED;
            count = i;
        }
    }
    *out_count = count;
    return status;
}

static void sort(const struct table *table, const struct change *from, struct change *to, uint32_t count)
{
    uint32_t starts[(1u << BUCKET_BITS_MAX) + 1] = {0};
    uint32_t bits = table->depth > BLOCK_BITS ? table->depth - BLOCK_BITS : 1;
    if (bits > BUCKET_BITS_MAX) bits = BUCKET_BITS_MAX;
    uint32_t shift = 32 - bits;
    for (uint32_t i = 0; i < count; i++) starts[(from[i].tag >> shift) + 1]++;
    for (uint32_t i = 1; i < 1u << bits; i++) starts[i] += starts[i - 1];
    for (uint32_t i = 0; i < count; i++) to[starts[from[i].tag >> shift]++] = from[i];
}

static enum tally_status change_row(struct work *work, const struct change *change)
{
    union page *page = mirror_page_for_change(work, tag_prefix(change->tag));
    if (!page) return TALLY_NO_MEMORY;
    struct row *row =
        (struct row *)(uintptr_t)id_row_in(work->mirror, work->root->seed, work->table, change->id, change->tag, page);
    assert(row);
    int64_t value;
    if (__builtin_add_overflow(row->value, change->difference, &value)) return TALLY_MALFORMED;
    struct tally_digest *digest = &work->root->digest;
    tally_digest_subtract(digest, tally_digest_row(work->table->digest_key, row->fingerprint, row->value));
    tally_digest_add(digest, tally_digest_row(work->table->digest_key, row->fingerprint, value));
    row->value = value;
    return TALLY_OK;
}

static const union page *page_of(const struct work *work, uint32_t tag)
{
    return at(work->mirror, *directory_entry(work->mirror, work->table, tag_prefix(tag)));
}

static enum tally_status change_rows(struct work *work, const struct change *rows, uint32_t count)
{
    const union page *pages[AHEAD_LINE]; // of the rows whose lines were fetched
    // Begins before the first row, so that it too was fetched ahead. A number below 0 wraps to one that is not below count.
    for (uint32_t i = 0u - AHEAD_ENTRY; i != count; i++) {
        uint32_t entry = i + AHEAD_ENTRY, line = i + AHEAD_LINE, whole = i + AHEAD_PAGE;
        if (entry < count) __builtin_prefetch(directory_entry(work->mirror, work->table, tag_prefix(rows[entry].tag)));
        if (line < count) {
            const union page *page = page_of(work, rows[line].tag);
            pages[line % AHEAD_LINE] = page;
            __builtin_prefetch(page);
            __builtin_prefetch(&page->cells[home_line(tag_prefix(rows[line].tag)) * PAGE_LINE_ROWS]);
        }
        if (whole < count) {
            const union page *page = pages[whole % AHEAD_LINE];
            if (page->head.generation != work->root->generation) // it will be copied
                for (uint32_t j = 1; j < PAGE_LINES; j++) __builtin_prefetch(&page->cells[j * PAGE_LINE_ROWS]);
        }
        if (i >= count) continue;
        enum tally_status status = change_row(work, &rows[i]);
        if (status) return status;
    }
    work->mirror->transaction.rows_changed += count;
    return TALLY_OK;
}

enum tally_status mirror_change(struct work *work, struct tally_table_reader *change)
{
    struct tally_mirror *mirror = work->mirror;
    struct change few[SCRATCH_ROWS], *rows = few, *sorted = NULL;
    size_t listed = tally_table_changed_max(change);
    uint32_t rows_max = SCRATCH_ROWS, wanted = SORTED_MIN, scratch = 0;
    while (wanted < listed && wanted < GATHERED_MAX) wanted *= 2;
    size_t bytes = (size_t)wanted * 2 * sizeof *rows;
    if (listed >= SORTED_MIN) scratch = mirror_arena_alloc(mirror, work->memory, bytes);
    if (scratch) {
        rows = at(mirror, scratch);
        sorted = rows + wanted;
        rows_max = wanted;
    }
    enum tally_status status;
    uint32_t count;
    do {
        status = gather(work, change, rows, rows_max, &count);
        if (sorted) sort(work->table, rows, sorted, count);
        enum tally_status changed = change_rows(work, sorted ? sorted : rows, count);
        if (changed) status = changed;
    } while (status == TALLY_OK);
    if (scratch) mirror_arena_free(mirror, scratch, bytes);
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}
