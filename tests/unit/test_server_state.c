// SPDX-License-Identifier: Apache-2.0
#include "../support/with_cmocka.h"

#include "../support/state_world.h"

#include <messages/messages.h>
#include <tallycast/framefile.h>

// ---------------------------------------------------------------------------------------------------- against the model

static void step(struct world *world, struct tally_applied *out_applied)
{
    enum tally_status verdicts[8];
    size_t count;
    struct tally_bytes record = world_record(world, verdicts, &count);
    world->out.size = 0;
    assert_int_equal(tally_state_apply(&world->state, record, &world->out, out_applied), TALLY_OK);
    assert_int_equal(out_applied->verdicts_count, count);
    for (size_t i = 0; i < count; i++) assert_int_equal(out_applied->verdicts[i].status, verdicts[i]);
}

static void test_random_records_against_the_model(void **unused)
{
    (void)unused;
    struct test_random random = test_random_start("state: random records");
    for (int round = 0; round < 40; round++) {
        struct world *world = world_open(&random, &tally_alloc_libc, 0);
        for (int i = 0; i < 60; i++) {
            struct tally_applied applied;
            step(world, &applied);
            assert_false(applied.whole);
            struct tally_bytes frame = tally_writer_bytes(&world->out);
            assert_int_equal(tally_mirror_apply(world->mirror.mirror, &world->mirror.memory, frame), TALLY_OK);
            world_mirror_equals(&world->mirror, &world->model);
        }
        assert_int_equal(world->state.stats.batches, world->model.counted);
        assert_int_equal(world->state.time_ms, world->time_ms);
        assert_true(world->state.producers.count <= world->model.producers_max);
        world_close(world);
    }
}

// A frame that would be over the limit is not told: the version is a whole state of the same epoch, and the next has a frame again.
static void test_a_frame_over_the_limit(void **unused)
{
    (void)unused;
    struct test_random random = test_random_start("state: frames over the limit");
    unsigned wholes = 0, frames = 0;
    for (int round = 0; round < 20; round++) {
        struct world *world = world_open(&random, &tally_alloc_libc, 0);
        uint32_t bytes_max = world->state.frame_bytes_max = (uint32_t)test_random_between(&random, 110, 250);
        for (int i = 0; i < 60; i++) {
            struct tally_applied applied;
            step(world, &applied);
            assert_int_equal(world->state.epoch, 1000);
            if (applied.whole) {
                wholes++;
                assert_int_equal(world->out.size, 0);
                world_apply_whole(&world->state, &world->mirror);
            } else {
                frames++;
                struct tally_bytes frame = tally_writer_bytes(&world->out);
                assert_true(frame.size <= bytes_max);
                assert_int_equal(tally_mirror_apply(world->mirror.mirror, &world->mirror.memory, frame), TALLY_OK);
            }
            world_mirror_equals(&world->mirror, &world->model);
        }
        world_close(world);
    }
    assert_true(wholes > 20 && frames > 20);
}

// A fingerprint of few bits makes clashes; the digest keeps all bits, so that the mirror goes along.
static void test_clashes_begin_new_epochs(void **unused)
{
    (void)unused;
    struct test_random random = test_random_start("state: clashes");
    uint64_t clashes = 0;
    for (int round = 0; round < 30; round++) {
        struct world *world = world_open(&random, &tally_alloc_libc, 0x3ff);
        world->feed.keys = 60;
        world->feed.remove_percent = 20;
        uint64_t epoch = world->state.epoch;
        for (int i = 0; i < 40; i++) {
            struct tally_applied applied;
            struct tally_seed seed = world->state.seed;
            step(world, &applied);
            assert_int_equal(applied.whole, world->state.epoch != epoch);
            assert_int_equal(applied.whole, world->state.seed.k0 != seed.k0);
            if (applied.whole) {
                assert_true(world->state.epoch > epoch);
                assert_int_equal(world->out.size, 0);
                world_apply_whole(&world->state, &world->mirror);
            } else {
                struct tally_bytes frame = tally_writer_bytes(&world->out);
                assert_int_equal(tally_mirror_apply(world->mirror.mirror, &world->mirror.memory, frame), TALLY_OK);
            }
            epoch = world->state.epoch;
            assert_int_equal(world_mirror_info(&world->mirror).epoch, epoch);
            world_mirror_equals(&world->mirror, &world->model);
        }
        clashes += world->state.stats.clashes;
        world_close(world);
    }
    print_message("# clashes: %u\n", (unsigned)clashes);
    assert_true(clashes > 0);
}

