// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <io/json.h>
#include <stdio.h>
#include <time.h>

static void put(struct tally_json *json, const char *text) { tally_write_raw(json->out, text, strlen(text)); }

static void lead(struct tally_json *json, const char *name)
{
    if (json->comma) put(json, ",");
    json->comma = true;
    if (!name) return;
    put(json, "\"");
    tally_json_escape(json->out, tally_bytes(name, strlen(name)));
    put(json, "\":");
}

void tally_json_escape(struct tally_writer *out, struct tally_bytes value)
{
    if (value.size == 0) return; // its data may be null
    size_t plain = 0, at = 0;    // value[plain .. at): taken over as it is
    while (at < value.size) {
        uint8_t c = value.data[at];
        unsigned size = c < 0x80 ? 1 : tally_utf8_size(tally_bytes(value.data + at, value.size - at));
        if (size && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            at += size;
            continue;
        }
        tally_write_raw(out, value.data + plain, at - plain);
        char text[8];
        if (!size)
            (void)snprintf(text, sizeof text, "\xef\xbf\xbd");
        else if (c == '"' || c == '\\')
            (void)snprintf(text, sizeof text, "\\%c", c);
        else if (c == '\n')
            (void)snprintf(text, sizeof text, "\\n");
        else if (c == '\t')
            (void)snprintf(text, sizeof text, "\\t");
        else
            (void)snprintf(text, sizeof text, "\\u%04x", c);
        tally_write_raw(out, text, strlen(text));
        plain = ++at;
    }
    tally_write_raw(out, value.data + plain, at - plain);
}

void tally_json_object_begin(struct tally_json *json, const char *name)
{
    lead(json, name);
    put(json, "{");
    json->comma = false;
}

void tally_json_object_end(struct tally_json *json)
{
    put(json, "}");
    json->comma = true;
}

void tally_json_array_begin(struct tally_json *json, const char *name)
{
    lead(json, name);
    put(json, "[");
    json->comma = false;
}

void tally_json_array_end(struct tally_json *json)
{
    put(json, "]");
    json->comma = true;
}

void tally_json_bytes(struct tally_json *json, const char *name, struct tally_bytes value)
{
    lead(json, name);
    put(json, "\"");
    tally_json_escape(json->out, value);
    put(json, "\"");
}

void tally_json_str(struct tally_json *json, const char *name, const char *value)
{
    tally_json_bytes(json, name, tally_bytes(value, strlen(value)));
}

void tally_json_u64(struct tally_json *json, const char *name, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    lead(json, name);
    put(json, text);
}

void tally_json_i64(struct tally_json *json, const char *name, int64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRId64, value);
    lead(json, name);
    put(json, text);
}

void tally_json_hex64(struct tally_json *json, const char *name, uint64_t value)
{
    char text[24];
    (void)snprintf(text, sizeof text, "\"%016" PRIx64 "\"", value);
    lead(json, name);
    put(json, text);
}

void tally_json_bool(struct tally_json *json, const char *name, bool value)
{
    lead(json, name);
    put(json, value ? "true" : "false");
}

void tally_json_null(struct tally_json *json, const char *name)
{
    lead(json, name);
    put(json, "null");
}

void tally_json_base64(struct tally_json *json, const char *name, struct tally_bytes value)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    lead(json, name);
    put(json, "\"");
    for (size_t at = 0; at < value.size; at += 3) {
        size_t left = value.size - at;
        uint32_t three = (uint32_t)value.data[at] << 16;
        if (left > 1) three |= (uint32_t)value.data[at + 1] << 8;
        if (left > 2) three |= value.data[at + 2];
        char text[4] = {digits[three >> 18], digits[three >> 12 & 63], left > 1 ? digits[three >> 6 & 63] : '=',
                        left > 2 ? digits[three & 63] : '='};
        tally_write_raw(json->out, text, sizeof text);
    }
    put(json, "\"");
}

void tally_time_format(uint64_t unix_ms, char out_text[TALLY_TIME_BYTES])
{
    const uint64_t year_9999_ms = 253402300799999u;
    if (unix_ms > year_9999_ms) unix_ms = year_9999_ms;
    time_t seconds = (time_t)(unix_ms / 1000);
    struct tm tm;
    char text[64];
    (void)gmtime_r(&seconds, &tm);
    (void)snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", tm.tm_year + 1900, tm.tm_mon + 1,
                   tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned)(unix_ms % 1000));
    memcpy(out_text, text, TALLY_TIME_BYTES);
    out_text[TALLY_TIME_BYTES - 1] = '\0';
}

void tally_json_time(struct tally_json *json, const char *name, uint64_t unix_ms)
{
    char text[TALLY_TIME_BYTES];
    tally_time_format(unix_ms, text);
    tally_json_str(json, name, text);
}
