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

// Opens a gap of `size` bytes for the key, or with a negative size closes the one that it leaves.
static uint8_t *keys_shift(struct keys *keys, uint32_t index, int32_t size)
{
    uint32_t start = index ? keys->end[index - 1] : 0, total = keys_size(keys);
    uint8_t *gap = keys->bytes + start;
    if (size > 0)
        memmove(gap + size, gap, total - start);
    else
        memmove(gap, gap - size, total - start - (uint32_t)-size);
    for (uint32_t i = index; i < ID_PAGE_IDS; i++) keys->end[i] = (uint16_t)(keys->end[i] + size);
    return gap;
}

static const struct id_page *old_pair(const struct work *work, uint32_t id)
{
    return work->old_table ? id_page_of(work->mirror, work->old_table, id) : NULL;
}

enum tally_status mirror_ids_add(struct work *work, uint32_t id, uint64_t fingerprint, struct tally_bytes key,
                                 uint32_t reserve)
{
    assert(reserve >= key.size && fingerprint);
    struct id_page *pair = pair_for_change(work, id);
    if (!pair || !tags_for_change(work, pair, old_pair(work, id)) ||
        !keys_for_change(work, pair, old_pair(work, id), reserve))
        return TALLY_NO_MEMORY;
    uint32_t index = id & (ID_PAGE_IDS - 1);
    uint32_t *tags = at(work->mirror, pair->tags);
    assert(tags[index] == 0);
    tags[index] = tag_of(fingerprint);
    memcpy(keys_shift(at(work->mirror, pair->keys), index, (int32_t)key.size), key.data, key.size);
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
    keys_shift(keys, index, -(int32_t)keys_get(keys, index).size);
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
