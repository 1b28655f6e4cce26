// SPDX-License-Identifier: Apache-2.0
#include "table.h"
#include "ids.h"
#include "page.h"

// ---------------------------------------------------------------------------------------------------- tables

static struct tally_bytes table_name(const struct table *table) { return tally_bytes(table->name, table->name_bytes); }

static enum tally_status table_create(struct work *work, const struct tally_table_reader *change)
{
    struct tally_root *root = work->root;
    if (change->table != root->tables || change->name.size == 0) return TALLY_MALFORMED;
    for (uint32_t i = 0; i < root->tables; i++) {
        if (tally_bytes_equal(table_name(root_table(work->mirror, root, i)), change->name)) return TALLY_MALFORMED;
    }
    uint32_t block = mirror_block_make(work, sizeof(struct table));
    if (!block) return TALLY_NO_MEMORY;
    struct table *table = at(work->mirror, block);
    memset(table, 0, sizeof *table);
    table->digest_key = tally_digest_table(root->seed, change->name);
    table->kind = change->kind;
    uint64_t rows =
        change->rows < work->mirror->transaction.header.rows ? change->rows : work->mirror->transaction.header.rows;
    table->rows_told = rows < TALLY_ROWS_MAX ? (uint32_t)rows : 0;
    table->name_bytes = (uint32_t)change->name.size;
    memcpy(table->name, change->name.data, change->name.size);
    root->table[root->tables++] = block;
    work->table = table;
    work->old_table = NULL;
    return TALLY_OK;
}

