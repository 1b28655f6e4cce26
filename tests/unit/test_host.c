// SPDX-License-Identifier: Apache-2.0
//
// The contract of edge/host/host.h, held against every host that is built: native, and tallycast-shared.wasm in Wasmtime.
#include "../support/with_cmocka.h"
#include "model_frames.h"

#include <edge/host/host.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

static const struct tally_host_ops *ops;
static struct tally_host *host;
static struct tally_http_source source;

static enum tally_status create_with(uint64_t memory_bytes_max, uint32_t readers_max, const char *module,
                                     struct tally_reason *out_reason)
{
    struct tally_host_options options = {.dataset = test_text("main"),
                                         .memory_bytes_max = memory_bytes_max,
                                         .readers_max = readers_max,
                                         .module = module};
    return ops->create(&options, &host, &source, out_reason);
}

static void create(uint64_t memory_bytes_max)
{
    struct tally_reason reason = {0};
    enum tally_status status = create_with(memory_bytes_max, 8, TALLY_MODULE, &reason);
    if (status) fail_msg("%s", reason.text);
}

static int teardown(void **state)
{
    (void)state;
    ops->destroy(&host);
    assert_null(host);
    return 0;
}

static void apply(struct model *model, int64_t step, uint32_t more)
{
    struct test_frame frame;
    assert_int_equal(ops->apply(host, model_cut(model, step, more, &frame)), TALLY_OK);
    test_frame_free(&frame);
}

static void *open_reader(void)
{
    void *reader;
    assert_int_equal(source.open_reader(source.ctx, 0, &reader), TALLY_OK);
    return reader;
}

static void assert_rows(void *reader, const struct tally_http_view *view, const struct model *model)
{
    struct tally_bytes keys[TALLY_QUERY_KEYS_MAX];
    static char texts[TALLY_QUERY_KEYS_MAX][32];
    static int64_t values[TALLY_QUERY_KEYS_MAX];
    static bool found[TALLY_QUERY_KEYS_MAX];
    for (uint32_t at = 0; at < model->rows + 10;) {
        size_t count = 0;
        for (; count < TALLY_QUERY_KEYS_MAX && at + count < model->rows + 10; count++)
            keys[count] = model_key(at + (uint32_t)count, texts[count]);
        assert_int_equal(tally_http_get_many(&source, reader, view, test_text("t"), keys, count, values, found),
                         TALLY_OK);
        for (size_t i = 0; i < count; i++, at++) {
            assert_int_equal(found[i], at < model->rows);
            assert_int_equal(values[i], at < model->rows ? model->values[at] : 0);
        }
    }
}

static void test_reads(void **state)
{
    (void)state;
    struct model model;
    struct tally_http_view view, later;
    struct tally_view_info info;
    struct tally_table_info table;
    create(64 << 20);
    void *reader = open_reader();
    assert_int_equal(source.pin(reader, &view), TALLY_BUSY); // nothing is held: no answer, not even "absent"
    ops->held(host, &info);
    assert_int_equal(info.epoch, 0);

    model_init(&model, 9, 20000);
    apply(&model, 0, 10000);
    assert_int_equal(source.pin(reader, &view), TALLY_OK);
    source.info(reader, &view, &info);
    assert_int_equal(info.epoch, 9);
    assert_int_equal(info.version, 1);
    assert_int_equal(info.cut_ms, 1700000000000);
    assert_int_equal(info.fresh_ms, 1700000000000);
    assert_int_equal(info.rows, 10000);
    assert_int_equal(info.tables, 1);
    assert_int_equal(info.seed.k0, 9);
    assert_int_equal(info.seed.k1, 77);
    assert_true(tally_digest_equal(info.digest, model.digest));
    assert_int_equal(source.table_info(reader, &view, 0, &table), TALLY_OK);
    assert_true(tally_bytes_equal(table.name, test_text("t")));
    assert_int_equal(table.kind, TALLY_KIND_COUNTER);
    assert_int_equal(table.rows, 10000);
    assert_int_equal(source.table_info(reader, &view, 1, &table), TALLY_NOT_FOUND);
    assert_rows(reader, &view, &model);

    // A later version beside the pinned one.
    struct model old = model;
    old.values = malloc(sizeof *old.values * old.rows_max);
    memcpy(old.values, model.values, sizeof *old.values * old.rows_max);
    apply(&model, 5, 3);
    assert_int_equal(source.pin(reader, &later), TALLY_OK);
    assert_rows(reader, &view, &old);
    assert_rows(reader, &later, &model);
    source.unpin(reader, &view);
    source.unpin(reader, &later);
    model_free(&old);

    struct tally_mirror_stats stats;
    ops->stats(host, &stats);
    assert_int_equal(stats.applies, 2);
    assert_int_equal(stats.swaps, 2);
    assert_true(stats.hits >= 20000);
    ops->confirm(host, 9, 2, 1700000009999);
    ops->held(host, &info);
    assert_int_equal(info.fresh_ms, 1700000009999);
    assert_true(ops->sound(host));
    source.close_reader(source.ctx, reader);
    model_free(&model);
}

