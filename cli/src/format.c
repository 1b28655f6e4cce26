// SPDX-License-Identifier: Apache-2.0
#include "format.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sums/sums_batch.h>

bool cli_format_of(const char *name, enum cli_format_kind *out_kind)
{
    static const char *const names[] = {"lines", "common", "combined", "json", "tsv"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *out_kind = (enum cli_format_kind)i;
        return true;
    }
    return false;
}

// ---------------------------------------------------------------------------------------------------- access logs

enum log_field {
    HOST,
    IDENT,
    USER,
    TIME,
    METHOD,
    TARGET,
    PATH,
    QUERY,
    PROTOCOL,
    STATUS,
    BYTES,
    REFERER,
    AGENT,
    LOG_FIELDS
};

static const char *const log_names[LOG_FIELDS] = {"host",  "ident",    "user",   "time",  "method",  "target", "path",
                                                  "query", "protocol", "status", "bytes", "referer", "agent"};

static bool text_is(struct tally_bytes text, const char *word)
{
    return tally_bytes_equal(text, tally_bytes(word, strlen(word)));
}

static enum log_field log_field(struct tally_bytes name)
{
    unsigned i = 0;
    while (i < LOG_FIELDS && !text_is(name, log_names[i])) i++;
    return (enum log_field)i;
}

struct text {
    uint8_t *at, *end;
};

