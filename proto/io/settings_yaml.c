// SPDX-License-Identifier: Apache-2.0
#include "settings_yaml.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <yaml.h>

#define FILE_BYTES_MAX (1u << 20)
#define NAME_BYTES_MAX 64u

struct walk {
    const char *path;
    enum tally_status (*take)(void *ctx, const struct settings_yaml_value *value);
    void *ctx;
    struct tally_reason *reason;
    enum { BEFORE, KEY, VALUE, ITEM, AFTER } at;
    char name[NAME_BYTES_MAX];
    size_t name_line;
};

static enum tally_status wrong(struct walk *walk, size_t line, const char *what)
{
    tally_reason_set(walk->reason, "%s:%zu: %s", walk->path, line, what);
    return TALLY_INVALID;
}

static enum tally_status walk_scalar(struct walk *walk, const yaml_event_t *event, size_t line)
{
    const char *text = (const char *)event->data.scalar.value;
    if (strlen(text) != event->data.scalar.length) return wrong(walk, line, "a NUL byte in a value");
    switch (walk->at) {
    case KEY:
        if (event->data.scalar.length >= sizeof walk->name)
            return wrong(walk, line, "unknown setting: too long a name");
        memcpy(walk->name, text, event->data.scalar.length + 1);
        walk->name_line = line;
        walk->at = VALUE;
        return TALLY_OK;
    case VALUE:
    case ITEM: {
        struct settings_yaml_value value = {walk->name, text, walk->name_line, line, walk->at == ITEM};
        if (walk->at == VALUE) walk->at = KEY;
        return walk->take(walk->ctx, &value);
    }
    default: return wrong(walk, line, "expected \"name: value\" lines");
    }
}

static enum tally_status walk_event(struct walk *walk, const yaml_event_t *event)
{
    size_t line = event->start_mark.line + 1;
    switch (event->type) {
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT: return TALLY_OK;
    case YAML_DOCUMENT_START_EVENT:
        return walk->at == BEFORE ? TALLY_OK : wrong(walk, line, "a second document: one is expected");
    case YAML_MAPPING_START_EVENT:
        if (walk->at == VALUE || walk->at == ITEM) {
            tally_reason_set(walk->reason, "%s:%zu: %s: a mapping, but a value is expected", walk->path, line,
                             walk->name);
            return TALLY_INVALID;
        }
        if (walk->at != BEFORE) return wrong(walk, line, "a mapping where a setting's name is expected");
        walk->at = KEY;
        return TALLY_OK;
    case YAML_MAPPING_END_EVENT: walk->at = AFTER; return TALLY_OK;
    case YAML_SEQUENCE_START_EVENT:
        if (walk->at != VALUE) return wrong(walk, line, "a list where \"name: value\" is expected");
        walk->at = ITEM;
        return TALLY_OK;
    case YAML_SEQUENCE_END_EVENT: walk->at = KEY; return TALLY_OK;
    case YAML_SCALAR_EVENT:
        // An empty document is one empty scalar: no settings.
        if (walk->at == BEFORE && event->data.scalar.length == 0) {
            walk->at = AFTER;
            return TALLY_OK;
        }
        return walk_scalar(walk, event, line);
    default: return wrong(walk, line, "aliases are not supported");
    }
}

enum tally_status settings_yaml_read(const char *path,
                                     enum tally_status (*take)(void *ctx, const struct settings_yaml_value *value),
                                     void *ctx, struct tally_reason *out_reason)
{
    struct walk walk = {.path = path, .take = take, .ctx = ctx, .reason = out_reason};
    enum tally_status status = TALLY_OK;
    yaml_parser_t parser;
    yaml_event_t event;
    FILE *file = fopen(path, "re");
    if (!file) {
        tally_reason_set(out_reason, "--config %s: %s", path, strerror(errno));
        return TALLY_INVALID;
    }
    if (fseek(file, 0, SEEK_END) == 0 && ftell(file) > (long)FILE_BYTES_MAX) {
        tally_reason_set(out_reason, "--config %s: larger than %u bytes", path, FILE_BYTES_MAX);
        status = TALLY_INVALID;
        goto close;
    }
    rewind(file);
    if (!yaml_parser_initialize(&parser)) {
        status = TALLY_NO_MEMORY;
        goto close;
    }
    yaml_parser_set_input_file(&parser, file);
    for (bool done = false; !done && status == TALLY_OK;) {
        if (!yaml_parser_parse(&parser, &event)) {
            status = wrong(&walk, parser.problem_mark.line + 1, parser.problem ? parser.problem : "unreadable");
            break;
        }
        done = event.type == YAML_STREAM_END_EVENT;
        status = walk_event(&walk, &event);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
close:
    (void)fclose(file);
    return status;
}