// ---------------------------------------------------------------------------------------------------- restart

struct history {
    struct tally_bytes records[64], frames[64];
    struct tally_digest digests[64];
    size_t count;
};

static struct tally_bytes keep(struct tally_bytes bytes)
{
    return tally_bytes(test_exact_copy(bytes.data, bytes.size), bytes.size);
}

static void snapshot_of(struct world *world, struct tally_writer *file)
{
    struct tally_snapshot_writer writer;
    uint8_t *scratch = malloc(2 * TALLY_CHUNK_BYTES_MAX);
    assert_int_equal(tally_snapshot_begin(&writer, &world->mirror.reader, &world->state, 77, file), TALLY_OK);
    while (!writer.done)
        assert_int_equal(tally_snapshot_next(&writer, scratch, scratch + TALLY_CHUNK_BYTES_MAX, file), TALLY_OK);
    assert_int_equal(writer.bytes, file->size);
    tally_snapshot_end(&writer);
    free(scratch);
}

// From a snapshot of version `at` + 1 on, the rest of the log gives the same frames.
static void replay_from(struct world *world, const struct history *history, const struct tally_writer *file, size_t at,
                        uint64_t clash_mask)
{
    struct tally_state_options options = world_options(&world->model, world->seed, clash_mask);
    struct tally_state state;
    struct tally_applied applied;
    struct tally_snapshot_header header;
    struct tally_writer out = test_writer();
    options.seed = (struct tally_seed){9, 9};
    assert_int_equal(tally_snapshot_open(tally_writer_bytes(file), &header), TALLY_OK);
    assert_int_equal(header.lineage, 77);
    assert_int_equal(header.version, at + 1);
    assert_int_equal(tally_state_init(&state, &options, &tally_alloc_libc), TALLY_OK);
    assert_int_equal(tally_snapshot_load(tally_writer_bytes(file), &state), TALLY_OK);
    for (size_t i = at + 1; i < history->count; i++) {
        out.size = 0;
        assert_int_equal(tally_state_apply(&state, history->records[i], &out, &applied), TALLY_OK);
        assert_true(tally_bytes_equal(tally_writer_bytes(&out), history->frames[i]));
        assert_true(tally_digest_equal(state.digest, history->digests[i]));
    }
    tally_state_deinit(&state);
    test_writer_free(&out);
}

static void test_every_snapshot_and_its_tail_give_the_same(void **unused)
{
    (void)unused;
    struct test_random random = test_random_start("state: snapshot and tail");
    for (int round = 0; round < 12; round++) {
        uint64_t clash_mask = round % 3 == 0 ? 0xfff : 0;
        struct world *world = world_open(&random, &tally_alloc_libc, clash_mask);
        static struct history history;
        struct tally_writer files[40];
        history.count = 40;
        for (size_t i = 0; i < history.count; i++) {
            enum tally_status verdicts[8];
            size_t count;
            struct tally_applied applied;
            struct tally_bytes record = world_record(world, verdicts, &count);
            history.records[i] = keep(record);
            world->out.size = 0;
            assert_int_equal(tally_state_apply(&world->state, record, &world->out, &applied), TALLY_OK);
            history.frames[i] = keep(tally_writer_bytes(&world->out));
            history.digests[i] = world->state.digest;
            if (applied.whole)
                world_apply_whole(&world->state, &world->mirror);
            else
                assert_int_equal(tally_mirror_apply(world->mirror.mirror, &world->mirror.memory, history.frames[i]),
                                 TALLY_OK);
            files[i] = test_writer();
            snapshot_of(world, &files[i]);
        }
        for (size_t i = 0; i < history.count; i++) {
            replay_from(world, &history, &files[i], i, clash_mask);
            test_writer_free(&files[i]);
        }
        for (size_t i = 0; i < history.count; i++) {
            free((void *)(uintptr_t)history.records[i].data);
            free((void *)(uintptr_t)history.frames[i].data);
        }
        world_close(world);
    }
}

