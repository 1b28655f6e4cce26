// SPDX-License-Identifier: Apache-2.0
//
// A frame lists changes by id, which is a random order of pages. Taken in that order, each change waits for its page, and in a large
// frame the next change of the same page comes when the copy has left the caches again. So they are gathered, put into the order of the
// directory's entries (two counting sorts by the tag's upper bits: all, then each bucket within the nearest cache) and then made page by
// page, with the pages that come next fetched ahead.
#include "change.h"
#include "table.h"
#include <platform.h>

#define DECODED_AT_ONCE 32u
#define SCRATCH_ROWS    32u        // without memory for more
#define GATHERED_MAX    (1u << 20) // changes sorted at once
#define SORTED_MIN      256u       // fewer are not worth it
#define BUCKET_BITS_MAX 10u        // of the first sort
#define PLACE_BITS_MAX  8u         // of the second

// How many changes before a page is fetched its directory entry is, and how many pages before it is changed a page is.
#define AHEAD_ENTRY 16u
#define AHEAD_PAGES 4u

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
            if (page) fetch_line((const uint32_t *)at(mirror, page->tags) + (row->id & (ID_PAGE_IDS - 1)));
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

// One counting sort, by the `bits` of the tag behind its first `skip`. `starts` is room for 2^bits + 1 numbers; afterwards number i is where
// bucket i ends.
static void sort_by(const struct change *from, struct change *to, uint32_t count, uint32_t skip, uint32_t bits,
                    uint32_t *starts)
{
    uint32_t shift = 32 - bits;
    memset(starts, 0, ((1u << bits) + 1) * sizeof *starts);
    for (uint32_t i = 0; i < count; i++) starts[(from[i].tag << skip >> shift) + 1]++;
    for (uint32_t i = 1; i < 1u << bits; i++) starts[i] += starts[i - 1];
    for (uint32_t i = 0; i < count; i++) to[starts[from[i].tag << skip >> shift]++] = from[i];
}

// Sorts into the order of the directory, as far as 18 bits tell it. `other` is room for as many. Returns where they are then.
static struct change *sort(const struct table *table, struct change *rows, struct change *other, uint32_t count)
{
    uint32_t ends[(1u << BUCKET_BITS_MAX) + 1], starts[(1u << PLACE_BITS_MAX) + 1];
    uint32_t all = 34 - (uint32_t)__builtin_clz(count | 1); // more buckets than four a change cost more than they give
    if (all > table->depth) all = table->depth;
    if (all > BUCKET_BITS_MAX + PLACE_BITS_MAX) all = BUCKET_BITS_MAX + PLACE_BITS_MAX;
    uint32_t bits = all < BUCKET_BITS_MAX ? all : BUCKET_BITS_MAX, more = all - bits;
    if (bits == 0) return rows;
    sort_by(rows, other, count, 0, bits, ends);
    if (more == 0) return other;
    for (uint32_t i = 0, first = 0; i < 1u << bits; first = ends[i++])
        sort_by(other + first, rows + first, ends[i] - first, bits, more, starts);
    return rows;
}

// Pages that are to be fetched: those of the rows from `next` on.
struct ahead {
    const struct change *rows;
    uint32_t count, next;
    uint32_t pages; // fetched and not begun to be changed
    const union page *last;
};

// Always inline: see arena.c.
static inline __attribute__((always_inline)) void fetch_pages(const struct work *work, struct ahead *ahead)
{
    while (ahead->next < ahead->count && ahead->pages < AHEAD_PAGES) {
        uint32_t entry = ahead->next + AHEAD_ENTRY;
        if (entry < ahead->count)
            fetch_line(directory_entry(work->mirror, work->table, tag_prefix(ahead->rows[entry].tag)));
        const union page *page = page_of(work->mirror, work->table, tag_prefix(ahead->rows[ahead->next++].tag));
        if (page == ahead->last) continue;
        for (uint32_t i = 0; i < PAGE_LINES; i++) fetch_line(&page->cells[i * PAGE_LINE_ROWS]);
        ahead->last = page;
        ahead->pages++;
    }
}

// Changes the rows of the page of the first row, which are as many as follow each other; *out_count says how many.
static enum tally_status change_page(struct work *work, const struct change *rows, uint32_t count, uint32_t *out_count)
{
    union page *page = mirror_page_for_change(work, tag_prefix(rows[0].tag));
    if (!page) return TALLY_NO_MEMORY;
    uint64_t after = 64 - page->head.depth, first = tag_prefix(rows[0].tag); // two shifts: of 64 bits none may be left
    struct tally_digest digest = work->root->digest;
    uint64_t digest_key = work->table->digest_key;
    uint32_t i = 0;
    do {
        const struct change *change = &rows[i];
        struct row *row = (struct row *)(uintptr_t)id_row_in(work->mirror, work->root->seed, work->table, change->id,
                                                             change->tag, page);
        assert(row);
        int64_t value;
        if (__builtin_add_overflow(row->value, change->difference, &value)) return TALLY_MALFORMED;
        tally_digest_subtract(&digest, tally_digest_row(digest_key, row->fingerprint, row->value));
        tally_digest_add(&digest, tally_digest_row(digest_key, row->fingerprint, value));
        row->value = value;
        i++;
    } while (i < count && (tag_prefix(rows[i].tag) ^ first) >> 1 >> (after - 1) == 0);
    work->root->digest = digest;
    *out_count = i;
    return TALLY_OK;
}

static enum tally_status change_rows(struct work *work, const struct change *rows, uint32_t count)
{
    struct ahead ahead = {.rows = rows, .count = count};
    for (uint32_t i = 0, some; i < count; i += some) {
        fetch_pages(work, &ahead);
        ahead.pages -= ahead.pages != 0;
        enum tally_status status = change_page(work, rows + i, count - i, &some);
        if (status) return status;
    }
    work->mirror->transaction.rows_changed += count;
    return TALLY_OK;
}

enum tally_status mirror_change(struct work *work, struct tally_table_reader *change)
{
    struct tally_mirror *mirror = work->mirror;
    struct change few[SCRATCH_ROWS], *rows = few, *other = NULL;
    size_t listed = tally_table_changed_max(change);
    uint32_t rows_max = SCRATCH_ROWS, wanted = SORTED_MIN, scratch = 0;
    while (wanted < listed && wanted < GATHERED_MAX) wanted *= 2;
    size_t bytes = (size_t)wanted * 2 * sizeof *rows;
    if (listed >= SORTED_MIN) scratch = mirror_arena_alloc(mirror, work->memory, bytes);
    if (scratch) {
        rows = at(mirror, scratch);
        other = rows + wanted;
        rows_max = wanted;
    }
    enum tally_status status;
    uint32_t count;
    do {
        status = gather(work, change, rows, rows_max, &count);
        enum tally_status changed = change_rows(work, other ? sort(work->table, rows, other, count) : rows, count);
        if (changed) status = changed;
    } while (status == TALLY_OK);
    if (scratch) mirror_arena_free(mirror, scratch, bytes);
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}
