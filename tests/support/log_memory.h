// SPDX-License-Identifier: Apache-2.0
//
// A record log and a snapshot store in memory, with faults on demand: for tests of the server's core and for the simulator. They
// survive the server that uses them: `close` does nothing, test_log_free and test_snapshots_free do.
// Threads: an object belongs to one thread.
#ifndef TALLY_TEST_LOG_MEMORY_H
#define TALLY_TEST_LOG_MEMORY_H

#include <server/src/record_log.h>
#include <server/src/snapshot_store.h>
#include <stdlib.h>

// ---------------------------------------------------------------------------------------------------- log

struct test_log {
    struct tally_record_log log; // hand out &log
    bool identified;
    struct tally_log_identity identity;
    struct tally_bytes *records; // of versions first, first + 1 ...
    size_t count, capacity;
    uint64_t first;
    bool discontinuous;            // what `range` says
    enum tally_status fail_append; // what the next appends give
    enum tally_status fail_read;
    uint64_t appends;
};

static inline struct test_log *test_log_of(struct tally_record_log *log) { return (struct test_log *)(void *)log; }

static inline void test_log_drop(struct test_log *log, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) free((void *)(uintptr_t)log->records[i].data);
}

static inline enum tally_status test_log_identity(struct tally_record_log *log, struct tally_log_identity *out)
{
    if (!test_log_of(log)->identified) return TALLY_NOT_FOUND;
    *out = test_log_of(log)->identity;
    return TALLY_OK;
}

static inline enum tally_status test_log_reset(struct tally_record_log *log, const struct tally_log_identity *identity)
{
    struct test_log *test = test_log_of(log);
    test_log_drop(test, 0, test->count);
    test->count = 0;
    test->identity = *identity;
    test->identified = true;
    return TALLY_OK;
}

static inline void test_log_range(struct tally_record_log *log, uint64_t *out_first, uint64_t *out_last,
                                  bool *out_continuous)
{
    struct test_log *test = test_log_of(log);
    *out_first = test->count ? test->first : 0;
    *out_last = test->count ? test->first + test->count - 1 : 0;
    *out_continuous = !test->discontinuous;
}

static inline enum tally_status test_log_append(struct tally_record_log *log, uint64_t version,
                                                struct tally_bytes record)
{
    struct test_log *test = test_log_of(log);
    if (test->fail_append) return test->fail_append;
    if (test->count == 0) test->first = version;
    if (version != test->first + test->count) return TALLY_INVALID;
    if (test->count == test->capacity) {
        test->capacity = test->capacity ? test->capacity * 2 : 16;
        test->records = realloc(test->records, test->capacity * sizeof *test->records);
    }
    uint8_t *copy = malloc(record.size);
    memcpy(copy, record.data, record.size);
    test->records[test->count++] = tally_bytes(copy, record.size);
    test->appends++;
    return TALLY_OK;
}

static inline enum tally_status test_log_read(struct tally_record_log *log, uint64_t version, struct tally_bytes *out)
{
    struct test_log *test = test_log_of(log);
    if (test->fail_read) return test->fail_read;
    if (test->count == 0 || version < test->first || version - test->first >= test->count) return TALLY_NOT_FOUND;
    *out = test->records[version - test->first];
    return TALLY_OK;
}

static inline enum tally_status test_log_trim(struct tally_record_log *log, uint64_t version, bool *out_more)
{
    struct test_log *test = test_log_of(log);
    size_t drop = 0;
    while (drop + 1 < test->count && test->first + drop < version) drop++;
    test_log_drop(test, 0, drop);
    if (drop) memmove(test->records, test->records + drop, (test->count - drop) * sizeof *test->records);
    test->first += drop;
    test->count -= drop;
    *out_more = false;
    return TALLY_OK;
}

static inline void test_log_close(struct tally_record_log *log) { (void)log; }

