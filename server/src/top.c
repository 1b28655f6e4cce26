// SPDX-License-Identifier: Apache-2.0
#include "top.h"

#include <assert.h>

// Candidates after the bound was raised, and the most that there may be.
static uint32_t kept(uint32_t k) { return 2 * k + 16; }
static uint32_t most(uint32_t k) { return 4 * k + 64; }

void tally_top_deinit(struct tally_top *top)
{
    if (!top->alloc) return;
    tally_alloc_free(top->alloc, top->candidates);
    tally_alloc_free(top->alloc, top->member);
    *top = (struct tally_top){0};
}

void tally_top_forget(struct tally_top *top)
{
    top->count = 0;
    top->known = top->bounded = false;
    if (top->member) memset(top->member, 0, (size_t)(top->member_ids + 63) / 64 * sizeof *top->member);
}

// ---------------------------------------------------------------------------------------------------- order

static int compare_keys(struct tally_bytes a, struct tally_bytes b)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order = memcmp(a.data, b.data, size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

// Whether a comes before b: it is greater, or has the lesser key.
static bool before(const struct tally_rows *rows, const struct tally_ranked *a, const struct tally_ranked *b)
{
    if (a->value != b->value) return a->value > b->value;
    return a->id != b->id && compare_keys(tally_row_key(&rows->rows[a->id]), tally_row_key(&rows->rows[b->id])) < 0;
}

static bool below_bound(const struct tally_top *top, const struct tally_state_row *row)
{
    if (!top->bounded || row->value > top->bound_value) return false;
    if (row->value < top->bound_value) return true;
    return compare_keys(tally_row_key(row), tally_bytes(top->bound_key, top->bound_bytes)) > 0;
}

static void swap(struct tally_ranked *a, struct tally_ranked *b)
{
    struct tally_ranked held = *a;
    *a = *b;
    *b = held;
}

// Heap sort: the same time whatever the values are. `list` is a heap with the last in order at its root.
static void sift(const struct tally_rows *rows, struct tally_ranked *list, uint32_t at, uint32_t count)
{
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(rows, &list[child], &list[child + 1])) child++;
        if (!before(rows, &list[at], &list[child])) return;
        swap(&list[at], &list[child]);
    }
}

// The first `wanted` of the list come to its front, in order; the others behind them in none.
static void select_first(const struct tally_rows *rows, struct tally_ranked *list, uint32_t count, uint32_t wanted)
{
    if (wanted > count) wanted = count;
    for (uint32_t i = wanted / 2; i-- > 0;) sift(rows, list, i, wanted);
    for (uint32_t i = wanted; wanted && i < count; i++) {
        if (!before(rows, &list[i], &list[0])) continue;
        swap(&list[i], &list[0]);
        sift(rows, list, 0, wanted);
    }
    for (uint32_t i = wanted; i-- > 1;) {
        swap(&list[0], &list[i]);
        sift(rows, list, 0, i);
    }
}

// ---------------------------------------------------------------------------------------------------- candidates

static bool is_member(const struct tally_top *top, uint32_t id) { return top->member[id / 64] >> id % 64 & 1; }

static void set_member(struct tally_top *top, uint32_t id, bool member)
{
    uint64_t bit = (uint64_t)1 << id % 64;
    if (member)
        top->member[id / 64] |= bit;
    else
        top->member[id / 64] &= ~bit;
}

static enum tally_status reserve(struct tally_top *top, const struct tally_rows *rows, uint32_t k)
{
    if (top->capacity < most(k)) {
        size_t size = (size_t)most(k) * sizeof *top->candidates;
        struct tally_ranked *candidates = tally_alloc_resize(top->alloc, top->candidates, size);
        if (!candidates) return TALLY_NO_MEMORY;
        top->candidates = candidates;
        top->capacity = most(k);
    }
    if (top->member_ids >= rows->ids) return TALLY_OK;
    size_t had = (top->member_ids + 63) / 64, words = ((size_t)rows->ids_capacity + 63) / 64;
    uint64_t *member = tally_alloc_resize(top->alloc, top->member, words * sizeof *member);
    if (!member) return TALLY_NO_MEMORY;
    memset(member + had, 0, (words - had) * sizeof *member);
    top->member = member;
    top->member_ids = (uint32_t)(words * 64 > UINT32_MAX ? UINT32_MAX : words * 64);
    return TALLY_OK;
}

// There are as many as there may be: only the first ones stay.
static void raise_bound(struct tally_top *top, const struct tally_rows *rows, uint32_t k)
{
    select_first(rows, top->candidates, top->count, kept(k));
    for (uint32_t i = kept(k); i < top->count; i++) set_member(top, top->candidates[i].id, false);
    top->count = kept(k);
    const struct tally_ranked *last = &top->candidates[top->count - 1];
    struct tally_bytes key = tally_row_key(&rows->rows[last->id]);
    top->bounded = true;
    top->bound_value = last->value;
    top->bound_bytes = (uint32_t)key.size;
    memcpy(top->bound_key, key.data, key.size);
}

static void take_in(struct tally_top *top, const struct tally_rows *rows, uint32_t id, uint32_t k)
{
    const struct tally_state_row *row = &rows->rows[id];
    if (!tally_row_live(row) || below_bound(top, row)) return;
    if (top->count == most(k)) {
        raise_bound(top, rows, k);
        if (below_bound(top, row)) return;
    }
    set_member(top, id, true);
    top->candidates[top->count++] = (struct tally_ranked){.value = row->value, .id = id};
}

// Candidates that changed: their new values; those that are none any more go.
static void refresh(struct tally_top *top, const struct tally_rows *rows)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < top->count; i++) {
        struct tally_ranked candidate = top->candidates[i];
        const struct tally_state_row *row = &rows->rows[candidate.id];
        if (!tally_row_live(row) || below_bound(top, row)) {
            set_member(top, candidate.id, false);
            continue;
        }
        candidate.value = row->value;
        top->candidates[count++] = candidate;
    }
    top->count = count;
}

enum tally_status tally_top_select(struct tally_top *top, const struct tally_rows *rows, uint32_t k,
                                   uint32_t *out_count)
{
    struct tally_rows_walk walk = {0};
    uint32_t id;
    enum tally_status status = reserve(top, rows, k);
    if (status) return status;
    // A smaller k may have come.
    if (top->count > most(k)) tally_top_forget(top);
    refresh(top, rows);
    while (tally_rows_touched(rows, &walk, &id)) {
        if (!is_member(top, id)) take_in(top, rows, id, k);
    }
    if (!top->known || (top->count < k && top->count < rows->live)) {
        tally_top_forget(top);
        for (id = 0; id < rows->ids; id++) take_in(top, rows, id, k);
        top->known = true;
    }
    uint32_t count = top->count < k ? top->count : k;
    assert(count == (rows->live < k ? rows->live : k));
    select_first(rows, top->candidates, top->count, count);
    *out_count = count;
    return TALLY_OK;
}
