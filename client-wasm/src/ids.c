// SPDX-License-Identifier: Apache-2.0
#include "ids.h"

#define KEYS_HEAD_BYTES ((uint32_t)offsetof(struct keys, bytes))

static size_t top_bytes(uint32_t blocks) { return (size_t)blocks * sizeof(uint32_t); }

// Makes the top this transaction's and at least `blocks` long.
static bool top_for_change(struct work *work, uint32_t blocks)
{
    struct table *table = work->table;
    uint32_t had = table->id_blocks;
    if (blocks < had) blocks = had;
    bool made = table->ids && !(work->old_table && work->old_table->ids == table->ids);
    bool fits = had && mirror_arena_block_bytes(top_bytes(had)) == mirror_arena_block_bytes(top_bytes(blocks));
    if (!made || !fits) {
        uint32_t top = table->ids ? mirror_block_copy(work, table->ids, top_bytes(had), top_bytes(blocks))
                                  : mirror_block_make(work, top_bytes(blocks));
        if (!top) return false;
        table->ids = top;
    }
    memset((uint32_t *)at(work->mirror, table->ids) + had, 0, top_bytes(blocks - had));
    table->id_blocks = blocks;
    return true;
}

// The pair of the id, in a block that is this transaction's; null: no memory.
static struct id_page *pair_for_change(struct work *work, uint32_t id)
{
    uint32_t number = id >> ID_PAGE_BITS, block = number >> ID_BLOCK_BITS;
    if (!top_for_change(work, block + 1)) return NULL;
    const struct table *old = work->old_table;
    uint32_t *entry = (uint32_t *)at(work->mirror, work->table->ids) + block;
    if (*entry == 0) {
        if (!(*entry = mirror_block_make(work, ID_BLOCK_BYTES))) return NULL;
        memset(at(work->mirror, *entry), 0, ID_BLOCK_BYTES);
    } else if (old && block < old->id_blocks && ((const uint32_t *)at(work->mirror, old->ids))[block] == *entry) {
        uint32_t copy = mirror_block_copy(work, *entry, ID_BLOCK_BYTES, ID_BLOCK_BYTES);
        if (!copy) return NULL;
        *entry = copy;
    }
    return (struct id_page *)at(work->mirror, *entry) + (number & (ID_BLOCK_PAGES - 1));
}

static bool tags_for_change(struct work *work, struct id_page *pair, const struct id_page *old)
{
    if (pair->tags == 0) {
        if (!(pair->tags = mirror_block_make(work, TAGS_BYTES))) return false;
        memset(at(work->mirror, pair->tags), 0, TAGS_BYTES);
    } else if (old && old->tags == pair->tags) {
        uint32_t copy = mirror_block_copy(work, pair->tags, TAGS_BYTES, TAGS_BYTES);
        if (!copy) return false;
        pair->tags = copy;
    }
    return true;
}

// Makes the keys this transaction's, with room for `more` bytes.
static bool keys_for_change(struct work *work, struct id_page *pair, const struct id_page *old, uint32_t more)
{
    size_t needed = KEYS_HEAD_BYTES + more;
    uint32_t block;
    if (pair->keys == 0) {
        block = mirror_block_make(work, needed);
        if (!block) return false;
        memset(at(work->mirror, block), 0, KEYS_HEAD_BYTES);
    } else {
        const struct keys *keys = at(work->mirror, pair->keys);
        size_t capacity = (size_t)keys->lines * LINE_BYTES;
        needed += keys_size(keys);
        bool made = !(old && old->keys == pair->keys);
        if (made && needed <= capacity) return true;
        block = mirror_block_copy(work, pair->keys, capacity, needed);
        if (!block) return false;
    }
    ((struct keys *)at(work->mirror, block))->lines = (uint16_t)(mirror_arena_block_bytes(needed) / LINE_BYTES);
    pair->keys = block;
    return true;
}

// Closes the gap that the key leaves.
static void keys_remove(struct keys *keys, uint32_t index)
{
    uint32_t start = index ? keys->end[index - 1] : 0, total = keys_size(keys);
    uint32_t size = (uint32_t)keys_get(keys, index).size;
    memmove(keys->bytes + start, keys->bytes + start + size, total - start - size);
    for (uint32_t i = index; i < ID_PAGE_IDS; i++) keys->end[i] = (uint16_t)(keys->end[i] - size);
}

