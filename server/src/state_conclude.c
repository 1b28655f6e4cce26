// SPDX-License-Identifier: Apache-2.0
//
// What follows at the end of a record from what its batches did: the estimates of sketches that changed.
#include "state_parts.h"

static void conclude_distinct(struct tally_state_table *table)
{
    struct tally_rows_walk walk = {0};
    uint32_t id;
    while (tally_rows_touched(&table->rows, &walk, &id)) {
        struct tally_state_row *row = &table->rows.rows[id];
        if (!tally_row_live(row)) continue;
        int64_t estimate = tally_sketch_estimate(table->sketches[id], table->definition.precision);
        if (estimate > row->value) row->value = estimate;
    }
}

enum tally_status tally_state_conclude(struct tally_state *state)
{
    for (uint32_t i = 0; i < state->tables_count; i++) {
        if (state->tables[i].definition.kind == TALLY_KIND_DISTINCT) conclude_distinct(&state->tables[i]);
    }
    return TALLY_OK;
}