static void test_odd_keys(void **state)
{
    (void)state;
    struct model model;
    struct tally_http_view view;
    create(64 << 20);
    model_init(&model, 9, 10);
    apply(&model, 0, 10);
    void *reader = open_reader();
    assert_int_equal(source.pin(reader, &view), TALLY_OK);
    enum { MANY = 300 };
    static uint8_t long_key[4000];
    struct tally_bytes keys[MANY];
    int64_t values[MANY];
    bool found[MANY];
    // Each fills much of the scratch, one is over the limit, one is empty, one is there.
    for (unsigned i = 0; i < MANY; i++) keys[i] = tally_bytes(long_key, TALLY_KEY_BYTES_MAX);
    keys[7] = tally_bytes(long_key, sizeof long_key);
    keys[8] = tally_bytes(long_key, 0);
    keys[MANY - 1] = test_text("key-3");
    assert_int_equal(tally_http_get_many(&source, reader, &view, test_text("t"), keys, MANY, values, found), TALLY_OK);
    for (unsigned i = 0; i < MANY; i++) assert_int_equal(found[i], i == MANY - 1);
    assert_int_equal(values[MANY - 1], 3);
    assert_int_equal(tally_http_get_many(&source, reader, &view, test_text("u"), keys, 1, values, found),
                     TALLY_NOT_FOUND);
    assert_int_equal(tally_http_get_many(&source, reader, &view, tally_bytes(long_key, 4000), keys, 1, values, found),
                     TALLY_NOT_FOUND);
    source.unpin(reader, &view);
    source.close_reader(source.ctx, reader);
    model_free(&model);
}

static void test_refusals(void **state)
{
    (void)state;
    struct model model;
    struct test_frame frame;
    struct tally_view_info before, after;
    create(64 << 20);
    model_init(&model, 9, 1000);
    apply(&model, 0, 1000);
    ops->held(host, &before);
    struct tally_bytes bytes = model_cut(&model, 1, 0, &frame);
    struct test_random random = test_random_start("test_host");
    for (unsigned i = 0; i < 200; i++) {
        uint8_t *copy = test_exact_copy(bytes.data, bytes.size);
        copy[test_random_below(&random, bytes.size)] ^= (uint8_t)(1u << test_random_below(&random, 8));
        assert_int_not_equal(ops->apply(host, tally_bytes(copy, bytes.size)), TALLY_OK);
        free(copy);
        assert_int_not_equal(ops->apply(host, tally_bytes(bytes.data, test_random_below(&random, bytes.size))),
                             TALLY_OK);
    }
    ops->held(host, &after);
    assert_int_equal(after.version, before.version);
    assert_true(tally_digest_equal(before.digest, after.digest));
    assert_int_equal(ops->apply(host, bytes), TALLY_OK);
    assert_int_equal(ops->apply(host, bytes), TALLY_OLD);
    ops->abandon(host);
    test_frame_free(&frame);
    model_free(&model);
}

