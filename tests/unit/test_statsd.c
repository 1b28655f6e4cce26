// SPDX-License-Identifier: Apache-2.0
//
// StatsD's lines (proto/statsd): what each becomes, and what is skipped for which reason.
#include "../support/with_cmocka.h"

#include "../support/random.h"

#include <statsd/statsd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sums/sums_batch.h>

struct heard {
    char text[8192];
    bool full;
};

static enum tally_status take(void *ctx, const struct tally_sum *sum)
{
    static const char *const signs[] = {"+", "=", "~", "<", ">", "#", "^"};
    struct heard *heard = ctx;
    size_t at = strlen(heard->text);
    if (heard->full) return TALLY_FULL;
    (void)snprintf(heard->text + at, sizeof heard->text - at, "%s%.*s/%.*s%s%lld", at ? " " : "", (int)sum->table.size,
                   (const char *)sum->table.data, (int)sum->key.size, (const char *)sum->key.data, signs[sum->counting],
                   (long long)sum->number);
    return TALLY_OK;
}

static struct tally_statsd_rules plain;

static void hear(const struct tally_statsd_rules *rules, const char *packet, size_t size, struct tally_statsd *statsd,
                 struct heard *heard)
{
    memset(statsd, 0, sizeof *statsd);
    statsd->rules = rules;
    statsd->take = take;
    statsd->ctx = heard;
    heard->text[0] = 0;
    uint8_t *copy = malloc(size ? size : 1); // so that a sanitizer sees a read past its end
    memcpy(copy, packet, size);
    tally_statsd_packet(statsd, tally_bytes(copy, size));
    free(copy);
}

// What becomes of a packet: the counts, and the reasons of what was skipped, in one text.
static void expect_by(const struct tally_statsd_rules *rules, const char *packet, const char *expected)
{
    struct tally_statsd *statsd = malloc(sizeof *statsd);
    struct heard heard = {.full = false};
    hear(rules, packet, strlen(packet), statsd, &heard);
    for (int i = 0; i < TALLY_STATSD_REASONS; i++) {
        size_t at = strlen(heard.text);
        if (statsd->skipped[i])
            (void)snprintf(heard.text + at, sizeof heard.text - at, "%s!%s%llu", at ? " " : "",
                           tally_statsd_reason_str((enum tally_statsd_reason)i),
                           (unsigned long long)statsd->skipped[i]);
    }
    if (strcmp(heard.text, expected) != 0) fail_msg("%s\nexpected %s\n     got %s", packet, expected, heard.text);
    free(statsd);
}

static void expect(const char *packet, const char *expected) { expect_by(&plain, packet, expected); }

static void counters(void **state)
{
    (void)state;
    expect("a:1|c", "statsd/a+1");
    expect("a.b-c_d/e f:12|c", "statsd/a.b-c_d/e f+12");
    expect("a:+10|c", "statsd/a+10");
    expect("a:0|c", "statsd/a+0");
    expect("a:-0|c", "statsd/a+0");
    expect("a:-1|c", "!negative1");
    expect("a:1|c|@0.1", "statsd/a+10");
    expect("a:1|c|@0.3", "statsd/a+3");
    expect("a:2|c|@0.3", "statsd/a+7");
    expect("a:1|c|@1", "statsd/a+1");
    expect("a:1|c|@1.0", "statsd/a+1");
    expect("a:1|c|@0.000001", "statsd/a+1000000");
    expect("a:1|c|@1e-3", "statsd/a+1000");
    expect("a:0.5|c", "statsd/a+1");
    expect("a:0.4999999999|c", "statsd/a+0");
    expect("a:1.5|c", "statsd/a+2");
    expect("a:2.5|c", "statsd/a+3");
    expect("a:.5|c a:1|c", "statsd/a+1 !type1");
    expect("a:9223372036854775807|c", "!value1"); // over 18 digits
    expect("a:999999999999999999|c", "statsd/a+999999999999999999");
    expect("a:999999999999999999|c|@0.1", "!value1");
    expect("a:922337203685477580|c|@0.1", "statsd/a+9223372036854775800");
    expect("a:1e3|c", "statsd/a+1000");
    expect("a:1e400|c", "!value1");
    expect("a:1e-400|c", "statsd/a+0");
    expect("a:00000000000000000000007|c", "statsd/a+7");
}

