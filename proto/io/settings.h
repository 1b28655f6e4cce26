// SPDX-License-Identifier: Apache-2.0
//
// Settings: one table says each setting's name, type, range, default and help; from it come the flags (--name
// VALUE or --name=VALUE), the keys of the YAML file (--config FILE; a flat mapping) and the text of --help. A
// flag wins over the file, the file over the default. What is unknown, given twice where one is meant, or out
// of range is refused, naming the flag or FILE:LINE, the setting and the value.
//
//   struct options { uint64_t tick_ms; const char *data; struct tally_strings subscribe; unsigned durable; };
//   static const struct tally_setting table[] = {
//       TALLY_SETTING_NUMBER(struct options, tick_ms, "tick", "ms", "20", 1, 60000, "time between two
//       versions"), TALLY_SETTING_TEXT(struct options, data, "data", "DIR", "./data", "data directory"),
//       TALLY_SETTING_LIST(struct options, subscribe, "subscribe", "URL", "tcp://127.0.0.1:7702", 8, "..."),
//       TALLY_SETTING_CHOICE(struct options, durable, "durable", "sync|none", "sync", "..."),
//   };
//
// Threads: one, at start. --config, --example-config, --help and --version are always there and not in the
// table.
#ifndef TALLYCAST_IO_SETTINGS_H
#define TALLYCAST_IO_SETTINGS_H

#include <io/reason.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <tallycast/status.h>

struct tally_strings {
    const char *const *items;
    size_t count;
};

enum tally_setting_type {
    TALLY_SETTING_TYPE_TEXT,   // const char *; null when the default is null
    TALLY_SETTING_TYPE_LIST,   // struct tally_strings: flag given several times, or a YAML sequence
    TALLY_SETTING_TYPE_NUMBER, // uint64_t; unit "bytes" takes the suffixes K, M, G (powers of 1024), unit
                               // "ms" takes ms, s, m
    TALLY_SETTING_TYPE_CHOICE, // unsigned: the place of the word in `unit`, from 0
};

struct tally_setting {
    const char *name;
    enum tally_setting_type type;
    const char *unit;          // placeholder or unit shown in --help; for a choice its words: "sync|none"
    const char *value_default; // in the form a flag takes; null: none (TEXT and LIST only)
    uint64_t min, max;         // NUMBER: range; LIST: most items
    size_t offset;             // of the member in the options struct
    const char *help;          // one sentence
};

#define TALLY_SETTING_TEXT(type, member, name, unit, value, help)                                                      \
    {name, TALLY_SETTING_TYPE_TEXT, unit, value, 0, 0, offsetof(type, member), help}
#define TALLY_SETTING_LIST(type, member, name, unit, value, count_max, help)                                           \
    {name, TALLY_SETTING_TYPE_LIST, unit, value, 0, count_max, offsetof(type, member), help}
#define TALLY_SETTING_NUMBER(type, member, name, unit, value, min, max, help)                                          \
    {name, TALLY_SETTING_TYPE_NUMBER, unit, value, min, max, offsetof(type, member), help}
#define TALLY_SETTING_CHOICE(type, member, name, words, value, help)                                                   \
    {name, TALLY_SETTING_TYPE_CHOICE, words, value, 0, 0, offsetof(type, member), help}

struct tally_settings_spec {
    const char *program; // "tallycast-server"
    const char *summary; // one sentence
    const char *example; // a command line or a few
    const char *version;
    const struct tally_setting *table;
    size_t table_count;
};

enum tally_settings_outcome {
    TALLY_SETTINGS_RUN,  // options are filled
    TALLY_SETTINGS_HELP, // --help was asked for: print it to stdout, exit 0
    TALLY_SETTINGS_VERSION,
    TALLY_SETTINGS_EXAMPLE, // --example-config: print every setting as commented YAML
    TALLY_SETTINGS_WRONG,   // *out_reason says what; exit 2
};

struct tally_settings {
    void *owned;
};

// Fills `options` and `out_settings`, which owns the strings that options point to (those of flags and
// defaults are borrowed). Call tally_settings_deinit whatever the outcome.
enum tally_settings_outcome tally_settings_load(const struct tally_settings_spec *spec, int argc, char **argv,
                                                void *options, struct tally_settings *out_settings,
                                                struct tally_reason *out_reason);
void tally_settings_deinit(struct tally_settings *settings);

// A reason that begins with "--NAME" and is about a value that came from the file is made to begin with FILE:LINE instead: for checks that
// come after loading.
void tally_settings_place(const struct tally_settings *settings, struct tally_reason *reason);

void tally_settings_help(const struct tally_settings_spec *spec, FILE *out);

// An example configuration: every setting with its default, unit and range, as commented YAML.
void tally_settings_example(const struct tally_settings_spec *spec, FILE *out);

// What main does with an outcome other than RUN: prints to stdout or stderr and answers the exit code (0 or
// 2).
int tally_settings_finish(const struct tally_settings_spec *spec, enum tally_settings_outcome outcome,
                          const struct tally_reason *reason);

#endif
