// SPDX-License-Identifier: Apache-2.0
//
// Tables of each kind, as a producer and a reader see them.
#include "../support/with_cmocka.h"

#include "../support/server_world.h"

// What an entry leaves out is 0.
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

// ---------------------------------------------------------------------------------------------------- sending

struct entry {
    const char *table, *key;
    int64_t amount;
    enum tally_kind kind;
    bool adjust;
};

// One batch of these entries, each in a TableEntries of its own. The answer to `token`.
static struct tally_answer send(struct server_world *world, uint64_t token, uint64_t sequence,
                                const struct entry *entries, size_t count, bool tick)
{
    struct test_batch batch;
    test_batch_init(&batch);
    const struct tally_batch_header header = {.dataset = test_text("main"), .producer = 77, .sequence = sequence};
    tally_batch_begin(&batch.writer, &header);
    for (size_t i = 0; i < count; i++) {
        const struct entry *e = &entries[i];
        tally_batch_table_begin_as(&batch.writer, test_text(e->table), e->kind, e->adjust);
        if (e->kind == TALLY_KIND_DISTINCT)
            tally_batch_add_member(&batch.writer, test_text(e->key), (uint64_t)e->amount);
        else
            tally_batch_add(&batch.writer, test_text(e->key), e->amount);
        tally_batch_table_end(&batch.writer);
    }
    assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
    tally_server_request(world->server, TALLY_ENDPOINT_INGEST, token, test_batch_bytes(&batch), world->now_ms);
    test_batch_free(&batch);
    if (tick) assert_int_equal(server_world_tick(world), TALLY_OK);
    return server_world_answer(world, token);
}

#define SEND(world, token, sequence, ...)                                                                              \
    do {                                                                                                               \
        const struct entry entries_[] = {__VA_ARGS__};                                                                 \
        struct tally_answer answer_ =                                                                                  \
            send((world), (token), (sequence), entries_, sizeof entries_ / sizeof *entries_, true);                    \
        assert_int_equal(answer_.status, TALLY_OK);                                                                    \
        tally_answer_free(&tally_alloc_libc, &answer_);                                                                \
    } while (0)

// Refused at once, with this in its message.
static void refused(struct server_world *world, uint64_t token, uint64_t sequence, struct entry entry,
                    const char *message)
{
    struct tally_answer answer = send(world, token, sequence, &entry, 1, false);
    char text[512] = "";
    memcpy(text, answer.message.data, answer.message.size);
    if (answer.status != TALLY_INVALID || strcmp(text, message) != 0)
        fail_msg("status %d, \"%s\", expected \"%s\"", (int)answer.status, text, message);
    assert_int_equal(answer.expected_sequence, sequence);
    tally_answer_free(&tally_alloc_libc, &answer);
}

static int64_t get(struct server_world *world, const char *table, const char *key)
{
    static uint64_t token = 1000000;
    return server_world_get(world, ++token, table, key);
}

#define GAUGE .kind = TALLY_KIND_GAUGE
#define MIN   .kind = TALLY_KIND_MIN
#define MAX   .kind = TALLY_KIND_MAX

// ---------------------------------------------------------------------------------------------------- values

