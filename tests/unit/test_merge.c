// SPDX-License-Identifier: Apache-2.0
#include "../support/with_cmocka.h"

#include "../support/state_world.h"

#include <messages/messages.h>
#include <replay/merge.h>

#define FRAMES 24

struct frames {
    struct tally_bytes frames[FRAMES];
    struct tally_writer starts[FRAMES]; // the whole state before each frame, in one chunk
};

// Versions 1 to FRAMES + 1 of a random world: the frames that lead to 2 and on.
static struct world *make_frames(struct test_random *random, struct frames *out)
{
    struct world *world = world_open(random, &tally_alloc_libc, 0);
    enum tally_status verdicts[8];
    struct tally_applied applied;
    size_t count;
    for (size_t i = 0; i <= FRAMES; i++) {
        struct tally_bytes record = world_record(world, verdicts, &count);
        world->out.size = 0;
        assert_int_equal(tally_state_apply(&world->state, record, &world->out, &applied), TALLY_OK);
        if (i) out->frames[i - 1] = tally_bytes(test_exact_copy(world->out.data, world->out.size), world->out.size);
        if (i == FRAMES) break;
        struct tally_state_cursor cursor = {0};
        out->starts[i] = test_writer();
        assert_int_equal(tally_state_write_chunk(&world->state, &cursor, &out->starts[i]), TALLY_OK);
        assert_true(cursor.done);
    }
    return world;
}

static void free_frames(struct frames *frames)
{
    for (size_t i = 0; i < FRAMES; i++) {
        free((void *)(uintptr_t)frames->frames[i].data);
        test_writer_free(&frames->starts[i]);
    }
}

static void same_listing(struct world_mirror *a, struct world_mirror *b)
{
    struct tally_view va, vb;
    struct tally_cursor ca = {0}, cb = {0};
    struct tally_row ra, rb;
    tally_view_pin(&a->reader, &va);
    tally_view_pin(&b->reader, &vb);
    while (tally_view_next(&va, &ca, &ra)) {
        assert_true(tally_view_next(&vb, &cb, &rb));
        assert_true(ra.table == rb.table && ra.id == rb.id && ra.value == rb.value &&
                    tally_bytes_equal(ra.key, rb.key));
    }
    assert_false(tally_view_next(&vb, &cb, &rb));
    tally_view_unpin(&va);
    tally_view_unpin(&vb);
}

// Any piece of the sequence, merged, has the effect of its frames; merging in two steps gives the same bytes as in one.
static void test_merged_frames_have_the_effect_of_all(void **state)
{
    (void)state;
    struct test_random random = test_random_start("merge: effect");
    for (int round = 0; round < 15; round++) {
        struct frames frames;
        struct world *world = make_frames(&random, &frames);
        for (int i = 0; i < 12; i++) {
            size_t from = test_random_below(&random, FRAMES), to = test_random_between(&random, from + 1, FRAMES);
            struct world_mirror one, many;
            struct tally_writer merged = test_writer(), first = test_writer(), both = test_writer();
            assert_int_equal(tally_frame_merge(frames.frames + from, to - from, &tally_alloc_libc, &merged), TALLY_OK);
            world_mirror_open(&one);
            world_mirror_open(&many);
            struct tally_bytes start = tally_writer_bytes(&frames.starts[from]);
            assert_int_equal(tally_mirror_apply(one.mirror, &one.memory, start), TALLY_OK);
            assert_int_equal(tally_mirror_apply(many.mirror, &many.memory, start), TALLY_OK);
            for (size_t j = from; j < to; j++)
                assert_int_equal(tally_mirror_apply(many.mirror, &many.memory, frames.frames[j]), TALLY_OK);
            assert_int_equal(tally_mirror_apply(one.mirror, &one.memory, tally_writer_bytes(&merged)), TALLY_OK);
            struct tally_view_info a = world_mirror_info(&one), b = world_mirror_info(&many);
            assert_int_equal(a.version, b.version);
            assert_int_equal(a.cut_ms, b.cut_ms);
            assert_true(tally_digest_equal(a.digest, b.digest));
            same_listing(&one, &many);
            size_t middle = test_random_between(&random, from + 1, to);
            assert_int_equal(tally_frame_merge(frames.frames + from, middle - from, &tally_alloc_libc, &first),
                             TALLY_OK);
            if (middle < to) {
                struct tally_bytes parts[FRAMES] = {tally_writer_bytes(&first)};
                memcpy(parts + 1, frames.frames + middle, (to - middle) * sizeof *parts);
                assert_int_equal(tally_frame_merge(parts, 1 + to - middle, &tally_alloc_libc, &both), TALLY_OK);
                assert_true(tally_bytes_equal(tally_writer_bytes(&both), tally_writer_bytes(&merged)));
            }
            test_writer_free(&merged);
            test_writer_free(&first);
            test_writer_free(&both);
            world_mirror_close(&one);
            world_mirror_close(&many);
        }
        free_frames(&frames);
        world_close(world);
    }
}