static void test_whole_state_goes_round(void **state)
{
    (void)state;
    struct model model;
    struct tally_http_view view;
    create(256 << 20);
    model_init(&model, 9, 200000);
    apply(&model, 0, 200000);
    apply(&model, 11, 0);
    void *reader = open_reader();
    assert_int_equal(source.pin(reader, &view), TALLY_OK);
    // Into a native mirror of its own, whatever the host under test is.
    struct tally_host_options options = {.dataset = test_text("main"), .memory_bytes_max = 256 << 20, .readers_max = 1};
    struct tally_host *other;
    struct tally_http_source ignored;
    struct tally_reason reason;
    assert_int_equal(tally_host_native.create(&options, &other, &ignored, &reason), TALLY_OK);
    struct tally_cursor cursor = {0};
    uint32_t chunk = 0;
    bool more = true;
    uint8_t *out = malloc(TALLY_CHUNK_BYTES_MAX);
    while (more) {
        size_t bytes = 0;
        assert_int_equal(source.write_chunk(reader, &view, &cursor, &chunk, out, &bytes, &more), TALLY_OK);
        assert_int_equal(tally_host_native.apply(other, tally_bytes(out, bytes)), more ? TALLY_MORE : TALLY_OK);
    }
    assert_true(chunk > 1);
    free(out);
    struct tally_view_info info;
    tally_host_native.held(other, &info);
    assert_int_equal(info.version, 2);
    assert_true(tally_digest_equal(info.digest, model.digest));
    tally_host_native.destroy(&other);
    source.unpin(reader, &view);
    source.close_reader(source.ctx, reader);
    model_free(&model);
}

// Frames of every size in turn, and a whole state whose chunks are begun, left, begun again: who brings a frame in may depend on its size.
static void test_large_and_small_frames(void **state)
{
    (void)state;
    struct model model;
    struct tally_view_info info;
    struct test_frame whole;
    create(256 << 20);
    model_init(&model, 9, 100000);
    const uint32_t more[] = {10, 30000, 1, 40000, 0, 3, 20000, 7, 0, 900};
    for (uint32_t i = 0; i < sizeof more / sizeof *more; i++) {
        apply(&model, 5, more[i]);
        ops->held(host, &info);
        assert_int_equal(info.version, i + 1);
        assert_true(tally_digest_equal(info.digest, model.digest));
    }
    void *reader = open_reader();
    struct tally_http_view view;
    assert_int_equal(source.pin(reader, &view), TALLY_OK);
    assert_rows(reader, &view, &model);
    source.unpin(reader, &view);
    source.close_reader(source.ctx, reader);
    ops->destroy(&host);

    // A first chunk, large or small, of a whole state that is then given up, by a call or by what comes instead of its next chunk.
    struct model other;
    struct tally_mirror_stats before, after;
    create(256 << 20);
    model_init(&other, 9, 100000);
    struct tally_bytes frame = model_cut(&other, 0, 60000, &whole);
    struct test_frame part;
    const struct tally_frame_header header = {.dataset = test_text("main"), .epoch = 8, .to = 1, .more = true};
    for (uint32_t rows = 10; rows <= 40000; rows += 39990) {
        test_frame_init(&part);
        tally_frame_begin(&part.writer, &header);
        tally_frame_table_begin(&part.writer, 0, test_text("t"), TALLY_KIND_COUNTER);
        for (uint32_t i = 0; i < rows; i++) {
            char text[32];
            tally_frame_added(&part.writer, i, model_key(i, text), i);
        }
        tally_frame_table_end(&part.writer);
        assert_int_equal(tally_frame_finish(&part.writer), TALLY_OK);
        ops->stats(host, &before);
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(ops->apply(host, test_frame_bytes(&part)), TALLY_MORE);
            ops->abandon(host);
        }
        ops->stats(host, &after);
        assert_int_equal(after.retired_bytes, 0);
        assert_int_equal(ops->apply(host, test_frame_bytes(&part)), TALLY_MORE);
        test_frame_free(&part);
    }
    assert_int_equal(ops->apply(host, frame), TALLY_OK);
    ops->held(host, &info);
    assert_true(tally_digest_equal(info.digest, other.digest));
    test_frame_free(&whole);
    apply(&other, 3, 5);
    model_free(&other);
    model_free(&model);
}

