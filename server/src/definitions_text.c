// SPDX-License-Identifier: Apache-2.0
#include "definitions.h"

struct words {
    const char *at;
};

static bool next_word(struct words *words, struct tally_bytes *out_word)
{
    while (*words->at == ' ' || *words->at == '\t') words->at++;
    const char *start = words->at;
    while (*words->at && *words->at != ' ' && *words->at != '\t') words->at++;
    *out_word = tally_bytes(start, (size_t)(words->at - start));
    return out_word->size != 0;
}

// Digits from the start of *text on, which is moved behind them.
static bool take_number(struct tally_bytes *text, uint64_t *out_number)
{
    uint64_t number = 0;
    size_t digits = 0;
    for (; digits < text->size && text->data[digits] >= '0' && text->data[digits] <= '9'; digits++) {
        if (__builtin_mul_overflow(number, 10, &number)) return false;
        if (__builtin_add_overflow(number, (uint64_t)(text->data[digits] - '0'), &number)) return false;
    }
    *text = tally_bytes(text->data + digits, text->size - digits);
    *out_number = number;
    return digits != 0;
}

static bool parse_number(struct tally_bytes text, uint64_t *out_number)
{
    return take_number(&text, out_number) && text.size == 0;
}

static bool parse_narrow(struct tally_bytes text, uint32_t *out_number)
{
    uint64_t number;
    if (!parse_number(text, &number)) return false;
    *out_number = number > UINT32_MAX ? UINT32_MAX : (uint32_t)number; // over every limit
    return true;
}

static bool parse_ms(struct tally_bytes text, uint64_t *out_ms)
{
    static const struct {
        const char *unit;
        uint64_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    uint64_t number;
    if (!take_number(&text, &number) || number == 0) return false;
    for (unsigned i = 0; i < sizeof units / sizeof *units; i++) {
        if (tally_bytes_equal(text, tally_bytes(units[i].unit, strlen(units[i].unit))))
            return !__builtin_mul_overflow(number, units[i].ms, out_ms);
    }
    return false;
}

static bool parse_window(struct tally_bytes text, struct tally_definition *definition)
{
    const uint8_t *slash = text.size ? memchr(text.data, '/', text.size) : NULL;
    size_t size = slash ? (size_t)(slash - text.data) : text.size;
    definition->window = slash ? TALLY_WINDOW_SLIDING : TALLY_WINDOW_TUMBLING;
    if (!parse_ms(tally_bytes(text.data, size), &definition->window_ms)) return false;
    return !slash || parse_ms(tally_bytes(slash + 1, text.size - size - 1), &definition->pane_ms);
}

static bool parse_source(struct tally_bytes text, struct tally_definition *definition)
{
    if (!tally_name_valid(text)) return false;
    memcpy(definition->source, text.data, text.size);
    definition->source_bytes = (uint32_t)text.size;
    return true;
}

// NAME=VALUE. Null, or what is wrong.
static const char *parse_option(struct tally_bytes word, struct tally_definition *d)
{
    const uint8_t *equals = memchr(word.data, '=', word.size);
    if (!equals) return "expected NAME=VALUE";
    struct tally_bytes name = tally_bytes(word.data, (size_t)(equals - word.data));
    struct tally_bytes value = tally_bytes(equals + 1, word.size - name.size - 1);
#define IS(text) tally_bytes_equal(name, tally_bytes(text, strlen(text)))
    if (IS("ttl")) return parse_ms(value, &d->ttl_ms) ? NULL : "expected a time such as 500ms, 30s, 10m, 1h, 7d";
    if (IS("max-keys")) return parse_number(value, &d->max_keys) ? NULL : "expected a number";
    if (IS("window")) return parse_window(value, d) ? NULL : "expected LENGTH or LENGTH/PANE, such as 1h or 1h/1m";
    if (IS("k")) return parse_narrow(value, &d->k) ? NULL : "expected a number";
    if (IS("capacity")) return parse_narrow(value, &d->capacity) ? NULL : "expected a number";
    if (IS("precision")) return parse_narrow(value, &d->precision) ? NULL : "expected a number";
    if (IS("of")) return parse_source(value, d) ? NULL : "expected a table's name";
#undef IS
    return "no option of a table: ttl, max-keys, window, k, capacity, precision, of";
}

enum tally_status tally_definition_parse(const char *text, struct tally_bytes *out_table,
                                         struct tally_definition *out_definition, bool *out_defined,
                                         struct tally_bytes *out_word, const char **out_why)
{
    struct words words = {text};
    struct tally_bytes table, word;
    struct tally_definition definition = {0};
    *out_word = (struct tally_bytes){0};
    *out_why = NULL;
    if (!next_word(&words, &table) || !tally_name_valid(table)) {
        *out_word = table;
        *out_why = "expected a name of 1 to 64 of a-z 0-9 _ . -";
        return TALLY_INVALID;
    }
    bool defined = next_word(&words, &word);
    if (defined && !(definition.kind = tally_kind_of(word))) {
        *out_word = word;
        *out_why = "expected counter, gauge, min, max, distinct or topk";
        return TALLY_INVALID;
    }
    while (defined && next_word(&words, &word)) {
        if ((*out_why = parse_option(word, &definition))) {
            *out_word = word;
            return TALLY_INVALID;
        }
    }
    enum tally_status status = tally_definition_complete(&definition, table, out_why);
    if (status) return status;
    *out_table = table;
    *out_definition = definition;
    *out_defined = defined;
    return TALLY_OK;
}