static const struct id_page *old_pair(const struct work *work, uint32_t id)
{
    return work->old_table ? id_page_of(work->mirror, work->old_table, id) : NULL;
}

// Puts the rows' keys, which are of ids not in use, between the others: from the last id to the first, so that each key moves once.
static void keys_add(struct keys *keys, const struct added *rows, uint32_t count)
{
    uint32_t gap = 0; // bytes of the rows that are not placed yet
    for (uint32_t i = 0; i < count; i++) gap += (uint32_t)rows[i].key.size;
    uint32_t end = keys_size(keys); // of what is not moved yet
    for (uint32_t id = ID_PAGE_IDS; count;) {
        const struct added *row = &rows[count - 1];
        uint32_t index = row->id & (ID_PAGE_IDS - 1), start = index ? keys->end[index - 1] : 0;
        memmove(keys->bytes + start + gap, keys->bytes + start, end - start);
        while (id > index) {
            id--;
            keys->end[id] = (uint16_t)(keys->end[id] + gap);
        }
        gap -= (uint32_t)row->key.size;
        memcpy(keys->bytes + start + gap, row->key.data, row->key.size);
        end = start;
        count--;
    }
}

enum tally_status mirror_ids_add(struct work *work, const struct added *rows, uint32_t count, uint32_t reserve)
{
    struct id_page *pair = pair_for_change(work, rows[0].id);
    const struct id_page *old = old_pair(work, rows[0].id);
    for (uint32_t i = 0; i < count; i++) reserve += (uint32_t)rows[i].key.size;
    if (!pair || !tags_for_change(work, pair, old) || !keys_for_change(work, pair, old, reserve))
        return TALLY_NO_MEMORY;
    uint32_t *tags = at(work->mirror, pair->tags);
    struct keys *keys = at(work->mirror, pair->keys);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t *tag = &tags[rows[i].id & (ID_PAGE_IDS - 1)];
        if (*tag) return TALLY_MALFORMED;
        *tag = tag_of(rows[i].fingerprint);
    }
    keys_add(keys, rows, count);
    return TALLY_OK;
}

enum tally_status mirror_ids_remove(struct work *work, uint32_t id)
{
    struct id_page *pair = pair_for_change(work, id);
    if (!pair || !tags_for_change(work, pair, old_pair(work, id)) ||
        !keys_for_change(work, pair, old_pair(work, id), 0))
        return TALLY_NO_MEMORY;
    uint32_t index = id & (ID_PAGE_IDS - 1);
    struct keys *keys = at(work->mirror, pair->keys);
    ((uint32_t *)at(work->mirror, pair->tags))[index] = 0;
    keys_remove(keys, index);
    if (keys_size(keys)) return TALLY_OK;
    // Keys are never empty, so none is left.
    if (!mirror_block_drop(work, pair->keys, (size_t)keys->lines * LINE_BYTES) ||
        !mirror_block_drop(work, pair->tags, TAGS_BYTES))
        return TALLY_NO_MEMORY;
    *pair = (struct id_page){0, 0};
    return TALLY_OK;
}

void mirror_ids_free(struct tally_mirror *mirror, const struct table *table)
{
    if (table->ids == 0) return;
    const uint32_t *top = at(mirror, table->ids);
    for (uint32_t i = 0; i < table->id_blocks; i++) {
        if (top[i] == 0) continue;
        const struct id_page *pairs = at(mirror, top[i]);
        for (uint32_t j = 0; j < ID_BLOCK_PAGES; j++) {
            if (pairs[j].tags) mirror_arena_free(mirror, pairs[j].tags, TAGS_BYTES);
            if (!pairs[j].keys) continue;
            const struct keys *keys = at(mirror, pairs[j].keys);
            mirror_arena_free(mirror, pairs[j].keys, (size_t)keys->lines * LINE_BYTES);
        }
        mirror_arena_free(mirror, top[i], ID_BLOCK_BYTES);
    }
    mirror_arena_free(mirror, table->ids, top_bytes(table->id_blocks));
}