static void test_a_damaged_snapshot_is_refused(void **unused)
{
    (void)unused;
    struct test_random random = test_random_start("state: damaged snapshot");
    struct world *world = world_open(&random, &tally_alloc_libc, 0);
    for (int i = 0; i < 20; i++) {
        struct tally_applied applied;
        step(world, &applied);
        assert_int_equal(
            tally_mirror_apply(world->mirror.mirror, &world->mirror.memory, tally_writer_bytes(&world->out)), TALLY_OK);
    }
    struct tally_writer file = test_writer();
    snapshot_of(world, &file);
    const struct tally_state_options options = world_options(&world->model, world->seed, 0);
    for (int i = 0; i < 3000; i++) {
        size_t size = file.size;
        uint8_t *copy = test_exact_copy(file.data, size);
        if (i % 2)
            size = test_random_below(&random, size);
        else
            copy[test_random_below(&random, size)] ^= (uint8_t)(1u << test_random_below(&random, 8));
        struct tally_state state;
        assert_int_equal(tally_state_init(&state, &options, &tally_alloc_libc), TALLY_OK);
        assert_int_not_equal(tally_snapshot_load(tally_bytes(copy, size), &state), TALLY_OK);
        tally_state_deinit(&state);
        free(copy);
    }
    // Something behind the end, whole and sealed in itself.
    struct tally_framefile frames;
    struct tally_bytes message;
    struct tally_state state;
    assert_int_equal(tally_framefile_open(tally_writer_bytes(&file), &frames), TALLY_OK);
    assert_int_equal(tally_framefile_next(&frames, &message), TALLY_OK);
    uint8_t *copy = test_exact_copy(message.data, message.size);
    tally_framefile_append(&file, tally_bytes(copy, message.size));
    free(copy);
    assert_int_equal(tally_state_init(&state, &options, &tally_alloc_libc), TALLY_OK);
    assert_int_equal(tally_snapshot_load(tally_writer_bytes(&file), &state), TALLY_MALFORMED);
    tally_state_deinit(&state);
    test_writer_free(&file);
    world_close(world);
}

// ---------------------------------------------------------------------------------------------------- one rule at a time

struct bench {
    struct tally_state state;
    struct tally_writer record, out;
    struct tally_applied applied;
    uint64_t sequence;
};

static void bench_open(struct bench *bench)
{
    const struct tally_state_options options = {.dataset = test_text("main"), .epoch = 5, .seed = {1, 2}};
    *bench = (struct bench){.record = test_writer(), .out = test_writer()};
    assert_int_equal(tally_state_init(&bench->state, &options, &tally_alloc_libc), TALLY_OK);
}

static void bench_close(struct bench *bench)
{
    tally_state_deinit(&bench->state);
    test_writer_free(&bench->record);
    test_writer_free(&bench->out);
}

// "+key" adds 1, "-key" removes, "*key" adds INT64_MAX; one batch a word: amounts come before removals in a batch.
static void bench_record(struct bench *bench, const char *words)
{
    char text[256], *save = NULL;
    (void)snprintf(text, sizeof text, "%s", words);
    tally_record_begin(&bench->record);
    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
        struct test_batch batch;
        struct tally_bytes message;
        test_batch_init(&batch);
        tally_batch_begin(
            &batch.writer,
            &(struct tally_batch_header){.dataset = test_text("main"), .producer = 1, .sequence = ++bench->sequence});
        tally_batch_table_begin(&batch.writer, test_text("t"));
        if (*word == '-')
            tally_batch_remove(&batch.writer, test_text(word + 1));
        else
            tally_batch_add(&batch.writer, test_text(word + 1), *word == '*' ? INT64_MAX : *word == '0' ? 0 : 1);
        tally_batch_table_end(&batch.writer);
        assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
        assert_int_equal(tally_request_batch(test_batch_bytes(&batch), &message), TALLY_OK);
        tally_record_batch(&bench->record, message);
        test_batch_free(&batch);
    }
    struct tally_bytes record;
    const struct tally_record_header header = {.version = bench->state.version + 1, .time_ms = 10};
    assert_int_equal(tally_record_finish(&bench->record, &header, &record), TALLY_OK);
    bench->out.size = 0;
    assert_int_equal(tally_state_apply(&bench->state, record, &bench->out, &bench->applied), TALLY_OK);
}

