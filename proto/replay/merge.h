// SPDX-License-Identifier: Apache-2.0
//
// Merging frames: from a to b, b to c, ... into one from a to c that has the same effect. Per id only the net change stays:
// differences add up, a row that came and went leaves no trace, one that went and came back is removed and added.
// Deterministic: the same frames give the same bytes. Threads: pure function.
#ifndef TALLYCAST_REPLAY_MERGE_H
#define TALLYCAST_REPLAY_MERGE_H

#include <tallycast/alloc.h>
#include <tallycast/frame.h>

// Appends the merged, sealed frame to `out`. Frames are deltas of one epoch and dataset, each whole in one piece, each beginning where the one
// before ends (TALLY_GAP, TALLY_WRONG_EPOCH, TALLY_WRONG_DATASET, TALLY_INVALID for none or for a whole state). Frames that contradict
// each other: TALLY_MALFORMED; over TALLY_FRAME_BYTES_MAX: TALLY_LIMIT; TALLY_NO_MEMORY. Cost: O(rows log rows) over all frames, memory 40 bytes a row.
TALLY_CHECKED enum tally_status tally_frame_merge(const struct tally_bytes *frames, size_t count,
                                                  const struct tally_alloc *alloc, struct tally_writer *out);

#endif