static void numbers_that_are_none(void **state)
{
    static const char *const values[] = {"",    "NaN", "nan", "Infinity", "-inf", "0x10", "1,5", "1.5.2", "1e",
                                         "1e+", "--1", "+-1", "1 ",       " 1",   "one",  ".",   "+",     "1_0"};
    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        char packet[64];
        for (const char *type = "c\0g\0ms\0h\0"; *type; type += strlen(type) + 1) {
            (void)snprintf(packet, sizeof packet, "a:%s|%s", values[i], type);
            expect(packet, "!value1");
        }
    }
    static const char *const rates[] = {"", "0", "-0.5", "1.5", "0,5", "x", "NaN", "0.0", "2", "1.00001"};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        char packet[64];
        (void)snprintf(packet, sizeof packet, "a:1|c|@%s", rates[i]);
        expect(packet, "!rate1");
    }
}

static void gauges(void **state)
{
    (void)state;
    expect("g:5|g", "statsd.gauges/g=5");
    expect("g:+5|g", "statsd.gauges/g~5");
    expect("g:-5|g", "statsd.gauges/g~-5");
    expect("g:5.5|g", "statsd.gauges/g=6");
    expect("g:-5.5|g", "statsd.gauges/g~-6");
    expect("g:5|g|@0.1", "statsd.gauges/g=5");
    expect("g:4611686018427387903e0|g", "!value1");
    expect("g:461168601842738790e1|g", "statsd.gauges/g=4611686018427387900");
    expect("g:461168601842738791e1|g", "!value1");
}

static void timers(void **state)
{
    (void)state;
    expect("t:320|ms", "statsd.timers.count/t+1 statsd.timers.sum_us/t+320000 statsd.timers.min_us/t<320000 "
                       "statsd.timers.max_us/t>320000");
    expect(
        "t:0.25|ms|@0.1",
        "statsd.timers.count/t+10 statsd.timers.sum_us/t+2500 statsd.timers.min_us/t<250 statsd.timers.max_us/t>250");
    expect("t:7|h",
           "statsd.histograms.count/t+1 statsd.histograms.sum/t+7 statsd.histograms.min/t<7 statsd.histograms.max/t>7");
    expect("t:-1|ms", "!negative1");
    expect("t:-1|h", "!negative1");
}

static void sets(void **state)
{
    char expected[128];
    (void)state;
    (void)snprintf(expected, sizeof expected, "statsd.sets/s#%lld", (long long)tally_member(tally_bytes("765", 3)));
    expect("s:765|s", expected);
    (void)snprintf(expected, sizeof expected, "statsd.sets/s#%lld", (long long)tally_member(tally_bytes("urn:x", 5)));
    expect("s:urn:x|s", expected);
    expect("s:|s", "!value1");
}

static void many_in_a_packet(void **state)
{
    (void)state;
    expect("a:1|c\nb:2|c\n\nc:3|c\n", "statsd/a+1 statsd/b+2 statsd/c+3");
    expect("a:1|c\r\nb:2|c ", "statsd/a+1 statsd/b+2");
    expect("a:1|c\nbad\nc:3|c", "statsd/a+1 statsd/c+3 !form1");
    // Several groups of one name, as StatsD has them; packed values, as DogStatsD has them.
    expect("a:1|c:2|c:3|g", "statsd/a+1 statsd/a+2 statsd.gauges/a=3");
    expect("a:1|c|@0.1:2|c", "statsd/a+10 statsd/a+2");
    expect("a:1:2:3|c", "statsd/a+1 statsd/a+2 statsd/a+3");
    expect("a:1:x:3|c|@0.5|#t:1", "statsd/a;t=1+2 statsd/a;t=1+6 !value1");
}

