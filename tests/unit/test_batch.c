// SPDX-License-Identifier: Apache-2.0
#include "../support/build.h"
#include "../support/random.h"
#include "../support/with_cmocka.h"

#include <tallycast/limits.h>

// ------------------------------------------------------------------------------------------ a naive model

enum { TABLES_MAX = 4, ROWS_MAX = 20, KEY_MAX = 12 };

struct model_row {
    uint8_t key[KEY_MAX];
    size_t key_bytes;
    int64_t amount;
};

struct model_table {
    char name[8];
    struct model_row adds[ROWS_MAX], removed[ROWS_MAX];
    size_t add_count, removed_count;
};

struct model {
    struct tally_batch_header header;
    struct model_table tables[TABLES_MAX];
    size_t count;
};

static struct tally_bytes row_key(const struct model_row *row) { return tally_bytes(row->key, row->key_bytes); }

static void draw_model(struct test_random *random, struct model *model)
{
    static const char *const names[] = {"files", "repos", "a", "x-y_z.0"};
    model->header =
        (struct tally_batch_header){test_text("main"), test_random_wide(random) | 1, test_random_wide(random) | 1};
    model->count = test_random_below(random, TABLES_MAX + 1);
    for (size_t i = 0; i < model->count; i++) {
        struct model_table *table = &model->tables[i];
        snprintf(table->name, sizeof table->name, "%s", names[test_random_below(random, 4)]);
        table->add_count = test_random_below(random, ROWS_MAX);
        table->removed_count = test_random_below(random, test_random_percent(random, 50) ? 1 : ROWS_MAX);
        for (size_t r = 0; r < ROWS_MAX; r++) {
            struct model_row *rows[] = {&table->adds[r], &table->removed[r]};
            for (unsigned k = 0; k < 2; k++) {
                rows[k]->key_bytes = test_random_between(random, 1, KEY_MAX);
                test_random_fill(random, rows[k]->key, rows[k]->key_bytes);
                rows[k]->amount = (int64_t)test_random_wide(random);
            }
        }
    }
}

static enum tally_status model_write(const struct model *model, struct test_batch *batch)
{
    struct tally_batch_writer *writer = &batch->writer;
    tally_batch_begin(writer, &model->header);
    for (size_t i = 0; i < model->count; i++) {
        const struct model_table *table = &model->tables[i];
        tally_batch_table_begin(writer, test_text(table->name));
        for (size_t r = 0; r < table->add_count; r++)
            tally_batch_add(writer, row_key(&table->adds[r]), table->adds[r].amount);
        for (size_t r = 0; r < table->removed_count; r++) tally_batch_remove(writer, row_key(&table->removed[r]));
        tally_batch_table_end(writer);
    }
    return tally_batch_finish(writer);
}

static void assert_reads_as(const struct model *model, struct tally_bytes message)
{
    struct tally_batch_reader reader;
    struct tally_entries_reader entries;
    struct tally_bytes key;
    int64_t amount;
    assert_int_equal(tally_batch_open(message, &reader), TALLY_OK);
    assert_true(tally_bytes_equal(reader.header.dataset, model->header.dataset));
    assert_true(reader.header.producer == model->header.producer && reader.header.sequence == model->header.sequence);
    for (size_t i = 0; i < model->count; i++) {
        const struct model_table *table = &model->tables[i];
        assert_true(tally_batch_next_table(&reader, &entries));
        assert_true(tally_bytes_equal(entries.table, test_text(table->name)));
        for (size_t r = 0; r < table->add_count; r++) {
            assert_true(tally_entries_next(&entries, &key, &amount));
            assert_true(tally_bytes_equal(key, row_key(&table->adds[r])) && amount == table->adds[r].amount);
        }
        assert_false(tally_entries_next(&entries, &key, &amount));
        for (size_t r = 0; r < table->removed_count; r++) {
            assert_true(tally_entries_next_removed(&entries, &key));
            assert_true(tally_bytes_equal(key, row_key(&table->removed[r])));
        }
        assert_false(tally_entries_next_removed(&entries, &key));
    }
    assert_false(tally_batch_next_table(&reader, &entries));
}

