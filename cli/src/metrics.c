// SPDX-License-Identifier: Apache-2.0
#include "metrics.h"

#include <stdlib.h>

// The value of one line `name{labels} value [time]`, when it is a sample of `name`.
static bool sample(struct tally_bytes line, const char *name, size_t name_size, double *out_value, bool *out_bad)
{
    if (line.size <= name_size || memcmp(line.data, name, name_size) != 0) return false;
    size_t at = name_size;
    if (line.data[at] == '{') {
        bool quoted = false;
        for (at++; at < line.size && (quoted || line.data[at] != '}'); at++) {
            if (quoted && line.data[at] == '\\')
                at++;
            else if (line.data[at] == '"')
                quoted = !quoted;
        }
        at++;
    } else if (line.data[at] != ' ' && line.data[at] != '\t') {
        return false;
    }
    while (at < line.size && (line.data[at] == ' ' || line.data[at] == '\t')) at++;
    char text[64];
    size_t size = line.size > at ? line.size - at : 0;
    if (size >= sizeof text) size = sizeof text - 1;
    memcpy(text, line.data + (size ? at : 0), size);
    text[size] = 0;
    char *end;
    *out_value = strtod(text, &end);
    *out_bad = end == text;
    return true;
}

bool cli_metric_sum(struct tally_bytes text, const char *name, double *out_sum)
{
    size_t name_size = strlen(name);
    double sum = 0;
    bool found = false;
    for (size_t at = 0; at < text.size;) {
        const uint8_t *newline = memchr(text.data + at, '\n', text.size - at);
        size_t size = newline ? (size_t)(newline - text.data) - at : text.size - at;
        double value;
        bool bad = false;
        if (sample(tally_bytes(text.data + at, size), name, name_size, &value, &bad)) {
            if (bad) return false;
            sum += value;
            found = true;
        }
        at += size + 1;
    }
    if (found) *out_sum = sum;
    return found;
}
