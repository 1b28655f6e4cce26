// SPDX-License-Identifier: Apache-2.0
//
// Settings: flags over file over default; whatever is wrong is refused by name and place.
#include "../support/with_cmocka.h"

#include <io/settings.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct options {
    const char *data, *optional;
    struct tally_strings urls;
    uint64_t tick_ms, memory;
    unsigned durable;
};

static const struct tally_setting table[] = {
    TALLY_SETTING_TEXT(struct options, data, "data", "DIR", "./d", "Directory"),
    TALLY_SETTING_TEXT(struct options, optional, "optional", "X", NULL, "Nothing by default"),
    TALLY_SETTING_LIST(struct options, urls, "url", "URL", "tcp://a", 2, "Where to"),
    TALLY_SETTING_NUMBER(struct options, tick_ms, "tick", "ms", "20", 1, 60000, "Time"),
    TALLY_SETTING_NUMBER(struct options, memory, "memory", "bytes", "4G", 1, UINT64_MAX, "Memory"),
    TALLY_SETTING_CHOICE(struct options, durable, "durable", "sync|none", "sync", "Durable"),
};

static const struct tally_settings_spec spec = {"prog", "does", "prog --tick 5",
                                                "1.2",  table,  sizeof table / sizeof *table};

static char file_path[] = "/tmp/tally-settings-XXXXXX";

