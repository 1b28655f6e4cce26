// SPDX-License-Identifier: Apache-2.0
//
// The vectors of proto/vectors/ against the codecs and against the mirror. test_siphash.c and
// test_digest.c hold the rest.
#include "../support/build.h"
#include "../support/vectors.h"
#include "../support/with_cmocka.h"

#include <tallycast/framefile.h>
#include <tallycast/mirror.h>

static void check(bool ok, const struct test_vectors *vectors, const char *what)
{
    if (!ok) fail_msg("%s:%d: %s", vectors->name, vectors->line, what);
}

// ------------------------------------------------------------------------------------------ frames

// A frame being read against its statements, and written anew from them: the bytes must be the same again.
struct open_frame {
    uint8_t *data;
    size_t size;
    struct tally_frame_reader reader;
    struct tally_table_reader table;
    bool has_table, ours; // ours: as this library writes it
    char name[65];
    struct test_frame again;
};

static void close_table(struct open_frame *frame, const struct test_vectors *at)
{
    uint32_t id;
    int64_t value;
    struct tally_bytes key;
    if (!frame->has_table) return;
    check(tally_table_next_removed(&frame->table, &id) == TALLY_NOT_FOUND, at, "removed rows are left");
    check(tally_table_next_changed(&frame->table, &id, &value) == TALLY_NOT_FOUND, at, "changed rows are left");
    check(tally_table_next_added(&frame->table, &id, &key, &value) == TALLY_NOT_FOUND, at, "added rows are left");
    tally_frame_table_end(&frame->again.writer);
    frame->has_table = false;
}

static void close_frame(struct open_frame *frame, const struct test_vectors *at)
{
    if (!frame->data) return;
    close_table(frame, at);
    check(tally_frame_next_table(&frame->reader, &frame->table) == TALLY_NOT_FOUND, at, "tables are left");
    check(tally_frame_finish(&frame->again.writer) == TALLY_OK, at, "cannot be written");
    bool same = tally_bytes_equal(test_frame_bytes(&frame->again), tally_bytes(frame->data, frame->size));
    check(same == frame->ours, at, "the writer makes other bytes");
    check(frame->again.out.size <= frame->size, at, "the writer makes more bytes");
    test_frame_free(&frame->again);
    free(frame->data);
    frame->data = NULL;
}

static void open_frame(struct open_frame *frame, const struct test_vectors *at)
{
    frame->data = test_vector_file(test_vectors_word(at, 1), &frame->size);
    test_frame_init(&frame->again);
    check(tally_frame_open(tally_bytes(frame->data, frame->size), &frame->reader) == TALLY_OK, at, "does not open");
    const struct tally_frame_header *header = &frame->reader.header;
    bool whole = strcmp(test_vectors_word(at, 9), "-") != 0;
    struct tally_seed seed = whole ? test_vectors_seed(at, 9) : (struct tally_seed){0};
    check(tally_bytes_equal(header->dataset, test_text(test_vectors_word(at, 2))), at, "dataset");
    check(header->epoch == test_vectors_hex64(at, 3), at, "epoch");
    check(header->from == test_vectors_number(at, 4) && header->to == test_vectors_number(at, 5), at, "versions");
    check(header->cut_ms == test_vectors_number(at, 6), at, "cut");
    check(tally_digest_equal(header->digest, test_vectors_digest(at, 7)), at, "digest");
    check(header->rows == test_vectors_number(at, 8), at, "rows");
    check(header->seed.k0 == seed.k0 && header->seed.k1 == seed.k1, at, "seed");
    check(header->chunk == test_vectors_number(at, 10) && header->more == test_vectors_number(at, 11), at, "chunk");
    tally_frame_begin(&frame->again.writer, header);
}

static enum tally_kind kind_word(const struct test_vectors *at, unsigned word)
{
    enum tally_kind kind = tally_kind_of(test_text(test_vectors_word(at, word)));
    check(kind != TALLY_KIND_UNSPECIFIED, at, "no kind");
    return kind;
}

static void open_table(struct open_frame *frame, const struct test_vectors *at)
{
    close_table(frame, at);
    check(tally_frame_next_table(&frame->reader, &frame->table) == TALLY_OK, at, "no table");
    const char *name = test_vectors_word(at, 2);
    bool named = strcmp(name, "-") != 0;
    snprintf(frame->name, sizeof frame->name, "%s", named ? name : "");
    check(frame->table.table == test_vectors_number(at, 1), at, "table number");
    check(tally_bytes_equal(frame->table.name, test_text(frame->name)), at, "table name");
    check(frame->table.kind == (named ? kind_word(at, 3) : TALLY_KIND_UNSPECIFIED), at, "kind");
    tally_frame_table_begin(&frame->again.writer, frame->table.table, test_text(frame->name), frame->table.kind);
    check(frame->table.rows == test_vectors_number(at, 4), at, "rows told");
    tally_frame_table_rows(&frame->again.writer, frame->table.rows);
    frame->has_table = true;
}

