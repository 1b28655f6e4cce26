// SPDX-License-Identifier: Apache-2.0
//
// tallycast watch: looks at a server and its edges once a second, side by side, and shows what it saw.
#include "watch.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "http.h"
#include "metrics.h"

static const char *const counter_names[WATCH_COUNTERS] = {
    [WATCH_EVENTS] = "tally_server_amounts_total",
    [WATCH_FRAME_BYTES] = "tally_server_frame_bytes_total",
    [WATCH_ADDED_BYTES] = "tally_server_frame_added_bytes_total",
    [WATCH_ROWS] = "tally_server_changed_rows_total",
    [WATCH_ADDED_ROWS] = "tally_server_added_rows_total",
};

double watch_rate(const struct watch_place *place, enum watch_counter counter)
{
    const struct watch_counters *before = &place->before, *now = &place->now;
    if (!before->has[counter] || !now->has[counter] || now->ms <= before->ms) return -1;
    double more = now->values[counter] - before->values[counter];
    return more < 0 ? -1 : more * 1000 / (double)(now->ms - before->ms);
}

double watch_bytes_per_change(const struct watch_counters *from, const struct watch_counters *to)
{
    double more[WATCH_COUNTERS];
    for (unsigned i = 0; i < WATCH_COUNTERS; i++) {
        if (!to->has[i]) return -1;
        more[i] = to->values[i] - (from ? from->values[i] : 0);
    }
    double bytes = more[WATCH_FRAME_BYTES] - more[WATCH_ADDED_BYTES], rows = more[WATCH_ROWS] - more[WATCH_ADDED_ROWS];
    return rows <= 0 || bytes < 0 ? -1 : bytes / rows;
}

// --------------------------------------------------------------------------------------------------- looking

static void copy_text(const json_t *json, const char *name, char *out, size_t size)
{
    const char *text = json_string_value(json_object_get(json, name));
    snprintf(out, size, "%s", text ? text : "");
}

static uint64_t copy_number(const json_t *json, const char *name)
{
    json_int_t number = json_integer_value(json_object_get(json, name));
    return number > 0 ? (uint64_t)number : 0;
}

static void take_version(struct watch_place *place, const struct cli_http_request *request)
{
    json_t *json = NULL;
    if (!request->failed && request->answer.size)
        json = json_loadb((const char *)request->answer.data, request->answer.size, 0, NULL);
    place->reached = !request->failed && request->status == 200 && json_is_object(json);
    if (place->reached) {
        copy_text(json, "name", place->name, sizeof place->name);
        copy_text(json, "client", place->client, sizeof place->client);
        copy_text(json, "state", place->state, sizeof place->state);
        copy_text(json, "dataset", place->dataset, sizeof place->dataset);
        copy_text(json, "epoch", place->epoch, sizeof place->epoch);
        copy_text(json, "digest", place->digest, sizeof place->digest);
        place->version = copy_number(json, "version");
        place->keys = copy_number(json, "keys");
        place->age_ms = copy_number(json, "age_ms");
        place->lag = copy_number(json, "lag");
    } else if (request->failed) {
        snprintf(place->error, sizeof place->error, "%.150s", request->error);
    } else {
        snprintf(place->error, sizeof place->error, "HTTP status %d, no tallycast answer", request->status);
    }
    json_decref(json);
}

static void take_metrics(struct watch_place *place, const struct cli_http_request *request)
{
    place->before = place->now;
    place->now = (struct watch_counters){.ms = cli_now_ms()};
    if (request->failed || request->status != 200) return;
    for (unsigned i = 0; i < WATCH_COUNTERS; i++)
        place->now.has[i] =
            cli_metric_sum(tally_writer_bytes(&request->answer), counter_names[i], &place->now.values[i]);
}

static void look(struct watch *watch)
{
    static struct cli_http_request requests[2 * CLI_LIST_MAX];
    for (size_t i = 0; i < watch->count; i++) {
        const struct cli_http_request request = {
            .base = watch->places[i].url, .timeout_ms = 2000, .body_bytes_max = 1u << 20};
        requests[2 * i] = requests[2 * i + 1] = request;
        requests[2 * i].path = "/v1/version";
        requests[2 * i + 1].path = "/metrics";
    }
    cli_http_run(requests, 2 * watch->count);
    for (size_t i = 0; i < watch->count && !cli_interrupted; i++) {
        take_version(&watch->places[i], &requests[2 * i]);
        take_metrics(&watch->places[i], &requests[2 * i + 1]);
    }
    for (size_t i = 0; i < 2 * watch->count; i++) cli_http_free(&requests[i]);
}

// ---------------------------------------------------------------------------------------------- the terminal

static struct termios terminal_before;
static bool terminal_changed;