// The frame as text: "-id" removed, "id+difference" changed, "id=key:value" added.
static void frame_equals(const struct bench *bench, const char *expected)
{
    struct tally_frame_reader reader;
    struct tally_table_reader table;
    struct tally_bytes key;
    char text[256] = "";
    size_t at = 0;
    uint32_t id;
    int64_t number;
    assert_int_equal(tally_frame_open(tally_writer_bytes(&bench->out), &reader), TALLY_OK);
    while (tally_frame_next_table(&reader, &table) == TALLY_OK) {
        while (tally_table_next_removed(&table, &id) == TALLY_OK)
            at += (size_t)snprintf(text + at, sizeof text - at, "-%u ", id);
        while (tally_table_next_changed(&table, &id, &number) == TALLY_OK)
            at += (size_t)snprintf(text + at, sizeof text - at, "%u+%lld ", id, (long long)number);
        while (tally_table_next_added(&table, &id, &key, &number) == TALLY_OK)
            at += (size_t)snprintf(text + at, sizeof text - at, "%u=%.*s:%lld ", id, (int)key.size,
                                   (const char *)key.data, (long long)number);
    }
    assert_string_equal(text, expected);
}

static void test_the_frame_tells_the_net_effect(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench);
    bench_record(&bench, "+a +b +c");
    frame_equals(&bench, "0=a:1 1=b:1 2=c:1 ");
    bench_record(&bench, "+x -x"); // no trace
    frame_equals(&bench, "");
    bench_record(&bench, "-b +b"); // back at the smallest free id, which is its own
    frame_equals(&bench, "-1 1=b:1 ");
    bench_record(&bench, "-c -a +c +d");
    frame_equals(&bench, "-0 -2 0=c:1 2=d:1 ");
    bench_record(&bench, "0c"); // difference 0
    frame_equals(&bench, "");
    bench_record(&bench, "0z"); // a key begins with its first amount, even 0
    frame_equals(&bench, "3=z:0 ");
    bench_record(&bench, "-c -d +n +o +p"); // smallest first
    frame_equals(&bench, "-0 -2 0=n:1 2=o:1 4=p:1 ");
    bench_record(&bench, "+n -n +n +n");
    frame_equals(&bench, "-0 0=n:2 ");
    bench_record(&bench, "");
    frame_equals(&bench, "");
    assert_int_equal(bench.state.version, 9);
    bench_close(&bench);
}

static void test_a_sum_stops_at_the_greatest_value(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench);
    bench_record(&bench, "+a");
    bench_record(&bench, "*a");
    frame_equals(&bench, "0+9223372036854775806 ");
    assert_int_equal(bench.state.stats.saturated, 1);
    bench_record(&bench, "+a");
    frame_equals(&bench, "");
    assert_int_equal(bench.state.stats.saturated, 2);
    bench_close(&bench);
}

static void test_a_record_that_does_not_follow_changes_nothing(void **unused)
{
    (void)unused;
    struct bench bench;
    bench_open(&bench);
    bench_record(&bench, "+a");
    struct tally_digest digest = bench.state.digest;
    struct tally_bytes again;
    tally_record_begin(&bench.record);
    assert_int_equal(tally_record_finish(&bench.record, &(struct tally_record_header){.version = 1}, &again), TALLY_OK);
    assert_int_equal(tally_state_apply(&bench.state, again, &bench.out, &bench.applied), TALLY_GAP);
    assert_int_equal(tally_state_apply(&bench.state, test_text("nonsense, long enough"), &bench.out, &bench.applied),
                     TALLY_MALFORMED);
    assert_true(tally_digest_equal(digest, bench.state.digest));
    bench_record(&bench, "+a");
    frame_equals(&bench, "0+1 ");
    bench_close(&bench);
}

