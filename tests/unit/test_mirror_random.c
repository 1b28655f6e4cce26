// SPDX-License-Identifier: Apache-2.0
//
// The mirror against a naive model: random changes, chunks, whole states, views of old versions, memory.
#include "../support/mirror_model.h"
#include "../support/with_cmocka.h"

#include "../../client-wasm/src/layout.h"

#define MEMORY_BYTES ((size_t)32 << 20)
#define COPY_BYTES   ((size_t)16 << 20)
#define VIEWS_BYTES  ((size_t)256 << 20) // views kept for long hold much

static struct model model_start(struct test_random *random)
{
    struct model model = {.epoch = 7, .cut_ms = 1000, .seed = {test_random_next(random), test_random_next(random)}};
    return model;
}

// Every line that is used is the header's, of the newest version, waiting for readers, or of a staged change.
static void check_accounts(const struct tally_mirror *mirror)
{
    if (mirror->transaction.open) return;
    uint64_t header = lines_of(sizeof *mirror) * LINE_BYTES;
    uint64_t retired = atomic_load(&mirror->retired_bytes);
    assert_true(mirror->arena.used_lines * LINE_BYTES == header + mirror->live_bytes + retired);
}

// A second mirror that takes the view's chunks is the same, and writes the same bytes.
static void check_copy(const struct tally_view *view, const struct model *model)
{
    struct test_memory memory;
    test_memory_init(&memory, COPY_BYTES);
    struct tally_mirror *copy = test_mirror(&memory, "main", 0);
    struct tally_reader reader;
    struct tally_view second;
    uint8_t *scratch = malloc(TALLY_CHUNK_BYTES_MAX), *out = malloc(TALLY_CHUNK_BYTES_MAX);
    uint8_t *again = malloc(TALLY_CHUNK_BYTES_MAX);
    struct tally_cursor cursor = {0, 0}, cursor_again = {0, 0};
    uint32_t chunk = 0, chunk_again = 0;
    size_t bytes, bytes_again;
    bool more = true, more_again;
    while (more) {
        assert_int_equal(tally_view_write_chunk(view, &cursor, &chunk, scratch, out, &bytes, &more), TALLY_OK);
        assert_true(bytes <= TALLY_CHUNK_BYTES_MAX);
        enum tally_status status = tally_mirror_apply(copy, &memory.memory, tally_bytes(out, bytes));
        assert_int_equal(status, more ? TALLY_MORE : TALLY_OK);
    }
    check_accounts(copy);
    assert_int_equal(tally_reader_open(copy, &reader), TALLY_OK);
    tally_view_pin(&reader, &second);
    model_check(&second, model);
    cursor = (struct tally_cursor){0, 0};
    chunk = 0;
    for (more = true; more;) {
        assert_int_equal(tally_view_write_chunk(view, &cursor, &chunk, scratch, out, &bytes, &more), TALLY_OK);
        assert_int_equal(
            tally_view_write_chunk(&second, &cursor_again, &chunk_again, scratch, again, &bytes_again, &more_again),
            TALLY_OK);
        assert_true(bytes == bytes_again && more == more_again && memcmp(out, again, bytes) == 0);
    }
    tally_view_unpin(&second);
    tally_reader_close(&reader);
    free(scratch);
    free(out);
    free(again);
    test_memory_deinit(&memory);
}

// ---------------------------------------------------------------------------------------------------- random changes

#define VIEWS_KEPT 4u