static void file_write(const char *text)
{
    FILE *file = fopen(file_path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

// The words of a command line, ended by null.
static enum tally_settings_outcome load(struct options *options, struct tally_settings *settings,
                                        struct tally_reason *reason, const char *const *argv)
{
    int argc = 0;
    while (argv[argc]) argc++;
    memset(options, 0, sizeof *options);
    return tally_settings_load(&spec, argc, (char **)(uintptr_t)argv, options, settings,
                               reason); // as main gets them; not written to
}

#define LOAD(...) load(&options, &settings, &reason, (const char *[]){"prog", __VA_ARGS__ __VA_OPT__(, ) NULL})

static void test_sources(void **state)
{
    (void)state;
    struct options options;
    struct tally_settings settings;
    struct tally_reason reason;
    assert_int_equal(LOAD(), TALLY_SETTINGS_RUN);
    assert_string_equal(options.data, "./d");
    assert_null(options.optional);
    assert_int_equal(options.urls.count, 1);
    assert_string_equal(options.urls.items[0], "tcp://a");
    assert_true(options.tick_ms == 20 && options.memory == (uint64_t)4 << 30 && options.durable == 0);
    tally_settings_deinit(&settings);

    file_write("# comment\ndata: \"from file\"\nurl:\n  - tcp://b\n  - tcp://c\ntick: 2s\ndurable: none\n");
    assert_int_equal(LOAD("--config", file_path), TALLY_SETTINGS_RUN);
    assert_string_equal(options.data, "from file");
    assert_int_equal(options.urls.count, 2);
    assert_string_equal(options.urls.items[1], "tcp://c");
    assert_true(options.tick_ms == 2000 && options.durable == 1);
    tally_settings_deinit(&settings);

    // A flag wins, wherever --config stands.
    assert_int_equal(LOAD("--tick=5", "--url", "tcp://d", "--config", file_path, "--memory", "3M"), TALLY_SETTINGS_RUN);
    assert_true(options.tick_ms == 5 && options.memory == 3u << 20 && options.durable == 1);
    assert_int_equal(options.urls.count, 1);
    assert_string_equal(options.urls.items[0], "tcp://d");
    tally_settings_deinit(&settings);

    file_write("");
    assert_int_equal(LOAD("--config", file_path), TALLY_SETTINGS_RUN);
    tally_settings_deinit(&settings);
}

static void test_wrong_flags(void **state)
{
    (void)state;
    struct options options;
    struct tally_settings settings;
    struct tally_reason reason;
    static const char *const wrong[][3] = {
        {"--tick", "0", "--tick: \"0\" is out of range: 1 to 60000 ms"},
        {"--tick", "60001", "--tick: \"60001\" is out of range: 1 to 60000 ms"},
        {"--tick", "5x", "--tick: \"5x\" is no number of ms"},
        {"--tick", "-5", "--tick: \"-5\" is no number of ms"},
        {"--tick", "99999999999999999999", "--tick: \"99999999999999999999\" is no number of ms"},
        {"--memory", "99999999999G", "--memory: \"99999999999G\" is no number of bytes"},
        {"--durable", "maybe", "--durable: \"maybe\" is none of sync|none"},
        {"--durable", "syn", "--durable: \"syn\" is none of sync|none"},
        {"--data", "", "--data: empty"},
        {"--nope", "1", "unknown flag \"--nope\"; see --help"},
        {"word", NULL, "unexpected argument \"word\"; see --help"},
        {"--tick", NULL, "--tick needs a value"},
        {"--config", "/nowhere/x", "--config /nowhere/x: No such file or directory"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *argv[] = {"prog", wrong[i][0], wrong[i][1], NULL};
        assert_int_equal(load(&options, &settings, &reason, argv), TALLY_SETTINGS_WRONG);
        assert_string_equal(reason.text, wrong[i][2]);
        tally_settings_deinit(&settings);
    }
    assert_int_equal(LOAD("--tick", "--data", "x"), TALLY_SETTINGS_WRONG);
    assert_string_equal(reason.text, "--tick needs a value");
    tally_settings_deinit(&settings);
    assert_int_equal(LOAD("--tick", "1", "--tick", "1"), TALLY_SETTINGS_WRONG);
    assert_string_equal(reason.text, "--tick: given twice");
    tally_settings_deinit(&settings);
    assert_int_equal(LOAD("--url", "a", "--url", "b", "--url", "c"), TALLY_SETTINGS_WRONG);
    assert_string_equal(reason.text, "--url: more than 2 values");
    tally_settings_deinit(&settings);
}

static void test_wrong_file(void **state)
{
    (void)state;
    struct options options;
    struct tally_settings settings;
    struct tally_reason reason;
    static const struct {
        const char *text, *place, *what;
    } wrong[] = {
        {"data: x\ntikc: 5\n", ":2:", "unknown setting \"tikc\""},
        {"data: x\n\ntick: fast\n", ":3:", "tick: \"fast\" is no number of ms"},
        {"tick: 5\ntick: 6\n", ":2:", "tick: given twice"},
        {"url: a\nurl: b\n", ":2:", "url: given twice"},
        {"tick: [1]\n", ":1:", "tick: a list, but one value is expected"},
        {"tick:\n  a: 1\n", ":2:", "tick: a mapping, but a value is expected"},
        {"- a\n", ":1:", "a list where"},
        {"just words\n", ":1:", "expected"},
        {"data: &a x\nurl: *a\n", ":2:", "aliases"},
        {"data: x\n---\ndata: y\n", ":2:", "second document"},
        {"data: [\n", ":2:", ""},
        {"data:\n", ":1:", "data: empty"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        file_write(wrong[i].text);
        assert_int_equal(LOAD("--config", file_path, "--tick", "7"), TALLY_SETTINGS_WRONG);
        if (strncmp(reason.text, file_path, strlen(file_path)) != 0 || !strstr(reason.text, wrong[i].place) ||
            !strstr(reason.text, wrong[i].what))
            fail_msg("%s gives: %s", wrong[i].text, reason.text);
        tally_settings_deinit(&settings);
    }
    // A check that comes later is told the place too, when the value came from there.
    file_write("\ndata: here\n");
    assert_int_equal(LOAD("--config", file_path, "--tick", "7"), TALLY_SETTINGS_RUN);
    tally_reason_set(&reason, "--data here: not nice");
    tally_settings_place(&settings, &reason);
    char expected[128];
    (void)snprintf(expected, sizeof expected, "%s:2: data here: not nice", file_path);
    assert_string_equal(reason.text, expected);
    tally_reason_set(&reason, "--tick 7: not nice");
    tally_settings_place(&settings, &reason);
    assert_string_equal(reason.text, "--tick 7: not nice");
    tally_settings_deinit(&settings);
}

static void test_texts(void **state)
{
    (void)state;
    struct options options;
    struct tally_settings settings;
    struct tally_reason reason;
    static const struct {
        const char *flag;
        enum tally_settings_outcome outcome;
    } asked[] = {{"--help", TALLY_SETTINGS_HELP},
                 {"-h", TALLY_SETTINGS_HELP},
                 {"--version", TALLY_SETTINGS_VERSION},
                 {"--example-config", TALLY_SETTINGS_EXAMPLE}};
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        assert_int_equal(LOAD("--tick", "5", asked[i].flag), asked[i].outcome);
        tally_settings_deinit(&settings);
    }
    // Every setting is in the help; the example, with its # taken away, loads.
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    tally_settings_help(&spec, out);
    (void)fclose(out);
    for (size_t i = 0; i < spec.table_count; i++) {
        char flag[64];
        (void)snprintf(flag, sizeof flag, "--%s ", table[i].name);
        assert_non_null(strstr(text, flag));
    }
    free(text);
    out = open_memstream(&text, &size);
    tally_settings_example(&spec, out);
    (void)fclose(out);
    char *file = calloc(1, size + 1), *to = file;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (line[0] == '#' && line[1] != ' ' && line[strlen(line) - 1] != ':') to += sprintf(to, "%s\n", line + 1);
    file_write(file);
    assert_int_equal(LOAD("--config", file_path), TALLY_SETTINGS_RUN);
    assert_true(options.tick_ms == 20 && options.memory == (uint64_t)4 << 30);
    tally_settings_deinit(&settings);
    free(file);
    free(text);
}

static int set_up(void **state)
{
    (void)state;
    int fd = mkstemp(file_path);
    return fd < 0 ? -1 : close(fd);
}

static int tear_down(void **state)
{
    (void)state;
    return unlink(file_path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_wrong_flags),
        cmocka_unit_test(test_wrong_file),
        cmocka_unit_test(test_texts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
