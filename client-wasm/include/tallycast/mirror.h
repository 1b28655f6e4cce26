// SPDX-License-Identifier: Apache-2.0
//
// The mirror: an immutable map of one version of a dataset, the means to go to the next, and lock-free reads.
//
// A mirror lives in one run of memory that the host gives, refers to itself by offsets only, and so means the same in
// a private mapping, in WASM linear memory and in memory shared by threads that each have their own instance.
//
// Threads. One applier at a time calls the functions that take `struct tally_memory *`. Any number of readers (to
// TALLY_READERS_MAX) read at the same time, each through its own `struct tally_reader`, which belongs to one thread at a
// time. A read never waits, never loops over a change, never takes a lock and never sees two versions.
//
// Nothing unverified is served: an apply builds the next version beside the current one, compares the digest, and only then swaps
// one pointer. Whatever status an apply returns other than TALLY_OK, the version that was readable before still is.
//
// Retired memory is reclaimed by what readers announce, never by time. A reader that holds a view for ever holds the
// garbage of all versions since: past `retired_bytes_max` applies answer TALLY_STALLED until it lets go.
#ifndef TALLYCAST_MIRROR_H
#define TALLYCAST_MIRROR_H

#include <tallycast/digest.h>
#include <tallycast/frame.h>
#include <tallycast/limits.h>
#include <tallycast/status.h>

// ---------------------------------------------------------------------------------------------------- memory

// A run of memory that can grow in place. Filled in by the host (native/memory.h has one over mmap; the WASM modules use
// memory.grow). Used by the applier only.
struct tally_memory {
    void *base;      // aligned to 64; never moves; zeroed
    size_t size;     // bytes usable now
    size_t size_max; // bytes that `size` may grow to
    // Makes at least `size_min` bytes usable (new bytes zeroed) and updates `size`; false when it cannot. Null: fixed size.
    bool (*grow)(struct tally_memory *memory, size_t size_min);
};

// ---------------------------------------------------------------------------------------------------- mirror

struct tally_mirror;

struct tally_mirror_options {
    struct tally_bytes dataset; // copied; 1 to TALLY_NAME_BYTES_MAX bytes
    uint64_t retired_bytes_max; // 0: as much as half of memory->size_max
};

// Builds an empty mirror (epoch 0, version 0, no rows, nothing to read) at memory->base. The mirror owns the memory until the host
// takes it back; there is nothing to destroy. TALLY_INVALID, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_mirror_init(struct tally_memory *memory,
                                                  const struct tally_mirror_options *options,
                                                  struct tally_mirror **out_mirror);

// Takes one frame, or one chunk of one. `frame` is borrowed for the call.
//   TALLY_OK               the frame's version is published
//   TALLY_MORE             a chunk is staged; the change is published with its last chunk
//   TALLY_OLD              this version, or a later one of this or a later epoch, is held: nothing to do
//   TALLY_GAP              a delta that starts elsewhere, or a chunk that does not follow the last one
//   TALLY_WRONG_EPOCH      a delta of another epoch: a whole state is needed
//   TALLY_WRONG_DATASET, TALLY_MALFORMED, TALLY_CORRUPT, TALLY_LIMIT, TALLY_UNSUPPORTED, TALLY_CLASH
//   TALLY_DIGEST_MISMATCH  the result is not the state that the server cut
//   TALLY_NO_MEMORY        memory->size_max is reached, or grow failed
//   TALLY_STALLED          readers hold more than retired_bytes_max
// A refused chunk abandons what was staged. Cost: O(changed rows); copies each touched page once.
TALLY_CHECKED enum tally_status tally_mirror_apply(struct tally_mirror *mirror, struct tally_memory *memory,
                                                   struct tally_bytes frame);

// Forgets staged chunks. Nothing happens when there are none.
void tally_mirror_abandon(struct tally_mirror *mirror, struct tally_memory *memory);

// A server said at its time `now_ms` that (epoch, version) is its newest. Makes the held version as fresh as that when it is
// that one; otherwise does nothing.
void tally_mirror_confirm(struct tally_mirror *mirror, uint64_t epoch, uint64_t version, uint64_t now_ms);

struct tally_mirror_stats {
    uint64_t reads, hits, misses;      // over all readers, those closed included
    uint64_t applies, refused;         // frames (and chunks) taken, frames refused (TALLY_OLD is neither)
    uint64_t swaps;                    // versions published
    uint64_t rows_changed;             // removed + changed + added rows published since init
    uint64_t retired_bytes;            // waiting for readers to let go
    uint64_t used_bytes, memory_bytes; // allocated; taken from the host
    uint32_t readers, stalled_readers; // open; holding a view of an earlier version
};