// Opens a request and, when that is fine, walks all of its batch: as many amounts as keys, all within limits.
static enum tally_status walk(struct tally_bytes request)
{
    struct tally_bytes message, key;
    struct tally_batch_reader reader;
    struct tally_entries_reader entries;
    int64_t amount;
    enum tally_status status = tally_request_batch(request, &message);
    if (status) return status;
    if ((status = tally_batch_open(message, &reader))) return status;
    assert_true(tally_name_valid(reader.header.dataset));
    assert_true(reader.header.producer != 0 && reader.header.sequence != 0);
    size_t count = 0;
    while (tally_batch_next_table(&reader, &entries)) {
        assert_true(tally_name_valid(entries.table));
        while (tally_entries_next(&entries, &key, &amount)) {
            assert_true(key.size >= 1 && key.size <= TALLY_KEY_BYTES_MAX);
            count++;
        }
        assert_true(tally_wire_done(&entries.amounts) && tally_wire_done(&entries.keys));
        while (tally_entries_next_removed(&entries, &key)) {
            assert_true(key.size >= 1 && key.size <= TALLY_KEY_BYTES_MAX);
            count++;
        }
    }
    assert_true(count <= TALLY_BATCH_ENTRIES_MAX);
    return TALLY_OK;
}

static void test_round_trip(void **state)
{
    (void)state;
    struct test_random random = test_random_start("batch");
    struct test_batch batch;
    test_batch_init(&batch);
    for (unsigned round = 0; round < 3000; round++) {
        struct model model;
        struct tally_bytes inner, message;
        draw_model(&random, &model);
        batch.out.size = 0;
        assert_int_equal(model_write(&model, &batch), TALLY_OK);
        uint8_t *exact = test_exact_copy(batch.out.data, batch.out.size);
        struct tally_bytes request = tally_bytes(exact, batch.out.size);
        assert_int_equal(tally_request_batch(request, &message), TALLY_OK);
        assert_reads_as(&model, message);
        assert_int_equal(walk(request), TALLY_OK);
        // Without its seal it is a Request too; with a wrong one it is not.
        assert_int_equal(tally_unseal(request, &inner), TALLY_OK);
        assert_int_equal(walk(inner), TALLY_OK);
        exact[test_random_between(&random, inner.size + 1, request.size - 1)] ^= 1;
        assert_int_equal(tally_request_batch(request, &message), TALLY_CORRUPT);
        free(exact);
    }
    test_batch_free(&batch);
}

static void test_truncations_and_damage(void **state)
{
    (void)state;
    struct test_random random = test_random_start("batch");
    struct test_batch batch;
    test_batch_init(&batch);
    for (unsigned round = 0; round < 40; round++) {
        struct model model;
        struct tally_bytes inner, message;
        draw_model(&random, &model);
        batch.out.size = 0;
        assert_int_equal(model_write(&model, &batch), TALLY_OK);
        assert_int_equal(tally_unseal(test_batch_bytes(&batch), &inner), TALLY_OK);
        for (size_t cut = 0; cut < batch.out.size; cut++) {
            uint8_t *exact = test_exact_copy(batch.out.data, cut);
            message = (struct tally_bytes){exact, 77};
            enum tally_status status = tally_request_batch(tally_bytes(exact, cut), &message);
            // Cut exactly before the seal it is the unsealed Request.
            if (cut == inner.size)
                assert_int_equal(status, TALLY_OK);
            else if (cut == 0)
                assert_int_equal(status, TALLY_NOT_FOUND);
            else
                assert_int_equal(status, TALLY_MALFORMED);
            if (status) assert_int_equal(message.size, 77);
            free(exact);
        }
        for (unsigned times = 0; times < 500; times++) {
            uint8_t *exact = test_exact_copy(inner.data, inner.size);
            for (uint64_t hits = test_random_between(&random, 1, 3); hits > 0; hits--)
                exact[test_random_below(&random, inner.size)] = (uint8_t)test_random_next(&random);
            (void)walk(tally_bytes(exact, inner.size));
            free(exact);
        }
    }
    test_batch_free(&batch);
}

