// SPDX-License-Identifier: Apache-2.0
#include "../support/build.h"
#include "../support/random.h"
#include "../support/with_cmocka.h"

#include <tallycast/limits.h>

// ------------------------------------------------------------------------------------------ a naive model
// A frame as plain lists. Written by the codec, read back, and compared; `model_read` is also how
// refusals are looked for.

enum { ROWS_MAX = 400, TABLES = 4, KEY_MAX = 20 };

struct model_row {
    uint32_t id;
    int64_t value;
    uint8_t key[KEY_MAX];
    size_t key_bytes;
};

struct model_list {
    struct model_row rows[ROWS_MAX];
    size_t count;
};

struct model_table {
    uint32_t table;
    char name[8];
    struct model_list removed, changed, added;
};

struct model {
    struct tally_frame_header header;
    struct model_table tables[TABLES];
    size_t count;
};

static void draw_list(struct test_random *random, struct model_list *list, bool keys)
{
    uint64_t id = test_random_percent(random, 50) ? 0 : test_random_below(random, TALLY_ROWS_MAX);
    uint64_t spread = (uint64_t)1 << test_random_below(random, 21);
    bool wide = test_random_percent(random, 50), extremes = test_random_percent(random, 10);
    list->count = 0;
    for (size_t want = test_random_below(random, test_random_percent(random, 80) ? 40 : ROWS_MAX);
         want > 0 && id < TALLY_ROWS_MAX; want--) {
        struct model_row *row = &list->rows[list->count++];
        *row = (struct model_row){.id = (uint32_t)id};
        row->value = wide ? (int64_t)test_random_wide(random) : 1 + (int64_t)test_random_below(random, 50);
        if (extremes) row->value = list->count % 2 ? 60 : INT64_MIN; // what varints suit best
        if (keys) row->key_bytes = test_random_between(random, 1, KEY_MAX);
        test_random_fill(random, row->key, row->key_bytes);
        id += 1 + (test_random_percent(random, 70) ? test_random_below(random, 3) : test_random_below(random, spread));
    }
}

static void draw_model(struct test_random *random, struct model *model)
{
    bool whole = test_random_percent(random, 30);
    uint64_t from = whole ? 0 : 1 + test_random_wide(random) / 2;
    model->header = (struct tally_frame_header){
        .dataset = test_text("main"),
        .epoch = test_random_wide(random) | 1,
        .from = from,
        .to = from + 1 + test_random_below(random, 1000),
        .cut_ms = test_random_wide(random),
        .digest = {test_random_next(random), test_random_next(random)},
        .rows = test_random_wide(random),
        .chunk = test_random_percent(random, 70) ? 0 : (uint32_t)test_random_wide(random),
        .more = test_random_percent(random, 30),
    };
    if (whole) model->header.seed = (struct tally_seed){test_random_next(random), test_random_next(random)};
    model->count = test_random_below(random, TABLES + 1);
    uint32_t number = 0;
    for (size_t i = 0; i < model->count; i++) {
        struct model_table *table = &model->tables[i];
        number += (uint32_t)test_random_below(random, 60);
        table->table = number++;
        snprintf(table->name, sizeof table->name, "%s", test_random_percent(random, 50) ? "files" : "");
        draw_list(random, &table->removed, false);
        draw_list(random, &table->changed, false);
        draw_list(random, &table->added, true);
    }
}

static enum tally_status model_write(const struct model *model, struct test_frame *frame)
{
    struct tally_frame_writer *writer = &frame->writer;
    tally_frame_begin(writer, &model->header);
    for (size_t i = 0; i < model->count; i++) {
        const struct model_table *table = &model->tables[i];
        tally_frame_table_begin(writer, table->table, test_text(table->name),
                                table->name[0] ? TALLY_KIND_COUNTER : TALLY_KIND_UNSPECIFIED);
        for (size_t r = 0; r < table->removed.count; r++) tally_frame_removed(writer, table->removed.rows[r].id);
        for (size_t r = 0; r < table->changed.count; r++)
            tally_frame_changed(writer, table->changed.rows[r].id, table->changed.rows[r].value);
        for (size_t r = 0; r < table->added.count; r++) {
            const struct model_row *row = &table->added.rows[r];
            tally_frame_added(writer, row->id, tally_bytes(row->key, row->key_bytes), row->value);
        }
        tally_frame_table_end(writer);
    }
    return tally_frame_finish(writer);
}

