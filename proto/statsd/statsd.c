// SPDX-License-Identifier: Apache-2.0
#include <statsd/statsd.h>
#include <string.h>
#include <sums/sums_batch.h>

const char *tally_statsd_reason_str(enum tally_statsd_reason reason)
{
    static const char *const texts[] = {
#define X(name, text) text,
        TALLY_STATSD_REASON_LIST(X)
#undef X
    };
    return texts[reason];
}

// What is left of a line, from the front.
struct cursor {
    const uint8_t *at, *end;
};

static size_t left(const struct cursor *cursor) { return (size_t)(cursor->end - cursor->at); }

// Up to the first of either byte, which stays, or to the end.
static struct tally_bytes until(struct cursor *cursor, uint8_t one, uint8_t other)
{
    const uint8_t *start = cursor->at;
    while (cursor->at < cursor->end && *cursor->at != one && *cursor->at != other) cursor->at++;
    return tally_bytes(start, (size_t)(cursor->at - start));
}

static bool next_is(struct cursor *cursor, uint8_t byte)
{
    if (cursor->at == cursor->end || *cursor->at != byte) return false;
    cursor->at++;
    return true;
}

static void skip(struct tally_statsd *statsd, enum tally_statsd_reason reason) { statsd->skipped[reason]++; }

// ---------------------------------------------------------------------------------------------------- the key

static const struct tally_statsd_rule *rule_of(const struct tally_statsd *statsd, struct tally_bytes name)
{
    const struct tally_statsd_rule *rule = statsd->rules->rules;
    while (rule->prefix.size &&
           (rule->prefix.size > name.size || memcmp(rule->prefix.data, name.data, rule->prefix.size) != 0))
        rule++;
    return rule;
}

