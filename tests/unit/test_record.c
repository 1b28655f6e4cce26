// SPDX-License-Identifier: Apache-2.0
#include "../support/with_cmocka.h"

#include "../support/build.h"
#include "../support/random.h"

#include <server/src/record.h>
#include <tallycast/limits.h>

static struct tally_bytes write_record(struct tally_writer *out, const struct tally_record_header *header,
                                       const char *const *batches)
{
    struct tally_bytes record;
    tally_record_begin(out);
    for (; *batches; batches++) tally_record_batch(out, test_text(*batches));
    assert_int_equal(tally_record_finish(out, header, &record), TALLY_OK);
    return record;
}

static void test_what_is_written_is_read(void **state)
{
    (void)state;
    static const char *const batches[] = {"first", "", "a batch is any bytes here", NULL};
    const struct tally_record_header headers[] = {{.version = 1},
                                                  {.version = 300, .time_ms = 1790000000000u},
                                                  {.version = UINT64_MAX, .time_ms = UINT64_MAX, .epoch = 7}};
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        struct tally_writer out = test_writer();
        struct tally_record_reader reader;
        struct tally_bytes record = write_record(&out, &headers[i], batches), batch;
        assert_int_equal(tally_record_open(record, &reader), TALLY_OK);
        assert_int_equal(reader.header.version, headers[i].version);
        assert_int_equal(reader.header.time_ms, headers[i].time_ms);
        assert_int_equal(reader.header.epoch, headers[i].epoch);
        assert_int_equal(reader.batches_count, 3);
        for (size_t j = 0; batches[j]; j++) {
            assert_true(tally_record_next(&reader, &batch));
            assert_true(tally_bytes_equal(batch, test_text(batches[j])));
        }
        assert_false(tally_record_next(&reader, &batch));
        test_writer_free(&out);
    }
}

static void test_no_version_and_repeated_fields_are_refused(void **state)
{
    (void)state;
    struct tally_record_reader reader;
    uint8_t bytes[128];
    struct tally_writer out = tally_writer_fixed(bytes, sizeof bytes);
    tally_write_uint(&out, 2, 5);
    tally_seal(&out, 0);
    assert_int_equal(tally_record_open(tally_writer_bytes(&out), &reader), TALLY_MALFORMED);
    out.size = 0;
    tally_write_uint(&out, 1, 5);
    tally_write_uint(&out, 1, 5);
    tally_seal(&out, 0);
    assert_int_equal(tally_record_open(tally_writer_bytes(&out), &reader), TALLY_MALFORMED);
    out.size = 0;
    tally_write_uint(&out, 1, 5);
    tally_write_uint(&out, 3, 5); // a batch that is a number
    tally_seal(&out, 0);
    assert_int_equal(tally_record_open(tally_writer_bytes(&out), &reader), TALLY_MALFORMED);
    out.size = 0;
    tally_write_uint(&out, 1, 5);
    assert_int_equal(tally_record_open(tally_writer_bytes(&out), &reader), TALLY_MALFORMED); // no seal
}

static void test_over_the_limit(void **state)
{
    (void)state;
    struct tally_record_reader reader;
    uint8_t *bytes = calloc(1, TALLY_RECORD_BYTES_MAX + 1);
    assert_non_null(bytes);
    assert_int_equal(tally_record_open(tally_bytes(bytes, TALLY_RECORD_BYTES_MAX + 1), &reader), TALLY_LIMIT);
    free(bytes);
}

static void test_every_flipped_bit_and_every_cut_is_seen(void **state)
{
    (void)state;
    static const char *const batches[] = {"one", "two", NULL};
    struct tally_writer out = test_writer();
    struct tally_record_reader reader;
    struct tally_bytes record = write_record(&out, &(struct tally_record_header){.version = 9, .time_ms = 99}, batches);
    for (size_t bit = 0; bit < record.size * 8; bit++) {
        uint8_t *copy = test_exact_copy(record.data, record.size);
        copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_not_equal(tally_record_open(tally_bytes(copy, record.size), &reader), TALLY_OK);
        free(copy);
    }
    for (size_t size = 0; size < record.size; size++) {
        uint8_t *copy = test_exact_copy(record.data, size);
        assert_int_not_equal(tally_record_open(tally_bytes(copy, size), &reader), TALLY_OK);
        free(copy);
    }
    test_writer_free(&out);
}

// Random fields under a good seal: whatever is accepted can be walked.
static void test_any_sealed_bytes_are_safe(void **state)
{
    (void)state;
    struct test_random random = test_random_start("record: any sealed bytes");
    unsigned accepted = 0;
    for (int i = 0; i < 20000; i++) {
        uint8_t bytes[200];
        struct tally_writer out = tally_writer_fixed(bytes, sizeof bytes);
        struct tally_record_reader reader;
        struct tally_bytes batch;
        for (uint64_t n = test_random_below(&random, 6); n > 0; n--) {
            uint8_t noise[16];
            test_random_fill(&random, noise, sizeof noise);
            uint32_t number = (uint32_t)test_random_between(&random, 1, 6);
            switch (test_random_below(&random, 4)) {
            case 0: tally_write_uint(&out, number, test_random_wide(&random)); break;
            case 1: tally_write_fixed64(&out, number, test_random_wide(&random)); break;
            case 2:
                tally_write_bytes(&out, number, tally_bytes(noise, test_random_below(&random, sizeof noise)));
                break;
            default: tally_write_raw(&out, noise, test_random_below(&random, 4));
            }
        }
        tally_seal(&out, 0);
        uint8_t *copy = test_exact_copy(out.data, out.size);
        if (tally_record_open(tally_bytes(copy, out.size), &reader) == TALLY_OK) {
            uint64_t count = 0, touched = 0;
            while (tally_record_next(&reader, &batch)) {
                for (size_t j = 0; j < batch.size; j++) touched += batch.data[j];
                count++;
            }
            assert_int_equal(count, reader.batches_count);
            accepted += 1 + (touched == UINT64_MAX);
        }
        free(copy);
    }
    assert_true(accepted > 50);
}

static void test_no_memory_can_be_tried_again(void **state)
{
    (void)state;
    uint8_t bytes[64];
    struct tally_bytes record;
    struct tally_record_reader reader;
    const struct tally_record_header header = {.version = 1};
    struct tally_writer out = tally_writer_fixed(bytes, 30);
    tally_record_begin(&out);
    tally_record_batch(&out, test_text("abc"));
    assert_false(out.failed);
    assert_int_equal(tally_record_finish(&out, &header, &record), TALLY_NO_MEMORY);
    out.capacity = sizeof bytes;
    assert_int_equal(tally_record_finish(&out, &header, &record), TALLY_OK);
    assert_int_equal(tally_record_open(record, &reader), TALLY_OK);
    assert_int_equal(reader.batches_count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_written_is_read),
        cmocka_unit_test(test_no_version_and_repeated_fields_are_refused),
        cmocka_unit_test(test_over_the_limit),
        cmocka_unit_test(test_every_flipped_bit_and_every_cut_is_seen),
        cmocka_unit_test(test_any_sealed_bytes_are_safe),
        cmocka_unit_test(test_no_memory_can_be_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
