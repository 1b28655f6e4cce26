// SPDX-License-Identifier: Apache-2.0
//
// Lines of logs as events: which fields of a line are counted in which table.
//
//   common, combined   host ident user [time] "METHOD TARGET PROTOCOL" status bytes ["referer" "agent"] ...
//                      fields: host ident user time method target path query protocol status bytes referer agent
//   json               an object a line; fields: its members, those of objects in it as a.b
//   tsv                fields 1, 2, 3 ..., between tabs
//
// A rule is TABLE=KEY[+FIELD]: KEY is a field, or a text with {field}s in it; with +FIELD its number is added, else 1. A line
// that lacks a field of a rule ("-" in access logs) is no event by that rule; by the others it is.
//
// Threads: an object belongs to one thread. Limits: CLI_FORMAT_RULES_MAX rules; keys as limits.h says.
#ifndef TALLYCAST_CLI_FORMAT_H
#define TALLYCAST_CLI_FORMAT_H

#include "lines.h"

#define CLI_FORMAT_RULES_MAX  16u
#define CLI_FORMAT_FIELDS_MAX 256u   // of a tsv line; further ones are not looked at
#define CLI_LOG_BYTES_MAX     65536u // of a line of a log

enum cli_format_kind { CLI_FORMAT_LINES, CLI_FORMAT_COMMON, CLI_FORMAT_COMBINED, CLI_FORMAT_JSON, CLI_FORMAT_TSV };

struct cli_format_rule {
    struct tally_bytes table, key, amount; // key: a template; amount: a field, or empty
};

struct cli_format {
    enum cli_format_kind kind;
    enum tally_kind counted_as; // distinct: what is added is the member
    struct cli_format_rule rules[CLI_FORMAT_RULES_MAX];
    unsigned rules_count;
    uint8_t keys[CLI_FORMAT_RULES_MAX][TALLY_KEY_BYTES_MAX]; // what events point to
};

// False: no such format.
bool cli_format_of(const char *name, enum cli_format_kind *out_kind);

// Adds a rule; the text must outlive the format. Null, or what is wrong with it.
const char *cli_format_rule(struct cli_format *format, const char *text);
// Those that hold when none was given: of access logs paths=path, statuses=status, hosts=host. Null, or why there must be some.
const char *cli_format_default(struct cli_format *format);

// Takes one line, newline excluded, apart; changes it in place. At most one event a rule; they point into the line and the format until the next
// call. Null, or what is wrong: then there are none.
const char *cli_format_parse(struct cli_format *format, uint8_t *line, size_t size, struct cli_event *out_events,
                             unsigned *out_count);

#endif
