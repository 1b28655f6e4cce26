// SPDX-License-Identifier: Apache-2.0
//
// tallycast top: a table's greatest counts, by HTTP.
#include <inttypes.h>
#include <io/json.h>
#include <messages/messages.h>
#include <string.h>

#include "cli.h"
#include "http.h"

#define AT_DEFAULT "http://127.0.0.1:8090"

static void print_rows(const json_t *answer)
{
    const json_t *row;
    size_t i;
    json_array_foreach(json_object_get(answer, "rows"), i, row)
    {
        const json_t *key = json_object_get(row, "key"), *error = json_object_get(row, "error");
        cli_write_escaped(stdout, tally_bytes((const uint8_t *)json_string_value(key), json_string_length(key)));
        printf("\t%" JSON_INTEGER_FORMAT, json_integer_value(json_object_get(row, "value")));
        if (json_is_integer(error)) printf("\t%" JSON_INTEGER_FORMAT, json_integer_value(error));
        putchar('\n');
    }
}

static int run_top(int argc, char **argv)
{
    const char *at = AT_DEFAULT;
    uint64_t k = 10;
    bool as_json = false;
    const struct cli_option options[] = {
        {"at", "URL", "HTTP of a server or an edge (" AT_DEFAULT ")", CLI_TEXT, &at, 0, 0},
        {"k", "COUNT", "how many rows (10)", CLI_NUMBER, &k, 1, TALLY_TOP_ROWS_MAX},
        {"json", NULL, "print the answer as it came", CLI_FLAG, &as_json, 0, 0},
    };
    if (cli_parse(&cli_top, options, 3, argc, argv) != 1) {
        cli_complain("wants one TABLE; try `tallycast top --help`");
        return CLI_WRONG_USE;
    }
    if (!tally_name_valid(tally_bytes(argv[1], strlen(argv[1])))) {
        cli_complain("table \"%s\" is not 1 to 64 of a-z 0-9 _ . -", argv[1]);
        return CLI_WRONG_USE;
    }
    if (!cli_http_check_url(at)) return CLI_WRONG_USE;
    char path[128];
    (void)snprintf(path, sizeof path, "/v1/top/%s?k=%" PRIu64, argv[1], k);
    json_t *answer = NULL;
    int code = cli_http_json(at, path, tally_bytes(NULL, 0), &answer);
    if (code == CLI_NO) cli_complain("no table %s", argv[1]);
    if (code == CLI_DONE && as_json)
        code = cli_http_print_json(answer);
    else if (code == CLI_DONE)
        print_rows(answer);
    if (!cli_flush() && code == CLI_DONE) code = CLI_WRONG_USE;
    json_decref(answer);
    return code;
}

const struct cli_command cli_top = {
    .name = "top",
    .arguments = "[--at URL] [--k COUNT] [--json] TABLE",
    .purpose = "Show the greatest counts of a table.",
    .details = "Prints key<TAB>value, the greatest first, and a third column for a topk table: how much\n"
               "too great the value may be. Tab, newline, carriage return and backslash in a key are printed\n"
               "as \\t \\n \\r \\\\; of a key that is no UTF-8 only --json tells the bytes. A table of over\n"
               "262,144 keys is refused: a server keeps the top of it in a topk table.\n"
               "\n"
               "Exit codes: 0 done, 1 there is no such table, 2 wrong use, 3 cannot reach, 4 refused.\n"
               "\n"
               "Example:\n"
               "  tallycast top --at http://127.0.0.1:8091 --k 20 pages\n",
    .run = run_top,
};
