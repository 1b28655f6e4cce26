// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <io/json.h>
#include <io/log.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define VALUE_BYTES_MAX 1024u
#define TAIL_BYTES      16u // kept free for the end of the line

static enum tally_log_level log_level_min = TALLY_LOG_INFO;
static enum tally_log_format log_format = TALLY_LOG_LOGFMT;

void tally_log_configure(enum tally_log_level level_min, enum tally_log_format format)
{
    log_level_min = level_min;
    log_format = format;
}

bool tally_log_enabled(enum tally_log_level level) { return level >= log_level_min; }

static struct tally_bytes text(const char *string) { return tally_bytes(string, strlen(string)); }

static bool plain(struct tally_bytes value)
{
    if (value.size == 0) return false;
    for (size_t i = 0; i < value.size; i++) {
        uint8_t c = value.data[i];
        if (c <= 0x20 || c >= 0x7f || c == '"' || c == '=' || c == '\\') return false;
    }
    return true;
}

static void write_text(struct tally_writer *out, struct tally_bytes value)
{
    if (value.size > VALUE_BYTES_MAX) value.size = VALUE_BYTES_MAX;
    bool quoted = log_format == TALLY_LOG_JSON || !plain(value);
    if (quoted) tally_write_raw(out, "\"", 1);
    tally_json_escape(out, value);
    if (quoted) tally_write_raw(out, "\"", 1);
}

static void write_field(struct tally_writer *out, const struct tally_log_field *field)
{
    char number[24];
    const char *before = log_format == TALLY_LOG_JSON ? ",\"" : " ",
               *after = log_format == TALLY_LOG_JSON ? "\":" : "=";
    tally_write_raw(out, before, strlen(before));
    tally_write_raw(out, field->name, strlen(field->name));
    tally_write_raw(out, after, strlen(after));
    switch (field->type) {
    case TALLY_LOG_UNSIGNED: (void)snprintf(number, sizeof number, "%" PRIu64, field->number); break;
    case TALLY_LOG_SIGNED: (void)snprintf(number, sizeof number, "%" PRId64, (int64_t)field->number); break;
    case TALLY_LOG_HEX64:
        (void)snprintf(number, sizeof number, "%016" PRIx64, field->number);
        write_text(out, text(number));
        return;
    default: write_text(out, field->text); return;
    }
    tally_write_raw(out, number, strlen(number));
}

void tally_log_write(enum tally_log_level level, const char *event, const struct tally_log_field *fields)
{
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    if (!tally_log_enabled(level)) return;
    struct timespec now;
    char when[TALLY_TIME_BYTES], line[TALLY_LOG_BYTES_MAX], head[96];
    (void)clock_gettime(CLOCK_REALTIME, &now);
    tally_time_format((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000, when);

    struct tally_writer out = tally_writer_fixed(line, sizeof line - TAIL_BYTES);
    (void)snprintf(head, sizeof head,
                   log_format == TALLY_LOG_JSON ? "{\"time\":\"%s\",\"level\":\"%s\"" : "time=%s level=%s", when,
                   levels[level]);
    tally_write_raw(&out, head, strlen(head));
    struct tally_log_field named = {.name = "event", .type = TALLY_LOG_TEXT, .text = text(event)};
    write_field(&out, &named);
    for (; fields->type != TALLY_LOG_END; fields++) {
        size_t before = out.size;
        write_field(&out, fields);
        if (!out.failed) continue;
        out.size = before; // a field that does not fit is left out whole, so that the line still parses
        out.failed = false;
    }
    out.capacity = sizeof line;
    const char *end = log_format == TALLY_LOG_JSON ? "}\n" : "\n";
    tally_write_raw(&out, end, strlen(end));
    // One write a line. Nobody can be told that stderr is gone.
    ssize_t written = write(STDERR_FILENO, line, out.size);
    (void)written;
}