static void test_one_frame_merges_to_itself(void **state)
{
    (void)state;
    struct test_random random = test_random_start("merge: one");
    struct frames frames;
    struct world *world = make_frames(&random, &frames);
    for (size_t i = 0; i < FRAMES; i++) {
        struct tally_writer merged = test_writer();
        assert_int_equal(tally_frame_merge(&frames.frames[i], 1, &tally_alloc_libc, &merged), TALLY_OK);
        assert_true(tally_bytes_equal(tally_writer_bytes(&merged), frames.frames[i]));
        test_writer_free(&merged);
    }
    free_frames(&frames);
    world_close(world);
}

// ---------------------------------------------------------------------------------------------------- refusals

static struct tally_bytes write_frame(struct test_frame *frame, const char *dataset, uint64_t epoch, uint64_t from,
                                      int removed, int changed, int64_t difference, int added)
{
    const struct tally_frame_header header = {
        .dataset = test_text(dataset), .epoch = epoch, .from = from, .to = from + 1};
    test_frame_init(frame);
    tally_frame_begin(&frame->writer, &header);
    tally_frame_table_begin(&frame->writer, 0, (struct tally_bytes){0}, TALLY_KIND_UNSPECIFIED);
    if (removed >= 0) tally_frame_removed(&frame->writer, (uint32_t)removed);
    if (changed >= 0) tally_frame_changed(&frame->writer, (uint32_t)changed, difference);
    if (added >= 0) tally_frame_added(&frame->writer, (uint32_t)added, test_text("k"), difference);
    tally_frame_table_end(&frame->writer);
    assert_int_equal(tally_frame_finish(&frame->writer), TALLY_OK);
    return test_frame_bytes(frame);
}

static void expect_merge(struct tally_bytes a, struct tally_bytes b, enum tally_status expected)
{
    struct tally_bytes both[] = {a, b};
    struct tally_writer out = test_writer();
    tally_write_raw(&out, "kept", 4);
    assert_int_equal(tally_frame_merge(both, 2, &tally_alloc_libc, &out), expected);
    if (expected) assert_int_equal(out.size, 4);
    test_writer_free(&out);
}

static void test_frames_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    struct test_frame f[12];
    struct tally_bytes change = write_frame(&f[0], "main", 1, 5, -1, 3, 7, -1);
    struct tally_writer out = test_writer();
    assert_int_equal(tally_frame_merge(&change, 0, &tally_alloc_libc, &out), TALLY_INVALID);
    test_writer_free(&out);
    expect_merge(change, write_frame(&f[1], "main", 1, 6, -1, 3, 7, -1), TALLY_OK);
    expect_merge(change, write_frame(&f[2], "main", 1, 7, -1, 3, 7, -1), TALLY_GAP);
    expect_merge(change, write_frame(&f[3], "main", 2, 6, -1, 3, 7, -1), TALLY_WRONG_EPOCH);
    expect_merge(change, write_frame(&f[4], "other", 1, 6, -1, 3, 7, -1), TALLY_WRONG_DATASET);
    expect_merge(change, write_frame(&f[5], "main", 1, 6, -1, -1, 7, 3), TALLY_MALFORMED); // added, and there already
    expect_merge(change, write_frame(&f[6], "main", 1, 6, -1, 3, INT64_MAX, -1),
                 TALLY_MALFORMED); // a sum outside 64 bits
    struct tally_bytes removed = write_frame(&f[7], "main", 1, 5, 3, -1, 0, -1);
    expect_merge(removed, write_frame(&f[8], "main", 1, 6, 3, -1, 0, -1), TALLY_MALFORMED); // removed twice
    expect_merge(removed, write_frame(&f[9], "main", 1, 6, -1, 3, 1, -1), TALLY_MALFORMED); // changed, and gone
    struct tally_bytes damaged = tally_bytes(test_exact_copy(change.data, change.size), change.size);
    ((uint8_t *)(uintptr_t)damaged.data)[5] ^= 1;
    expect_merge(change, damaged, TALLY_CORRUPT);
    free((void *)(uintptr_t)damaged.data);
    for (size_t i = 0; i < 10; i++) test_frame_free(&f[i]);
}

static void test_the_nth_allocation_fails(void **state)
{
    (void)state;
    struct test_random random = test_random_start("merge: nth allocation");
    struct frames frames;
    struct world *world = make_frames(&random, &frames);
    for (size_t nth = 1;; nth++) {
        struct test_alloc alloc;
        test_alloc_init(&alloc);
        alloc.fail_at = nth;
        struct tally_writer out = tally_writer_growable(&alloc.alloc);
        enum tally_status status = tally_frame_merge(frames.frames, FRAMES, &alloc.alloc, &out);
        if (status) {
            assert_int_equal(status, TALLY_NO_MEMORY);
            assert_int_equal(out.size, 0);
        }
        tally_writer_free(&out);
        assert_int_equal(alloc.blocks, 0);
        if (!status) break;
    }
    free_frames(&frames);
    world_close(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merged_frames_have_the_effect_of_all),
        cmocka_unit_test(test_one_frame_merges_to_itself),
        cmocka_unit_test(test_frames_that_do_not_fit_are_refused),
        cmocka_unit_test(test_the_nth_allocation_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
