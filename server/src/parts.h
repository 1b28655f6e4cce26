// SPDX-License-Identifier: Apache-2.0
//
// What a state holds beside its rows, as messages (StatePart) of a snapshot file: sketches, what topk tables count, when rows were touched, what is in the panes of windows. A table's
// parts come in order and are small, so that reading and writing one takes a bounded moment.
// Threads: belongs to the state's thread.
#ifndef TALLYCAST_SERVER_PARTS_H
#define TALLYCAST_SERVER_PARTS_H

#include "state.h"

// Entries of one part at most; sketches of one.
#define TALLY_PART_ENTRIES_MAX  (1u << 15)
#define TALLY_PART_SKETCHES_MAX 64u
#define TALLY_PART_KEYS_MAX     512u // of a topk table

// How many there are. Cost: the tables and their panes.
uint64_t tally_parts_count(const struct tally_state *state);

// Appends them all as entries of a frame file. TALLY_NO_MEMORY: what was appended is of no use. Cost: all that they hold, at once: about 6 bytes and
// 30 ns a row with a ttl and an entry of a pane.
TALLY_CHECKED enum tally_status tally_parts_write(const struct tally_state *state, struct tally_writer *out);

// Takes one, of a state whose rows and definitions are loaded. TALLY_MALFORMED, TALLY_CORRUPT, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_part_load(struct tally_state *state, struct tally_bytes message);

// After the last one: whether they fit the rows. TALLY_MALFORMED.
TALLY_CHECKED enum tally_status tally_parts_verify(const struct tally_state *state);

#endif
