// SPDX-License-Identifier: Apache-2.0
//
// tallycast version and get: a question by HTTP, an answer on stdout.
#include <inttypes.h>
#include <io/json.h>
#include <messages/messages.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "http.h"

#define AT_DEFAULT "http://127.0.0.1:8090"

// --------------------------------------------------------------------------------------------------- version

static const char *text_of(const json_t *json, const char *name)
{
    const char *text = json_string_value(json_object_get(json, name));
    return text ? text : "-";
}

static long long number_of(const json_t *json, const char *name)
{
    return json_integer_value(json_object_get(json, name));
}

static int run_version(int argc, char **argv)
{
    const char *at = AT_DEFAULT;
    bool as_json = false;
    const struct cli_option options[] = {
        {"at", "URL", "HTTP of a server or an edge (" AT_DEFAULT ")", CLI_TEXT, &at, 0, 0},
        {"json", NULL, "print the answer as it came", CLI_FLAG, &as_json, 0, 0},
    };
    if (cli_parse(&cli_version, options, 2, argc, argv) != 0) {
        cli_complain("unexpected argument \"%s\"", argv[1]);
        return CLI_WRONG_USE;
    }
    if (!cli_http_check_url(at)) return CLI_WRONG_USE;
    json_t *json = NULL;
    int code = cli_http_json(at, "/v1/version", tally_bytes(NULL, 0), &json);
    if (code == CLI_DONE && as_json) {
        code = cli_http_print_json(json);
    } else if (code == CLI_DONE) {
        char age[32] = "-"; // of nothing
        if (json_is_integer(json_object_get(json, "age_ms")))
            (void)snprintf(age, sizeof age, "%lld ms", number_of(json, "age_ms"));
        printf("dataset  %s\nepoch    %s\nversion  %lld\ndigest   %s\nkeys     %lld\ncut at   %s\nage      %s\n"
               "lag      %lld\nstate    %s\n",
               text_of(json, "dataset"), text_of(json, "epoch"), number_of(json, "version"), text_of(json, "digest"),
               number_of(json, "keys"), text_of(json, "cut_at"), age, number_of(json, "lag"), text_of(json, "state"));
        if (!cli_flush()) code = CLI_WRONG_USE;
    }
    json_decref(json);
    return code;
}

const struct cli_command cli_version = {
    .name = "version",
    .arguments = "[--at URL] [--json]",
    .purpose = "Show which version of its dataset a server or an edge serves.",
    .details = "Exit codes: 0 done, 2 wrong use, 3 cannot reach, 4 refused.\n"
               "\n"
               "Example:\n"
               "  tallycast version --at http://127.0.0.1:8091\n",
    .run = run_version,
};

// ---------------------------------------------------------------------------------------------------- get

struct getting {
    const char *at, *table;
    bool as_json, escaped;
    uint64_t asked, missing, versions;
    struct tally_bytes keys[TALLY_QUERY_KEYS_MAX];
    size_t count;
};

