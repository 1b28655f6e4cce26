// SPDX-License-Identifier: Apache-2.0
//
// What the files of the state share among themselves.
#ifndef TALLYCAST_SERVER_STATE_PARTS_H
#define TALLYCAST_SERVER_STATE_PARTS_H

#include <tallycast/fingerprint.h>

#include "state.h"

// Begins the next table; there must be room.
struct tally_state_table *tally_state_table_begin(struct tally_state *state, struct tally_bytes name);

#endif
