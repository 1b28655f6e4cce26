// SPDX-License-Identifier: Apache-2.0
#include "../support/memory.h"
#include "../support/random.h"
#include "../support/with_cmocka.h"

#include <tallycast/framefile.h>
#include <tallycast/limits.h>

enum { ENTRIES_MAX = 10 };

// Torn at every byte: the whole entries before the tear are read, then it is said that the file is torn, and
// `at` is where.
static void test_torn_anywhere(void **state)
{
    (void)state;
    struct test_random random = test_random_start("framefile");
    for (unsigned round = 0; round < 50; round++) {
        uint8_t bytes[ENTRIES_MAX][40];
        size_t sizes[ENTRIES_MAX], ends[ENTRIES_MAX + 1], count = test_random_below(&random, ENTRIES_MAX);
        struct tally_writer writer = test_writer();
        tally_framefile_begin(&writer);
        ends[0] = writer.size;
        assert_int_equal(ends[0], TALLY_FRAMEFILE_MAGIC_BYTES);
        for (size_t i = 0; i < count; i++) {
            sizes[i] = test_random_below(&random, sizeof bytes[i]);
            test_random_fill(&random, bytes[i], sizes[i]);
            tally_framefile_append(&writer, tally_bytes(bytes[i], sizes[i]));
            ends[i + 1] = writer.size;
        }
        assert_false(writer.failed);
        for (size_t cut = 0; cut <= writer.size; cut++) {
            uint8_t *exact = test_exact_copy(writer.data, cut);
            struct tally_framefile file = {.at = 77};
            struct tally_bytes message = {exact, 77};
            enum tally_status status = tally_framefile_open(tally_bytes(exact, cut), &file);
            if (cut < TALLY_FRAMEFILE_MAGIC_BYTES) {
                assert_int_equal(status, TALLY_MALFORMED);
                assert_int_equal(file.at, 77);
                free(exact);
                continue;
            }
            assert_int_equal(status, TALLY_OK);
            size_t whole = 0;
            for (; whole < count && ends[whole + 1] <= cut; whole++) {
                assert_int_equal(tally_framefile_next(&file, &message), TALLY_OK);
                assert_true(tally_bytes_equal(message, tally_bytes(bytes[whole], sizes[whole])));
                assert_int_equal(file.at, ends[whole + 1]);
            }
            message.size = 77;
            assert_int_equal(tally_framefile_next(&file, &message),
                             ends[whole] == cut ? TALLY_NOT_FOUND : TALLY_MALFORMED);
            assert_int_equal(file.at, ends[whole]);
            assert_int_equal(message.size, 77);
            free(exact);
        }
        test_writer_free(&writer);
    }
}

static void test_not_a_frame_file(void **state)
{
    (void)state;
    struct tally_framefile file;
    assert_int_equal(tally_framefile_open(tally_bytes(NULL, 0), &file), TALLY_MALFORMED);
    uint8_t magic[] = TALLY_FRAMEFILE_MAGIC;
    for (size_t bit = 0; bit < 64; bit++) {
        magic[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(tally_framefile_open(tally_bytes(magic, 8), &file), TALLY_MALFORMED);
        magic[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_entry_over_the_limit(void **state)
{
    (void)state;
    size_t size = TALLY_FRAMEFILE_MAGIC_BYTES + 4 + TALLY_FRAME_BYTES_MAX + 1;
    uint8_t *bytes = calloc(1, size);
    struct tally_framefile file;
    struct tally_bytes message;
    memcpy(bytes, TALLY_FRAMEFILE_MAGIC, TALLY_FRAMEFILE_MAGIC_BYTES);
    tally_store32(bytes + TALLY_FRAMEFILE_MAGIC_BYTES, TALLY_FRAME_BYTES_MAX);
    assert_int_equal(tally_framefile_open(tally_bytes(bytes, size), &file), TALLY_OK);
    assert_int_equal(tally_framefile_next(&file, &message), TALLY_OK);
    assert_int_equal(message.size, TALLY_FRAME_BYTES_MAX);
    static const uint32_t over[] = {TALLY_FRAME_BYTES_MAX + 1, UINT32_MAX, UINT32_MAX - 3};
    for (unsigned i = 0; i < 3; i++) {
        tally_store32(bytes + TALLY_FRAMEFILE_MAGIC_BYTES, over[i]);
        assert_int_equal(tally_framefile_open(tally_bytes(bytes, size), &file), TALLY_OK);
        assert_int_equal(tally_framefile_next(&file, &message), TALLY_LIMIT);
        assert_int_equal(file.at, TALLY_FRAMEFILE_MAGIC_BYTES);
    }
    free(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torn_anywhere),
        cmocka_unit_test(test_not_a_frame_file),
        cmocka_unit_test(test_entry_over_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