static void test_gauge_min_max(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    assert_int_equal(server_world_start(world), TALLY_OK);
    struct follower follower;
    follower_open(&follower);
    SEND(world, 1, 1, {"level", "a", -5, GAUGE}, {"low", "a", 7, MIN}, {"high", "a", -7, MAX});
    assert_int_equal(get(world, "level", "a"), -5);
    assert_int_equal(get(world, "low", "a"), 7);
    assert_int_equal(get(world, "high", "a"), -7);
    SEND(world, 2, 2, {"level", "a", 9, GAUGE}, {"low", "a", 8, MIN}, {"high", "a", -8, MAX});
    assert_int_equal(get(world, "level", "a"), 9);
    assert_int_equal(get(world, "low", "a"), 7);
    assert_int_equal(get(world, "high", "a"), -7);
    // The kind need not be said again.
    SEND(world, 3, 3, {"level", "a", 2, .adjust = true}, {"level", "b", -3, .adjust = true}, {"low", "a", -1},
         {"high", "a", 1});
    assert_int_equal(get(world, "level", "a"), 11);
    assert_int_equal(get(world, "level", "b"), -3);
    assert_int_equal(get(world, "low", "a"), -1);
    assert_int_equal(get(world, "high", "a"), 1);
    // The greatest moves that there are, and further.
    SEND(world, 4, 4, {"level", "a", -TALLY_LEVEL_MAX}, {"low", "a", TALLY_LEVEL_MAX}, {"low", "b", -TALLY_LEVEL_MAX});
    SEND(world, 5, 5, {"level", "a", TALLY_LEVEL_MAX}, {"level", "b", -TALLY_LEVEL_MAX, .adjust = true});
    assert_int_equal(get(world, "level", "a"), TALLY_LEVEL_MAX);
    assert_int_equal(get(world, "level", "b"), -TALLY_LEVEL_MAX);
    assert_int_equal(server_world_stats(world).saturated, 1);
    follower_follow(&follower, world, 0);
    follower_equals(&follower, world);
    follower_close(&follower);
    server_world_end(world);
}

#define DISTINCT .kind = TALLY_KIND_DISTINCT

// A hash, as a producer would have of the number.
static int64_t member(uint64_t number) { return (int64_t)tally_mix64(number + 0x9e3779b97f4a7c15u); }

static void send_members(struct server_world *world, uint64_t sequence, const char *key, uint64_t from, uint64_t to)
{
    enum { AT_ONCE = 1000 };
    struct entry *entries = calloc(AT_ONCE, sizeof *entries);
    size_t count = 0;
    assert_non_null(entries);
    assert_true(to - from <= AT_ONCE);
    for (; from < to; from++) entries[count++] = (struct entry){"users", key, member(from), DISTINCT};
    struct tally_answer answer = send(world, 5000 + sequence, sequence, entries, count, true);
    assert_int_equal(answer.status, TALLY_OK);
    tally_answer_free(&tally_alloc_libc, &answer);
    free(entries);
}

static void test_distinct(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    world->options.snapshot_every = 3;
    assert_int_equal(server_world_start(world), TALLY_OK);
    struct follower follower;
    follower_open(&follower);
    SEND(world, 1, 1, {"users", "a", member(1), DISTINCT}, {"users", "a", member(2), DISTINCT},
         {"users", "b", member(1), DISTINCT}, {"users", "a", member(1), DISTINCT});
    assert_int_equal(get(world, "users", "a"), 2);
    assert_int_equal(get(world, "users", "b"), 1);
    // Members that were there already change no row.
    uint64_t changed = server_world_stats(world).rows_changed, sequence = 2;
    send_members(world, sequence++, "a", 1, 3);
    assert_int_equal(server_world_stats(world).rows_changed, changed);
    int64_t before = 2;
    // Where the list becomes registers the estimate would fall: the row does not.
    for (uint64_t from = 0, step; from < 20000; from += step) {
        step = from >= 1000 && from < 1200 ? 5 : 500;
        send_members(world, sequence++, "a", from, from + step);
        int64_t value = get(world, "users", "a"), exact = (int64_t)(from + step);
        assert_true(value >= before);
        before = value;
        assert_true(exact <= 1000 ? value == exact : llabs(value - exact) * 20 < exact); // 3 x 1.6 %
    }
    follower_follow(&follower, world, 0);
    follower_equals(&follower, world);
    // From the snapshot and the log behind it: what comes next is counted as if nothing had been.
    struct tally_digest digest = server_world_stats(world).digest;
    assert_true(server_world_stats(world).snapshots > 0);
    server_world_crash(world);
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_true(tally_digest_equal(server_world_stats(world).digest, digest));
    send_members(world, sequence++, "a", 0, 1000);
    assert_int_equal(get(world, "users", "a"), before);
    send_members(world, sequence++, "b", 1, 3);
    assert_int_equal(get(world, "users", "b"), 2);
    refused(world, 2, sequence, (struct entry){"users", "a", 1}, "table \"users\": amounts, but it is distinct");
    refused(world, 3, sequence, (struct entry){"users", "a", 1, GAUGE},
            "table \"users\": the batch takes it for another kind than it has");
    follower_close(&follower);
    server_world_end(world);
}

