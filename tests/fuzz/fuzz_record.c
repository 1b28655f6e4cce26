// SPDX-License-Identifier: Apache-2.0
//
// The log record: opens, walks its batches, opens those, and writes what it read anew.
#include "fuzz.h"

#include <server/src/record.h>
#include <tallycast/batch.h>

static void walk(struct tally_bytes message)
{
    struct tally_record_reader reader;
    if (tally_record_open(message, &reader) != TALLY_OK) return;
    struct tally_record_header header = reader.header;
    struct tally_writer writer = test_writer();
    struct tally_bytes batch, record;
    uint64_t count = 0;
    tally_record_begin(&writer);
    for (; tally_record_next(&reader, &batch); count++) {
        struct tally_batch_reader opened;
        FUZZ_CHECK(batch.data >= message.data && batch.data + batch.size <= message.data + message.size);
        (void)!tally_batch_open(batch, &opened);
        tally_record_batch(&writer, batch);
    }
    FUZZ_CHECK(count == reader.batches_count);
    uint64_t definitions = 0, read = 0;
    for (; tally_record_next_definition(&reader, &batch); definitions++) {
        struct tally_definition definition;
        struct tally_bytes table;
        const char *why;
        if (tally_definition_read(batch, &table, &definition)) continue;
        tally_record_definition(&writer, table, &definition);
        read++;
        if (tally_definition_complete(&definition, table, &why)) continue;
        // What is complete is complete.
        struct tally_definition again = definition;
        FUZZ_CHECK(tally_definition_complete(&again, table, &why) == TALLY_OK);
        FUZZ_CHECK(tally_definition_equal(&again, &definition));
    }
    FUZZ_CHECK(definitions == reader.definitions_count);
    FUZZ_CHECK(tally_record_finish(&writer, &header, &record) == TALLY_OK);
    struct tally_record_reader again;
    FUZZ_CHECK(tally_record_open(record, &again) == TALLY_OK);
    FUZZ_CHECK(again.header.version == header.version && again.header.time_ms == header.time_ms);
    FUZZ_CHECK(again.header.epoch == header.epoch && again.batches_count == count && again.definitions_count == read);
    test_writer_free(&writer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_both(data, size, walk);
    return 0;
}
