// SPDX-License-Identifier: Apache-2.0
//
// What watch knows about the places it looks at, and how it shows it. Threads: main.
#ifndef TALLYCAST_CLI_WATCH_H
#define TALLYCAST_CLI_WATCH_H

#include "cli.h"

enum watch_counter { WATCH_EVENTS, WATCH_FRAME_BYTES, WATCH_ADDED_BYTES, WATCH_ROWS, WATCH_ADDED_ROWS, WATCH_COUNTERS };

struct watch_counters {
    double values[WATCH_COUNTERS];
    bool has[WATCH_COUNTERS];
    uint64_t ms; // when, monotonic
};

// One server or edge, as of the last look.
struct watch_place {
    const char *url;
    bool reached;
    char error[160];
    char name[16], client[16], state[16], dataset[65], epoch[17], digest[33];
    uint64_t version, keys, age_ms, lag;
    struct watch_counters before, now;
};

struct watch {
    struct watch_place places[CLI_LIST_MAX];
    size_t count;
    uint64_t progress_total; // 0: no bar
    uint64_t start_ms;
    unsigned lines; // that the last picture took
    bool colours;
};

// Increase a second between the last two looks; negative when it is not known.
double watch_rate(const struct watch_place *place, enum watch_counter counter);
// Bytes of published frames, less the columns that bring new keys, per changed key that was there before, between two looks
// (`from` null: since the server's start). Negative when nothing changed.
double watch_bytes_per_change(const struct watch_counters *from, const struct watch_counters *to);

void watch_draw(struct watch *watch);             // a picture in place of the last one
void watch_print_line(const struct watch *watch); // for logs and pipes
void watch_print_json(const struct watch *watch);

#endif