static void test_what_does_not_change_is_no_change(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    assert_int_equal(server_world_start(world), TALLY_OK);
    SEND(world, 1, 1, {"level", "a", 5, GAUGE}, {"low", "a", 7, MIN});
    uint64_t changed = server_world_stats(world).rows_changed;
    SEND(world, 2, 2, {"level", "a", 9, GAUGE}, {"level", "a", 5, GAUGE}, {"low", "a", 8, MIN});
    assert_int_equal(server_world_stats(world).rows_changed, changed);
    server_world_end(world);
}

// ---------------------------------------------------------------------------------------------------- refusals

static void test_what_is_refused(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    assert_int_equal(server_world_start(world), TALLY_OK);
    SEND(world, 1, 1, {"hits", "a", 1}, {"level", "a", 1, GAUGE});
    refused(world, 2, 2, (struct entry){"hits", "some key", -5},
            "table \"hits\", key \"some key\": an amount below 0: -5");
    refused(world, 3, 2, (struct entry){"fresh", "\x01\xff!", INT64_MIN},
            "table \"fresh\", key \"..!\": an amount below 0: -9223372036854775808");
    refused(world, 4, 2, (struct entry){"level", "a", TALLY_LEVEL_MAX + 1},
            "table \"level\", key \"a\": an amount beyond 2^62 - 1: 4611686018427387904");
    refused(world, 5, 2, (struct entry){"level", "a", INT64_MIN, .adjust = true},
            "table \"level\", key \"a\": an amount beyond 2^62 - 1: -9223372036854775808");
    refused(world, 6, 2, (struct entry){"hits", "a", 1, GAUGE},
            "table \"hits\": the batch takes it for another kind than it has");
    refused(world, 7, 2, (struct entry){"hits", "a", 1, .adjust = true},
            "table \"hits\": adjustments, but it is no gauge");
    refused(world, 8, 2, (struct entry){"level", "a", 1, .kind = TALLY_KIND_COUNTER},
            "table \"level\": the batch takes it for another kind than it has");
    // Also of a table that is only about to begin, and within one batch.
    assert_int_equal(server_world_stats(world).pending_batches, 0);
    struct test_batch batch;
    test_batch_init(&batch);
    const struct tally_batch_header header = {.dataset = test_text("main"), .producer = 78, .sequence = 1};
    tally_batch_begin(&batch.writer, &header);
    tally_batch_table_begin_as(&batch.writer, test_text("new"), TALLY_KIND_MAX, false);
    tally_batch_add(&batch.writer, test_text("a"), 1);
    tally_batch_table_end(&batch.writer);
    assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
    tally_server_request(world->server, TALLY_ENDPOINT_INGEST, 9, test_batch_bytes(&batch), world->now_ms);
    test_batch_free(&batch);
    assert_false(server_world_answered(world, 9));
    refused(world, 10, 2, (struct entry){"new", "a", 1, MIN},
            "table \"new\": the batch takes it for another kind than it has");
    // Nothing of all that was counted.
    assert_int_equal(server_world_tick(world), TALLY_OK);
    assert_int_equal(get(world, "hits", "a"), 1);
    assert_int_equal(get(world, "level", "a"), 1);
    assert_int_equal(get(world, "new", "a"), 1);
    server_world_end(world);
}

