// SPDX-License-Identifier: Apache-2.0
//
// The rows that a frame adds. In a transaction; after any status but TALLY_OK it can only be aborted.
#ifndef TALLYCAST_ADD_H
#define TALLYCAST_ADD_H

#include "transaction.h"

// Adds all that `change` lists. TALLY_MALFORMED (an id that is in use, and what the reader says), TALLY_LIMIT, TALLY_CLASH, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status mirror_add(struct work *work, struct tally_table_reader *change);

#endif