static void test_writer_out_of_room(void **state)
{
    (void)state;
    struct test_random random = test_random_start("batch");
    struct test_batch batch;
    struct model model;
    test_batch_init(&batch);
    do draw_model(&random, &model);
    while (model.count < 2 || model.tables[0].add_count < 3);
    assert_int_equal(model_write(&model, &batch), TALLY_OK);
    size_t size = batch.out.size;
    uint8_t *room = malloc(size);
    struct tally_writer *buffers[] = {&batch.writer.body, &batch.writer.entries, &batch.writer.amounts};
    for (unsigned i = 0; i < 3; i++) {
        struct tally_writer kept = *buffers[i];
        *buffers[i] = tally_writer_fixed(room, 2);
        batch.out.size = 0;
        batch.out.failed = false;
        assert_int_equal(model_write(&model, &batch), TALLY_NO_MEMORY);
        *buffers[i] = kept;
        buffers[i]->failed = true; // as one that could not grow: the next batch may again
    }
    for (size_t capacity = 0; capacity <= size; capacity++) {
        struct tally_writer tight = tally_writer_fixed(room, capacity);
        batch.writer.out = &tight;
        assert_int_equal(model_write(&model, &batch), capacity < size ? TALLY_NO_MEMORY : TALLY_OK);
    }
    assert_int_equal(walk(tally_bytes(room, size)), TALLY_OK);
    free(room);
    test_batch_free(&batch);
}

// ------------------------------------------------------------------------------------------ refusals

enum { DATASET = 1, PRODUCER = 2, SEQUENCE = 4, ALL = 7 };

static void write_header(struct tally_writer *out, unsigned parts)
{
    if (parts & DATASET) tally_write_bytes(out, 1, test_text("main"));
    if (parts & PRODUCER) tally_write_fixed64(out, 2, 9);
    if (parts & SEQUENCE) tally_write_uint(out, 3, 1);
}

static void assert_open(const struct tally_writer *message, enum tally_status expected, const char *what)
{
    struct tally_batch_reader reader = {.header.sequence = 77};
    uint8_t *exact = test_exact_copy(message->data, message->size);
    enum tally_status status = tally_batch_open(tally_bytes(exact, message->size), &reader);
    if (status != expected) fail_msg("%s: %s, expected %s", what, tally_status_str(status), tally_status_str(expected));
    if (status) assert_int_equal(reader.header.sequence, 77);
    free(exact);
}

static void test_header_refusals(void **state)
{
    (void)state;
    struct tally_writer out = test_writer();
    for (unsigned parts = 0; parts <= ALL; parts++) {
        out.size = 0;
        write_header(&out, parts);
        assert_open(&out, parts == ALL ? TALLY_OK : TALLY_MALFORMED, "a part of the header is missing");
    }
    for (unsigned part = 1; part <= ALL; part <<= 1) {
        out.size = 0;
        write_header(&out, ALL);
        write_header(&out, part);
        assert_open(&out, TALLY_MALFORMED, "a part of the header comes twice");
    }
    out.size = 0;
    write_header(&out, PRODUCER | SEQUENCE);
    tally_write_bytes(&out, 1, test_text("Main"));
    assert_open(&out, TALLY_MALFORMED, "a dataset name with a capital");
    out.size = 0;
    write_header(&out, DATASET | SEQUENCE);
    tally_write_fixed64(&out, 2, 0);
    assert_open(&out, TALLY_MALFORMED, "producer 0");
    out.size = 0;
    write_header(&out, DATASET | PRODUCER);
    tally_write_uint(&out, 3, 0);
    assert_open(&out, TALLY_MALFORMED, "sequence 0");
    static const uint32_t wrong_type[] = {1, 2, 4};
    for (unsigned i = 0; i < 3; i++) {
        out.size = 0;
        write_header(&out, ALL & ~(wrong_type[i] == 4 ? 0u : wrong_type[i]));
        tally_write_uint(&out, wrong_type[i], 5);
        assert_open(&out, TALLY_MALFORMED, "a field of another wire type");
    }
    out.size = 0;
    write_header(&out, ALL);
    for (unsigned i = 0; i < 3; i++) tally_write_uint(&out, 20, i);
    assert_open(&out, TALLY_OK, "a newer version's field");
    test_writer_free(&out);
}

