// SPDX-License-Identifier: Apache-2.0
//
// A producer for the benches: real names, a steady rate, batches that are acknowledged. Many producer ids take turns, so that batches leave on
// time though each of them waits for the acknowledgement of its last one.
//
//   load --to URL --dataset NAME --keys N --rate EVENTS/S --batch EVENTS --seconds S [--distinct] [--preload] [--seed N]
//
// Keys are drawn by their weights ($TALLY_BENCH_NAMES; tests/data/README.md has the rule for more keys than names); --distinct: uniformly and no
// key twice in a batch. --preload counts every key once before, untimed. Prints `loaded VERSION` when that is acknowledged, waits for a line on
// stdin, and then prints one line a batch: `accepted acknowledged version`, both times in us of CLOCK_MONOTONIC; `accepted` is taken just
// before the batch is handed to the socket. The last line is `late N`: batches that found every producer id waiting and left later than planned.
// Ends with 1 when a batch is refused.
#include "bench.h"
#include "names.h"

#include <messages/messages.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tallycast/batch.h>
#include <time.h>

#define PRODUCERS       96u
#define PRELOAD_ENTRIES 4096u

struct settings {
    const char *to, *dataset;
    uint32_t keys, batch;
    double rate, seconds;
    bool distinct, preload;
    uint64_t seed;
};

enum phase { FREE, SENDING, RECEIVING };

struct producer {
    nng_ctx context;
    nng_aio *aio;
    enum phase phase;
    uint64_t id, sequence, accepted_us;
    struct producer *next;
};