static void tags(void **state)
{
    (void)state;
    expect("a:1|c|#b:2,a:1", "statsd/a;a=1;b=2+1");
    expect("a:1|c|#a:1,b:2,a:1,,", "statsd/a;a=1;b=2+1");
    expect("a:1|c|@0.5|#x", "statsd/a;x+2");
    expect("a:1|c|#x|@0.5", "statsd/a;x+2");
    expect("a:1|c|#url:http://x;y", "statsd/a;url=http://x_y+1");
    expect("a:1|c|#", "statsd/a+1");
    expect("a:1|c|#a:1|c:0123abcd|T1656581400", "statsd/a;a=1+1");
    expect("a:1|c|c:0123abcd", "statsd/a+1");
    expect("a:1|c|T1656581400", "statsd/a+1");
    struct tally_statsd_rules rules;
    tally_statsd_rules_init(&rules);
    rules.tags_dropped = true;
    expect_by(&rules, "a:1|c|#b:2,a:1", "statsd/a+1");
}

static void what_is_skipped(void **state)
{
    (void)state;
    expect("foo", "!form1");
    expect("foo|c", "!form1");
    expect("foo:1", "!form1");
    expect(":1|c", "!name1");
    expect("foo:1|", "!type1");
    expect("foo:1|x", "!type1");
    expect("foo:1|C", "!type1");
    expect("foo:1|d", "!distribution1");
    expect("_e{5,4}:title|text|#a", "!event1");
    expect("_sc|name|0", "!service_check1");
    expect("_events:1|c", "statsd/_events+1");
    struct tally_statsd *statsd = malloc(sizeof *statsd);
    struct heard heard = {.full = true};
    hear(&plain, "a:1|c\nb:1|ms", 12, statsd, &heard);
    assert_int_equal(statsd->skipped[TALLY_STATSD_FULL], 2);
    assert_int_equal(statsd->values, 0);
    free(statsd);
}

static void rules(void **state)
{
    struct tally_statsd_rules rules;
    (void)state;
    tally_statsd_rules_init(&rules);
    assert_null(tally_statsd_rules_add(&rules, "web.=web"));
    assert_null(tally_statsd_rules_add(&rules, "web.api.=api"));
    assert_null(tally_statsd_rules_add(&rules, "a=b=eq"));
    assert_non_null(tally_statsd_rules_add(&rules, "web.=again"));
    assert_non_null(tally_statsd_rules_add(&rules, "web"));
    assert_non_null(tally_statsd_rules_add(&rules, "x=Web"));
    assert_non_null(tally_statsd_rules_add(&rules, "x="));
    assert_non_null(tally_statsd_rules_add(&rules, "x=012345678901234567890123456789012345678901234567"));
    assert_null(tally_statsd_rules_add(&rules, "x=01234567890123456789012345678901234567890123456"));
    expect_by(&rules, "web.hits:1|c\nweb.api.calls:1|c\nwebs:1|c\nweb.:1|c\nweb.up:1|g\na=bc:1|c",
              "web/hits+1 api/calls+1 statsd/webs+1 web.gauges/up=1 eq/c+1 !name1");
    expect_by(&rules, "x1:1|h",
              "01234567890123456789012345678901234567890123456.histograms.count/1+1 "
              "01234567890123456789012345678901234567890123456.histograms.sum/1+1 "
              "01234567890123456789012345678901234567890123456.histograms.min/1<1 "
              "01234567890123456789012345678901234567890123456.histograms.max/1>1");
    assert_null(tally_statsd_rules_add(&rules, "=rest"));
    expect_by(&rules, "other:1|c", "rest/other+1");
    tally_statsd_rules_init(&rules);
    static char texts[TALLY_STATSD_RULES_MAX + 1][32]; // the rules point to them
    for (unsigned i = 0; i <= TALLY_STATSD_RULES_MAX; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "p%u=t", i);
        const char *wrong = tally_statsd_rules_add(&rules, texts[i]);
        assert_true(i < TALLY_STATSD_RULES_MAX ? !wrong : wrong != NULL);
    }
}

