// SPDX-License-Identifier: Apache-2.0
#include "define.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define TEXT_BYTES_MAX 1024u

// The definition in the words of the setting, as it is put together.
struct text {
    char bytes[TEXT_BYTES_MAX];
    size_t size;
};

__attribute__((format(printf, 2, 3))) static bool append(struct text *text, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text->bytes + text->size, sizeof text->bytes - text->size, format, arguments);
    va_end(arguments);
    if (size < 0 || (size_t)size >= sizeof text->bytes - text->size) return false;
    text->size += (size_t)size;
    return true;
}

// One member of the object. Null, or what is wrong with it.
static const char *append_option(struct text *text, const char *name, const json_t *value)
{
    const char *word = json_string_value(value);
    if (!name[0] || strpbrk(name, " \t=")) return "no option of a table";
    if (json_is_integer(value)) {
        const char *unit = strcmp(name, "ttl") == 0 ? "ms" : "";
        return append(text, " %s=%lld%s", name, (long long)json_integer_value(value), unit) ? NULL : "too long";
    }
    if (!word) return "expected a text or an integer";
    if (!word[0] || strpbrk(word, " \t")) return "expected one word";
    return append(text, " %s=%s", name, word) ? NULL : "too long";
}

static enum tally_status refuse(struct tally_reason *out_reason, const char *name, const char *why)
{
    tally_reason_set(out_reason, name[0] ? "\"%.64s\": %s" : "%s%s", name, why);
    return TALLY_INVALID;
}

static enum tally_status parse(const char *table, json_t *object, struct tally_definition *out_definition,
                               struct tally_reason *out_reason)
{
    struct text text = {.size = 0};
    struct tally_bytes name, word;
    const char *why, *key, *kind = json_string_value(json_object_get(object, "kind"));
    json_t *value;
    bool defined;
    if (!kind || !kind[0] || strpbrk(kind, " \t"))
        return refuse(out_reason, "kind", "expected counter, gauge, min, max, distinct or topk");
    if (!append(&text, "%s %s", table, kind)) return refuse(out_reason, "kind", "too long");
    json_object_foreach(object, key, value)
    {
        if (strcmp(key, "kind") == 0) continue;
        if ((why = append_option(&text, key, value))) return refuse(out_reason, key, why);
    }
    if (tally_definition_parse(text.bytes, &name, out_definition, &defined, &word, &why) == TALLY_OK) return TALLY_OK;
    if (word.size)
        tally_reason_set(out_reason, "%.*s: %s", (int)word.size, (const char *)word.data, why);
    else
        tally_reason_set(out_reason, "%s", why);
    return TALLY_INVALID;
}

enum tally_status define_parse(const char *table, struct tally_bytes json, struct tally_definition *out_definition,
                               struct tally_reason *out_reason)
{
    json_error_t error;
    json_t *object = json_loadb((const char *)json.data, json.size, JSON_REJECT_DUPLICATES, &error);
    if (!object) {
        tally_reason_set(out_reason, "the body is no JSON: line %d: %s", error.line, error.text);
        return TALLY_INVALID;
    }
    enum tally_status status = json_is_object(object) ? parse(table, object, out_definition, out_reason)
                                                      : refuse(out_reason, "", "the body is no JSON object");
    json_decref(object);
    return status;
}
