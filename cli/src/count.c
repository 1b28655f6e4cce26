// SPDX-License-Identifier: Apache-2.0
//
// tallycast count: lines in, acknowledged batches out. One thread reads, merges and sends; it waits in poll()
// for input, for acknowledgements and for the clock. When the merge is full and no lane is free it stops
// reading: memory stays bounded. With --follow the input never ends, and each batch is kept until it is acknowledged (follow.h).
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "follow.h"
#include "format.h"
#include "lines.h"
#include "merge.h"
#include "sender.h"

#define INPUT_BYTES   (256u << 10)
#define FOLLOW_MS     100  // between two looks for more at the end of a followed file
#define LAST_WORDS_MS 5000 // after Ctrl-C: how long to wait for acknowledgements

struct counting {
    // options
    const char *to, *dataset, *tls_ca, *tls_cert, *tls_key, *producer_text;
    const char *kind_text;
    const char *format_text, *position_path;
    struct cli_list rules; // of --count
    bool json, quiet, skip_bad, adjust, following;
    struct cli_format format;
    struct cli_line_form form;
    uint64_t rate, batch_bytes, batch_ms, in_flight, timeout_s;
    uint64_t producer;
    // input
    const char *file_name;
    int fd;
    uint64_t file_bytes, read_bytes; // file_bytes 0: not known
    uint8_t *input;
    size_t begin, end;
    bool input_over;
    uint64_t line_number, bad_lines, events;
    bool in_long_line; // the rest of a line over the limit is still to come
    // Events of the line at hand that are not merged yet, from number `next` on; they point into `input` and `format`.
    struct cli_event events_of_line[CLI_FORMAT_RULES_MAX];
    unsigned count_of_line, next;
    // following
    struct cli_follow *follow;
    uint64_t input_at;          // where in the file input[0] is
    uint64_t line_at;           // where the line at hand begins
    bool file_over;             // what is left is the last line of its file, newline or not
    unsigned counted_before;    // events of the first line that an earlier run counted
    struct cli_position merged; // behind what is merged
    // output
    struct cli_merge *merge;
    struct cli_sender *sender;
    uint64_t merge_since_ms, start_ms, interrupted_ms, told_ms;
    int code; // CLI_DONE until something went wrong with a line
};

// ---------------------------------------------------------------------------------------------------- input

static int open_input(struct counting *c)
{
    c->input = malloc(INPUT_BYTES);
    if (!c->input) {
        cli_complain("out of memory");
        return CLI_WRONG_USE;
    }
    if (c->following) {
        struct cli_follow_batch last;
        int code = cli_follow_open(c->file_name, c->position_path, &c->follow, &c->merged);
        if (code != CLI_DONE) return code;
        cli_follow_last(c->follow, &last);
        c->producer = last.producer;
        cli_follow_start(c->follow, &c->input_at, &c->line_number, &c->counted_before);
        return CLI_DONE;
    }
    c->fd = STDIN_FILENO;
    if (strcmp(c->file_name, "-") != 0) {
        c->fd = open(c->file_name, O_RDONLY | O_CLOEXEC);
        if (c->fd < 0) {
            cli_complain("cannot open %s: %s", c->file_name, strerror(errno));
            return CLI_WRONG_USE;
        }
    }
    struct stat about;
    if (fstat(c->fd, &about) == 0 && S_ISREG(about.st_mode)) c->file_bytes = (uint64_t)about.st_size;
    return CLI_DONE;
}

// The file is through, and its last line too: on to the next one.
static void next_file(struct counting *c)
{
    c->file_over = c->in_long_line = false;
    c->begin = c->end = 0;
    cli_follow_start(c->follow, &c->input_at, &c->line_number, &c->counted_before);
}

