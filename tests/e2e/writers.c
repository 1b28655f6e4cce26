// SPDX-License-Identifier: Apache-2.0
//
// Producers for test_churn.py: threads that each count keys that never come twice, and some that do, at a steady rate.
//
//   writers --to URL --table NAME --steady NAME --writers N --rate KEYS/S --seconds S
//
// Each writer sends a batch every 20 ms, in table --table new keys of 12 to 100 bytes with amount 1, in --steady STEADY keys of a walk through
// 1000 of them ("s0" ... "s999"), with amount 1; it waits for each answer. Prints one line for a batch now and then: a key of it and the time
// (Unix milliseconds) at which its answer was there; and at the end one of JSON: the batches of each writer, the keys, the milliseconds that a
// writer was behind its plan at most (one batch waits for the answer of the one before, so a server that is slow for a while makes that grow), and
// the longest that an answer took. Ends with 1 when a batch is refused.
#define _GNU_SOURCE
#include <messages/messages.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tallycast/batch.h>
#include <time.h>

#define WRITERS_MAX 64u
#define PERIOD_MS   20u
#define STEADY      10u
#define STEADY_KEYS 1000u

static struct {
    const char *to, *table, *steady;
    unsigned writers, seconds;
    double rate;
} settings = {.table = "churn", .steady = "steady", .writers = 8, .seconds = 10, .rate = 50000};

struct writer {
    unsigned number;
    uint64_t batches, keys, late_ms_max, answer_ms_max;
};

static _Noreturn void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "writers: %s: %s\n", what, why);
    exit(1);
}

