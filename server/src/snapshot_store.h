// SPDX-License-Identifier: Apache-2.0
//
// Where the server's core keeps snapshot files (snapshot.h has their content). The newest two are kept: when the newest does not
// verify, the one before and a longer piece of the log give the same state. Adapters: server/store/snapshot_files.h; in memory: tests/support/.
//
// Threads: belongs to the thread that drives the core. Every function may block on the disk.
// An implementation embeds struct tally_snapshot_store as its first member.
#ifndef TALLYCAST_SERVER_SNAPSHOT_STORE_H
#define TALLYCAST_SERVER_SNAPSHOT_STORE_H

#include <tallycast/bytes.h>
#include <tallycast/status.h>

struct tally_snapshot_store;

struct tally_snapshot_store_ops {
    // The nth newest snapshot (0: the newest), whole, borrowed until the next call on this store. TALLY_NOT_FOUND when there are
    // not so many; TALLY_IO, TALLY_NO_MEMORY.
    enum tally_status (*load)(struct tally_snapshot_store *store, uint32_t nth, uint64_t *out_version,
                              struct tally_bytes *out_bytes);

    // Lets go of what load gave. May be null.
    void (*release)(struct tally_snapshot_store *store);

    // Begins a new snapshot beside the others; write appends; commit makes it durable under its name and lets go of all but the newest two;
    // abort (also after a failed write or commit) leaves no trace. One at a time. TALLY_IO, TALLY_NO_SPACE.
    enum tally_status (*begin)(struct tally_snapshot_store *store, uint64_t version);
    enum tally_status (*write)(struct tally_snapshot_store *store, struct tally_bytes bytes);
    enum tally_status (*commit)(struct tally_snapshot_store *store);
    void (*abort)(struct tally_snapshot_store *store);

    // Closes and frees it; aborts what was begun.
    void (*close)(struct tally_snapshot_store *store);
};

struct tally_snapshot_store {
    const struct tally_snapshot_store_ops *ops;
};

#endif
