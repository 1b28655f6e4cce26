// SPDX-License-Identifier: Apache-2.0
//
// Looks at LMDB's two meta pages without LMDB, before the file is mapped. The layout is that of data version 1 (LMDB 0.9) on 64-bit machines:
//
//   page      u64 number, u16 pad, u16 flags (8: meta), u32 -                  16 bytes
//   meta      u32 magic 0xBEEFC0DE, u32 version 1, u64 address, u64 mapsize    at 16
//             db free: u32 page size, u16 flags, ... (48 bytes)                at 40
//             db main: 48 bytes                                                at 88
//             u64 last page, u64 transaction                                   at 136
//
// Threads: pure functions over the file.
#ifndef TALLYCAST_SERVER_META_CHECK_H
#define TALLYCAST_SERVER_META_CHECK_H

#include <stddef.h>
#include <stdint.h>
#include <tallycast/status.h>

// TALLY_OK (also for a file that is not there, or empty: LMDB begins a new one), TALLY_CORRUPT with a text: no meta page, or a file shorter than
// the last page of either; TALLY_UNSUPPORTED: another data version; TALLY_IO.
TALLY_CHECKED enum tally_status tally_lmdb_meta_check(const char *path, char *text, size_t text_bytes);

#endif
