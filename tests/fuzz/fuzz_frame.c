// SPDX-License-Identifier: Apache-2.0
//
// The frame reader: opens, walks all rows, and writes what it read anew; that must read as the same.
#include "../support/build.h"
#include "fuzz.h"

#include <tallycast/limits.h>

// Walks a frame and writes it again. TALLY_OK when it is fine to the end.
static enum tally_status copy(struct tally_bytes message, struct test_frame *again)
{
    struct tally_frame_reader reader;
    struct tally_table_reader table;
    uint32_t id, last;
    int64_t number;
    struct tally_bytes key;
    enum tally_status status = tally_frame_open(message, &reader);
    if (status) return status;
    FUZZ_CHECK(tally_name_valid(reader.header.dataset) && reader.header.from < reader.header.to);
    tally_frame_begin(&again->writer, &reader.header);
    while ((status = tally_frame_next_table(&reader, &table)) == TALLY_OK) {
        FUZZ_CHECK(table.table < TALLY_TABLES_MAX);
        tally_frame_table_begin(&again->writer, table.table, table.name, table.kind);
        tally_frame_table_rows(&again->writer, table.rows);
        for (last = 0; (status = tally_table_next_removed(&table, &id)) == TALLY_OK; last = id + 1) {
            FUZZ_CHECK(id >= last && id < TALLY_ROWS_MAX);
            tally_frame_removed(&again->writer, id);
        }
        if (status != TALLY_NOT_FOUND) return status;
        for (last = 0; (status = tally_table_next_changed(&table, &id, &number)) == TALLY_OK; last = id + 1) {
            FUZZ_CHECK(id >= last && id < TALLY_ROWS_MAX);
            tally_frame_changed(&again->writer, id, number);
        }
        if (status != TALLY_NOT_FOUND) return status;
        for (last = 0; (status = tally_table_next_added(&table, &id, &key, &number)) == TALLY_OK; last = id + 1) {
            FUZZ_CHECK(id >= last && id < TALLY_ROWS_MAX);
            FUZZ_CHECK(key.size >= 1 && key.size <= TALLY_KEY_BYTES_MAX);
            tally_frame_added(&again->writer, id, key, number);
        }
        if (status != TALLY_NOT_FOUND) return status;
        tally_frame_table_end(&again->writer);
    }
    if (status != TALLY_NOT_FOUND) return status;
    return tally_frame_finish(&again->writer);
}

static void walk(struct tally_bytes message)
{
    struct test_frame first, second;
    test_frame_init(&first);
    test_frame_init(&second);
    if (copy(message, &first) == TALLY_OK) {
        // The writer's own bytes are the same however often.
        FUZZ_CHECK(copy(test_frame_bytes(&first), &second) == TALLY_OK);
        FUZZ_CHECK(tally_bytes_equal(test_frame_bytes(&first), test_frame_bytes(&second)));
    }
    test_frame_free(&first);
    test_frame_free(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_both(data, size, walk);
    return 0;
}
