// SPDX-License-Identifier: Apache-2.0
//
// The records of a server's log as lines, for tests: log_records DIR [VERSION]
//
// DIR is the folder `log` of a data directory that no server has open, or a copy of it. From VERSION on (the oldest that is kept):
//
//   record<TAB>VERSION<TAB>TIME_MS<TAB>EPOCH                the epoch is 0 unless one begins here
//   batch<TAB>PRODUCER<TAB>SEQUENCE                         of the record before
//   entry<TAB>TABLE<TAB>KIND<TAB>HOW<TAB>KEY<TAB>AMOUNT     of the batch before; HOW is `add`, `adjust`, or `member`: AMOUNT is its hash then
//
// as they are in the log: batches that are repeats, or that the state refuses, are there, too. Keys are written raw: those of the tests have neither
// tabs nor newlines. Ends with 1, and says why, when something does not read.
#include <inttypes.h>
#include <server/lmdb/log_lmdb.h>
#include <server/src/record.h>
#include <stdio.h>
#include <stdlib.h>
#include <tallycast/batch.h>

static void must(enum tally_status status, const char *what, uint64_t version)
{
    if (!status) return;
    (void)fprintf(stderr, "log_records: %s of version %" PRIu64 ": %s\n", what, version, tally_status_str(status));
    exit(1);
}

static void print_entries(struct tally_entries_reader *entries)
{
    struct tally_bytes key;
    int64_t amount;
    while (tally_entries_next(entries, &key, &amount)) {
        (void)printf("entry\t%.*s\t%s\t%s\t", (int)entries->table.size, (const char *)entries->table.data,
                     tally_kind_name(entries->kind),
                     entries->members  ? "member"
                     : entries->adjust ? "adjust"
                                       : "add");
        (void)fwrite(key.data, 1, key.size, stdout);
        (void)printf("\t%" PRId64 "\n", amount);
    }
}

static void print_record(struct tally_bytes bytes, uint64_t version)
{
    struct tally_record_reader record;
    struct tally_bytes message;
    must(tally_record_open(bytes, &record), "record", version);
    if (record.header.version != version) must(TALLY_CORRUPT, "number", version);
    (void)printf("record\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n", version, record.header.time_ms,
                 record.header.epoch);
    while (tally_record_next(&record, &message)) {
        struct tally_batch_reader batch;
        struct tally_entries_reader entries;
        must(tally_batch_open(message, &batch), "batch", version);
        (void)printf("batch\t%" PRIu64 "\t%" PRIu64 "\n", batch.header.producer, batch.header.sequence);
        while (tally_batch_next_table(&batch, &entries)) print_entries(&entries);
    }
}

int main(int argc, char **argv)
{
    struct tally_record_log *log;
    char text[512] = "";
    uint64_t first, last;
    bool continuous;
    if (argc < 2 || argc > 3) {
        (void)fputs("usage: log_records DIR [VERSION]\n", stderr);
        return 2;
    }
    const struct tally_log_lmdb_options options = {.dir = argv[1]};
    enum tally_status status = tally_log_lmdb_open(&options, &tally_alloc_libc, &log, text, sizeof text);
    if (status) {
        (void)fprintf(stderr, "log_records: %s: %s\n", argv[1], text[0] ? text : tally_status_str(status));
        return 1;
    }
    log->ops->range(log, &first, &last, &continuous);
    uint64_t from = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    for (uint64_t version = from > first ? from : first; version && version <= last; version++) {
        struct tally_bytes bytes;
        must(log->ops->read(log, version, &bytes), "record", version);
        print_record(bytes, version);
    }
    log->ops->close(log);
    return 0;
}
