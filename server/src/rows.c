// SPDX-License-Identifier: Apache-2.0
#include "rows.h"

#include <assert.h>

#define INDEX_BITS_MIN 6u

void tally_rows_init(struct tally_rows *rows, const struct tally_alloc *alloc, struct tally_keys *keys,
                     uint64_t clash_mask)
{
    *rows = (struct tally_rows){.alloc = alloc, .keys = keys, .clash_mask = clash_mask};
}

void tally_rows_deinit(struct tally_rows *rows)
{
    tally_alloc_free(rows->alloc, rows->rows_block);
    tally_alloc_free(rows->alloc, rows->index);
    tally_alloc_free(rows->alloc, rows->touched);
    tally_alloc_free(rows->alloc, rows->touched_words);
    tally_alloc_free(rows->alloc, rows->free);
    tally_rows_init(rows, rows->alloc, rows->keys, rows->clash_mask);
}

// ---------------------------------------------------------------------------------------------------- index

// The 32 bits of a fingerprint that a slot holds; its upper bits say where the slot belongs.
static uint32_t tag_of(const struct tally_rows *rows, uint64_t fingerprint)
{
    uint64_t bits = fingerprint & rows->clash_mask;
    return (uint32_t)(bits ^ bits >> 32) * 0x9e3779b1u;
}

static uint64_t home_of(const struct tally_rows *rows, uint32_t tag) { return tag >> (32 - rows->index_bits); }

static uint64_t index_mask(const struct tally_rows *rows) { return ((uint64_t)1 << rows->index_bits) - 1; }

static bool same(const struct tally_rows *rows, uint64_t a, uint64_t b) { return ((a ^ b) & rows->clash_mask) == 0; }

uint32_t tally_rows_find(const struct tally_rows *rows, uint64_t fingerprint)
{
    if (!rows->index) return TALLY_NO_ROW;
    uint32_t tag = tag_of(rows, fingerprint);
    uint64_t mask = index_mask(rows);
    for (uint64_t at = home_of(rows, tag); rows->index[at]; at = (at + 1) & mask) {
        uint64_t slot = rows->index[at];
        uint32_t id = (uint32_t)slot - 1;
        if (slot >> 32 == tag && same(rows, rows->rows[id].fingerprint, fingerprint)) return id;
    }
    return TALLY_NO_ROW;
}

void tally_rows_prefetch_index(const struct tally_rows *rows, uint64_t fingerprint)
{
    if (rows->index) __builtin_prefetch(&rows->index[home_of(rows, tag_of(rows, fingerprint))]);
}

uint32_t tally_rows_prefetch_row(const struct tally_rows *rows, uint64_t fingerprint)
{
    if (!rows->index) return TALLY_NO_ROW;
    uint32_t tag = tag_of(rows, fingerprint);
    uint64_t mask = index_mask(rows);
    for (uint64_t at = home_of(rows, tag); rows->index[at]; at = (at + 1) & mask) {
        if (rows->index[at] >> 32 != tag) continue;
        uint32_t id = (uint32_t)rows->index[at] - 1;
        __builtin_prefetch(&rows->rows[id], 1);
        return id;
    }
    return TALLY_NO_ROW;
}

static void index_insert(struct tally_rows *rows, uint32_t id)
{
    uint32_t tag = tag_of(rows, rows->rows[id].fingerprint);
    uint64_t mask = index_mask(rows), at = home_of(rows, tag);
    while (rows->index[at]) at = (at + 1) & mask;
    rows->index[at] = (uint64_t)tag << 32 | (id + 1);
}

// Moves the slots behind the emptied one back to where a search from their home still finds them.
static void index_remove(struct tally_rows *rows, uint32_t id)
{
    uint64_t mask = index_mask(rows), at = home_of(rows, tag_of(rows, rows->rows[id].fingerprint));
    while ((uint32_t)rows->index[at] != id + 1) at = (at + 1) & mask;
    for (uint64_t next = (at + 1) & mask; rows->index[next]; next = (next + 1) & mask) {
        uint64_t home = home_of(rows, (uint32_t)(rows->index[next] >> 32));
        if (((next - home) & mask) >= ((next - at) & mask)) {
            rows->index[at] = rows->index[next];
            at = next;
        }
    }
    rows->index[at] = 0;
}

