// SPDX-License-Identifier: Apache-2.0
#include "lines.h"

#include <sums/sums_batch.h>

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

// A key or a member: what it is in bytes. Null, or what is wrong; `member` says of which.
static const char *take_bytes(uint8_t *data, size_t size, bool escaped, bool member, struct tally_bytes *out_bytes)
{
    if (escaped) {
        size = cli_unescape(data, size);
        if (size == SIZE_MAX)
            return member ? "the member holds a backslash that begins none of \\t \\n \\r \\\\"
                          : "the key holds a backslash that begins none of \\t \\n \\r \\\\";
    }
    if (size == 0) return member ? "the member is empty" : "the key is empty";
    if (size > TALLY_KEY_BYTES_MAX) return member ? "the member is over 1024 bytes" : "the key is over 1024 bytes";
    *out_bytes = tally_bytes(data, size);
    return NULL;
}

const char *cli_amount_parse(struct tally_bytes text, enum tally_kind kind, int64_t *out_amount)
{
    bool level = kind == TALLY_KIND_GAUGE || kind == TALLY_KIND_MIN || kind == TALLY_KIND_MAX;
    bool number = cli_value_parse(text, out_amount);
    if (level && (!number || *out_amount > TALLY_LEVEL_MAX || *out_amount < -TALLY_LEVEL_MAX))
        return "the value is not an integer from -4611686018427387903 to 4611686018427387903";
    if (!number) return "the amount is not an integer from 0 to 9223372036854775807";
    if (!level && *out_amount < 0) return "the amount is negative: a counter only grows";
    return NULL;
}

// The third column; data null: there is none.
static const char *take_third(uint8_t *data, size_t size, const struct cli_line_form *form, int64_t *out_amount)
{
    struct tally_bytes member;
    bool counts = form->kind == TALLY_KIND_COUNTER || form->kind == TALLY_KIND_TOPK;
    if (!data && form->kind == TALLY_KIND_DISTINCT) return "no member: a line is table<TAB>key<TAB>member";
    if (!data && !counts) return "no value: a line is table<TAB>key<TAB>value";
    if (!data) {
        *out_amount = 1;
        return NULL;
    }
    if (memchr(data, '\t', size)) return "more than three fields";
    if (form->kind != TALLY_KIND_DISTINCT) return cli_amount_parse(tally_bytes(data, size), form->kind, out_amount);
    const char *why = take_bytes(data, size, form->escaped, true, &member);
    if (!why) *out_amount = (int64_t)tally_member(member);
    return why;
}

const char *cli_line_parse(uint8_t *line, size_t size, const struct cli_line_form *form, struct cli_event *out_event)
{
    const uint8_t *tab = memchr(line, '\t', size);
    if (!tab) return "no tab: a line is table<TAB>key[<TAB>amount]";
    size_t table_size = (size_t)(tab - line);
    struct cli_event event = {.table = tally_bytes(line, table_size)};
    if (!tally_name_valid(event.table)) return "the table's name is not 1 to 64 of a-z 0-9 _ . -";
    uint8_t *key = line + table_size + 1;
    size_t key_size = size - table_size - 1, third_size = 0;
    uint8_t *third = memchr(key, '\t', key_size);
    if (third) {
        third_size = key_size - (size_t)(third - key) - 1;
        key_size = (size_t)(third++ - key);
    }
    const char *why = take_third(third, third_size, form, &event.amount);
    if (!why) why = take_bytes(key, key_size, form->escaped, false, &event.key);
    if (!why) *out_event = event;
    return why;
}
