// SPDX-License-Identifier: Apache-2.0
//
// Lines of logs (cli/src/format.h): which events they are.
#include "../support/with_cmocka.h"

#include "../support/random.h"

#include <format.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void begin(struct cli_format *format, enum cli_format_kind kind, const char *const *rules)
{
    memset(format, 0, sizeof *format);
    format->kind = kind;
    format->counted_as = TALLY_KIND_COUNTER;
    for (; rules && *rules; rules++) {
        const char *why = cli_format_rule(format, *rules);
        if (why) fail_msg("%s: %s", *rules, why);
    }
    if (!rules) assert_null(cli_format_default(format));
}

// What a line becomes, as "table/key+amount ...", or "! why".
static const char *events_of(struct cli_format *format, const char *line)
{
    static char text[8192];
    struct cli_event events[CLI_FORMAT_RULES_MAX];
    unsigned count = 99;
    size_t size = strlen(line), at = 0;
    uint8_t *copy = malloc(size ? size : 1); // so that a sanitizer sees a read past its end
    memcpy(copy, line, size);
    const char *why = cli_format_parse(format, copy, size, events, &count);
    text[0] = 0;
    if (why) {
        assert_int_equal(count, 99);
        (void)snprintf(text, sizeof text, "! %s", why);
    } else {
        for (unsigned i = 0; i < count; i++)
            at +=
                (size_t)snprintf(text + at, sizeof text - at, "%s%.*s/%.*s+%lld", i ? " " : "",
                                 (int)events[i].table.size, (const char *)events[i].table.data, (int)events[i].key.size,
                                 (const char *)events[i].key.data, (long long)events[i].amount);
    }
    free(copy);
    return text;
}

#define EXPECT(format, line, expected) assert_string_equal(events_of(format, line), expected)

static void access_logs(void **state)
{
    static struct cli_format format;
    (void)state;
    begin(&format, CLI_FORMAT_COMMON, NULL);
    EXPECT(&format, "127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET /apache_pb.gif?x=1 HTTP/1.0\" 200 2326",
           "paths//apache_pb.gif+1 statuses/200+1 hosts/127.0.0.1+1");
    EXPECT(&format, "::1 - two words [t] \"GET / HTTP/1.1\" 304 -\r", "paths//+1 statuses/304+1 hosts/::1+1");
    EXPECT(&format, "h - - [t] \"-\" 408 0", "statuses/408+1 hosts/h+1");
    EXPECT(&format, "h - - [t] \"\\x16\\x03\\x01\" 400 0 \"-\" \"-\"", "statuses/400+1 hosts/h+1");
    EXPECT(&format, "h - - [t] \"GET /a b HTTP/1.1\" 200 0", "paths//a b+1 statuses/200+1 hosts/h+1");
    EXPECT(&format, "h - - [t] \"GET /\\\"q\\\"\\\\ HTTP/1.1\" 200 0", "paths//\"q\"\\+1 statuses/200+1 hosts/h+1");
    EXPECT(&format, "", "! no host, ident and user in front");
    EXPECT(&format, "one", "! no host, ident and user in front");
    EXPECT(&format, "h - - t \"GET / HTTP/1.1\" 200 0", "! no [time]");
    EXPECT(&format, "h - - [t \"GET / HTTP/1.1\" 200 0", "! no [time]");
    EXPECT(&format, "h - - [t] GET / HTTP/1.1 200 0", "! no \"request\" behind the time");
    EXPECT(&format, "h - - [t] \"GET / HTTP/1.1 200 0", "! no \"request\" behind the time");
    EXPECT(&format, "h - - [t] \"GET / HTTP/1.1\" 200", "! no status and bytes behind the request");
    EXPECT(&format, "h - - [t] \"GET / HTTP/1.1\" OK 0", "! no status of three digits and bytes behind the request");
    EXPECT(&format, "h - - [t] \"GET / HTTP/1.1\" 2x0 0", "! the status is no number");
}

static void templates_and_amounts(void **state)
{
    static const char *const rules[] = {"agents=agent", "by={status} {method} {path}", "traffic=host+bytes",
                                        "users=user",   "from={referer}>{path}",       NULL};
    static struct cli_format format;
    (void)state;
    begin(&format, CLI_FORMAT_COMBINED, rules);
    EXPECT(&format, "h - - [t] \"GET /x HTTP/1.1\" 200 12 \"-\" \"curl/8 \\\"q\\\"\" more 1.5",
           "agents/curl/8 \"q\"+1 by/200 GET /x+1 traffic/h+12");
    EXPECT(&format, "h - u [t] \"GET /x HTTP/1.1\" 200 - \"http://r\" \"-\"",
           "by/200 GET /x+1 users/u+1 from/http://r>/x+1");
    EXPECT(&format, "h - u [t] \"GET /x HTTP/1.1\" 200 12", "! no \"referer\" and \"agent\" at the end");
    EXPECT(&format, "h - u [t] \"GET /x HTTP/1.1\" 200 1x \"-\" \"-\"",
           "! the amount is not an integer from 0 to 9223372036854775807");
    EXPECT(&format, "h - u [t] \"GET /x HTTP/1.1\" 200 -5 \"-\" \"-\"",
           "! the amount is negative: a counter only grows");
}