// What does not even open is told as well: which table, and what of it.
static void test_what_does_not_open(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    assert_int_equal(server_world_start(world), TALLY_OK);
    static uint8_t key[1100], members[16];
    static const struct {
        const char *message;
        enum tally_status status;
        uint64_t kind, adjust;
        unsigned keys, amounts, members, key_bytes;
    } cases[] = {
        {"table \"t\": a kind that is not known here", TALLY_UNSUPPORTED, 7, 0, 1, 1, 0, 1},
        {"table \"t\": both amounts and members", TALLY_MALFORMED, 0, 0, 2, 1, 1, 1},
        {"table \"t\": members, but its kind is not distinct", TALLY_MALFORMED, 1, 0, 1, 0, 1, 1},
        {"table \"t\": amounts, but its kind is distinct", TALLY_MALFORMED, 5, 0, 1, 1, 0, 1},
        {"table \"t\": adjustments, but its kind is not gauge", TALLY_MALFORMED, 1, 1, 1, 1, 0, 1},
        {"table \"t\": not one amount, or one member, for each key", TALLY_MALFORMED, 0, 0, 2, 1, 0, 1},
        {"table \"t\": not one amount, or one member, for each key", TALLY_MALFORMED, 5, 0, 1, 0, 2, 1},
        {"table \"t\": a key of more than 1024 bytes", TALLY_LIMIT, 0, 0, 1, 1, 0, 1025},
        {"table \"t\": a key that is empty", TALLY_MALFORMED, 0, 0, 1, 1, 0, 0},
        {"table \"t\": more than 131072 entries in one batch, up to here", TALLY_LIMIT, 0, 0, 131073, 131073, 0, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tally_writer entries = test_writer(), batch = test_writer(), request = test_writer(),
                            amounts = test_writer();
        tally_write_bytes(&entries, 1, test_text("t"));
        for (unsigned n = 0; n < cases[i].keys; n++)
            tally_write_bytes(&entries, 2, tally_bytes(key, cases[i].key_bytes));
        for (unsigned n = 0; n < cases[i].amounts; n++) tally_write_varint(&amounts, 2);
        if (cases[i].amounts) tally_write_bytes(&entries, 3, tally_writer_bytes(&amounts));
        if (cases[i].kind) tally_write_uint(&entries, 5, cases[i].kind);
        if (cases[i].adjust) tally_write_uint(&entries, 6, cases[i].adjust);
        if (cases[i].members) tally_write_bytes(&entries, 7, tally_bytes(members, 8 * cases[i].members));
        tally_write_bytes(&batch, 1, test_text("main"));
        tally_write_fixed64(&batch, 2, 9);
        tally_write_uint(&batch, 3, 1);
        tally_write_bytes(&batch, 4, tally_writer_bytes(&entries));
        tally_write_bytes(&request, 1, tally_writer_bytes(&batch));
        tally_server_request(world->server, TALLY_ENDPOINT_INGEST, i + 1, tally_writer_bytes(&request), world->now_ms);
        struct tally_answer answer = server_world_answer(world, i + 1);
        char text[512] = "";
        memcpy(text, answer.message.data, answer.message.size);
        if (answer.status != cases[i].status || strcmp(text, cases[i].message) != 0)
            fail_msg("case %u: status %d, \"%s\"", (unsigned)i, (int)answer.status, text);
        tally_answer_free(&tally_alloc_libc, &answer);
        test_writer_free(&entries);
        test_writer_free(&batch);
        test_writer_free(&request);
        test_writer_free(&amounts);
    }
    server_world_end(world);
}

// ---------------------------------------------------------------------------------------------------- definitions

static struct tally_named_definition named(const char *text)
{
    struct tally_named_definition out = {0};
    struct tally_bytes word;
    const char *why;
    bool defined;
    assert_int_equal(tally_definition_parse(text, &out.table, &out.definition, &defined, &word, &why), TALLY_OK);
    return out;
}

static void test_definitions_of_the_settings(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    struct tally_named_definition tables[] = {named("level gauge"), named("hits counter ttl=1h"), named("low min")};
    world->options.definitions = tables;
    world->options.definitions_count = 3;
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).tables, 3);
    assert_int_equal(server_world_stats(world).version, 1);
    refused(world, 1, 1, (struct entry){"level", "a", 1, .kind = TALLY_KIND_COUNTER},
            "table \"level\": the batch takes it for another kind than it has");
    SEND(world, 2, 1, {"level", "a", -9}, {"low", "a", 3});
    struct tally_digest digest = server_world_stats(world).digest;
    // Again, from the log: nothing is defined anew. What changed is.
    server_world_crash(world);
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).version, 2);
    assert_true(tally_digest_equal(server_world_stats(world).digest, digest));
    server_world_crash(world);
    tables[1] = named("hits counter ttl=2h");
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).version, 3);
    assert_true(tally_digest_equal(server_world_stats(world).digest, digest));
    // What cannot be is refused, with its reason; and the log stays as it was.
    server_world_crash(world);
    tables[0] = named("level max");
    assert_int_equal(server_world_start(world), TALLY_INVALID);
    assert_string_equal(world->last_text,
                        "definition_refused: table \"level\": the table has another kind, which never "
                        "changes: take another name");
    server_world_crash(world);
    world->options.definitions_count = 0;
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).version, 3);
    assert_int_equal(get(world, "level", "a"), -9);
    server_world_end(world);
}

