// SPDX-License-Identifier: Apache-2.0
//
// The rows of a table by id, under change: id -> tag and key bytes. In a transaction. After TALLY_NO_MEMORY the
// transaction can only be aborted. Looking up is in layout.h.
#ifndef TALLYCAST_IDS_H
#define TALLYCAST_IDS_H

#include "transaction.h"

// A row that is new.
struct added {
    uint32_t id;
    struct tally_bytes key; // borrowed
    uint64_t fingerprint;   // of the key
    int64_t value;
};

// Puts rows to ids, ascending, all of the same 64. `reserve` more bytes of keys are about to come to these 64. TALLY_MALFORMED when an id
// is in use.
TALLY_CHECKED enum tally_status mirror_ids_add(struct work *work, const struct added *rows, uint32_t count,
                                               uint32_t reserve);

// Makes an id that is in use free.
TALLY_CHECKED enum tally_status mirror_ids_remove(struct work *work, uint32_t id);

// Frees all of a table's ids.
void mirror_ids_free(struct tally_mirror *mirror, const struct table *table);

#endif
