// SPDX-License-Identifier: Apache-2.0
//
// Tables that age: the state and a mirror that takes its frames, held against lists of all that was counted; restarts in between.
#include "../support/with_cmocka.h"

#include <server/src/aging.h>
#include <server/src/snapshot.h>
#include <tallycast/memory.h>

#include "../support/aged.h"
#include "../support/build.h"
#include "../support/random.h"

#define KEYS     24u
#define OVERFLOW KEYS // its key in the model

struct lab {
    struct test_random *random;
    struct tally_state state;
    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_reader reader;
    struct tally_writer record, out;
    struct tally_definition definition;
    struct aged_key model[KEYS + 1];
    uint64_t time_ms, sequence;
    struct tally_applied applied;
};

static void key_name(uint32_t key, char out[32])
{
    // Some are too long to lie within their row.
    if (key == OVERFLOW)
        (void)snprintf(out, 32, "%s", TALLY_OVERFLOW_KEY);
    else
        (void)snprintf(out, 32, "key-%u", key);
}

static struct tally_state_options lab_options(void)
{
    return (struct tally_state_options){.dataset = test_text("main"), .epoch = 5, .seed = {3, 4}};
}

static void lab_open(struct lab *lab, struct test_random *random, const struct tally_alloc *alloc)
{
    const struct tally_state_options options = lab_options();
    const struct tally_mirror_options mirror = {.dataset = options.dataset};
    *lab = (struct lab){.random = random, .record = test_writer(), .out = test_writer(), .time_ms = 1700000000000u};
    assert_int_equal(tally_state_init(&lab->state, &options, alloc), TALLY_OK);
    assert_int_equal(tally_memory_map(64u << 20, 0, &lab->memory), TALLY_OK);
    assert_int_equal(tally_mirror_init(&lab->memory, &mirror, &lab->mirror), TALLY_OK);
    assert_int_equal(tally_reader_open(lab->mirror, &lab->reader), TALLY_OK);
}

static void lab_close(struct lab *lab)
{
    tally_state_deinit(&lab->state);
    tally_reader_close(&lab->reader);
    tally_memory_unmap(&lab->memory);
    test_writer_free(&lab->record);
    test_writer_free(&lab->out);
    for (uint32_t i = 0; i <= KEYS; i++) aged_free(&lab->model[i]);
}

static void lab_define(struct lab *lab, const struct tally_definition *definition)
{
    const char *why = "";
    bool ttl_new = !lab->definition.ttl_ms;
    lab->definition = *definition;
    assert_int_equal(tally_definition_complete(&lab->definition, test_text("t"), &why), TALLY_OK);
    tally_record_definition(&lab->record, test_text("t"), &lab->definition);
    for (uint32_t i = 0; i <= KEYS && ttl_new; i++) lab->model[i].touched_ms = lab->time_ms;
}

static uint32_t model_rows(const struct lab *lab)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < KEYS; i++) rows += lab->model[i].live;
    return rows;
}

static void model_count(struct lab *lab, uint32_t key, int64_t amount)
{
    uint64_t max = lab->definition.max_keys;
    if (!lab->model[key].live && key != OVERFLOW && max && model_rows(lab) >= max) key = OVERFLOW;
    aged_count(&lab->model[key], lab->time_ms, amount);
}

// A batch of entries: each counts an amount, or removes a key.
struct entry {
    uint32_t key;
    bool removed;
    int64_t amount;
};

