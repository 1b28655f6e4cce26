// SPDX-License-Identifier: Apache-2.0
#include "lines.h"

#include "cli.h"

bool cli_value_parse(struct tally_bytes text, int64_t *out_value)
{
    bool negative = text.size && text.data[0] == '-';
    int64_t value = 0;
    if (text.size == negative) return false;
    for (size_t i = negative; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') return false;
        int64_t digit = text.data[i] - '0';
        // Downwards, because the smallest value has no positive twin.
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_sub_overflow(value, digit, &value)) return false;
    }
    if (!negative && value == INT64_MIN) return false;
    *out_value = negative ? value : -value;
    return true;
}

const char *cli_line_parse(uint8_t *line, size_t size, bool escaped, struct cli_event *out_event)
{
    const uint8_t *tab = memchr(line, '\t', size);
    if (!tab) return "no tab: a line is table<TAB>key[<TAB>amount]";
    size_t table_size = (size_t)(tab - line);
    struct tally_bytes table = tally_bytes(line, table_size);
    if (!tally_name_valid(table)) return "the table's name is not 1 to 64 of a-z 0-9 _ . -";
    uint8_t *key = line + table_size + 1;
    size_t key_size = size - table_size - 1;
    int64_t amount = 1;
    const uint8_t *second = memchr(key, '\t', key_size);
    if (second) {
        struct tally_bytes text = tally_bytes(second + 1, key_size - (size_t)(second - key) - 1);
        key_size = (size_t)(second - key);
        if (memchr(text.data, '\t', text.size)) return "more than three fields";
        if (!cli_value_parse(text, &amount)) return "the amount is not an integer from 0 to 9223372036854775807";
        if (amount < 0) return "the amount is negative: a counter only grows";
    }
    if (escaped) {
        key_size = cli_unescape(key, key_size);
        if (key_size == SIZE_MAX) return "the key holds a backslash that begins none of \\t \\n \\r \\\\";
    }
    if (key_size == 0) return "the key is empty";
    if (key_size > TALLY_KEY_BYTES_MAX) return "the key is over 1024 bytes";
    *out_event = (struct cli_event){table, tally_bytes(key, key_size), amount};
    return NULL;
}
