// SPDX-License-Identifier: Apache-2.0
//
// A flat YAML mapping, read as events with libyaml: it gives the line of every value, which a loader into
// structs does not.
#ifndef TALLYCAST_IO_SETTINGS_YAML_H
#define TALLYCAST_IO_SETTINGS_YAML_H

#include <io/reason.h>
#include <stdbool.h>
#include <stddef.h>
#include <tallycast/status.h>

struct settings_yaml_value {
    const char *name, *value; // borrowed for the call
    size_t name_line, line;   // from 1
    bool in_list;
};

// Calls `take` for each scalar (each item of a sequence) in order. TALLY_INVALID when the file is no such
// mapping, when it cannot be read, or what `take` answered; *out_reason says why, naming PATH:LINE.
TALLY_CHECKED enum tally_status settings_yaml_read(const char *path,
                                                   enum tally_status (*take)(void *ctx,
                                                                             const struct settings_yaml_value *value),
                                                   void *ctx, struct tally_reason *out_reason);

#endif
