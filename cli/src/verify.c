// SPDX-License-Identifier: Apache-2.0
//
// tallycast verify: the digest recomputed row by row, from nothing but the rows, and compared with the one
// that was stated. It shares no code with the mirror's running digest but the hash of a row.
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <tallycast/fingerprint.h>

#include "cli.h"
#include "http.h"
#include "lines.h"
#include "snapshot.h"

struct verifying {
    const char *at, *name;
    bool as_json;
    struct cli_meta stated;
    struct tally_digest sum;
    uint64_t rows;
    struct tally_bytes table; // the name that `table_hash` is of
    uint8_t table_name[TALLY_NAME_BYTES_MAX];
    uint64_t table_hash;
    bool begun;
};

static void add_row(struct verifying *v, struct tally_bytes table, struct tally_bytes key, int64_t value)
{
    if (!v->table.data || !tally_bytes_equal(v->table, table)) {
        memcpy(v->table_name, table.data, table.size);
        v->table = tally_bytes(v->table_name, table.size);
        v->table_hash = tally_digest_table(v->stated.seed, table);
    }
    uint64_t fingerprint = tally_fingerprint(v->stated.seed, key.data, key.size);
    tally_digest_add(&v->sum, tally_digest_row(v->table_hash, fingerprint, value));
    v->rows++;
}

// ----------------------------------------------------------------------------------------------- from a file

// A row reads as an event does, but that values may be negative.
static const struct cli_line_form row_form = {.escaped = true, .kind = TALLY_KIND_COUNTER};

static int read_lines(struct verifying *v, FILE *file)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    int code = CLI_DONE;
    for (uint64_t number = 1; code == CLI_DONE && (size = getline(&line, &room, file)) >= 0; number++) {
        if (size && line[size - 1] == '\n') line[--size] = 0;
        if (number == 1) {
            if (cli_meta_parse(line, &v->stated)) continue;
            cli_complain("%s line 1: not what `tallycast dump --meta` writes first", v->name);
            code = CLI_WRONG_USE;
            break;
        }
        char *last = memrchr(line, '\t', (size_t)size);
        int64_t value = 0;
        struct cli_event event;
        const char *why = "no value";
        if (last && cli_value_parse(tally_bytes(last + 1, (size_t)size - (size_t)(last + 1 - line)), &value))
            why = cli_line_parse((uint8_t *)line, (size_t)(last - line), &row_form, &event);
        if (!why) {
            add_row(v, event.table, event.key, value);
            continue;
        }
        cli_complain("%s line %" PRIu64 ": %s", v->name, number, why);
        code = CLI_WRONG_USE;
    }
    if (code == CLI_DONE && ferror(file)) {
        cli_complain("cannot read %s: %s", v->name, strerror(errno));
        code = CLI_WRONG_USE;
    }
    if (code == CLI_DONE && !v->stated.dataset[0]) {
        cli_complain("%s is empty", v->name);
        code = CLI_WRONG_USE;
    }
    free(line);
    return code;
}

static int verify_file(struct verifying *v)
{
    FILE *file = strcmp(v->name, "-") == 0 ? stdin : fopen(v->name, "re");
    if (!file) {
        cli_complain("cannot open %s: %s", v->name, strerror(errno));
        return CLI_WRONG_USE;
    }
    int code = read_lines(v, file);
    if (file != stdin) fclose(file);
    return code;
}

// ------------------------------------------------------------------------------------------- from a snapshot

static bool add_table(struct verifying *v, struct tally_table_reader *table)
{
    uint8_t name[TALLY_NAME_BYTES_MAX];
    size_t name_size = table->name.size;
    memcpy(name, table->name.data, name_size);
    uint32_t id;
    struct tally_bytes key;
    int64_t value;
    enum tally_status status = tally_table_next_removed(table, &id);
    if (status == TALLY_NOT_FOUND) status = tally_table_next_changed(table, &id, &value);
    if (status != TALLY_NOT_FOUND) return false; // a whole state only adds
    while ((status = tally_table_next_added(table, &id, &key, &value)) == TALLY_OK)
        add_row(v, tally_bytes(name, name_size), key, value);
    return status == TALLY_NOT_FOUND;
}

