// SPDX-License-Identifier: Apache-2.0
//
// A change in one frame, cut into chunks that are each of a bounded size: the same header in each but for `chunk` and `more`, the rows in the
// order in which they apply (per table: removed, changed, added), so that a mirror that takes all chunks has what the frame would have given it.
//
//   tally_split_begin(frame, &split);  do tally_split_next(&split, ...); while (more)
//
// A copy of the struct is the place: a chunk can be made again from there. Threads: an object belongs to one thread.
#ifndef TALLYCAST_REPLAY_SPLIT_H
#define TALLYCAST_REPLAY_SPLIT_H

#include <tallycast/alloc.h>
#include <tallycast/frame.h>

enum tally_split_list { TALLY_SPLIT_REMOVED, TALLY_SPLIT_CHANGED, TALLY_SPLIT_ADDED };

struct tally_split {
    struct tally_frame_reader reader;
    struct tally_table_reader table;
    bool in_table;
    enum tally_split_list list; // that is being walked
    // The row that was read and did not fit any more.
    bool has_row;
    uint32_t id;
    int64_t number; // difference or value
    struct tally_bytes key;
    uint32_t chunk; // number of the next
};

// `frame` is a sealed frame in one piece, borrowed for as long as the split is used. Status as tally_frame_open; TALLY_INVALID for a chunk.
TALLY_CHECKED enum tally_status tally_split_begin(struct tally_bytes frame, struct tally_split *out_split);

// Appends the next chunk, of at most `bytes_max` (8 KiB at least), sealed, to `out`. The caller calls on until *out_more is false.
// TALLY_NO_MEMORY, or what is wrong with the frame; then the split is of no use any more. Cost: O(rows of the chunk).
TALLY_CHECKED enum tally_status tally_split_next(struct tally_split *split, size_t bytes_max,
                                                 const struct tally_alloc *alloc, struct tally_writer *out,
                                                 bool *out_more);

#endif