// Thread: any. The figures are each exact, but not of one instant.
void tally_mirror_stats(const struct tally_mirror *mirror, struct tally_mirror_stats *out_stats);

// ---------------------------------------------------------------------------------------------------- readers and views

// One thread's seat at a mirror: the caller's storage.
struct tally_reader {
    struct tally_mirror *mirror;
    uint32_t slot;
};

// Takes a free slot; TALLY_FULL when all TALLY_READERS_MAX are taken. Close it with no view pinned.
TALLY_CHECKED enum tally_status tally_reader_open(struct tally_mirror *mirror, struct tally_reader *out_reader);
void tally_reader_close(struct tally_reader *reader);

// Closes the seat of a thread that is gone, wherever it stopped: in the middle of a view, or of a call. What it pinned is let go. Thread: any one, when
// it is certain that the owner runs no more.
void tally_reader_evict(struct tally_reader *reader);

// A pinned version. All reads through one view are of one version. Views may overlap; each is unpinned once.
struct tally_view {
    struct tally_reader *reader;
    const struct tally_root *root;
};

// Cost: one store, one fence, one load.
void tally_view_pin(struct tally_reader *reader, struct tally_view *out_view);
void tally_view_unpin(struct tally_view *view);

struct tally_view_info {
    uint64_t epoch, version; // both 0: nothing was applied yet
    uint64_t cut_ms;         // when this version was cut, server's Unix milliseconds
    uint64_t fresh_ms;       // when it was last known to be the newest; age is the host's now minus this
    struct tally_digest digest;
    struct tally_seed seed;
    uint64_t rows;
    uint32_t tables;
};

void tally_view_info(const struct tally_view *view, struct tally_view_info *out_info);

struct tally_table_info {
    struct tally_bytes name; // borrowed from the view
    enum tally_kind kind;
    uint64_t rows;
};

// Tables are numbered 0 to info.tables - 1. A number stays the table's own for one epoch.
TALLY_CHECKED enum tally_status tally_view_table_info(const struct tally_view *view, uint32_t table,
                                                      struct tally_table_info *out_info);
TALLY_CHECKED enum tally_status tally_view_table(const struct tally_view *view, struct tally_bytes name,
                                                 uint32_t *out_table);

// TALLY_OK, TALLY_NOT_FOUND (also for a table number out of range). Cost: one hash of the key and, usually, one cache line of rows.
TALLY_CHECKED enum tally_status tally_view_get(const struct tally_view *view, uint32_t table, struct tally_bytes key,
                                               int64_t *out_value);

// As `count` times get, with the memory latencies overlapped. Fills all of out_values (0 where absent) and out_found.
void tally_view_get_many(const struct tally_view *view, uint32_t table, const struct tally_bytes *keys, size_t count,
                         int64_t *out_values, bool *out_found);

// One key of the newest version: pin, get, unpin. The pin's fence lets no two such reads overlap in memory: from a table that no cache holds each takes
// as long as a read that waits for the one before (175 ns of 1M names, where reads through one view take 112; 25 and 20 of 10,000). For several keys
// pin a view.
TALLY_CHECKED enum tally_status tally_get(struct tally_reader *reader, struct tally_bytes table_name,
                                          struct tally_bytes key, int64_t *out_value);

// ---------------------------------------------------------------------------------------------------- listing

// A place in the listing order: by table, then by id. Start with {0}. It stays meaningful for the same version only.
struct tally_cursor {
    uint32_t table;
    uint32_t id;
};

struct tally_row {
    uint32_t table, id;
    struct tally_bytes key; // borrowed from the view
    int64_t value;
};

// The next row; false after the last.
bool tally_view_next(const struct tally_view *view, struct tally_cursor *cursor, struct tally_row *out_row);

// Writes the next chunk of the view's whole state as a sealed frame (from 0) into `out`, which must hold TALLY_CHUNK_BYTES_MAX. The
// caller starts with *cursor {0} and *chunk 0 and goes on until *out_more is false; both are advanced. `scratch`
// must hold TALLY_CHUNK_BYTES_MAX too. A function of the version alone: any holder of the version writes the same bytes.
// TALLY_NOT_FOUND for a view of version 0.
TALLY_CHECKED enum tally_status tally_view_write_chunk(const struct tally_view *view, struct tally_cursor *cursor,
                                                       uint32_t *chunk, uint8_t *scratch, uint8_t *out,
                                                       size_t *out_bytes, bool *out_more);

#endif
