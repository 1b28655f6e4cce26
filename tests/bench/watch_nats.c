// SPDX-License-Identifier: Apache-2.0
//
// NATS JetStream KV as a peer: puts batches into a bucket and watches the bucket on a connection of its own.
//
//   watch_nats URL KEYS BATCH BATCHES EVERY_MS
//
// Keys are the real names ($TALLY_BENCH_NAMES), what NATS does not allow in one made `_`; drawn by a walk that repeats none within a batch; the value
// is a count as text. Prints JSON: `ms`, for each batch the time from before its first put until the watcher had its last entry, and
// `bytes`, what came over the watcher's TCP connection per change.
#include "bench.h"
#include "names.h"

#include <arpa/inet.h>
#include <linux/tcp.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static void must(natsStatus status, const char *what)
{
    if (status == NATS_OK) return;
    fprintf(stderr, "watch_nats: %s: %s\n", what, natsStatus_GetText(status));
    exit(1);
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint64_t received_bytes(natsConnection *connection)
{
    char *ip = NULL;
    int port = 0;
    must(natsConnection_GetLocalIPAndPort(connection, &ip, &port), "port");
    free(ip);
    for (int file = 0; file < 256; file++) {
        struct sockaddr_in at;
        struct tcp_info info;
        socklen_t at_bytes = sizeof at, info_bytes = sizeof info;
        if (getsockname(file, (struct sockaddr *)&at, &at_bytes) || at.sin_family != AF_INET ||
            ntohs(at.sin_port) != port)
            continue;
        if (getsockopt(file, IPPROTO_TCP, TCP_INFO, &info, &info_bytes)) continue;
        return info.tcpi_bytes_received;
    }
    fprintf(stderr, "watch_nats: no socket at port %d\n", port);
    exit(1);
}

static void put(jsCtx *stream, const struct names *names, uint32_t key, unsigned count)
{
    char subject[NAMES_KEY_BYTES_MAX + 16], value[24];
    struct tally_bytes name = names_key(names, key);
    int at = snprintf(subject, sizeof subject, "$KV.bench.");
    for (size_t i = 0; i < name.size; i++) {
        char c = (char)name.data[i];
        bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '/';
        subject[at++] = fine ? c : '_';
    }
    subject[at] = 0;
    int bytes = snprintf(value, sizeof value, "%u", count);
    must(js_PublishAsync(stream, subject, value, bytes, NULL), "put");
}

static void watch(kvWatcher *watcher, unsigned entries)
{
    kvEntry *entry = NULL;
    for (unsigned i = 0; i < entries;) {
        must(kvWatcher_Next(&entry, watcher, 10000), "watch");
        i += entry != NULL; // null: the end of what was there before
        kvEntry_Destroy(entry);
    }
}

int main(int argc, char **argv)
{
    struct names names;
    natsConnection *puts = NULL, *watches = NULL;
    jsCtx *put_stream = NULL, *watch_stream = NULL;
    kvStore *bucket = NULL, *watched = NULL;
    kvWatcher *watcher = NULL;
    kvConfig config;
    if (argc != 6) return 2;
    unsigned keys = (unsigned)atoi(argv[2]), batch = (unsigned)atoi(argv[3]), batches = (unsigned)atoi(argv[4]);
    long every_us = atol(argv[5]) * 1000;
    names_load(&names, keys);
    must(natsConnection_ConnectTo(&puts, argv[1]), argv[1]);
    must(natsConnection_ConnectTo(&watches, argv[1]), argv[1]);
    must(natsConnection_JetStream(&put_stream, puts, NULL), "JetStream");
    must(natsConnection_JetStream(&watch_stream, watches, NULL), "JetStream");
    kvConfig_Init(&config);
    config.Bucket = "bench";
    config.History = 1;
    must(js_CreateKeyValue(&bucket, put_stream, &config), "bucket");
    must(js_KeyValue(&watched, watch_stream, "bench"), "bucket");
    must(kvStore_WatchAll(&watcher, watched, NULL), "watch");
    uint64_t bytes = 0, walk = 0;
    printf("{\"ms\": [");
    for (unsigned i = 0; i < batches + 1; i++) {
        struct timespec pause = {.tv_sec = every_us / 1000000, .tv_nsec = every_us % 1000000 * 1000};
        if (i == 1) bytes = received_bytes(watches); // the first warms up
        uint64_t start_us = now_us();
        for (unsigned j = 0; j < batch; j++) put(put_stream, &names, (uint32_t)(walk++ * 2654435761u % keys), 1000 + i);
        watch(watcher, batch);
        if (i) printf("%s%.3f", i > 1 ? ", " : "", (double)(now_us() - start_us) / 1000);
        must(js_PublishAsyncComplete(put_stream, NULL), "acknowledgements");
        nanosleep(&pause, NULL);
    }
    printf("], \"bytes\": %.1f}\n", (double)(received_bytes(watches) - bytes) / batches / batch);
    fflush(stdout);
    _Exit(0);
}
