// SPDX-License-Identifier: Apache-2.0
//
// Text for people and machines: UTF-8, JSON, times, log lines, metrics. Nothing from outside may end a string or begin a line.
#define _GNU_SOURCE
#include "../support/memory.h"
#include "../support/with_cmocka.h"

#include <fcntl.h>
#include <io/json.h>
#include <io/log.h>
#include <io/metrics.h>
#include <unistd.h>

#define BYTES(text) tally_bytes((text), sizeof(text) - 1)

static void check_text(struct tally_writer *out, const char *expected)
{
    tally_write_raw(out, "", 1);
    assert_false(out->failed);
    assert_string_equal((const char *)out->data, expected);
    out->size = 0;
}

static void test_utf8(void **state)
{
    (void)state;
    // Against a decoder that is written the other way round: decode, then encode again and compare.
    for (uint32_t bits = 0; bits < 1u << 24; bits += bits < 1u << 16 ? 1 : 251) {
        const uint8_t bytes[4] = {(uint8_t)(0xc0 | (bits & 0x3f)), (uint8_t)(bits >> 6), (uint8_t)(bits >> 14), 0x80};
        unsigned lead = bytes[0], size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf8 ? 4 : 0;
        uint32_t code = lead & (0x7fu >> size);
        bool valid = size != 0;
        for (unsigned i = 1; i < size; i++) {
            valid = valid && (bytes[i] & 0xc0) == 0x80;
            code = code << 6 | (bytes[i] & 0x3f);
        }
        static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        valid = valid && code >= least[size] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
        assert_int_equal(tally_utf8_size(tally_bytes(bytes, 4)), valid ? size : 0);
        if (valid) assert_int_equal(tally_utf8_size(tally_bytes(bytes, size - 1)), 0); // cut short
    }
    assert_true(tally_utf8_valid(BYTES("")));
    assert_true(tally_utf8_valid(BYTES("a\0\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80")));
    assert_false(tally_utf8_valid(BYTES("a\xc3")));
}

static void test_json(void **state)
{
    (void)state;
    struct tally_writer out = test_writer();
    struct tally_json json = tally_json(&out);
    tally_json_object_begin(&json, NULL);
    tally_json_bytes(&json, "text", BYTES("\"\\\n\t\x01\x7f\xff\0\xc3\xa9"));
    tally_json_u64(&json, "most", UINT64_MAX);
    tally_json_i64(&json, "least", INT64_MIN);
    tally_json_hex64(&json, "epoch", 0xab);
    tally_json_bool(&json, "yes", true);
    tally_json_time(&json, "at", 1763800000007);
    tally_json_array_begin(&json, "list");
    tally_json_null(&json, NULL);
    tally_json_object_begin(&json, NULL);
    tally_json_object_end(&json);
    tally_json_array_end(&json);
    for (unsigned size = 0; size <= 4; size++) tally_json_base64(&json, "b", tally_bytes("\xff\x00\x10\x83", size));
    tally_json_object_end(&json);
    check_text(&out,
               "{\"text\":\"\\\"\\\\\\n\\t\\u0001\\u007f\xef\xbf\xbd\\u0000\xc3\xa9\",\"most\":18446744073709551615,"
               "\"least\":-9223372036854775808,\"epoch\":\"00000000000000ab\",\"yes\":true,"
               "\"at\":\"2025-11-22T08:26:40.007Z\",\"list\":[null,{}],\"b\":\"\",\"b\":\"/w==\",\"b\":\"/wA=\","
               "\"b\":\"/wAQ\",\"b\":\"/wAQgw==\"}");
    char text[TALLY_TIME_BYTES];
    tally_time_format(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
    tally_time_format(UINT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
    test_writer_free(&out);
}

static void test_metrics(void **state)
{
    (void)state;
    struct tally_writer out = test_writer();
    tally_metric_one(&out, "tally_x", TALLY_METRIC_GAUGE, "Help.", 5);
    tally_metric_sample(&out, "tally_y", "why", "a\"b\\c\nd", UINT64_MAX);
    tally_metric_sample_seconds(&out, "tally_z", NULL, NULL, 1500000001);
    check_text(
        &out,
        "# HELP tally_x Help.\n# TYPE tally_x gauge\ntally_x 5\ntally_y{why=\"a\\\"b\\\\c d\"} 18446744073709551615\n"
        "tally_z 1.500000001\n");
    test_writer_free(&out);
}

// What is logged by `body` to stderr.
#define CAPTURE(text, body)                                                                                            \
    do {                                                                                                               \
        int pipes[2], saved = dup(STDERR_FILENO);                                                                      \
        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);                                                                  \
        assert_int_equal(fcntl(pipes[0], F_SETFL, O_NONBLOCK), 0);                                                     \
        dup2(pipes[1], STDERR_FILENO);                                                                                 \
        body;                                                                                                          \
        dup2(saved, STDERR_FILENO);                                                                                    \
        close(saved);                                                                                                  \
        close(pipes[1]);                                                                                               \
        ssize_t got = read(pipes[0], (text), sizeof(text) - 1);                                                        \
        (text)[got > 0 ? got : 0] = '\0';                                                                              \
        close(pipes[0]);                                                                                               \
    } while (0)

static void test_log(void **state)
{
    (void)state;
    static char text[3 * TALLY_LOG_BYTES_MAX], big[5000];
    tally_log_configure(TALLY_LOG_INFO, TALLY_LOG_LOGFMT);
    CAPTURE(text, tally_debug("hidden"));
    assert_string_equal(text, "");
    CAPTURE(text, tally_warn("it_is", tally_log_str("plain", "a/b:c"), tally_log_str("empty", ""),
                             tally_log_str("hard", "a b=\"c\"\nlevel=error"), tally_log_u64("n", 5),
                             tally_log_i64("m", -5), tally_log_hex("epoch", 0xab), tally_log_status(TALLY_GAP)));
    // "time=" and 24 characters of it are not the same twice.
    assert_memory_equal(text, "time=", 5);
    assert_string_equal(text + 29,
                        " level=warn event=it_is plain=a/b:c empty=\"\" hard=\"a b=\\\"c\\\"\\nlevel=error\" n=5 m=-5 "
                        "epoch=00000000000000ab status=\"gap: the frame starts at a version that is not held\"\n");
    tally_log_configure(TALLY_LOG_DEBUG, TALLY_LOG_JSON);
    CAPTURE(text, tally_debug("it_is", tally_log_bytes("key", BYTES("\xff\n\"")), tally_log_u64("n", 5)));
    assert_string_equal(text + 34,
                        ",\"level\":\"debug\",\"event\":\"it_is\",\"key\":\"\xef\xbf\xbd\\n\\\"\",\"n\":5}\n");

    // Too much for a line: what does not fit is left out, and the line is still one and whole.
    memset(big, '\n', sizeof big - 1);
    CAPTURE(text, tally_error("big", tally_log_str("a", big), tally_log_str("b", big), tally_log_str("c", big),
                              tally_log_u64("n", 5)));
    size_t size = strlen(text);
    assert_true(size <= TALLY_LOG_BYTES_MAX);
    assert_ptr_equal(strchr(text, '\n'), text + size - 1);
    assert_memory_equal(text + size - 8, ",\"n\":5}\n", 8);
    tally_log_configure(TALLY_LOG_WARN, TALLY_LOG_LOGFMT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
