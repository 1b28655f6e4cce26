// SPDX-License-Identifier: Apache-2.0
//
// Lines that `tallycast count` reads: events and logs of every format. The first byte of an input is the format, the second the kind that is counted;
// the rest are lines, of which the first is tried as a rule, too. Whatever they are, an event that comes of one is one that a batch can carry.
#include "fuzz.h"

#include <format.h>
#include <string.h>

static void check(const struct cli_event *event, enum tally_kind kind)
{
    FUZZ_CHECK(tally_name_valid(event->table) && event->key.size >= 1 && event->key.size <= TALLY_KEY_BYTES_MAX);
    uint64_t sum = 0;
    for (size_t i = 0; i < event->key.size; i++) sum += event->key.data[i]; // that it may be read
    FUZZ_CHECK(sum <= 255 * event->key.size);
    if (kind == TALLY_KIND_COUNTER || kind == TALLY_KIND_TOPK)
        FUZZ_CHECK(event->amount >= 0);
    else if (kind != TALLY_KIND_DISTINCT)
        FUZZ_CHECK(event->amount >= -TALLY_LEVEL_MAX && event->amount <= TALLY_LEVEL_MAX);
}

static void plain(uint8_t *line, size_t size, bool escaped, enum tally_kind kind)
{
    const struct cli_line_form form = {.escaped = escaped, .kind = kind};
    struct cli_event event;
    if (!cli_line_parse(line, size, &form, &event)) check(&event, kind);
}

static void log_line(struct cli_format *format, uint8_t *line, size_t size)
{
    struct cli_event events[CLI_FORMAT_RULES_MAX];
    unsigned count = 0;
    if (cli_format_parse(format, line, size, events, &count)) return;
    FUZZ_CHECK(count <= format->rules_count);
    for (unsigned i = 0; i < count; i++) check(&events[i], format->counted_as);
}

static void rules(struct cli_format *format, enum cli_format_kind kind, enum tally_kind counted_as)
{
    static const char *const some[][3] = {
        [CLI_FORMAT_COMMON] = {"a=path", "b={method} {status} {query}+bytes", "c={host}-{user}+status"},
        [CLI_FORMAT_COMBINED] = {"a=referer", "b={agent}+bytes", "c={target}{protocol}+status"},
        [CLI_FORMAT_JSON] = {"a=a", "b={a.b} {c}+n", "c={a}+a.b"},
        [CLI_FORMAT_TSV] = {"a=1", "b={2}{3}+1", "c={1}/{256}+2"},
    };
    memset(format, 0, sizeof *format);
    format->kind = kind;
    format->counted_as = counted_as;
    // A rule without a field is none for levels and members.
    for (unsigned i = 0; i < 3; i++) (void)cli_format_rule(format, some[kind][i]);
    FUZZ_CHECK(format->rules_count >= 2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cli_format format;
    if (size < 2) return 0;
    enum cli_format_kind kind = (enum cli_format_kind)(data[0] % (CLI_FORMAT_TSV + 1));
    enum tally_kind counted_as = (enum tally_kind)(1 + data[1] % (TALLY_KINDS - 1));
    const uint8_t *first = memchr(data + 2, '\n', size - 2);
    char *rule = strndup((const char *)data + 2, first ? (size_t)(first - data) - 2 : size - 2);
    if (!rule) abort();
    if (kind != CLI_FORMAT_LINES) {
        rules(&format, kind, counted_as);
        (void)cli_format_rule(&format, rule);
    }
    for (size_t at = 2; at < size;) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t length = end ? (size_t)(end - data) - at : size - at;
        uint8_t *line = test_exact_copy(data + at, length);
        if (kind == CLI_FORMAT_LINES)
            plain(line, length, data[0] >> 7, counted_as);
        else
            log_line(&format, line, length);
        free(line);
        at += length + 1;
    }
    free(rule);
    return 0;
}