static void lab_batch(struct lab *lab, const struct entry *entries, size_t count)
{
    struct test_batch batch;
    struct tally_bytes message;
    char name[32];
    test_batch_init(&batch);
    const struct tally_batch_header header = {.dataset = test_text("main"), .producer = 9, .sequence = ++lab->sequence};
    tally_batch_begin(&batch.writer, &header);
    for (int removed = 0; removed < 2; removed++) {
        tally_batch_table_begin(&batch.writer, test_text("t"));
        for (size_t i = 0; i < count; i++) {
            if (entries[i].removed != removed) continue;
            key_name(entries[i].key, name);
            if (removed) {
                tally_batch_remove(&batch.writer, test_text(name));
                aged_leave(&lab->model[entries[i].key]);
            } else {
                tally_batch_add(&batch.writer, test_text(name), entries[i].amount);
                model_count(lab, entries[i].key, entries[i].amount);
            }
        }
        tally_batch_table_end(&batch.writer);
    }
    assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
    assert_int_equal(tally_request_batch(test_batch_bytes(&batch), &message), TALLY_OK);
    tally_record_batch(&lab->record, message);
    test_batch_free(&batch);
}

// A record begins: `after_ms` behind the last, and what is due by then leaves the model.
static void lab_begin(struct lab *lab, uint64_t after_ms)
{
    lab->time_ms += after_ms;
    tally_record_begin(&lab->record);
}

static void lab_age(struct lab *lab)
{
    for (uint32_t i = 0; i <= KEYS; i++) (void)aged_advance(&lab->model[i], &lab->definition, lab->time_ms);
}

static void lab_equals(struct lab *lab)
{
    struct tally_view view;
    struct tally_cursor cursor = {0};
    struct tally_row row;
    uint32_t seen = 0, rows = model_rows(lab) + lab->model[OVERFLOW].live;
    char name[32];
    tally_view_pin(&lab->reader, &view);
    while (tally_view_next(&view, &cursor, &row)) {
        uint32_t key = 0;
        for (key_name(key, name); !tally_bytes_equal(row.key, test_text(name)); key_name(key, name)) {
            if (++key > KEYS) fail();
            key_name(key, name);
        }
        assert_true(lab->model[key].live);
        assert_int_equal(row.value, aged_value(&lab->model[key], lab->definition.kind));
        seen++;
    }
    tally_view_unpin(&view);
    assert_int_equal(seen, rows);
    assert_int_equal(lab->state.rows, rows);
    assert_true(lab->definition.max_keys == 0 || rows <= KEYS + 1);
}

// The record ends. The state takes it, and the mirror its frame.
static enum tally_status lab_end(struct lab *lab)
{
    struct tally_bytes record;
    const struct tally_record_header header = {.version = lab->state.version + 1, .time_ms = lab->time_ms};
    assert_int_equal(tally_record_finish(&lab->record, &header, &record), TALLY_OK);
    lab->out.size = 0;
    enum tally_status status = tally_state_apply(&lab->state, record, &lab->out, &lab->applied);
    if (status) return status;
    assert_false(lab->applied.whole);
    assert_int_equal(tally_mirror_apply(lab->mirror, &lab->memory, tally_writer_bytes(&lab->out)), TALLY_OK);
    return TALLY_OK;
}

// When the model says that something is due next.
static uint64_t model_due(const struct lab *lab)
{
    const struct tally_definition *d = &lab->definition;
    uint64_t pane = d->window == TALLY_WINDOW_SLIDING ? d->pane_ms : d->window_ms, due = UINT64_MAX;
    for (uint32_t i = 0; i <= KEYS; i++) {
        const struct aged_key *key = &lab->model[i];
        if (!key->live) continue;
        if (d->ttl_ms && key->touched_ms + d->ttl_ms < due) due = key->touched_ms + d->ttl_ms;
        uint64_t leaves = d->window ? key->events[0].time_ms / pane * pane + d->window_ms : UINT64_MAX;
        if (leaves < due) due = leaves;
    }
    return due;
}

