// SPDX-License-Identifier: Apache-2.0
//
// A naive model of a dataset beside a mirror: plain arrays by table and id, the digest summed anew each time; the frames that lead from
// one model to another; the comparison of a view with a model; and memory for a mirror that counts and refuses growth.
// Threads: an object belongs to one thread.
#ifndef TALLY_TEST_MIRROR_MODEL_H
#define TALLY_TEST_MIRROR_MODEL_H

#include "build.h"
#include "random.h"
#include "with_cmocka.h"

#include <tallycast/fingerprint.h>
#include <tallycast/mirror.h>

// ---------------------------------------------------------------------------------------------------- memory

struct test_memory {
    struct tally_memory memory; // hand out &memory
    void *block;
    size_t grows;    // made so far
    size_t fail_at;  // refuse the one with this number (1, 2 ...) and all after it; 0: none
    size_t step_max; // refuse to grow by more at a time; 0: any
};

static inline bool test_memory_grow(struct tally_memory *memory, size_t size_min)
{
    struct test_memory *test = (struct test_memory *)memory;
    test->grows++;
    if ((test->fail_at && test->grows >= test->fail_at) || size_min > memory->size_max) return false;
    if (test->step_max && size_min - memory->size > test->step_max) return false;
    memory->size = size_min;
    return true;
}

static inline void test_memory_init(struct test_memory *test, size_t size_max)
{
    *test = (struct test_memory){.block = calloc(1, size_max + 64)};
    assert_non_null(test->block);
    uintptr_t base = ((uintptr_t)test->block + 63) & ~(uintptr_t)63;
    test->memory = (struct tally_memory){.base = (void *)base, .size_max = size_max, .grow = test_memory_grow};
}

static inline void test_memory_deinit(struct test_memory *test) { free(test->block); }

static inline struct tally_mirror *test_mirror(struct test_memory *test, const char *dataset,
                                               uint64_t retired_bytes_max)
{
    struct tally_mirror *mirror;
    struct tally_mirror_options options = {test_text(dataset), retired_bytes_max};
    assert_int_equal(tally_mirror_init(&test->memory, &options, &mirror), TALLY_OK);
    return mirror;
}

// ---------------------------------------------------------------------------------------------------- model

#define MODEL_TABLES_MAX 8u

struct model_row {
    uint32_t key; // number of the key, 0: the id is not in use
    int64_t value;
};

struct model_table {
    struct model_row *rows; // by id
    uint32_t ids;           // in `rows`
    uint32_t live;
};

struct model {
    uint64_t epoch, version, cut_ms;
    struct tally_seed seed;
    uint32_t tables;
    struct model_table table[MODEL_TABLES_MAX];
};

static inline void model_copy(struct model *to, const struct model *from)
{
    *to = *from;
    for (uint32_t t = 0; t < from->tables; t++) {
        size_t bytes = from->table[t].ids * sizeof(struct model_row);
        to->table[t].rows = malloc(bytes ? bytes : 1);
        assert_non_null(to->table[t].rows);
        if (bytes) memcpy(to->table[t].rows, from->table[t].rows, bytes);
    }
}

static inline void model_free(struct model *model)
{
    for (uint32_t t = 0; t < model->tables; t++) free(model->table[t].rows);
    *model = (struct model){0};
}

// Every number has its key, of 1 to 1024 bytes: most are short.
static inline struct tally_bytes model_key(uint32_t number, uint8_t room[TALLY_KEY_BYTES_MAX])
{
    size_t size = (size_t)snprintf((char *)room, 32, "%u", number), wanted = size;
    uint64_t mixed = tally_mix64(number);
    if (mixed % 61 == 0)
        wanted = TALLY_KEY_BYTES_MAX;
    else if (mixed % 5 == 0)
        wanted = size + 1 + mixed / 64 % 100;
    for (; size < wanted; size++) room[size] = (uint8_t)(size * 7 + 'a');
    return tally_bytes(room, size);
}

static inline struct tally_bytes model_name(uint32_t table)
{
    static const char *const names[MODEL_TABLES_MAX] = {"files", "repos", "a", "b.c", "d-e", "f_g", "h0", "i1"};
    return test_text(names[table]);
}

