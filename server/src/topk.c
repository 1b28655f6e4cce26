// SPDX-License-Identifier: Apache-2.0
#include "topk.h"

#include <assert.h>

enum tally_status tally_topk_init(struct tally_topk *topk, uint32_t capacity, struct tally_keys *keys,
                                  uint64_t clash_mask, const struct tally_alloc *alloc)
{
    *topk = (struct tally_topk){.alloc = alloc, .capacity = capacity};
    tally_rows_init(&topk->rows, alloc, keys, clash_mask);
    // An id more than are counted at a time: the one that comes is there before the one that goes has left.
    topk->heap = tally_alloc_resize(alloc, NULL, ((size_t)capacity + 1) * sizeof *topk->heap);
    topk->places = tally_alloc_resize(alloc, NULL, ((size_t)capacity + 1) * sizeof *topk->places);
    if (topk->heap && topk->places) return TALLY_OK;
    tally_topk_deinit(topk);
    return TALLY_NO_MEMORY;
}

void tally_topk_deinit(struct tally_topk *topk)
{
    if (!topk->alloc) return;
    tally_rows_deinit(&topk->rows);
    tally_alloc_free(topk->alloc, topk->heap);
    tally_alloc_free(topk->alloc, topk->places);
    *topk = (struct tally_topk){0};
}

// ---------------------------------------------------------------------------------------------------- the heap

// Whether a makes place before b: its count is less, or its key greater.
static bool goes_before(const struct tally_topk *topk, uint32_t a, uint32_t b)
{
    const struct tally_state_row *x = &topk->rows.rows[a], *y = &topk->rows.rows[b];
    if (x->value != y->value) return x->value < y->value;
    struct tally_bytes p = tally_row_key(x), q = tally_row_key(y);
    int order = memcmp(p.data, q.data, p.size < q.size ? p.size : q.size);
    return order ? order > 0 : p.size > q.size;
}

static void place(struct tally_topk *topk, uint32_t at, uint32_t id)
{
    topk->heap[at] = id;
    topk->places[id] = at;
}

// The id at `at` moves to where it belongs.
static void move(struct tally_topk *topk, uint32_t at)
{
    uint32_t id = topk->heap[at];
    for (uint32_t parent; at && goes_before(topk, id, topk->heap[parent = (at - 1) / 2]); at = parent)
        place(topk, at, topk->heap[parent]);
    for (uint32_t child; (child = 2 * at + 1) < topk->count; at = child) {
        if (child + 1 < topk->count && goes_before(topk, topk->heap[child + 1], topk->heap[child])) child++;
        if (!goes_before(topk, topk->heap[child], id)) break;
        place(topk, at, topk->heap[child]);
    }
    place(topk, at, id);
}

static enum tally_status take_out(struct tally_topk *topk, uint32_t id)
{
    uint32_t at = topk->places[id], last = topk->heap[--topk->count];
    if (at < topk->count) {
        place(topk, at, last);
        move(topk, at);
    }
    tally_rows_touch(&topk->rows, id);
    return tally_rows_remove(&topk->rows, id);
}