static void test_memory_is_bounded(void **state)
{
    (void)state;
    struct model model;
    struct tally_view_info info;
    create(48 << 20);
    model_init(&model, 9, 4000000);
    enum tally_status status = TALLY_OK;
    struct tally_digest digest = {0};
    while (status == TALLY_OK) {
        struct test_frame frame;
        digest = model.digest;
        status = ops->apply(host, model_cut(&model, 1, 100000, &frame));
        test_frame_free(&frame);
    }
    assert_int_equal(status, TALLY_NO_MEMORY);
    ops->held(host, &info);
    assert_int_equal(info.version, model.version - 1);
    assert_true(tally_digest_equal(info.digest, digest));
    assert_true(ops->sound(host));
    struct tally_mirror_stats stats;
    ops->stats(host, &stats);
    assert_true(stats.memory_bytes <= 48 << 20);
    model_free(&model);
}

static void test_readers_are_bounded(void **state)
{
    (void)state;
    struct tally_reason reason;
    assert_int_equal(create_with(64 << 20, 2, TALLY_MODULE, &reason), TALLY_OK);
    if (strcmp(ops->name, "wasm") != 0) return; // the native mirror has its own bound, tried elsewhere
    void *first = open_reader(), *second = open_reader(), *third;
    assert_int_equal(source.open_reader(source.ctx, 0, &third), TALLY_FULL);
    for (unsigned i = 0; i < 200; i++) { // places and stacks are given back
        source.close_reader(source.ctx, second);
        second = open_reader();
    }
    source.close_reader(source.ctx, first);
    source.close_reader(source.ctx, second);
}

// Readers while the applier makes the memory grow: each view is of one version, versions never go back.
static atomic_bool stop;
static atomic_uint_fast64_t reads_done;

static void *read_on(void *unused)
{
    (void)unused;
    void *reader = NULL;
    if (source.open_reader(source.ctx, 0, &reader) != TALLY_OK) return (void *)(uintptr_t)"no reader";
    uint64_t last = 0;
    const char *wrong = NULL;
    char texts[16][32];
    struct tally_bytes keys[16];
    for (uint32_t i = 0; i < 16; i++) keys[i] = model_key(i * 61, texts[i]);
    while (!atomic_load(&stop) && !wrong) {
        struct tally_http_view view;
        struct tally_view_info info;
        int64_t values[16];
        bool found[16];
        if (source.pin(reader, &view) != TALLY_OK) continue;
        source.info(reader, &view, &info);
        if (info.version < last) wrong = "version went back";
        last = info.version;
        if (tally_http_get_many(&source, reader, &view, test_text("t"), keys, 16, values, found) != TALLY_OK)
            wrong = "no table";
        for (uint32_t i = 0; i < 16 && !wrong; i++) {
            // Rows 0 to 999 came with version 1 and moved by one with each version since.
            if (!found[i] || values[i] != (int64_t)(i * 61 + info.version - 1)) wrong = "another version's value";
        }
        source.unpin(reader, &view);
        atomic_fetch_add(&reads_done, 16);
    }
    source.close_reader(source.ctx, reader);
    return (void *)(uintptr_t)wrong;
}

static void test_readers_beside_the_applier(void **state)
{
    (void)state;
    struct model model;
    create(1u << 30);
    model_init(&model, 9, 400000);
    apply(&model, 0, 1000);
    atomic_store(&stop, false);
    atomic_store(&reads_done, 0);
    pthread_t threads[3];
    for (unsigned i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, read_on, NULL), 0);
    struct tally_mirror_stats before, after;
    ops->stats(host, &before);
    for (unsigned i = 0; i < 60; i++) apply(&model, 1, 2000);
    while (atomic_load(&reads_done) < 100000) apply(&model, 1, 0);
    atomic_store(&stop, true);
    ops->stats(host, &after);
    assert_true(after.memory_bytes > before.memory_bytes);
    for (unsigned i = 0; i < 3; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        if (wrong) fail_msg("%s", (const char *)wrong);
    }
    model_free(&model);
}