static uint64_t now_ms(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

// Key number `n` of a writer: never twice, of many sizes.
static size_t new_key(const struct writer *writer, uint64_t n, uint64_t run, char key[128])
{
    int size = snprintf(key, 128, "%llx-%u-%llu", (unsigned long long)run, writer->number, (unsigned long long)n);
    size_t wanted = 12 + (size_t)(n * 2654435761u >> 7) % 89;
    while ((size_t)size < wanted) key[size++] = '.';
    return (size_t)size;
}

static void fill(struct tally_batch_writer *batch, struct writer *writer, uint64_t producer, uint64_t keys)
{
    char key[128];
    batch->out->size = 0;
    tally_batch_begin(batch, &(struct tally_batch_header){.dataset = tally_bytes("main", 4),
                                                          .producer = producer,
                                                          .sequence = ++writer->batches});
    tally_batch_table_begin(batch, tally_bytes(settings.table, strlen(settings.table)));
    for (uint64_t i = 0; i < keys; i++)
        tally_batch_add(batch, tally_bytes(key, new_key(writer, writer->keys++, producer, key)), 1);
    tally_batch_table_end(batch);
    tally_batch_table_begin(batch, tally_bytes(settings.steady, strlen(settings.steady)));
    for (uint64_t i = 0; i < STEADY; i++) {
        int size = snprintf(key, sizeof key, "s%llu",
                            (unsigned long long)(((writer->batches - 1) * STEADY + i) * 7 % STEADY_KEYS));
        tally_batch_add(batch, tally_bytes(key, (size_t)size), 1);
    }
    tally_batch_table_end(batch);
    if (tally_batch_finish(batch)) die("batch", "no memory");
}

static void send_batch(nng_socket socket, struct tally_bytes batch)
{
    struct tally_answer answer;
    enum tally_status status = TALLY_BUSY;
    while (status == TALLY_BUSY) {
        nng_msg *message;
        int failed = nng_msg_alloc(&message, batch.size);
        if (failed) die("NNG", nng_strerror(failed));
        memcpy(nng_msg_body(message), batch.data, batch.size);
        if ((failed = nng_sendmsg(socket, message, 0)) || (failed = nng_recvmsg(socket, &message, 0)))
            die("NNG", nng_strerror(failed));
        status =
            tally_answer_decode(&tally_alloc_libc, tally_bytes(nng_msg_body(message), nng_msg_len(message)), &answer);
        if (!status) {
            status = (enum tally_status)answer.status;
            tally_answer_free(&tally_alloc_libc, &answer);
        }
        nng_msg_free(message);
    }
    if (status) die("a batch was refused", tally_status_str(status));
}

static void *run(void *argument)
{
    struct writer *writer = argument;
    struct tally_writer out = tally_writer_growable(&tally_alloc_libc);
    struct tally_batch_writer batch = {.out = &out,
                                       .body = tally_writer_growable(&tally_alloc_libc),
                                       .entries = tally_writer_growable(&tally_alloc_libc),
                                       .amounts = tally_writer_growable(&tally_alloc_libc)};
    nng_socket socket;
    char key[128];
    int failed = nng_req0_open(&socket);
    if (!failed) failed = nng_dial(socket, settings.to, NULL, 0);
    if (failed) die(settings.to, nng_strerror(failed));
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    uint64_t producer = ((uint64_t)now.tv_sec << 20 ^ (uint64_t)now.tv_nsec) << 6 | writer->number | 1u << 5;
    uint64_t start = now_ms(CLOCK_MONOTONIC), told = 0;
    double rate = settings.rate / settings.writers;
    for (uint64_t at = PERIOD_MS; at <= (uint64_t)settings.seconds * 1000; at += PERIOD_MS) {
        uint64_t passed = now_ms(CLOCK_MONOTONIC) - start;
        if (passed < at) {
            struct timespec rest = {.tv_nsec = (long)(at - passed) * 1000000};
            (void)nanosleep(&rest, NULL);
        } else if (passed - at > writer->late_ms_max) {
            writer->late_ms_max = passed - at;
        }
        fill(&batch, writer, producer, (uint64_t)(rate * (double)at / 1000) - writer->keys);
        uint64_t sent = now_ms(CLOCK_MONOTONIC);
        send_batch(socket, tally_writer_bytes(&out));
        uint64_t took = now_ms(CLOCK_MONOTONIC) - sent;
        if (took > writer->answer_ms_max) writer->answer_ms_max = took;
        uint64_t answered = now_ms(CLOCK_REALTIME);
        if (answered < told + 250 || writer->keys == 0) continue;
        told = answered;
        size_t size = new_key(writer, writer->keys - 1, producer, key);
        (void)printf("%.*s %llu\n", (int)size, key, (unsigned long long)answered);
        (void)fflush(stdout);
    }
    tally_writer_free(&batch.body);
    tally_writer_free(&batch.entries);
    tally_writer_free(&batch.amounts);
    tally_writer_free(&out);
    return NULL;
}

int main(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *word = argv[i], *value = argv[i + 1];
        if (!strcmp(word, "--to"))
            settings.to = value;
        else if (!strcmp(word, "--table"))
            settings.table = value;
        else if (!strcmp(word, "--steady"))
            settings.steady = value;
        else if (!strcmp(word, "--writers"))
            settings.writers = (unsigned)strtoul(value, NULL, 10);
        else if (!strcmp(word, "--rate"))
            settings.rate = strtod(value, NULL);
        else if (!strcmp(word, "--seconds"))
            settings.seconds = (unsigned)strtoul(value, NULL, 10);
        else
            die("unknown argument", word);
    }
    if (!settings.to || !settings.writers || settings.writers > WRITERS_MAX)
        die("arguments", "see the top of writers.c");
    struct writer writers[WRITERS_MAX] = {0};
    pthread_t threads[WRITERS_MAX];
    for (unsigned i = 0; i < settings.writers; i++) {
        writers[i].number = i;
        if (pthread_create(&threads[i], NULL, run, &writers[i])) die("threads", "no memory");
    }
    uint64_t keys = 0, late_ms_max = 0, answer_ms_max = 0;
    for (unsigned i = 0; i < settings.writers; i++) (void)pthread_join(threads[i], NULL);
    (void)printf("{\"batches\": [");
    for (unsigned i = 0; i < settings.writers; i++) {
        (void)printf("%s%llu", i ? ", " : "", (unsigned long long)writers[i].batches);
        keys += writers[i].keys;
        if (writers[i].late_ms_max > late_ms_max) late_ms_max = writers[i].late_ms_max;
        if (writers[i].answer_ms_max > answer_ms_max) answer_ms_max = writers[i].answer_ms_max;
    }
    (void)printf("], \"keys\": %llu, \"late_ms_max\": %llu, \"answer_ms_max\": %llu}\n", (unsigned long long)keys,
                 (unsigned long long)late_ms_max, (unsigned long long)answer_ms_max);
    (void)fflush(stdout);
    _Exit(0); // NNG's sockets go with the process
}