static void print_value(const struct getting *g, struct tally_bytes key, const json_t *value, const json_t *answer)
{
    if (!g->as_json) {
        if (!json_is_integer(value)) return;
        cli_write_escaped(stdout, key);
        printf("\t%" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
        return;
    }
    struct tally_writer writer = tally_writer_growable(&tally_alloc_libc);
    struct tally_json json = tally_json(&writer);
    tally_json_object_begin(&json, NULL);
    tally_json_str(&json, "table", g->table);
    tally_json_bytes(&json, "key", key);
    if (!tally_utf8_valid(key)) tally_json_base64(&json, "key_base64", key);
    if (json_is_integer(value))
        tally_json_i64(&json, "value", json_integer_value(value));
    else
        tally_json_null(&json, "value");
    tally_json_str(&json, "dataset", text_of(answer, "dataset"));
    tally_json_str(&json, "epoch", text_of(answer, "epoch"));
    tally_json_i64(&json, "version", number_of(answer, "version"));
    tally_json_i64(&json, "age_ms", number_of(answer, "age_ms"));
    tally_json_object_end(&json);
    fwrite(writer.data, 1, writer.size, stdout);
    putchar('\n');
    tally_writer_free(&writer);
}

static void tell_missing(struct getting *g, struct tally_bytes key)
{
    g->missing++;
    if (g->missing == 11) cli_complain("further keys that are not there are not named");
    if (g->missing > 10) return;
    fprintf(stderr, "tallycast get: not found: ");
    cli_write_escaped(stderr, key);
    fputc('\n', stderr);
}

// A key that is no UTF-8 cannot stand in JSON; its bytes can stand in a path.
static int get_one(struct getting *g, struct tally_bytes key)
{
    struct tally_writer path = tally_writer_growable(&tally_alloc_libc);
    tally_write_raw(&path, "/v1/get/", 8);
    tally_write_raw(&path, g->table, strlen(g->table));
    tally_write_raw(&path, "/", 1);
    cli_http_encode(&path, key);
    tally_write_raw(&path, "", 1);
    json_t *answer = NULL;
    int code = path.failed ? CLI_REFUSED : cli_http_json(g->at, (const char *)path.data, tally_bytes(NULL, 0), &answer);
    if (code == CLI_NO) {
        tell_missing(g, key);
        code = CLI_DONE;
    } else if (code == CLI_DONE) {
        print_value(g, key, json_object_get(answer, "value"), answer);
    }
    json_decref(answer);
    tally_writer_free(&path);
    return code;
}

static int get_batch(struct getting *g)
{
    if (g->count == 0) return CLI_DONE;
    struct tally_writer body = tally_writer_growable(&tally_alloc_libc);
    struct tally_json json = tally_json(&body);
    tally_json_object_begin(&json, NULL);
    tally_json_str(&json, "table", g->table);
    tally_json_array_begin(&json, "keys");
    for (size_t i = 0; i < g->count; i++)
        if (tally_utf8_valid(g->keys[i])) tally_json_bytes(&json, NULL, g->keys[i]);
    tally_json_array_end(&json);
    tally_json_object_end(&json);
    json_t *answer = NULL;
    int code = cli_http_json(g->at, "/v1/get", tally_writer_bytes(&body), &answer);
    const json_t *values = json_object_get(answer, "values");
    size_t next = 0;
    for (size_t i = 0; (code == CLI_DONE || code == CLI_NO) && i < g->count; i++) {
        if (!tally_utf8_valid(g->keys[i])) {
            int one = get_one(g, g->keys[i]);
            if (one != CLI_DONE) code = one;
            continue;
        }
        const json_t *value = json_array_get(values, next++);
        if (!json_is_integer(value)) tell_missing(g, g->keys[i]);
        if (json_is_integer(value) || g->as_json) print_value(g, g->keys[i], value, answer);
    }
    if (code == CLI_NO) code = CLI_DONE; // an unknown table: every key of it is missing, and was named
    json_decref(answer);
    tally_writer_free(&body);
    g->count = 0;
    return code;
}

static int add_key(struct getting *g, uint8_t *text, size_t size, uint64_t line)
{
    size_t key = line && g->escaped ? cli_unescape(text, size) : size;
    if (key == SIZE_MAX || key == 0 || key > TALLY_KEY_BYTES_MAX) {
        cli_complain("%s%.0" PRIu64 "%s", line ? "line " : "key ", line,
                     key == 0          ? "is empty"
                     : key == SIZE_MAX ? "holds a backslash that begins none of \\t \\n \\r \\\\"
                                       : "is over 1024 bytes");
        return CLI_WRONG_USE;
    }
    g->keys[g->count++] = tally_bytes(text, key);
    g->asked++;
    return g->count == TALLY_QUERY_KEYS_MAX ? get_batch(g) : CLI_DONE;
}

static int get_stdin(struct getting *g)
{
    // A batch's keys stay where they were read until it is answered.
    static uint8_t store[TALLY_QUERY_KEYS_MAX][2 * TALLY_KEY_BYTES_MAX + 2];
    int code = CLI_DONE;
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    for (uint64_t number = 1; code == CLI_DONE && (size = getline(&line, &room, stdin)) >= 0; number++) {
        if (size && line[size - 1] == '\n') size--;
        if (size == 0) continue;
        if ((size_t)size > sizeof store[0]) {
            cli_complain("line %" PRIu64 " is too long for a key", number);
            code = CLI_WRONG_USE;
            break;
        }
        memcpy(store[g->count], line, (size_t)size);
        code = add_key(g, store[g->count], (size_t)size, number);
    }
    free(line);
    return code;
}

static int run_get(int argc, char **argv)
{
    static struct getting g;
    g.at = AT_DEFAULT;
    const struct cli_option options[] = {
        {"at", "URL", "HTTP of a server or an edge (" AT_DEFAULT ")", CLI_TEXT, &g.at, 0, 0},
        {"json", NULL, "a line of JSON a key", CLI_FLAG, &g.as_json, 0, 0},
        {"escaped", NULL, "keys on standard input are written as dump writes them:\n\\t \\n \\r \\\\", CLI_FLAG,
         &g.escaped, 0, 0},
    };
    int words = cli_parse(&cli_get, options, 3, argc, argv);
    if (words < 2) {
        cli_complain("wants a TABLE and a KEY; try `tallycast get --help`");
        return CLI_WRONG_USE;
    }
    g.table = argv[1];
    if (!tally_name_valid(tally_bytes(g.table, strlen(g.table)))) {
        cli_complain("table \"%s\" is not 1 to 64 of a-z 0-9 _ . -", g.table);
        return CLI_WRONG_USE;
    }
    if (!cli_http_check_url(g.at)) return CLI_WRONG_USE;
    int code = CLI_DONE;
    if (words == 2 && strcmp(argv[2], "-") == 0)
        code = get_stdin(&g);
    else
        for (int i = 2; code == CLI_DONE && i <= words; i++) code = add_key(&g, (uint8_t *)argv[i], strlen(argv[i]), 0);
    if (code == CLI_DONE) code = get_batch(&g);
    if (!cli_flush() && code == CLI_DONE) code = CLI_WRONG_USE;
    if (code == CLI_DONE && g.missing) {
        if (g.missing > 10) cli_complain("%" PRIu64 " of %" PRIu64 " keys are not there", g.missing, g.asked);
        code = CLI_NO;
    }
    return code;
}

const struct cli_command cli_get = {
    .name = "get",
    .arguments = "[--at URL] [--json] [--escaped] TABLE KEY...|-",
    .purpose = "Read the counts of keys; with - the keys come from standard input, one a line.",
    .details = "Prints key<TAB>value; keys that are not there are told on stderr. The keys of a call (of\n"
               "each 4,096, when there are more) are read from one version. Tab, newline, carriage return\n"
               "and backslash in a key are printed as \\t \\n \\r \\\\. Keys that are no UTF-8 are asked for\n"
               "one by one.\n"
               "\n"
               "Exit codes: 0 every key is there, 1 one is not, 2 wrong use, 3 cannot reach, 4 refused.\n"
               "\n"
               "Examples:\n"
               "  tallycast get --at http://127.0.0.1:8091 pages /home /about\n"
               "  cut -f2 events.tsv | sort -u | tallycast get pages -\n",
    .run = run_get,
};