static void read_followed(struct counting *c)
{
    size_t got = 0;
    switch (cli_follow_read(c->follow, c->input + c->end, INPUT_BYTES - c->end, &got)) {
    case CLI_FOLLOW_DATA:
        c->end += got;
        c->read_bytes += got;
        break;
    case CLI_FOLLOW_WAIT: break;
    case CLI_FOLLOW_END: c->file_over = true; break;
    case CLI_FOLLOW_FAILED: c->input_over = true; c->code = CLI_WRONG_USE;
    }
}

static void read_input(struct counting *c)
{
    memmove(c->input, c->input + c->begin, c->end - c->begin);
    c->end -= c->begin;
    c->input_at += c->begin;
    c->begin = 0;
    if (c->following) {
        read_followed(c);
        return;
    }
    ssize_t got = read(c->fd, c->input + c->end, INPUT_BYTES - c->end);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
    if (got < 0) {
        cli_complain("cannot read %s: %s", c->file_name, strerror(errno));
        c->input_over = true;
        c->code = CLI_WRONG_USE;
        return;
    }
    if (got == 0) c->input_over = true;
    c->end += (size_t)got;
    c->read_bytes += (uint64_t)got;
}

static void bad_line(struct counting *c, const char *why)
{
    c->bad_lines++;
    if (!c->skip_bad) {
        cli_complain("%s line %" PRIu64 ": %s; it and what follows are not counted",
                     strcmp(c->file_name, "-") ? c->file_name : "input", c->line_number, why);
        c->code = CLI_WRONG_USE;
        c->input_over = true;
        c->begin = c->end = 0;
    } else if (c->bad_lines <= 5) {
        cli_complain("line %" PRIu64 " skipped: %s", c->line_number, why);
    } else if (c->bad_lines == 6) {
        cli_complain("further bad lines are skipped without a word; their number comes at the end");
    }
}

static size_t line_bytes_max(const struct counting *c)
{
    return c->format.kind == CLI_FORMAT_LINES ? CLI_LINE_BYTES_MAX : CLI_LOG_BYTES_MAX;
}

static const char *parse_line(struct counting *c, uint8_t *line, size_t size)
{
    if (size > line_bytes_max(c)) return "the line is too long for any event";
    if (c->format.kind != CLI_FORMAT_LINES)
        return cli_format_parse(&c->format, line, size, c->events_of_line, &c->count_of_line);
    c->count_of_line = 1;
    return cli_line_parse(line, size, &c->form, &c->events_of_line[0]);
}

// The events of the next line that has some. False when more must be read first (or there is none). A line over the
// limit is bad as soon as it is over it, and the rest of it is skipped.
static bool next_line(struct counting *c)
{
    bool last = c->input_over || c->file_over;
    c->next = c->count_of_line = 0;
    while (c->begin < c->end) {
        uint8_t *line = c->input + c->begin;
        size_t left = c->end - c->begin;
        uint8_t *newline = memchr(line, '\n', left);
        if (!newline && !last && left <= line_bytes_max(c) && !c->in_long_line) return false;
        size_t size = newline ? (size_t)(newline - line) : left;
        bool rest = c->in_long_line;
        if (!rest) c->line_at = c->input_at + c->begin;
        c->begin += size + (newline != NULL);
        c->in_long_line = !newline;
        if (rest) continue;
        c->line_number++;
        if (size == 0) continue;
        const char *why = parse_line(c, line, size);
        if (why) {
            c->count_of_line = 0;
            bad_line(c, why);
            continue;
        }
        if (c->counted_before) c->next = c->counted_before < c->count_of_line ? c->counted_before : c->count_of_line;
        c->counted_before = 0;
        if (c->next < c->count_of_line) return true;
    }
    if (c->file_over && c->begin == c->end) next_file(c);
    return false;
}

static bool holding(const struct counting *c) { return c->next < c->count_of_line; }

static bool has_line(const struct counting *c)
{
    bool last = c->input_over || c->file_over;
    return holding(c) || (c->begin < c->end && (last || memchr(c->input + c->begin, '\n', c->end - c->begin)));
}

// --------------------------------------------------------------------------------------------------- merging

