// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <io/settings.h>
#include <stdlib.h>
#include <string.h>

#include "settings_yaml.h"

enum origin { ORIGIN_NONE, ORIGIN_DEFAULT, ORIGIN_FILE, ORIGIN_FLAG };

// One setting while it is collected.
struct slot {
    enum origin origin;
    const char **items; // LIST: owned, max items
    size_t count;
    size_t line; // ORIGIN_FILE
};

// Copies of the strings of the file.
struct copy {
    struct copy *next;
    char text[];
};

struct load {
    const struct tally_settings_spec *spec;
    unsigned char *options;
    struct slot *slots;
    struct copy *copies;
    struct tally_reason *reason;
    const char *config;
};

// What tally_settings.owned points to.
struct kept {
    struct slot *slots;
    size_t slots_count;
    struct copy *copies;
    const struct tally_settings_spec *spec;
    const char *config;
};

// ---------------------------------------------------------------------------------------------------- one value

static bool number_parse(const char *text, const char *unit, uint64_t *out_number)
{
    static const struct {
        const char *unit, *suffix;
        uint64_t factor;
    } suffixes[] = {{"bytes", "K", 1u << 10}, {"bytes", "M", 1u << 20}, {"bytes", "G", 1u << 30},
                    {"ms", "ms", 1},          {"ms", "s", 1000},        {"ms", "m", 60000}};
    uint64_t number = 0, factor = 1;
    const char *p = text;
    if (*p < '0' || *p > '9') return false;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*p - '0'), &number))
            return false;
    if (*p) {
        size_t i = 0, count = sizeof suffixes / sizeof *suffixes;
        while (i < count && (strcmp(unit, suffixes[i].unit) != 0 || strcmp(p, suffixes[i].suffix) != 0)) i++;
        if (i == count) return false;
        factor = suffixes[i].factor;
    }
    return !__builtin_mul_overflow(number, factor, out_number);
}

// The place of `word` in "a|b|c".
static bool choice_parse(const char *words, const char *word, unsigned *out_place)
{
    size_t size = strlen(word);
    for (unsigned place = 0;; place++) {
        size_t span = strcspn(words, "|");
        if (span == size && memcmp(words, word, size) == 0) {
            *out_place = place;
            return true;
        }
        if (!words[span]) return false;
        words += span + 1;
    }
}

// `where` names the place for the reason: "--tick" or "FILE:3: tick".
static enum tally_status value_take(struct load *load, size_t index, const char *value, enum origin origin,
                                    bool more_of_list, const char *where)
{
    const struct tally_setting *setting = &load->spec->table[index];
    struct slot *slot = &load->slots[index];
    void *member = load->options + setting->offset;
    bool list = setting->type == TALLY_SETTING_TYPE_LIST;
    if (slot->origin == origin && !list && origin != ORIGIN_DEFAULT) {
        tally_reason_set(load->reason, "%s: given twice", where);
        return TALLY_INVALID;
    }
    if (slot->origin != origin)
        slot->count = 0;
    else if (list && origin == ORIGIN_FILE && !more_of_list) {
        tally_reason_set(load->reason, "%s: given twice", where);
        return TALLY_INVALID;
    }
    slot->origin = origin;
    switch (setting->type) {
    case TALLY_SETTING_TYPE_TEXT:
        if (!*value) break;
        *(const char **)member = value;
        return TALLY_OK;
    case TALLY_SETTING_TYPE_LIST:
        if (!*value) break;
        if (slot->count == setting->max) {
            tally_reason_set(load->reason, "%s: more than %" PRIu64 " values", where, setting->max);
            return TALLY_INVALID;
        }
        slot->items[slot->count++] = value;
        *(struct tally_strings *)member = (struct tally_strings){slot->items, slot->count};
        return TALLY_OK;
    case TALLY_SETTING_TYPE_NUMBER: {
        uint64_t number;
        if (!number_parse(value, setting->unit, &number)) {
            tally_reason_set(load->reason, "%s: \"%s\" is no number of %s", where, value, setting->unit);
            return TALLY_INVALID;
        }
        if (number < setting->min || number > setting->max) {
            tally_reason_set(load->reason, "%s: \"%s\" is out of range: %" PRIu64 " to %" PRIu64 " %s", where, value,
                             setting->min, setting->max, setting->unit);
            return TALLY_INVALID;
        }
        *(uint64_t *)member = number;
        return TALLY_OK;
    }
    case TALLY_SETTING_TYPE_CHOICE:
        if (choice_parse(setting->unit, value, (unsigned *)member)) return TALLY_OK;
        tally_reason_set(load->reason, "%s: \"%s\" is none of %s", where, value, setting->unit);
        return TALLY_INVALID;
    }
    tally_reason_set(load->reason, "%s: empty", where);
    return TALLY_INVALID;
}

static bool setting_find(const struct tally_settings_spec *spec, const char *name, size_t size, size_t *out_index)
{
    for (size_t i = 0; i < spec->table_count; i++) {
        if (strlen(spec->table[i].name) != size || memcmp(spec->table[i].name, name, size) != 0) continue;
        *out_index = i;
        return true;
    }
    return false;
}

// ---------------------------------------------------------------------------------------------------- the three sources

static enum tally_status defaults_take(struct load *load)
{
    for (size_t i = 0; i < load->spec->table_count; i++) {
        const struct tally_setting *setting = &load->spec->table[i];
        if (setting->type == TALLY_SETTING_TYPE_LIST) {
            load->slots[i].items = calloc(setting->max, sizeof *load->slots[i].items);
            if (!load->slots[i].items) return TALLY_NO_MEMORY;
        }
        if (!setting->value_default) continue;
        enum tally_status status = value_take(load, i, setting->value_default, ORIGIN_DEFAULT, false, setting->name);
        if (status) return status;
    }
    return TALLY_OK;
}

