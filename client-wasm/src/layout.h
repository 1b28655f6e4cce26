// SPDX-License-Identifier: Apache-2.0
//
// What a mirror looks like in memory. Private to client-wasm/src and its tests.
//
// Everything is in one run of memory, in blocks of whole 64-byte lines. A block is named by a u32 reference: its distance from
// the mirror's base in lines (31 bits, so a mirror can be 128 GiB). Reference 0 is the header itself and means "none".
//
//   header (struct tally_mirror) ──root──► root of the newest version
//                                            │ table[n]
//                                            ▼
//                                          table ──directory──► top ─► directory block ─► page     fingerprint -> value
//                                            └─────ids─────────► top ─► id block ─┬─────► tags of 64 ids
//                                                                                 └─────► keys of 64 ids
//
//   top of a directory   u32[2^(depth-8)] (at least 1): references of directory blocks
//   directory block      u32[256]: references of pages, by the fingerprint's `depth` top bits; a page of a smaller
//                        depth is named by as many neighbouring entries as share its prefix; a reference with the highest bit set is of
//                        a fork, by which a few pages are deeper than the directory
//   fork                 u32[16]: references of pages, by the next 4 bits of the fingerprint
//   page, 1 KiB          16 lines; the first 16 bytes are its header, then 63 rows of 16 bytes. A row's home line is given by the
//                        fingerprint's bits 32 to 35; it lies there or, when that line is full, in the first later line (mod 16)
//                        that was not. A line's rows lie before its free ones, so a search ends at the first line whose last row is free.
//   top of the ids       u32[id_blocks]: references of id blocks, 0 where no id is in use
//   id block             128 pairs of references: (tags, keys) of 64 ids each; both 0 where no id is in use
//   tags                 u32[64]: the upper half of the fingerprint of the id's row, which is all that leads to its page and line (the
//                        directory has at most 28 bits, the home line has the last 4). 0 for an id that is not in use; 1 when the
//                        half is 0 or 1. Where two rows on the way have the same tag, or the tag is 1, the id's key tells.
//   keys                 struct keys: the ends of 64 keys, and their bytes end to end
//
// All of it but the header is immutable once it is published (but root.fresh_ms): the applier copies what it changes.
#ifndef TALLYCAST_LAYOUT_H
#define TALLYCAST_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <tallycast/fingerprint.h>
#include <tallycast/mirror.h>

#define LINE_BYTES 64u
#define LINES_MAX  (1u << 31)

#define MIRROR_MAGIC   0x314d594c4c4154u // "TALLYM1"
#define MIRROR_VERSION 1u

// A row, and the pages they are in.
struct row {
    uint64_t fingerprint; // 0: free
    int64_t value;
};

#define PAGE_LINES     16u
#define PAGE_BYTES     (PAGE_LINES * LINE_BYTES)
#define PAGE_LINE_ROWS (LINE_BYTES / sizeof(struct row))
// A page is split before it has more rows. Below the 63 that fit, so that every search meets a free row soon.
#define PAGE_ROWS_MAX 60u
// Most prefixes of twice as many rows have been split: a table of n rows is given pages of the depth that leaves each of them so many or more.
#define PAGE_ROWS_FEW 36u

struct page_head {
    uint64_t generation; // that wrote it
    uint32_t depth;      // bits of prefix that its rows share
    uint32_t rows;
};

union page {
    struct page_head head;
    struct row cells[PAGE_LINES * PAGE_LINE_ROWS]; // cells[0] is the head
};

// Directory.
#define BLOCK_BITS    8u
#define BLOCK_ENTRIES (1u << BLOCK_BITS)
#define BLOCK_BYTES   (BLOCK_ENTRIES * 4u)
#define DEPTH_MAX     28u // of pages: so that the upper half of a fingerprint has their bits and the home line's

// Forks. The directory is deepened when more than one in FORKS_PART of its entries would be one.
#define FORK_BITS    4u
#define FORK_ENTRIES (1u << FORK_BITS)
#define FORK_BYTES   (FORK_ENTRIES * 4u)
#define FORK_FLAG    (1u << 31) // in a reference
#define FORKS_PART   8u

