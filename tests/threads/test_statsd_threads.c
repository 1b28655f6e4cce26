// SPDX-License-Identifier: Apache-2.0
//
// StatsD at an edge under threads: the listener's thread takes from many senders, by UDP and TCP, and counts; another drains; another reads the
// metrics. What was sent is drained, once. Run by ThreadSanitizer too.
#include "check.h"

#include <arpa/inet.h>
#include <edge/counts/counts.h>
#include <errno.h>
#include <io/log.h>
#include <io/statsd_listener.h>
#include <messages/messages.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SENDERS 4u    // the first two by UDP
#define PACKETS 2000u // each of LINES lines
#define LINES   5u
#define UNHEARD 20u // packets that may be on their way by UDP: far less than its buffer holds

static struct tally_counts *counts;
static struct tally_counter *counter;
static struct tally_statsd_listener *listener;
static struct sockaddr_in address = {.sin_family = AF_INET};
static _Atomic uint64_t taken[SENDERS]; // of each sender's, by the listener's thread
static _Atomic unsigned senders_left;
static _Atomic bool stopped;

static enum tally_status begin(void *ctx)
{
    (void)ctx;
    return tally_counts_join(counts, &counter);
}

static enum tally_status take(void *ctx, const struct tally_sum *sum)
{
    enum tally_status status;
    (void)ctx;
    while ((status = tally_counts_put(counter, sum)) == TALLY_BUSY || status == TALLY_FULL) sched_yield();
    CHECK(status == TALLY_OK);
    atomic_fetch_add(&taken[sum->key.data[0] - '0'], 1);
    return status;
}

static void tick(void *ctx) { (void)ctx; }

static void end(void *ctx)
{
    (void)ctx;
    tally_counts_leave(&counter);
}

static void *sender(void *argument)
{
    uintptr_t number = (uintptr_t)argument;
    bool udp = number < 2;
    int fd = socket(AF_INET, udp ? SOCK_DGRAM : SOCK_STREAM, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    for (unsigned i = 0; i < PACKETS; i++) {
        char text[256];
        int size = 0;
        for (unsigned line = 0; line < LINES; line++)
            size +=
                snprintf(text + size, sizeof text - (size_t)size, "%u.key%u:2|c\n", (unsigned)number, (i + line) % 37);
        CHECK(send(fd, text, (size_t)size, 0) == size);
        while (udp && (uint64_t)(i + 1) * LINES > atomic_load(&taken[number]) + UNHEARD * LINES) sched_yield();
    }
    close(fd);
    atomic_fetch_sub(&senders_left, 1);
    return NULL;
}

static void *watcher(void *argument)
{
    (void)argument;
    while (!atomic_load(&stopped)) {
        struct tally_writer out = tally_writer_growable(&tally_alloc_libc);
        struct tally_counts_stats stats;
        tally_statsd_metrics(listener, &out);
        CHECK(!out.failed && out.size);
        tally_writer_free(&out);
        tally_counts_stats(counts, &stats);
        usleep(1000);
    }
    return NULL;
}

static enum tally_status add(void *ctx, const struct tally_sum *sum)
{
    CHECK(sum->counting == TALLY_COUNTING_ADD);
    *(uint64_t *)ctx += (uint64_t)sum->number;
    return TALLY_OK;
}

static void drain(uint64_t *total)
{
    uint64_t number, now = 0;
    if (tally_counts_drain(counts, add, &now, &number) != TALLY_OK) return;
    tally_counts_settle(counts, number);
    *total += now;
}

// On a port that was free a moment ago.
static void listen_somewhere(const struct tally_statsd_rules *rules)
{
    enum tally_status status = TALLY_IN_USE;
    struct tally_reason reason;
    for (unsigned i = 0; i < 20 && status == TALLY_IN_USE; i++) {
        char text[32];
        socklen_t size = sizeof address;
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = 0;
        CHECK(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
        CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
        close(fd);
        (void)snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(address.sin_port));
        const struct tally_statsd_options options = {.listen = text,
                                                     .rules = rules,
                                                     .tick_ms = 5,
                                                     .buffer_bytes = 1 << 20,
                                                     .begin = begin,
                                                     .take = take,
                                                     .tick = tick,
                                                     .end = end};
        status = tally_statsd_listen(&options, &listener, &reason);
    }
    CHECK(status == TALLY_OK);
}

int main(void)
{
    static struct tally_statsd_rules rules;
    const struct tally_counts_options options = {.bytes = 1 << 20, .seed = {1, 2}};
    pthread_t threads[SENDERS], watching;
    uint64_t total = 0;
    tally_log_configure(TALLY_LOG_WARN, TALLY_LOG_LOGFMT);
    tally_statsd_rules_init(&rules);
    CHECK(tally_counts_create(&options, &counts) == TALLY_OK);
    listen_somewhere(&rules);
    atomic_store(&senders_left, SENDERS);
    CHECK(pthread_create(&watching, NULL, watcher, NULL) == 0);
    for (uintptr_t i = 0; i < SENDERS; i++) CHECK(pthread_create(&threads[i], NULL, sender, (void *)i) == 0);
    while (atomic_load(&senders_left)) {
        drain(&total);
        usleep(200);
    }
    for (unsigned i = 0; i < SENDERS; i++) pthread_join(threads[i], NULL);
    atomic_store(&stopped, true);
    pthread_join(watching, NULL);
    tally_statsd_stop(&listener); // what the sockets hold is still taken
    while (tally_counts_due(counts)) drain(&total);
    if (total != 2ull * SENDERS * PACKETS * LINES) fprintf(stderr, "%llu drained\n", (unsigned long long)total);
    CHECK(total == 2ull * SENDERS * PACKETS * LINES);
    tally_counts_destroy(&counts);
    return 0;
}
