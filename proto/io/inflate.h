// SPDX-License-Identifier: Apache-2.0
//
// Bodies that come packed: gzip (zlib) and zstd, made plain within a bound. Threads: pure functions.
#ifndef TALLYCAST_IO_INFLATE_H
#define TALLYCAST_IO_INFLATE_H

#include <tallycast/wire.h>

enum tally_packing { TALLY_PACKING_NONE, TALLY_PACKING_GZIP, TALLY_PACKING_ZSTD };

// The packing that a Content-Encoding names ("" and "identity": none), whatever the case of its letters. False: another one, or several.
bool tally_packing_of(const char *name, enum tally_packing *out_packing);

// Appends the plain bytes to `out`, at most `bytes_max` of them. Several members or frames one after another are one run of bytes. Memory: that of
// `out`, and windows of at most 8 MiB. TALLY_LIMIT: more would come; TALLY_MALFORMED: no such packing, damaged, or cut short; TALLY_NO_MEMORY. After a
// failure `out` holds some of it.
TALLY_CHECKED enum tally_status tally_inflate(enum tally_packing packing, struct tally_bytes packed, size_t bytes_max,
                                              struct tally_writer *out);

#endif
