// SPDX-License-Identifier: Apache-2.0
//
// The merge: events of one kind made one per (table, key) until they leave as one batch, as the server would make them one: amounts of a
// counter or a topk are summed, of a gauge the last one holds (or, to adjust it, they are summed), of a min or a max the least or the
// greatest; members of a key are kept once each.
//
// Open addressing over a fixed number of entries, key bytes in one run of memory; everything is taken at
// creation, so its memory is bounded and adding never allocates. Hashing is SipHash under a random key: input
// cannot choose to collide. Threads: an object belongs to one thread.
#ifndef TALLYCAST_CLI_MERGE_H
#define TALLYCAST_CLI_MERGE_H

#include <tallycast/batch.h>
#include <tallycast/limits.h>
#include <tallycast/siphash.h>

struct cli_merge;

// `batch_bytes_max`: what an encoded batch of it may take, 4096 to TALLY_BATCH_BYTES_MAX. `kind` unspecified: a counter, and the batches do not
// say so. Null: out of memory.
struct cli_merge *cli_merge_create(size_t batch_bytes_max, enum tally_kind kind, bool adjust, struct tally_seed seed);
void cli_merge_destroy(struct cli_merge **merge);

// Adds `amount` (of a distinct table: a member) to (table, key), names, sizes and amounts checked by the caller. TALLY_OK; TALLY_FULL: it
// would not fit into one batch any more, or its sum leaves what an amount may be: take the batch out and add again. An
// empty merge takes anything. Cost: one hash.
TALLY_CHECKED enum tally_status cli_merge_add(struct cli_merge *merge, struct tally_bytes table, struct tally_bytes key,
                                              int64_t amount);

size_t cli_merge_entries(const struct cli_merge *merge);
uint64_t cli_merge_events(const struct cli_merge *merge); // adds since the last take

// Appends a sealed Request with everything in it, tables in order of their first event, and empties the
// merge. `writer`: out, body, entries and amounts set up by the caller. TALLY_NO_MEMORY: nothing was taken
// out.
TALLY_CHECKED enum tally_status cli_merge_take(struct cli_merge *merge, const struct tally_batch_header *header,
                                               struct tally_batch_writer *writer);

#endif