#ifdef TALLY_HAVE_WASMTIME
// Another build takes over again and again, at every point between two applies, beside readers that hold each version against its number.
static void test_another_build(void **state)
{
    (void)state;
    struct model model;
    struct tally_reason reason = {0};
    struct tally_view_info info;
    struct tally_mirror_stats before, after;
    create(256 << 20);
    model_init(&model, 9, 100000);
    uint64_t identity = ops->identity(host);
    assert_int_equal(ops->renew_begin(host), TALLY_OK); // nothing is held
    assert_int_equal(ops->renew_prepare(host, TALLY_MODULE, &reason), TALLY_OK);
    apply(&model, 0, 1000);
    assert_int_equal(ops->renew_end(host, TALLY_OK, &reason), TALLY_OK);
    assert_int_equal(ops->identity(host), identity);
    atomic_store(&stop, false);
    atomic_store(&reads_done, 0);
    pthread_t threads[3];
    for (unsigned i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, read_on, NULL), 0);
    void *idle = open_reader(), *holding = open_reader();
    struct tally_http_view held;
    assert_int_equal(source.pin(holding, &held), TALLY_OK);
    for (unsigned round = 0; round < 6; round++) {
        uint64_t reads = atomic_load(&reads_done);
        if (round & 1) apply(&model, 1, 2000);
        assert_int_equal(ops->renew_begin(host), TALLY_OK);
        apply(&model, 1, 100);
        assert_int_equal(ops->renew_prepare(host, TALLY_MODULE, &reason), TALLY_OK);
        apply(&model, 1, round & 2 ? 10000 : 0);
        ops->confirm(host, 9, model.version, 1700000100000 + round);
        ops->stats(host, &before);
        assert_int_equal(ops->renew_end(host, TALLY_OK, &reason), TALLY_OK);
        ops->stats(host, &after);
        assert_int_equal(after.swaps, before.swaps);
        assert_int_equal(after.rows_changed, before.rows_changed);
        assert_true(after.reads >= before.reads);
        ops->held(host, &info);
        assert_int_equal(info.version, model.version);
        assert_int_equal(info.fresh_ms, 1700000100000 + round);
        assert_true(tally_digest_equal(info.digest, model.digest));
        while (atomic_load(&reads_done) < reads + 3000) apply(&model, 1, 0);
        source.settle(idle);
    }
    // Whoever reads has gone over, but for the view that is pinned since the beginning: that one's memory stays.
    source.settle(holding);
    ops->tidy(host);
    source.info(holding, &held, &info);
    assert_int_equal(info.version, 1);
    source.unpin(holding, &held);
    assert_true(ops->untidy(host));
    ops->tidy(host);
    assert_false(ops->untidy(host));
    atomic_store(&stop, true);
    for (unsigned i = 0; i < 3; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        if (wrong) fail_msg("%s", (const char *)wrong);
    }
    source.close_reader(source.ctx, idle);
    source.close_reader(source.ctx, holding);
    ops->destroy(&host);
    model_free(&model);
}

