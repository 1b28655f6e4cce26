// SPDX-License-Identifier: Apache-2.0
#include "layout.h"
#include "platform.h"

#define MANY_KEYS 32u

static void count(const struct tally_view *view, uint64_t hits, uint64_t misses)
{
    struct slot *slot = &view->reader->mirror->slots[view->reader->slot];
    if (hits) counter_add(&slot->hits, hits);
    if (misses) counter_add(&slot->misses, misses);
}

void tally_view_info(const struct tally_view *view, struct tally_view_info *out_info)
{
    const struct tally_root *root = view->root;
    *out_info = (struct tally_view_info){
        .epoch = root->epoch,
        .version = root->version,
        .cut_ms = root->cut_ms,
        .fresh_ms = atomic_load_explicit(&root->fresh_ms, memory_order_relaxed),
        .digest = root->digest,
        .seed = root->seed,
        .rows = root->rows,
        .tables = root->tables,
    };
}

enum tally_status tally_view_table_info(const struct tally_view *view, uint32_t table,
                                        struct tally_table_info *out_info)
{
    if (table >= view->root->tables) return TALLY_NOT_FOUND;
    const struct table *found = root_table(view->reader->mirror, view->root, table);
    *out_info = (struct tally_table_info){
        .name = tally_bytes(found->name, found->name_bytes),
        .kind = (enum tally_kind)found->kind,
        .rows = found->rows,
    };
    return TALLY_OK;
}

enum tally_status tally_view_table(const struct tally_view *view, struct tally_bytes name, uint32_t *out_table)
{
    for (uint32_t i = 0; i < view->root->tables; i++) {
        const struct table *table = root_table(view->reader->mirror, view->root, i);
        if (!tally_bytes_equal(tally_bytes(table->name, table->name_bytes), name)) continue;
        *out_table = i;
        return TALLY_OK;
    }
    return TALLY_NOT_FOUND;
}

// The hash and the search within: a call costs as much as a few lines of a hot read.
#define WITH_ALL_INLINE __attribute__((flatten))

// And itself inline in its callers, where the linker optimises (the WASM modules, and guests that are linked with them). Wasmtime
// passes no more than four arguments in registers, and what it passes otherwise is written as 4 bytes and read as 8: that waits until all
// that came before has left the processor, so no two reads overlap. clang would make six arguments of these.
WITH_ALL_INLINE __attribute__((always_inline)) inline enum tally_status tally_view_get(const struct tally_view *view,
                                                                                       uint32_t table,
                                                                                       struct tally_bytes key,
                                                                                       int64_t *out_value)
{
    const struct tally_mirror *mirror = view->reader->mirror;
    const struct row *row = NULL;
    if (table < view->root->tables)
        row = table_find(mirror, root_table(mirror, view->root, table),
                         tally_fingerprint(view->root->seed, key.data, key.size));
    count(view, row != NULL, row == NULL);
    if (!row) return TALLY_NOT_FOUND;
    *out_value = row->value;
    return TALLY_OK;
}

// A key on its way to its row.
struct asked {
    uint64_t fingerprint;
    const uint32_t *entry;  // of the directory
    const struct row *line; // its home line; until the entry is read: that line of a page of reference 0
};

// To MANY_KEYS keys, in rounds: hash and fetch the directory's entry, fetch the line, look.
//
// In WASM a fetch is a load (platform.h), which keeps its place in the processor: as many lines are under way as loads fit in with what lies
// between them. With 24 instructions a key, 16 keys waited for memory twice; so what can be worked out before is, in the first round,
// and the second is as short as it can be and unrolled. The seed and the table are copied because clang reads them again for each key
// where there is a volatile load.
WITH_ALL_INLINE
static uint32_t get_some(const struct tally_view *view, const struct table *table, const struct tally_bytes *keys,
                         uint32_t keys_count, int64_t *out_values, bool *out_found)
{
    const struct tally_mirror *mirror = view->reader->mirror;
    const struct tally_seed seed = view->root->seed;
    const struct table in = *table;
    struct asked asked[MANY_KEYS];
    uint32_t hits = 0;
    for (uint32_t i = 0; i < keys_count; i++) {
        uint64_t fingerprint = tally_fingerprint(seed, keys[i].data, keys[i].size);
        asked[i].fingerprint = fingerprint;
        asked[i].entry = directory_entry(mirror, &in, fingerprint);
        asked[i].line = at(mirror, home_line(fingerprint));
        fetch_line(asked[i].entry);
    }
#pragma GCC unroll 8
    for (uint32_t i = 0; i < keys_count; i++) {
        uint32_t page = entry_page(mirror, &in, *asked[i].entry, asked[i].fingerprint);
        asked[i].line += (size_t)page * PAGE_LINE_ROWS; // a reference counts lines
        fetch_line(asked[i].line);
    }
    for (uint32_t i = 0; i < keys_count; i++) {
        uint64_t fingerprint = asked[i].fingerprint;
        uint32_t home = home_line(fingerprint);
        size_t place = line_place(asked[i].line, fingerprint);
        const struct row *row = &asked[i].line[place];
        // Not in its home line, or where a page's head is.
        if (__builtin_expect(row->fingerprint != fingerprint, 0) || __builtin_expect((place | home) == 0, 0))
            row = page_find((const union page *)(asked[i].line - home * PAGE_LINE_ROWS), fingerprint);
        out_values[i] = row ? row->value : 0;
        out_found[i] = row != NULL;
        hits += row != NULL;
    }
    return hits;
}

void tally_view_get_many(const struct tally_view *view, uint32_t table, const struct tally_bytes *keys,
                         size_t keys_count, int64_t *out_values, bool *out_found)
{
    const struct table *found = NULL;
    if (table < view->root->tables) found = root_table(view->reader->mirror, view->root, table);
    uint64_t hits = 0;
    for (size_t i = 0; i < keys_count; i += MANY_KEYS) {
        uint32_t some = keys_count - i < MANY_KEYS ? (uint32_t)(keys_count - i) : MANY_KEYS;
        if (found && found->directory) {
            hits += get_some(view, found, keys + i, some, out_values + i, out_found + i);
        } else {
            memset(out_values + i, 0, some * sizeof *out_values);
            memset(out_found + i, 0, some * sizeof *out_found);
        }
    }
    count(view, hits, keys_count - hits);
}

enum tally_status tally_get(struct tally_reader *reader, struct tally_bytes table_name, struct tally_bytes key,
                            int64_t *out_value)
{
    struct tally_view view;
    uint32_t table = UINT32_MAX;
    tally_view_pin(reader, &view);
    if (tally_view_table(&view, table_name, &table)) table = UINT32_MAX;
    enum tally_status status = tally_view_get(&view, table, key, out_value);
    tally_view_unpin(&view);
    return status;
}