static void json_and_tsv(void **state)
{
    static const char *const json[] = {"levels=level", "where={http.host}{http.path}", "bytes=level+size", NULL};
    static const char *const tsv[] = {"second=2", "both={1}-{3}+4", NULL};
    static struct cli_format format;
    (void)state;
    begin(&format, CLI_FORMAT_JSON, json);
    EXPECT(&format, "{\"level\":\"warn\",\"http\":{\"host\":\"h\",\"path\":\"/p\"},\"size\":7}",
           "levels/warn+1 where/h/p+1 bytes/warn+7");
    EXPECT(&format, "{\"level\":3,\"http.host\":\"h\",\"http.path\":true}", "levels/3+1 where/htrue+1");
    EXPECT(&format, "{\"level\":null,\"http\":[]}", "");
    EXPECT(&format, "{\"level\":\"\"}", "");
    EXPECT(&format, "[]", "! it is no JSON object");
    EXPECT(&format, "{\"level\":\"a\"", "! it is no JSON object");
    EXPECT(&format, "{\"level\":\"a\",\"size\":-1}", "! the amount is negative: a counter only grows");
    begin(&format, CLI_FORMAT_TSV, tsv);
    EXPECT(&format, "a\tb\tc\t5", "second/b+1 both/a-c+5");
    EXPECT(&format, "a\tb\tc", "second/b+1");
    EXPECT(&format, "a\t\tc\t5", "both/a-c+5");
    EXPECT(&format, "a", "");
}

static void rules_that_are_wrong(void **state)
{
    static const char *const wrong[] = {"x",        "X=path",  "x=",          "x=pathh",   "x={path", "x={}",
                                        "x={nope}", "x=path+", "x=path+nope", "x=referer", "=path"};
    static struct cli_format format;
    (void)state;
    begin(&format, CLI_FORMAT_COMMON, (const char *const[]){NULL});
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (!cli_format_rule(&format, wrong[i])) fail_msg("%s was taken", wrong[i]);
    assert_int_equal(format.rules_count, 0);
    for (unsigned i = 0; i < CLI_FORMAT_RULES_MAX; i++) assert_null(cli_format_rule(&format, "x=path"));
    assert_non_null(cli_format_rule(&format, "x=path"));
    begin(&format, CLI_FORMAT_TSV, (const char *const[]){NULL});
    assert_non_null(cli_format_rule(&format, "x=0"));
    assert_non_null(cli_format_rule(&format, "x=a"));
    assert_non_null(cli_format_rule(&format, "x=1000"));
    assert_non_null(cli_format_default(&format));
    format.counted_as = TALLY_KIND_DISTINCT;
    assert_non_null(cli_format_rule(&format, "x=1"));
    assert_null(cli_format_rule(&format, "x=1+2"));
}

static void keys_that_are_too_long(void **state)
{
    static const char *const rules[] = {"p=path", "q={path}{path}", NULL};
    static struct cli_format format;
    char line[4096];
    (void)state;
    for (int over = 0; over <= 1; over++) {
        begin(&format, CLI_FORMAT_COMMON, rules);
        (void)snprintf(line, sizeof line, "h - - [t] \"GET /%0*d HTTP/1.1\" 200 0", 511 + over, 7);
        assert_int_equal(
            strncmp(events_of(&format, line), over ? "! a key is over 1024 bytes" : "p//00", over ? 26 : 5), 0);
    }
}

// Whatever comes: nothing is read or written beside, and events are such that a batch can carry them.
static void damaged_lines(void **state)
{
    static const char sample[] = "127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET /a\\x41\\\"?x=1 HTTP/1.0\" 200 "
                                 "2326 \"http://r\" \"agent \\\\\"";
    static struct cli_format format;
    struct test_random random = test_random_start("cli_format: damaged lines");
    struct cli_event events[CLI_FORMAT_RULES_MAX];
    (void)state;
    begin(&format, CLI_FORMAT_COMBINED, NULL);
    for (int i = 0; i < 20000; i++) {
        unsigned count = 0;
        size_t size = test_random_below(&random, sizeof sample);
        uint8_t *copy = malloc(size ? size : 1);
        memcpy(copy, sample, size);
        for (unsigned j = 0; size && j < i % 4u; j++)
            copy[test_random_below(&random, size)] = (uint8_t)"\" []\\x-\0"[test_random_below(&random, 8)];
        if (!cli_format_parse(&format, copy, size, events, &count))
            for (unsigned j = 0; j < count; j++)
                assert_true(events[j].key.size >= 1 && events[j].key.size <= TALLY_KEY_BYTES_MAX);
        free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(access_logs),
                                       cmocka_unit_test(templates_and_amounts),
                                       cmocka_unit_test(json_and_tsv),
                                       cmocka_unit_test(rules_that_are_wrong),
                                       cmocka_unit_test(keys_that_are_too_long),
                                       cmocka_unit_test(damaged_lines)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
