// SPDX-License-Identifier: Apache-2.0
//
// What became of the rows of a state since the version that a mirror of it has: the changes of several records, net, so that the mirror can take
// them as one frame. A row that changed in each of ten records is told once, and a page is copied once.
//
//   what[id]         0: as the mirror has it. CHANGED: by differences[id]. REMOVED, ADDED: the row of the mirror left; the one that is there now is
//                    new. Both: one after the other. A row that came and went leaves nothing.
//   differences[id]  of values; those of one row add up to a difference of two of its values, so they fit wherever these do
//
// Keys and values of rows that are new are the state's, which is at the newest version: so a frame can lead to that one only.
//
// Threads: belongs to the state's thread. Memory: 9 bytes an id of each table with changes, while there are any.
#ifndef TALLYCAST_SERVER_BEHIND_H
#define TALLYCAST_SERVER_BEHIND_H

#include "state.h"

struct tally_behind_table {
    uint8_t *what;
    int64_t *differences;
    uint32_t capacity; // ids
};

struct tally_behind {
    const struct tally_alloc *alloc;
    uint32_t versions; // noted; 0: the mirror has the newest one
    uint32_t tables;   // that the mirror has
    struct tally_behind_table table[TALLY_TABLES_MAX];
};

void tally_behind_init(struct tally_behind *behind, const struct tally_alloc *alloc);
void tally_behind_deinit(struct tally_behind *behind);

// Adds what the record that the state applied last did; each in order, none that was told as a whole state. TALLY_NO_MEMORY: what is noted is of no use any
// more, forget it. Cost: the changes.
TALLY_CHECKED enum tally_status tally_behind_note(struct tally_behind *behind, const struct tally_state *state);

// Appends the frame from the mirror's version to the state's, sealed, and leaves what is noted as it is. The list of changes of the last record is
// overwritten. TALLY_LIMIT: it is larger than a frame may be; TALLY_NO_MEMORY. Cost: the ids of tables with changes.
TALLY_CHECKED enum tally_status tally_behind_write(const struct tally_behind *behind, struct tally_state *state,
                                                   struct tally_writer *out);

// The mirror has the newest version. `keep`: the memory, for more of the same.
void tally_behind_forget(struct tally_behind *behind, bool keep);

#endif