// Milliseconds until the rate allows another event; 0: now.
static int rate_wait_ms(const struct counting *c, uint64_t now)
{
    if (!c->rate) return 0;
    uint64_t due_ms = c->events * 1000 / c->rate, elapsed = now - c->start_ms;
    return due_ms < elapsed || c->events == 0 ? 0 : (int)(due_ms - elapsed + 1);
}

// Merges what is there, as far as the rate and the merge allow.
static void merge_input(struct counting *c)
{
    uint64_t allowed = UINT64_MAX, now = cli_now_ms();
    if (c->rate) {
        uint64_t due = (now - c->start_ms) * c->rate / 1000 + 1;
        allowed = due > c->events ? due - c->events : 0;
    }
    while (allowed > 0 && (holding(c) || next_line(c))) {
        const struct cli_event *event = &c->events_of_line[c->next];
        if (cli_merge_entries(c->merge) == 0) c->merge_since_ms = now;
        if (cli_merge_add(c->merge, event->table, event->key, event->amount) != TALLY_OK) return;
        c->next++;
        c->events++;
        allowed--;
        if (!c->following) continue;
        // Behind the line when all of it is merged, else before it and so many events.
        bool whole = !holding(c);
        cli_follow_position(c->follow, whole ? c->input_at + c->begin : c->line_at,
                            whole ? c->line_number : c->line_number - 1, whole ? 0 : c->next, &c->merged);
    }
}

static bool merge_due(const struct counting *c, uint64_t now)
{
    if (cli_merge_entries(c->merge) == 0) return false;
    bool input_used = c->input_over && c->begin == c->end;
    return holding(c) || input_used || c->interrupted_ms || now - c->merge_since_ms >= c->batch_ms;
}

// --------------------------------------------------------------------------------------------------- telling

static void show_progress(struct counting *c, bool force)
{
    uint64_t now = cli_now_ms();
    if (c->quiet || (!force && now - c->told_ms < 200)) return;
    c->told_ms = now;
    struct cli_sender_figures figures;
    cli_sender_figures(c->sender, &figures);
    char line[256], events[32], rate[32], percent[32] = "";
    double seconds = (double)(now - c->start_ms + 1) / 1000;
    if (c->file_bytes)
        snprintf(percent, sizeof percent, "%3.0f %%  ", 100.0 * (double)c->read_bytes / (double)c->file_bytes);
    uint64_t silent = cli_sender_silent_ms(c->sender);
    char state[64] = "";
    if (!figures.connected)
        snprintf(state, sizeof state, "  not connected");
    else if (silent > 1000)
        snprintf(state, sizeof state, "  no answer for %.0f s", (double)silent / 1000);
    snprintf(line, sizeof line, "%s%s events acknowledged  %s/s  %" PRIu64 " batches  version %" PRIu64 "%s", percent,
             cli_thousands(figures.events, events), cli_thousands((uint64_t)((double)figures.events / seconds), rate),
             figures.batches, figures.version, state);
    cli_progress(line);
}

static int tell_result(struct counting *c)
{
    cli_progress(NULL);
    struct cli_sender_figures figures;
    cli_sender_figures(c->sender, &figures);
    double seconds = (double)(cli_now_ms() - c->start_ms) / 1000;
    if (c->bad_lines && c->skip_bad) cli_complain("%" PRIu64 " bad lines were skipped", c->bad_lines);
    if (c->json) {
        printf("{\"events\":%" PRIu64 ",\"batches\":%" PRIu64 ",\"acknowledged_version\":%" PRIu64
               ",\"seconds\":%.3f,\"bytes\":%" PRIu64 ",\"repeats\":%" PRIu64 ",\"bad_lines\":%" PRIu64
               ",\"interrupted\":%s}\n",
               figures.events, figures.batches, figures.version, seconds, figures.bytes, figures.repeats, c->bad_lines,
               c->interrupted_ms ? "true" : "false");
    } else if (!c->quiet) {
        char events[32], bytes[32];
        printf("%s events in %" PRIu64 " batches (%s) acknowledged at version %" PRIu64 ", %.2f s%s\n",
               cli_thousands(figures.events, events), figures.batches, cli_bytes((double)figures.bytes, bytes),
               figures.version, seconds, c->interrupted_ms ? ", interrupted" : "");
    }
    if (!cli_flush()) return CLI_WRONG_USE;
    uint64_t missing = c->events - figures.events;
    if (missing == 0) return c->code;
    if (c->following)
        cli_complain("%" PRIu64 " events that were read were not acknowledged; the next run sends them", missing);
    else if (missing > figures.refused) // of those that were refused it was said that they are not counted
        cli_complain("%" PRIu64 " events that were read were not acknowledged; they may or may not be counted",
                     missing - figures.refused);
    return CLI_UNREACHABLE;
}

