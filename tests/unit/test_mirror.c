// SPDX-License-Identifier: Apache-2.0
//
// The mirror's promises one by one: the order of versions, every refusal, views, readers, figures. Random histories are in
// test_mirror_random.c, the vectors in test_vectors.c.
#include "../../client-wasm/src/layout.h"
#include "../support/mirror_model.h"
#include "../support/with_cmocka.h"

#define MEMORY_BYTES ((size_t)8 << 20)

// A mirror with a model of what it holds: version 5 of epoch 7, two tables.
struct world {
    struct test_memory memory;
    struct tally_mirror *mirror;
    struct model model;
};

static void world_init(struct world *world)
{
    test_memory_init(&world->memory, MEMORY_BYTES);
    world->mirror = test_mirror(&world->memory, "main", 0);
    world->model = (struct model){.epoch = 7, .version = 5, .cut_ms = 1000, .seed = {11, 22}};
    model_add_table(&world->model);
    model_add_table(&world->model);
    for (uint32_t id = 0; id < 200; id++) model_set(&world->model, 0, id, id + 1, id * 10);
    model_set(&world->model, 1, 3, 1, INT64_MAX);
    model_set(&world->model, 1, 4, 2, INT64_MIN);
    assert_int_equal(model_step(world->mirror, &world->memory.memory, NULL, &world->model, UINT32_MAX), TALLY_OK);
    model_check_newest(world->mirror, &world->model);
}

static void world_deinit(struct world *world)
{
    model_free(&world->model);
    test_memory_deinit(&world->memory);
}

static enum tally_status apply(struct world *world, struct tally_bytes frame)
{
    return tally_mirror_apply(world->mirror, &world->memory.memory, frame);
}

static struct tally_mirror_stats stats_of(const struct tally_mirror *mirror)
{
    struct tally_mirror_stats stats;
    tally_mirror_stats(mirror, &stats);
    return stats;
}

// ---------------------------------------------------------------------------------------------------- start

static void test_empty(void **state)
{
    (void)state;
    struct test_memory memory;
    test_memory_init(&memory, MEMORY_BYTES);
    struct tally_mirror *mirror = test_mirror(&memory, "main", 0);
    struct model empty = {0};
    model_check_newest(mirror, &empty);
    struct tally_reader reader;
    struct tally_view view;
    assert_int_equal(tally_reader_open(mirror, &reader), TALLY_OK);
    tally_view_pin(&reader, &view);
    uint32_t table = 9, chunk = 0;
    struct tally_table_info table_info;
    assert_int_equal(tally_view_table(&view, test_text("files"), &table), TALLY_NOT_FOUND);
    assert_int_equal(table, 9);
    assert_int_equal(tally_view_table_info(&view, 0, &table_info), TALLY_NOT_FOUND);
    struct tally_cursor cursor = {0, 0};
    size_t bytes;
    bool more;
    assert_int_equal(tally_view_write_chunk(&view, &cursor, &chunk, NULL, NULL, &bytes, &more), TALLY_NOT_FOUND);
    struct tally_bytes key = test_text("k");
    int64_t value = 9;
    bool found = true;
    tally_view_get_many(&view, 0, &key, 1, &value, &found);
    assert_true(value == 0 && !found);
    tally_view_unpin(&view);
    assert_int_equal(tally_get(&reader, test_text("files"), key, &value), TALLY_NOT_FOUND);
    tally_reader_close(&reader);
    tally_mirror_confirm(mirror, 0, 0, 5); // nothing is held: nothing to confirm
    test_memory_deinit(&memory);
}