// A server that restarts: the state from a snapshot of it.
static void lab_restart(struct lab *lab, const struct tally_alloc *alloc)
{
    static uint8_t scratch[TALLY_CHUNK_BYTES_MAX], chunk[TALLY_CHUNK_BYTES_MAX];
    struct tally_snapshot_writer writer;
    struct tally_writer file = test_writer();
    const struct tally_state_options options = lab_options();
    assert_int_equal(tally_snapshot_begin(&writer, &lab->reader, &lab->state, 1, &file), TALLY_OK);
    while (!writer.done) assert_int_equal(tally_snapshot_next(&writer, scratch, chunk, &file), TALLY_OK);
    tally_snapshot_end(&writer);
    struct tally_digest digest = lab->state.digest;
    uint64_t due = tally_state_due(&lab->state);
    tally_state_deinit(&lab->state);
    assert_int_equal(tally_state_init(&lab->state, &options, alloc), TALLY_OK);
    assert_int_equal(tally_snapshot_load(tally_writer_bytes(&file), &lab->state), TALLY_OK);
    assert_true(tally_digest_equal(digest, lab->state.digest));
    assert_int_equal(tally_state_due(&lab->state), due);
    test_writer_free(&file);
}

static struct tally_definition draw(struct test_random *random)
{
    static const enum tally_kind kinds[] = {TALLY_KIND_COUNTER, TALLY_KIND_MIN, TALLY_KIND_MAX};
    struct tally_definition d = {.kind = kinds[test_random_below(random, 3)]};
    if (test_random_percent(random, 60)) d.ttl_ms = test_random_between(random, 1, 400);
    if (test_random_percent(random, 40)) d.max_keys = test_random_between(random, 1, KEYS);
    switch (test_random_below(random, 3)) {
    case 0: break;
    case 1:
        d.window = TALLY_WINDOW_TUMBLING;
        d.window_ms = test_random_between(random, 1, 500);
        break;
    default:
        d.window = TALLY_WINDOW_SLIDING;
        d.pane_ms = test_random_between(random, 1, 100);
        d.window_ms = d.pane_ms * test_random_between(random, 1, 12);
    }
    return d;
}

static void draw_batch(struct lab *lab)
{
    struct entry entries[12];
    struct test_random *random = lab->random;
    size_t count = test_random_below(random, 12);
    bool levels = lab->definition.kind != TALLY_KIND_COUNTER;
    for (size_t i = 0; i < count; i++) {
        entries[i].key = (uint32_t)test_random_below(random, test_random_percent(random, 3) ? KEYS + 1 : KEYS);
        entries[i].removed = test_random_percent(random, 10);
        entries[i].amount = (int64_t)test_random_below(random, 100) - (levels ? 50 : 0);
        if (!levels && test_random_percent(random, 2)) entries[i].amount = INT64_MAX - 5;
        if (test_random_percent(random, 10)) entries[i].amount = 0;
    }
    lab_batch(lab, entries, count);
}

static void step(struct lab *lab)
{
    struct test_random *random = lab->random;
    uint64_t after = test_random_percent(random, 5) ? test_random_below(random, 3000) : test_random_below(random, 40);
    lab_begin(lab, after);
    if (test_random_percent(random, 4)) {
        struct tally_definition changed = draw(random);
        changed.kind = lab->definition.kind;
        changed.window = lab->definition.window;
        changed.window_ms = lab->definition.window_ms;
        changed.pane_ms = lab->definition.pane_ms;
        lab_define(lab, &changed);
    }
    lab_age(lab);
    for (uint64_t batches = test_random_below(random, 3); batches; batches--) draw_batch(lab);
    assert_int_equal(lab_end(lab), TALLY_OK);
    lab_equals(lab);
    assert_int_equal(tally_state_due(&lab->state), model_due(lab));
}

static void test_against_lists(void **unused)
{
    (void)unused;
    struct test_random random = test_random_start("aging: lists");
    for (int round = 0; round < 60; round++) {
        struct test_alloc alloc;
        test_alloc_init(&alloc);
        struct lab lab;
        lab_open(&lab, &random, &alloc.alloc);
        struct tally_definition definition = draw(&random);
        lab_begin(&lab, 0);
        lab_define(&lab, &definition);
        assert_int_equal(lab_end(&lab), TALLY_OK);
        for (int i = 0; i < 150; i++) {
            step(&lab);
            if (test_random_percent(&random, 4)) lab_restart(&lab, &alloc.alloc);
        }
        lab_close(&lab);
        assert_int_equal(alloc.blocks, 0);
    }
}