// Chunks, a refusal and another epoch while the next build is made; and builds that are dropped.
static void test_another_build_beside_chunks(void **state)
{
    (void)state;
    struct model model, next;
    struct tally_reason reason = {0};
    struct tally_view_info info;
    struct test_frame part;
    create(256 << 20);
    model_init(&model, 9, 1000);
    apply(&model, 0, 1000);
    model_init(&next, 10, 1000);
    const struct tally_frame_header header = {.dataset = test_text("main"), .epoch = 10, .to = 1, .more = true};
    test_frame_init(&part);
    tally_frame_begin(&part.writer, &header);
    tally_frame_table_begin(&part.writer, 0, test_text("t"), TALLY_KIND_COUNTER);
    tally_frame_added(&part.writer, 0, test_text("key-0"), 0);
    tally_frame_table_end(&part.writer);
    assert_int_equal(tally_frame_finish(&part.writer), TALLY_OK);
    assert_int_equal(ops->apply(host, test_frame_bytes(&part)), TALLY_MORE);
    assert_int_equal(ops->renew_begin(host), TALLY_BUSY);
    ops->abandon(host);
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(ops->renew_begin(host), TALLY_OK);
        assert_int_equal(ops->apply(host, test_frame_bytes(&part)), TALLY_MORE);
        assert_int_equal(ops->renew_prepare(host, TALLY_MODULE, &reason), TALLY_OK);
        if (round == 0) ops->abandon(host);
        if (round == 1) assert_int_not_equal(ops->apply(host, test_text("garbage")), TALLY_OK);
        assert_int_equal(ops->renew_end(host, TALLY_OK, &reason), TALLY_OK);
        apply(&model, 1, 0); // a delta: what was staged is forgotten, at the latest now
    }
    assert_int_equal(ops->renew_begin(host), TALLY_OK);
    apply(&next, 0, 500); // the whole state of a later epoch
    assert_int_equal(ops->renew_prepare(host, TALLY_MODULE, &reason), TALLY_OK);
    apply(&next, 3, 5);
    assert_int_equal(ops->renew_end(host, TALLY_OK, &reason), TALLY_OK);
    ops->held(host, &info);
    assert_int_equal(info.epoch, 10);
    assert_true(tally_digest_equal(info.digest, next.digest));

    uint64_t identity = ops->identity(host);
    assert_int_equal(ops->renew_begin(host), TALLY_OK);
    enum tally_status status = ops->renew_prepare(host, "/nowhere/module.wasm", &reason);
    assert_int_equal(status, TALLY_IO);
    assert_int_equal(ops->renew_end(host, status, &reason), TALLY_IO);
    assert_int_equal(ops->renew_begin(host), TALLY_OK);
    status = ops->renew_prepare(host, TALLY_MODULE, &reason);
    assert_int_equal(status, TALLY_OK);
    assert_int_equal(ops->renew_end(host, TALLY_STALLED, &reason), TALLY_STALLED);
    assert_true(ops->untidy(host));
    ops->tidy(host);
    assert_int_equal(ops->identity(host), identity);
    apply(&next, 3, 5);
    test_frame_free(&part);
    ops->destroy(&host);
    model_free(&model);
    model_free(&next);
}

static void assert_no_host(const char *module, uint64_t memory_bytes_max, enum tally_status expected, const char *word)
{
    struct tally_reason reason = {0};
    assert_int_equal(create_with(memory_bytes_max, 2, module, &reason), expected);
    assert_null(host);
    if (!strstr(reason.text, word)) fail_msg("\"%s\" does not say \"%s\"", reason.text, word);
}

static void test_wrong_modules(void **state)
{
    (void)state;
    char path[] = "/tmp/tallycast-test-module-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0);
    assert_no_host("/nowhere/module.wasm", 64 << 20, TALLY_IO, "/nowhere/module.wasm");
    assert_no_host(path, 64 << 20, TALLY_UNSUPPORTED, path); // empty
    assert_int_equal(write(file, "\0asm\1\0\0\0", 8), 8);    // a module of nothing
    assert_no_host(path, 64 << 20, TALLY_UNSUPPORTED, path);
    assert_int_equal(write(file, "garbage", 7), 7);
    assert_no_host(path, 64 << 20, TALLY_UNSUPPORTED, path);
    assert_no_host(TALLY_MODULE, 1 << 20, TALLY_INVALID, "memory-max");
    close(file);
    remove(path);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_reads, teardown),
        cmocka_unit_test_teardown(test_odd_keys, teardown),
        cmocka_unit_test_teardown(test_refusals, teardown),
        cmocka_unit_test_teardown(test_whole_state_goes_round, teardown),
        cmocka_unit_test_teardown(test_large_and_small_frames, teardown),
        cmocka_unit_test_teardown(test_memory_is_bounded, teardown),
        cmocka_unit_test_teardown(test_readers_are_bounded, teardown),
        cmocka_unit_test_teardown(test_readers_beside_the_applier, teardown),
    };
    ops = &tally_host_native;
    int failed = cmocka_run_group_tests_name("native", tests, NULL, NULL);
#ifdef TALLY_HAVE_WASMTIME
    ops = &tally_host_wasmtime;
    failed += cmocka_run_group_tests_name("wasmtime", tests, NULL, NULL);
    const struct CMUnitTest wasm_tests[] = {cmocka_unit_test(test_another_build),
                                            cmocka_unit_test(test_another_build_beside_chunks),
                                            cmocka_unit_test(test_wrong_modules)};
    failed += cmocka_run_group_tests_name("wasmtime only", wasm_tests, NULL, NULL);
#endif
    return failed;
}
