// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <io/json.h>
#include <messages/messages.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "watch.h"

#define BOLD  "\033[1m"
#define DIM   "\033[2m"
#define RED   "\033[31m"
#define GREEN "\033[32m"
#define AMBER "\033[33m"
#define PLAIN "\033[0m"

static unsigned terminal_columns(void)
{
    struct winsize size;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) return size.ws_col;
    return 80;
}

// One line of the picture, cut at the terminal's width: a line that wraps would break the way back up.
__attribute__((format(printf, 2, 3))) static void draw(struct watch *watch, const char *format, ...)
{
    char line[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    unsigned columns = terminal_columns() - 1, used = 0;
    for (const char *p = line; *p;) {
        if (*p == '\033') { // colours take no room
            size_t size = strcspn(p, "m") + 1;
            if (watch->colours) fwrite(p, 1, size, stdout);
            p += size;
            continue;
        }
        used += (*p & 0xc0) != 0x80;
        if (used > columns) break;
        putchar(*p++);
    }
    printf("%s\033[K\n", watch->colours ? PLAIN : "");
    watch->lines++;
}

static const char *number_or_dash(double number, char out_text[32])
{
    if (number < 0) return "-";
    return cli_thousands((uint64_t)(number + 0.5), out_text);
}

static const char *ratio_or_dash(double number, char out_text[32])
{
    if (number < 0) return "-";
    snprintf(out_text, 32, "%.2f", number);
    return out_text;
}

static const char *age_text(uint64_t age_ms, char out_text[32])
{
    if (age_ms < 10000)
        snprintf(out_text, 32, "%" PRIu64 " ms", age_ms);
    else
        snprintf(out_text, 32, "%.0f s", (double)age_ms / 1000);
    return out_text;
}

static const char *state_colour(const struct watch_place *place)
{
    if (!place->reached) return RED;
    if (strcmp(place->state, "live") == 0) return GREEN;
    return strcmp(place->state, "stale") == 0 ? RED : AMBER;
}

static double events_done(const struct watch *watch)
{
    const struct watch_place *place = &watch->places[0];
    return place->now.has[WATCH_EVENTS] ? place->now.values[WATCH_EVENTS] : 0;
}

static void draw_bar(struct watch *watch)
{
    double done = events_done(watch), part = done / (double)watch->progress_total;
    if (part > 1) part = 1;
    unsigned columns = terminal_columns(), room = columns > 60 ? 40 : 16, full = (unsigned)(part * room);
    char bar[40 * 3 + 1], a[32], b[32];
    size_t at = 0;
    for (unsigned i = 0; i < room; i++) {
        memcpy(bar + at, i < full ? "█" : "░", 3);
        at += 3;
    }
    bar[at] = 0;
    draw(watch, "  %s %3.0f %%  %s of %s events", bar, part * 100, cli_thousands((uint64_t)done, a),
         cli_thousands(watch->progress_total, b));
}

static void draw_first(struct watch *watch)
{
    const struct watch_place *place = &watch->places[0];
    char a[32], b[32];
    draw(watch, BOLD "%-8s" PLAIN "%s  %s%s" PLAIN DIM "%s%s", place->name[0] ? place->name : "server", place->url,
         state_colour(place), place->reached ? place->state : "not reached: ", place->reached ? "" : place->error,
         place->reached ? "" : "");
    draw(watch, "  version         %-16skeys              %s", cli_thousands(place->version, a),
         cli_thousands(place->keys, b));
    char c[32], d[32], e[32], f[32];
    draw(watch, "  events/s        %-16schanged keys/s    %s", number_or_dash(watch_rate(place, WATCH_EVENTS), c),
         number_or_dash(watch_rate(place, WATCH_ROWS), d));
    draw(watch, "  bytes on the wire per changed existing key   %s now, %s in all",
         ratio_or_dash(watch_bytes_per_change(&place->before, &place->now), e),
         ratio_or_dash(watch_bytes_per_change(NULL, &place->now), f));
}

static void draw_others(struct watch *watch)
{
    if (watch->count < 2) return;
    draw(watch, "%s", "");
    draw(watch, DIM "%-9s%12s%6s%9s%12s  %-12s%-7s%s", "", "version", "lag", "age", "keys", "state", "by", "at");
    for (size_t i = 1; i < watch->count; i++) {
        const struct watch_place *place = &watch->places[i];
        char label[48], a[32], b[32], c[32];
        snprintf(label, sizeof label, "%s %zu", place->name[0] ? place->name : "edge", i);
        if (!place->reached) {
            draw(watch, BOLD "%-9s" PLAIN RED "not reached: %s" PLAIN "  %s", label, place->error, place->url);
            continue;
        }
        draw(watch, BOLD "%-9s" PLAIN "%12s%6" PRIu64 "%9s%12s  %s%-12s" PLAIN "%-7s%s", label,
             cli_thousands(place->version, a), place->lag, age_text(place->age_ms, b), cli_thousands(place->keys, c),
             state_colour(place), place->state, place->client, place->url);
    }
}

void watch_draw(struct watch *watch)
{
    if (watch->lines) printf("\033[%uA", watch->lines);
    watch->lines = 0;
    uint64_t seconds = (cli_now_ms() - watch->start_ms) / 1000;
    draw(watch, BOLD "tallycast" PLAIN "  dataset %s  " DIM "%02" PRIu64 ":%02" PRIu64 ":%02" PRIu64,
         watch->places[0].dataset[0] ? watch->places[0].dataset : "-", seconds / 3600, seconds / 60 % 60, seconds % 60);
    draw(watch, "%s", "");
    if (watch->progress_total) draw_bar(watch);
    draw_first(watch);
    draw_others(watch);
    draw(watch, "%s", "");
    draw(watch, DIM "Ctrl-C ends");
    printf("\033[J");
    fflush(stdout);
}

void watch_print_line(const struct watch *watch)
{
    char now[TALLY_TIME_BYTES], a[32], b[32], c[32];
    tally_time_format(cli_unix_ms(), now);
    const struct watch_place *first = &watch->places[0];
    printf("%s", now);
    if (watch->progress_total) printf("  %.0f %%", 100 * events_done(watch) / (double)watch->progress_total);
    for (size_t i = 0; i < watch->count; i++) {
        const struct watch_place *place = &watch->places[i];
        printf("  %s%s", i ? "| " : "", place->name[0] ? place->name : i ? "edge" : "server");
        if (i) printf(" %zu", i);
        if (!place->reached) {
            printf(" not reached: %s", place->error);
            continue;
        }
        printf(" version %" PRIu64, place->version);
        if (i) {
            printf(" lag %" PRIu64 " age %" PRIu64 " ms %s", place->lag, place->age_ms, place->state);
            continue;
        }
        printf(" keys %" PRIu64 " events/s %s changed keys/s %s bytes per changed key %s", place->keys,
               number_or_dash(watch_rate(first, WATCH_EVENTS), a), number_or_dash(watch_rate(first, WATCH_ROWS), b),
               ratio_or_dash(watch_bytes_per_change(NULL, &first->now), c));
    }
    putchar('\n');
    fflush(stdout);
}

static void json_number_or_null(struct tally_json *json, const char *name, double number)
{
    // Two digits behind the point are enough for a rate; the writer has integers only.
    if (number < 0) {
        tally_json_null(json, name);
        return;
    }
    char text[64];
    snprintf(text, sizeof text, "%s\"%s\":%.2f", json->comma ? "," : "", name, number);
    tally_write_raw(json->out, text, strlen(text));
    json->comma = true;
}

static void json_place(struct tally_json *json, const struct watch_place *place)
{
    tally_json_object_begin(json, NULL);
    tally_json_str(json, "at", place->url);
    tally_json_bool(json, "reached", place->reached);
    if (!place->reached) tally_json_str(json, "error", place->error);
    if (place->name[0]) tally_json_str(json, "name", place->name);
    if (place->reached) {
        if (place->client[0]) tally_json_str(json, "client", place->client);
        tally_json_str(json, "state", place->state);
        tally_json_str(json, "dataset", place->dataset);
        tally_json_str(json, "epoch", place->epoch);
        tally_json_u64(json, "version", place->version);
        tally_json_str(json, "digest", place->digest);
        tally_json_u64(json, "keys", place->keys);
        tally_json_u64(json, "age_ms", place->age_ms);
        tally_json_u64(json, "lag", place->lag);
        json_number_or_null(json, "events_per_second", watch_rate(place, WATCH_EVENTS));
        json_number_or_null(json, "changed_keys_per_second", watch_rate(place, WATCH_ROWS));
        json_number_or_null(json, "bytes_per_changed_key", watch_bytes_per_change(&place->before, &place->now));
    }
    tally_json_object_end(json);
}

void watch_print_json(const struct watch *watch)
{
    struct tally_writer writer = tally_writer_growable(&tally_alloc_libc);
    struct tally_json json = tally_json(&writer);
    tally_json_object_begin(&json, NULL);
    tally_json_time(&json, "time", cli_unix_ms());
    tally_json_array_begin(&json, "places");
    for (size_t i = 0; i < watch->count; i++) json_place(&json, &watch->places[i]);
    tally_json_array_end(&json);
    tally_json_object_end(&json);
    fwrite(writer.data, 1, writer.size, stdout);
    putchar('\n');
    fflush(stdout);
    tally_writer_free(&writer);
}
