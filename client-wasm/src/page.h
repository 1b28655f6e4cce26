// SPDX-License-Identifier: Apache-2.0
//
// Changes inside one page that belongs to the transaction. page_find is in layout.h.
#ifndef TALLYCAST_PAGE_H
#define TALLYCAST_PAGE_H

#include "layout.h"

void mirror_page_init(union page *page, uint64_t generation, uint32_t depth);

// The fingerprint is not there, and the page has fewer than PAGE_ROWS_MAX rows.
void mirror_page_insert(union page *page, uint64_t fingerprint, int64_t value);

// False when the fingerprint is there. The page has fewer than PAGE_ROWS_MAX rows.
bool mirror_page_add(union page *page, uint64_t fingerprint, int64_t value);

// `row` is of this page.
void mirror_page_remove(union page *page, struct row *row);

// Moves the rows whose prefix has bit number `depth` (the highest is 0) set into `high`, which is empty. Both are then one deeper.
void mirror_page_split(union page *page, union page *high);

#endif