// Typed letters, and the ^C of Ctrl-C, must not run through the picture.
static void terminal_take(void)
{
    if (isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp() &&
        tcgetattr(STDIN_FILENO, &terminal_before) == 0) {
        struct termios quiet = terminal_before;
        quiet.c_lflag &= (tcflag_t) ~(ECHO | ICANON);
        terminal_changed = tcsetattr(STDIN_FILENO, TCSANOW, &quiet) == 0;
    }
    printf("\033[?25l");
    fflush(stdout);
}

static void terminal_restore(void)
{
    if (terminal_changed) tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal_before);
    printf("\033[?25h");
    fflush(stdout);
}

// ----------------------------------------------------------------------------------------------- the command

static void show(struct watch *watch, bool as_json, bool terminal)
{
    if (as_json)
        watch_print_json(watch);
    else if (terminal)
        watch_draw(watch);
    else
        watch_print_line(watch);
}

static int watch_all(struct watch *watch, bool as_json, uint64_t interval_ms, uint64_t looks_max)
{
    bool terminal = !as_json && isatty(STDOUT_FILENO) && getenv("TERM") && strcmp(getenv("TERM"), "dumb") != 0;
    watch->colours = terminal && !getenv("NO_COLOR");
    watch->start_ms = cli_now_ms();
    look(watch);
    bool any = false;
    for (size_t i = 0; i < watch->count; i++) any |= watch->places[i].reached;
    if (!any && !cli_interrupted) {
        cli_complain("cannot reach %s: %s", watch->places[0].url, watch->places[0].error);
        return CLI_UNREACHABLE;
    }
    if (terminal) terminal_take();
    uint64_t due = watch->start_ms;
    for (uint64_t looks = 1; !cli_interrupted; looks++) {
        show(watch, as_json, terminal);
        if (ferror(stdout) || (looks_max && looks >= looks_max)) break;
        due += interval_ms;
        uint64_t now = cli_now_ms();
        if (due < now) due = now;
        while (!cli_interrupted && (now = cli_now_ms()) < due) poll(NULL, 0, (int)(due - now));
        if (!cli_interrupted) look(watch);
    }
    if (terminal) terminal_restore();
    return cli_flush() ? CLI_DONE : CLI_WRONG_USE;
}

static int run(int argc, char **argv)
{
    static struct watch watch;
    static struct cli_list at;
    bool as_json = false;
    uint64_t interval_ms = 1000, looks = 0;
    const struct cli_option options[] = {
        {"at", "URL", "HTTP of the server; given again, of an edge\n(http://127.0.0.1:8090)", CLI_LIST, &at, 0, 0},
        {"json", NULL, "a line of JSON a look", CLI_FLAG, &as_json, 0, 0},
        {"interval", "MS", "time between two looks (1000)", CLI_NUMBER, &interval_ms, 50, 3600000},
        {"looks", "N", "end after N of them (at Ctrl-C)", CLI_NUMBER, &looks, 1, UINT64_MAX},
        {"progress", "TOTAL", "show a bar that is full at TOTAL events", CLI_NUMBER, &watch.progress_total, 1,
         UINT64_MAX},
    };
    if (cli_parse(&cli_watch, options, sizeof options / sizeof *options, argc, argv) != 0) {
        cli_complain("unexpected argument \"%s\"", argv[1]);
        return CLI_WRONG_USE;
    }
    if (at.count == 0) at.items[at.count++] = "http://127.0.0.1:8090";
    for (size_t i = 0; i < at.count; i++) {
        if (!cli_http_check_url(at.items[i])) return CLI_WRONG_USE;
        watch.places[i].url = at.items[i];
    }
    watch.count = at.count;
    cli_catch_signals();
    return watch_all(&watch, as_json, interval_ms, looks);
}

const struct cli_command cli_watch = {
    .name = "watch",
    .arguments = "[--at URL]... [--json] [OPTIONS]",
    .purpose = "Watch a server and its edges while they work.",
    .details = "On a terminal a picture that is renewed every second, else a line. The first URL is shown in\n"
               "full: version, keys, events and changed keys a second, and bytes on the wire per changed key:\n"
               "the bytes of the frames that the server published, less what brings new keys, over the changes\n"
               "of keys that were there before. Of the others: version, lag (versions behind the newest they\n"
               "know of), age, keys, state.\n"
               "\n"
               "Exit codes: 0 ended by Ctrl-C, 2 wrong use, 3 none of the URLs could be reached at the\n"
               "start.\n"
               "\n"
               "Example:\n"
               "  tallycast watch --at http://127.0.0.1:8090 --at http://127.0.0.1:8091 --at http://127.0.0.1:8092\n",
    .run = run,
};
