// SPDX-License-Identifier: Apache-2.0
//
// StatsD's protocol, with DogStatsD's tags and packed values: bytes in, counts out. docs/statsd.md says what becomes of which metric; this is how it is
// read:
//
//   packet = line { "\n" line }
//   line   = name ":" group { ":" group } [ "|#" tag { "," tag } ] { "|" whatever }        an empty line is nothing
//   group  = value { ":" value } "|" type [ "|@" rate ] { "|" whatever }                   of a set: one value, colons included
//   value  = [ "+" | "-" ] digits [ "." digits ] [ "e" [ "+" | "-" ] digits ]
//
// Numbers are decimal and reckoned as such, never in floating point: value / rate is rounded to the nearest integer, halves away from 0. So
// what is counted depends on the bytes alone.
//
// Whatever is not counted is counted by reason. Threads: an object belongs to one thread. No I/O, no allocation. Cost: one pass over the line, a sort of
// its tags.
#ifndef TALLYCAST_STATSD_H
#define TALLYCAST_STATSD_H

#include <sums/sums.h>
#include <tallycast/limits.h>

// Why something was not counted: a line, or a value of it.
#define TALLY_STATSD_REASON_LIST(X)                                                                                    \
    X(FORM, "form")                 /* no name:value|type */                                                           \
    X(NAME, "name")                 /* empty, or with its tags over TALLY_KEY_BYTES_MAX */                             \
    X(VALUE, "value")               /* no number, or one that is too large */                                          \
    X(NEGATIVE, "negative")         /* a counter or timer below 0 */                                                   \
    X(TYPE, "type")                 /* none of c, g, s, ms, h */                                                       \
    X(RATE, "rate")                 /* not above 0 and up to 1 */                                                      \
    X(TAGS, "tags")                 /* more than TALLY_STATSD_TAGS_MAX */                                              \
    X(LINE, "line")                 /* over TALLY_STATSD_LINE_BYTES_MAX */                                             \
    X(DISTRIBUTION, "distribution") /* type d: not kept here */                                                        \
    X(EVENT, "event")               /* _e: not kept here */                                                            \
    X(CHECK, "service_check")       /* _sc: not kept here */                                                           \
    X(FULL, "full")                 /* whoever takes it had no room */                                                 \
    X(REFUSED, "refused")           /* its table is not taken */

enum tally_statsd_reason {
#define X(name, text) TALLY_STATSD_##name,
    TALLY_STATSD_REASON_LIST(X)
#undef X
        TALLY_STATSD_REASONS
};

const char *tally_statsd_reason_str(enum tally_statsd_reason reason);

// ---------------------------------------------------------------------------------------------------- rules

// The tables of one kind of metrics.
enum tally_statsd_table {
    TALLY_STATSD_COUNTERS,                             // TABLE
    TALLY_STATSD_GAUGES,                               // TABLE.gauges
    TALLY_STATSD_SETS,                                 // TABLE.sets
    TALLY_STATSD_TIMERS,                               // TABLE.timers.count, .sum_us, .min_us, .max_us
    TALLY_STATSD_HISTOGRAMS = TALLY_STATSD_TIMERS + 4, // TABLE.histograms.count, .sum, .min, .max
    TALLY_STATSD_TABLES = TALLY_STATSD_HISTOGRAMS + 4
};

// Names that begin with the prefix go to these tables, without it.
struct tally_statsd_rule {
    struct tally_bytes prefix; // borrowed
    struct {
        uint8_t size;
        char name[TALLY_NAME_BYTES_MAX];
    } tables[TALLY_STATSD_TABLES];
};

struct tally_statsd_rules {
    struct tally_statsd_rule rules[TALLY_STATSD_RULES_MAX + 1]; // the last: no prefix
    unsigned count;
    bool tags_dropped; // else they are part of the key
};

// No rules: everything goes to the tables statsd, statsd.gauges ...
void tally_statsd_rules_init(struct tally_statsd_rules *rules);
// "PREFIX=TABLE"; of several that fit a name the longest prefix holds; an empty one is for all others. Null, or what is wrong.
const char *tally_statsd_rules_add(struct tally_statsd_rules *rules, const char *text);

// ---------------------------------------------------------------------------------------------------- lines

struct tally_statsd {
    const struct tally_statsd_rules *rules;
    // Where counts go: borrowed for the call. TALLY_FULL, TALLY_BUSY and TALLY_NO_MEMORY: no room (FULL); any
    // other but TALLY_OK: its table is not taken (REFUSED).
    enum tally_status (*take)(void *ctx, const struct tally_sum *sum);
    void *ctx;
    uint64_t lines, values; // seen; counted
    uint64_t skipped[TALLY_STATSD_REASONS];
    // Of the line at hand.
    uint8_t key[TALLY_KEY_BYTES_MAX];
    struct tally_bytes tags[TALLY_STATSD_TAGS_MAX];
};

void tally_statsd_packet(struct tally_statsd *statsd, struct tally_bytes packet);
// Without its newline.
void tally_statsd_line(struct tally_statsd *statsd, struct tally_bytes line);

// ---------------------------------------------------------------------------------------------------- numbers

// mantissa * 10^-scale; at most 18 digits, further ones behind the point are cut off.
struct tally_decimal {
    bool negative, sign; // sign: one is written
    uint64_t mantissa;
    int scale;
};

// False: no number, or more than 18 digits before the point.
bool tally_decimal_parse(struct tally_bytes text, struct tally_decimal *out_decimal);
// |value| * unit / rate, rounded to the nearest, halves up. `unit` is 1 to 1000, rate not 0. False: over `max`.
bool tally_decimal_scale(const struct tally_decimal *value, unsigned unit, const struct tally_decimal *rate,
                         int64_t max, int64_t *out_number);

#endif