static enum tally_status file_take(void *ctx, const struct settings_yaml_value *value)
{
    struct load *load = ctx;
    size_t index, size = strlen(value->value);
    if (!setting_find(load->spec, value->name, strlen(value->name), &index)) {
        tally_reason_set(load->reason, "%s:%zu: unknown setting \"%s\"", load->config, value->name_line, value->name);
        return TALLY_INVALID;
    }
    const struct tally_setting *setting = &load->spec->table[index];
    struct tally_reason where;
    tally_reason_set(&where, "%s:%zu: %s", load->config, value->line, setting->name);
    if (value->in_list && setting->type != TALLY_SETTING_TYPE_LIST) {
        tally_reason_set(load->reason, "%s: a list, but one value is expected", where.text);
        return TALLY_INVALID;
    }
    struct copy *copy = malloc(sizeof *copy + size + 1);
    if (!copy) return TALLY_NO_MEMORY;
    memcpy(copy->text, value->value, size + 1);
    copy->next = load->copies;
    load->copies = copy;
    load->slots[index].line = value->line;
    return value_take(load, index, copy->text, ORIGIN_FILE, value->in_list, where.text);
}

static bool word_is(const char *word, size_t size, const char *name)
{
    return strlen(name) == size && memcmp(word, name, size) == 0;
}

// One walk finds --config, --help and so on (take false), the next takes the settings.
static enum tally_settings_outcome flags_walk(struct load *load, int argc, char **argv, bool take)
{
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i];
        if (word_is(argument, strlen(argument), "-h")) argument = "--help";
        if (strncmp(argument, "--", 2) != 0 || !argument[2]) {
            tally_reason_set(load->reason, "unexpected argument \"%s\"; see --help", argument);
            return TALLY_SETTINGS_WRONG;
        }
        const char *name = argument + 2, *value = strchr(name, '=');
        size_t index = 0, size = value ? (size_t)(value - name) : strlen(name);
        if (!value && word_is(name, size, "help")) return TALLY_SETTINGS_HELP;
        if (!value && word_is(name, size, "version")) return TALLY_SETTINGS_VERSION;
        if (!value && word_is(name, size, "example-config")) return TALLY_SETTINGS_EXAMPLE;
        bool config = word_is(name, size, "config");
        if (!config && !setting_find(load->spec, name, size, &index)) {
            tally_reason_set(load->reason, "unknown flag \"--%.*s\"; see --help", (int)size, name);
            return TALLY_SETTINGS_WRONG;
        }
        if (value)
            value++;
        else if (++i < argc && strncmp(argv[i], "--", 2) != 0)
            value = argv[i];
        else {
            tally_reason_set(load->reason, "--%s needs a value", name);
            return TALLY_SETTINGS_WRONG;
        }
        if (config) {
            if (!take && load->config) {
                tally_reason_set(load->reason, "--config: given twice");
                return TALLY_SETTINGS_WRONG;
            }
            load->config = value;
        } else if (take) {
            struct tally_reason where;
            tally_reason_set(&where, "--%.*s", (int)size, name);
            if (value_take(load, index, value, ORIGIN_FLAG, true, where.text)) return TALLY_SETTINGS_WRONG;
        }
    }
    return TALLY_SETTINGS_RUN;
}

enum tally_settings_outcome tally_settings_load(const struct tally_settings_spec *spec, int argc, char **argv,
                                                void *options, struct tally_settings *out_settings,
                                                struct tally_reason *out_reason)
{
    struct load load = {.spec = spec, .options = options, .reason = out_reason};
    enum tally_settings_outcome outcome = TALLY_SETTINGS_WRONG;
    struct kept *kept = calloc(1, sizeof *kept);
    out_settings->owned = kept;
    tally_reason_set(out_reason, "%s", tally_status_str(TALLY_NO_MEMORY));
    load.slots = calloc(spec->table_count, sizeof *load.slots);
    if (!kept || !load.slots) {
        free(load.slots);
        return outcome;
    }
    kept->slots = load.slots;
    kept->slots_count = spec->table_count;
    outcome = flags_walk(&load, argc, argv, false);
    if (outcome != TALLY_SETTINGS_RUN) return outcome;
    outcome = TALLY_SETTINGS_WRONG;
    if (defaults_take(&load)) return outcome;
    if (!load.config || settings_yaml_read(load.config, file_take, &load, out_reason) == TALLY_OK)
        outcome = flags_walk(&load, argc, argv, true);
    kept->copies = load.copies;
    kept->spec = spec;
    kept->config = load.config;
    return outcome;
}

void tally_settings_place(const struct tally_settings *settings, struct tally_reason *reason)
{
    const struct kept *kept = settings->owned;
    if (!kept || !kept->spec || strncmp(reason->text, "--", 2) != 0) return;
    const char *name = reason->text + 2;
    size_t index, size = strcspn(name, " :");
    if (!setting_find(kept->spec, name, size, &index) || kept->slots[index].origin != ORIGIN_FILE) return;
    struct tally_reason placed;
    tally_reason_set(&placed, "%s:%zu: %s", kept->config, kept->slots[index].line, name);
    *reason = placed;
}

void tally_settings_deinit(struct tally_settings *settings)
{
    struct kept *kept = settings->owned;
    settings->owned = NULL;
    if (!kept) return;
    for (size_t i = 0; i < kept->slots_count; i++) free(kept->slots[i].items);
    free(kept->slots);
    while (kept->copies) {
        struct copy *next = kept->copies->next;
        free(kept->copies);
        kept->copies = next;
    }
    free(kept);
}