// An empty index for `live` rows and one more.
static enum tally_status index_allocate(struct tally_rows *rows, uint64_t live, uint64_t **out_index,
                                        uint32_t *out_bits)
{
    uint32_t bits = rows->index_bits ? rows->index_bits : INDEX_BITS_MIN;
    while ((live + 1) * 4 > ((uint64_t)1 << bits) * 3) bits++;
    uint64_t *index = tally_alloc_resize(rows->alloc, NULL, sizeof *index << bits);
    if (!index) return TALLY_NO_MEMORY;
    memset(index, 0, sizeof *index << bits);
    *out_index = index;
    *out_bits = bits;
    return TALLY_OK;
}

static enum tally_status index_grow(struct tally_rows *rows)
{
    uint64_t *index;
    uint32_t bits;
    if (rows->index && ((uint64_t)rows->live + 1) * 4 <= ((uint64_t)3 << rows->index_bits)) return TALLY_OK;
    enum tally_status status = index_allocate(rows, rows->live, &index, &bits);
    if (status) return status;
    uint64_t *old = rows->index;
    uint64_t slots = old ? (uint64_t)1 << rows->index_bits : 0;
    rows->index = index;
    rows->index_bits = bits;
    uint64_t mask = index_mask(rows);
    for (uint64_t i = 0; i < slots; i++) {
        if (!old[i]) continue;
        uint64_t at = home_of(rows, (uint32_t)(old[i] >> 32));
        while (index[at]) at = (at + 1) & mask;
        index[at] = old[i];
    }
    tally_alloc_free(rows->alloc, old);
    return TALLY_OK;
}

enum tally_status tally_rows_rebuild(struct tally_rows *rows)
{
    if (!rows->index) return TALLY_OK;
    memset(rows->index, 0, sizeof *rows->index << rows->index_bits);
    for (uint32_t id = 0; id < rows->ids; id++) {
        if (!tally_row_live(&rows->rows[id])) continue;
        if (tally_rows_find(rows, rows->rows[id].fingerprint) != TALLY_NO_ROW) return TALLY_CLASH;
        index_insert(rows, id);
    }
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- free ids

static void heap_push(struct tally_rows *rows, uint32_t id)
{
    uint32_t at = rows->free_count++;
    for (; at && rows->free[(at - 1) / 2] > id; at = (at - 1) / 2) rows->free[at] = rows->free[(at - 1) / 2];
    rows->free[at] = id;
}

static uint32_t heap_pop(struct tally_rows *rows)
{
    uint32_t top = rows->free[0], last = rows->free[--rows->free_count], count = rows->free_count, at = 0;
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && rows->free[child + 1] < rows->free[child]) child++;
        if (rows->free[child] >= last) break;
        rows->free[at] = rows->free[child];
    }
    rows->free[at] = last;
    return top;
}

static enum tally_status grow_array(const struct tally_alloc *alloc, void **array, uint32_t *capacity, uint64_t needed,
                                    size_t item_bytes)
{
    if (needed <= *capacity) return TALLY_OK;
    uint64_t more = *capacity ? (uint64_t)*capacity + *capacity / 2 : 32;
    if (more < needed) more = needed;
    if (more > TALLY_ROWS_MAX) more = TALLY_ROWS_MAX;
    void *grown = more < needed ? NULL : tally_alloc_resize(alloc, *array, (size_t)more * item_bytes);
    if (!grown) return TALLY_NO_MEMORY;
    *array = grown;
    *capacity = (uint32_t)more;
    return TALLY_OK;
}

#define LINE_BYTES 64u

