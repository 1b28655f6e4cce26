// SPDX-License-Identifier: Apache-2.0
//
// The rows of a table by id, under change: id -> tag and key bytes. In a transaction. After TALLY_NO_MEMORY the
// transaction can only be aborted. Looking up is in layout.h.
#ifndef TALLYCAST_IDS_H
#define TALLYCAST_IDS_H

#include "transaction.h"

// Puts a row to an id that is not in use. `reserve` bytes of keys (at least this one's) are about to come to its 64 ids.
TALLY_CHECKED enum tally_status mirror_ids_add(struct work *work, uint32_t id, uint64_t fingerprint,
                                               struct tally_bytes key, uint32_t reserve);

// Makes an id that is in use free.
TALLY_CHECKED enum tally_status mirror_ids_remove(struct work *work, uint32_t id);

// Frees all of a table's ids.
void mirror_ids_free(struct tally_mirror *mirror, const struct table *table);

#endif
