// SPDX-License-Identifier: Apache-2.0
//
// How many files a process may have open. Each connection is one; the soft limit of a login is often 1,024, which is fewer than a server
// may have subscribers, and NNG's listener says nothing when accept fails for it: it tries again, and the peer waits.
#ifndef TALLYCAST_IO_FILES_H
#define TALLYCAST_IO_FILES_H

#include <stdint.h>

// Raises the soft limit to the hard one and warns (event=few_files) when that leaves fewer than TALLY_FILES_FEW. What is then the limit; 0: it
// is not known. Threads: before others start.
uint64_t tally_files_raise(void);

#define TALLY_FILES_FEW 4096u

#endif
