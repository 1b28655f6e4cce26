// SPDX-License-Identifier: Apache-2.0
//
// What the files of the state share among themselves.
#ifndef TALLYCAST_SERVER_STATE_PARTS_H
#define TALLYCAST_SERVER_STATE_PARTS_H

#include <tallycast/fingerprint.h>

#include "state.h"

// Begins the next table; there must be room. The definition is complete.
struct tally_state_table *tally_state_table_begin(struct tally_state *state, struct tally_bytes name,
                                                  const struct tally_definition *definition);

// Begins a table that was admitted, in the record that is being applied, and what belongs to it.
struct tally_state_table *tally_state_table_create(struct tally_state *state, struct tally_bytes name,
                                                   const struct tally_definition *definition);

// What the tables of a record's definitions are from now on. What the state would not admit changes nothing.
TALLY_CHECKED enum tally_status tally_state_define(struct tally_state *state, struct tally_record_reader *reader);

// Room for a sketch of every row of a distinct table. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_state_sketches_reserve(struct tally_state *state,
                                                             struct tally_state_table *table);

// What a topk table counts, begun when it is not. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_state_topk_begin(struct tally_state *state, struct tally_state_table *table);

// After all batches, before anything is told: the values of rows that follow from what lies beside them, or from other tables.
TALLY_CHECKED enum tally_status tally_state_conclude(struct tally_state *state);

// ---------------------------------------------------------------------------------------------------- frames

// Room for so many changes. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_state_changes_reserve(struct tally_state *state, size_t needed);

// Appends the sealed frame from version `from`, with so many tables, to this one: what the list of changes says. `again`: the figures have
// counted that already. TALLY_LIMIT: it is larger than frame_bytes_max, and nothing was appended; TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_state_write_changes(struct tally_state *state, uint64_t from, uint32_t tables,
                                                          bool again, struct tally_writer *out);

// ---------------------------------------------------------------------------------------------------- rows

// Before a row changes: its first touch in a record notes what it was.
void tally_state_row_touch(struct tally_state_table *table, uint32_t id);

// A new row of value 0; no live row has its fingerprint. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_state_row_begin(struct tally_state *state, struct tally_state_table *table,
                                                      uint64_t fingerprint, struct tally_bytes key, uint32_t *out_id);

// A live row leaves, with all that belongs to it. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_state_row_leave(struct tally_state *state, struct tally_state_table *table,
                                                      uint32_t id);

#endif