struct entries {
    const char *what;
    enum tally_status status;
    const char *name;    // null: left out
    size_t key_bytes[3]; // 0: ends the list
    int removed;         // key size of one removed key; -1: an empty one
    const char *amounts; // packed, one byte each
};

static void test_entries_refusals(void **state)
{
    (void)state;
    static const struct entries cases[] = {
        {"empty table", TALLY_OK, "t", {0}, 0, ""},
        {"two keys", TALLY_OK, "t", {1, 1024}, 0, "\2\4"},
        {"removal alone", TALLY_OK, "t", {0}, 1024, ""},
        {"no name", TALLY_MALFORMED, NULL, {1}, 0, "\2"},
        {"bad name", TALLY_MALFORMED, "a/b", {1}, 0, "\2"},
        {"empty name", TALLY_MALFORMED, "", {1}, 0, "\2"},
        {"long key", TALLY_LIMIT, "t", {1025}, 0, "\2"},
        {"long removed key", TALLY_LIMIT, "t", {0}, 1025, ""},
        {"empty removed key", TALLY_MALFORMED, "t", {0}, -1, ""},
        {"amount missing", TALLY_MALFORMED, "t", {1, 1}, 0, "\2"},
        {"amount left over", TALLY_MALFORMED, "t", {1}, 0, "\2\2"},
        {"amount cut short", TALLY_MALFORMED, "t", {1}, 0, "\xff"},
        {"amounts without keys", TALLY_MALFORMED, "t", {0}, 0, "\2"},
    };
    static const uint8_t key[2048] = {1};
    struct tally_writer out = test_writer(), table = test_writer();
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct entries *c = &cases[i];
        out.size = table.size = 0;
        if (c->name) tally_write_bytes(&table, 1, test_text(c->name));
        for (unsigned k = 0; k < 3 && c->key_bytes[k]; k++)
            tally_write_bytes(&table, 2, tally_bytes(key, c->key_bytes[k]));
        if (c->amounts[0]) tally_write_bytes(&table, 3, test_text(c->amounts));
        if (c->removed) tally_write_bytes(&table, 4, tally_bytes(key, c->removed < 0 ? 0 : (size_t)c->removed));
        write_header(&out, ALL);
        tally_write_bytes(&out, 4, tally_writer_bytes(&table));
        assert_open(&out, c->status, c->what);
        // The same behind a good table.
        out.size = 0;
        write_header(&out, ALL);
        tally_write_bytes(&out, 4, tally_bytes("\x0a\x01t", 3));
        tally_write_bytes(&out, 4, tally_writer_bytes(&table));
        assert_open(&out, c->status, c->what);
    }
    // An empty key; the amounts twice; the name twice.
    static const struct {
        const char *what, *bytes;
        size_t size;
    } raw[] = {
        {"empty key", "\x0a\x01t\x12\x00\x1a\x01\x02", 8},
        {"amounts twice", "\x0a\x01t\x12\x01k\x1a\x01\x02\x1a\x01\x02", 12},
        {"name twice", "\x0a\x01t\x0a\x01t", 6},
        {"a key as varint", "\x0a\x01t\x10\x01", 5},
    };
    for (unsigned i = 0; i < sizeof raw / sizeof *raw; i++) {
        out.size = 0;
        write_header(&out, ALL);
        tally_write_bytes(&out, 4, tally_bytes(raw[i].bytes, raw[i].size));
        assert_open(&out, TALLY_MALFORMED, raw[i].what);
    }
    test_writer_free(&out);
    test_writer_free(&table);
}

