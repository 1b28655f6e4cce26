// SPDX-License-Identifier: Apache-2.0
//
// What the server's core needs of a log: the total order of records, kept for good. Adapters: server/lmdb/log_lmdb.h; in memory,
// for tests and the simulator: tests/support/log_memory.h.
//
// Threads: a log belongs to the thread that drives the core. Every function may block on the disk.
// An implementation embeds struct tally_record_log as its first member.
#ifndef TALLYCAST_SERVER_RECORD_LOG_H
#define TALLYCAST_SERVER_RECORD_LOG_H

#include <tallycast/limits.h>
#include <tallycast/siphash.h>
#include <tallycast/status.h>

// Who a log is. Written once, when the log is new.
struct tally_log_identity {
    uint8_t dataset[TALLY_NAME_BYTES_MAX];
    size_t dataset_bytes;
    uint64_t lineage;       // drawn with the log's birth: ties snapshots to the log they were taken from
    uint64_t epoch;         // of version 0; later ones follow from the records
    struct tally_seed seed; // of version 0
    uint64_t created_ms;
};

struct tally_record_log;

struct tally_record_log_ops {
    // TALLY_NOT_FOUND: a new log, nobody yet. TALLY_CORRUPT, TALLY_UNSUPPORTED, TALLY_IO.
    enum tally_status (*identity)(struct tally_record_log *log, struct tally_log_identity *out_identity);

    // Makes the log this one's and empty, durably. TALLY_IO, TALLY_NO_SPACE.
    enum tally_status (*reset)(struct tally_record_log *log, const struct tally_log_identity *identity);

    // The oldest and newest version kept; 0 and 0 when there is none. `out_continuous` is false when records at the end
    // may have been lost since they were acknowledged (not synchronous, and not closed cleanly): the next record must
    // then begin a new epoch.
    void (*range)(struct tally_record_log *log, uint64_t *out_first, uint64_t *out_last, bool *out_continuous);

    // Appends the record of `version`, which is the newest kept plus one (or any, right after reset and on an empty log). On TALLY_OK it is
    // as durable as the log was told to be; the first one after an open or a reset, which may begin an epoch, is durable in any case.
    // Otherwise it may or may not be there after a restart: the caller must stop.
    // TALLY_NO_SPACE, TALLY_IO, TALLY_NO_MEMORY, TALLY_LIMIT.
    enum tally_status (*append)(struct tally_record_log *log, uint64_t version, struct tally_bytes record);

    // The record of `version`, borrowed until the next call on this log. Its seal is the caller's to check (tally_record_open).
    // TALLY_NOT_FOUND, TALLY_CORRUPT, TALLY_IO.
    enum tally_status (*read)(struct tally_record_log *log, uint64_t version, struct tally_bytes *out_record);

    // Lets go of records before `version`; the newest record always stays. May do a part of it only: *out_more then. TALLY_IO, TALLY_NO_SPACE.
    enum tally_status (*trim)(struct tally_record_log *log, uint64_t version, bool *out_more);

    // Closes and frees it.
    void (*close)(struct tally_record_log *log);
};

struct tally_record_log {
    const struct tally_record_log_ops *ops;
};

#endif