static void test_a_new_epoch_in_a_record_keeps_the_rows(void **unused)
{
    (void)unused;
    struct bench bench;
    struct tally_bytes record;
    bench_open(&bench);
    bench_record(&bench, "+a");
    struct tally_digest digest = bench.state.digest;
    tally_record_begin(&bench.record);
    assert_int_equal(
        tally_record_finish(&bench.record, &(struct tally_record_header){.version = 2, .epoch = 99}, &record),
        TALLY_OK);
    assert_int_equal(tally_state_apply(&bench.state, record, &bench.out, &bench.applied), TALLY_OK);
    assert_true(bench.applied.whole);
    assert_int_equal(bench.state.epoch, 99);
    assert_true(tally_digest_equal(digest, bench.state.digest));
    tally_record_begin(&bench.record); // an epoch never goes back
    assert_int_equal(
        tally_record_finish(&bench.record, &(struct tally_record_header){.version = 3, .epoch = 98}, &record),
        TALLY_OK);
    assert_int_equal(tally_state_apply(&bench.state, record, &bench.out, &bench.applied), TALLY_OK);
    assert_false(bench.applied.whole);
    assert_int_equal(bench.state.epoch, 99);
    bench_close(&bench);
}

// A state that takes several chunks, with keys of all sizes.
static void test_whole_states_in_chunks(void **unused)
{
    (void)unused;
    struct test_random random = test_random_start("state: chunks");
    struct bench bench;
    struct world_mirror mirror;
    bench_open(&bench);
    world_mirror_open(&mirror);
    uint64_t version = 0;
    for (unsigned t = 0; t < 7; t++) {
        struct test_batch batch;
        struct tally_bytes message, record;
        char name[8];
        uint8_t key[TALLY_KEY_BYTES_MAX];
        (void)snprintf(name, sizeof name, "t%u", t);
        test_batch_init(&batch);
        tally_batch_begin(&batch.writer, &(struct tally_batch_header){
                                             .dataset = test_text("main"), .producer = 1, .sequence = version + 1});
        tally_batch_table_begin(&batch.writer, test_text(name));
        if (t == 3) tally_batch_add(&batch.writer, test_text("gone"), 1);
        for (unsigned i = 0; i < 2500 && t != 3; i++) {
            size_t size = test_random_between(&random, 4, i % 2 ? 16 : sizeof key);
            test_random_fill(&random, key, size);
            tally_batch_add(&batch.writer, tally_bytes(key, size), (int64_t)(test_random_wide(&random) >> 1));
        }
        if (t == 3) tally_batch_remove(&batch.writer, test_text("gone")); // an empty table in the middle
        tally_batch_table_end(&batch.writer);
        assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
        assert_int_equal(tally_request_batch(test_batch_bytes(&batch), &message), TALLY_OK);
        tally_record_begin(&bench.record);
        tally_record_batch(&bench.record, message);
        assert_int_equal(
            tally_record_finish(&bench.record, &(struct tally_record_header){.version = ++version}, &record), TALLY_OK);
        bench.out.size = 0;
        assert_int_equal(tally_state_apply(&bench.state, record, &bench.out, &bench.applied), TALLY_OK);
        assert_int_equal(bench.applied.verdicts[0].status, TALLY_OK);
        test_batch_free(&batch);
    }
    // The state's chunks make a mirror; the mirror's chunks make a state.
    world_apply_whole(&bench.state, &mirror);
    struct tally_view_info info = world_mirror_info(&mirror);
    assert_true(tally_digest_equal(info.digest, bench.state.digest));
    assert_int_equal(info.tables, 7);
    struct tally_state loaded;
    const struct tally_state_options options = {.dataset = test_text("main"), .epoch = 1};
    assert_int_equal(tally_state_init(&loaded, &options, &tally_alloc_libc), TALLY_OK);
    uint8_t *scratch = malloc(2 * TALLY_CHUNK_BYTES_MAX);
    struct tally_view view;
    struct tally_cursor cursor = {0};
    struct tally_state_cursor at = {0};
    uint32_t chunk = 0;
    size_t bytes;
    bool more = true;
    tally_view_pin(&mirror.reader, &view);
    while (more) {
        uint8_t *out = scratch + TALLY_CHUNK_BYTES_MAX;
        assert_int_equal(tally_view_write_chunk(&view, &cursor, &chunk, scratch, out, &bytes, &more), TALLY_OK);
        assert_int_equal(tally_state_load_chunk(&loaded, tally_bytes(out, bytes), &at), more ? TALLY_MORE : TALLY_OK);
    }
    tally_view_unpin(&view);
    assert_true(chunk > 2);
    assert_int_equal(loaded.tables_count, 7);
    assert_true(tally_digest_equal(loaded.digest, bench.state.digest));
    free(scratch);
    tally_state_deinit(&loaded);
    bench_close(&bench);
    world_mirror_close(&mirror);
}