// -------------------------------------------------------------------------------------------------- the loop

static bool finished(const struct counting *c)
{
    struct cli_sender_figures figures;
    cli_sender_figures(c->sender, &figures);
    bool nothing_left = (c->input_over && c->begin == c->end && !holding(c)) || c->interrupted_ms;
    return nothing_left && cli_merge_entries(c->merge) == 0 && figures.in_flight == 0;
}

static void wait_for_something(struct counting *c)
{
    uint64_t now = cli_now_ms();
    bool lane = cli_sender_ready(c->sender), line = has_line(c);
    bool want_input = !c->input_over && !c->interrupted_ms && !line;
    int timeout = 100; // progress, back-off, connection state
    if (cli_merge_entries(c->merge) && lane) {
        uint64_t due = c->merge_since_ms + c->batch_ms;
        int left = merge_due(c, now) || due <= now ? 0 : (int)(due - now);
        if (left < timeout) timeout = left;
    }
    int rate_wait = rate_wait_ms(c, now);
    if (line && !holding(c) && rate_wait < timeout) timeout = rate_wait;
    // A file is always readable, at its end too: whether there is more is looked at first, and after a while.
    if (want_input && c->following) {
        uint64_t before = c->read_bytes;
        read_input(c);
        if (c->read_bytes != before || c->file_over) return;
        if (timeout > FOLLOW_MS) timeout = FOLLOW_MS;
        want_input = false;
    }
    struct pollfd polls[2] = {{.fd = cli_sender_wake_fd(c->sender), .events = POLLIN},
                              {.fd = want_input ? c->fd : -1, .events = POLLIN}};
    if (poll(polls, 2, timeout) < 0) return;
    if (want_input && polls[1].revents) read_input(c);
}

static int run_loop(struct counting *c)
{
    for (;;) {
        int code = cli_sender_work(c->sender);
        if (code != CLI_DONE) return code;
        uint64_t now = cli_now_ms();
        if (cli_interrupted && !c->interrupted_ms) {
            c->interrupted_ms = now;
            c->next = c->count_of_line;
        }
        if (!c->interrupted_ms) merge_input(c);
        if (merge_due(c, now) && cli_sender_ready(c->sender)) {
            code = cli_sender_send(c->sender, c->merge);
            if (code != CLI_DONE) return code;
            continue;
        }
        if (finished(c)) return CLI_DONE;
        uint64_t silent = cli_sender_silent_ms(c->sender);
        if (c->timeout_s && silent > c->timeout_s * 1000) {
            cli_complain("no answer from %s for %" PRIu64 " s", c->to, c->timeout_s);
            return CLI_UNREACHABLE;
        }
        if (c->interrupted_ms && now - c->interrupted_ms > LAST_WORDS_MS) return CLI_UNREACHABLE;
        show_progress(c, false);
        wait_for_something(c);
    }
}

static const struct cli_option *options_of(struct counting *c, size_t *out_count);