static inline void model_add_table(struct model *model)
{
    assert_true(model->tables < MODEL_TABLES_MAX);
    model->table[model->tables++] = (struct model_table){.rows = malloc(1)};
}

static inline void model_set(struct model *model, uint32_t table, uint32_t id, uint32_t key, int64_t value)
{
    struct model_table *t = &model->table[table];
    if (id >= t->ids) {
        t->rows = realloc(t->rows, (size_t)(id + 1) * sizeof *t->rows);
        assert_non_null(t->rows);
        memset(t->rows + t->ids, 0, (size_t)(id + 1 - t->ids) * sizeof *t->rows);
        t->ids = id + 1;
    }
    t->live += (key != 0) - (t->rows[id].key != 0);
    t->rows[id] = (struct model_row){key, value};
}

static inline uint64_t model_rows(const struct model *model)
{
    uint64_t rows = 0;
    for (uint32_t t = 0; t < model->tables; t++) rows += model->table[t].live;
    return rows;
}

static inline struct tally_digest model_digest(const struct model *model)
{
    struct tally_digest digest = {0, 0};
    uint8_t room[TALLY_KEY_BYTES_MAX];
    for (uint32_t t = 0; t < model->tables; t++) {
        uint64_t name = tally_digest_table(model->seed, model_name(t));
        for (uint32_t id = 0; id < model->table[t].ids; id++) {
            const struct model_row *row = &model->table[t].rows[id];
            if (!row->key) continue;
            struct tally_bytes key = model_key(row->key, room);
            tally_digest_add(&digest,
                             tally_digest_row(name, tally_fingerprint(model->seed, key.data, key.size), row->value));
        }
    }
    return digest;
}

// ---------------------------------------------------------------------------------------------------- frames

// The frames, sealed, that lead from one model to another.
struct model_frames {
    struct tally_bytes *frames; // heap, each
    uint32_t count;
};

static inline void model_frames_free(struct model_frames *frames)
{
    for (uint32_t i = 0; i < frames->count; i++) free((void *)(uintptr_t)frames->frames[i].data);
    free(frames->frames);
    *frames = (struct model_frames){0};
}

enum model_list { MODEL_REMOVED, MODEL_CHANGED, MODEL_ADDED, MODEL_LISTS };

// Which lists the row of an id belongs to, on the way from `before` to `after`.
static inline bool model_in_list(enum model_list list, struct model_row before, struct model_row after)
{
    int64_t difference;
    bool stays =
        before.key && before.key == after.key && !__builtin_sub_overflow(after.value, before.value, &difference);
    switch (list) {
    case MODEL_REMOVED: return before.key && !stays;
    case MODEL_CHANGED: return stays && before.value != after.value;
    default: return after.key && !stays;
    }
}

struct model_writer {
    struct model_frames frames;
    struct test_frame frame;
    struct tally_frame_header header;
    uint32_t rows, rows_max; // in this chunk
};

static inline void model_chunk_end(struct model_writer *writer)
{
    assert_int_equal(tally_frame_finish(&writer->frame.writer), TALLY_OK);
    struct tally_bytes bytes = test_frame_bytes(&writer->frame);
    writer->frames.frames = realloc(writer->frames.frames, (writer->frames.count + 1) * sizeof(struct tally_bytes));
    writer->frames.frames[writer->frames.count++] = tally_bytes(test_exact_copy(bytes.data, bytes.size), bytes.size);
    test_frame_free(&writer->frame);
}

// Begins a chunk. Whether more follow is not known: see model_diff.
static inline void model_chunk_begin(struct model_writer *writer, uint32_t chunks)
{
    test_frame_init(&writer->frame);
    writer->header.chunk = writer->frames.count;
    writer->header.more = writer->frames.count + 1 < chunks;
    tally_frame_begin(&writer->frame.writer, &writer->header);
    writer->rows = 0;
}

static inline void model_write_row(struct tally_frame_writer *writer, enum model_list list, uint32_t id,
                                   struct model_row before, struct model_row after)
{
    uint8_t room[TALLY_KEY_BYTES_MAX];
    switch (list) {
    case MODEL_REMOVED: tally_frame_removed(writer, id); break;
    case MODEL_CHANGED: tally_frame_changed(writer, id, after.value - before.value); break;
    default: tally_frame_added(writer, id, model_key(after.key, room), after.value);
    }
}