static void test_init_refusals(void **state)
{
    (void)state;
    struct test_memory memory;
    struct tally_mirror *mirror;
    struct tally_mirror_options options = {test_text("main"), 0};
    test_memory_init(&memory, MEMORY_BYTES);
    const char *const names[] = {"", "Main", "a b", "x/y",
                                 "12345678901234567890123456789012345678901234567890123456789012345"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct tally_mirror_options bad = {test_text(names[i]), 0};
        assert_int_equal(tally_mirror_init(&memory.memory, &bad, &mirror), TALLY_INVALID);
    }
    struct tally_memory crooked = memory.memory;
    crooked.base = (uint8_t *)crooked.base + 8;
    assert_int_equal(tally_mirror_init(&crooked, &options, &mirror), TALLY_INVALID);
    struct tally_memory none = {0};
    assert_int_equal(tally_mirror_init(&none, &options, &mirror), TALLY_INVALID);
    memory.fail_at = 1;
    assert_int_equal(tally_mirror_init(&memory.memory, &options, &mirror), TALLY_NO_MEMORY);
    memory.memory.size_max = 1000;
    memory.fail_at = 0;
    assert_int_equal(tally_mirror_init(&memory.memory, &options, &mirror), TALLY_NO_MEMORY);
    test_memory_deinit(&memory);
}

// ---------------------------------------------------------------------------------------------------- order

// A frame with this header's order and no rows, as if nothing had changed.
static enum tally_status apply_order(struct world *world, uint64_t epoch, uint64_t from, uint64_t to)
{
    struct model after;
    model_copy(&after, &world->model);
    after.epoch = epoch;
    after.version = to;
    world->model.version = from;
    struct model_frames frames = model_diff(from ? &world->model : NULL, &after, "main", UINT32_MAX);
    enum tally_status status = apply(world, frames.frames[0]);
    model_frames_free(&frames);
    model_free(&after);
    return status;
}

static void test_order(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    const struct {
        uint64_t epoch, from, to;
        enum tally_status status;
    } cases[] = {
        {7, 4, 5, TALLY_OLD},         {7, 0, 5, TALLY_OLD}, {7, 1, 2, TALLY_OLD},   {6, 5, 9, TALLY_OLD},
        {6, 0, 99, TALLY_OLD},        {7, 4, 6, TALLY_GAP}, {7, 6, 7, TALLY_GAP},   {8, 5, 6, TALLY_WRONG_EPOCH},
        {8, 1, 2, TALLY_WRONG_EPOCH}, {7, 5, 6, TALLY_OK},  {7, 6, 9, TALLY_OK},    {7, 0, 9, TALLY_OLD},
        {7, 0, 10, TALLY_OK},         {8, 0, 1, TALLY_OK},  {7, 10, 11, TALLY_OLD}, {8, 1, 2, TALLY_OK},
    };
    uint64_t epoch = 7, version = 5;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(apply_order(&world, cases[i].epoch, cases[i].from, cases[i].to), cases[i].status);
        if (cases[i].status == TALLY_OK) epoch = cases[i].epoch, version = cases[i].to;
        world.model.epoch = epoch;
        world.model.version = version;
        model_check_newest(world.mirror, &world.model);
    }
    struct tally_mirror_stats stats = stats_of(world.mirror);
    assert_int_equal(stats.applies, 6); // 5 and the first
    assert_int_equal(stats.refused, 4);
    assert_int_equal(stats.swaps, 6);
    world_deinit(&world);
}

static void test_fresh(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct tally_reader reader;
    struct tally_view view;
    struct tally_view_info info;
    assert_int_equal(tally_reader_open(world.mirror, &reader), TALLY_OK);
    tally_view_pin(&reader, &view);
    const struct {
        uint64_t epoch, version, now_ms, fresh_ms;
    } cases[] = {{7, 5, 900, 1000},
                 {7, 4, 2000, 1000},
                 {7, 6, 2000, 1000},
                 {8, 5, 2000, 1000},
                 {7, 5, 2000, 2000},
                 {7, 5, 1999, 2000},
                 {7, 5, UINT64_MAX, UINT64_MAX}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tally_mirror_confirm(world.mirror, cases[i].epoch, cases[i].version, cases[i].now_ms);
        tally_view_info(&view, &info);
        assert_true(info.fresh_ms == cases[i].fresh_ms && info.cut_ms == 1000);
    }
    tally_view_unpin(&view);
    tally_reader_close(&reader);
    world_deinit(&world);
}

// ---------------------------------------------------------------------------------------------------- refusals

// A frame from version 5 to 6 with what `write` puts into it. Its digest and rows are those of the state that is held.
struct bad_frame {
    const char *name;
    enum tally_status status;
    void (*write)(struct tally_frame_writer *writer);
    const char *dataset;
    bool whole;
};

