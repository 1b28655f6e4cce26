// SPDX-License-Identifier: Apache-2.0
#include "cli.h"

#include <string.h>

#ifndef TALLY_VERSION
#define TALLY_VERSION "unknown"
#endif

static const struct cli_command *const commands[] = {
    &cli_count, &cli_version, &cli_get, &cli_top, &cli_watch, &cli_dump, &cli_verify,
};

static void usage(FILE *out)
{
    fprintf(out, "usage: tallycast COMMAND ...\n\nTalks to a tallycast server or edge.\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        fprintf(out, "  %-10s%s\n", commands[i]->name, commands[i]->purpose);
    fprintf(out, "\n`tallycast COMMAND --help` tells more, with an example. `tallycast --version` tells the version.\n"
                 "\nExit codes: 0 done, 1 the answer is no, 2 wrong use, 3 cannot reach, 4 refused.\n");
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) {
        usage(stderr);
        return CLI_WRONG_USE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return CLI_DONE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("tallycast " TALLY_VERSION);
        return CLI_DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(argv[1], commands[i]->name) == 0) return commands[i]->run(argc - 1, argv + 1);
    fprintf(stderr, "tallycast: unknown command \"%s\"\n\n", argv[1]);
    usage(stderr);
    return CLI_WRONG_USE;
}
