// SPDX-License-Identifier: Apache-2.0
//
// The snapshot of a server: a frame file (framefile.h) of one version.
//
//   "TALLYF1\n"
//   Producers            who counted what until then, the longest silent first; which log it belongs to; what the tables are
//   StatePart ...        as many as Producers says: what tables hold beside their rows (state_beside.h)
//   Frame, Frame ...     the whole state in chunks, as any holder of the version writes them
//
// The frames are written piece by piece from a pinned view, so that a big state does not hold up ticks; what comes before them is written to
// memory when the snapshot begins, since the state moves on. All is loaded into a fresh state that verifies it. Snapshots from before there were
// definitions and parts have none: their tables are counters.
// Threads: belongs to the core's thread.
#ifndef TALLYCAST_SERVER_SNAPSHOT_H
#define TALLYCAST_SERVER_SNAPSHOT_H

#include <tallycast/framefile.h>
#include <tallycast/mirror.h>

#include "state.h"

struct tally_snapshot_header {
    struct tally_bytes dataset;
    uint64_t lineage;
    uint64_t epoch, version;
    uint64_t time_ms; // of the last record
};

struct tally_snapshot_writer {
    struct tally_view view;
    struct tally_cursor cursor;
    uint32_t chunk;
    bool begun, done;
    uint64_t version, bytes;
};

// Pins the newest version of `reader`'s mirror, which is the state's, and appends magic and Producers to `out`. TALLY_NO_MEMORY;
// TALLY_NOT_FOUND at version 0.
TALLY_CHECKED enum tally_status tally_snapshot_begin(struct tally_snapshot_writer *writer, struct tally_reader *reader,
                                                     const struct tally_state *state, uint64_t lineage,
                                                     struct tally_writer *out);

// Appends the next chunk to `out`; `scratch` and `chunk` hold TALLY_CHUNK_BYTES_MAX each. writer->done after the last. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_snapshot_next(struct tally_snapshot_writer *writer, uint8_t *scratch,
                                                    uint8_t *chunk, struct tally_writer *out);

// Unpins. Null-safe in the sense that a writer of zeros is fine.
void tally_snapshot_end(struct tally_snapshot_writer *writer);

// Checks the magic and the Producers of a file. TALLY_MALFORMED, TALLY_CORRUPT, TALLY_LIMIT.
TALLY_CHECKED enum tally_status tally_snapshot_open(struct tally_bytes file, struct tally_snapshot_header *out_header);

// Fills a fresh state of the same dataset, and verifies it. What tally_state_load_chunk says; TALLY_MALFORMED for a file that is cut short, has
// something behind its end, or whose Producers are not of its state.
TALLY_CHECKED enum tally_status tally_snapshot_load(struct tally_bytes file, struct tally_state *state);

// Has a mirror take all chunks of a file but the last, which is given back: the mirror publishes the state when that is applied, too, which
// is for when tally_snapshot_load, perhaps at the same time in another thread, has taken the file for good. What
// tally_mirror_apply says; TALLY_MALFORMED for a file that is cut short.
TALLY_CHECKED enum tally_status tally_snapshot_stage(struct tally_bytes file, struct tally_mirror *mirror,
                                                     struct tally_memory *memory, struct tally_bytes *out_last);

#endif
