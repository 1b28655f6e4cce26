// SPDX-License-Identifier: Apache-2.0
#include "rows.h"

#include <assert.h>

#define INDEX_BITS_MIN 6u

void tally_rows_init(struct tally_rows *rows, const struct tally_alloc *alloc, uint64_t clash_mask)
{
    *rows = (struct tally_rows){.alloc = alloc, .clash_mask = clash_mask};
}

void tally_rows_deinit(struct tally_rows *rows)
{
    tally_alloc_free(rows->alloc, rows->rows);
    tally_alloc_free(rows->alloc, rows->index);
    tally_alloc_free(rows->alloc, rows->free);
    tally_rows_init(rows, rows->alloc, rows->clash_mask);
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

void tally_rows_prefetch_key(const struct tally_rows *rows, uint32_t id)
{
    if (id < rows->ids) __builtin_prefetch(rows->rows[id].key);
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
        if (!rows->rows[id].key) continue;
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

static enum tally_status rows_reserve(struct tally_rows *rows, uint64_t ids)
{
    void *array = rows->rows;
    enum tally_status status = grow_array(rows->alloc, &array, &rows->ids_capacity, ids, sizeof *rows->rows);
    rows->rows = array;
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

enum tally_status tally_rows_add(struct tally_rows *rows, uint64_t fingerprint, struct tally_bytes key,
                                 uint32_t *out_id)
{
    enum tally_status status = index_grow(rows);
    if (!status && !rows->free_count) status = rows_reserve(rows, (uint64_t)rows->ids + 1);
    if (status) return status;
    // An id that was touched before in this record keeps its place in the list of touched rows.
    bool fresh = rows->free_count == 0;
    uint32_t id = fresh ? rows->ids++ : heap_pop(rows);
    uint32_t touched = fresh ? 0 : rows->rows[id].touched;
    rows->rows[id] = (struct tally_state_row){
        .fingerprint = fingerprint, .key = key.data, .key_bytes = (uint32_t)key.size, .touched = touched};
    rows->live++;
    index_insert(rows, id);
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
    memset(&rows->rows[rows->ids], 0, (id - rows->ids) * sizeof *rows->rows);
    rows->ids = id + 1;
    rows->rows[id] = (struct tally_state_row){
        .fingerprint = fingerprint, .value = value, .key = key.data, .key_bytes = (uint32_t)key.size};
    rows->live++;
    index_insert(rows, id);
    return TALLY_OK;
}

enum tally_status tally_rows_settle(struct tally_rows *rows)
{
    enum tally_status status = heap_reserve(rows, rows->ids - rows->live);
    if (status) return status;
    rows->free_count = 0;
    // Ascending, which is a heap already.
    for (uint32_t id = 0; id < rows->ids; id++) {
        if (!rows->rows[id].key) rows->free[rows->free_count++] = id;
    }
    return TALLY_OK;
}

enum tally_status tally_rows_remove(struct tally_rows *rows, uint32_t id)
{
    enum tally_status status = heap_reserve(rows, (uint64_t)rows->free_count + 1);
    if (status) return status;
    assert(rows->rows[id].key);
    index_remove(rows, id);
    rows->rows[id].key = NULL;
    rows->rows[id].value = 0;
    rows->live--;
    heap_push(rows, id);
    return TALLY_OK;
}