static inline void model_write(struct model_writer *writer, const struct model *before, const struct model *after,
                               uint32_t chunks)
{
    struct tally_frame_writer *frame = &writer->frame.writer;
    const struct model_table none = {0};
    model_chunk_begin(writer, chunks);
    for (uint32_t t = 0; t < after->tables; t++) {
        const struct model_table *b = before && t < before->tables ? &before->table[t] : &none;
        const struct model_table *a = &after->table[t];
        struct tally_bytes name = b == &none ? model_name(t) : tally_bytes(NULL, 0);
        enum tally_kind kind = b == &none ? TALLY_KIND_COUNTER : TALLY_KIND_UNSPECIFIED;
        uint32_t ids = a->ids > b->ids ? a->ids : b->ids;
        tally_frame_table_begin(frame, t, name, kind);
        for (enum model_list list = MODEL_REMOVED; list < MODEL_LISTS; list++) {
            for (uint32_t id = 0; id < ids; id++) {
                struct model_row was = id < b->ids ? b->rows[id] : (struct model_row){0, 0};
                struct model_row is = id < a->ids ? a->rows[id] : (struct model_row){0, 0};
                if (!model_in_list(list, was, is)) continue;
                if (writer->rows == writer->rows_max) {
                    tally_frame_table_end(frame);
                    model_chunk_end(writer);
                    model_chunk_begin(writer, chunks);
                    if (before) name.size = 0, kind = TALLY_KIND_UNSPECIFIED; // known by now
                    tally_frame_table_begin(frame, t, name, kind);
                }
                model_write_row(frame, list, id, was, is);
                writer->rows++;
            }
        }
        tally_frame_table_end(frame);
    }
    model_chunk_end(writer);
}

// The way from `before` (null: a whole state) to `after`, in chunks of `rows_max` rows.
static inline struct model_frames model_diff(const struct model *before, const struct model *after, const char *dataset,
                                             uint32_t rows_max)
{
    struct model_writer writer = {
        .header = {.dataset = test_text(dataset),
                   .epoch = after->epoch,
                   .from = before ? before->version : 0,
                   .to = after->version,
                   .cut_ms = after->cut_ms,
                   .digest = model_digest(after),
                   .rows = model_rows(after),
                   .seed = before ? (struct tally_seed){0, 0} : after->seed},
        .rows_max = rows_max,
    };
    struct model_writer counting = writer; // twice: the first time to know how many chunks there are
    model_write(&counting, before, after, 0);
    model_write(&writer, before, after, counting.frames.count);
    model_frames_free(&counting.frames);
    return writer.frames;
}

// Applies all of them; the status of the last.
static inline enum tally_status model_apply(struct tally_mirror *mirror, struct tally_memory *memory,
                                            const struct model_frames *frames)
{
    enum tally_status status = TALLY_INVALID;
    for (uint32_t i = 0; i < frames->count; i++) {
        status = tally_mirror_apply(mirror, memory, frames->frames[i]);
        if (status != TALLY_MORE) break;
    }
    return status;
}

static inline enum tally_status model_step(struct tally_mirror *mirror, struct tally_memory *memory,
                                           const struct model *before, const struct model *after, uint32_t rows_max)
{
    struct model_frames frames = model_diff(before, after, "main", rows_max);
    enum tally_status status = model_apply(mirror, memory, &frames);
    model_frames_free(&frames);
    return status;
}

// ---------------------------------------------------------------------------------------------------- random steps

// A free id: mostly the smallest, sometimes any up to a little beyond the end.
static inline uint32_t model_free_id(const struct model_table *table, struct test_random *random)
{
    if (test_random_percent(random, 10)) {
        uint32_t id = (uint32_t)test_random_below(random, table->ids + 100);
        if (id >= table->ids || table->rows[id].key == 0) return id;
    }
    for (uint32_t id = 0; id < table->ids; id++)
        if (table->rows[id].key == 0) return id;
    return table->ids;
}

struct model_mix {
    uint32_t rows_max;               // of a table; adds stop there
    uint32_t removes, changes, adds; // at most, a step and table
};

