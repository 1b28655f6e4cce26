// SPDX-License-Identifier: Apache-2.0
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *command_name = "";
static bool progress_shown;

void cli_progress(const char *text)
{
    static int terminal = -1;
    if (terminal < 0) terminal = isatty(STDERR_FILENO);
    if (!terminal || (!text && !progress_shown)) return;
    fprintf(stderr, "\r\033[K%s", text ? text : "");
    fflush(stderr);
    progress_shown = text != NULL;
}

void cli_complain(const char *format, ...)
{
    cli_progress(NULL);
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "tallycast%s%s: ", *command_name ? " " : "", command_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

// --------------------------------------------------------------------------------------------------- options

static void print_help(const struct cli_command *command, const struct cli_option *options, size_t option_count)
{
    printf("usage: tallycast %s %s\n\n%s\n\n", command->name, command->arguments, command->purpose);
    for (size_t i = 0; i <= option_count; i++) {
        static const struct cli_option help = {.name = "help", .help = "this text"};
        const struct cli_option *option = i < option_count ? &options[i] : &help;
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", option->name, option->argument ? " " : "",
                 option->argument ? option->argument : "");
        printf("  %-22s", left);
        if (strlen(left) > 22) printf("\n  %-22s", "");
        for (const char *p = option->help; *p; p++) {
            putchar(*p);
            if (*p == '\n') printf("  %-22s", "");
        }
        putchar('\n');
    }
    printf("\n%s", command->details);
    exit(cli_flush() ? CLI_DONE : CLI_WRONG_USE);
}

static void wrong_use(const struct cli_command *command)
{
    fprintf(stderr, "usage: tallycast %s %s\nTry `tallycast %s --help`.\n", command->name, command->arguments,
            command->name);
    exit(CLI_WRONG_USE);
}

static void take_value(const struct cli_command *command, const struct cli_option *option, const char *value)
{
    uint64_t number = 0;
    struct cli_list *list = option->target;
    switch (option->type) {
    case CLI_FLAG: *(bool *)option->target = true; return;
    case CLI_TEXT: *(const char **)option->target = value; return;
    case CLI_LIST:
        if (list->count < CLI_LIST_MAX) {
            list->items[list->count++] = value;
            return;
        }
        cli_complain("--%s was given more than %u times", option->name, CLI_LIST_MAX);
        wrong_use(command);
        return;
    case CLI_NUMBER:
        if (cli_number(value, &number) && number >= option->min && number <= option->max) {
            *(uint64_t *)option->target = number;
            return;
        }
        cli_complain("--%s wants a number from %llu to %llu, not \"%s\"", option->name, (unsigned long long)option->min,
                     (unsigned long long)option->max, value);
        wrong_use(command);
    }
}

static const struct cli_option *find_option(const struct cli_option *options, size_t option_count, const char *name,
                                            size_t size)
{
    for (size_t i = 0; i < option_count; i++)
        if (strlen(options[i].name) == size && memcmp(options[i].name, name, size) == 0) return &options[i];
    return NULL;
}

int cli_parse(const struct cli_command *command, const struct cli_option *options, size_t option_count, int argc,
              char **argv)
{
    command_name = command->name;
    int words = 0;
    bool only_words = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (only_words || word[0] != '-' || word[1] == 0) {
            argv[++words] = argv[i];
            continue;
        }
        if (strcmp(word, "--") == 0) {
            only_words = true;
            continue;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) print_help(command, options, option_count);
        const char *name = word + (word[1] == '-' ? 2 : 1), *equals = strchr(name, '=');
        size_t size = equals ? (size_t)(equals - name) : strlen(name);
        const struct cli_option *option = word[1] == '-' ? find_option(options, option_count, name, size) : NULL;
        if (!option) {
            cli_complain("unknown option %s", word);
            wrong_use(command);
            return 0;
        }
        if (option->type == CLI_FLAG && equals) {
            cli_complain("--%s takes no value", option->name);
            wrong_use(command);
        }
        const char *value = equals ? equals + 1 : NULL;
        if (option->type != CLI_FLAG && !value) {
            if (i + 1 == argc) {
                cli_complain("--%s wants a value", option->name);
                wrong_use(command);
            }
            value = argv[++i];
        }
        take_value(command, option, value);
    }
    return words;
}

bool cli_number(const char *text, uint64_t *out_number)
{
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    if (hex) text += 2;
    if (!*text) return false;
    uint64_t number = 0;
    for (; *text; text++) {
        unsigned digit = *text >= '0' && *text <= '9'          ? (unsigned)(*text - '0')
                         : hex && *text >= 'a' && *text <= 'f' ? (unsigned)(*text - 'a' + 10)
                         : hex && *text >= 'A' && *text <= 'F' ? (unsigned)(*text - 'A' + 10)
                                                               : 99;
        if (digit == 99) return false;
        if (__builtin_mul_overflow(number, hex ? 16u : 10u, &number) || __builtin_add_overflow(number, digit, &number))
            return false;
    }
    *out_number = number;
    return true;
}

// ---------------------------------------------------------------------------------------------------- time,
// signals, output

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t cli_now_ms(void) { return clock_ms(CLOCK_MONOTONIC); }
uint64_t cli_unix_ms(void) { return clock_ms(CLOCK_REALTIME); }

volatile sig_atomic_t cli_interrupted;

static void on_signal(int number)
{
    if (cli_interrupted) {
        // Show the cursor again, in case `watch` hid it.
        static const char restore[] = "\033[?25h\n";
        if (isatty(STDOUT_FILENO) && write(STDOUT_FILENO, restore, sizeof restore - 1) < 0) _exit(128 + number);
        _exit(128 + number);
    }
    cli_interrupted = 1;
}

void cli_catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_flush(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return true;
    // Who reads our output may have enough: `| head` is no fault.
    if (errno != EPIPE) cli_complain("cannot write the output: %s", strerror(errno));
    return false;
}