// A key that is not counted yet; there is room.
static enum tally_status put_in(struct tally_topk *topk, uint64_t fingerprint, struct tally_bytes key, int64_t count,
                                int64_t error)
{
    uint32_t id;
    enum tally_status status = tally_rows_add(&topk->rows, fingerprint, key, &id);
    if (status) return status;
    assert(id <= topk->capacity && topk->count < topk->capacity);
    topk->rows.rows[id].value = count;
    topk->rows.rows[id].old_value = error;
    tally_rows_touch(&topk->rows, id);
    place(topk, topk->count++, id);
    move(topk, topk->count - 1);
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- counting

static int64_t sum(int64_t a, int64_t b, uint64_t *saturated)
{
    int64_t result;
    if (!__builtin_add_overflow(a, b, &result)) return result;
    ++*saturated;
    return INT64_MAX;
}

// The id that the key is counted under, or TALLY_NO_ROW. TALLY_CLASH.
static enum tally_status find(const struct tally_topk *topk, uint64_t fingerprint, struct tally_bytes key,
                              uint32_t *out_id)
{
    *out_id = tally_rows_find(&topk->rows, fingerprint);
    if (*out_id == TALLY_NO_ROW || tally_row_key_is(&topk->rows.rows[*out_id], key)) return TALLY_OK;
    return TALLY_CLASH;
}

enum tally_status tally_topk_add(struct tally_topk *topk, uint64_t fingerprint, struct tally_bytes key, int64_t amount,
                                 uint64_t *saturated)
{
    uint32_t id;
    enum tally_status status = find(topk, fingerprint, key, &id);
    if (status || amount == 0) return status;
    if (id != TALLY_NO_ROW) {
        struct tally_state_row *row = &topk->rows.rows[id];
        row->value = sum(row->value, amount, saturated);
        tally_rows_touch(&topk->rows, id);
        move(topk, topk->places[id]);
        return TALLY_OK;
    }
    if (topk->count == topk->capacity) {
        uint32_t last = topk->heap[0];
        if (topk->rows.rows[last].value > topk->floor) topk->floor = topk->rows.rows[last].value;
        if ((status = take_out(topk, last))) return status;
    }
    return put_in(topk, fingerprint, key, sum(topk->floor, amount, saturated), topk->floor);
}

enum tally_status tally_topk_remove(struct tally_topk *topk, uint64_t fingerprint, struct tally_bytes key)
{
    uint32_t id;
    if (find(topk, fingerprint, key, &id) || id == TALLY_NO_ROW) return TALLY_OK;
    return take_out(topk, id);
}

enum tally_status tally_topk_put(struct tally_topk *topk, uint64_t fingerprint, struct tally_bytes key, int64_t count,
                                 int64_t error)
{
    // An amount was 1 or more, so a count is greater than its error, but for sums that stopped.
    bool could_be = error >= 0 && error <= topk->floor && (count > error || count == INT64_MAX);
    if (topk->count == topk->capacity || !could_be) return TALLY_MALFORMED;
    if (tally_rows_find(&topk->rows, fingerprint) != TALLY_NO_ROW) return TALLY_CLASH;
    return put_in(topk, fingerprint, key, count, error);
}

// ---------------------------------------------------------------------------------------------------- merging

enum tally_status tally_topk_merge(struct tally_topk *into, const struct tally_topk *from)
{
    uint64_t ignored = 0;
    int64_t floor = sum(into->floor, from->floor, &ignored);
    struct tally_topk both;
    // All keys of both; then the first ones of them.
    enum tally_status status =
        tally_topk_init(&both, into->count + from->count + 1, into->rows.keys, into->rows.clash_mask, into->alloc);
    if (status) return status;
    for (uint32_t i = 0; i < into->count && !status; i++) {
        const struct tally_state_row *row = &into->rows.rows[into->heap[i]];
        uint32_t other;
        if ((status = find(from, row->fingerprint, tally_row_key(row), &other))) break;
        const struct tally_state_row *twin = other == TALLY_NO_ROW ? NULL : &from->rows.rows[other];
        status = put_in(&both, row->fingerprint, tally_row_key(row),
                        sum(row->value, twin ? twin->value : from->floor, &ignored),
                        sum(row->old_value, twin ? twin->old_value : from->floor, &ignored));
    }
    for (uint32_t i = 0; i < from->count && !status; i++) {
        const struct tally_state_row *row = &from->rows.rows[from->heap[i]];
        uint32_t other;
        if ((status = find(into, row->fingerprint, tally_row_key(row), &other)) || other != TALLY_NO_ROW) continue;
        status = put_in(&both, row->fingerprint, tally_row_key(row), sum(row->value, into->floor, &ignored),
                        sum(row->old_value, into->floor, &ignored));
    }
    while (!status && both.count > into->capacity) {
        if (both.rows.rows[both.heap[0]].value > floor) floor = both.rows.rows[both.heap[0]].value;
        status = take_out(&both, both.heap[0]);
    }
    while (!status && into->count) status = take_out(into, into->heap[0]);
    for (uint32_t i = 0; i < both.count && !status; i++) {
        const struct tally_state_row *row = &both.rows.rows[both.heap[i]];
        status = put_in(into, row->fingerprint, tally_row_key(row), row->value, row->old_value);
    }
    into->floor = floor;
    // Long keys lie in the memory of `keys`, which goes on.
    while (!status && both.count) status = take_out(&both, both.heap[0]);
    tally_topk_deinit(&both);
    return status;
}