// The same frame with varints alone.
static size_t model_varint_bytes(const struct model *model, struct test_frame *frame)
{
    frame->out.size = 0;
    tally_frame_begin(&frame->writer, &model->header);
    for (size_t i = 0; i < model->count; i++) {
        const struct model_table *table = &model->tables[i];
        const struct model_list *lists[] = {&table->removed, &table->changed, &table->added};
        struct tally_writer body = test_writer(), column = test_writer();
        if (table->table) tally_write_uint(&body, 1, table->table);
        if (table->name[0]) {
            tally_write_bytes(&body, 2, test_text(table->name));
            tally_write_uint(&body, 3, TALLY_KIND_COUNTER);
        }
        static const struct {
            uint32_t field;
            unsigned list;
        } columns[] = {{5, 0}, {6, 1}, {7, 1}, {8, 2}, {9, 2}, {10, 2}, {11, 2}};
        for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
            const struct model_list *list = lists[columns[c].list];
            column.size = 0;
            for (size_t r = 0; r < list->count; r++) {
                const struct model_row *row = &list->rows[r];
                switch (columns[c].field) {
                case 7:
                case 11: tally_write_varint(&column, tally_zigzag(row->value)); break;
                case 9: tally_write_varint(&column, row->key_bytes); break;
                case 10: tally_write_raw(&column, row->key, row->key_bytes); break;
                default: tally_write_varint(&column, row->id - (r ? row[-1].id : 0)); break;
                }
            }
            if (column.size) tally_write_bytes(&body, columns[c].field, tally_writer_bytes(&column));
        }
        bool left_out = !table->name[0] && !table->removed.count && !table->changed.count && !table->added.count;
        if (!left_out) tally_write_bytes(&frame->out, 11, tally_writer_bytes(&body));
        test_writer_free(&body);
        test_writer_free(&column);
    }
    assert_int_equal(tally_frame_finish(&frame->writer), TALLY_OK);
    return frame->out.size;
}

static void assert_headers_equal(const struct tally_frame_header *a, const struct tally_frame_header *b)
{
    assert_true(tally_bytes_equal(a->dataset, b->dataset));
    assert_true(a->epoch == b->epoch && a->from == b->from && a->to == b->to && a->cut_ms == b->cut_ms);
    assert_true(tally_digest_equal(a->digest, b->digest));
    assert_true(a->rows == b->rows && a->chunk == b->chunk && a->more == b->more);
    assert_true(a->seed.k0 == b->seed.k0 && a->seed.k1 == b->seed.k1);
}

static void assert_reads_as(const struct model *model, struct tally_bytes message)
{
    struct tally_frame_reader reader;
    struct tally_table_reader table;
    uint32_t id;
    int64_t value;
    struct tally_bytes key;
    assert_int_equal(tally_frame_open(message, &reader), TALLY_OK);
    assert_headers_equal(&reader.header, &model->header);
    for (size_t i = 0; i < model->count; i++) {
        const struct model_table *expected = &model->tables[i];
        size_t rows = expected->removed.count + expected->changed.count + expected->added.count;
        if (rows == 0 && !expected->name[0]) continue;
        assert_int_equal(tally_frame_next_table(&reader, &table), TALLY_OK);
        assert_int_equal(table.table, expected->table);
        assert_true(tally_bytes_equal(table.name, test_text(expected->name)));
        assert_int_equal(table.kind, expected->name[0] ? TALLY_KIND_COUNTER : TALLY_KIND_UNSPECIFIED);
        for (size_t r = 0; r < expected->removed.count; r++) {
            assert_int_equal(tally_table_next_removed(&table, &id), TALLY_OK);
            assert_int_equal(id, expected->removed.rows[r].id);
        }
        assert_int_equal(tally_table_next_removed(&table, &id), TALLY_NOT_FOUND);
        for (size_t r = 0; r < expected->changed.count; r++) {
            assert_int_equal(tally_table_next_changed(&table, &id, &value), TALLY_OK);
            assert_true(id == expected->changed.rows[r].id && value == expected->changed.rows[r].value);
        }
        assert_int_equal(tally_table_next_changed(&table, &id, &value), TALLY_NOT_FOUND);
        for (size_t r = 0; r < expected->added.count; r++) {
            const struct model_row *row = &expected->added.rows[r];
            assert_int_equal(tally_table_next_added(&table, &id, &key, &value), TALLY_OK);
            assert_true(id == row->id && value == row->value);
            assert_true(tally_bytes_equal(key, tally_bytes(row->key, row->key_bytes)));
        }
        assert_int_equal(tally_table_next_added(&table, &id, &key, &value), TALLY_NOT_FOUND);
    }
    assert_int_equal(tally_frame_next_table(&reader, &table), TALLY_NOT_FOUND);
}

