// SPDX-License-Identifier: Apache-2.0
#include "page.h"

void mirror_page_init(union page *page, uint64_t generation, uint32_t depth)
{
    memset(page, 0, sizeof *page);
    page->head = (struct page_head){.generation = generation, .depth = depth};
}

// The first free row of a line that has one.
static struct row *line_free(struct row *rows, uint32_t line)
{
    return &rows[__builtin_ctz(line_match(rows, 0) & line_rows(line))];
}

void mirror_page_insert(union page *page, uint64_t fingerprint, int64_t value)
{
    assert(page->head.rows < PAGE_ROWS_MAX);
    uint32_t line = home_line(fingerprint);
    while (!line_open(&page->cells[line * PAGE_LINE_ROWS])) line = (line + 1) & (PAGE_LINES - 1);
    *line_free(&page->cells[line * PAGE_LINE_ROWS], line) = (struct row){fingerprint, value};
    page->head.rows++;
}

bool mirror_page_add(union page *page, uint64_t fingerprint, int64_t value)
{
    assert(page->head.rows < PAGE_ROWS_MAX);
    for (uint32_t line = home_line(fingerprint);; line = (line + 1) & (PAGE_LINES - 1)) {
        struct row *rows = &page->cells[line * PAGE_LINE_ROWS];
        if (line_match(rows, fingerprint) & line_rows(line)) return false;
        if (!line_open(rows)) continue;
        *line_free(rows, line) = (struct row){fingerprint, value};
        page->head.rows++;
        return true;
    }
}

// Lays out anew the rows that `keep` wants: those of `from` whose prefix bit is `bit`, or all when depth is 64.
static void relay(union page *page, const union page *from, uint32_t depth, unsigned bit)
{
    for (uint32_t i = 1; i < PAGE_LINES * PAGE_LINE_ROWS; i++) {
        uint64_t fingerprint = from->cells[i].fingerprint;
        if (fingerprint == 0) continue;
        if (depth < 64 && (fingerprint >> (63 - depth) & 1) != bit) continue;
        mirror_page_insert(page, fingerprint, from->cells[i].value);
    }
}

void mirror_page_remove(union page *page, struct row *row)
{
    struct row *last = row + (PAGE_LINE_ROWS - 1 - (row - page->cells) % PAGE_LINE_ROWS);
    bool full = last->fingerprint != 0;
    while (last->fingerprint == 0) last--; // at `row` at the latest
    *row = *last;
    *last = (struct row){0, 0};
    page->head.rows--;
    if (!full) return;
    // Searches went past this line: rows behind it may have to come back.
    union page copy = *page;
    mirror_page_init(page, copy.head.generation, copy.head.depth);
    relay(page, &copy, 64, 0);
}

void mirror_page_split(union page *page, union page *high)
{
    union page copy = *page;
    uint32_t depth = copy.head.depth;
    mirror_page_init(page, copy.head.generation, depth + 1);
    mirror_page_init(high, copy.head.generation, depth + 1);
    relay(page, &copy, depth, 0);
    relay(high, &copy, depth, 1);
}