static int hex(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

// Up to the byte, which is passed over. False: it is not there.
static bool upto(struct text *text, uint8_t byte, struct tally_bytes *out_field)
{
    uint8_t *found = text->at < text->end ? memchr(text->at, byte, (size_t)(text->end - text->at)) : NULL;
    if (!found) return false;
    *out_field = tally_bytes(text->at, (size_t)(found - text->at));
    text->at = found + 1;
    return true;
}

// A quoted field, its escapes (\" \\ \xHH \t \n) undone in place; what follows must be a blank or the end.
static bool quoted(struct text *text, struct tally_bytes *out_field)
{
    if (text->at == text->end || *text->at != '"') return false;
    uint8_t *from = text->at + 1, *to = from, *start = from;
    for (; from < text->end && *from != '"'; from++) {
        if (*from != '\\' || from + 1 == text->end) {
            *to++ = *from;
        } else if (*++from == 'x' && text->end - from > 2 && hex(from[1]) >= 0 && hex(from[2]) >= 0) {
            *to++ = (uint8_t)(hex(from[1]) << 4 | hex(from[2]));
            from += 2;
        } else {
            *to++ = *from == 't' ? '\t' : *from == 'n' ? '\n' : *from;
        }
    }
    if (from == text->end || (from + 1 < text->end && from[1] != ' ')) return false;
    *out_field = tally_bytes(start, (size_t)(to - start));
    text->at = from + 1 < text->end ? from + 2 : from + 1;
    return true;
}

// "METHOD TARGET PROTOCOL"; anything else leaves them out.
static void split_request(struct tally_bytes request, struct tally_bytes fields[LOG_FIELDS])
{
    const uint8_t *end = request.data + request.size, *first = memchr(request.data, ' ', request.size), *last = end;
    while (last > request.data && last[-1] != ' ') last--;
    if (!first || last <= first + 1 || last == end || end - last < 5 || memcmp(last, "HTTP/", 5) != 0) return;
    fields[METHOD] = tally_bytes(request.data, (size_t)(first - request.data));
    struct tally_bytes target = fields[TARGET] = tally_bytes(first + 1, (size_t)(last - 1 - (first + 1)));
    fields[PROTOCOL] = tally_bytes(last, (size_t)(end - last));
    if (!target.size) return;
    const uint8_t *mark = memchr(target.data, '?', target.size);
    fields[PATH] = tally_bytes(target.data, mark ? (size_t)(mark - target.data) : target.size);
    if (mark) fields[QUERY] = tally_bytes(mark + 1, (size_t)(target.data + target.size - mark - 1));
}

static const char *split_log(const struct cli_format *format, uint8_t *line, size_t size,
                             struct tally_bytes fields[LOG_FIELDS])
{
    struct text text = {line, line + size};
    struct tally_bytes request;
    if (!upto(&text, ' ', &fields[HOST]) || !upto(&text, ' ', &fields[IDENT]))
        return "no host, ident and user in front";
    // A user may hold blanks.
    uint8_t *bracket = text.at < text.end ? memmem(text.at, (size_t)(text.end - text.at), " [", 2) : NULL;
    if (!bracket) return "no [time]";
    fields[USER] = tally_bytes(text.at, (size_t)(bracket - text.at));
    text.at = bracket + 2;
    if (!upto(&text, ']', &fields[TIME]) || text.at == text.end || *text.at++ != ' ') return "no [time]";
    if (!quoted(&text, &request)) return "no \"request\" behind the time";
    split_request(request, fields);
    if (!upto(&text, ' ', &fields[STATUS])) return "no status and bytes behind the request";
    if (!upto(&text, ' ', &fields[BYTES])) {
        fields[BYTES] = tally_bytes(text.at, (size_t)(text.end - text.at));
        text.at = text.end;
    }
    if (fields[STATUS].size != 3 || !fields[BYTES].size)
        return "no status of three digits and bytes behind the request";
    for (size_t i = 0; i < 3; i++)
        if (fields[STATUS].data[i] < '0' || fields[STATUS].data[i] > '9') return "the status is no number";
    if (format->kind != CLI_FORMAT_COMBINED) return NULL;
    if (!quoted(&text, &fields[REFERER]) || !quoted(&text, &fields[AGENT]))
        return "no \"referer\" and \"agent\" at the end";
    return NULL;
}

// ---------------------------------------------------------------------------------------------------- a line's fields

struct line {
    const struct cli_format *format;
    struct tally_bytes fields[CLI_FORMAT_FIELDS_MAX]; // of a log: LOG_FIELDS; of tsv: by number, from 0
    unsigned count;
    json_t *root;
    char number[32];
};

// A member, or one of an object in it.
static const json_t *member(const json_t *root, struct tally_bytes name)
{
    char key[256];
    if (name.size >= sizeof key) return NULL;
    memcpy(key, name.data, name.size);
    key[name.size] = '\0';
    const json_t *found = json_object_get(root, key);
    char *dot = strchr(key, '.');
    if (found || !dot) return found;
    *dot = '\0';
    found = json_object_get(root, key);
    size_t used = (size_t)(dot + 1 - key);
    return json_is_object(found) ? member(found, tally_bytes(name.data + used, name.size - used)) : NULL;
}

// False: the line does not have it.
static bool field(struct line *line, struct tally_bytes name, struct tally_bytes *out_value)
{
    if (line->format->kind == CLI_FORMAT_JSON) {
        const json_t *value = member(line->root, name);
        if (json_is_string(value)) {
            *out_value = tally_bytes(json_string_value(value), json_string_length(value));
        } else if (json_is_integer(value)) {
            int size = snprintf(line->number, sizeof line->number, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
            *out_value = tally_bytes(line->number, (size_t)size);
        } else if (json_is_boolean(value)) {
            *out_value = json_is_true(value) ? tally_bytes("true", 4) : tally_bytes("false", 5);
        } else {
            return false;
        }
        return true;
    }
    unsigned number = 0;
    if (line->format->kind == CLI_FORMAT_TSV) {
        for (size_t i = 0; i < name.size; i++) number = number * 10 + (unsigned)(name.data[i] - '0');
        if (number-- > line->count) return false;
    } else {
        number = log_field(name);
        if (text_is(line->fields[number], "-")) return false;
    }
    *out_value = line->fields[number];
    return out_value->size > 0;
}

// The key that a template says. *out_has: all fields are there.
static const char *make_key(struct line *line, const struct cli_format_rule *rule, uint8_t room[TALLY_KEY_BYTES_MAX],
                            struct tally_bytes *out_key, bool *out_has)
{
    size_t size = 0;
    *out_has = false;
    for (size_t at = 0; at < rule->key.size;) {
        struct tally_bytes part = tally_bytes(rule->key.data + at, 1);
        if (*part.data == '{') {
            const uint8_t *close = memchr(part.data, '}', rule->key.size - at);
            struct tally_bytes name = tally_bytes(part.data + 1, (size_t)(close - part.data) - 1);
            if (!field(line, name, &part)) return NULL;
            at += name.size + 2;
        } else {
            at++;
        }
        if (part.size > TALLY_KEY_BYTES_MAX - size) return "a key is over 1024 bytes";
        memcpy(room + size, part.data, part.size);
        size += part.size;
    }
    *out_key = tally_bytes(room, size);
    *out_has = size > 0;
    return NULL;
}

static const char *apply(struct line *line, const struct cli_format_rule *rule, uint8_t room[TALLY_KEY_BYTES_MAX],
                         struct cli_event *out_event, bool *out_has)
{
    struct tally_bytes amount;
    *out_event = (struct cli_event){.table = rule->table, .amount = 1};
    const char *why = make_key(line, rule, room, &out_event->key, out_has);
    if (why || !*out_has || !rule->amount.size) return why;
    *out_has = field(line, rule->amount, &amount);
    if (!*out_has) return NULL;
    if (line->format->counted_as == TALLY_KIND_DISTINCT) {
        out_event->amount = (int64_t)tally_member(amount);
        return NULL;
    }
    return cli_amount_parse(amount, line->format->counted_as, &out_event->amount);
}

const char *cli_format_parse(struct cli_format *format, uint8_t *text, size_t size, struct cli_event *out_events,
                             unsigned *out_count)
{
    static struct line line; // the command has one thread; it is large
    json_error_t error;
    const char *why = NULL;
    line.format = format;
    line.root = NULL;
    line.count = 0;
    if (size && text[size - 1] == '\r') size--;
    if (format->kind == CLI_FORMAT_JSON) {
        line.root = json_loadb((const char *)text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
        if (!json_is_object(line.root)) why = "it is no JSON object";
    } else if (format->kind == CLI_FORMAT_TSV) {
        struct text left = {text, text + size};
        while (line.count < CLI_FORMAT_FIELDS_MAX - 1 && upto(&left, '\t', &line.fields[line.count])) line.count++;
        line.fields[line.count++] = tally_bytes(left.at, (size_t)(left.end - left.at));
    } else {
        memset(line.fields, 0, LOG_FIELDS * sizeof line.fields[0]);
        why = split_log(format, text, size, line.fields);
    }
    unsigned count = 0;
    for (unsigned i = 0; !why && i < format->rules_count; i++) {
        bool has;
        why = apply(&line, &format->rules[i], format->keys[count], &out_events[count], &has);
        count += has;
    }
    json_decref(line.root);
    if (!why) *out_count = count;
    return why;
}

// ---------------------------------------------------------------------------------------------------- rules

static bool field_known(const struct cli_format *format, struct tally_bytes name)
{
    if (!name.size) return false;
    if (format->kind == CLI_FORMAT_JSON) return true;
    if (format->kind == CLI_FORMAT_TSV) {
        for (size_t i = 0; i < name.size; i++)
            if (name.data[i] < '0' || name.data[i] > '9') return false;
        return name.size <= 3 && name.data[0] != '0';
    }
    enum log_field found = log_field(name);
    return found < (format->kind == CLI_FORMAT_COMBINED ? LOG_FIELDS : REFERER);
}

static const char *const no_field = "there is no such field in this format";

const char *cli_format_rule(struct cli_format *format, const char *text)
{
    const char *equals = strchr(text, '=');
    if (!equals) return "expected TABLE=KEY[+FIELD]";
    if (format->rules_count == CLI_FORMAT_RULES_MAX) return "too many rules";
    struct cli_format_rule *rule = &format->rules[format->rules_count];
    const char *key = equals + 1, *plus = strrchr(key, '+');
    *rule = (struct cli_format_rule){.table = tally_bytes(text, (size_t)(equals - text)),
                                     .key = tally_bytes(key, plus ? (size_t)(plus - key) : strlen(key))};
    if (!tally_name_valid(rule->table)) return "the table's name is not 1 to 64 of a-z 0-9 _ . -";
    bool wants = format->counted_as != TALLY_KIND_COUNTER && format->counted_as != TALLY_KIND_TOPK;
    if (wants && !plus) return "of this --kind it wants +FIELD";
    if (plus) rule->amount = tally_bytes(plus + 1, strlen(plus + 1));
    if (plus && !field_known(format, rule->amount)) return no_field;
    if (!memchr(key, '{', rule->key.size)) {
        // A field alone is a template of one: the braces are put around it.
        static char room[CLI_FORMAT_RULES_MAX][260];
        if (!field_known(format, rule->key) || rule->key.size > 255) return no_field;
        char *braced = room[format->rules_count];
        int size = snprintf(braced, sizeof room[0], "{%.*s}", (int)rule->key.size, key);
        rule->key = tally_bytes(braced, (size_t)size);
    }
    for (size_t at = 0; at < rule->key.size; at++) {
        if (rule->key.data[at] != '{') continue;
        const uint8_t *open = rule->key.data + at, *close = memchr(open, '}', rule->key.size - at);
        if (!close) return "a { is not closed";
        if (!field_known(format, tally_bytes(open + 1, (size_t)(close - open) - 1))) return no_field;
        at = (size_t)(close - rule->key.data);
    }
    format->rules_count++;
    return NULL;
}

const char *cli_format_default(struct cli_format *format)
{
    static const char *const rules[] = {"paths=path", "statuses=status", "hosts=host"};
    if (format->kind == CLI_FORMAT_JSON || format->kind == CLI_FORMAT_TSV)
        return "--format json and tsv want a --count TABLE=KEY";
    const char *why = NULL;
    for (unsigned i = 0; i < 3 && !why; i++) why = cli_format_rule(format, rules[i]);
    return why;
}