static void table(struct tally_frame_writer *writer, uint32_t number, const char *name)
{
    tally_frame_table_begin(writer, number, test_text(name), *name ? TALLY_KIND_COUNTER : TALLY_KIND_UNSPECIFIED);
}

#define WRITE(function, ...)                                                                                           \
    static void function(struct tally_frame_writer *w)                                                                 \
    {                                                                                                                  \
        __VA_ARGS__;                                                                                                   \
        tally_frame_table_end(w);                                                                                      \
    }

WRITE(nothing, table(w, 0, ""))
WRITE(value_differs, table(w, 0, ""), tally_frame_changed(w, 3, 1))
WRITE(removed_not_there, table(w, 0, ""), tally_frame_removed(w, 200))
WRITE(removed_far, table(w, 0, ""), tally_frame_removed(w, TALLY_ROWS_MAX - 1))
WRITE(removed_hole, table(w, 1, ""), tally_frame_removed(w, 0))
WRITE(changed_not_there, table(w, 0, ""), tally_frame_changed(w, 1, 1), tally_frame_changed(w, 5000, 1))
WRITE(changed_after_removed, table(w, 0, ""), tally_frame_removed(w, 1), tally_frame_changed(w, 1, 1))
WRITE(overflow_up, table(w, 1, ""), tally_frame_changed(w, 3, 1))
WRITE(overflow_down, table(w, 1, ""), tally_frame_changed(w, 4, -1))
WRITE(added_id_in_use, table(w, 0, ""), tally_frame_added(w, 7, test_text("new"), 1))
WRITE(added_key_there, table(w, 1, ""), tally_frame_added(w, 9, test_text("1"), 1))
WRITE(added_twice, table(w, 0, ""), tally_frame_added(w, 300, test_text("new"), 1),
      tally_frame_added(w, 301, test_text("new"), 1))
WRITE(table_hole, table(w, 3, "third"), tally_frame_added(w, 0, test_text("x"), 1))
WRITE(table_without_name, table(w, 2, ""), tally_frame_added(w, 0, test_text("x"), 1))
WRITE(table_of_other_name, table(w, 1, "files"), tally_frame_changed(w, 3, -1))
WRITE(table_name_taken, table(w, 2, "files"), tally_frame_added(w, 0, test_text("x"), 1))
WRITE(whole_with_removed, table(w, 0, "files"), tally_frame_removed(w, 0))
WRITE(whole_with_changed, table(w, 0, "files"), tally_frame_changed(w, 0, 1))
WRITE(whole_other_rows, table(w, 0, "files"), tally_frame_added(w, 0, test_text("x"), 1))

static const struct bad_frame bad_frames[] = {
    {"another dataset", TALLY_WRONG_DATASET, nothing, "other", false},
    {"a shorter dataset", TALLY_WRONG_DATASET, nothing, "mai", false},
    {"the digest", TALLY_DIGEST_MISMATCH, value_differs, "main", false},
    {"removed: not there", TALLY_MALFORMED, removed_not_there, "main", false},
    {"removed: far", TALLY_MALFORMED, removed_far, "main", false},
    {"removed: a hole", TALLY_MALFORMED, removed_hole, "main", false},
    {"changed: not there", TALLY_MALFORMED, changed_not_there, "main", false},
    {"changed after removed", TALLY_MALFORMED, changed_after_removed, "main", false},
    {"over the greatest value", TALLY_MALFORMED, overflow_up, "main", false},
    {"under the least value", TALLY_MALFORMED, overflow_down, "main", false},
    {"added: the id is in use", TALLY_MALFORMED, added_id_in_use, "main", false},
    {"added: the key is there", TALLY_CLASH, added_key_there, "main", false},
    {"added: twice", TALLY_CLASH, added_twice, "main", false},
    {"a table left out", TALLY_MALFORMED, table_hole, "main", false},
    {"a new table without name", TALLY_MALFORMED, table_without_name, "main", false},
    {"another's name", TALLY_MALFORMED, table_of_other_name, "main", false},
    {"a name that is taken", TALLY_MALFORMED, table_name_taken, "main", false},
    {"a whole state with removed", TALLY_MALFORMED, whole_with_removed, "main", true},
    {"a whole state with changed", TALLY_MALFORMED, whole_with_changed, "main", true},
    {"a whole state of other rows", TALLY_DIGEST_MISMATCH, whole_other_rows, "main", true},
};

