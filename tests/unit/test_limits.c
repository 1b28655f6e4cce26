// SPDX-License-Identifier: Apache-2.0
//
// The limits fit each other: what one part may produce, the next may take. Where each is crossed: names in
// test_status.c, test_batch.c; keys, batches and their entries in test_batch.c; tables, rows (ids) and frames
// in test_frame.c and the vectors; frame file entries in test_framefile.c; records, producers and tables of a
// state in the server's tests; chunks and readers in the mirror's; control messages, answers and queries in
// test_messages.c; HTTP sizes in the rim's.
#include "../support/build.h"
#include "../support/with_cmocka.h"

#include <tallycast/limits.h>

static void test_fit_each_other(void **state)
{
    (void)state;
    // A full record makes a frame that fits. An entry of a batch is 4 bytes at least: tag and size, a key of
    // 1 byte, an amount of 1. Its row in a frame is that key, an id gap of at most 4 bytes, a size of 1 and a
    // value of at most 2; longer keys and amounts add to both alike.
    assert_true(TALLY_ROWS_MAX <= 1u << 28);
    assert_true((uint64_t)TALLY_RECORD_BYTES_MAX / 4 * (1 + 4 + 1 + 2) <= TALLY_FRAME_BYTES_MAX);
    assert_true(TALLY_BATCH_BYTES_MAX < TALLY_RECORD_BYTES_MAX);
    assert_true(TALLY_CHUNK_BYTES_MAX <= TALLY_FRAME_BYTES_MAX);
    assert_true(TALLY_ANSWER_BYTES_MAX > TALLY_FRAME_BYTES_MAX);
    // A chunk holds some rows of the longest keys beside its header and names.
    assert_true(TALLY_CHUNK_BYTES_MAX >
                16 * (TALLY_KEY_BYTES_MAX + 32) + TALLY_TABLES_MAX * (TALLY_NAME_BYTES_MAX + 32));
    // Ids are 32 bits on the wire, sizes of entries in a frame file too.
    assert_true(TALLY_ROWS_MAX <= UINT32_MAX && TALLY_FRAME_BYTES_MAX <= UINT32_MAX);
    // A key, percent-encoded, fits into a URL with the rest of the path.
    assert_true(TALLY_HTTP_URL_BYTES_MAX >= 3 * TALLY_KEY_BYTES_MAX + 3 * TALLY_NAME_BYTES_MAX + 64);
    // A query by JSON with the longest keys as base64 or escaped fits the body.
    assert_true(TALLY_HTTP_BODY_BYTES_MAX >= 2ull * TALLY_KEY_BYTES_MAX * 2 * TALLY_QUERY_KEYS_MAX / 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_fit_each_other)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
