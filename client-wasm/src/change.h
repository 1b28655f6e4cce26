// SPDX-License-Identifier: Apache-2.0
//
// The rows that a frame changes. In a transaction; after any status but TALLY_OK it can only be aborted.
#ifndef TALLYCAST_CHANGE_H
#define TALLYCAST_CHANGE_H

#include "transaction.h"

// Changes all that `change` lists. TALLY_MALFORMED (an id that is not in use, a value that overflows, and what the reader says), TALLY_LIMIT,
// TALLY_NO_MEMORY. Takes scratch out of the arena for the time of the call; with none to have it is only slower.
TALLY_CHECKED enum tally_status mirror_change(struct work *work, struct tally_table_reader *change);

#endif
