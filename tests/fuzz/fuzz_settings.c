// SPDX-License-Identifier: Apache-2.0
//
// What people write: the first byte of an input says which. Whatever it is, it is taken and within its limits, or refused with words.
//
//   0  a configuration file   1  a table's definition   2  a rule of StatsD   3  an address
//   4  a TableDefinition as records and snapshots have it: what is read and complete comes out of its own bytes again
#define _GNU_SOURCE
#include "fuzz.h"

#include <io/address.h>
#include <io/settings.h>
#include <server/src/definitions.h>
#include <statsd/statsd.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct options {
    const char *data;
    struct tally_strings url;
    uint64_t tick_ms, memory;
    unsigned durable;
};

static const struct tally_setting table[] = {
    TALLY_SETTING_TEXT(struct options, data, "data", "DIR", "./d", "Folder."),
    TALLY_SETTING_LIST(struct options, url, "url", "URL", "tcp://a", 3, "Where."),
    TALLY_SETTING_NUMBER(struct options, tick_ms, "tick", "ms", "20", 1, 60000, "Time."),
    TALLY_SETTING_NUMBER(struct options, memory, "memory", "bytes", "4G", 1 << 20, UINT64_MAX, "Memory."),
    TALLY_SETTING_CHOICE(struct options, durable, "durable", "sync|none", "sync", "How."),
};
static const struct tally_settings_spec spec = {
    .program = "prog", .summary = "It runs.", .version = "1", .table = table, .table_count = 5};

static void file(struct tally_bytes input)
{
    char path[32];
    struct options options = {0};
    struct tally_settings settings;
    struct tally_reason reason = {0};
    int fd = memfd_create("settings", 0);
    FUZZ_CHECK(fd >= 0 && write(fd, input.data, input.size) == (ssize_t)input.size);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    char *argv[] = {(char[]){"prog"}, (char[]){"--config"}, path, NULL};
    enum tally_settings_outcome outcome = tally_settings_load(&spec, 3, argv, &options, &settings, &reason);
    if (outcome == TALLY_SETTINGS_RUN) {
        FUZZ_CHECK(options.data && options.tick_ms >= 1 && options.tick_ms <= 60000 && options.memory >= 1 << 20);
        FUZZ_CHECK(options.url.count <= 3 && options.durable < 2);
        for (size_t i = 0; i < options.url.count; i++) FUZZ_CHECK(options.url.items[i]);
    } else {
        FUZZ_CHECK(outcome == TALLY_SETTINGS_WRONG && reason.text[0]);
    }
    tally_settings_deinit(&settings);
    close(fd);
}

// Read from what it is written as, it is the same.
static void same_again(struct tally_bytes name, const struct tally_definition *definition)
{
    struct tally_writer out = test_writer();
    struct tally_wire wire;
    struct tally_wire_field field;
    struct tally_definition again;
    struct tally_bytes table_again;
    const char *why;
    tally_definition_write(&out, 1, name, definition);
    FUZZ_CHECK(!out.failed && out.size <= TALLY_DEFINITION_BYTES_MAX);
    wire = tally_wire(tally_writer_bytes(&out));
    FUZZ_CHECK(tally_wire_next(&wire, &field) == TALLY_OK && tally_wire_done(&wire));
    FUZZ_CHECK(tally_definition_read(field.bytes, &table_again, &again) == TALLY_OK);
    FUZZ_CHECK(tally_bytes_equal(name, table_again));
    FUZZ_CHECK(tally_definition_complete(&again, table_again, &why) == TALLY_OK);
    FUZZ_CHECK(tally_definition_equal(definition, &again));
    test_writer_free(&out);
}

static void definition_text(const char *text)
{
    struct tally_definition definition;
    struct tally_bytes name, word = {0};
    bool defined;
    const char *why = NULL;
    enum tally_status status = tally_definition_parse(text, &name, &definition, &defined, &word, &why);
    FUZZ_CHECK(status == TALLY_OK || (why && (status == TALLY_INVALID || status == TALLY_LIMIT)));
    if (status == TALLY_OK && defined) same_again(name, &definition);
}

static void definition_bytes(struct tally_bytes input)
{
    struct tally_definition definition;
    struct tally_bytes name;
    const char *why = NULL;
    if (tally_definition_read(input, &name, &definition) != TALLY_OK || !tally_name_valid(name)) return;
    if (tally_definition_complete(&definition, name, &why) == TALLY_OK)
        same_again(name, &definition);
    else
        FUZZ_CHECK(why);
}

static void statsd_rule(const char *text)
{
    static struct tally_statsd_rules rules;
    tally_statsd_rules_init(&rules);
    const char *why = tally_statsd_rules_add(&rules, text);
    if (why) return;
    FUZZ_CHECK(rules.count <= TALLY_STATSD_RULES_MAX);
    for (unsigned i = 0; i < TALLY_STATSD_TABLES; i++)
        FUZZ_CHECK(tally_name_valid(tally_bytes(rules.rules[0].tables[i].name, rules.rules[0].tables[i].size)));
}

static void address(const char *text)
{
    struct tally_address parsed;
    struct tally_reason reason = {0};
    if (tally_address_parse("http", text, &parsed, &reason) == TALLY_OK)
        FUZZ_CHECK(memchr(parsed.host, 0, sizeof parsed.host) && memchr(parsed.port, 0, sizeof parsed.port));
    else
        FUZZ_CHECK(strstr(reason.text, "--http"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    uint8_t *exact = test_exact_copy(data + 1, size - 1);
    char *text = malloc(size);
    if (!text) abort();
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    switch (data[0] % 5) {
    case 0: file(tally_bytes(exact, size - 1)); break;
    case 1: definition_text(text); break;
    case 2: statsd_rule(text); break;
    case 3: address(text); break;
    default: definition_bytes(tally_bytes(exact, size - 1)); break;
    }
    free(text);
    free(exact);
    return 0;
}