// ---------------------------------------------------------------------------------------------------- out of memory

static void nth_allocation_fails(bool kinds)
{
    for (size_t nth = 1;; nth++) {
        struct test_random random = {4711};
        struct test_alloc alloc;
        struct model model = {.tables_max = kinds ? 12 : 4, .producers_max = 8};
        struct model_feed feed = {.random = &random, .producers = 6, .tables = 4, .keys = 300, .remove_percent = 60};
        feed.kinds = kinds;
        struct tally_state state = {0};
        struct tally_writer record_out = test_writer(), out = test_writer();
        test_alloc_init(&alloc);
        alloc.fail_at = nth;
        const struct tally_state_options options = world_options(&model, (struct tally_seed){1, 2}, 0);
        enum tally_status status = tally_state_init(&state, &options, &alloc.alloc);
        for (uint64_t version = 1; version <= 12 && !status; version++) {
            struct tally_applied applied;
            struct tally_bytes record, message;
            tally_record_begin(&record_out);
            for (int i = 0; i < 30; i++) {
                struct test_batch batch;
                model_feed_batch(&feed, &batch, &message);
                tally_record_batch(&record_out, message);
                test_batch_free(&batch);
            }
            assert_int_equal(
                tally_record_finish(&record_out, &(struct tally_record_header){.version = version}, &record), TALLY_OK);
            struct tally_digest digest = state.digest;
            out.size = 0;
            status = tally_state_apply(&state, record, &out, &applied);
            if (!status) continue;
            // Broken: nothing is to be had from it any more.
            assert_int_equal(status, TALLY_NO_MEMORY);
            assert_int_equal(tally_state_apply(&state, record, &out, &applied), TALLY_NO_MEMORY);
            struct tally_state_cursor cursor = {0};
            assert_int_equal(tally_state_write_chunk(&state, &cursor, &out), TALLY_NO_MEMORY);
            (void)digest;
        }
        tally_state_deinit(&state);
        test_writer_free(&record_out);
        test_writer_free(&out);
        assert_int_equal(alloc.blocks, 0);
        if (!status) {
            print_message("# %u allocations\n", (unsigned)nth - 1);
            assert_true(nth > 20);
            return;
        }
    }
}

static void test_the_nth_allocation_fails(void **unused)
{
    (void)unused;
    nth_allocation_fails(false);
    nth_allocation_fails(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_frame_tells_the_net_effect),
        cmocka_unit_test(test_a_sum_stops_at_the_greatest_value),
        cmocka_unit_test(test_a_record_that_does_not_follow_changes_nothing),
        cmocka_unit_test(test_a_new_epoch_in_a_record_keeps_the_rows),
        cmocka_unit_test(test_random_records_against_the_model),
        cmocka_unit_test(test_a_frame_over_the_limit),
        cmocka_unit_test(test_clashes_begin_new_epochs),
        cmocka_unit_test(test_every_snapshot_and_its_tail_give_the_same),
        cmocka_unit_test(test_a_damaged_snapshot_is_refused),
        cmocka_unit_test(test_whole_states_in_chunks),
        cmocka_unit_test(test_the_nth_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
