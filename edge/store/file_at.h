// SPDX-License-Identifier: Apache-2.0
//
// All of it, at a place in a file. Threads: pure functions. errno is as the last call left it.
#ifndef TALLYCAST_EDGE_FILE_AT_H
#define TALLYCAST_EDGE_FILE_AT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Exactly `size` bytes at `offset`; false at the end of the file or on an error.
bool file_read_at(int file, void *out, size_t size, uint64_t offset);
bool file_write_at(int file, const void *data, size_t size, uint64_t offset);

#endif