// An empty record at the time that is due does all that is to be done; one a millisecond earlier, nothing.
static void test_due_is_when_something_happens(void **unused)
{
    (void)unused;
    struct test_random random = test_random_start("aging: due");
    for (int round = 0; round < 40; round++) {
        struct lab lab;
        lab_open(&lab, &random, &tally_alloc_libc);
        struct tally_definition definition = draw(&random);
        lab_begin(&lab, 0);
        lab_define(&lab, &definition);
        draw_batch(&lab);
        assert_int_equal(lab_end(&lab), TALLY_OK);
        for (uint64_t due; (due = tally_state_due(&lab.state)) != UINT64_MAX;) {
            assert_true(due > lab.time_ms);
            struct tally_digest before = lab.state.digest;
            uint64_t slid = lab.state.stats.slid, expired = lab.state.stats.expired;
            lab_begin(&lab, due - 1 - lab.time_ms);
            lab_age(&lab);
            assert_int_equal(lab_end(&lab), TALLY_OK);
            assert_true(tally_digest_equal(before, lab.state.digest));
            assert_int_equal(lab.state.stats.slid + lab.state.stats.expired, slid + expired);
            lab_begin(&lab, 1);
            lab_age(&lab);
            assert_int_equal(lab_end(&lab), TALLY_OK);
            assert_true(lab.state.stats.slid + lab.state.stats.expired > slid + expired);
            lab_equals(&lab);
        }
        assert_int_equal(lab.state.rows, definition.ttl_ms || definition.window ? 0 : lab.state.rows);
        lab_close(&lab);
    }
}

// A clock that jumped: the longest idle rows leave first, so many a record; what is counted meanwhile stays.
static void test_many_expire_at_once(void **unused)
{
    (void)unused;
    struct test_random random = test_random_start("aging: many at once");
    struct lab lab;
    lab_open(&lab, &random, &tally_alloc_libc);
    lab.state.expired_max = 7;
    const struct tally_definition definition = {.kind = TALLY_KIND_COUNTER, .ttl_ms = 100};
    lab_begin(&lab, 0);
    lab_define(&lab, &definition);
    assert_int_equal(lab_end(&lab), TALLY_OK);
    for (uint32_t key = 0; key < 20; key++) {
        lab_begin(&lab, 1);
        lab_batch(&lab, &(struct entry){.key = key, .amount = key}, 1);
        assert_int_equal(lab_end(&lab), TALLY_OK);
    }
    lab_begin(&lab, 100000);
    for (uint32_t key = 0; key < 7; key++) aged_leave(&lab.model[key]);
    lab_batch(&lab, (struct entry[]){{.key = 19, .amount = 5}, {.key = 3, .amount = 1}}, 2);
    assert_int_equal(lab_end(&lab), TALLY_OK);
    lab_equals(&lab);
    lab_restart(&lab, &tally_alloc_libc);
    lab.state.expired_max = 7;
    for (uint32_t gone = 14; gone <= 20; gone += 6) {
        assert_true(tally_state_due(&lab.state) <= lab.time_ms);
        lab_begin(&lab, 0);
        for (uint32_t key = 7; key < (gone == 14 ? 14 : 19); key++) aged_leave(&lab.model[key]);
        assert_int_equal(lab_end(&lab), TALLY_OK);
        lab_equals(&lab);
    }
    assert_int_equal(tally_state_due(&lab.state), lab.time_ms + 100);
    assert_int_equal(lab.state.rows, 2);
    lab_close(&lab);
}