static void test_limits(void **state)
{
    (void)state;
    struct tally_writer out = test_writer(), table = test_writer(), amounts = test_writer();
    // One entry too many, spread over two tables; keys and removals count alike.
    for (unsigned over = 0; over <= 1; over++) {
        out.size = 0;
        write_header(&out, ALL);
        for (unsigned half = 0; half < 2; half++) {
            table.size = amounts.size = 0;
            tally_write_bytes(&table, 1, test_text("t"));
            for (unsigned i = 0; i < TALLY_BATCH_ENTRIES_MAX / 2 + (over & half); i++) {
                tally_write_bytes(&table, half ? 4 : 2, test_text("k"));
                if (!half) tally_write_varint(&amounts, 2);
            }
            tally_write_bytes(&table, 3, tally_writer_bytes(&amounts));
            tally_write_bytes(&out, 4, tally_writer_bytes(&table));
        }
        assert_open(&out, over ? TALLY_LIMIT : TALLY_OK, "entries");
    }
    // A batch, and a request around it, of just the most bytes and of one more.
    static const uint8_t padding[TALLY_BATCH_BYTES_MAX];
    for (unsigned over = 0; over <= 1; over++) {
        out.size = 0;
        write_header(&out, ALL);
        tally_write_bytes(&out, 1000, tally_bytes(padding, TALLY_BATCH_BYTES_MAX - out.size - 5 + over));
        assert_int_equal(out.size, TALLY_BATCH_BYTES_MAX + over);
        assert_open(&out, over ? TALLY_LIMIT : TALLY_OK, "bytes of a batch");
        struct tally_bytes message;
        out.size = 0;
        tally_write_bytes(&out, 1, tally_bytes(padding, TALLY_BATCH_BYTES_MAX - 4 + over));
        assert_int_equal(out.size, TALLY_BATCH_BYTES_MAX + over);
        assert_int_equal(tally_request_batch(tally_writer_bytes(&out), &message), over ? TALLY_LIMIT : TALLY_OK);
    }
    test_writer_free(&out);
    test_writer_free(&table);
    test_writer_free(&amounts);
}

static void test_other_requests(void **state)
{
    (void)state;
    struct tally_writer out = test_writer();
    struct tally_bytes message = {0};
    for (uint32_t kind = 2; kind <= 4; kind++) {
        out.size = 0;
        tally_write_bytes(&out, kind, test_text(""));
        assert_int_equal(tally_request_batch(tally_writer_bytes(&out), &message), TALLY_NOT_FOUND);
        tally_seal(&out, 0);
        assert_int_equal(tally_request_batch(tally_writer_bytes(&out), &message), TALLY_NOT_FOUND);
        out.data[out.size - 1] ^= 1;
        assert_int_equal(tally_request_batch(tally_writer_bytes(&out), &message), TALLY_CORRUPT);
        // Beside a batch: which of the two it is cannot be known.
        out.size = 0;
        tally_write_bytes(&out, 1, test_text(""));
        tally_write_bytes(&out, kind, test_text(""));
        assert_int_equal(tally_request_batch(tally_writer_bytes(&out), &message), TALLY_MALFORMED);
    }
    out.size = 0;
    tally_write_bytes(&out, 1, test_text(""));
    tally_write_bytes(&out, 1, test_text(""));
    assert_int_equal(tally_request_batch(tally_writer_bytes(&out), &message), TALLY_MALFORMED);
    // A check that is not the end covers less than it should.
    out.size = 0;
    tally_seal(&out, 0);
    tally_write_bytes(&out, 1, test_text(""));
    assert_int_equal(tally_request_batch(tally_writer_bytes(&out), &message), TALLY_MALFORMED);
    assert_int_equal(tally_request_batch(tally_bytes(NULL, 0), &message), TALLY_NOT_FOUND);
    test_writer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),         cmocka_unit_test(test_truncations_and_damage),
        cmocka_unit_test(test_writer_out_of_room), cmocka_unit_test(test_header_refusals),
        cmocka_unit_test(test_entries_refusals),   cmocka_unit_test(test_limits),
        cmocka_unit_test(test_other_requests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