// Ids.
#define ID_PAGE_BITS   6u
#define ID_PAGE_IDS    (1u << ID_PAGE_BITS)
#define ID_BLOCK_BITS  7u
#define ID_BLOCK_PAGES (1u << ID_BLOCK_BITS)

struct id_page {
    uint32_t tags, keys;
};

#define ID_BLOCK_BYTES (ID_BLOCK_PAGES * (uint32_t)sizeof(struct id_page))
#define TAGS_BYTES     (ID_PAGE_IDS * 4u)
#define TAG_NONE       1u // that of the id's row is not known

// The end of the last key may be 65536, which wraps to 0. Sizes are taken mod 65536 and are at most 1024, so they come out right.
struct keys {
    uint16_t lines; // of this block
    uint16_t reserved;
    uint16_t end[ID_PAGE_IDS];
    uint8_t bytes[];
};

static_assert(TALLY_KEY_BYTES_MAX * ID_PAGE_IDS <= 65536, "ends of keys are 16 bits");

struct table {
    uint64_t rows;
    uint32_t directory, depth; // reference of its top (0: no rows were ever added); bits of prefix it tells apart
    uint32_t ids, id_blocks;   // reference of their top (0: none); entries in it
    uint64_t digest_key;       // tally_digest_table
    uint32_t kind, name_bytes;
    uint32_t forks;     // in the directory
    uint32_t rows_told; // that it is said to get, for its first directory
    uint8_t name[TALLY_NAME_BYTES_MAX];
};

struct tally_root {
    uint64_t epoch, version, generation, cut_ms;
    _Atomic uint64_t fresh_ms; // raised by tally_mirror_confirm: relaxed, it says nothing about anything else
    struct tally_digest digest;
    struct tally_seed seed;
    uint64_t rows;
    uint32_t tables, reserved;
    uint32_t table[TALLY_TABLES_MAX];
};

// A reader's seat, on a line of its own. `open` is claimed by compare-and-swap; all the rest is written by its owner only.
struct slot {
    _Atomic uint64_t announced; // generation that the oldest pinned view may be of; 0: nothing is pinned. See reader.c
    _Atomic uint64_t hits, misses;
    _Atomic uint32_t open;
    uint32_t depth; // views pinned
    uint8_t pad[LINE_BYTES - 32];
};

static_assert(sizeof(union page) == PAGE_BYTES, "page");
static_assert(sizeof(struct slot) == LINE_BYTES, "slot");

// Free memory, by class of size. See arena.c.
#define ARENA_CLASSES 124u

struct arena {
    uint32_t bump, end;                  // lines: the first never used, the first that is not usable
    uint64_t used_lines, used_lines_max; // now; the most there were
    uint64_t taken_lines;                // since the free ones were joined last
    uint32_t free[ARENA_CLASSES];        // the first trunk of each class
};

// The first line of a free block that names others of its class, so that most are freed and taken without touching their memory.
#define TRUNK_LEAVES 14u

struct trunk {
    uint32_t next; // trunk
    uint32_t count;
    uint32_t leaf[TRUNK_LEAVES];
};

static_assert(sizeof(struct trunk) == LINE_BYTES, "trunk");

// A list of blocks: those that a transaction made, or those that it replaced. In chunks of 1 KiB.
struct journal_entry {
    uint32_t block, lines;
};

#define JOURNAL_BYTES   1024u
#define JOURNAL_ENTRIES ((JOURNAL_BYTES - 40u) / (uint32_t)sizeof(struct journal_entry))

struct journal_chunk {
    uint32_t next;
    uint32_t count;
    // Of the first chunk of a list that waits to be freed:
    uint32_t next_batch;
    uint32_t tree;  // root of a whole replaced state, 0: none
    uint64_t tag;   // generation that replaced the blocks
    uint64_t bytes; // of all that will be freed
    uint64_t reserved;
    struct journal_entry entries[JOURNAL_ENTRIES];
};

static_assert(sizeof(struct journal_chunk) <= JOURNAL_BYTES, "journal");

struct journal {
    uint32_t first, last;
    uint64_t bytes;       // of the blocks listed
    uint64_t chunk_bytes; // of the list itself
};