static void test_frames(void **state)
{
    (void)state;
    struct test_vectors vectors = test_vectors_open("frames.txt"), *v = &vectors;
    struct open_frame frame = {0};
    unsigned checked = 0;
    uint32_t id, column = 0; // which list of the table is being walked
    int64_t value;
    struct tally_bytes key;
    while (test_vectors_next(v)) {
        if (test_vectors_is(v, "frame") || test_vectors_is(v, "read")) {
            close_frame(&frame, v);
            frame.ours = test_vectors_is(v, "frame");
            open_frame(&frame, v);
            checked++;
            continue;
        }
        if (test_vectors_is(v, "table")) {
            open_table(&frame, v);
            column = 0;
            continue;
        }
        if (test_vectors_is(v, "removed")) {
            check(tally_table_next_removed(&frame.table, &id) == TALLY_OK, v, "no removed row");
            tally_frame_removed(&frame.again.writer, id);
        } else if (test_vectors_is(v, "changed")) {
            if (column < 1) check(tally_table_next_removed(&frame.table, &id) == TALLY_NOT_FOUND, v, "more removed");
            column = 1;
            check(tally_table_next_changed(&frame.table, &id, &value) == TALLY_OK, v, "no changed row");
            check(value == test_vectors_signed(v, 2), v, "difference");
            tally_frame_changed(&frame.again.writer, id, value);
        } else {
            if (column < 1) check(tally_table_next_removed(&frame.table, &id) == TALLY_NOT_FOUND, v, "more removed");
            if (column < 2)
                check(tally_table_next_changed(&frame.table, &id, &value) == TALLY_NOT_FOUND, v, "more changed");
            column = 2;
            check(tally_table_next_added(&frame.table, &id, &key, &value) == TALLY_OK, v, "no added row");
            check(tally_bytes_equal(key, test_vectors_bytes(v, 2)), v, "key");
            check(value == test_vectors_signed(v, 3), v, "value");
            tally_frame_added(&frame.again.writer, id, key, value);
        }
        check(id == test_vectors_number(v, 1), v, "id");
    }
    close_frame(&frame, v);
    test_vectors_close(v);
    assert_true(checked >= 19);
}

static enum tally_status walk(struct tally_bytes message)
{
    struct tally_frame_reader reader;
    struct tally_table_reader table;
    uint32_t id;
    int64_t value;
    struct tally_bytes key;
    enum tally_status status = tally_frame_open(message, &reader);
    if (status) return status;
    while ((status = tally_frame_next_table(&reader, &table)) == TALLY_OK) {
        while ((status = tally_table_next_removed(&table, &id)) == TALLY_OK) {
        }
        if (status != TALLY_NOT_FOUND) return status;
        while ((status = tally_table_next_changed(&table, &id, &value)) == TALLY_OK) {
        }
        if (status != TALLY_NOT_FOUND) return status;
        while ((status = tally_table_next_added(&table, &id, &key, &value)) == TALLY_OK) {
        }
        if (status != TALLY_NOT_FOUND) return status;
    }
    return status;
}

static void test_refused(void **state)
{
    (void)state;
    struct test_vectors vectors = test_vectors_open("refused.txt"), *v = &vectors;
    unsigned checked = 0;
    while (test_vectors_next(v)) {
        size_t size;
        uint8_t *data = test_vector_file(test_vectors_word(v, 1), &size);
        uint8_t *exact = test_exact_copy(data, size);
        enum tally_status got = walk(tally_bytes(exact, size)), expected = test_vectors_status(v, 2);
        if (got != expected)
            fail_msg("%s: %s, expected %s", v->word[1], tally_status_str(got), tally_status_str(expected));
        free(exact);
        free(data);
        checked++;
    }
    test_vectors_close(v);
    assert_true(checked >= 30);
}

// ------------------------------------------------------------------------------------------ batches

struct open_batch {
    uint8_t *data;
    size_t size;
    struct tally_batch_reader reader;
    struct tally_entries_reader entries;
    bool has_entries;
};

static void close_entries(struct open_batch *batch, const struct test_vectors *at)
{
    struct tally_bytes key;
    int64_t amount;
    if (!batch->has_entries) return;
    check(!tally_entries_next(&batch->entries, &key, &amount), at, "keys are left");
    check(!tally_entries_next_removed(&batch->entries, &key), at, "removed keys are left");
    batch->has_entries = false;
}