static struct tally_frame_header next_header(const struct world *world)
{
    return (struct tally_frame_header){.dataset = test_text("main"),
                                       .epoch = 7,
                                       .from = 5,
                                       .to = 6,
                                       .digest = model_digest(&world->model),
                                       .rows = model_rows(&world->model)};
}

static enum tally_status apply_written(struct world *world, const struct tally_frame_header *header,
                                       void (*write)(struct tally_frame_writer *writer))
{
    struct test_frame frame;
    test_frame_init(&frame);
    tally_frame_begin(&frame.writer, header);
    if (write) write(&frame.writer);
    assert_int_equal(tally_frame_finish(&frame.writer), TALLY_OK);
    enum tally_status status = apply(world, test_frame_bytes(&frame));
    test_frame_free(&frame);
    return status;
}

static void test_refused(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct tally_mirror_stats before = stats_of(world.mirror);
    for (size_t i = 0; i < sizeof bad_frames / sizeof *bad_frames; i++) {
        const struct bad_frame *bad = &bad_frames[i];
        struct tally_frame_header header = next_header(&world);
        header.dataset = test_text(bad->dataset);
        if (bad->whole) header.from = 0;
        enum tally_status status = apply_written(&world, &header, bad->write);
        if (status != bad->status) fail_msg("%s: %s", bad->name, tally_status_str(status));
        struct tally_mirror_stats after = stats_of(world.mirror);
        assert_true(after.refused == i + 1 && after.used_bytes == before.used_bytes && after.swaps == before.swaps);
        model_check_newest(world.mirror, &world.model);
    }
    struct tally_frame_header header = next_header(&world);
    header.rows++;
    assert_int_equal(apply_written(&world, &header, nothing), TALLY_DIGEST_MISMATCH);
    header = next_header(&world);
    header.digest.hi ^= 1;
    assert_int_equal(apply_written(&world, &header, nothing), TALLY_DIGEST_MISMATCH);
    model_check_newest(world.mirror, &world.model);
    header = next_header(&world);
    assert_int_equal(apply_written(&world, &header, nothing), TALLY_OK);
    world.model.version = 6;
    world.model.cut_ms = 0;
    model_check_newest(world.mirror, &world.model);
    world_deinit(&world);
}

// Each byte of a good frame changed, and each length cut: nothing but the good frame is taken.
static void test_damage(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct model after;
    model_copy(&after, &world.model);
    after.version = 6;
    model_set(&after, 0, 0, 0, 0);
    model_set(&after, 0, 1, 2, 77);
    model_set(&after, 0, 200, 500, 1);
    struct model_frames frames = model_diff(&world.model, &after, "main", UINT32_MAX);
    struct tally_bytes good = frames.frames[0];
    for (size_t i = 0; i < good.size; i++) {
        uint8_t *bad = test_exact_copy(good.data, good.size);
        bad[i] ^= (uint8_t)(1 << i % 8);
        enum tally_status status = apply(&world, tally_bytes(bad, good.size));
        assert_true(status == TALLY_CORRUPT || status == TALLY_MALFORMED);
        free(bad);
        bad = test_exact_copy(good.data, i);
        status = apply(&world, tally_bytes(bad, i));
        assert_true(status == TALLY_CORRUPT || status == TALLY_MALFORMED);
        free(bad);
    }
    model_check_newest(world.mirror, &world.model);
    assert_int_equal(apply(&world, good), TALLY_OK);
    model_check_newest(world.mirror, &after);
    model_frames_free(&frames);
    model_free(&after);
    world_deinit(&world);
}

static void check_by_key(const struct tally_view *view, const struct model *model)
{
    uint8_t room[TALLY_KEY_BYTES_MAX];
    int64_t value;
    for (uint32_t t = 0; t < model->tables; t++) {
        for (uint32_t id = 0; id < model->table[t].ids; id++) {
            const struct model_row *row = &model->table[t].rows[id];
            if (!row->key) continue;
            assert_int_equal(tally_view_get(view, t, model_key(row->key, room), &value), TALLY_OK);
            assert_true(value == row->value);
        }
    }
}

