// SPDX-License-Identifier: Apache-2.0
//
// Snapshots as files of the data directory (data_dir.h). A new one is written beside the others, synced, renamed, and the directory synced: a
// crash leaves the old ones, or all. Threads: belongs to the thread that drives the core.
#ifndef TALLYCAST_SERVER_SNAPSHOT_FILES_H
#define TALLYCAST_SERVER_SNAPSHOT_FILES_H

#include <tallycast/alloc.h>

#include "../src/snapshot_store.h"

// `dir` is copied. What a crash left half written is removed. TALLY_IO, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_snapshot_files_open(const char *dir, const struct tally_alloc *alloc,
                                                          struct tally_snapshot_store **out_store, char *text,
                                                          size_t text_bytes);

#endif