static void run_random(const char *name, const struct model_mix *mix, unsigned steps)
{
    struct test_random random = test_random_start(name);
    struct test_memory memory;
    test_memory_init(&memory, VIEWS_BYTES);
    struct tally_mirror *mirror = test_mirror(&memory, "main", VIEWS_BYTES);
    struct tally_reader readers[VIEWS_KEPT];
    struct tally_view views[VIEWS_KEPT];
    struct model kept[VIEWS_KEPT] = {{0}}, model = model_start(&random), before;
    uint32_t next_key = 0;
    for (unsigned i = 0; i < VIEWS_KEPT; i++) {
        assert_int_equal(tally_reader_open(mirror, &readers[i]), TALLY_OK);
        tally_view_pin(&readers[i], &views[i]);
    }
    for (unsigned step = 0; step < steps; step++) {
        model_copy(&before, &model);
        bool new_epoch = test_random_percent(&random, 2);
        if (new_epoch) {
            model.epoch += 1 + test_random_below(&random, 5);
            model.version = test_random_below(&random, 3);
            model.seed = tally_seed_next(model.seed, step);
        }
        model_random_step(&model, &random, mix, &next_key);
        bool whole = new_epoch || before.version == 0 || test_random_percent(&random, 5);
        uint32_t rows_max =
            test_random_percent(&random, 20) ? (uint32_t)test_random_between(&random, 1, 200) : UINT32_MAX;
        if (test_random_percent(&random, 10)) {
            // A change that is staged and then left.
            struct model_frames frames = model_diff(whole ? NULL : &before, &model, "main", 5);
            if (frames.count > 1) {
                assert_int_equal(tally_mirror_apply(mirror, &memory.memory, frames.frames[0]), TALLY_MORE);
                if (test_random_percent(&random, 50)) tally_mirror_abandon(mirror, &memory.memory);
            }
            model_frames_free(&frames);
        }
        assert_int_equal(model_step(mirror, &memory.memory, whole ? NULL : &before, &model, rows_max), TALLY_OK);
        check_accounts(mirror);
        model_free(&before);
        if (step % 8 == 0) model_check_newest(mirror, &model);

        // Views of old versions read what they read when they were pinned.
        unsigned which = (unsigned)test_random_below(&random, VIEWS_KEPT * 4);
        if (which < VIEWS_KEPT) {
            model_check(&views[which], &kept[which]);
            if (kept[which].version && test_random_percent(&random, 5)) check_copy(&views[which], &kept[which]);
            tally_view_unpin(&views[which]);
            model_free(&kept[which]);
            tally_view_pin(&readers[which], &views[which]);
            model_copy(&kept[which], &model);
        }
    }
    model_check_newest(mirror, &model);
    for (unsigned i = 0; i < VIEWS_KEPT; i++) {
        model_check(&views[i], &kept[i]);
        tally_view_unpin(&views[i]);
        tally_view_pin(&readers[i], &views[i]);
        check_copy(&views[i], &model);
        tally_view_unpin(&views[i]);
        tally_reader_close(&readers[i]);
        model_free(&kept[i]);
    }
    // Nothing holds anything now: the next version frees all that was kept.
    model_copy(&before, &model);
    model_random_step(&model, &random, mix, &next_key);
    assert_int_equal(model_step(mirror, &memory.memory, &before, &model, UINT32_MAX), TALLY_OK);
    struct tally_mirror_stats stats;
    tally_mirror_stats(mirror, &stats);
    assert_true(stats.retired_bytes == 0);
    assert_int_equal(stats.stalled_readers, 0);
    check_accounts(mirror);
    model_free(&before);
    model_free(&model);
    test_memory_deinit(&memory);
}

static void test_random_small(void **state)
{
    (void)state;
    const struct model_mix mix = {.rows_max = 40, .removes = 4, .changes = 6, .adds = 5};
    run_random("mirror small", &mix, 1500);
}

static void test_random_larger(void **state)
{
    (void)state;
    const struct model_mix mix = {.rows_max = 1500, .removes = 30, .changes = 60, .adds = 60};
    run_random("mirror larger", &mix, 300);
}

// Tables that fill up and empty again and again.
static void test_random_waves(void **state)
{
    (void)state;
    const struct model_mix grow = {.rows_max = 3000, .removes = 0, .changes = 5, .adds = 500};
    const struct model_mix shrink = {.rows_max = 3000, .removes = 1500, .changes = 5, .adds = 10};
    struct test_random random = test_random_start("mirror waves");
    struct test_memory memory;
    test_memory_init(&memory, MEMORY_BYTES);
    struct tally_mirror *mirror = test_mirror(&memory, "main", 0);
    struct model model = model_start(&random), before;
    uint32_t next_key = 0;
    model_add_table(&model);
    for (unsigned step = 0; step < 80; step++) {
        model_copy(&before, &model);
        model_random_step(&model, &random, step / 10 % 2 ? &shrink : &grow, &next_key);
        assert_int_equal(model_step(mirror, &memory.memory, before.version ? &before : NULL, &model, UINT32_MAX),
                         TALLY_OK);
        model_free(&before);
        check_accounts(mirror);
        if (step % 5 == 4) model_check_newest(mirror, &model);
    }
    model_free(&model);
    test_memory_deinit(&memory);
}

// ---------------------------------------------------------------------------------------------------- memory