static int check_kind(struct counting *c)
{
    c->form.kind = TALLY_KIND_COUNTER;
    if (c->kind_text) c->form.kind = tally_kind_of(tally_bytes(c->kind_text, strlen(c->kind_text)));
    if (c->form.kind == TALLY_KIND_UNSPECIFIED) {
        cli_complain("--kind wants counter, gauge, min, max, distinct or topk, not \"%s\"", c->kind_text);
        return CLI_WRONG_USE;
    }
    if (c->adjust && c->form.kind != TALLY_KIND_GAUGE) {
        cli_complain("--adjust is of --kind gauge");
        return CLI_WRONG_USE;
    }
    // The last value holds: batches must not overtake each other.
    if (c->form.kind == TALLY_KIND_GAUGE && !c->adjust) c->in_flight = 1;
    return CLI_DONE;
}

static int check_format(struct counting *c)
{
    const char *why = NULL;
    if (c->format_text && !cli_format_of(c->format_text, &c->format.kind)) {
        cli_complain("--format wants lines, common, combined, json or tsv, not \"%s\"", c->format_text);
        return CLI_WRONG_USE;
    }
    if (c->format.kind == CLI_FORMAT_LINES && c->rules.count) {
        cli_complain("--count is of a --format other than lines");
        return CLI_WRONG_USE;
    }
    c->format.counted_as = c->form.kind;
    for (size_t i = 0; i < c->rules.count; i++) {
        if (!(why = cli_format_rule(&c->format, c->rules.items[i]))) continue;
        cli_complain("--count \"%s\": %s", c->rules.items[i], why);
        return CLI_WRONG_USE;
    }
    if (c->format.kind != CLI_FORMAT_LINES && !c->rules.count && (why = cli_format_default(&c->format))) {
        cli_complain("%s", why);
        return CLI_WRONG_USE;
    }
    // A log is never wrong: it is what there is.
    if (c->format.kind != CLI_FORMAT_LINES || c->following) c->skip_bad = true;
    return CLI_DONE;
}

static int check_follow(struct counting *c)
{
    if (c->position_path && !c->following) {
        cli_complain("--position is of --follow");
        return CLI_WRONG_USE;
    }
    if (c->batch_ms == UINT64_MAX) c->batch_ms = c->following ? 200 : 10;
    if (!c->following) return CLI_DONE;
    if (strcmp(c->file_name, "-") == 0 || c->producer_text) {
        cli_complain(c->producer_text ? "--follow has a producer of its own: no --producer" : "--follow wants a FILE");
        return CLI_WRONG_USE;
    }
    c->in_flight = 1;
    return CLI_DONE;
}

static int check_options(struct counting *c, int words, char **argv)
{
    if (words > 1) {
        cli_complain("one FILE at a time; `cat` several into `tallycast count ... -`");
        return CLI_WRONG_USE;
    }
    c->file_name = words ? argv[1] : "-";
    if (!tally_name_valid(tally_bytes(c->dataset, strlen(c->dataset)))) {
        cli_complain("--dataset \"%s\" is not 1 to 64 of a-z 0-9 _ . -", c->dataset);
        return CLI_WRONG_USE;
    }
    if (c->producer_text) {
        if (!cli_number(c->producer_text, &c->producer) || c->producer == 0) {
            cli_complain("--producer wants a number from 1 to 2^64 - 1, decimal or 0x..., not \"%s\"",
                         c->producer_text);
            return CLI_WRONG_USE;
        }
        c->in_flight = 1;
    }
    int code = check_kind(c);
    if (code == CLI_DONE) code = check_follow(c);
    return code == CLI_DONE ? check_format(c) : code;
}

// Before a batch is sent: kept, with where the next one begins.
static int keep(void *ctx, uint64_t producer, uint64_t sequence, uint64_t events, struct tally_bytes request)
{
    struct counting *c = ctx;
    const struct cli_follow_batch batch = {producer, sequence, events, request};
    return cli_follow_save(c->follow, &c->merged, &batch);
}

