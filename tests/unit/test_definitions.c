// SPDX-License-Identifier: Apache-2.0
#include "../support/build.h"
#include "../support/with_cmocka.h"

#include <server/src/record.h>

static enum tally_status parse(const char *text, struct tally_definition *out, const char **out_why)
{
    struct tally_bytes table, word;
    bool defined;
    return tally_definition_parse(text, &table, out, &defined, &word, out_why);
}

static void test_parse(void **state)
{
    (void)state;
    struct tally_bytes table, word;
    struct tally_definition d;
    const char *why;
    bool defined;
    assert_int_equal(tally_definition_parse("  hits ", &table, &d, &defined, &word, &why), TALLY_OK);
    assert_true(!defined && tally_bytes_equal(table, tally_bytes("hits", 4)));
    assert_int_equal(
        tally_definition_parse("hits counter ttl=90s max-keys=1000 window=1h/5m", &table, &d, &defined, &word, &why),
        TALLY_OK);
    assert_true(defined);
    assert_int_equal(d.kind, TALLY_KIND_COUNTER);
    assert_int_equal(d.ttl_ms, 90000);
    assert_int_equal(d.max_keys, 1000);
    assert_int_equal(d.window, TALLY_WINDOW_SLIDING);
    assert_int_equal(d.window_ms, 3600000);
    assert_int_equal(d.pane_ms, 300000);
    assert_int_equal(parse("low min window=10d", &d, &why), TALLY_OK);
    assert_int_equal(d.window, TALLY_WINDOW_TUMBLING);
    assert_int_equal(d.window_ms, 864000000);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *word, *why;
        enum tally_status status;
    } cases[] = {
        {"", "", "expected a name", TALLY_INVALID},
        {"Hits counter", "Hits", "expected a name", TALLY_INVALID},
        {"hits count", "count", "expected counter", TALLY_INVALID},
        {"hits counter ttl", "ttl", "NAME=VALUE", TALLY_INVALID},
        {"hits counter ttl=0s", "ttl=0s", "a time", TALLY_INVALID},
        {"hits counter ttl=5", "ttl=5", "a time", TALLY_INVALID},
        {"hits counter ttl=-5s", "ttl=-5s", "a time", TALLY_INVALID},
        {"hits counter ttl=99999999999999999999s", "ttl=99999999999999999999s", "a time", TALLY_INVALID},
        {"hits counter ttl=18446744073709551615d", "ttl=18446744073709551615d", "a time", TALLY_INVALID},
        {"hits counter ttl=367d", "", "366 days", TALLY_LIMIT},
        {"hits counter window=367d", "", "366 days", TALLY_LIMIT},
        {"hits counter window=1h/7m", "", "no multiple", TALLY_INVALID},
        {"hits counter window=1m/1h", "", "no multiple", TALLY_INVALID},
        {"hits counter window=1025s/1s", "", "1024 panes", TALLY_LIMIT},
        {"hits counter window=/1s", "window=/1s", "LENGTH", TALLY_INVALID},
        {"hits gauge window=1m", "", "no window", TALLY_INVALID},
        {"hits counter max-keys=268435457", "", "max-keys over", TALLY_LIMIT},
        {"hits counter max-keys=", "max-keys=", "a number", TALLY_INVALID},
        {"hits counter k=10", "", "topk", TALLY_INVALID},
        {"hits counter of=other", "", "topk", TALLY_INVALID},
        {"hits counter colour=red", "colour=red", "no option", TALLY_INVALID},
        {"hits gauge precision=12", "", "distinct", TALLY_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tally_bytes table, word;
        struct tally_definition d;
        const char *why;
        bool defined;
        assert_int_equal(tally_definition_parse(cases[i].text, &table, &d, &defined, &word, &why), cases[i].status);
        if (!strstr(why, cases[i].why)) fail_msg("%s: %s", cases[i].text, why);
        assert_true(tally_bytes_equal(word, tally_bytes(cases[i].word, strlen(cases[i].word))));
    }
}

static void test_changes(void **state)
{
    (void)state;
    struct tally_definition a, b;
    const char *why;
    assert_int_equal(parse("t counter", &a, &why), TALLY_OK);
    assert_int_equal(parse("t counter ttl=1h max-keys=7", &b, &why), TALLY_OK);
    assert_int_equal(tally_definition_change(&a, &b, &why), TALLY_OK);
    assert_int_equal(parse("t gauge", &b, &why), TALLY_OK);
    assert_int_equal(tally_definition_change(&a, &b, &why), TALLY_INVALID);
    assert_non_null(strstr(why, "another kind"));
    assert_int_equal(parse("t counter window=1m", &b, &why), TALLY_OK);
    assert_int_equal(tally_definition_change(&a, &b, &why), TALLY_INVALID);
}

// Through a record and back; what a newer version says is not guessed at.
static void test_codec(void **state)
{
    (void)state;
    struct tally_definition d, read;
    struct tally_bytes record, message, table;
    struct tally_record_reader reader;
    struct tally_writer out = test_writer();
    const char *why;
    assert_int_equal(parse("t max ttl=1s max-keys=3 window=10s/1s", &d, &why), TALLY_OK);
    tally_record_begin(&out);
    tally_record_definition(&out, tally_bytes("t", 1), &d);
    const struct tally_record_header header = {.version = 1, .time_ms = 5};
    assert_int_equal(tally_record_finish(&out, &header, &record), TALLY_OK);
    assert_int_equal(tally_record_open(record, &reader), TALLY_OK);
    assert_int_equal(reader.definitions_count, 1);
    assert_true(tally_record_next_definition(&reader, &message));
    assert_int_equal(tally_definition_read(message, &table, &read), TALLY_OK);
    assert_true(tally_bytes_equal(table, tally_bytes("t", 1)) && tally_definition_equal(&d, &read));
    assert_false(tally_record_next_definition(&reader, &message));
    test_writer_free(&out);

    static const struct {
        uint8_t bytes[8];
        size_t size;
        enum tally_status status;
    } bad[] = {{{0x10, 1}, 2, TALLY_MALFORMED},                 // without a name
               {{0x0a, 1, 't', 0x10, 7}, 5, TALLY_UNSUPPORTED}, // a kind that is not known
               {{0x0a, 1, 't', 0x28, 3}, 5, TALLY_UNSUPPORTED}, // a window
               {{0x0a, 1, 't', 0x60, 1}, 5, TALLY_UNSUPPORTED}, // a field
               {{0x0a, 1, 't', 0x18, 1, 0x18, 1}, 7, TALLY_MALFORMED},
               {{0x0a, 1, 'T'}, 3, TALLY_MALFORMED}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(tally_definition_read(tally_bytes(bad[i].bytes, bad[i].size), &table, &read), bad[i].status);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_parse), cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_changes), cmocka_unit_test(test_codec)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