static void test_definitions_by_call(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    assert_int_equal(server_world_start(world), TALLY_OK);
    struct tally_named_definition level = named("level gauge");
    tally_server_define(world->server, 1, level.table, &level.definition);
    assert_false(server_world_answered(world, 1)); // it is not durable
    // What comes in the same tick sees it.
    refused(world, 2, 1, (struct entry){"level", "a", 1, MIN},
            "table \"level\": the batch takes it for another kind than it has");
    assert_int_equal(server_world_tick(world), TALLY_OK);
    server_world_expect(world, 1, TALLY_OK, 1, 0);
    SEND(world, 3, 1, {"level", "a", -4}, {"other", "a", 1});
    assert_int_equal(get(world, "level", "a"), -4);
    struct tally_named_definition other = named("other gauge");
    tally_server_define(world->server, 4, other.table, &other.definition);
    server_world_expect(world, 4, TALLY_INVALID, 2, 0);
    // As it is, with a ttl.
    other = named("other counter ttl=5s");
    other.definition.kind = TALLY_KIND_UNSPECIFIED;
    tally_server_define(world->server, 5, other.table, &other.definition);
    assert_int_equal(server_world_tick(world), TALLY_OK);
    server_world_expect(world, 5, TALLY_OK, 3, 0);
    server_world_end(world);
}

// ---------------------------------------------------------------------------------------------------- restarts

static void test_kinds_survive_a_snapshot(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    world->options.snapshot_every = 2;
    assert_int_equal(server_world_start(world), TALLY_OK);
    SEND(world, 1, 1, {"level", "a", -5, GAUGE}, {"low", "a", 7, MIN}, {"high", "a", -7, MAX}, {"hits", "a", 7});
    for (uint64_t i = 2; i < 9; i++) SEND(world, i, i, {"level", "a", (int64_t)i});
    assert_true(server_world_stats(world).snapshots > 0);
    struct tally_digest digest = server_world_stats(world).digest;
    server_world_crash(world);
    assert_int_equal(server_world_start(world), TALLY_OK);
    assert_true(tally_digest_equal(server_world_stats(world).digest, digest));
    refused(world, 10, 9, (struct entry){"low", "a", 1, MAX},
            "table \"low\": the batch takes it for another kind than it has");
    SEND(world, 11, 9, {"level", "a", 3}, {"low", "a", 9}, {"high", "a", -9}, {"hits", "a", 1});
    assert_int_equal(get(world, "level", "a"), 3);
    assert_int_equal(get(world, "low", "a"), 7);
    assert_int_equal(get(world, "high", "a"), -7);
    assert_int_equal(get(world, "hits", "a"), 8);
    server_world_end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gauge_min_max),
        cmocka_unit_test(test_distinct),
        cmocka_unit_test(test_what_does_not_change_is_no_change),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_what_does_not_open),
        cmocka_unit_test(test_definitions_of_the_settings),
        cmocka_unit_test(test_definitions_by_call),
        cmocka_unit_test(test_kinds_survive_a_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
