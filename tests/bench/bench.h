// SPDX-License-Identifier: Apache-2.0
//
// What every bench in C shares: options, time, random draws, medians, and the lines that run.py reads.
//
// A bench prints one JSON object a line: {bench, subject, value, min, max, unit, against, against_value, target}. `against` names
// what `value` is divided by (null: nothing); `target` is "<= 1.25" or ">= 2", of the ratio where there is one and of
// the value otherwise, "" for a figure that is only shown. A value that could not be had is null: "not run".
//
// Times mean nothing alone: everything that is compared is measured in the same process, round by round (interleaved), and the
// medians over the rounds are what is divided.
#ifndef TALLY_BENCH_H
#define TALLY_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bench_size { BENCH_SMOKE, BENCH_QUICK, BENCH_FULL };

struct bench_options {
    enum bench_size size; // --smoke, --quick; full without either
    unsigned rounds;      // of each measurement
    uint64_t seed;        // --seed N; printed to stderr
    uint64_t keys;        // --keys N: only this size of a map; 0: all
    const char *part;     // --part NAME: only this part of the bench; null: all
};

// Ends the process with 2 on an argument that it does not know.
struct bench_options bench_options(int argc, char **argv);

// CPU time of this thread: what others on the machine take does not count, though they still slow our memory down.
double bench_now_ns(void);

// Whether the options want this part.
bool bench_wants(const struct bench_options *options, const char *part);

// The figures of one measurement over the rounds.
#define BENCH_ROUNDS_MAX 31u

struct bench_figures {
    unsigned count;
    double value[BENCH_ROUNDS_MAX];
};

void bench_add(struct bench_figures *figures, double value);
double bench_median(const struct bench_figures *figures); // NAN when there are none

// One line. `against` null: nothing. Either may have no figures: not run.
void bench_print(const char *bench, const char *subject, const struct bench_figures *figures, const char *unit,
                 const char *against, const struct bench_figures *against_figures, const char *target);
void bench_print_value(const char *bench, const char *subject, double value, const char *unit, const char *target);

// The other side of contest.py, which says how a contestant behaves: says ready, then answers each line of stdin by running the measurement of
// that name and printing what it gives, `-` for NAN. Returns at the end of stdin; a name that is not known ends the process.
struct bench_measurement {
    const char *name;
    double (*run)(void *ctx); // ns of CPU time an operation
};

// `facts`: a JSON object that is told with ready, or null.
void bench_contest(const struct bench_measurement *measurements, size_t count, void *ctx, const char *facts);

static inline uint64_t bench_random(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15u; // SplitMix64
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline uint64_t bench_below(uint64_t *state, uint64_t bound)
{
    return (uint64_t)((unsigned __int128)bench_random(state) * bound >> 64);
}

// Zeroed memory, aligned to 2 MiB and advised to be in huge pages as the mirror's is; ends the process when there is none.
void *bench_huge(size_t bytes);
void bench_huge_free(void *memory, size_t bytes);

#endif