// The same, with the check made right again: the digest is what stands between such a frame and the readers.
static void test_forged_damage(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct model after;
    model_copy(&after, &world.model);
    after.version = 6;
    after.cut_ms++;
    for (uint32_t id = 0; id < 40; id++) model_set(&after, 0, id * 3, id % 2 ? 0 : id * 3 + 1, 5);
    for (uint32_t id = 0; id < 9; id++) model_set(&after, 0, 200 + id, 500 + id, 1);
    struct model_frames frames = model_diff(&world.model, &after, "main", UINT32_MAX);
    struct tally_bytes good = frames.frames[0];
    unsigned taken = 0;
    for (size_t i = 0; i < good.size - TALLY_SEAL_BYTES; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct tally_writer writer = test_writer();
            tally_write_raw(&writer, good.data, good.size - TALLY_SEAL_BYTES);
            writer.data[i] ^= (uint8_t)(1 << bit);
            tally_seal(&writer, 0);
            enum tally_status status = apply(&world, tally_writer_bytes(&writer));
            test_writer_free(&writer);
            if (status == TALLY_MORE) tally_mirror_abandon(world.mirror, &world.memory.memory);
            if (status != TALLY_OK) continue;
            // What the digest does not cover: time and version in the header, and the ids of the rows. By key all is as declared.
            taken++;
            struct tally_reader reader;
            struct tally_view view;
            struct tally_view_info info;
            assert_int_equal(tally_reader_open(world.mirror, &reader), TALLY_OK);
            tally_view_pin(&reader, &view);
            tally_view_info(&view, &info);
            assert_true(tally_digest_equal(info.digest, model_digest(&after)) && info.rows == model_rows(&after));
            check_by_key(&view, &after);
            tally_view_unpin(&view);
            tally_reader_close(&reader);
            test_memory_deinit(&world.memory);
            model_free(&world.model);
            world_init(&world);
        }
    }
    assert_true(taken > 0 && taken < 200);
    model_check_newest(world.mirror, &world.model);
    model_frames_free(&frames);
    model_free(&after);
    world_deinit(&world);
}

// ---------------------------------------------------------------------------------------------------- chunks

static void test_chunks(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct model after;
    model_copy(&after, &world.model);
    after.version = 6;
    for (uint32_t id = 0; id < 60; id++) model_set(&after, 0, id, id % 3 ? id + 1 : 0, -5);
    struct model_frames delta = model_diff(&world.model, &after, "main", 7);
    struct model_frames whole = model_diff(NULL, &after, "main", 50);
    assert_true(delta.count > 5 && whole.count > 3);
    uint64_t used = test_mirror_used(world.mirror);

    // A chunk left out, repeated, or of another change: refused, and what was staged is gone.
    assert_int_equal(apply(&world, delta.frames[1]), TALLY_GAP);
    assert_int_equal(apply(&world, delta.frames[0]), TALLY_MORE);
    assert_true(test_mirror_used(world.mirror) > used);
    assert_int_equal(apply(&world, delta.frames[2]), TALLY_GAP);
    assert_true(test_mirror_used(world.mirror) == used);
    assert_int_equal(apply(&world, delta.frames[1]), TALLY_GAP);
    assert_int_equal(apply(&world, delta.frames[0]), TALLY_MORE);
    assert_int_equal(apply(&world, delta.frames[1]), TALLY_MORE);
    assert_int_equal(apply(&world, delta.frames[1]), TALLY_GAP);
    assert_int_equal(apply(&world, delta.frames[0]), TALLY_MORE);
    assert_int_equal(apply(&world, whole.frames[1]), TALLY_GAP);
    assert_int_equal(apply(&world, delta.frames[1]), TALLY_GAP);
    // What is staged is not read, and may be left.
    assert_int_equal(apply(&world, delta.frames[0]), TALLY_MORE);
    model_check_newest(world.mirror, &world.model);
    tally_mirror_abandon(world.mirror, &world.memory.memory);
    tally_mirror_abandon(world.mirror, &world.memory.memory);
    assert_true(test_mirror_used(world.mirror) == used);
    // A change begun anew replaces the staged one; an old frame between chunks harms nothing.
    struct model_frames old = model_diff(NULL, &world.model, "main", UINT32_MAX);
    assert_int_equal(apply(&world, delta.frames[0]), TALLY_MORE);
    assert_int_equal(apply(&world, whole.frames[0]), TALLY_MORE);
    assert_int_equal(apply(&world, old.frames[0]), TALLY_OLD);
    for (uint32_t i = 1; i + 1 < whole.count; i++) assert_int_equal(apply(&world, whole.frames[i]), TALLY_MORE);
    model_check_newest(world.mirror, &world.model);
    assert_int_equal(apply(&world, whole.frames[whole.count - 1]), TALLY_OK);
    model_check_newest(world.mirror, &after);
    assert_int_equal(apply(&world, delta.frames[0]), TALLY_OLD);
    model_frames_free(&delta);
    model_frames_free(&whole);
    model_frames_free(&old);
    model_free(&after);
    world_deinit(&world);
}