static bool on_frame(void *ctx, struct tally_bytes frame)
{
    struct verifying *v = ctx;
    struct tally_frame_reader reader;
    enum tally_status status = tally_frame_open(frame, &reader);
    if (status == TALLY_OK && !v->begun) {
        const struct tally_frame_header *header = &reader.header;
        memcpy(v->stated.dataset, header->dataset.data, header->dataset.size < 64 ? header->dataset.size : 64);
        v->stated.epoch = header->epoch;
        v->stated.version = header->to;
        v->stated.digest = header->digest;
        v->stated.seed = header->seed;
        v->stated.keys = header->rows;
        v->begun = true;
    }
    struct tally_table_reader table;
    bool good = status == TALLY_OK && reader.header.from == 0;
    while (good && (status = tally_frame_next_table(&reader, &table)) == TALLY_OK) good = add_table(v, &table);
    if (good && status == TALLY_NOT_FOUND) return true;
    cli_complain("what %s sent is no whole state: %s", v->at, tally_status_str(status));
    return false;
}

// ------------------------------------------------------------------------------------------------ the answer

static int tell(const struct verifying *v)
{
    bool good = tally_digest_equal(v->sum, v->stated.digest) && v->rows == v->stated.keys;
    char stated[TALLY_DIGEST_HEX_BYTES], found[TALLY_DIGEST_HEX_BYTES];
    tally_digest_format(v->stated.digest, stated);
    tally_digest_format(v->sum, found);
    if (v->as_json) {
        printf("{\"dataset\":\"%s\",\"epoch\":\"%016" PRIx64 "\",\"version\":%" PRIu64 ",\"keys\":%" PRIu64
               ",\"digest\":\"%s\",\"stated_keys\":%" PRIu64 ",\"stated_digest\":\"%s\",\"ok\":%s}\n",
               v->stated.dataset, v->stated.epoch, v->stated.version, v->rows, found, v->stated.keys, stated,
               good ? "true" : "false");
    } else if (good) {
        printf("good: version %" PRIu64 " of dataset %s, %" PRIu64 " keys, digest %s\n", v->stated.version,
               v->stated.dataset, v->rows, found);
    } else {
        printf("bad: version %" PRIu64 " of dataset %s was stated with %" PRIu64 " keys, digest %s; these are %" PRIu64
               " keys, digest %s\n",
               v->stated.version, v->stated.dataset, v->stated.keys, stated, v->rows, found);
    }
    if (!cli_flush()) return CLI_WRONG_USE;
    return good ? CLI_DONE : CLI_NO;
}

static int run(int argc, char **argv)
{
    struct verifying v = {0};
    const struct cli_option options[] = {
        {"at", "URL", "fetch from the HTTP of a server or an edge", CLI_TEXT, &v.at, 0, 0},
        {"json", NULL, "print the result as one line of JSON", CLI_FLAG, &v.as_json, 0, 0},
    };
    int words = cli_parse(&cli_verify, options, 2, argc, argv);
    if (words > 1 || (words == 1 && v.at) || (words == 0 && !v.at)) {
        cli_complain("wants either FILE (- for standard input) or --at URL");
        return CLI_WRONG_USE;
    }
    if (v.at && !cli_http_check_url(v.at)) return CLI_WRONG_USE;
    v.name = words ? argv[1] : v.at;
    cli_catch_signals();
    int code = v.at ? cli_snapshot_fetch(v.at, on_frame, &v) : verify_file(&v);
    if (code == CLI_DONE && v.at && !v.begun) {
        cli_complain("%s holds version 0: nothing was counted yet", v.at);
        return CLI_NO;
    }
    return code == CLI_DONE ? tell(&v) : code;
}

const struct cli_command cli_verify = {
    .name = "verify",
    .arguments = "[--json] FILE|-|--at URL",
    .purpose = "Recompute the digest of a dump row by row and compare it with the stated one.",
    .details = "FILE is what `tallycast dump --meta` wrote; with --at a whole version is fetched instead.\n"
               "\n"
               "Exit codes: 0 equal, 1 not equal, 2 wrong use or no dump, 3 cannot reach, 4 refused.\n"
               "\n"
               "Example:\n"
               "  tallycast dump --meta > main.dump && tallycast verify main.dump\n",
    .run = run,
};
