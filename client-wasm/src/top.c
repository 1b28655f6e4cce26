// SPDX-License-Identifier: Apache-2.0
#include <string.h>
#include <tallycast/top.h>

// Whether `a` stands before `b` in the order that is answered.
static bool before(const struct tally_row *a, const struct tally_row *b)
{
    if (a->value != b->value) return a->value > b->value;
    size_t size = a->key.size < b->key.size ? a->key.size : b->key.size;
    int order = size ? memcmp(a->key.data, b->key.data, size) : 0;
    return order ? order < 0 : a->key.size < b->key.size;
}

// Row `at` of a heap of `count`, whose parents stand behind their children in the order, sinks to its place.
static void sink(struct tally_row *rows, uint32_t count, uint32_t at)
{
    const struct tally_row row = rows[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count) break;
        if (child + 1 < count && before(&rows[child], &rows[child + 1])) child++;
        if (before(&rows[child], &row)) break;
        rows[at] = rows[child];
        at = child;
    }
    rows[at] = row;
}

void tally_best_offer(struct tally_best *top, const struct tally_row *row)
{
    struct tally_row *rows = top->rows;
    if (top->count == top->capacity) {
        if (!top->capacity || before(&rows[0], row)) return;
        rows[0] = *row;
        sink(rows, top->count, 0);
        return;
    }
    uint32_t at = top->count++;
    for (; at && before(&rows[(at - 1) / 2], row); at = (at - 1) / 2) rows[at] = rows[(at - 1) / 2];
    rows[at] = *row;
}

void tally_best_sort(struct tally_best *top)
{
    for (uint32_t left = top->count; left > 1; left--) {
        struct tally_row last = top->rows[0];
        top->rows[0] = top->rows[left - 1];
        top->rows[left - 1] = last;
        sink(top->rows, left - 1, 0);
    }
}

enum tally_status tally_view_top(const struct tally_view *view, uint32_t table, uint32_t k, struct tally_row *out_rows,
                                 uint32_t *out_count)
{
    struct tally_best top = {.rows = out_rows, .capacity = k};
    struct tally_table_info info;
    struct tally_cursor cursor = {.table = table};
    struct tally_row row;
    enum tally_status status = tally_view_table_info(view, table, &info);
    if (status != TALLY_OK) return status;
    while (tally_view_next(view, &cursor, &row) && row.table == table) tally_best_offer(&top, &row);
    tally_best_sort(&top);
    *out_count = top.count;
    return TALLY_OK;
}
