// SPDX-License-Identifier: Apache-2.0
//
// The record log in LMDB: one append-only table, version (8 bytes, big-endian) to record; one synchronous transaction an append.
//
// LMDB notices neither flipped bits nor a file that was cut short (the latter is a SIGBUS). Hence: records carry their own seal, which the core
// checks; before LMDB maps the file, its size is held against the last page that its two meta pages name (they are read by
// hand); the file goes on behind its last page for longer than any record, as a hole, so that a good one is never shorter than that page and
// that what a damaged page points to still lies in the file; sizes of what LMDB hands out are checked; its assertions end in TALLY_CORRUPT. Damage to inner pages that none of
// this sees can still bring the process down when it writes; the seals of the records are checked again when it starts.
//
// Not synchronous: commits are written but not waited for. A crash of the process loses nothing, a crash of the machine may lose the end, or damage
// the file. A mark in the file tells the next one that it was not closed cleanly, and the core then begins a new epoch.
//
// Threads: belongs to one thread. No fork while it is open, and not twice in one process.
#ifndef TALLYCAST_SERVER_LOG_LMDB_H
#define TALLYCAST_SERVER_LOG_LMDB_H

#include <tallycast/alloc.h>

#include "../src/record_log.h"

struct tally_log_lmdb_options {
    const char *dir; // made if need be (mode 0700); its parent must be there
    bool not_synchronous;
    uint64_t map_bytes_first; // 0: 1 GiB of address space, doubled when it is full
    uint32_t trim_records;    // 0: 256 in one call
};

// TALLY_CORRUPT, TALLY_UNSUPPORTED, TALLY_IO, TALLY_NO_SPACE, TALLY_NO_MEMORY; `text` says what was wrong and where. Whether somebody else has it open is
// the data directory's lock to say (store/data_dir.h).
TALLY_CHECKED enum tally_status tally_log_lmdb_open(const struct tally_log_lmdb_options *options,
                                                    const struct tally_alloc *alloc, struct tally_record_log **out_log,
                                                    char *text, size_t text_bytes);

#endif