struct sent {
    uint64_t accepted_us, acknowledged_us, version;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t freed = PTHREAD_COND_INITIALIZER;
static struct producer producers[PRODUCERS], *free_producers; // under mutex
static uint32_t free_count;
static struct sent *log_of_sent;
static size_t sent_count, sent_max;
static uint64_t version_max;

static _Noreturn void die(const char *what, const char *why)
{
    fprintf(stderr, "load: %s: %s\n", what, why);
    exit(1);
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

// ---------------------------------------------------------------------------------------------------- keys

static struct names names;
static uint64_t *below; // sum of the weights up to and with each key's

static void load_names(uint32_t count)
{
    names_load(&names, count);
    below = malloc(count * sizeof *below);
    if (!below) die("names", "no memory");
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) below[i] = sum += names.weight[i];
}

static struct tally_bytes draw_by_weight(uint64_t *random)
{
    uint32_t low = 0, high = names.count - 1;
    uint64_t at = bench_below(random, below[high]);
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (below[middle] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return names_key(&names, low);
}

// A window of a walk through all keys by a prime step that does not divide their number: none comes twice in fewer draws than keys.
static struct tally_bytes draw_next(void)
{
    static uint64_t walk;
    return names_key(&names, (uint32_t)(walk++ * 2654435761u % names.count));
}

// ---------------------------------------------------------------------------------------------------- sending

static void done(struct producer *producer)
{
    pthread_mutex_lock(&mutex);
    producer->phase = FREE;
    producer->next = free_producers;
    free_producers = producer;
    free_count++;
    pthread_cond_signal(&freed);
    pthread_mutex_unlock(&mutex);
}

// NNG's thread.
static void on_done(void *argument)
{
    struct producer *producer = argument;
    int failed = nng_aio_result(producer->aio);
    if (failed) die("NNG", nng_strerror(failed));
    if (producer->phase == SENDING) {
        producer->phase = RECEIVING;
        nng_ctx_recv(producer->context, producer->aio);
        return;
    }
    uint64_t at_us = now_us();
    nng_msg *message = nng_aio_get_msg(producer->aio);
    struct tally_answer answer;
    enum tally_status status =
        tally_answer_decode(&tally_alloc_libc, tally_bytes(nng_msg_body(message), nng_msg_len(message)), &answer);
    if (!status) status = answer.status;
    if (status) die("a batch was refused", tally_status_str(status));
    pthread_mutex_lock(&mutex);
    if (answer.version > version_max) version_max = answer.version;
    if (log_of_sent && sent_count < sent_max)
        log_of_sent[sent_count++] = (struct sent){producer->accepted_us, at_us, answer.version};
    pthread_mutex_unlock(&mutex);
    tally_answer_free(&tally_alloc_libc, &answer);
    nng_msg_free(message);
    done(producer);
}

// The ids differ from run to run, whatever the seed: a server may know those of the last one.
static void open_producers(const struct settings *settings, nng_socket socket)
{
    uint64_t random = now_us();
    int failed = nng_req0_open(&socket);
    if (!failed) failed = nng_setopt_ms(socket, NNG_OPT_REQ_RESENDTIME, 3600 * 1000);
    if (!failed) failed = nng_dial(socket, settings->to, NULL, 0);
    if (failed) die(settings->to, nng_strerror(failed));
    for (unsigned i = 0; i < PRODUCERS; i++) {
        struct producer *producer = &producers[i];
        if (nng_ctx_open(&producer->context, socket) || nng_aio_alloc(&producer->aio, on_done, producer))
            die("NNG", "no memory");
        producer->id = bench_random(&random) | 1;
        done(producer);
    }
}

// Waits until one is free; *out_waited is set when it had to.
static struct producer *take_producer(bool *out_waited)
{
    pthread_mutex_lock(&mutex);
    if (!free_count) *out_waited = true;
    while (!free_count) pthread_cond_wait(&freed, &mutex);
    struct producer *producer = free_producers;
    free_producers = producer->next;
    free_count--;
    pthread_mutex_unlock(&mutex);
    return producer;
}

static void wait_all(void)
{
    pthread_mutex_lock(&mutex);
    while (free_count < PRODUCERS) pthread_cond_wait(&freed, &mutex);
    pthread_mutex_unlock(&mutex);
}

static struct tally_batch_writer writer;

static void begin(struct producer *producer, const struct settings *settings)
{
    writer.out->size = 0;
    tally_batch_begin(&writer,
                      &(struct tally_batch_header){.dataset = tally_bytes(settings->dataset, strlen(settings->dataset)),
                                                   .producer = producer->id,
                                                   .sequence = ++producer->sequence});
    tally_batch_table_begin(&writer, tally_bytes("npm", 3));
}

static void finish(struct producer *producer)
{
    nng_msg *message;
    tally_batch_table_end(&writer);
    if (tally_batch_finish(&writer) || nng_msg_alloc(&message, writer.out->size)) die("batch", "no memory");
    memcpy(nng_msg_body(message), writer.out->data, writer.out->size);
    nng_aio_set_msg(producer->aio, message);
    producer->phase = SENDING;
    producer->accepted_us = now_us();
    nng_ctx_send(producer->context, producer->aio);
}

static void preload(const struct settings *settings)
{
    bool waited;
    for (uint32_t i = 0; i < settings->keys;) {
        struct producer *producer = take_producer(&waited);
        begin(producer, settings);
        for (uint32_t j = 0; j < PRELOAD_ENTRIES && i < settings->keys; j++)
            tally_batch_add(&writer, names_key(&names, i++), 1);
        finish(producer);
    }
    wait_all();
}

// ---------------------------------------------------------------------------------------------------- the run

static void fill(const struct settings *settings, uint64_t *random)
{
    for (uint32_t i = 0; i < settings->batch; i++) {
        struct tally_bytes key = settings->distinct ? draw_next() : draw_by_weight(random);
        tally_batch_add(&writer, key, 1 + (int64_t)bench_below(random, 50));
    }
}

static uint64_t run(const struct settings *settings, uint64_t *random)
{
    uint64_t batches = (uint64_t)(settings->rate * settings->seconds / settings->batch), late = 0;
    double every_us = settings->batch / settings->rate * 1e6;
    sent_max = batches;
    log_of_sent = calloc(batches + 1, sizeof *log_of_sent);
    if (!log_of_sent) die("run", "no memory");
    uint64_t start_us = now_us();
    for (uint64_t i = 0; i < batches; i++) {
        uint64_t at_us = start_us + (uint64_t)((double)i * every_us);
        struct timespec at = {.tv_sec = (time_t)(at_us / 1000000), .tv_nsec = (long)(at_us % 1000000) * 1000};
        bool waited = false;
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
        struct producer *producer = take_producer(&waited);
        late += waited;
        begin(producer, settings);
        fill(settings, random);
        finish(producer);
    }
    wait_all();
    return late;
}

static void read_settings(int argc, char **argv, struct settings *out)
{
    *out = (struct settings){.dataset = "main", .keys = 226993, .batch = 100, .rate = 50000, .seconds = 10, .seed = 1};
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i], *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(word, "--distinct")) {
            out->distinct = true;
            continue;
        }
        if (!strcmp(word, "--preload")) {
            out->preload = true;
            continue;
        }
        i++;
        if (!strcmp(word, "--to"))
            out->to = value;
        else if (!strcmp(word, "--dataset"))
            out->dataset = value;
        else if (!strcmp(word, "--keys"))
            out->keys = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(word, "--batch"))
            out->batch = (uint32_t)strtoul(value, NULL, 10);
        else if (!strcmp(word, "--rate"))
            out->rate = strtod(value, NULL);
        else if (!strcmp(word, "--seconds"))
            out->seconds = strtod(value, NULL);
        else if (!strcmp(word, "--seed"))
            out->seed = strtoull(value, NULL, 0);
        else
            die("unknown argument", word);
    }
    if (!out->to || !out->keys || !out->batch) die("arguments", "see the top of load_paced.c");
}

int main(int argc, char **argv)
{
    struct settings settings;
    struct tally_writer out = tally_writer_growable(&tally_alloc_libc);
    nng_socket socket = NNG_SOCKET_INITIALIZER;
    read_settings(argc, argv, &settings);
    load_names(settings.keys);
    writer = (struct tally_batch_writer){.out = &out,
                                         .body = tally_writer_growable(&tally_alloc_libc),
                                         .entries = tally_writer_growable(&tally_alloc_libc),
                                         .amounts = tally_writer_growable(&tally_alloc_libc)};
    uint64_t random = settings.seed;
    open_producers(&settings, socket);
    if (settings.preload) preload(&settings);
    printf("loaded %llu\n", (unsigned long long)version_max);
    fflush(stdout);
    if (getchar() == EOF) return 0;
    uint64_t late = run(&settings, &random);
    for (size_t i = 0; i < sent_count; i++)
        printf("%llu %llu %llu\n", (unsigned long long)log_of_sent[i].accepted_us,
               (unsigned long long)log_of_sent[i].acknowledged_us, (unsigned long long)log_of_sent[i].version);
    printf("late %llu\n", (unsigned long long)late);
    fflush(stdout);
    _Exit(0); // NNG's sockets go with the process
}