static int count_all(struct counting *c)
{
    int code = open_input(c);
    if (code != CLI_DONE) return code;
    struct tally_seed seed;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed) seed = (struct tally_seed){cli_unix_ms(), 1};
    c->merge = cli_merge_create(c->batch_bytes, c->kind_text ? c->form.kind : TALLY_KIND_UNSPECIFIED, c->adjust, seed);
    if (!c->merge) {
        cli_complain("out of memory");
        return CLI_WRONG_USE;
    }
    struct cli_sender_options sender = {
        .url = c->to,
        .dataset = c->dataset,
        .tls_ca = c->tls_ca,
        .tls_cert = c->tls_cert,
        .tls_key = c->tls_key,
        .lanes = (unsigned)c->in_flight,
        .producer = c->producer,
        .keep = c->following ? keep : NULL,
        .ctx = c,
    };
    code = cli_sender_open(&sender, &c->sender);
    if (code != CLI_DONE) return code;
    if (c->following) {
        struct cli_follow_batch last;
        cli_follow_last(c->follow, &last);
        code = cli_sender_resume(c->sender, last.sequence, last.request);
        if (code != CLI_DONE) return code;
    }
    cli_catch_signals();
    c->start_ms = cli_now_ms();
    code = run_loop(c);
    int told = tell_result(c);
    return code != CLI_DONE ? code : told;
}

static int run(int argc, char **argv)
{
    struct counting c = {.to = "tcp://127.0.0.1:7701",
                         .dataset = "main",
                         .batch_bytes = TALLY_BATCH_BYTES_MAX,
                         .batch_ms = UINT64_MAX,
                         .in_flight = 4,
                         .fd = -1};
    size_t option_count;
    const struct cli_option *options = options_of(&c, &option_count);
    int words = cli_parse(&cli_count, options, option_count, argc, argv);
    int code = check_options(&c, words, argv);
    if (code == CLI_DONE) code = count_all(&c);
    cli_sender_end(&c.sender);
    cli_merge_destroy(&c.merge);
    cli_follow_close(&c.follow);
    if (c.fd > STDIN_FILENO) close(c.fd);
    free(c.input);
    return code;
}

static const struct cli_option *options_of(struct counting *c, size_t *out_count)
{
    static struct cli_option options[21];
    const struct cli_option all[] = {
        {"to", "URL", "the server's ingest endpoint (tcp://127.0.0.1:7701);\ntls+tcp:// with --tls-ca", CLI_TEXT,
         &c->to, 0, 0},
        {"dataset", "NAME", "the dataset (main)", CLI_TEXT, &c->dataset, 0, 0},
        {"json", NULL, "print the result as one line of JSON", CLI_FLAG, &c->json, 0, 0},
        {"quiet", NULL, "no progress, no result", CLI_FLAG, &c->quiet, 0, 0},
        {"rate", "N", "send at most N events a second", CLI_NUMBER, &c->rate, 1, 1000000000},
        {"skip-bad", NULL, "skip bad lines and tell how many", CLI_FLAG, &c->skip_bad, 0, 0},
        {"escaped", NULL, "keys are written as dump writes them: \\t \\n \\r \\\\", CLI_FLAG, &c->form.escaped, 0, 0},
        {"kind", "KIND",
         "what the tables are: counter, gauge, min, max,\ndistinct, topk (as they are; new ones counters)", CLI_TEXT,
         &c->kind_text, 0, 0},
        {"adjust", NULL, "with --kind gauge: add to the values, not set them", CLI_FLAG, &c->adjust, 0, 0},
        {"format", "FORMAT", "of the lines: lines, common, combined, json, tsv (lines)", CLI_TEXT, &c->format_text, 0,
         0},
        {"count", "TABLE=KEY", "what a line of a log counts; may be given several times", CLI_LIST, &c->rules, 0, 0},
        {"follow", NULL, "go on when FILE ends, through its rotations, and\nlater where this run ended", CLI_FLAG,
         &c->following, 0, 0},
        {"position", "FILE", "where --follow keeps how far it came\n(FILE.tallycast)", CLI_TEXT, &c->position_path, 0,
         0},
        {"batch-ms", "MS", "send what is merged after so long (10; --follow 200)", CLI_NUMBER, &c->batch_ms, 0, 60000},
        {"batch-bytes", "N", "or when a batch would be larger (1048576)", CLI_NUMBER, &c->batch_bytes, 4096,
         TALLY_BATCH_BYTES_MAX},
        {"in-flight", "N", "batches on their way at once, each of a producer\nof its own (4)", CLI_NUMBER,
         &c->in_flight, 1, CLI_LANES_MAX},
        {"producer", "ID", "count as this producer, going on with its sequence\n(a random one; implies --in-flight 1)",
         CLI_TEXT, &c->producer_text, 0, 0},
        {"timeout", "SECONDS", "give up when the server is silent for so long\n(never)", CLI_NUMBER, &c->timeout_s, 1,
         86400},
        {"tls-ca", "FILE", "CA that signed the server's certificate", CLI_TEXT, &c->tls_ca, 0, 0},
        {"tls-cert", "FILE", "own certificate, with --tls-key FILE", CLI_TEXT, &c->tls_cert, 0, 0},
        {"tls-key", "FILE", "own private key", CLI_TEXT, &c->tls_key, 0, 0},
    };
    _Static_assert(sizeof all / sizeof *all <= sizeof options / sizeof *options, "room for every option");
    *out_count = sizeof all / sizeof *all;
    memcpy(options, all, sizeof all);
    return options;
}