// Ten thousand versions of steady churn: the memory stops growing.
static void test_churn_is_bounded(void **state)
{
    (void)state;
    const struct model_mix fill = {.rows_max = 1000, .removes = 0, .changes = 0, .adds = 400};
    const struct model_mix churn = {.rows_max = 1000, .removes = 6, .changes = 10, .adds = 12};
    struct test_random random = test_random_start("mirror churn");
    struct test_memory memory;
    test_memory_init(&memory, MEMORY_BYTES);
    struct tally_mirror *mirror = test_mirror(&memory, "main", 0);
    struct model model = model_start(&random), before;
    uint32_t next_key = 0;
    model_add_table(&model);
    struct tally_mirror_stats early, late;
    for (unsigned step = 0; step < 10000; step++) {
        model_copy(&before, &model);
        model.tables = before.tables;
        model_random_step(&model, &random, step < 20 ? &fill : &churn, &next_key);
        while (model.tables > 1) free(model.table[--model.tables].rows);
        assert_int_equal(model_step(mirror, &memory.memory, before.version ? &before : NULL, &model, UINT32_MAX),
                         TALLY_OK);
        model_free(&before);
        if (step == 2000) tally_mirror_stats(mirror, &early);
    }
    tally_mirror_stats(mirror, &late);
    model_check_newest(mirror, &model);
    check_accounts(mirror);
    assert_int_equal(late.swaps, 10000);
    assert_true(late.memory_bytes <= early.memory_bytes + early.memory_bytes / 4);
    assert_true(late.used_bytes <= early.used_bytes + early.used_bytes / 4);
    model_free(&model);
    test_memory_deinit(&memory);
}

// A hundred thousand rows, by deltas of growing size, and as one whole state.
static void test_growth(void **state)
{
    (void)state;
    struct test_random random = test_random_start("mirror growth");
    struct test_memory memory, whole_memory;
    test_memory_init(&memory, MEMORY_BYTES);
    test_memory_init(&whole_memory, MEMORY_BYTES);
    struct tally_mirror *mirror = test_mirror(&memory, "main", 0);
    struct tally_mirror *whole = test_mirror(&whole_memory, "main", 0);
    struct model model = model_start(&random), before;
    model_add_table(&model);
    model.version = 1;
    assert_int_equal(model_step(mirror, &memory.memory, NULL, &model, UINT32_MAX), TALLY_OK);
    for (uint32_t rows = 100; model.table[0].live < 100000; rows *= 3) {
        model_copy(&before, &model);
        model.version++;
        for (uint32_t i = 0; i < rows && model.table[0].live < 100000; i++) {
            uint32_t id = model.table[0].ids;
            model_set(&model, 0, id, id + 1, (int64_t)test_random_next(&random));
        }
        assert_int_equal(model_step(mirror, &memory.memory, &before, &model, UINT32_MAX), TALLY_OK);
        model_free(&before);
    }
    model_check_newest(mirror, &model);
    check_accounts(mirror);
    assert_int_equal(model_step(whole, &whole_memory.memory, NULL, &model, 30000), TALLY_OK);
    model_check_newest(whole, &model);
    check_accounts(whole);
    struct tally_reader reader;
    struct tally_view view;
    assert_int_equal(tally_reader_open(mirror, &reader), TALLY_OK);
    tally_view_pin(&reader, &view);
    check_copy(&view, &model);
    tally_view_unpin(&view);
    tally_reader_close(&reader);
    model_free(&model);
    test_memory_deinit(&memory);
    test_memory_deinit(&whole_memory);
}

// Keys of 64 neighbouring ids that are as long as can be: their ends wrap round 16 bits.
static void test_longest_keys(void **state)
{
    (void)state;
    struct test_memory memory;
    test_memory_init(&memory, MEMORY_BYTES);
    struct tally_mirror *mirror = test_mirror(&memory, "main", 0);
    struct model model = {.epoch = 1, .version = 1, .seed = {1, 2}}, before;
    uint8_t room[TALLY_KEY_BYTES_MAX];
    model_add_table(&model);
    uint32_t key = 0;
    for (uint32_t id = 0; id < 1100; id++) {
        do key++;
        while (model_key(key, room).size != TALLY_KEY_BYTES_MAX);
        model_set(&model, 0, id, key, id);
    }
    assert_int_equal(model_step(mirror, &memory.memory, NULL, &model, UINT32_MAX), TALLY_OK);
    model_check_newest(mirror, &model);
    struct tally_reader reader;
    struct tally_view view;
    assert_int_equal(tally_reader_open(mirror, &reader), TALLY_OK);
    tally_view_pin(&reader, &view);
    check_copy(&view, &model); // more than one chunk
    tally_view_unpin(&view);
    tally_reader_close(&reader);
    // Out and in again at both ends of a group, one by one.
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t ids[4] = {0, 63, 64, 127};
        struct model_row row = model.table[0].rows[ids[i]];
        for (unsigned back = 0; back < 2; back++) {
            model_copy(&before, &model);
            model.version++;
            model_set(&model, 0, ids[i], back ? row.key : 0, row.value);
            assert_int_equal(model_step(mirror, &memory.memory, &before, &model, UINT32_MAX), TALLY_OK);
            model_check_newest(mirror, &model);
            model_free(&before);
        }
    }
    model_free(&model);
    test_memory_deinit(&memory);
}

