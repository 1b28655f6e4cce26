// SPDX-License-Identifier: Apache-2.0
//
// What the files of the state call of aging.c.
#ifndef TALLYCAST_SERVER_AGING_PARTS_H
#define TALLYCAST_SERVER_AGING_PARTS_H

#include "state_parts.h"

// Whether rows of the table age: only then are the next two to be called.
static inline bool tally_table_ages(const struct tally_state_table *table)
{
    return table->definition.ttl_ms || table->definition.window;
}

// An entry of a batch came to a live row, at the state's time. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_aging_count(struct tally_state *state, struct tally_state_table *table,
                                                  uint32_t id, int64_t amount);

// A row is about to leave.
void tally_aging_drop(struct tally_state_table *table, uint32_t id);

// Whether a new key may begin no row of its own.
bool tally_aging_full(const struct tally_state *state, const struct tally_state_table *table, struct tally_bytes key);

// What is due at the state's time.
TALLY_CHECKED enum tally_status tally_aging_advance(struct tally_state *state);

// ---------------------------------------------------------------------------------------------------- as parts of a snapshot

// The panes come from the oldest to the newest: entries of number `pane` follow. Each row has one a pane. TALLY_MALFORMED: it is not in the
// window, out of order, or has a row twice; TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_aging_load_pane(struct tally_state *state, struct tally_state_table *table,
                                                      uint64_t pane);
TALLY_CHECKED enum tally_status tally_aging_load_amount(struct tally_state_table *table, uint64_t pane, uint32_t id,
                                                        int64_t amount);

// Whether all rows of a table that ages have what they need, and the values that their panes make.
bool tally_aging_complete(const struct tally_state_table *table);

// The pane length and count of a windowed table.
static inline uint64_t tally_definition_pane_ms(const struct tally_definition *definition)
{
    return definition->window == TALLY_WINDOW_SLIDING ? definition->pane_ms : definition->window_ms;
}

static inline uint32_t tally_definition_panes(const struct tally_definition *definition)
{
    return (uint32_t)(definition->window_ms / tally_definition_pane_ms(definition));
}

#endif
