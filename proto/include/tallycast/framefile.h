// SPDX-License-Identifier: Apache-2.0
//
// The frame file: sealed messages end to end, as a server's snapshot, an edge's stored copy and GET /v1/snapshot hold them.
//
//   "TALLYF1\n"                                   8 bytes
//   { u32 size, little-endian; size bytes }       a sealed Frame; in a server's snapshot a sealed Producers may precede them
//
// Reading walks bytes in place. A file that was cut short (a torn tail) ends with TALLY_MALFORMED after the last whole
// entry, and `at` tells where the good part ends.
#ifndef TALLYCAST_FRAMEFILE_H
#define TALLYCAST_FRAMEFILE_H

#include <tallycast/wire.h>

#define TALLY_FRAMEFILE_MAGIC       "TALLYF1\n"
#define TALLY_FRAMEFILE_MAGIC_BYTES 8u

struct tally_framefile {
    struct tally_bytes bytes;
    size_t at; // offset of the next entry
};

// TALLY_MALFORMED when the magic is not there.
TALLY_CHECKED enum tally_status tally_framefile_open(struct tally_bytes bytes, struct tally_framefile *out_file);

// The next entry, borrowed, seal not checked. TALLY_NOT_FOUND at the end; TALLY_LIMIT for a size over TALLY_FRAME_BYTES_MAX;
// TALLY_MALFORMED when the entry is cut short. On failure `at` stays.
TALLY_CHECKED enum tally_status tally_framefile_next(struct tally_framefile *file, struct tally_bytes *out_message);

void tally_framefile_begin(struct tally_writer *writer);
void tally_framefile_append(struct tally_writer *writer, struct tally_bytes message);

#endif