// Loses the newest `records`, as a disk does that lied about having them.
static inline void test_log_lose(struct test_log *log, size_t records)
{
    if (records > log->count) records = log->count;
    test_log_drop(log, log->count - records, log->count);
    log->count -= records;
}

static inline struct test_log test_log(void)
{
    static const struct tally_record_log_ops ops = {
        .identity = test_log_identity,
        .reset = test_log_reset,
        .range = test_log_range,
        .append = test_log_append,
        .read = test_log_read,
        .trim = test_log_trim,
        .close = test_log_close,
    };
    return (struct test_log){.log = {&ops}};
}

static inline void test_log_free(struct test_log *log)
{
    test_log_drop(log, 0, log->count);
    free(log->records);
    *log = test_log();
}

// ---------------------------------------------------------------------------------------------------- snapshots

struct test_snapshot {
    uint64_t version;
    uint8_t *data;
    size_t size;
};

struct test_snapshots {
    struct tally_snapshot_store store; // hand out &store
    struct test_snapshot kept[2];      // the newest first
    struct test_snapshot open;         // being written
    bool begun;
    enum tally_status fail_begin, fail_write, fail_commit;
    uint64_t commits;
};

static inline struct test_snapshots *test_snapshots_of(struct tally_snapshot_store *store)
{
    return (struct test_snapshots *)(void *)store;
}

static inline enum tally_status test_snapshots_load(struct tally_snapshot_store *store, uint32_t nth,
                                                    uint64_t *out_version, struct tally_bytes *out_bytes)
{
    struct test_snapshots *test = test_snapshots_of(store);
    if (nth >= 2 || !test->kept[nth].data) return TALLY_NOT_FOUND;
    *out_version = test->kept[nth].version;
    *out_bytes = tally_bytes(test->kept[nth].data, test->kept[nth].size);
    return TALLY_OK;
}

static inline void test_snapshots_abort(struct tally_snapshot_store *store)
{
    struct test_snapshots *test = test_snapshots_of(store);
    free(test->open.data);
    test->open = (struct test_snapshot){0};
    test->begun = false;
}

static inline enum tally_status test_snapshots_begin(struct tally_snapshot_store *store, uint64_t version)
{
    struct test_snapshots *test = test_snapshots_of(store);
    if (test->fail_begin) return test->fail_begin;
    if (test->begun) return TALLY_INVALID;
    test->begun = true;
    test->open = (struct test_snapshot){.version = version};
    return TALLY_OK;
}

static inline enum tally_status test_snapshots_write(struct tally_snapshot_store *store, struct tally_bytes bytes)
{
    struct test_snapshots *test = test_snapshots_of(store);
    if (test->fail_write) return test->fail_write;
    test->open.data = realloc(test->open.data, test->open.size + bytes.size);
    memcpy(test->open.data + test->open.size, bytes.data, bytes.size);
    test->open.size += bytes.size;
    return TALLY_OK;
}

static inline enum tally_status test_snapshots_commit(struct tally_snapshot_store *store)
{
    struct test_snapshots *test = test_snapshots_of(store);
    if (test->fail_commit) return test->fail_commit;
    free(test->kept[1].data);
    test->kept[1] = test->kept[0];
    test->kept[0] = test->open;
    test->open = (struct test_snapshot){0};
    test->begun = false;
    test->commits++;
    return TALLY_OK;
}

static inline void test_snapshots_close(struct tally_snapshot_store *store) { test_snapshots_abort(store); }

static inline struct test_snapshots test_snapshots(void)
{
    static const struct tally_snapshot_store_ops ops = {
        .load = test_snapshots_load,
        .begin = test_snapshots_begin,
        .write = test_snapshots_write,
        .commit = test_snapshots_commit,
        .abort = test_snapshots_abort,
        .close = test_snapshots_close,
    };
    return (struct test_snapshots){.store = {&ops}};
}

static inline void test_snapshots_free(struct test_snapshots *test)
{
    free(test->kept[0].data);
    free(test->kept[1].data);
    free(test->open.data);
    *test = test_snapshots();
}

#endif