const struct cli_command cli_count = {
    .name = "count",
    .arguments = "[--to URL] [--dataset NAME] [OPTIONS] [FILE|-]",
    .purpose = "Count events: lines of table<TAB>key[<TAB>amount] or of a log, from FILE or standard input.",
    .details =
        "--format says what lines are of, and --count TABLE=KEY[+FIELD] what is counted: KEY is a field,\n"
        "or a text with {field}s in it; with +FIELD its number is added (of --kind distinct: it is the\n"
        "member), else 1. A field that a line lacks, or that is -, makes no event. Fields are\n"
        "  common     host ident user time method target path query protocol status bytes, as web\n"
        "             servers write them: --count paths=path --count statuses=status --count hosts=host\n"
        "             when none is given\n"
        "  combined   and referer agent\n"
        "  json       an object a line: its members, a.b of those in others\n"
        "  tsv        1, 2, 3 ...\n"
        "Lines of a log that do not fit are skipped, named (the first five) and counted.\n"
        "\n"
        "--follow reads on for ever, also when FILE is renamed and made anew, or copied and truncated.\n"
        "How far it came is kept in a file beside it, with the batch that is under way: however the run\n"
        "ends, the next one counts each line once. Lines that do not fit are skipped.\n"
        "\n"
        "--kind says what the lines are about, and what new tables become. The third column is then\n"
        "  counter, topk    an amount of 0 or more (1)\n"
        "  gauge            the value that is set; with --adjust, what is added. One batch at a time\n"
        "  min, max         a value that is offered\n"
        "  distinct         the member that is counted once, as bytes like the key\n"
        "\n"
        "Lines are merged into batches; a batch is sent until the server says that it is on disk, and\n"
        "counted once however often that takes. While the server is away the command waits for it.\n"
        "\n"
        "A bad line ends the command with code 2, and is named; the lines before it are counted. With\n"
        "--skip-bad bad lines are left out. An empty line is no event. Ctrl-C stops reading, waits up\n"
        "to 5 seconds for what was read to be acknowledged, and tells how far it came; a second one\n"
        "ends at once.\n"
        "\n"
        "Exit codes: 0 everything that was read is acknowledged, 2 wrong use or a bad line, 3 not\n"
        "everything was acknowledged, 4 the server refused.\n"
        "\n"
        "Examples:\n"
        "  tallycast count --follow --format combined --count 'pages={status} {path}' access.log\n"
        "  printf 'pages\\t/home\\npages\\t/about\\t3\\n' | tallycast count --to tcp://127.0.0.1:7701 --dataset main\n",
    .run = run,
};