// Of a frame's header, what all chunks of a change have in common. No pointers: a change that code of one address width began
// may be gone on with, or given up, by that of another.
struct change_header {
    uint64_t epoch, from, to, cut_ms;
    struct tally_digest digest;
    struct tally_seed seed;
    uint64_t rows;
};

// The change that is being made: of one apply, or over several when it comes in chunks.
struct transaction {
    bool open;
    uint32_t root; // of the version to be
    uint32_t old;  // the published root that it starts from; 0 for a whole state
    uint32_t next_chunk;
    uint64_t generation; // of the version to be
    uint64_t rows_changed;
    struct change_header header; // of its first chunk
    struct journal made, replaced;
};

struct tally_mirror {
    uint64_t magic;
    uint32_t layout_version, dataset_bytes;
    uint8_t dataset[TALLY_NAME_BYTES_MAX];
    uint64_t retired_bytes_max;

    // What readers start from. `root` is stored first, `generation` after it, both sequentially consistent: see reader.c.
    _Alignas(LINE_BYTES) _Atomic uint32_t root;
    _Atomic uint64_t generation; // versions published, plus 1 for the empty one

    // Written by the applier only; atomic because any thread may ask for the stats.
    _Alignas(LINE_BYTES) _Atomic uint64_t applies;
    _Atomic uint64_t refused, swaps, rows_changed, retired_bytes, used_bytes, memory_bytes;

    // The applier's own.
    _Alignas(LINE_BYTES) uint64_t live_bytes; // of the newest version
    uint32_t retired_first, retired_last;     // lists of blocks that readers may still read, oldest first
    struct arena arena;
    struct transaction transaction;

    _Alignas(LINE_BYTES) struct slot slots[TALLY_READERS_MAX];
};

// Stands in layout_version. It is the same in WASM and natively: nothing above has pointers, or sizes that depend on theirs.
#define MIRROR_LAYOUT                                                                                                  \
    (MIRROR_VERSION << 24 ^ (uint32_t)sizeof(struct transaction) << 14 ^                                               \
     (uint32_t)offsetof(struct tally_mirror, transaction) << 10 ^ (uint32_t)offsetof(struct tally_mirror, slots) ^     \
     (uint32_t)sizeof(struct tally_root) << 7 ^ (uint32_t)sizeof(struct table) << 3)

// ---------------------------------------------------------------------------------------------------- addresses

static inline void *at(const struct tally_mirror *mirror, uint32_t reference)
{
    return (uint8_t *)(uintptr_t)mirror + (size_t)reference * LINE_BYTES;
}

static inline uint32_t lines_of(size_t bytes) { return (uint32_t)((bytes + LINE_BYTES - 1) / LINE_BYTES); }

static inline const struct table *root_table(const struct tally_mirror *mirror, const struct tally_root *root,
                                             uint32_t table)
{
    return at(mirror, root->table[table]);
}

// ---------------------------------------------------------------------------------------------------- directory

static inline uint32_t directory_blocks(uint32_t depth) { return depth <= BLOCK_BITS ? 1 : 1u << (depth - BLOCK_BITS); }

static inline uint32_t directory_index(uint64_t fingerprint, uint32_t depth)
{
    return (uint32_t)(fingerprint >> 1 >> (63 - depth)); // twice: 64 at once, for depth 0, is no shift
}

// Where the reference of the fingerprint's page, or of the fork to it, is. The table has a directory.
static inline const uint32_t *directory_entry(const struct tally_mirror *mirror, const struct table *table,
                                              uint64_t fingerprint)
{
    uint32_t index = directory_index(fingerprint, table->depth);
    const uint32_t *top = at(mirror, table->directory);
    // The block of a small table does not depend on the fingerprint: a branch, so that it is known before that is.
    uint32_t reference = __builtin_expect(table->depth > BLOCK_BITS, 1) ? top[index >> BLOCK_BITS] : top[0];
    // The sum in this order: what is known first is added first.
    uintptr_t entry = (uintptr_t)mirror + (index & (BLOCK_ENTRIES - 1)) * sizeof(uint32_t);
    return (const uint32_t *)(entry + (size_t)reference * LINE_BYTES);
}