// ---------------------------------------------------------------------------------------------------- readers

static void test_readers(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct tally_mirror_stats start = stats_of(world.mirror);
    struct tally_reader readers[TALLY_READERS_MAX], one_more;
    for (uint32_t i = 0; i < TALLY_READERS_MAX; i++)
        assert_int_equal(tally_reader_open(world.mirror, &readers[i]), TALLY_OK);
    assert_int_equal(tally_reader_open(world.mirror, &one_more), TALLY_FULL);
    assert_int_equal(stats_of(world.mirror).readers, TALLY_READERS_MAX);
    int64_t value;
    uint8_t room[TALLY_KEY_BYTES_MAX];
    struct tally_bytes key = model_key(12, room);
    for (uint32_t i = 0; i < TALLY_READERS_MAX; i++) {
        assert_int_equal(tally_get(&readers[i], test_text("files"), key, &value), TALLY_OK);
        assert_true(value == 110);
    }
    assert_int_equal(tally_get(&readers[0], test_text("files"), test_text("x"), &value), TALLY_NOT_FOUND);
    assert_int_equal(tally_get(&readers[0], test_text("nope"), key, &value), TALLY_NOT_FOUND);
    tally_reader_close(&readers[17]);
    assert_int_equal(tally_reader_open(world.mirror, &one_more), TALLY_OK);
    assert_int_equal(one_more.slot, readers[17].slot);
    tally_reader_close(&one_more);
    for (uint32_t i = 0; i < TALLY_READERS_MAX; i++)
        if (i != 17) tally_reader_close(&readers[i]);
    struct tally_mirror_stats stats = stats_of(world.mirror);
    assert_int_equal(stats.readers, 0);
    assert_int_equal(stats.hits - start.hits, TALLY_READERS_MAX);
    assert_int_equal(stats.misses - start.misses, 2);
    assert_int_equal(stats.reads, stats.hits + stats.misses);
    world_deinit(&world);
}

static void test_get_many(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct tally_reader reader;
    struct tally_view view;
    assert_int_equal(tally_reader_open(world.mirror, &reader), TALLY_OK);
    tally_view_pin(&reader, &view);
    enum { KEYS = 330 };
    static uint8_t room[KEYS][TALLY_KEY_BYTES_MAX];
    struct tally_bytes keys[KEYS];
    int64_t values[KEYS], value;
    bool found[KEYS];
    for (uint32_t i = 0; i < KEYS; i++) keys[i] = model_key(i + 1, room[i]);
    for (size_t count = 0; count <= KEYS; count += count < 70 ? 1 : 20) {
        memset(values, 0x55, sizeof values);
        memset(found, 1, sizeof found);
        struct tally_mirror_stats before = stats_of(world.mirror);
        tally_view_get_many(&view, 0, keys, count, values, found);
        uint64_t hits = 0;
        for (size_t i = 0; i < count; i++) {
            bool there = tally_view_get(&view, 0, keys[i], &value) == TALLY_OK;
            assert_true(found[i] == there && values[i] == (there ? value : 0));
            hits += there;
        }
        struct tally_mirror_stats after = stats_of(world.mirror);
        assert_true(after.hits - before.hits == 2 * hits && after.misses - before.misses == 2 * (count - hits));
    }
    tally_view_get_many(&view, 9, keys, KEYS, values, found);
    for (size_t i = 0; i < KEYS; i++) assert_true(!found[i] && values[i] == 0);
    tally_view_unpin(&view);
    tally_reader_close(&reader);
    world_deinit(&world);
}