static void limits(void **state)
{
    struct tally_statsd *statsd = malloc(sizeof *statsd);
    struct heard heard = {.full = false};
    char *line = malloc(TALLY_STATSD_LINE_BYTES_MAX + 64);
    (void)state;
    for (int over = 0; over <= 1; over++) {
        int size = sprintf(line, "%0*d:1|c", 1024 + over, 7);
        hear(&plain, line, (size_t)size, statsd, &heard);
        assert_int_equal(statsd->skipped[TALLY_STATSD_NAME], over);
        size = sprintf(line, "a:1|c|#%0*d", 1022 + over, 7); // with the name and ";"
        hear(&plain, line, (size_t)size, statsd, &heard);
        assert_int_equal(statsd->skipped[TALLY_STATSD_NAME], over);
        size = sprintf(line, "a:1|c|#");
        for (unsigned i = 0; i < TALLY_STATSD_TAGS_MAX + (unsigned)over; i++) size += sprintf(line + size, "t%u,", i);
        hear(&plain, line, (size_t)size, statsd, &heard);
        assert_int_equal(statsd->skipped[TALLY_STATSD_TAGS], over);
        assert_int_equal(statsd->values, 1 - over);
        size = sprintf(line, "a:1|c|T%0*d", (int)TALLY_STATSD_LINE_BYTES_MAX - 7 + over, 7);
        assert_int_equal(size, TALLY_STATSD_LINE_BYTES_MAX + over);
        hear(&plain, line, (size_t)size, statsd, &heard);
        assert_int_equal(statsd->skipped[TALLY_STATSD_LINE], over);
    }
    free(line);
    free(statsd);
}

// Integers are exact, and a rate of 1/n multiplies by n, whatever n.
static void rates_are_exact(void **state)
{
    struct test_random random = test_random_start("statsd: rates");
    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct tally_decimal value, rate;
        char text[32];
        int digits = (int)test_random_below(&random, 7);
        uint64_t amount = test_random_below(&random, 1000000), power = 1;
        for (int j = 0; j < digits; j++) power *= 10;
        int64_t number;
        int size = snprintf(text, sizeof text, "%llu", (unsigned long long)amount);
        assert_true(tally_decimal_parse(tally_bytes(text, (size_t)size), &value));
        size = snprintf(text, sizeof text, digits ? "0.%0*d" : "1", digits, 1);
        assert_true(tally_decimal_parse(tally_bytes(text, (size_t)size), &rate));
        assert_true(tally_decimal_scale(&value, 1, &rate, INT64_MAX, &number));
        assert_int_equal(number, amount * power);
        // Any rate: as floating point says, but for what is nearly a half.
        uint64_t millionths = 1 + test_random_below(&random, 1000000);
        size = snprintf(text, sizeof text, "%.6f", (double)millionths / 1e6);
        assert_true(tally_decimal_parse(tally_bytes(text, (size_t)size), &rate));
        assert_true(tally_decimal_scale(&value, 1, &rate, INT64_MAX, &number));
        double real = (double)amount * 1e6 / (double)millionths;
        assert_true((double)number >= real - 0.5001 && (double)number <= real + 0.5001);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(counters),       cmocka_unit_test(numbers_that_are_none),
                                       cmocka_unit_test(gauges),         cmocka_unit_test(timers),
                                       cmocka_unit_test(sets),           cmocka_unit_test(many_in_a_packet),
                                       cmocka_unit_test(tags),           cmocka_unit_test(what_is_skipped),
                                       cmocka_unit_test(rules),          cmocka_unit_test(limits),
                                       cmocka_unit_test(rates_are_exact)};
    tally_statsd_rules_init(&plain);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