static void close_batch(struct open_batch *batch, const struct test_vectors *at)
{
    close_entries(batch, at);
    if (batch->data) check(!tally_batch_next_table(&batch->reader, &batch->entries), at, "tables are left");
    free(batch->data);
    batch->data = NULL;
}

static void test_batches(void **state)
{
    (void)state;
    struct test_vectors vectors = test_vectors_open("batches.txt"), *v = &vectors;
    struct open_batch batch = {0};
    struct tally_bytes message, key;
    int64_t amount;
    unsigned checked = 0;
    while (test_vectors_next(v)) {
        if (test_vectors_is(v, "request")) {
            close_batch(&batch, v);
            batch.data = test_vector_file(test_vectors_word(v, 1), &batch.size);
            check(tally_request_batch(tally_bytes(batch.data, batch.size), &message) == TALLY_OK, v, "not a request");
            check(tally_batch_open(message, &batch.reader) == TALLY_OK, v, "does not open");
            checked++;
        } else if (test_vectors_is(v, "batch")) {
            const struct tally_batch_header *header = &batch.reader.header;
            check(tally_bytes_equal(header->dataset, test_text(test_vectors_word(v, 1))), v, "dataset");
            check(header->producer == test_vectors_hex64(v, 2), v, "producer");
            check(header->sequence == test_vectors_number(v, 3), v, "sequence");
        } else if (test_vectors_is(v, "table")) {
            close_entries(&batch, v);
            check(tally_batch_next_table(&batch.reader, &batch.entries), v, "no table");
            check(tally_bytes_equal(batch.entries.table, test_text(test_vectors_word(v, 1))), v, "table name");
            check(batch.entries.kind == (v->words > 2 ? kind_word(v, 2) : TALLY_KIND_UNSPECIFIED), v, "kind");
            check(batch.entries.adjust == (v->words > 3), v, "adjust");
            batch.has_entries = true;
        } else if (test_vectors_is(v, "add") || test_vectors_is(v, "member")) {
            bool member = test_vectors_is(v, "member");
            check(tally_entries_next(&batch.entries, &key, &amount), v, "no key");
            check(batch.entries.members == member, v, "members");
            int64_t expected = member ? (int64_t)test_vectors_number(v, 2) : test_vectors_signed(v, 2);
            check(tally_bytes_equal(key, test_vectors_bytes(v, 1)) && amount == expected, v, "entry");
        } else {
            check(tally_entries_next_removed(&batch.entries, &key), v, "no removed key");
            check(tally_bytes_equal(key, test_vectors_bytes(v, 1)), v, "removed key");
        }
    }
    close_batch(&batch, v);
    test_vectors_close(v);
    assert_true(checked >= 5);
}

static void test_frame_file(void **state)
{
    (void)state;
    size_t size;
    uint8_t *data = test_vector_file("frames.tallyf", &size);
    struct tally_framefile file;
    struct tally_bytes message;
    assert_int_equal(tally_framefile_open(tally_bytes(data, size), &file), TALLY_OK);
    for (unsigned i = 0; i < 4; i++) {
        char name[32];
        size_t chunk_size;
        snprintf(name, sizeof name, "frame-chunk-%u.bin", i);
        uint8_t *chunk = test_vector_file(name, &chunk_size);
        assert_int_equal(tally_framefile_next(&file, &message), TALLY_OK);
        assert_true(tally_bytes_equal(message, tally_bytes(chunk, chunk_size)));
        free(chunk);
    }
    assert_int_equal(tally_framefile_next(&file, &message), TALLY_NOT_FOUND);
    free(data);
}

// ------------------------------------------------------------------------------------------ the mirror

enum { MEMORY = 4 << 20 };

struct script {
    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_reader reader;
    bool open;
    struct tally_cursor cursor; // of the listing that the last `state` began
    uint64_t rows_left;
};

static void script_close(struct script *script)
{
    if (!script->open) return;
    tally_reader_close(&script->reader);
    free(script->memory.base);
    script->open = false;
}

static void script_open(struct script *script, const struct test_vectors *at)
{
    script_close(script);
    void *base = aligned_alloc(64, MEMORY);
    check(base != NULL, at, "no memory");
    memset(base, 0, MEMORY);
    script->memory = (struct tally_memory){.base = base, .size = MEMORY, .size_max = MEMORY};
    const struct tally_mirror_options options = {.dataset = test_text(test_vectors_word(at, 1))};
    check(tally_mirror_init(&script->memory, &options, &script->mirror) == TALLY_OK, at, "init");
    check(tally_reader_open(script->mirror, &script->reader) == TALLY_OK, at, "reader");
    script->open = true;
    script->rows_left = 0;
}