// ---------------------------------------------------------------------------------------------------- views

// Applies a version that changes every row of the first table.
static enum tally_status change_all(struct world *world)
{
    struct model after;
    model_copy(&after, &world->model);
    after.version++;
    for (uint32_t id = 0; id < after.table[0].ids; id++)
        if (after.table[0].rows[id].key) after.table[0].rows[id].value += 3;
    enum tally_status status = model_step(world->mirror, &world->memory.memory, &world->model, &after, UINT32_MAX);
    if (status == TALLY_OK) {
        model_free(&world->model);
        world->model = after;
    } else {
        model_free(&after);
    }
    return status;
}

static void test_overlapping_views(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct tally_reader reader;
    struct tally_view first, second;
    struct model model_first, model_second;
    assert_int_equal(tally_reader_open(world.mirror, &reader), TALLY_OK);
    tally_view_pin(&reader, &first);
    model_copy(&model_first, &world.model);
    for (unsigned i = 0; i < 20; i++) assert_int_equal(change_all(&world), TALLY_OK);
    assert_int_equal(stats_of(world.mirror).stalled_readers, 1);
    tally_view_pin(&reader, &second);
    model_copy(&model_second, &world.model);
    for (unsigned i = 0; i < 20; i++) assert_int_equal(change_all(&world), TALLY_OK);
    model_check(&first, &model_first);
    model_check(&second, &model_second);
    model_check_newest(world.mirror, &world.model);
    tally_view_unpin(&first); // not in the order of pinning
    for (unsigned i = 0; i < 20; i++) assert_int_equal(change_all(&world), TALLY_OK);
    model_check(&second, &model_second);
    assert_true(stats_of(world.mirror).retired_bytes > 0);
    tally_view_unpin(&second);
    assert_int_equal(change_all(&world), TALLY_OK);
    assert_true(stats_of(world.mirror).retired_bytes == 0);
    assert_int_equal(stats_of(world.mirror).stalled_readers, 0);
    tally_reader_close(&reader);
    model_free(&model_first);
    model_free(&model_second);
    world_deinit(&world);
}

// A thread that was ended within a view, and one between two stores of its pin, hold nothing once they are evicted; whoever has the seats
// next begins anew.
static void test_evicted(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct tally_reader readers[2];
    struct tally_view view, over;
    for (unsigned i = 0; i < 2; i++) assert_int_equal(tally_reader_open(world.mirror, &readers[i]), TALLY_OK);
    tally_view_pin(&readers[0], &view);
    tally_view_pin(&readers[0], &over);
    world.mirror->slots[readers[1].slot].depth = 1;
    assert_int_equal(change_all(&world), TALLY_OK);
    assert_true(stats_of(world.mirror).retired_bytes > 0);
    for (unsigned i = 0; i < 2; i++) tally_reader_evict(&readers[i]);
    assert_int_equal(change_all(&world), TALLY_OK);
    assert_true(stats_of(world.mirror).retired_bytes == 0);
    assert_int_equal(stats_of(world.mirror).readers, 0);
    for (unsigned i = 0; i < 2; i++) assert_int_equal(tally_reader_open(world.mirror, &readers[i]), TALLY_OK);
    tally_view_pin(&readers[1], &view); // a depth that was left would not announce
    assert_int_equal(change_all(&world), TALLY_OK);
    assert_int_equal(stats_of(world.mirror).stalled_readers, 1);
    tally_view_unpin(&view);
    assert_int_equal(change_all(&world), TALLY_OK);
    assert_true(stats_of(world.mirror).retired_bytes == 0);
    for (unsigned i = 0; i < 2; i++) tally_reader_close(&readers[i]);
    world_deinit(&world);
}