// Rows begin at a line, wherever the memory begins: what a larger block brought along is moved to there.
static enum tally_status rows_grow(struct tally_rows *rows, uint32_t capacity)
{
    size_t offset = rows->rows_block ? (size_t)((uint8_t *)rows->rows - (uint8_t *)rows->rows_block) : 0;
    uint8_t *block =
        tally_alloc_resize(rows->alloc, rows->rows_block, (size_t)capacity * sizeof *rows->rows + LINE_BYTES);
    if (!block) return TALLY_NO_MEMORY;
    size_t now = (LINE_BYTES - (uintptr_t)block % LINE_BYTES) % LINE_BYTES;
    if (now != offset) memmove(block + now, block + offset, (size_t)rows->ids * sizeof *rows->rows);
    rows->rows_block = block;
    rows->rows = (struct tally_state_row *)(void *)(block + now);
    return TALLY_OK;
}

// Bits, the new ones 0.
static enum tally_status bits_grow(const struct tally_alloc *alloc, uint64_t **bits, uint32_t old, uint32_t capacity)
{
    size_t words = (capacity + 63) / 64, old_words = (old + 63) / 64;
    uint64_t *more = tally_alloc_resize(alloc, *bits, words * sizeof *more);
    if (!more) return TALLY_NO_MEMORY;
    memset(more + old_words, 0, (words - old_words) * sizeof *more);
    *bits = more;
    return TALLY_OK;
}

static enum tally_status rows_reserve(struct tally_rows *rows, uint64_t ids)
{
    uint32_t old = rows->ids_capacity;
    if (ids <= old) return TALLY_OK;
    uint64_t more = (uint64_t)old + old / 2;
    if (more < ids) more = ids;
    uint32_t capacity = (uint32_t)((more + 63) / 64 * 64);
    enum tally_status status = rows_grow(rows, capacity);
    if (!status) status = bits_grow(rows->alloc, &rows->touched, old, capacity);
    if (!status) status = bits_grow(rows->alloc, &rows->touched_words, old / 64, capacity / 64);
    if (!status) rows->ids_capacity = capacity;
    return status;
}

static enum tally_status heap_reserve(struct tally_rows *rows, uint64_t count)
{
    void *array = rows->free;
    enum tally_status status = grow_array(rows->alloc, &array, &rows->free_capacity, count, sizeof *rows->free);
    rows->free = array;
    return status;
}

// ---------------------------------------------------------------------------------------------------- rows

static bool bytes_same(const uint8_t *a, const uint8_t *b, size_t size)
{
    if (size >= 8) {
        // The last eight overlap those before them.
        for (size_t at = 0; at + 8 < size; at += 8) {
            if (tally_load64(a + at) != tally_load64(b + at)) return false;
        }
        return tally_load64(a + size - 8) == tally_load64(b + size - 8);
    }
    if (size >= 4)
        return tally_load32(a) == tally_load32(b) && tally_load32(a + size - 4) == tally_load32(b + size - 4);
    for (size_t at = 0; at < size; at++) {
        if (a[at] != b[at]) return false;
    }
    return true;
}

bool tally_row_key_is(const struct tally_state_row *row, struct tally_bytes key)
{
    if (row->key_bytes != key.size) return false;
    if (key.size <= TALLY_ROW_KEY_BYTES) return bytes_same(row->key, key.data, key.size);
    return tally_bytes_equal(tally_row_key(row), key);
}

// Fills rows[id]; only a long key can fail.
static enum tally_status row_fill(struct tally_rows *rows, uint32_t id, uint64_t fingerprint, struct tally_bytes key)
{
    struct tally_state_row *row = &rows->rows[id];
    const uint8_t *kept = NULL;
    if (key.size > TALLY_ROW_KEY_BYTES && !(kept = tally_keys_put(rows->keys, key))) return TALLY_NO_MEMORY;
    row->fingerprint = fingerprint;
    row->value = 0;
    row->key_bytes = (uint16_t)key.size;
    memcpy(row->key, kept ? (const void *)&kept : key.data, kept ? sizeof kept : key.size);
    rows->live++;
    index_insert(rows, id);
    return TALLY_OK;
}

