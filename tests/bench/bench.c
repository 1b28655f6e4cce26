// SPDX-License-Identifier: Apache-2.0
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

struct bench_options bench_options(int argc, char **argv)
{
    struct bench_options options = {.size = BENCH_FULL, .seed = 1};
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--smoke")) {
            options.size = BENCH_SMOKE;
        } else if (!strcmp(argv[i], "--quick")) {
            options.size = BENCH_QUICK;
        } else if (!strcmp(argv[i], "--seed") && i + 1 < argc) {
            options.seed = strtoull(argv[++i], NULL, 0);
        } else if (!strcmp(argv[i], "--keys") && i + 1 < argc) {
            options.keys = strtoull(argv[++i], NULL, 0);
        } else if (!strcmp(argv[i], "--part") && i + 1 < argc) {
            options.part = argv[++i];
        } else {
            fprintf(stderr,
                    "%s: unknown argument %s\nusage: %s [--smoke | --quick] [--seed N] [--keys N] [--part NAME]\n",
                    argv[0], argv[i], argv[0]);
            exit(2);
        }
    }
    options.rounds = options.size == BENCH_SMOKE ? 1 : options.size == BENCH_QUICK ? 5 : 9;
    fprintf(stderr, "%s: seed %llu\n", argv[0], (unsigned long long)options.seed);
    return options;
}

bool bench_wants(const struct bench_options *options, const char *part)
{
    return !options->part || !strcmp(options->part, part);
}

double bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

void bench_add(struct bench_figures *figures, double value)
{
    if (figures->count < BENCH_ROUNDS_MAX) figures->value[figures->count++] = value;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct bench_figures sorted(const struct bench_figures *figures)
{
    struct bench_figures copy = *figures;
    qsort(copy.value, copy.count, sizeof *copy.value, ascending);
    return copy;
}

double bench_median(const struct bench_figures *figures)
{
    struct bench_figures copy = sorted(figures);
    return copy.count ? copy.value[copy.count / 2] : NAN;
}

static void print_number(const char *name, double value)
{
    if (isfinite(value))
        printf(", \"%s\": %.6g", name, value);
    else
        printf(", \"%s\": null", name);
}

void bench_print(const char *bench, const char *subject, const struct bench_figures *figures, const char *unit,
                 const char *against, const struct bench_figures *against_figures, const char *target)
{
    struct bench_figures copy = sorted(figures);
    printf("{\"bench\": \"%s\", \"subject\": \"%s\"", bench, subject);
    print_number("value", bench_median(figures));
    print_number("min", copy.count ? copy.value[0] : NAN);
    print_number("max", copy.count ? copy.value[copy.count - 1] : NAN);
    printf(", \"unit\": \"%s\"", unit);
    if (against)
        printf(", \"against\": \"%s\"", against);
    else
        printf(", \"against\": null");
    print_number("against_value", against ? bench_median(against_figures) : NAN);
    printf(", \"target\": \"%s\"}\n", target);
    fflush(stdout);
}

void bench_print_value(const char *bench, const char *subject, double value, const char *unit, const char *target)
{
    struct bench_figures figures = {0};
    bench_add(&figures, value);
    bench_print(bench, subject, &figures, unit, NULL, NULL, target);
}

static const struct bench_measurement *measurement_named(const struct bench_measurement *measurements, size_t count,
                                                         const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(measurements[i].name, name)) return &measurements[i];
    fprintf(stderr, "bench: no measurement is called %s\n", name);
    exit(2);
}

void bench_contest(const struct bench_measurement *measurements, size_t count, void *ctx, const char *facts)
{
    char line[128];
    printf("ready%s%s\n", facts ? " " : "", facts ? facts : "");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        double value = measurement_named(measurements, count, line)->run(ctx);
        if (isfinite(value))
            printf("%.6g\n", value);
        else
            printf("-\n");
        fflush(stdout);
    }
}

#define HUGE_BYTES ((size_t)2 << 20)

static size_t rounded(size_t bytes) { return (bytes + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1); }

void *bench_huge(size_t bytes)
{
    size_t size = rounded(bytes);
    uint8_t *run = mmap(NULL, size + HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (run == MAP_FAILED) {
        fprintf(stderr, "bench: no memory for %zu bytes\n", bytes);
        exit(1);
    }
    size_t before = (HUGE_BYTES - (uintptr_t)run % HUGE_BYTES) % HUGE_BYTES;
    if (before) munmap(run, before);
    munmap(run + before + size, HUGE_BYTES - before);
    (void)madvise(run + before, size, MADV_HUGEPAGE);
    return run + before;
}

void bench_huge_free(void *memory, size_t bytes) { munmap(memory, rounded(bytes)); }
