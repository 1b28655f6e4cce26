// SPDX-License-Identifier: Apache-2.0
//
// tally_sim: runs seeds; see README.md.
#include "sim.h"

#include <getopt.h>

static const char usage[] = "usage: tally_sim [--seed N] [--seeds COUNT] [--steps N] [--verbose] [--twice] [--stats]\n"
                            "  --seed N       first seed (1)\n"
                            "  --seeds COUNT  how many, one after the other (1000)\n"
                            "  --steps N      steps with faults of each, of 1 to 10 virtual ms (600)\n"
                            "  --verbose      tell everything that happens\n"
                            "  --twice        run each seed again and compare the traces\n"
                            "  --stats        print what all seeds together did\n"
                            "example: tally_sim --seed 4711 --seeds 1 --verbose\n";

static bool number(const char *text, uint64_t *out_number)
{
    char *end;
    if (*text < '0' || *text > '9') return false;
    *out_number = strtoull(text, &end, 10);
    return !*end;
}

static void sum(struct sim_counters *total, const struct sim_counters *one)
{
    uint64_t converge_ms_max = total->converge_ms_max;
#define X(name) total->name += one->name;
    SIM_COUNTERS(X)
#undef X
    total->converge_ms_max = one->converge_ms_max > converge_ms_max ? one->converge_ms_max : converge_ms_max;
}

static void print_stats(const struct sim_counters *total)
{
#define X(name) printf("%-20s %llu\n", #name, (unsigned long long)total->name);
    SIM_COUNTERS(X)
#undef X
}

// A simulator that does not get to a fault does not test it: over many seeds everything must have happened.
static bool all_happened(const struct sim_counters *total)
{
    bool all = true;
#define X(name)                                                                                                        \
    if (!total->name) {                                                                                                \
        printf("never happened: %s\n", #name);                                                                         \
        all = false;                                                                                                   \
    }
    SIM_COUNTERS(X)
#undef X
    return all;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seed", 1, NULL, 's'},  {"seeds", 1, NULL, 'n'}, {"steps", 1, NULL, 't'}, {"verbose", 0, NULL, 'v'},
        {"twice", 0, NULL, '2'}, {"stats", 0, NULL, 'p'}, {"help", 0, NULL, 'h'},  {0},
    };
    uint64_t seed = 1, seeds = 1000, steps = 600;
    bool verbose = false, twice = false, stats = false, ok = true;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 's': ok = number(optarg, &seed) && ok; break;
        case 'n': ok = number(optarg, &seeds) && ok; break;
        case 't': ok = number(optarg, &steps) && ok; break;
        case 'v': verbose = true; break;
        case '2': twice = true; break;
        case 'p': stats = true; break;
        case 'h': fputs(usage, stdout); return 0;
        default: ok = false;
        }
    }
    if (!ok || optind != argc || !seeds) {
        fputs(usage, stderr);
        return 2;
    }
    struct sim *sim = malloc(sizeof *sim);
    if (!sim) return 1;
    struct sim_counters total = {0};
    for (uint64_t s = seed; s < seed + seeds; s++) {
        sim_run(sim, s, steps, verbose);
        sum(&total, &sim->counters);
        uint64_t trace = sim->trace;
        if (twice) sim_run(sim, s, steps, false);
        if (twice && sim->trace != trace) sim_fail(sim, "the same seed took another way");
        if (seeds == 1) printf("trace %016llx\n", (unsigned long long)trace);
    }
    if (stats) print_stats(&total);
    printf("%llu seeds, %llu versions, %llu crashes, %llu s of virtual time: all converged\n",
           (unsigned long long)seeds, (unsigned long long)total.versions,
           (unsigned long long)(total.server_crashes + total.edge_crashes),
           (unsigned long long)(total.virtual_ms / 1000));
    free(sim);
    return seeds >= 1000 && !all_happened(&total) ? 1 : 0;
}