// Every growth of the memory refused once: TALLY_NO_MEMORY, the old version stays, and with memory the same frame succeeds.
static void test_every_growth_refused(void **state)
{
    (void)state;
    struct test_random random = test_random_start("mirror no memory");
    const struct model_mix fill = {.rows_max = 5000, .removes = 100, .changes = 200, .adds = 1500};
    struct model models[6];
    uint32_t next_key = 0;
    models[0] = model_start(&random);
    model_add_table(&models[0]);
    models[0].version = 1;
    for (unsigned i = 1; i < 6; i++) {
        model_copy(&models[i], &models[i - 1]);
        model_random_step(&models[i], &random, &fill, &next_key);
    }
    unsigned refused = 0;
    for (size_t fail_at = 2;; fail_at++) { // 1 is the header's: see test_mirror.c
        struct test_memory memory;
        test_memory_init(&memory, (size_t)8 << 20);
        memory.fail_at = fail_at;
        memory.step_max = 32768;
        struct tally_mirror_options options = {test_text("main"), 0};
        struct tally_mirror *mirror;
        if (tally_mirror_init(&memory.memory, &options, &mirror)) {
            test_memory_deinit(&memory);
            continue;
        }
        bool any = false;
        for (unsigned i = 0; i < 6; i++) {
            uint64_t used = test_mirror_used(mirror);
            enum tally_status status = model_step(mirror, &memory.memory, i ? &models[i - 1] : NULL, &models[i], 2500);
            if (status) {
                any = true;
                refused++;
                assert_int_equal(status, TALLY_NO_MEMORY);
                assert_true(test_mirror_used(mirror) == used);
                check_accounts(mirror);
                if (i) model_check_newest(mirror, &models[i - 1]);
                memory.fail_at = 0;
                assert_int_equal(model_step(mirror, &memory.memory, i ? &models[i - 1] : NULL, &models[i], 2500),
                                 TALLY_OK);
            }
            check_accounts(mirror);
        }
        model_check_newest(mirror, &models[5]);
        test_memory_deinit(&memory);
        if (!any) break;
    }
    assert_true(refused > 20);
    for (unsigned i = 0; i < 6; i++) model_free(&models[i]);
}

// A memory that ends at any size, in steps of a line: the same, for each of the allocations.
static void test_every_size(void **state)
{
    (void)state;
    struct test_random random = test_random_start("mirror sizes");
    const struct model_mix fill = {.rows_max = 200, .removes = 10, .changes = 20, .adds = 100};
    struct model first = model_start(&random), second;
    uint32_t next_key = 0;
    model_add_table(&first);
    model_random_step(&first, &random, &fill, &next_key);
    model_copy(&second, &first);
    model_random_step(&second, &random, &fill, &next_key);
    unsigned outcome[3] = {0};
    for (size_t size = sizeof(struct tally_mirror) + 2048;; size += LINE_BYTES) {
        struct test_memory memory;
        test_memory_init(&memory, size);
        struct tally_mirror *mirror = test_mirror(&memory, "main", 0);
        enum tally_status status = model_step(mirror, &memory.memory, NULL, &first, 40);
        unsigned held = status == TALLY_OK;
        if (held) {
            status = model_step(mirror, &memory.memory, &first, &second, 40);
            held += status == TALLY_OK;
            model_check_newest(mirror, status ? &first : &second);
        }
        assert_true(status == TALLY_OK || status == TALLY_NO_MEMORY);
        check_accounts(mirror);
        test_memory_deinit(&memory);
        outcome[held]++;
        if (outcome[2] == 20) break;
    }
    assert_true(outcome[0] > 20 && outcome[1] > 20);
    model_free(&first);
    model_free(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_small),
        cmocka_unit_test(test_random_larger),
        cmocka_unit_test(test_random_waves),
        cmocka_unit_test(test_churn_is_bounded),
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_longest_keys),
        cmocka_unit_test(test_every_growth_refused),
        cmocka_unit_test(test_every_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