enum tally_status tally_rows_add(struct tally_rows *rows, uint64_t fingerprint, struct tally_bytes key,
                                 uint32_t *out_id)
{
    enum tally_status status = index_grow(rows);
    if (!status && !rows->free_count) status = rows_reserve(rows, (uint64_t)rows->ids + 1);
    if (status) return status;
    // An id that was touched before in this record keeps its flags.
    bool fresh = rows->free_count == 0;
    uint32_t id = fresh ? rows->ids : rows->free[0];
    if (fresh) memset(&rows->rows[id], 0, sizeof *rows->rows);
    if ((status = row_fill(rows, id, fingerprint, key))) return status;
    if (fresh)
        rows->ids++;
    else
        (void)heap_pop(rows);
    *out_id = id;
    return TALLY_OK;
}

enum tally_status tally_rows_put(struct tally_rows *rows, uint32_t id, uint64_t fingerprint, struct tally_bytes key,
                                 int64_t value)
{
    if (id < rows->ids) return TALLY_MALFORMED;
    if (id >= TALLY_ROWS_MAX) return TALLY_LIMIT;
    enum tally_status status = index_grow(rows);
    if (!status) status = rows_reserve(rows, (uint64_t)id + 1);
    if (status) return status;
    memset(&rows->rows[rows->ids], 0, (id + 1 - rows->ids) * sizeof *rows->rows);
    rows->ids = id + 1;
    if ((status = row_fill(rows, id, fingerprint, key))) return status;
    rows->rows[id].value = value;
    return TALLY_OK;
}

enum tally_status tally_rows_settle(struct tally_rows *rows)
{
    enum tally_status status = heap_reserve(rows, rows->ids - rows->live);
    if (status) return status;
    rows->free_count = 0;
    // Ascending, which is a heap already.
    for (uint32_t id = 0; id < rows->ids; id++) {
        if (!tally_row_live(&rows->rows[id])) rows->free[rows->free_count++] = id;
    }
    return TALLY_OK;
}

enum tally_status tally_rows_remove(struct tally_rows *rows, uint32_t id)
{
    enum tally_status status = heap_reserve(rows, (uint64_t)rows->free_count + 1);
    if (status) return status;
    struct tally_state_row *row = &rows->rows[id];
    assert(tally_row_live(row));
    index_remove(rows, id);
    if (row->key_bytes > TALLY_ROW_KEY_BYTES) tally_keys_drop(rows->keys, tally_row_key(row).data, row->key_bytes);
    row->key_bytes = 0;
    row->value = 0;
    rows->live--;
    heap_push(rows, id);
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- touched rows

bool tally_rows_touched(const struct tally_rows *rows, struct tally_rows_walk *walk, uint32_t *out_id)
{
    while (!walk->word) {
        while (!walk->words) {
            if ((uint64_t)walk->next * 4096 >= rows->ids) return false;
            walk->words = rows->touched_words[walk->next++];
        }
        walk->at = (walk->next - 1) * 64 + (uint32_t)__builtin_ctzll(walk->words);
        walk->words &= walk->words - 1;
        walk->word = rows->touched[walk->at];
    }
    *out_id = walk->at * 64 + (uint32_t)__builtin_ctzll(walk->word);
    walk->word &= walk->word - 1;
    return true;
}

void tally_rows_untouch(struct tally_rows *rows)
{
    for (uint32_t group = 0; (uint64_t)group * 4096 < rows->ids; group++) {
        for (uint64_t words = rows->touched_words[group]; words; words &= words - 1) {
            rows->touched[group * 64 + (uint32_t)__builtin_ctzll(words)] = 0;
        }
        rows->touched_words[group] = 0;
    }
}
