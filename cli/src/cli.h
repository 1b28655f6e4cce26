// SPDX-License-Identifier: Apache-2.0
//
// What the subcommands of `tallycast` share: exit codes, complaints, options, numbers, time and text.
// Threads: everything here belongs to the main thread, but for the signal flag.
#ifndef TALLYCAST_CLI_H
#define TALLYCAST_CLI_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <tallycast/bytes.h>

// What the process ends with (DESIGN.md).
enum cli_exit {
    CLI_DONE = 0,
    CLI_NO = 1,          // the answer is no: not found, verify failed
    CLI_WRONG_USE = 2,   // also: input that is not what the command reads
    CLI_UNREACHABLE = 3, // nobody there, or no answer in time
    CLI_REFUSED = 4,     // the server was reached and said no, or answered with what cannot be right
};

// ------------------------------------------------------------------------------------------------ complaints

// One line on stderr, "tallycast COMMAND: ...". Clears a progress line first. The command is the one given to
// cli_parse.
void cli_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

// A line on stderr that is rewritten in place, on a terminal only; null takes it away.
void cli_progress(const char *text);

// --------------------------------------------------------------------------------------------------- options

enum cli_option_type { CLI_FLAG, CLI_TEXT, CLI_NUMBER, CLI_LIST };

#define CLI_LIST_MAX 64u

struct cli_list {
    const char *items[CLI_LIST_MAX];
    size_t count;
};

struct cli_option {
    const char *name;     // without the dashes
    const char *argument; // its name in the help, null for a flag
    const char *help;     // a line may be broken by '\n'
    enum cli_option_type type;
    void *target; // bool *, const char **, uint64_t *, struct cli_list *
    uint64_t min, max;
};

struct cli_command {
    const char *name;
    const char *arguments; // after the name, in the usage line
    const char *purpose;   // one line
    const char *details;   // paragraphs below the options, example included
    int (*run)(int argc, char **argv);
};

// Reads `--name VALUE`, `--name=VALUE`, `--` and positional words, which may stand in any order; argv[0] is
// the command's name. Prints the help and ends the process for --help; complains and ends it with
// CLI_WRONG_USE for what it does not know. The positional words are moved to the front of argv (from argv[1]
// on); returns how many there are.
int cli_parse(const struct cli_command *command, const struct cli_option *options, size_t option_count, int argc,
              char **argv);

// Decimal, or hexadecimal behind "0x"; the whole text. False when it is anything else, or out of 64 bits.
bool cli_number(const char *text, uint64_t *out_number);

// ------------------------------------------------------------------------------------------ time and signals

uint64_t cli_now_ms(void);  // monotonic
uint64_t cli_unix_ms(void); // wall clock

// SIGINT and SIGTERM only set this from now on; a second one ends the process at once, with the terminal as
// it was.
void cli_catch_signals(void);
extern volatile sig_atomic_t cli_interrupted;

// ---------------------------------------------------------------------------------------------------- text

// "12,345" into a buffer of the caller; returns it.
const char *cli_thousands(uint64_t number, char out_text[32]);
// "1.5 MB"
const char *cli_bytes(double bytes, char out_text[32]);

// A key as dump writes it: tab, newline, carriage return and backslash as \t \n \r \\, all else as it is.
void cli_write_escaped(FILE *out, struct tally_bytes key);
// The way back, in place: returns the new size, or SIZE_MAX for a backslash before anything else.
size_t cli_unescape(uint8_t *text, size_t size);

// Flushes stdout: false, with a complaint, when not everything that was printed could be written.
bool cli_flush(void);

extern const struct cli_command cli_count, cli_version, cli_get, cli_top, cli_watch, cli_dump, cli_verify;

#endif
