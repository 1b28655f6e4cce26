// SPDX-License-Identifier: Apache-2.0
#include "../support/with_cmocka.h"

#include "../support/build.h"
#include "../support/random.h"

#include <server/src/history.h>

// Frame to `version`, told apart by its first bytes.
static struct tally_bytes frame_of(uint8_t *memory, uint64_t version, size_t size)
{
    tally_store64(memory, version);
    return tally_bytes(memory, size);
}

static void test_bounded_in_frames_and_bytes(void **state)
{
    (void)state;
    struct test_random random = test_random_start("history: bounds");
    uint8_t memory[1000] = {0};
    for (int round = 0; round < 20; round++) {
        struct tally_history history;
        struct test_alloc alloc;
        test_alloc_init(&alloc);
        uint32_t versions_max = (uint32_t)test_random_between(&random, 1, 40);
        uint64_t bytes_max = test_random_between(&random, 500, 20000), newest = 0;
        assert_int_equal(tally_history_init(&history, versions_max, bytes_max, &alloc.alloc), TALLY_OK);
        tally_history_restart(&history, 9, 5);
        assert_true(tally_history_has(&history, 9, 5));
        size_t sizes[300];
        for (uint64_t version = 6; version < 300; version++) {
            sizes[version] = test_random_between(&random, 8, 1000);
            tally_history_add(&history, frame_of(memory, version, sizes[version]));
            newest = version;
            assert_int_equal(history.last, version);
            assert_true(history.last - history.first <= versions_max);
            assert_true(history.bytes <= bytes_max);
            assert_true(tally_history_has(&history, 9, version));
            assert_false(tally_history_has(&history, 9, version + 1));
            assert_false(tally_history_has(&history, 8, version));
            uint64_t bytes = 0;
            for (uint64_t v = history.first + 1; v <= history.last; v++) {
                struct tally_bytes frame = tally_history_frame(&history, v);
                assert_int_equal(frame.size, sizes[v]);
                assert_int_equal(tally_load64(frame.data), v);
                bytes += frame.size;
            }
            assert_int_equal(bytes, history.bytes);
            assert_int_equal(tally_history_bytes_from(&history, history.first), bytes);
            // As many as fit: one more would not, or there is none.
            uint64_t first = history.first;
            if (first > 5 && sizes[version] <= bytes_max && history.last - first < versions_max)
                assert_true(bytes + sizes[first] > bytes_max);
        }
        assert_int_equal(newest, 299);
        tally_history_restart(&history, 10, 300);
        assert_int_equal(history.bytes, 0);
        tally_history_deinit(&history);
        assert_int_equal(alloc.blocks, 0);
    }
}

static void test_somebody_on_the_way_stretches_it(void **state)
{
    (void)state;
    uint8_t memory[100] = {0};
    struct tally_history history;
    assert_int_equal(tally_history_init(&history, 1000, 1000, &tally_alloc_libc), TALLY_OK);
    tally_history_restart(&history, 1, 1);
    for (uint64_t version = 2; version <= 8; version++) tally_history_add(&history, frame_of(memory, version, 100));
    history.needed_from = 6;
    for (uint64_t version = 9; version <= 20; version++) tally_history_add(&history, frame_of(memory, version, 100));
    assert_int_equal(history.first, 6); // what is before is let go, what is needed is not
    assert_int_equal(history.bytes, 1400);
    for (uint64_t version = 21; version <= 100; version++) tally_history_add(&history, frame_of(memory, version, 100));
    assert_int_equal(history.bytes, 1000 * TALLY_HISTORY_STRETCH); // but not for ever
    history.needed_from = 0;
    tally_history_add(&history, frame_of(memory, 101, 100));
    assert_int_equal(history.bytes, 1000);
    tally_history_deinit(&history);
}

static void test_no_memory_forgets(void **state)
{
    (void)state;
    uint8_t memory[100] = {0};
    struct tally_history history;
    struct test_alloc alloc;
    test_alloc_init(&alloc);
    assert_int_equal(tally_history_init(&history, 10, 1000, &alloc.alloc), TALLY_OK);
    tally_history_restart(&history, 1, 1);
    tally_history_add(&history, frame_of(memory, 2, 50));
    alloc.fail_at = alloc.requests + 1;
    tally_history_add(&history, frame_of(memory, 3, 50));
    assert_int_equal(history.first, 3);
    assert_int_equal(history.last, 3);
    tally_history_add(&history, frame_of(memory, 4, 50));
    assert_true(tally_history_has(&history, 1, 3));
    assert_int_equal(history.bytes, 50);
    tally_history_deinit(&history);
    assert_int_equal(alloc.blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bounded_in_frames_and_bytes),
        cmocka_unit_test(test_somebody_on_the_way_stretches_it),
        cmocka_unit_test(test_no_memory_forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
