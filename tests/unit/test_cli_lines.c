// SPDX-License-Identifier: Apache-2.0
//
// What the command line reads and writes as text: event lines, values, numbers, escapes, Prometheus text.
#include "../support/random.h"
#include "../support/with_cmocka.h"

#include <cli.h>
#include <lines.h>
#include <metrics.h>
#include <string.h>
#include <sums/sums_batch.h>

static const char *parse(const char *text, size_t size, bool escaped, struct cli_event *out_event)
{
    static uint8_t line[1 << 16];
    memcpy(line, text, size);
    const struct cli_line_form form = {.escaped = escaped, .kind = TALLY_KIND_COUNTER};
    return cli_line_parse(line, size, &form, out_event);
}

static const char *parse_as(enum tally_kind kind, bool escaped, const char *text, struct cli_event *out_event)
{
    static uint8_t line[1 << 16];
    memcpy(line, text, strlen(text));
    const struct cli_line_form form = {.escaped = escaped, .kind = kind};
    return cli_line_parse(line, strlen(text), &form, out_event);
}

#define PARSE(text, event) parse((text), sizeof(text) - 1, false, (event))

static void lines_of_every_kind(void **state)
{
    (void)state;
    struct cli_event event;
    static const enum tally_kind levels[] = {TALLY_KIND_GAUGE, TALLY_KIND_MIN, TALLY_KIND_MAX};
    for (unsigned i = 0; i < 3; i++) {
        assert_null(parse_as(levels[i], false, "t\tk\t-5", &event));
        assert_int_equal(event.amount, -5);
        assert_null(parse_as(levels[i], false, "t\tk\t4611686018427387903", &event));
        assert_int_equal(event.amount, TALLY_LEVEL_MAX);
        assert_non_null(parse_as(levels[i], false, "t\tk\t4611686018427387904", &event));
        assert_non_null(parse_as(levels[i], false, "t\tk\t-4611686018427387904", &event));
        assert_string_equal(parse_as(levels[i], false, "t\tk", &event), "no value: a line is table<TAB>key<TAB>value");
        assert_non_null(parse_as(levels[i], false, "t\tk\tNaN", &event));
    }
    assert_null(parse_as(TALLY_KIND_TOPK, false, "t\tk", &event));
    assert_int_equal(event.amount, 1);
    assert_string_equal(parse_as(TALLY_KIND_TOPK, false, "t\tk\t-1", &event),
                        "the amount is negative: a counter only grows");
    // XXH3-64 of "a", seed 0, as every other implementation has it.
    assert_null(parse_as(TALLY_KIND_DISTINCT, false, "t\tk\ta", &event));
    assert_int_equal(event.amount, (int64_t)0xe6c632b61e964e1fu);
    assert_true(tally_bytes_equal(event.key, tally_bytes("k", 1)));
    assert_null(parse_as(TALLY_KIND_DISTINCT, true, "t\t\\t\t\\n", &event));
    assert_int_equal(event.amount, (int64_t)tally_member(tally_bytes("\n", 1)));
    assert_true(tally_bytes_equal(event.key, tally_bytes("\t", 1)));
    assert_string_equal(parse_as(TALLY_KIND_DISTINCT, false, "t\tk", &event),
                        "no member: a line is table<TAB>key<TAB>member");
    assert_string_equal(parse_as(TALLY_KIND_DISTINCT, false, "t\tk\t", &event), "the member is empty");
    assert_string_equal(parse_as(TALLY_KIND_DISTINCT, false, "t\tk\ta\tb", &event), "more than three fields");
    assert_string_equal(parse_as(TALLY_KIND_DISTINCT, true, "t\tk\ta\\x", &event),
                        "the member holds a backslash that begins none of \\t \\n \\r \\\\");
}

static void good_lines(void **state)
{
    (void)state;
    struct cli_event event;
    assert_null(PARSE("files\tnng/README.md", &event));
    assert_true(tally_bytes_equal(event.table, tally_bytes("files", 5)));
    assert_true(tally_bytes_equal(event.key, tally_bytes("nng/README.md", 13)));
    assert_int_equal(event.amount, 1);
    assert_null(PARSE("files\tk\t0", &event));
    assert_int_equal(event.amount, 0);
    assert_null(PARSE("files\tk\t9223372036854775807", &event));
    assert_true(event.amount == INT64_MAX);
    // A key is bytes: backslashes, zeroes and what is no UTF-8 stand for themselves.
    assert_null(PARSE("t\t\\t\0\xff", &event));
    assert_int_equal(event.key.size, 4);
    assert_null(parse("t\ta\\tb\\n\\\\", 10, true, &event));
    assert_true(tally_bytes_equal(event.key, tally_bytes("a\tb\n\\", 5)));
}

