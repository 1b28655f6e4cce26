// SPDX-License-Identifier: Apache-2.0
//
// Frames cut into chunks: a mirror that takes the chunks is what the frame makes it, and no chunk is over its bound.
#include "../support/mirror_model.h"
#include "../support/with_cmocka.h"

#include <replay/split.h>

#define BYTES_MAX 8192u

static struct tally_bytes one_frame(const struct model *before, const struct model *after, struct model_frames *out)
{
    *out = model_diff(before, after, "main", UINT32_MAX);
    assert_int_equal(out->count, 1);
    return out->frames[0];
}

// Applies `frame` to `mirror` in chunks; how many there were.
static uint32_t apply_split(struct tally_mirror *mirror, struct tally_memory *memory, struct tally_bytes frame)
{
    struct tally_split split, again;
    struct tally_writer out = test_writer(), same = test_writer();
    struct test_alloc alloc;
    uint32_t chunks = 0;
    bool more = true, more_again;
    test_alloc_init(&alloc);
    assert_int_equal(tally_split_begin(frame, &split), TALLY_OK);
    while (more) {
        out.size = same.size = 0;
        again = split; // the place
        assert_int_equal(tally_split_next(&split, BYTES_MAX, &alloc.alloc, &out, &more), TALLY_OK);
        assert_true(out.size <= BYTES_MAX);
        assert_int_equal(tally_split_next(&again, BYTES_MAX, &alloc.alloc, &same, &more_again), TALLY_OK);
        assert_true(more == more_again && tally_bytes_equal(tally_writer_bytes(&out), tally_writer_bytes(&same)));
        enum tally_status status = tally_mirror_apply(mirror, memory, tally_writer_bytes(&out));
        assert_int_equal(status, more ? TALLY_MORE : TALLY_OK);
        chunks++;
    }
    assert_int_equal(alloc.blocks, 0);
    test_writer_free(&out);
    test_writer_free(&same);
    return chunks;
}

static void test_chunks_have_the_effect_of_the_frame(void **state)
{
    (void)state;
    struct test_random random = test_random_start("split: effect");
    const struct model_mix mix = {.rows_max = 1500, .removes = 300, .changes = 900, .adds = 400};
    uint32_t most = 0, key = 0;
    for (int round = 0; round < 5; round++) {
        struct test_memory memory;
        test_memory_init(&memory, 64u << 20);
        struct tally_mirror *mirror = test_mirror(&memory, "main", 0);
        struct model model = {.epoch = 7, .cut_ms = 1, .seed = {test_random_next(&random), 3}}, before;
        model_add_table(&model);
        for (int version = 0; version < 12; version++) {
            struct model_frames frames;
            model_copy(&before, &model);
            model_random_step(&model, &random, &mix, &key);
            struct tally_bytes frame = one_frame(version ? &before : NULL, &model, &frames);
            uint32_t chunks = apply_split(mirror, &memory.memory, frame);
            if (chunks > most) most = chunks;
            model_check_newest(mirror, &model);
            model_frames_free(&frames);
            model_free(&before);
        }
        model_free(&model);
        test_memory_deinit(&memory);
    }
    assert_true(most > 3);
}

static void test_what_is_no_frame_in_one_piece(void **state)
{
    (void)state;
    struct test_random random = test_random_start("split: refused");
    const struct model_mix mix = {.rows_max = 500, .adds = 500};
    struct model model = {.epoch = 7, .seed = {1, 2}};
    struct tally_split split;
    uint32_t key = 0;
    model_add_table(&model);
    while (model_rows(&model) < 10) model_random_step(&model, &random, &mix, &key);
    struct model_frames frames = model_diff(NULL, &model, "main", 4);
    assert_true(frames.count > 1);
    assert_int_equal(tally_split_begin(frames.frames[0], &split), TALLY_INVALID);
    assert_int_equal(tally_split_begin(frames.frames[frames.count - 1], &split), TALLY_INVALID);
    assert_int_equal(tally_split_begin(tally_bytes(frames.frames[0].data, 20), &split), TALLY_MALFORMED);
    model_frames_free(&frames);
    model_free(&model);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct test_random random = test_random_start("split: no memory");
    const struct model_mix mix = {.rows_max = 500, .adds = 500};
    struct model model = {.epoch = 7, .seed = {1, 2}};
    struct model_frames frames;
    uint32_t key = 0;
    model_add_table(&model);
    while (model_rows(&model) < 200) model_random_step(&model, &random, &mix, &key);
    struct tally_bytes frame = one_frame(NULL, &model, &frames);
    for (size_t nth = 1;; nth++) {
        struct test_alloc alloc;
        struct tally_split split;
        struct tally_writer out = test_writer();
        bool more;
        test_alloc_init(&alloc);
        alloc.fail_at = nth;
        assert_int_equal(tally_split_begin(frame, &split), TALLY_OK);
        enum tally_status status = tally_split_next(&split, BYTES_MAX, &alloc.alloc, &out, &more);
        assert_int_equal(alloc.blocks, 0);
        test_writer_free(&out);
        if (status == TALLY_OK && alloc.requests < nth) break;
        assert_int_equal(status, TALLY_NO_MEMORY);
    }
    model_frames_free(&frames);
    model_free(&model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks_have_the_effect_of_the_frame),
        cmocka_unit_test(test_what_is_no_frame_in_one_piece),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
