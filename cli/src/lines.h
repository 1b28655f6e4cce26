// SPDX-License-Identifier: Apache-2.0
//
// Lines of events: `table<TAB>key[<TAB>amount]`, ended by a newline (the last one may lack it). Keys are the
// bytes as they stand, or with `escaped` as dump writes them (\t \n \r \\). What the third column is depends on the kind
// that the lines are counted as:
//
//   counter, topk     a decimal integer from 0 to 2^63 - 1; 1 when it is left out
//   gauge, min, max   a decimal integer within +-(2^62 - 1)
//   distinct          the member: bytes like the key, 1 to TALLY_KEY_BYTES_MAX
//
// An empty line is no event. Threads: pure functions.
#ifndef TALLYCAST_CLI_LINES_H
#define TALLYCAST_CLI_LINES_H

#include <tallycast/kind.h>
#include <tallycast/limits.h>

// Longer lines cannot be right: a table, a key with every byte escaped, a number and what separates them.
#define CLI_LINE_BYTES_MAX (TALLY_NAME_BYTES_MAX + 4 * TALLY_KEY_BYTES_MAX + 32)

struct cli_line_form {
    bool escaped;
    enum tally_kind kind;
};

struct cli_event {
    struct tally_bytes table, key;
    int64_t amount; // distinct: the hash of the member
};

// Takes one line, newline excluded, apart. `line` is changed in place when it is escaped. Null, or what is wrong
// with it: a sentence without full stop for "line 17: ...".
const char *cli_line_parse(uint8_t *line, size_t size, const struct cli_line_form *form, struct cli_event *out_event);

// An amount, or the value of another kind than distinct. Null, or what is wrong with it.
const char *cli_amount_parse(struct tally_bytes text, enum tally_kind kind, int64_t *out_amount);

// "-12" to a value as the dump writes it. False for anything else.
bool cli_value_parse(struct tally_bytes text, int64_t *out_value);

#endif