static void bad_lines(void **state)
{
    (void)state;
    static const struct {
        const char *line, *word;
    } cases[] = {
        {"files", "no tab"},
        {"\tkey", "table's name"},
        {"Files\tkey", "table's name"},
        {"fi les\tkey", "table's name"},
        {"files\t", "empty"},
        {"files\t\t3", "empty"},
        {"files\tkey\t", "integer"},
        {"files\tkey\tthree", "integer"},
        {"files\tkey\t3 ", "integer"},
        {"files\tkey\t+3", "integer"},
        {"files\tkey\t3.5", "integer"},
        {"files\tkey\t1e3", "integer"},
        {"files\tkey\t9223372036854775808", "integer"},
        {"files\tkey\t-1", "negative"},
        {"files\tkey\t1\t", "three fields"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct cli_event event;
        const char *why = parse(cases[i].line, strlen(cases[i].line), false, &event);
        assert_non_null(why);
        assert_non_null(strstr(why, cases[i].word));
    }
    struct cli_event event;
    assert_non_null(parse("t\ta\\x", 5, true, &event));
    assert_non_null(parse("t\ta\\", 4, true, &event));
    char long_line[2 + TALLY_KEY_BYTES_MAX + 1];
    memset(long_line, 'k', sizeof long_line);
    long_line[0] = 't', long_line[1] = '\t';
    assert_null(parse(long_line, sizeof long_line - 1, false, &event));
    assert_non_null(strstr(parse(long_line, sizeof long_line, false, &event), "1024"));
}

static void values(void **state)
{
    (void)state;
    int64_t value;
    assert_true(cli_value_parse(tally_bytes("-9223372036854775808", 20), &value));
    assert_true(value == INT64_MIN);
    assert_false(cli_value_parse(tally_bytes("-9223372036854775809", 20), &value));
    assert_false(cli_value_parse(tally_bytes("-", 1), &value));
    assert_false(cli_value_parse(tally_bytes("", 0), &value));
    uint64_t number;
    assert_true(cli_number("18446744073709551615", &number) && number == UINT64_MAX);
    assert_true(cli_number("0xFf", &number) && number == 255);
    assert_false(cli_number("18446744073709551616", &number));
    assert_false(cli_number("0x", &number) || cli_number("", &number) || cli_number("-1", &number));
    char text[32];
    assert_string_equal(cli_thousands(1234567, text), "1,234,567");
    assert_string_equal(cli_thousands(123, text), "123");
}

static void escapes_come_back(void **state)
{
    (void)state;
    struct test_random random = test_random_start("cli_lines");
    for (unsigned round = 0; round < 2000; round++) {
        uint8_t key[64], *text = NULL;
        size_t size = 1 + test_random_below(&random, sizeof key - 1), text_size = 0;
        for (size_t i = 0; i < size; i++)
            key[i] = (uint8_t)(test_random_percent(&random, 50) ? "\t\n\r\\tnr"[test_random_below(&random, 7)]
                                                                : (char)test_random_below(&random, 256));
        FILE *out = open_memstream((char **)&text, &text_size);
        cli_write_escaped(out, tally_bytes(key, size));
        fclose(out);
        assert_null(memchr(text, '\t', text_size));
        assert_null(memchr(text, '\n', text_size));
        assert_null(memchr(text, '\r', text_size));
        assert_int_equal(cli_unescape(text, text_size), size);
        assert_memory_equal(text, key, size);
        free(text);
    }
}

static void prometheus_text(void **state)
{
    (void)state;
    static const char text[] = "# HELP tally_a_total What a_total 5 means.\n"
                               "# TYPE tally_a_total counter\n"
                               "tally_a_total 12\n"
                               "tally_a_total_more 5\n"
                               "tally_b{x=\"}\\\"\",y=\"z\"} 1.5e3 1700000000\n"
                               "tally_b{x=\"2\"} 2\n"
                               "tally_c nonsense\n"
                               "tally_d";
    struct tally_bytes bytes = tally_bytes(text, sizeof text - 1);
    double sum = -1;
    assert_true(cli_metric_sum(bytes, "tally_a_total", &sum) && sum == 12);
    assert_true(cli_metric_sum(bytes, "tally_b", &sum) && sum == 1502);
    assert_false(cli_metric_sum(bytes, "tally_c", &sum));
    assert_false(cli_metric_sum(bytes, "tally_d", &sum));
    assert_false(cli_metric_sum(bytes, "tally", &sum));
    assert_true(sum == 1502);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_lines), cmocka_unit_test(lines_of_every_kind), cmocka_unit_test(bad_lines),
        cmocka_unit_test(values),     cmocka_unit_test(escapes_come_back),   cmocka_unit_test(prometheus_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