// Members for some keys of table t: `keys` as letters, all with the members from `from` to `to`.
static void members_batch(struct lab *lab, const char *keys, uint64_t from, uint64_t to)
{
    struct test_batch batch;
    struct tally_bytes message;
    test_batch_init(&batch);
    const struct tally_batch_header header = {.dataset = test_text("main"), .producer = 9, .sequence = ++lab->sequence};
    tally_batch_begin(&batch.writer, &header);
    tally_batch_table_begin(&batch.writer, test_text("t"));
    for (; *keys; keys++) {
        for (uint64_t member = from; member <= to; member++)
            tally_batch_add_member(&batch.writer, tally_bytes(keys, 1), tally_mix64(member));
    }
    tally_batch_table_end(&batch.writer);
    assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
    assert_int_equal(tally_request_batch(test_batch_bytes(&batch), &message), TALLY_OK);
    tally_record_batch(&lab->record, message);
    test_batch_free(&batch);
}

static int64_t lab_get(struct lab *lab, const char *key)
{
    struct tally_view view;
    int64_t value = -1;
    tally_view_pin(&lab->reader, &view);
    if (tally_view_get(&view, 0, test_text(key), &value)) value = -1;
    tally_view_unpin(&view);
    return value;
}

// Sketches go with their rows, and the overflow row has the members of all keys beyond the bound, each once.
static void test_distinct_rows_age(void **unused)
{
    (void)unused;
    struct test_random random = test_random_start("aging: distinct");
    struct test_alloc alloc;
    struct lab lab;
    test_alloc_init(&alloc);
    lab_open(&lab, &random, &alloc.alloc);
    const struct tally_definition definition = {.kind = TALLY_KIND_DISTINCT, .ttl_ms = 100, .max_keys = 2};
    lab_begin(&lab, 0);
    lab_define(&lab, &definition);
    members_batch(&lab, "abcd", 1, 20); // c and d share the overflow row, and the members
    assert_int_equal(lab_end(&lab), TALLY_OK);
    assert_int_equal(lab_get(&lab, "a"), lab_get(&lab, TALLY_OVERFLOW_KEY));
    assert_in_range(lab_get(&lab, "a"), 19, 21);
    assert_int_equal(lab_get(&lab, "c"), -1);
    lab_begin(&lab, 60);
    members_batch(&lab, "b", 11, 40);
    assert_int_equal(lab_end(&lab), TALLY_OK);
    assert_in_range(lab_get(&lab, "b"), 38, 42);
    lab_restart(&lab, &alloc.alloc);
    lab_begin(&lab, 40); // a and the overflow row leave: there is room for c
    members_batch(&lab, "c", 1, 5);
    assert_int_equal(lab_end(&lab), TALLY_OK);
    assert_int_equal(lab_get(&lab, "a"), -1);
    assert_int_equal(lab_get(&lab, TALLY_OVERFLOW_KEY), -1);
    assert_int_equal(lab_get(&lab, "c"), 5);
    assert_in_range(lab_get(&lab, "b"), 38, 42);
    lab_begin(&lab, 1000);
    assert_int_equal(lab_end(&lab), TALLY_OK);
    assert_int_equal(lab.state.rows, 0);
    lab_close(&lab);
    assert_int_equal(alloc.blocks, 0);
}

