// SPDX-License-Identifier: Apache-2.0
//
// The batch reader, inside a Request and alone: opens, walks all entries, and writes what it read anew.
#include "../support/build.h"
#include "fuzz.h"

#include <tallycast/limits.h>

// Writes the opened batch into a Request. Keys with amounts come first, as the writer wants them.
static void copy(struct tally_batch_reader reader, struct test_batch *again)
{
    struct tally_entries_reader entries;
    struct tally_bytes key;
    int64_t amount;
    size_t count = 0;
    tally_batch_begin(&again->writer, &reader.header);
    while (tally_batch_next_table(&reader, &entries)) {
        FUZZ_CHECK(tally_name_valid(entries.table));
        FUZZ_CHECK(entries.kind < TALLY_KINDS);
        tally_batch_table_begin_as(&again->writer, entries.table, entries.kind, entries.adjust);
        for (; tally_entries_next(&entries, &key, &amount); count++) {
            FUZZ_CHECK(key.size >= 1 && key.size <= TALLY_KEY_BYTES_MAX);
            if (entries.members)
                tally_batch_add_member(&again->writer, key, (uint64_t)amount);
            else
                tally_batch_add(&again->writer, key, amount);
        }
        FUZZ_CHECK(tally_wire_done(&entries.keys) && tally_wire_done(&entries.amounts));
        for (; tally_entries_next_removed(&entries, &key); count++) {
            FUZZ_CHECK(key.size >= 1 && key.size <= TALLY_KEY_BYTES_MAX);
            tally_batch_remove(&again->writer, key);
        }
        tally_batch_table_end(&again->writer);
    }
    FUZZ_CHECK(count <= TALLY_BATCH_ENTRIES_MAX);
    FUZZ_CHECK(tally_batch_finish(&again->writer) == TALLY_OK);
}

static void walk_batch(struct tally_bytes message)
{
    struct tally_batch_reader reader;
    if (tally_batch_open(message, &reader) != TALLY_OK) return;
    FUZZ_CHECK(tally_name_valid(reader.header.dataset) && reader.header.producer && reader.header.sequence);
    struct test_batch first, second;
    struct tally_bytes inner;
    test_batch_init(&first);
    test_batch_init(&second);
    copy(reader, &first);
    // Padded varints shrink and nothing grows but by the seal; then the writer's own bytes are the same however often.
    FUZZ_CHECK(tally_request_batch(test_batch_bytes(&first), &inner) == TALLY_OK);
    FUZZ_CHECK(tally_batch_open(inner, &reader) == TALLY_OK);
    copy(reader, &second);
    FUZZ_CHECK(tally_bytes_equal(test_batch_bytes(&first), test_batch_bytes(&second)));
    test_batch_free(&first);
    test_batch_free(&second);
}

static void walk_request(struct tally_bytes message)
{
    struct tally_bytes batch;
    if (tally_request_batch(message, &batch) == TALLY_OK) walk_batch(batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_both(data, size, walk_request);
    walk_batch(tally_bytes(data, size));
    return 0;
}