// Makes `model` the next version. `next_key` numbers the keys; some that left come back.
static inline void model_random_step(struct model *model, struct test_random *random, const struct model_mix *mix,
                                     uint32_t *next_key)
{
    model->version += test_random_between(random, 1, 3);
    model->cut_ms += test_random_below(random, 100);
    if (model->tables < MODEL_TABLES_MAX && test_random_percent(random, 5)) model_add_table(model);
    for (uint32_t t = 0; t < model->tables; t++) {
        struct model_table *table = &model->table[t];
        uint32_t left[4] = {0};
        for (uint64_t n = test_random_below(random, mix->removes + 1); n && table->ids; n--) {
            uint32_t id = (uint32_t)test_random_below(random, table->ids);
            left[n % 4] = table->rows[id].key ? table->rows[id].key : left[n % 4];
            model_set(model, t, id, 0, 0);
        }
        for (uint64_t n = test_random_below(random, mix->changes + 1); n && table->ids; n--) {
            uint32_t id = (uint32_t)test_random_below(random, table->ids);
            if (table->rows[id].key) table->rows[id].value = (int64_t)test_random_wide(random);
        }
        for (uint64_t n = test_random_below(random, mix->adds + 1); n && table->live < mix->rows_max; n--) {
            uint32_t key = n < 4 && left[n] ? left[n] : ++*next_key;
            if (n < 4) left[n] = 0;
            model_set(model, t, model_free_id(table, random), key, (int64_t)test_random_wide(random));
        }
    }
}

// ---------------------------------------------------------------------------------------------------- comparing

static inline void model_check_info(const struct tally_view *view, const struct model *model)
{
    struct tally_view_info info;
    tally_view_info(view, &info);
    assert_true(info.epoch == model->epoch && info.version == model->version && info.cut_ms == model->cut_ms);
    assert_true(info.rows == model_rows(model) && info.tables == model->tables);
    assert_true(info.seed.k0 == model->seed.k0 && info.seed.k1 == model->seed.k1);
    assert_true(tally_digest_equal(info.digest, model_digest(model)));
}

// Every table, every row by key and in listing order, and a key that is not there.
static inline void model_check(const struct tally_view *view, const struct model *model)
{
    model_check_info(view, model);
    struct tally_cursor cursor = {0, 0};
    struct tally_row row;
    uint8_t room[TALLY_KEY_BYTES_MAX];
    int64_t value = 42;
    for (uint32_t t = 0; t < model->tables; t++) {
        struct tally_table_info table_info;
        uint32_t number;
        assert_int_equal(tally_view_table(view, model_name(t), &number), TALLY_OK);
        assert_int_equal(number, t);
        assert_int_equal(tally_view_table_info(view, t, &table_info), TALLY_OK);
        assert_true(table_info.rows == model->table[t].live && table_info.kind == TALLY_KIND_COUNTER);
        assert_true(tally_bytes_equal(table_info.name, model_name(t)));
        for (uint32_t id = 0; id < model->table[t].ids; id++) {
            const struct model_row *expected = &model->table[t].rows[id];
            if (!expected->key) continue;
            struct tally_bytes key = model_key(expected->key, room);
            assert_int_equal(tally_view_get(view, t, key, &value), TALLY_OK);
            assert_true(value == expected->value);
            assert_true(tally_view_next(view, &cursor, &row));
            assert_true(row.table == t && row.id == id && row.value == expected->value);
            assert_true(tally_bytes_equal(row.key, key));
        }
        value = 42;
        assert_int_equal(tally_view_get(view, t, test_text("no such key"), &value), TALLY_NOT_FOUND);
        assert_true(value == 42);
    }
    assert_false(tally_view_next(view, &cursor, &row));
    assert_int_equal(tally_view_get(view, model->tables, test_text("1"), &value), TALLY_NOT_FOUND);
}

// The same through a reader of its own.
static inline void model_check_newest(struct tally_mirror *mirror, const struct model *model)
{
    struct tally_reader reader;
    struct tally_view view;
    assert_int_equal(tally_reader_open(mirror, &reader), TALLY_OK);
    tally_view_pin(&reader, &view);
    model_check(&view, model);
    tally_view_unpin(&view);
    tally_reader_close(&reader);
}

static inline uint64_t test_mirror_used(const struct tally_mirror *mirror)
{
    struct tally_mirror_stats stats;
    tally_mirror_stats(mirror, &stats);
    return stats.used_bytes;
}

#endif
