// SPDX-License-Identifier: Apache-2.0
//
// The rows of a table under change: fingerprint -> value, in pages under a persistent extendible-hashing directory. All of it
// in a transaction. After TALLY_NO_MEMORY or TALLY_CLASH the transaction can only be aborted.
#ifndef TALLYCAST_TABLE_H
#define TALLYCAST_TABLE_H

#include "transaction.h"

// Makes work->table (and old_table) the table of this number: known, or new with the name and kind of `change`. TALLY_MALFORMED for a
// number that leaves a hole, a name that is missing, another's or not the table's own.
TALLY_CHECKED enum tally_status mirror_table_open(struct work *work, const struct tally_table_reader *change);

// The page of a fingerprint, made by this transaction; null: no memory. The table has a directory.
union page *mirror_page_for_change(struct work *work, uint64_t fingerprint);

// Adds a row. TALLY_CLASH when the fingerprint is there, or when more rows share a prefix than a page can tell apart (which
// needs a known seed); TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status mirror_table_add(struct work *work, uint64_t fingerprint, int64_t value);

// Removes a row that is there, and tells its value. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status mirror_table_remove(struct work *work, uint64_t fingerprint, int64_t *out_value);

// Frees a whole state: the root and everything under it.
void mirror_tree_free(struct tally_mirror *mirror, uint32_t root);

#endif