// Walks everything: TALLY_OK when the frame is fine to its end, or the first refusal. Touches every byte of
// every key.
static enum tally_status walk(struct tally_bytes message)
{
    struct tally_frame_reader reader;
    struct tally_table_reader table;
    uint32_t id, last;
    int64_t value;
    struct tally_bytes key;
    enum tally_status status = tally_frame_open(message, &reader);
    if (status) return status;
    while ((status = tally_frame_next_table(&reader, &table)) == TALLY_OK) {
        assert_true(table.table < TALLY_TABLES_MAX);
        for (last = 0; (status = tally_table_next_removed(&table, &id)) == TALLY_OK; last = id + 1)
            assert_true(id >= last && id < TALLY_ROWS_MAX);
        if (status != TALLY_NOT_FOUND) return status;
        for (last = 0; (status = tally_table_next_changed(&table, &id, &value)) == TALLY_OK; last = id + 1)
            assert_true(id >= last && id < TALLY_ROWS_MAX);
        if (status != TALLY_NOT_FOUND) return status;
        for (last = 0; (status = tally_table_next_added(&table, &id, &key, &value)) == TALLY_OK; last = id + 1) {
            assert_true(id >= last && id < TALLY_ROWS_MAX);
            assert_true(key.size >= 1 && key.size <= TALLY_KEY_BYTES_MAX);
            assert_true(key.data >= message.data && key.data + key.size <= message.data + message.size);
        }
        if (status != TALLY_NOT_FOUND) return status;
    }
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

// ------------------------------------------------------------------------------------------ tests

static void test_round_trip(void **state)
{
    (void)state;
    struct test_random random = test_random_start("frame");
    struct test_frame frame;
    unsigned smaller = 0, same = 0;
    test_frame_init(&frame);
    for (unsigned round = 0; round < 2000; round++) {
        static struct model model;
        draw_model(&random, &model);
        // With varints alone it is no smaller, and says the same.
        size_t varint_bytes = model_varint_bytes(&model, &frame);
        assert_reads_as(&model, test_frame_bytes(&frame));
        // Also behind bytes that are there already: the seal covers the frame alone.
        frame.out.size = 0;
        size_t before = test_random_below(&random, 4);
        tally_write_raw(&frame.out, "abcd", before);
        assert_int_equal(model_write(&model, &frame), TALLY_OK);
        size_t size = frame.out.size - before;
        assert_true(size <= varint_bytes);
        smaller += size < varint_bytes;
        same += size == varint_bytes;
        uint8_t *exact = test_exact_copy(frame.out.data + before, size);
        assert_reads_as(&model, tally_bytes(exact, size));
        assert_int_equal(walk(tally_bytes(exact, size)), TALLY_OK);
        free(exact);
    }
    assert_true(smaller > 500 && same > 50);
    test_frame_free(&frame);
}

// Columns of several blocks that take fewer bytes as varints: they are written so.
static void test_varints_win(void **state)
{
    (void)state;
    static struct model model = {.header = {.dataset = {(const uint8_t *)"main", 4}, .epoch = 1, .from = 1, .to = 2},
                                 .count = 1};
    struct model_list *changed = &model.tables[0].changed;
    struct test_frame frame;
    test_frame_init(&frame);
    for (; changed->count < 300; changed->count++)
        changed->rows[changed->count] =
            (struct model_row){.id = 3 * (uint32_t)changed->count, .value = changed->count % 2 ? 60 : INT64_MIN};
    size_t varint_bytes = model_varint_bytes(&model, &frame);
    frame.out.size = 0;
    assert_int_equal(model_write(&model, &frame), TALLY_OK);
    assert_reads_as(&model, test_frame_bytes(&frame));
    // The ids are in blocks, the differences are not: 300 bytes of gaps less.
    struct tally_frame_reader reader;
    struct tally_table_reader table;
    assert_int_equal(tally_frame_open(test_frame_bytes(&frame), &reader), TALLY_OK);
    assert_int_equal(tally_frame_next_table(&reader, &table), TALLY_OK);
    assert_int_equal(table.blocks, 1u << TALLY_COLUMN_CHANGED);
    assert_int_equal(tally_table_changed_max(&table), 300);
    assert_in_range(varint_bytes - frame.out.size, 180, 300);
    test_frame_free(&frame);
}

// Cut anywhere a sealed frame is refused. Cut and sealed again it is refused, or is a shorter frame: never
// read past its end.
static void test_truncations(void **state)
{
    (void)state;
    struct test_random random = test_random_start("frame");
    struct test_frame frame;
    struct tally_writer again = test_writer();
    test_frame_init(&frame);
    for (unsigned round = 0; round < 30; round++) {
        static struct model model;
        do draw_model(&random, &model);
        while (model.count > 2 && round % 4);
        frame.out.size = 0;
        assert_int_equal(model_write(&model, &frame), TALLY_OK);
        for (size_t cut = 0; cut < frame.out.size; cut++) {
            uint8_t *exact = test_exact_copy(frame.out.data, cut);
            struct tally_frame_reader untouched = {.tables_seen = 77};
            assert_int_not_equal(tally_frame_open(tally_bytes(exact, cut), &untouched), TALLY_OK);
            assert_int_equal(untouched.tables_seen, 77);
            free(exact);
            again.size = 0;
            tally_write_raw(&again, frame.out.data, cut);
            tally_seal(&again, 0);
            exact = test_exact_copy(again.data, again.size);
            (void)walk(tally_bytes(exact, again.size));
            free(exact);
        }
    }
    test_writer_free(&again);
    test_frame_free(&frame);
}

// Damaged and sealed again, so that the damage reaches the columns.
static void test_damage(void **state)
{
    (void)state;
    struct test_random random = test_random_start("frame");
    struct test_frame frame;
    unsigned refused = 0;
    test_frame_init(&frame);
    for (unsigned round = 0; round < 20000; round++) {
        static struct model model;
        if (round % 20 == 0) {
            draw_model(&random, &model);
            frame.out.size = 0;
            assert_int_equal(model_write(&model, &frame), TALLY_OK);
        }
        struct tally_writer damaged = test_writer();
        tally_write_raw(&damaged, frame.out.data, frame.out.size - TALLY_SEAL_BYTES);
        for (uint64_t times = test_random_between(&random, 1, 3); times > 0; times--)
            damaged.data[test_random_below(&random, damaged.size)] = (uint8_t)test_random_next(&random);
        tally_seal(&damaged, 0);
        uint8_t *exact = test_exact_copy(damaged.data, damaged.size);
        refused += walk(tally_bytes(exact, damaged.size)) != TALLY_OK;
        free(exact);
        test_writer_free(&damaged);
    }
    assert_true(refused > 1000);
    test_frame_free(&frame);
}

// In each size of memory that does not hold the frame the writer says so, and writes the same afterwards when
// it has room.
static void test_writer_out_of_room(void **state)
{
    (void)state;
    struct test_random random = test_random_start("frame");
    struct test_frame frame;
    test_frame_init(&frame);
    static struct model model;
    do draw_model(&random, &model);
    while (model.count < 2 || model.tables[0].added.count < 3);
    assert_int_equal(model_write(&model, &frame), TALLY_OK);
    size_t size = frame.out.size;
    uint8_t *room = malloc(size);
    for (size_t capacity = 0; capacity < size; capacity++) {
        struct tally_writer tight = tally_writer_fixed(room, capacity);
        frame.writer.out = &tight;
        assert_int_equal(model_write(&model, &frame), TALLY_NO_MEMORY);
        assert_true(tight.size <= capacity);
    }
    // The same with columns that do not grow: one byte is too little for a list of some rows.
    for (unsigned column = 0; column < TALLY_COLUMNS; column++) {
        struct tally_writer kept = frame.writer.columns[column];
        size_t needed = 0;
        for (size_t i = 0; i < model.count; i++) needed += model.tables[i].added.count > 1;
        frame.writer.columns[column] = tally_writer_fixed(room, 1);
        frame.out.size = 0;
        frame.out.failed = false;
        frame.writer.out = &frame.out;
        if (column >= TALLY_COLUMN_ADDED && needed) assert_int_equal(model_write(&model, &frame), TALLY_NO_MEMORY);
        frame.writer.columns[column] = kept;
        frame.writer.columns[column].failed = true; // as one that could not grow: the next frame may again
    }
    struct tally_writer enough = tally_writer_fixed(room, size);
    frame.writer.out = &enough;
    assert_int_equal(model_write(&model, &frame), TALLY_OK);
    assert_reads_as(&model, tally_writer_bytes(&enough));
    free(room);
    test_frame_free(&frame);
}

// A newer version's fields, once or many times, in the frame and in a table, are passed over.
static void test_unknown_fields(void **state)
{
    (void)state;
    const struct tally_frame_header header = {
        .dataset = test_text("main"), .epoch = 5, .from = 1, .to = 2, .digest = {1, 2}, .rows = 1};
    struct test_frame frame;
    struct tally_writer table = test_writer();
    test_frame_init(&frame);
    tally_frame_begin(&frame.writer, &header);
    static const uint32_t numbers[] = {12, 13, 14, 16, 31, 32, 33, 0x1fffffef};
    for (unsigned i = 0; i < 16; i++) {
        tally_write_uint(&frame.out, numbers[i % 8], i);
        tally_write_fixed64(&frame.out, numbers[i % 8], i);
        tally_write_bytes(&table, numbers[i % 8] + 16, test_text("newer"));
        tally_write_uint(&table, numbers[i % 8] + 16, i);
    }
    tally_write_bytes(&table, 5, tally_bytes("\3", 1));
    tally_write_bytes(&frame.out, 11, tally_writer_bytes(&table));
    assert_int_equal(tally_frame_finish(&frame.writer), TALLY_OK);
    struct tally_frame_reader reader;
    struct tally_table_reader opened;
    uint32_t id;
    assert_int_equal(tally_frame_open(test_frame_bytes(&frame), &reader), TALLY_OK);
    assert_headers_equal(&reader.header, &header);
    assert_int_equal(tally_frame_next_table(&reader, &opened), TALLY_OK);
    assert_int_equal(tally_table_next_removed(&opened, &id), TALLY_OK);
    assert_int_equal(id, 3);
    assert_int_equal(walk(test_frame_bytes(&frame)), TALLY_OK);
    test_writer_free(&table);
    test_frame_free(&frame);
}

// What proto/vectors/refused.txt does not hold because it is large, and the last sizes that do pass.
static void test_limits(void **state)
{
    (void)state;
    const struct tally_frame_header header = {.dataset = test_text("main"), .epoch = 5, .from = 1, .to = 2};
    struct test_frame frame;
    struct tally_frame_reader reader;
    test_frame_init(&frame);
    for (unsigned tables = TALLY_TABLES_MAX; tables <= TALLY_TABLES_MAX + 1; tables++) {
        frame.out.size = 0;
        tally_frame_begin(&frame.writer, &header);
        for (unsigned i = 0; i < tables; i++) {
            tally_frame_table_begin(&frame.writer, i, test_text("t"), TALLY_KIND_COUNTER);
            tally_frame_table_end(&frame.writer);
        }
        assert_int_equal(tally_frame_finish(&frame.writer), TALLY_OK);
        assert_int_equal(tally_frame_open(test_frame_bytes(&frame), &reader),
                         tables > TALLY_TABLES_MAX ? TALLY_LIMIT : TALLY_OK);
    }

    frame.out.size = 0;
    tally_frame_begin(&frame.writer, &header);
    tally_write_uint(&frame.out, 9, (uint64_t)UINT32_MAX + 1);
    assert_int_equal(tally_frame_finish(&frame.writer), TALLY_OK);
    assert_int_equal(tally_frame_open(test_frame_bytes(&frame), &reader), TALLY_LIMIT);

    // Largest id, largest key.
    uint8_t key[TALLY_KEY_BYTES_MAX] = {1};
    frame.out.size = 0;
    tally_frame_begin(&frame.writer, &header);
    tally_frame_table_begin(&frame.writer, TALLY_TABLES_MAX - 1, test_text(""), TALLY_KIND_UNSPECIFIED);
    tally_frame_removed(&frame.writer, TALLY_ROWS_MAX - 1);
    tally_frame_added(&frame.writer, TALLY_ROWS_MAX - 1, tally_bytes(key, sizeof key), 1);
    tally_frame_table_end(&frame.writer);
    assert_int_equal(tally_frame_finish(&frame.writer), TALLY_OK);
    assert_int_equal(walk(test_frame_bytes(&frame)), TALLY_OK);

    // A frame of exactly TALLY_FRAME_BYTES_MAX, and one byte more, padded by an unknown field.
    uint8_t *padding = calloc(1, TALLY_FRAME_BYTES_MAX);
    for (unsigned over = 0; over <= 1; over++) {
        frame.out.size = 0;
        tally_frame_begin(&frame.writer, &header);
        size_t fill = TALLY_FRAME_BYTES_MAX - frame.out.size - TALLY_SEAL_BYTES - 5 + over;
        tally_write_bytes(&frame.out, 13, tally_bytes(padding, fill));
        assert_int_equal(tally_frame_finish(&frame.writer), TALLY_OK);
        assert_int_equal(frame.out.size, TALLY_FRAME_BYTES_MAX + over);
        assert_int_equal(tally_frame_open(test_frame_bytes(&frame), &reader), over ? TALLY_LIMIT : TALLY_OK);
    }
    free(padding);
    test_frame_free(&frame);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_varints_win),
        cmocka_unit_test(test_truncations),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_writer_out_of_room),
        cmocka_unit_test(test_unknown_fields),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
