// SPDX-License-Identifier: Apache-2.0
//
// The reads of http.h answered from a native mirror (tallycast/mirror.h).
// Threads: the mirror may be applied to by its one applier meanwhile.
#ifndef TALLYCAST_IO_READS_NATIVE_H
#define TALLYCAST_IO_READS_NATIVE_H

#include <io/http.h>

struct tally_reads_native;

// `mirror` must outlive it. Fills the view and reader slots of *out_source, and its ctx; the caller fills
// state, ready, metrics and now_ms, which get `owner` through tally_reads_native_owner(ctx). TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_reads_native_create(struct tally_mirror *mirror, void *owner,
                                                          struct tally_reads_native **out_reads,
                                                          struct tally_http_source *out_source);
// Has `ready(owner)` called before each view is pinned, by the thread that pins; its status, if not TALLY_OK, is that of the pin. Before the reads begin.
void tally_reads_native_before(struct tally_reads_native *reads, enum tally_status (*ready)(void *owner));
void tally_reads_native_destroy(struct tally_reads_native **reads);
void *tally_reads_native_owner(void *source_ctx);

#endif