enum tally_status mirror_table_open(struct work *work, const struct tally_table_reader *change)
{
    struct tally_root *root = work->root;
    if (change->table >= root->tables) return table_create(work, change);
    const struct table *table = root_table(work->mirror, root, change->table);
    if (change->name.size && (!tally_bytes_equal(table_name(table), change->name) || table->kind != change->kind))
        return TALLY_MALFORMED;
    bool published = work->old && change->table < work->old->tables;
    uint32_t old_block = published ? work->old->table[change->table] : 0;
    if (root->table[change->table] == old_block) {
        uint32_t block = mirror_block_copy(work, old_block, sizeof *table, sizeof *table);
        if (!block) return TALLY_NO_MEMORY;
        root->table[change->table] = block;
    }
    work->table = at(work->mirror, root->table[change->table]);
    work->old_table = published ? at(work->mirror, old_block) : NULL;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- directory

static size_t top_bytes(uint32_t depth) { return (size_t)directory_blocks(depth) * sizeof(uint32_t); }

// The directory block of an index, made by this transaction; null: no memory.
static uint32_t *block_for_change(struct work *work, uint32_t index)
{
    struct table *table = work->table;
    const struct table *old = work->old_table;
    if (old && table->directory == old->directory) {
        uint32_t top = mirror_block_copy(work, table->directory, top_bytes(table->depth), top_bytes(table->depth));
        if (!top) return NULL;
        table->directory = top;
    }
    uint32_t *entry = (uint32_t *)at(work->mirror, table->directory) + (index >> BLOCK_BITS);
    // A directory that has become deeper has none of its old blocks.
    if (old && old->directory && old->depth == table->depth) {
        const uint32_t *old_top = at(work->mirror, old->directory);
        if (*entry == old_top[index >> BLOCK_BITS]) {
            uint32_t block = mirror_block_copy(work, *entry, BLOCK_BYTES, BLOCK_BYTES);
            if (!block) return NULL;
            *entry = block;
        }
    }
    return at(work->mirror, *entry);
}

// Whether the block of this index, which is this transaction's, has the entry that the published version has there.
static bool entry_published(const struct work *work, uint32_t index, uint32_t entry)
{
    const struct table *table = work->table, *old = work->old_table;
    if (!old || !old->directory || old->depth != table->depth) return false;
    const uint32_t *old_top = at(work->mirror, old->directory);
    const uint32_t *old_block = at(work->mirror, old_top[index >> BLOCK_BITS]);
    return old_block[index & (BLOCK_ENTRIES - 1)] == entry;
}

// Makes the prefix (the `depth` top bits of `fingerprint`, more than the directory's) name `page`, in its fork.
static bool fork_set(struct work *work, uint64_t fingerprint, uint32_t depth, uint32_t page)
{
    uint32_t index = directory_index(fingerprint, work->table->depth);
    uint32_t *block = block_for_change(work, index);
    if (!block) return false;
    uint32_t *entry = &block[index & (BLOCK_ENTRIES - 1)];
    assert(is_fork(*entry));
    if (entry_published(work, index, *entry)) {
        uint32_t copy = mirror_block_copy(work, *entry - FORK_FLAG, FORK_BYTES, FORK_BYTES);
        if (!copy) return false;
        *entry = copy | FORK_FLAG;
    }
    uint32_t count = 1u << (work->table->depth + FORK_BITS - depth);
    uint32_t first = fork_index(fingerprint, work->table->depth) & ~(count - 1);
    for (uint32_t i = 0; i < count; i++) fork_at(work->mirror, *entry)[first + i] = page;
    return true;
}

// Makes all entries of the prefix (the `depth` top bits of `fingerprint`) name `page`.
static bool directory_set(struct work *work, uint64_t fingerprint, uint32_t depth, uint32_t page)
{
    if (depth > work->table->depth) return fork_set(work, fingerprint, depth, page);
    uint32_t count = 1u << (work->table->depth - depth);
    uint32_t first = directory_index(fingerprint, work->table->depth) & ~(count - 1);
    uint32_t *block = NULL;
    for (uint32_t index = first; index < first + count; index++) {
        if (!block || (index & (BLOCK_ENTRIES - 1)) == 0) block = block_for_change(work, index);
        if (!block) return false;
        block[index & (BLOCK_ENTRIES - 1)] = page;
    }
    return true;
}

// The depth that pages of a table of so many rows have reached, nearly all of them.
static uint32_t depth_for(uint64_t rows)
{
    uint32_t depth = 0;
    while (depth < DEPTH_MAX && rows >> (depth + 1) >= PAGE_ROWS_FEW) depth++;
    return depth;
}

// The directory and its pages, empty: as deep as the rows will need that the table is said to get. Splitting pages on the way there
// would be half of the time that a whole state takes.
static bool directory_create(struct work *work)
{
    struct tally_mirror *mirror = work->mirror;
    uint32_t depth = depth_for(work->table->rows_told), pages = 1u << depth;
    uint32_t top = mirror_block_make(work, top_bytes(depth)), block = 0;
    if (!top) return false;
    for (uint32_t i = 0; i < pages; i++) {
        if ((i & (BLOCK_ENTRIES - 1)) == 0) {
            block = mirror_block_make(work, BLOCK_BYTES);
            if (!block) return false;
            memset(at(mirror, block), 0, BLOCK_BYTES);
            ((uint32_t *)at(mirror, top))[i >> BLOCK_BITS] = block;
        }
        uint32_t page = mirror_block_make(work, PAGE_BYTES);
        if (!page) return false;
        mirror_page_init(at(mirror, page), work->root->generation, depth);
        ((uint32_t *)at(mirror, block))[i & (BLOCK_ENTRIES - 1)] = page;
    }
    work->table->directory = top;
    work->table->depth = depth;
    return true;
}

// A fork whose entries all name the page; 0: no memory.
static uint32_t fork_make(struct work *work, uint32_t page)
{
    uint32_t fork = mirror_block_make(work, FORK_BYTES);
    if (!fork) return 0;
    uint32_t *entries = at(work->mirror, fork);
    for (uint32_t i = 0; i < FORK_ENTRIES; i++) entries[i] = page;
    work->table->forks++;
    return fork | FORK_FLAG;
}

// What half of a fork becomes when the directory has one more bit: a page, or a fork again. 0: no memory.
static uint32_t fork_half(struct work *work, const uint32_t *half)
{
    bool one = true;
    for (uint32_t i = 1; i < FORK_ENTRIES / 2; i++) one &= half[i] == half[0];
    if (one) return half[0];
    uint32_t fork = fork_make(work, 0);
    for (uint32_t i = 0; fork && i < FORK_ENTRIES; i++) fork_at(work->mirror, fork)[i] = half[i / 2];
    return fork;
}

// Fills a block with the entries of half an old one, each twice.
static bool block_stretch(struct work *work, const uint32_t *from, uint32_t *to)
{
    for (uint32_t i = 0; i < BLOCK_ENTRIES; i++) {
        uint32_t entry = from[i / 2];
        if (is_fork(entry)) entry = fork_half(work, fork_at(work->mirror, entry) + (i & 1) * (FORK_ENTRIES / 2));
        to[i] = entry;
        if (!entry && from[i / 2]) return false;
    }
    return true;
}

static bool directory_drop(struct work *work, uint32_t directory, uint32_t depth)
{
    const uint32_t *top = at(work->mirror, directory);
    for (uint32_t i = 0; i < directory_blocks(depth); i++) {
        const uint32_t *block = at(work->mirror, top[i]);
        for (uint32_t j = 0; j < BLOCK_ENTRIES; j++)
            if (is_fork(block[j]) && !mirror_block_drop(work, block[j] - FORK_FLAG, FORK_BYTES)) return false;
        if (!mirror_block_drop(work, top[i], BLOCK_BYTES)) return false;
    }
    return mirror_block_drop(work, directory, top_bytes(depth));
}

// One more bit of prefix: each entry twice, each fork two halves. All blocks and forks are made anew.
static bool directory_double(struct work *work)
{
    struct tally_mirror *mirror = work->mirror;
    struct table *table = work->table;
    uint32_t depth = table->depth, directory = table->directory;
    uint32_t top = mirror_block_make(work, top_bytes(depth + 1));
    if (!top) return false;
    uint32_t *entries = at(mirror, top);
    const uint32_t *old_entries = at(mirror, directory);
    uint32_t blocks = directory_blocks(depth + 1);
    table->forks = 0;
    for (uint32_t i = 0; i < blocks; i++) {
        // The part of an old block that block i stretches.
        const uint32_t *from = at(mirror, old_entries[blocks == 1 ? 0 : i / 2]);
        if (blocks > 1) from += (i & 1) * (BLOCK_ENTRIES / 2);
        uint32_t block = mirror_block_make(work, BLOCK_BYTES);
        if (!block || !block_stretch(work, from, at(mirror, block))) return false;
        entries[i] = block;
    }
    if (!directory_drop(work, directory, depth)) return false;
    table->directory = top;
    table->depth = depth + 1;
    return true;
}

// Lets the page of the directory's depth become deeper.
static bool directory_fork(struct work *work, uint64_t fingerprint)
{
    uint32_t index = directory_index(fingerprint, work->table->depth);
    uint32_t *block = block_for_change(work, index);
    if (!block) return false;
    uint32_t *entry = &block[index & (BLOCK_ENTRIES - 1)];
    uint32_t fork = fork_make(work, *entry);
    if (fork) *entry = fork;
    return fork != 0;
}

// Makes the directory tell apart what follows the prefix of a page of this depth.
static bool directory_deepen(struct work *work, uint64_t fingerprint, uint32_t depth)
{
    const struct table *table = work->table;
    if (depth < table->depth) return true;
    if (depth > table->depth && depth < table->depth + FORK_BITS) return true; // it is in a fork
    // A directory of one block costs no less when it is shallower.
    bool forks = table->depth >= BLOCK_BITS && table->forks < (1u << table->depth) / FORKS_PART;
    return depth == table->depth && forks ? directory_fork(work, fingerprint) : directory_double(work);
}

// ---------------------------------------------------------------------------------------------------- rows

union page *mirror_page_for_change(struct work *work, uint64_t fingerprint)
{
    struct tally_mirror *mirror = work->mirror;
    uint32_t block = entry_page(mirror, work->table, *directory_entry(mirror, work->table, fingerprint), fingerprint);
    union page *page = at(mirror, block);
    if (page->head.generation == work->root->generation) return page;
    uint32_t copy = mirror_block_copy(work, block, PAGE_BYTES, PAGE_BYTES);
    if (!copy) return NULL;
    page = at(mirror, copy);
    page->head.generation = work->root->generation;
    return directory_set(work, fingerprint, page->head.depth, copy) ? page : NULL;
}

// How deep the pages of a table of that many rows may get. With a secret seed the 61st row of one prefix of log2(rows) + 2 bits has a
// chance of less than 2^-300; so there are at most 8 prefixes a row, whatever the keys are.
static uint32_t depth_max(uint64_t rows)
{
    uint32_t depth = 66 - (uint32_t)__builtin_clzll(rows | 1);
    return depth < DEPTH_MAX ? depth : DEPTH_MAX;
}

// Makes room where the fingerprint belongs. `page` is full and made by this transaction.
static enum tally_status split(struct work *work, union page *page, uint64_t fingerprint)
{
    uint32_t depth = page->head.depth;
    if (depth >= depth_max(work->table->rows)) return TALLY_CLASH;
    if (!directory_deepen(work, fingerprint, depth)) return TALLY_NO_MEMORY;
    uint32_t high = mirror_block_make(work, PAGE_BYTES);
    if (!high) return TALLY_NO_MEMORY;
    mirror_page_split(page, at(work->mirror, high));
    return directory_set(work, fingerprint | 1ull << (63 - depth), depth + 1, high) ? TALLY_OK : TALLY_NO_MEMORY;
}

enum tally_status mirror_table_add(struct work *work, uint64_t fingerprint, int64_t value)
{
    if (work->table->directory == 0 && !directory_create(work)) return TALLY_NO_MEMORY;
    for (;;) {
        union page *page = mirror_page_for_change(work, fingerprint);
        if (!page) return TALLY_NO_MEMORY;
        if (page->head.rows < PAGE_ROWS_MAX) {
            if (!mirror_page_add(page, fingerprint, value)) return TALLY_CLASH;
            work->table->rows++;
            work->root->rows++;
            return TALLY_OK;
        }
        enum tally_status status = split(work, page, fingerprint);
        if (status) return status;
    }
}

enum tally_status mirror_table_remove(struct work *work, uint64_t fingerprint, int64_t *out_value)
{
    union page *page = mirror_page_for_change(work, fingerprint);
    if (!page) return TALLY_NO_MEMORY;
    struct row *row = (struct row *)(uintptr_t)page_find(page, fingerprint);
    assert(row);
    *out_value = row->value;
    mirror_page_remove(page, row);
    work->table->rows--;
    work->root->rows--;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- freeing

// Frees the pages that neighbouring entries name, and tells of how many entries their depth is: those of a directory or fork of `depth`.
static uint32_t page_free(struct tally_mirror *mirror, uint32_t page, uint32_t depth)
{
    uint32_t entries = 1u << (depth - ((const union page *)at(mirror, page))->head.depth);
    mirror_arena_free(mirror, page, PAGE_BYTES);
    return entries;
}

static void directory_free(struct tally_mirror *mirror, const struct table *table)
{
    if (table->directory == 0) return;
    const uint32_t *top = at(mirror, table->directory);
    uint32_t entries = 1u << table->depth;
    for (uint32_t index = 0; index < entries;) {
        const uint32_t *block = at(mirror, top[index >> BLOCK_BITS]);
        uint32_t entry = block[index & (BLOCK_ENTRIES - 1)];
        if (!is_fork(entry)) {
            index += page_free(mirror, entry, table->depth);
            continue;
        }
        const uint32_t *fork = fork_at(mirror, entry);
        for (uint32_t i = 0; i < FORK_ENTRIES;) i += page_free(mirror, fork[i], table->depth + FORK_BITS);
        mirror_arena_free(mirror, entry - FORK_FLAG, FORK_BYTES);
        index++;
    }
    for (uint32_t i = 0; i < directory_blocks(table->depth); i++) mirror_arena_free(mirror, top[i], BLOCK_BYTES);
    mirror_arena_free(mirror, table->directory, top_bytes(table->depth));
}

void mirror_tree_free(struct tally_mirror *mirror, uint32_t root_block)
{
    const struct tally_root *root = at(mirror, root_block);
    for (uint32_t i = 0; i < root->tables; i++) {
        const struct table *table = root_table(mirror, root, i);
        directory_free(mirror, table);
        mirror_ids_free(mirror, table);
        mirror_arena_free(mirror, root->table[i], sizeof *table);
    }
    mirror_arena_free(mirror, root_block, sizeof *root);
}