static inline bool is_fork(uint32_t reference) { return reference & FORK_FLAG; }

static inline uint32_t *fork_at(const struct tally_mirror *mirror, uint32_t reference)
{
    return at(mirror, reference - FORK_FLAG);
}

static inline uint32_t fork_index(uint64_t fingerprint, uint32_t depth)
{
    return (uint32_t)(fingerprint << depth >> (64 - FORK_BITS));
}

// The page that a directory's entry leads to.
static inline uint32_t entry_page(const struct tally_mirror *mirror, const struct table *table, uint32_t entry,
                                  uint64_t fingerprint)
{
    if (__builtin_expect(is_fork(entry), 0)) return fork_at(mirror, entry)[fork_index(fingerprint, table->depth)];
    return entry;
}

// The fingerprint's page. The table has a directory.
static inline const union page *page_of(const struct tally_mirror *mirror, const struct table *table,
                                        uint64_t fingerprint)
{
    return at(mirror, entry_page(mirror, table, *directory_entry(mirror, table, fingerprint), fingerprint));
}

// ---------------------------------------------------------------------------------------------------- rows

static inline uint32_t home_line(uint64_t fingerprint) { return (uint32_t)(fingerprint >> 32) & (PAGE_LINES - 1); }

static_assert(PAGE_LINE_ROWS == 4, "line_match");

// Which of a line's rows have the fingerprint: a bit for each.
static inline unsigned line_match(const struct row *rows, uint64_t fingerprint)
{
    return (unsigned)(rows[0].fingerprint == fingerprint) | (unsigned)(rows[1].fingerprint == fingerprint) << 1 |
           (unsigned)(rows[2].fingerprint == fingerprint) << 2 | (unsigned)(rows[3].fingerprint == fingerprint) << 3;
}

// The same of a tag, which is never that of a free row.
static inline unsigned line_match_tag(const struct row *rows, uint32_t tag)
{
    return (unsigned)(rows[0].fingerprint >> 32 == tag) | (unsigned)(rows[1].fingerprint >> 32 == tag) << 1 |
           (unsigned)(rows[2].fingerprint >> 32 == tag) << 2 | (unsigned)(rows[3].fingerprint >> 32 == tag) << 3;
}

// Whether the line has a free row.
static inline bool line_open(const struct row *rows) { return rows[PAGE_LINE_ROWS - 1].fingerprint == 0; }

// The bits of line_match that are of rows: in the place of the first line's first one is the page's head.
static inline unsigned line_rows(uint32_t line) { return 15u ^ (line == 0); }

// Which of a line's rows it is that has the fingerprint, if one has: at most one does, and the first is told where none of the others
// is it. Where a row lies in its line cannot be predicted, and a wrong guess costs as much as all the rest of a read of hot
// memory: so this is arithmetic.
static inline size_t line_place(const struct row *rows, uint64_t fingerprint)
{
    size_t place = (size_t)(rows[1].fingerprint == fingerprint) + 2 * (size_t)(rows[2].fingerprint == fingerprint) +
                   3 * (size_t)(rows[3].fingerprint == fingerprint);
    __asm__("" : "+r"(place)); // or gcc makes branches of the comparisons again
    return place;
}

// The row, or null. Cost: one line, the next one only when that is full.
//
// The one comparison that a branch depends on is almost always true. The head, in the place of the first line's first row, is no row even
// where its generation looks like the fingerprint.
static inline const struct row *page_find(const union page *page, uint64_t fingerprint)
{
    uint32_t line = home_line(fingerprint);
    for (uint32_t n = 0; n < PAGE_LINES; n++, line = (line + 1) & (PAGE_LINES - 1)) {
        const struct row *rows = &page->cells[line * PAGE_LINE_ROWS];
        const struct row *row = &rows[line_place(rows, fingerprint)];
        if (__builtin_expect(row->fingerprint == fingerprint, 1) && __builtin_expect(row != page->cells, 1)) return row;
        if (line_open(rows)) return NULL;
    }
    return NULL;
}