// The same life again with the 1st, 2nd ... allocation failing: the state says so, and gives all back.
static void test_the_nth_allocation_fails(void **unused)
{
    (void)unused;
    size_t failed = 0;
    for (size_t fail_at = 1;; fail_at++) {
        struct test_random random = {42};
        struct test_alloc alloc;
        test_alloc_init(&alloc);
        struct lab lab;
        lab_open(&lab, &random, &alloc.alloc);
        struct tally_definition definition = {.kind = TALLY_KIND_COUNTER,
                                              .ttl_ms = 50,
                                              .max_keys = 20,
                                              .window = TALLY_WINDOW_SLIDING,
                                              .window_ms = 100,
                                              .pane_ms = 10};
        alloc.fail_at = alloc.requests + fail_at;
        lab_begin(&lab, 0);
        lab_define(&lab, &definition);
        enum tally_status status = lab_end(&lab);
        for (int i = 0; !status && i < 30; i++) {
            lab_begin(&lab, test_random_below(&random, 20));
            lab_age(&lab);
            draw_batch(&lab);
            status = lab_end(&lab);
        }
        bool now = alloc.requests >= alloc.fail_at;
        assert_true(now ? status == TALLY_NO_MEMORY && lab.state.broken : status == TALLY_OK);
        failed += now;
        lab_close(&lab);
        assert_int_equal(alloc.blocks, 0);
        if (!now) break;
    }
    assert_true(failed > 10);
}

// Parts of a snapshot that do not fit the rows, or the definition, are refused, whatever they say.
static void test_parts_that_do_not_fit(void **unused)
{
    (void)unused;
    struct test_random random = test_random_start("aging: parts");
    unsigned refused = 0;
    for (int round = 0; round < 300; round++) {
        struct lab lab;
        struct tally_state fresh;
        static uint8_t scratch[TALLY_CHUNK_BYTES_MAX], chunk[TALLY_CHUNK_BYTES_MAX];
        struct tally_snapshot_writer writer;
        struct tally_writer file = test_writer();
        lab_open(&lab, &random, &tally_alloc_libc);
        struct tally_definition definition = draw(&random);
        lab_begin(&lab, 0);
        lab_define(&lab, &definition);
        lab_age(&lab);
        for (int i = 0; i < 4; i++) draw_batch(&lab);
        assert_int_equal(lab_end(&lab), TALLY_OK);
        // What the snapshot says of time is not what it says of rows.
        uint32_t id = (uint32_t)test_random_below(&random, lab.state.tables[0].rows.ids);
        struct tally_aging *aging = &lab.state.tables[0].aging;
        bool live = lab.state.tables[0].rows.ids && tally_row_live(&lab.state.tables[0].rows.rows[id]);
        bool changed = false;
        if (live && definition.ttl_ms) {
            changed = true;
            if (test_random_percent(&random, 50))
                tally_expiry_drop(&aging->expiry, id);
            else
                aging->expiry.nodes[id].touched_ms = lab.time_ms + 1;
        } else if (live && definition.window) {
            changed = true;
            if (test_random_percent(&random, 50)) {
                tally_panes_drop(&aging->panes, id);
            } else {
                int64_t *amount;
                bool first;
                uint64_t pane = tally_panes_number(&aging->panes, lab.time_ms);
                assert_int_equal(tally_panes_entry(&aging->panes, id, pane, &amount, &first), TALLY_OK);
                *amount += *amount < 1000 ? 1 : -1;
            }
        }
        assert_int_equal(tally_snapshot_begin(&writer, &lab.reader, &lab.state, 1, &file), TALLY_OK);
        while (!writer.done) assert_int_equal(tally_snapshot_next(&writer, scratch, chunk, &file), TALLY_OK);
        tally_snapshot_end(&writer);
        const struct tally_state_options options = lab_options();
        assert_int_equal(tally_state_init(&fresh, &options, &tally_alloc_libc), TALLY_OK);
        enum tally_status status = tally_snapshot_load(tally_writer_bytes(&file), &fresh);
        assert_int_equal(status, changed ? TALLY_MALFORMED : TALLY_OK);
        refused += changed;
        tally_state_deinit(&fresh);
        test_writer_free(&file);
        lab_close(&lab);
    }
    assert_true(refused > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_lists),
        cmocka_unit_test(test_due_is_when_something_happens),
        cmocka_unit_test(test_many_expire_at_once),
        cmocka_unit_test(test_distinct_rows_age),
        cmocka_unit_test(test_the_nth_allocation_fails),
        cmocka_unit_test(test_parts_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
