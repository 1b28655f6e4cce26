// SPDX-License-Identifier: Apache-2.0
#include <statsd/statsd.h>
#include <stdio.h>
#include <string.h>

static const char *const suffixes[TALLY_STATSD_TABLES] = {
    [TALLY_STATSD_COUNTERS] = "",
    [TALLY_STATSD_GAUGES] = ".gauges",
    [TALLY_STATSD_SETS] = ".sets",
    [TALLY_STATSD_TIMERS] = ".timers.count",
    [TALLY_STATSD_TIMERS + 1] = ".timers.sum_us",
    [TALLY_STATSD_TIMERS + 2] = ".timers.min_us",
    [TALLY_STATSD_TIMERS + 3] = ".timers.max_us",
    [TALLY_STATSD_HISTOGRAMS] = ".histograms.count",
    [TALLY_STATSD_HISTOGRAMS + 1] = ".histograms.sum",
    [TALLY_STATSD_HISTOGRAMS + 2] = ".histograms.min",
    [TALLY_STATSD_HISTOGRAMS + 3] = ".histograms.max",
};
#define SUFFIX_BYTES_MAX 17u

static void set(struct tally_statsd_rule *rule, struct tally_bytes prefix, const char *table)
{
    char name[TALLY_NAME_BYTES_MAX + 1];
    rule->prefix = prefix;
    for (unsigned i = 0; i < TALLY_STATSD_TABLES; i++) {
        int size = snprintf(name, sizeof name, "%s%s", table, suffixes[i]);
        rule->tables[i].size = (uint8_t)size;
        memcpy(rule->tables[i].name, name, (size_t)size);
    }
}

void tally_statsd_rules_init(struct tally_statsd_rules *rules)
{
    *rules = (struct tally_statsd_rules){.count = 1};
    set(&rules->rules[0], tally_bytes("", 0), "statsd");
}

const char *tally_statsd_rules_add(struct tally_statsd_rules *rules, const char *text)
{
    const char *table = strrchr(text, '=');
    if (!table) return "expected PREFIX=TABLE";
    struct tally_bytes prefix = tally_bytes(text, (size_t)(table++ - text));
    if (!tally_name_valid(tally_bytes(table, strlen(table))) || strlen(table) > TALLY_NAME_BYTES_MAX - SUFFIX_BYTES_MAX)
        return "a table's name is 1 to 47 of a-z 0-9 _ . - here, so that .histograms.count can follow";
    if (prefix.size > TALLY_KEY_BYTES_MAX) return "the prefix is longer than any key";
    if (prefix.size == 0) {
        set(&rules->rules[rules->count - 1], prefix, table);
        return NULL;
    }
    // The longest first: the first that fits holds.
    unsigned at = 0;
    for (; at < rules->count && rules->rules[at].prefix.size >= prefix.size; at++)
        if (tally_bytes_equal(rules->rules[at].prefix, prefix)) return "there is a rule for this prefix";
    if (rules->count > TALLY_STATSD_RULES_MAX) return "too many rules";
    memmove(&rules->rules[at + 1], &rules->rules[at], (rules->count++ - at) * sizeof rules->rules[0]);
    set(&rules->rules[at], prefix, table);
    return NULL;
}