static void test_stalled(void **state)
{
    (void)state;
    struct world world;
    test_memory_init(&world.memory, MEMORY_BYTES);
    const uint64_t retired_bytes_max = 100000;
    world.mirror = test_mirror(&world.memory, "main", retired_bytes_max);
    world.model = (struct model){.epoch = 7, .version = 1, .seed = {11, 22}};
    model_add_table(&world.model);
    for (uint32_t id = 0; id < 200; id++) model_set(&world.model, 0, id, id + 1, id * 10);
    assert_int_equal(model_step(world.mirror, &world.memory.memory, NULL, &world.model, UINT32_MAX), TALLY_OK);
    struct tally_reader reader;
    struct tally_view view;
    struct model pinned;
    assert_int_equal(tally_reader_open(world.mirror, &reader), TALLY_OK);
    for (unsigned round = 0; round < 3; round++) {
        tally_view_pin(&reader, &view);
        model_copy(&pinned, &world.model);
        enum tally_status status;
        unsigned versions = 0;
        while ((status = change_all(&world)) == TALLY_OK && ++versions < 1000) continue;
        assert_int_equal(status, TALLY_STALLED);
        assert_true(versions > 3);
        struct tally_mirror_stats stats = stats_of(world.mirror);
        assert_true(stats.retired_bytes > retired_bytes_max && stats.retired_bytes < 2 * retired_bytes_max);
        assert_int_equal(stats.stalled_readers, 1);
        assert_int_equal(change_all(&world), TALLY_STALLED);
        model_check(&view, &pinned);
        model_check_newest(world.mirror, &world.model);
        tally_view_unpin(&view);
        model_free(&pinned);
        assert_int_equal(change_all(&world), TALLY_OK);
        assert_true(stats_of(world.mirror).retired_bytes == 0);
        model_check_newest(world.mirror, &world.model);
    }
    tally_reader_close(&reader);
    world_deinit(&world);
}

// ---------------------------------------------------------------------------------------------------- chunk writing

static void test_write_chunk_cursors(void **state)
{
    (void)state;
    struct world world;
    world_init(&world);
    struct tally_reader reader;
    struct tally_view view;
    assert_int_equal(tally_reader_open(world.mirror, &reader), TALLY_OK);
    tally_view_pin(&reader, &view);
    uint8_t *scratch = malloc(TALLY_CHUNK_BYTES_MAX), *out = malloc(TALLY_CHUNK_BYTES_MAX);
    size_t bytes;
    bool more = true;
    // A cursor comes from a peer: any is safe, and one past the last table but its end is refused.
    const struct {
        struct tally_cursor cursor;
        enum tally_status status;
    } cases[] = {{{0, 100}, TALLY_OK}, {{0, UINT32_MAX}, TALLY_OK}, {{1, 4}, TALLY_OK},
                 {{2, 0}, TALLY_OK},   {{3, 0}, TALLY_INVALID},     {{UINT32_MAX, UINT32_MAX}, TALLY_INVALID}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tally_cursor cursor = cases[i].cursor;
        uint32_t chunk = 3;
        struct tally_frame_reader frame;
        enum tally_status status = tally_view_write_chunk(&view, &cursor, &chunk, scratch, out, &bytes, &more);
        assert_int_equal(status, cases[i].status);
        if (status) {
            assert_true(chunk == 3 && cursor.table == cases[i].cursor.table);
            continue;
        }
        assert_true(chunk == 4 && !more && cursor.table == 2);
        assert_int_equal(tally_frame_open(tally_bytes(out, bytes), &frame), TALLY_OK);
        assert_true(frame.header.chunk == 3 && !frame.header.more && frame.header.from == 0);
    }
    free(scratch);
    free(out);
    tally_view_unpin(&view);
    tally_reader_close(&reader);
    world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_init_refusals),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_fresh),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_forged_damage),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_readers),
        cmocka_unit_test(test_get_many),
        cmocka_unit_test(test_overlapping_views),
        cmocka_unit_test(test_evicted),
        cmocka_unit_test(test_stalled),
        cmocka_unit_test(test_write_chunk_cursors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
