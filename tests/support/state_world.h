// SPDX-License-Identifier: Apache-2.0
//
// A state, the mirror that takes its frames, and the naive model of both, moved together record by record. Include after cmocka.
#ifndef TALLY_TEST_STATE_WORLD_H
#define TALLY_TEST_STATE_WORLD_H

#include <server/src/snapshot.h>
#include <tallycast/memory.h>

#include "count_model.h"

struct world_mirror {
    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_reader reader;
};

static inline void world_mirror_open(struct world_mirror *world)
{
    const struct tally_mirror_options options = {.dataset = test_text(MODEL_DATASET)};
    assert_int_equal(tally_memory_map(256u << 20, 0, &world->memory), TALLY_OK);
    assert_int_equal(tally_mirror_init(&world->memory, &options, &world->mirror), TALLY_OK);
    assert_int_equal(tally_reader_open(world->mirror, &world->reader), TALLY_OK);
}

static inline void world_mirror_close(struct world_mirror *world)
{
    tally_reader_close(&world->reader);
    tally_memory_unmap(&world->memory);
}

static inline struct tally_view_info world_mirror_info(struct world_mirror *world)
{
    struct tally_view view;
    struct tally_view_info info;
    tally_view_pin(&world->reader, &view);
    tally_view_info(&view, &info);
    tally_view_unpin(&view);
    return info;
}

// The mirror holds the model's rows, ids included, and nothing else.
static inline void world_mirror_equals(struct world_mirror *world, struct model *model)
{
    struct tally_view view;
    struct tally_view_info info;
    struct tally_table_info table;
    struct tally_cursor cursor = {0};
    struct tally_row row;
    size_t rows = 0, seen = 0;
    tally_view_pin(&world->reader, &view);
    tally_view_info(&view, &info);
    assert_int_equal(info.version, model->version);
    assert_int_equal(info.tables, model->tables_count);
    for (uint32_t i = 0; i < model->tables_count; i++) {
        assert_int_equal(tally_view_table_info(&view, i, &table), TALLY_OK);
        assert_true(tally_bytes_equal(table.name, test_text(model->tables[i].name)));
        assert_int_equal(table.rows, model->tables[i].count);
        rows += model->tables[i].count;
    }
    while (tally_view_next(&view, &cursor, &row)) {
        struct model_row *expected = model_row(&model->tables[row.table], row.key);
        assert_non_null(expected);
        assert_int_equal(row.id, expected->id);
        assert_int_equal(row.value, expected->value);
        seen++;
    }
    assert_int_equal(seen, rows);
    assert_int_equal(info.rows, rows);
    tally_view_unpin(&view);
}

// ---------------------------------------------------------------------------------------------------- records

struct world {
    struct tally_state state;
    struct world_mirror mirror;
    struct model model;
    struct model_feed feed;
    struct tally_writer out;
    struct tally_writer record;
    uint64_t time_ms;
    struct tally_seed seed;
};

static inline struct tally_state_options world_options(const struct model *model, struct tally_seed seed,
                                                       uint64_t clash_mask)
{
    return (struct tally_state_options){.dataset = test_text(MODEL_DATASET),
                                        .epoch = 1000,
                                        .seed = seed,
                                        .producers_max = (uint32_t)model->producers_max,
                                        .tables_max = (uint32_t)model->tables_max,
                                        .clash_mask = clash_mask};
}

static inline struct world *world_open(struct test_random *random, const struct tally_alloc *alloc, uint64_t clash_mask)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->model.tables_max = 1 + test_random_below(random, 5);
    world->model.producers_max = 2 + test_random_below(random, 5);
    world->feed = (struct model_feed){.random = random,
                                      .producers = 1 + test_random_below(random, 8),
                                      .tables = 1 + test_random_below(random, 6),
                                      .keys = 4 + test_random_below(random, 100),
                                      .remove_percent = (unsigned)test_random_below(random, 100),
                                      .strange_percent = (unsigned)test_random_below(random, 25)};
    world->feed.kinds = test_random_percent(random, 60);
    if (world->feed.kinds) world->model.tables_max = 1 + test_random_below(random, 14);
    world->seed = (struct tally_seed){test_random_next(random), test_random_next(random)};
    const struct tally_state_options options = world_options(&world->model, world->seed, clash_mask);
    assert_int_equal(tally_state_init(&world->state, &options, alloc), TALLY_OK);
    world_mirror_open(&world->mirror);
    world->out = test_writer();
    world->record = test_writer();
    world->time_ms = 1000000;
    return world;
}

static inline void world_close(struct world *world)
{
    tally_state_deinit(&world->state);
    world_mirror_close(&world->mirror);
    model_free(&world->model);
    test_writer_free(&world->out);
    test_writer_free(&world->record);
    free(world);
}

// A random record behind the model's version, and what the model says of its batches. The model moves.
static inline struct tally_bytes world_record(struct world *world, enum tally_status *verdicts, size_t *out_count)
{
    struct tally_bytes record, message;
    size_t count = test_random_below(world->feed.random, 6);
    world->model.version++;
    world->time_ms += test_random_below(world->feed.random, 30);
    tally_record_begin(&world->record);
    while (world->feed.kinds && test_random_percent(world->feed.random, world->model.version == 1 ? 60 : 5)) {
        struct tally_bytes table;
        struct tally_definition definition = model_feed_definition(&world->feed, &table);
        tally_record_definition(&world->record, table, &definition);
        model_define(&world->model, table, definition);
    }
    for (size_t i = 0; i < count; i++) {
        struct test_batch batch;
        model_feed_batch(&world->feed, &batch, &message);
        tally_record_batch(&world->record, message);
        verdicts[i] = model_batch(&world->model, message);
        test_batch_free(&batch);
    }
    model_conclude(&world->model);
    const struct tally_record_header header = {.version = world->model.version, .time_ms = world->time_ms};
    assert_int_equal(tally_record_finish(&world->record, &header, &record), TALLY_OK);
    *out_count = count;
    return record;
}

// Applies a whole state of `state` to a mirror, chunk by chunk.
static inline void world_apply_whole(struct tally_state *state, struct world_mirror *mirror)
{
    struct tally_state_cursor cursor = {0};
    struct tally_writer out = test_writer();
    enum tally_status status = TALLY_MORE;
    while (status == TALLY_MORE) {
        out.size = 0;
        assert_int_equal(tally_state_write_chunk(state, &cursor, &out), TALLY_OK);
        assert_true(out.size <= TALLY_CHUNK_BYTES_MAX);
        status = tally_mirror_apply(mirror->mirror, &mirror->memory, tally_writer_bytes(&out));
        assert_int_equal(status, cursor.done ? TALLY_OK : TALLY_MORE);
    }
    test_writer_free(&out);
}

#endif
