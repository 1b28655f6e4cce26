// SPDX-License-Identifier: Apache-2.0
//
// The server's data directory, held by one process at a time:
//
//   lock                                    held by flock(2) as long as the server lives; its text names the file itself, so that a copy is seen
//   log/data.mdb, log/lock.mdb              server/lmdb/log_lmdb.h
//   snapshot-<version, 16 hex digits>.tally snapshot_files.h; the newest two
//   snapshot.tmp                            one that was being written
//
// Threads: any one at a time.
#ifndef TALLYCAST_SERVER_DATA_DIR_H
#define TALLYCAST_SERVER_DATA_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <tallycast/status.h>

struct tally_data_dir {
    int lock;   // file descriptor
    bool moved; // what lies here was copied, or put back from a backup: it may be older than what was served from it
};

// Makes the directory (mode 0700, its parent must be there) if need be and takes the lock, or gives up at once. TALLY_IN_USE: another process
// has it; TALLY_IO, TALLY_NO_SPACE; `text` says what was wrong and where.
TALLY_CHECKED enum tally_status tally_data_dir_open(const char *path, struct tally_data_dir *out_dir, char *text,
                                                    size_t text_bytes);

// When what was found is in use, and the new epoch durable that a moved directory begins: it is at home here from now on. TALLY_IO, TALLY_NO_SPACE:
// the next start takes it for moved again.
TALLY_CHECKED enum tally_status tally_data_dir_settle(struct tally_data_dir *dir);

void tally_data_dir_close(struct tally_data_dir *dir);

#endif
