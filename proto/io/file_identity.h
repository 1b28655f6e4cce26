// SPDX-License-Identifier: Apache-2.0
//
// Which file lies at a path: to see that another one was put there, or that it was written again. Threads: pure but for the file system.
#ifndef TALLYCAST_IO_FILE_IDENTITY_H
#define TALLYCAST_IO_FILE_IDENTITY_H

#include <stdbool.h>
#include <stdint.h>

struct tally_file_identity {
    uint64_t device, inode, size;
    int64_t changed_ns; // all 0: there is none
};

// All 0 when the path cannot be looked at.
struct tally_file_identity tally_file_identity(const char *path);
bool tally_file_identity_equal(const struct tally_file_identity *a, const struct tally_file_identity *b);

#endif
