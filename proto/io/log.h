// SPDX-License-Identifier: Apache-2.0
//
// Log lines: one line an event, to stderr, as logfmt or JSON.
//
//   time=2026-11-22T19:00:00.000Z level=info event=listening endpoint=http url=http://127.0.0.1:8090
//
//   tally_info("listening", tally_log_str("endpoint", "http"), tally_log_str("url", url));
//
// Threads: any; a line is one write(2), so lines do not mix. A line is cut at TALLY_LOG_BYTES_MAX. Values are
// escaped: no value can begin a new line. Bytes that are no UTF-8 become U+FFFD. Never blocks on a lock; may
// block on stderr.
#ifndef TALLYCAST_IO_LOG_H
#define TALLYCAST_IO_LOG_H

#include <tallycast/bytes.h>
#include <tallycast/status.h>

#define TALLY_LOG_BYTES_MAX 4096u

enum tally_log_level { TALLY_LOG_DEBUG, TALLY_LOG_INFO, TALLY_LOG_WARN, TALLY_LOG_ERROR };
enum tally_log_format { TALLY_LOG_LOGFMT, TALLY_LOG_JSON };

// Before other threads start. Without it: info, logfmt.
void tally_log_configure(enum tally_log_level level_min, enum tally_log_format format);
bool tally_log_enabled(enum tally_log_level level);

enum tally_log_type { TALLY_LOG_END, TALLY_LOG_TEXT, TALLY_LOG_UNSIGNED, TALLY_LOG_SIGNED, TALLY_LOG_HEX64 };

struct tally_log_field {
    const char *name; // [a-z0-9_]+
    enum tally_log_type type;
    struct tally_bytes text;
    uint64_t number;
};

static inline struct tally_log_field tally_log_bytes(const char *name, struct tally_bytes value)
{
    return (struct tally_log_field){.name = name, .type = TALLY_LOG_TEXT, .text = value};
}

static inline struct tally_log_field tally_log_str(const char *name, const char *value)
{
    return tally_log_bytes(name, value ? tally_bytes(value, strlen(value)) : tally_bytes("", 0));
}

static inline struct tally_log_field tally_log_u64(const char *name, uint64_t value)
{
    return (struct tally_log_field){.name = name, .type = TALLY_LOG_UNSIGNED, .number = value};
}

static inline struct tally_log_field tally_log_i64(const char *name, int64_t value)
{
    return (struct tally_log_field){.name = name, .type = TALLY_LOG_SIGNED, .number = (uint64_t)value};
}

// 16 hexadecimal digits: epochs, producers.
static inline struct tally_log_field tally_log_hex(const char *name, uint64_t value)
{
    return (struct tally_log_field){.name = name, .type = TALLY_LOG_HEX64, .number = value};
}

static inline struct tally_log_field tally_log_status(enum tally_status status)
{
    return tally_log_str("status", tally_status_str(status));
}

// `fields` ends with one whose type is TALLY_LOG_END.
void tally_log_write(enum tally_log_level level, const char *event, const struct tally_log_field *fields);

#define tally_log(level, event, ...)                                                                                   \
    do {                                                                                                               \
        if (tally_log_enabled(level))                                                                                  \
            tally_log_write((level), (event),                                                                          \
                            (const struct tally_log_field[]){__VA_ARGS__ __VA_OPT__(, ){.type = TALLY_LOG_END}});      \
    } while (0)

#define tally_debug(event, ...) tally_log(TALLY_LOG_DEBUG, event __VA_OPT__(, ) __VA_ARGS__)
#define tally_info(event, ...)  tally_log(TALLY_LOG_INFO, event __VA_OPT__(, ) __VA_ARGS__)
#define tally_warn(event, ...)  tally_log(TALLY_LOG_WARN, event __VA_OPT__(, ) __VA_ARGS__)
#define tally_error(event, ...) tally_log(TALLY_LOG_ERROR, event __VA_OPT__(, ) __VA_ARGS__)

#endif