static void script_apply(struct script *script, const struct test_vectors *at)
{
    size_t size;
    uint8_t *data = test_vector_file(test_vectors_word(at, 1), &size);
    enum tally_status got = tally_mirror_apply(script->mirror, &script->memory, tally_bytes(data, size));
    enum tally_status expected = test_vectors_status(at, 2);
    if (got != expected)
        fail_msg("%s:%d: %s gives \"%s\", expected \"%s\"", at->name, at->line, at->word[1], tally_status_str(got),
                 tally_status_str(expected));
    free(data);
}

// What holds of one view: `state`, `table`, `row` and `absent`.
static void script_view(struct script *script, const struct test_vectors *at)
{
    struct tally_view view;
    tally_view_pin(&script->reader, &view);
    if (test_vectors_is(at, "state")) {
        struct tally_view_info info;
        tally_view_info(&view, &info);
        check(info.epoch == test_vectors_hex64(at, 1) && info.version == test_vectors_number(at, 2), at, "version");
        check(info.cut_ms == test_vectors_number(at, 3), at, "cut");
        check(tally_digest_equal(info.digest, test_vectors_digest(at, 4)), at, "digest");
        check(info.rows == test_vectors_number(at, 5) && info.tables == test_vectors_number(at, 6), at, "rows, tables");
        script->cursor = (struct tally_cursor){0};
        script->rows_left = info.rows;
    } else if (test_vectors_is(at, "table")) {
        struct tally_table_info info;
        check(tally_view_table_info(&view, (uint32_t)test_vectors_number(at, 1), &info) == TALLY_OK, at, "no table");
        check(tally_bytes_equal(info.name, test_text(test_vectors_word(at, 2))), at, "table name");
        check(info.rows == test_vectors_number(at, 3), at, "rows of the table");
    } else if (test_vectors_is(at, "row")) {
        struct tally_row row;
        uint32_t table = (uint32_t)test_vectors_number(at, 1);
        struct tally_bytes key = test_vectors_bytes(at, 3);
        int64_t value = test_vectors_signed(at, 4), got;
        check(tally_view_next(&view, &script->cursor, &row), at, "the listing ends before this row");
        check(row.table == table && row.id == test_vectors_number(at, 2), at, "place");
        check(tally_bytes_equal(row.key, key) && row.value == value, at, "listed row");
        check(tally_view_get(&view, table, key, &got) == TALLY_OK && got == value, at, "row by key");
        if (--script->rows_left == 0) check(!tally_view_next(&view, &script->cursor, &row), at, "more rows");
    } else {
        int64_t got;
        enum tally_status status =
            tally_view_get(&view, (uint32_t)test_vectors_number(at, 1), test_vectors_bytes(at, 2), &got);
        check(status == TALLY_NOT_FOUND, at, "found");
    }
    tally_view_unpin(&view);
}

static void test_mirror(void **state)
{
    (void)state;
    struct test_vectors vectors = test_vectors_open("mirror.txt"), *v = &vectors;
    struct script script = {0};
    unsigned checked = 0;
    while (test_vectors_next(v)) {
        if (test_vectors_is(v, "mirror"))
            script_open(&script, v);
        else if (test_vectors_is(v, "apply"))
            script_apply(&script, v);
        else
            script_view(&script, v);
        checked++;
    }
    script_close(&script);
    test_vectors_close(v);
    assert_true(checked > 2000);
}

// Every frame that refused.txt lists is refused by a mirror too, whatever it holds, and it keeps its version.
static void test_mirror_refuses(void **state)
{
    (void)state;
    struct test_vectors vectors = test_vectors_open("refused.txt"), *v = &vectors;
    struct script script = {0};
    char dataset[] = "main";
    struct test_vectors start = {.name = "refused.txt", .words = 2, .word = {dataset, dataset}};
    size_t size;
    script_open(&script, &start);
    uint8_t *first = test_vector_file("frame-first.bin", &size);
    assert_int_equal(tally_mirror_apply(script.mirror, &script.memory, tally_bytes(first, size)), TALLY_OK);
    free(first);
    while (test_vectors_next(v)) {
        uint8_t *data = test_vector_file(test_vectors_word(v, 1), &size);
        enum tally_status got = tally_mirror_apply(script.mirror, &script.memory, tally_bytes(data, size));
        check(got != TALLY_OK && got != TALLY_MORE, v, "applied");
        free(data);
        struct tally_view view;
        struct tally_view_info info;
        tally_view_pin(&script.reader, &view);
        tally_view_info(&view, &info);
        tally_view_unpin(&view);
        check(info.version == 1 && info.rows == 4, v, "the version is gone");
    }
    script_close(&script);
    test_vectors_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),     cmocka_unit_test(test_refused), cmocka_unit_test(test_batches),
        cmocka_unit_test(test_frame_file), cmocka_unit_test(test_mirror),  cmocka_unit_test(test_mirror_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
