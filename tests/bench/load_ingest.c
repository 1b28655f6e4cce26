// SPDX-License-Identifier: Apache-2.0
//
// Sends counts to a server, Redis or statsd as fast as they are taken: a contestant (contest.py) whose answer to `round` is the wall time of
// an event in ns, from the first byte sent to the last acknowledgement.
//
//   load_ingest tally|redis|statsd WHERE NAMES KEYS BATCH IN_FLIGHT EVENTS SEED
//
//   WHERE      tcp://HOST:PORT, or HOST:PORT
//   NAMES      names_file(); KEYS names are made of it by the rule of tests/data/README.md, and drawn uniformly
//   BATCH      events of one batch (tally) or of one pipeline (redis); statsd takes a stream of lines
//   IN_FLIGHT  batches sent and not acknowledged yet (tally: as many producers), connections (redis, statsd)
//   EVENTS     of one round
//
// What is sent is made beforehand, as often as it fits into a pool that rounds go around in; only the number and the seal of a batch are
// made when it is sent. Before `ready` every key is sent once. Other commands: `sum`, of all amounts acknowledged; `key I`, what key I must be
// by now; `name I` prints its name.
#include "load_ingest.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void load_fail(const char *what)
{
    (void)fprintf(stderr, "load_ingest: %s\n", what);
    exit(1);
}

void *load_memory(size_t bytes)
{
    void *memory = calloc(1, bytes ? bytes : 1);
    if (!memory) load_fail("no memory");
    return memory;
}

static double now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

// ---------------------------------------------------------------------------------------------------- what is sent

static void read_names(struct load *load, const char *path)
{
    char line[4096];
    size_t lines = 0, capacity = 1 << 18;
    char **names = load_memory(capacity * sizeof *names);
    FILE *file = fopen(path, "r");
    if (!file) load_fail(path);
    while (lines < capacity && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\t\n")] = 0;
        if (line[0]) names[lines++] = strdup(line);
    }
    (void)fclose(file);
    if (!lines) load_fail("no names");
    load->keys = load_memory(load->keys_count * sizeof *load->keys);
    for (size_t i = 0; i < load->keys_count; i++) {
        char key[4200];
        int size = i < lines ? snprintf(key, sizeof key, "%s", names[i])
                             : snprintf(key, sizeof key, "%s@%zu", names[i % lines], i / lines);
        load->keys[i] = tally_bytes(strdup(key), (size_t)size);
    }
    for (size_t i = 0; i < lines; i++) free(names[i]);
    free(names);
}

uint64_t load_random(struct load *load)
{
    uint64_t x = load->random += 0x9e3779b97f4a7c15u; // SplitMix64
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static struct load_batch make_batch(struct load *load, size_t events, size_t first, bool drawn)
{
    struct load_batch batch = {.events = load_memory(events * sizeof *batch.events), .count = events};
    for (size_t i = 0; i < events; i++) {
        uint64_t draw = load_random(load);
        batch.events[i] = (struct load_event){
            .key = drawn ? (uint32_t)((draw >> 32) * load->keys_count >> 32) : (uint32_t)(first + i),
            .amount = 1 + (uint32_t)(draw & 0xffff) % 50,
        };
        batch.amounts += batch.events[i].amount;
    }
    batch.bytes = load->peer->encode(load, &batch);
    return batch;
}

// First every key once, then what the rounds go around in.
static void make_pool(struct load *load)
{
    size_t first = (load->keys_count + load->batch_events - 1) / load->batch_events;
    size_t drawn = POOL_EVENTS / load->batch_events;
    if (drawn * load->batch_events > load->round_events) drawn = load->round_events / load->batch_events;
    if (!drawn) drawn = 1;
    load->first_count = first;
    load->pool_count = first + drawn;
    load->pool = load_memory(load->pool_count * sizeof *load->pool);
    for (size_t i = 0; i < load->pool_count; i++) {
        size_t at = i * load->batch_events, left = i < first ? load->keys_count - at : load->batch_events;
        load->pool[i] = make_batch(load, left < load->batch_events ? left : load->batch_events, at, i >= first);
    }
}

// ---------------------------------------------------------------------------------------------------- rounds

// Which batch of the pool goes out as number `n` of all.
static size_t place(const struct load *load, size_t n)
{
    size_t first = load->first_count;
    return n < first ? n : first + (n - first) % (load->pool_count - first);
}

static double run(struct load *load, size_t batches)
{
    uint64_t events = 0;
    load->next = load->sent;
    load->end = load->sent + batches;
    double begun = now_ns();
    load->peer->run(load);
    double taken = now_ns() - begun;
    for (size_t n = load->sent; n < load->end; n++) {
        struct load_batch *batch = &load->pool[place(load, n)];
        batch->times++;
        events += batch->count;
        load->amounts += batch->amounts;
    }
    load->sent = load->end;
    return taken / (double)events;
}

const struct load_batch *load_take(struct load *load)
{
    size_t n = __atomic_fetch_add(&load->next, 1, __ATOMIC_RELAXED);
    return n < load->end ? &load->pool[place(load, n)] : NULL;
}

static uint64_t expected(const struct load *load, size_t key)
{
    uint64_t value = 0;
    for (size_t b = 0; b < load->pool_count; b++) {
        const struct load_batch *batch = &load->pool[b];
        for (size_t i = 0; i < batch->count; i++)
            value += batch->events[i].key == key ? batch->events[i].amount * batch->times : 0;
    }
    return value;
}

int main(int argc, char **argv)
{
    static const struct load_peer *const peers[] = {&load_tally, &load_redis, &load_statsd};
    if (argc != 9) load_fail("tally|redis|statsd WHERE NAMES KEYS BATCH IN_FLIGHT EVENTS SEED");
    struct load load = {.where = argv[2],
                        .keys_count = strtoul(argv[4], NULL, 10),
                        .batch_events = strtoul(argv[5], NULL, 10),
                        .in_flight = strtoul(argv[6], NULL, 10),
                        .round_events = strtoul(argv[7], NULL, 10),
                        .random = strtoul(argv[8], NULL, 10)};
    for (size_t i = 0; i < sizeof peers / sizeof *peers; i++)
        if (!strcmp(argv[1], peers[i]->name)) load.peer = peers[i];
    if (!load.peer || !load.keys_count || !load.batch_events || !load.in_flight || !load.round_events)
        load_fail("arguments");
    read_names(&load, argv[3]);
    make_pool(&load);
    load.peer->open(&load);
    double first_ns = run(&load, load.first_count);
    printf("ready {\"first_ns\": %.1f}\n", first_ns);
    (void)fflush(stdout);
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        if (!strncmp(line, "round", 5))
            printf("%.3f\n", run(&load, (load.round_events + load.batch_events - 1) / load.batch_events));
        else if (!strncmp(line, "sum", 3))
            printf("%" PRIu64 "\n", load.amounts);
        else if (!strncmp(line, "key ", 4))
            printf("%" PRIu64 "\n", expected(&load, strtoul(line + 4, NULL, 10)));
        else if (!strncmp(line, "name ", 5) && strtoul(line + 5, NULL, 10) < load.keys_count)
            printf("%s\n", (const char *)load.keys[strtoul(line + 5, NULL, 10)].data);
        else
            printf("-\n");
        (void)fflush(stdout);
    }
    return 0;
}
