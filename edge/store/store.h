// SPDX-License-Identifier: Apache-2.0
//
// The stored copy: what an edge boots from when it starts, before or without any server. It is a cache: everything in it is
// verified again by the mirror when it is read, and whatever is lost or damaged is fetched anew. So frames are written as they come, without
// fsync; only a rewritten file is synced, before it takes the place of the old one.
//
//   DIR/lock            held (flock) as long as the process lives: a second edge on the same directory is refused
//   DIR/copy.frames     frame file (tallycast/framefile.h): the chunks of a whole state, then the deltas since, in order
//   DIR/copy.new        the next copy.frames, while it is written
//   DIR/copy.bad        the last copy that did not verify, kept for whoever wants to know why
//
// Bounded: when the deltas have grown past twice the whole state (and 1 MiB), or do not follow each other any more, the file is written anew
// from a pinned view. All writing happens on a thread of its own, which reads through its own reader; the frames that wait for
// it are bounded too, past which they are dropped and the file is written anew.
//
// A disk that is full, or refuses, costs the copy, nothing else: it is logged once, counted, and tried again later.
#ifndef TALLYCAST_EDGE_STORE_H
#define TALLYCAST_EDGE_STORE_H

#include <io/http.h>
#include <io/reason.h>
#include <tallycast/bytes.h>
#include <tallycast/status.h>

struct tally_store_options {
    const char *directory; // made when it is not there; borrowed for the call
    struct tally_bytes dataset;
    // 0 takes the default. Tests make them small.
    uint64_t deltas_bytes_min; // 1 MiB: deltas up to this are always kept
    uint64_t queue_bytes_max;  // 64 MiB: frames waiting to be written
    unsigned retry_ms;         // 30000: after a failure
    unsigned rewrite_ms_max;   // 60000: a rewrite that takes longer is given up, for it holds a view
};

struct tally_store;

// Makes the directory where it is missing, and locks it. TALLY_IN_USE (another edge), TALLY_INVALID (it is no directory), TALLY_NO_MEMORY, each with
// the reason. One that cannot be written (a full disk, a read-only one, no right to) is no error: it is logged, what is stored
// is read, and nothing is written.
TALLY_CHECKED enum tally_status tally_store_open(const struct tally_store_options *options,
                                                 struct tally_store **out_store, struct tally_reason *out_reason);

struct tally_store_boot {
    void *ctx;
    // Takes the next message of the copy (borrowed): TALLY_OK, with the version that is held now; TALLY_MORE, TALLY_OLD; anything else ends it.
    enum tally_status (*message)(void *ctx, struct tally_bytes frame, uint64_t *out_epoch, uint64_t *out_version);
};

// Reads the copy, once, before tally_store_start. A tail that was cut short or does not verify is cut off; a copy of which nothing
// verifies is set aside; both are logged. TALLY_OK (also when there is nothing), or TALLY_WRONG_DATASET with the reason: the directory
// belongs to another dataset, and is left as it is.
TALLY_CHECKED enum tally_status tally_store_boot(struct tally_store *store, const struct tally_store_boot *boot,
                                                 struct tally_reason *out_reason);

// Starts the writing thread, which reads through `source` as its reader number `reader`. `source` must outlive the store. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_store_start(struct tally_store *store, const struct tally_http_source *source,
                                                  unsigned reader);

// Thread: any one at a time. Neither blocks but for a mutex held for a few instructions.
// The frame was applied: it leads from the version before to the one now held. Copied.
void tally_store_append(struct tally_store *store, struct tally_bytes frame);
// The way to the held version is not one frame: write it anew.
void tally_store_rebase(struct tally_store *store);

struct tally_store_stats {
    uint64_t base_bytes, deltas_bytes; // of copy.frames
    uint64_t queue_bytes;              // waiting
    uint64_t appended, rewrites;
    uint64_t failures;                    // writes that failed
    uint64_t overflows;                   // times that the queue was full
    uint64_t booted_bytes, refused_bytes; // of the copy at start
    uint64_t epoch, version;              // what the copy leads to
    bool failing;                         // the last write failed, or nothing can be written at all
};

// Thread: any.
void tally_store_stats(struct tally_store *store, struct tally_store_stats *out_stats);

// Writes what waits, and the copy anew where that is due, for at most grace_ms; then ends the thread, closes its reader, lets go of the
// directory and frees. Null-safe, clears the pointer.
void tally_store_close(struct tally_store **store, unsigned grace_ms);

#endif
