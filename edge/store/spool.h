// SPDX-License-Identifier: Apache-2.0
//
// The spool on disk: what the edge counted and no server has acknowledged. Unlike the stored copy beside it this is no cache: nobody else has
// it. So what is written is synced before it is told as written.
//
//   DIR/count.spool   "TALLYS1\n", then groups: size (4 bytes, little-endian), check (8 bytes: SipHash-1-3 of the group under the key of
//                     seals, docs/protocol.md), the group (edge/src/producer_log.c)
//   DIR/count.new     the next count.spool, while it is written
//   DIR/count.bad     a spool that was damaged, kept for whoever can make something of it
//
// A group that was cut short by a crash is the last one, and was never told as written: it is cut off. One that is damaged and has a good
// one behind it is another matter: what came after it may take back what stands before it, so nothing of such a spool is used. It is set aside and
// told of, and counting begins anew. So it is with the first group: it was whole before the file had its name.
//
// Threads: one at a time, but for stats; a thread of its own writes. The directory is locked by the stored copy (store.h).
#ifndef TALLYCAST_EDGE_SPOOL_H
#define TALLYCAST_EDGE_SPOOL_H

#include <io/reason.h>
#include <tallycast/bytes.h>
#include <tallycast/status.h>

struct tally_spool;

// Opens the directory; the spool is made with the first write. TALLY_IO (with the reason: it cannot be read or written), TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_spool_open(const char *directory, struct tally_spool **out_spool,
                                                 struct tally_reason *out_reason);

// Reads it, once, before tally_spool_start: each group, borrowed. A status of `group` ends it and is returned. TALLY_CORRUPT: damaged, as above;
// *out_reason says where. TALLY_NO_MEMORY, TALLY_IO. Nothing there: TALLY_OK. Cuts off a last group that was cut short.
TALLY_CHECKED enum tally_status tally_spool_boot(struct tally_spool *spool,
                                                 enum tally_status (*group)(void *ctx, struct tally_bytes group),
                                                 void *ctx, struct tally_reason *out_reason);
// Sets the spool aside as count.bad. TALLY_IO.
TALLY_CHECKED enum tally_status tally_spool_set_aside(struct tally_spool *spool);

// `written` is called on the spool's thread, once for each write. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_spool_start(struct tally_spool *spool,
                                                  void (*written)(void *ctx, enum tally_status status), void *ctx);

// Writes a group (copied) behind what is there, or, `anew`, in the place of all of it, and syncs it: all of it or nothing, whatever
// crashes. One at a time. TALLY_NO_SPACE, TALLY_IO or TALLY_NO_MEMORY by `written`: then nothing may be appended, the next must be anew.
void tally_spool_write(struct tally_spool *spool, bool anew, struct tally_bytes group);

// Ends the thread when what it writes is written; frees. Null-safe, clears the pointer.
void tally_spool_close(struct tally_spool **spool);

#endif