static inline const struct row *table_find(const struct tally_mirror *mirror, const struct table *table,
                                           uint64_t fingerprint)
{
    if (table->directory == 0) return NULL;
    return page_find(page_of(mirror, table, fingerprint), fingerprint);
}

// ---------------------------------------------------------------------------------------------------- ids

// The pair of the 64 ids around `id`, or null where its block is not there.
static inline struct id_page *id_page_of(const struct tally_mirror *mirror, const struct table *table, uint32_t id)
{
    uint32_t number = id >> ID_PAGE_BITS, block = number >> ID_BLOCK_BITS;
    if (block >= table->id_blocks) return NULL;
    const uint32_t *top = at(mirror, table->ids);
    if (top[block] == 0) return NULL;
    return (struct id_page *)at(mirror, top[block]) + (number & (ID_BLOCK_PAGES - 1));
}

// Key number `index` of a block.
static inline struct tally_bytes keys_get(const struct keys *keys, uint32_t index)
{
    uint16_t start = index ? keys->end[index - 1] : 0;
    return tally_bytes(keys->bytes + start, (uint16_t)(keys->end[index] - start));
}

// Bytes of all keys of a block.
static inline uint32_t keys_size(const struct keys *keys)
{
    uint16_t start = keys->end[ID_PAGE_IDS - 2];
    return start + (uint32_t)(uint16_t)(keys->end[ID_PAGE_IDS - 1] - start);
}

static inline uint32_t tag_of(uint64_t fingerprint)
{
    uint32_t upper = (uint32_t)(fingerprint >> 32);
    return upper ? upper : TAG_NONE;
}

// What of a fingerprint the tag knows: enough for directory_entry and home_line.
static inline uint64_t tag_prefix(uint32_t tag) { return (uint64_t)tag << 32; }

// Tag of the id's row; 0 when the id is not in use.
static inline uint32_t id_tag(const struct tally_mirror *mirror, const struct table *table, uint32_t id)
{
    const struct id_page *page = id_page_of(mirror, table, id);
    if (!page || page->tags == 0) return 0;
    return ((const uint32_t *)at(mirror, page->tags))[id & (ID_PAGE_IDS - 1)];
}

// The key of an id that is in use.
static inline struct tally_bytes id_key(const struct tally_mirror *mirror, const struct table *table, uint32_t id)
{
    return keys_get(at(mirror, id_page_of(mirror, table, id)->keys), id & (ID_PAGE_IDS - 1));
}

// The one row on the way from the tag's home line that has the tag; null when there are several, or the tag says nothing.
static inline const struct row *page_find_tag(const union page *page, uint32_t tag)
{
    const struct row *found = NULL;
    uint32_t line = home_line(tag_prefix(tag));
    if (tag == TAG_NONE) return NULL;
    for (uint32_t n = 0; n < PAGE_LINES; n++, line = (line + 1) & (PAGE_LINES - 1)) {
        const struct row *rows = &page->cells[line * PAGE_LINE_ROWS];
        unsigned match = line_match_tag(rows, tag) & line_rows(line);
        if (match) {
            if (found || (match & (match - 1))) return NULL;
            found = &rows[__builtin_ctz(match)];
        }
        if (line_open(rows)) return found;
    }
    return found;
}

// The row, in its page, of an id that is in use and has the tag.
static inline const struct row *id_row_in(const struct tally_mirror *mirror, struct tally_seed seed,
                                          const struct table *table, uint32_t id, uint32_t tag, const union page *page)
{
    const struct row *row = page_find_tag(page, tag);
    if (row) return row;
    struct tally_bytes key = id_key(mirror, table, id);
    return page_find(page, tally_fingerprint(seed, key.data, key.size));
}

// The row of an id; null when it is not in use.
static inline const struct row *id_row(const struct tally_mirror *mirror, struct tally_seed seed,
                                       const struct table *table, uint32_t id)
{
    uint32_t tag = id_tag(mirror, table, id);
    if (tag == 0) return NULL;
    return id_row_in(mirror, seed, table, id, tag, page_of(mirror, table, tag_prefix(tag)));
}

#endif