static int compare(struct tally_bytes a, struct tally_bytes b)
{
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

// Splits the tags and sorts them, each once. False: too many.
static bool sort_tags(struct tally_statsd *statsd, struct tally_bytes text, unsigned *out_count)
{
    struct cursor cursor = {text.data, text.data + text.size};
    unsigned count = 0;
    while (left(&cursor)) {
        struct tally_bytes tag = until(&cursor, ',', ',');
        (void)next_is(&cursor, ',');
        if (!tag.size) continue;
        unsigned at = count;
        while (at > 0 && compare(statsd->tags[at - 1], tag) > 0) at--;
        if (at > 0 && compare(statsd->tags[at - 1], tag) == 0) continue;
        if (count == TALLY_STATSD_TAGS_MAX) return false;
        memmove(&statsd->tags[at + 1], &statsd->tags[at], (count++ - at) * sizeof *statsd->tags);
        statsd->tags[at] = tag;
    }
    *out_count = count;
    return true;
}

// NAME;TAG=VALUE;TAG=VALUE, tags in order of their bytes. TALLY_STATSD_REASONS: it is there.
static enum tally_statsd_reason make_key(struct tally_statsd *statsd, struct tally_bytes name, struct tally_bytes tags,
                                         struct tally_bytes *out_key)
{
    size_t size = name.size;
    unsigned count = 0;
    if (!size || size > TALLY_KEY_BYTES_MAX) return TALLY_STATSD_NAME;
    *out_key = name;
    if (statsd->rules->tags_dropped || !tags.size) return TALLY_STATSD_REASONS;
    if (!sort_tags(statsd, tags, &count)) return TALLY_STATSD_TAGS;
    memcpy(statsd->key, name.data, size);
    for (unsigned i = 0; i < count; i++) {
        struct tally_bytes tag = statsd->tags[i];
        if (size + 1 + tag.size > TALLY_KEY_BYTES_MAX) return TALLY_STATSD_NAME;
        statsd->key[size++] = ';';
        bool named = false;
        for (size_t j = 0; j < tag.size; j++) {
            uint8_t byte = tag.data[j];
            if (byte == ';') byte = '_';
            if (byte == ':' && !named) {
                byte = '=';
                named = true;
            }
            statsd->key[size++] = byte;
        }
    }
    *out_key = tally_bytes(statsd->key, size);
    return TALLY_STATSD_REASONS;
}

// ---------------------------------------------------------------------------------------------------- values

// What all values of a group share.
struct group {
    const struct tally_statsd_rule *rule;
    struct tally_bytes key, type;
    struct tally_decimal rate;
};

static bool is(struct tally_bytes text, const char *word)
{
    return tally_bytes_equal(text, tally_bytes(word, strlen(word)));
}

// TALLY_STATSD_REASONS: it is taken.
static enum tally_statsd_reason put(struct tally_statsd *statsd, const struct group *group, unsigned table,
                                    enum tally_counting counting, int64_t number)
{
    const struct tally_sum sum = {.counting = counting,
                                  .table =
                                      tally_bytes(group->rule->tables[table].name, group->rule->tables[table].size),
                                  .key = group->key,
                                  .number = number};
    enum tally_status status = statsd->take(statsd->ctx, &sum);
    if (!status) return TALLY_STATSD_REASONS;
    bool room = status != TALLY_FULL && status != TALLY_BUSY && status != TALLY_NO_MEMORY;
    return room ? TALLY_STATSD_REFUSED : TALLY_STATSD_FULL;
}

static enum tally_statsd_reason take_counter(struct tally_statsd *statsd, const struct group *group,
                                             const struct tally_decimal *value)
{
    int64_t number;
    if (value->negative && value->mantissa) return TALLY_STATSD_NEGATIVE;
    if (!tally_decimal_scale(value, 1, &group->rate, INT64_MAX, &number)) return TALLY_STATSD_VALUE;
    return put(statsd, group, TALLY_STATSD_COUNTERS, TALLY_COUNTING_ADD, number);
}

static const struct tally_decimal always = {.mantissa = 1};

static enum tally_statsd_reason take_gauge(struct tally_statsd *statsd, const struct group *group,
                                           const struct tally_decimal *value)
{
    int64_t number;
    if (!tally_decimal_scale(value, 1, &always, TALLY_LEVEL_MAX, &number)) return TALLY_STATSD_VALUE;
    enum tally_counting counting = value->sign ? TALLY_COUNTING_ADJUST : TALLY_COUNTING_SET;
    if (value->negative) number = -number;
    return put(statsd, group, TALLY_STATSD_GAUGES, counting, number);
}

static enum tally_statsd_reason take_timer(struct tally_statsd *statsd, const struct group *group,
                                           const struct tally_decimal *value, unsigned tables, unsigned unit)
{
    int64_t count, sum, one;
    if (value->negative && value->mantissa) return TALLY_STATSD_NEGATIVE;
    if (!tally_decimal_scale(value, unit, &always, TALLY_LEVEL_MAX, &one) ||
        !tally_decimal_scale(value, unit, &group->rate, INT64_MAX, &sum) ||
        !tally_decimal_scale(&always, 1, &group->rate, INT64_MAX, &count))
        return TALLY_STATSD_VALUE;
    enum tally_statsd_reason reason = put(statsd, group, tables, TALLY_COUNTING_ADD, count);
    if (reason == TALLY_STATSD_REASONS) reason = put(statsd, group, tables + 1, TALLY_COUNTING_ADD, sum);
    if (reason == TALLY_STATSD_REASONS) reason = put(statsd, group, tables + 2, TALLY_COUNTING_MIN, one);
    if (reason == TALLY_STATSD_REASONS) reason = put(statsd, group, tables + 3, TALLY_COUNTING_MAX, one);
    return reason;
}

static enum tally_statsd_reason take_member(struct tally_statsd *statsd, const struct group *group,
                                            struct tally_bytes member)
{
    if (!member.size) return TALLY_STATSD_VALUE;
    return put(statsd, group, TALLY_STATSD_SETS, TALLY_COUNTING_MEMBER, (int64_t)tally_member(member));
}

static enum tally_statsd_reason take_number(struct tally_statsd *statsd, const struct group *group,
                                            struct tally_bytes text)
{
    struct tally_decimal value;
    if (!tally_decimal_parse(text, &value)) return TALLY_STATSD_VALUE;
    if (is(group->type, "c")) return take_counter(statsd, group, &value);
    if (is(group->type, "g")) return take_gauge(statsd, group, &value);
    if (is(group->type, "ms")) return take_timer(statsd, group, &value, TALLY_STATSD_TIMERS, 1000);
    if (is(group->type, "h")) return take_timer(statsd, group, &value, TALLY_STATSD_HISTOGRAMS, 1);
    return is(group->type, "d") ? TALLY_STATSD_DISTRIBUTION : TALLY_STATSD_TYPE;
}

static void take_values(struct tally_statsd *statsd, const struct group *group, struct tally_bytes values)
{
    struct cursor cursor = {values.data, values.data + values.size};
    bool set = is(group->type, "s");
    do {
        enum tally_statsd_reason reason =
            set ? take_member(statsd, group, values) : take_number(statsd, group, until(&cursor, ':', ':'));
        if (reason == TALLY_STATSD_REASONS)
            statsd->values++;
        else
            skip(statsd, reason);
    } while (!set && next_is(&cursor, ':'));
}

// ---------------------------------------------------------------------------------------------------- lines

static bool parse_rate(struct tally_bytes text, struct tally_decimal *out_rate)
{
    struct tally_decimal rate;
    int64_t billionths;
    if (!tally_decimal_parse(text, &rate) || rate.negative || !rate.mantissa) return false;
    *out_rate = rate;
    rate.scale -= 9;
    return tally_decimal_scale(&rate, 1, &always, 1000000000, &billionths);
}

// The sections behind a type, up to the end or the colon before another group. False: a bad rate.
static bool parse_sections(struct cursor *cursor, struct tally_decimal *rate)
{
    while (next_is(cursor, '|')) {
        if (!next_is(cursor, '@')) {
            (void)until(cursor, '|', '|'); // a container's id, a time: of no use here
        } else if (!parse_rate(until(cursor, '|', ':'), rate)) {
            return false;
        }
    }
    return true;
}

// One group; false: the rest of the line is of no use.
static bool take_group(struct tally_statsd *statsd, struct group *group, struct cursor *cursor)
{
    struct tally_bytes values = until(cursor, '|', '|');
    if (!next_is(cursor, '|')) {
        skip(statsd, TALLY_STATSD_FORM);
        return false;
    }
    group->type = until(cursor, '|', ':');
    struct tally_decimal of_line = group->rate;
    if (!parse_sections(cursor, &group->rate)) {
        skip(statsd, TALLY_STATSD_RATE);
        return false;
    }
    take_values(statsd, group, values);
    group->rate = of_line;
    return next_is(cursor, ':');
}

static struct tally_bytes trim(struct tally_bytes line)
{
    while (line.size &&
           (line.data[line.size - 1] == ' ' || line.data[line.size - 1] == '\r' || line.data[line.size - 1] == '\t'))
        line.size--;
    return line;
}

static bool begins(struct tally_bytes text, const char *word)
{
    size_t size = strlen(word);
    return text.size >= size && memcmp(text.data, word, size) == 0;
}

// Where the tags begin, behind "|#"; null: there are none.
static const uint8_t *find_tags(const struct cursor *cursor)
{
    const uint8_t *at = cursor->at;
    while (at < cursor->end && (at = memchr(at, '|', (size_t)(cursor->end - at)))) {
        if (++at < cursor->end && *at == '#') return at + 1;
    }
    return NULL;
}

void tally_statsd_line(struct tally_statsd *statsd, struct tally_bytes line)
{
    struct group group = {.rate = always};
    struct tally_bytes tags = {0};
    line = trim(line);
    if (!line.size) return;
    statsd->lines++;
    if (line.size > TALLY_STATSD_LINE_BYTES_MAX) {
        skip(statsd, TALLY_STATSD_LINE);
        return;
    }
    if (begins(line, "_e{") || begins(line, "_sc|")) {
        skip(statsd, line.data[1] == 'e' ? TALLY_STATSD_EVENT : TALLY_STATSD_CHECK);
        return;
    }
    struct cursor cursor = {line.data, line.data + line.size};
    struct tally_bytes name = until(&cursor, ':', '|');
    if (!next_is(&cursor, ':')) {
        skip(statsd, TALLY_STATSD_FORM);
        return;
    }
    const uint8_t *tags_at = find_tags(&cursor);
    if (tags_at) {
        struct cursor behind = {tags_at, cursor.end};
        tags = until(&behind, '|', '|');
        cursor.end = tags_at - 2;
        if (!parse_sections(&behind, &group.rate)) {
            skip(statsd, TALLY_STATSD_RATE);
            return;
        }
    }
    group.rule = rule_of(statsd, name);
    name = tally_bytes(name.data + group.rule->prefix.size, name.size - group.rule->prefix.size);
    enum tally_statsd_reason reason = make_key(statsd, name, tags, &group.key);
    if (reason != TALLY_STATSD_REASONS) {
        skip(statsd, reason);
        return;
    }
    while (take_group(statsd, &group, &cursor)) continue;
}

void tally_statsd_packet(struct tally_statsd *statsd, struct tally_bytes packet)
{
    struct cursor cursor = {packet.data, packet.data + packet.size};
    while (left(&cursor)) {
        tally_statsd_line(statsd, until(&cursor, '\n', '\n'));
        (void)next_is(&cursor, '\n');
    }
}
