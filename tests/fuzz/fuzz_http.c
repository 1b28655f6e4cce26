// SPDX-License-Identifier: Apache-2.0
//
// The HTTP face, over a real connection: requests of any bytes, what becomes a WebSocket included. Whatever is sent, the face answers in HTTP or
// not at all and ends the connection when its client has ended; and the next client is answered.
#define _GNU_SOURCE
#include "fuzz.h"

#include "../unit/http_world.h"

#include <io/feed.h>
#include <messages/messages.h>

static struct world world;

static bool on_count(void *ctx, void *reader, struct tally_http_count *count)
{
    (void)ctx, (void)reader;
    FUZZ_CHECK(count->table[0] || tally_sums_count(count->sums) >= 1);
    count->status = TALLY_OK;
    count->version = 1;
    tally_http_counted(count);
    return true;
}

static void start(void)
{
    struct tally_http_source source;
    struct tally_reason reason;
    const struct tally_feed_options feed = {.dataset = tally_bytes("main", 4), .bytes_max = 1 << 20};
    const struct tally_mirror_options mirror = {.dataset = tally_bytes("main", 4)};
    tally_log_configure(TALLY_LOG_ERROR, TALLY_LOG_LOGFMT);
    (void)signal(SIGPIPE, SIG_IGN);
    world.ready = true;
    FUZZ_CHECK(tally_feed_create(&feed, &world.feed) == TALLY_OK);
    FUZZ_CHECK(tally_memory_map((size_t)64 << 20, 0, &world.memory) == TALLY_OK);
    FUZZ_CHECK(tally_mirror_init(&world.memory, &mirror, &world.mirror) == TALLY_OK);
    world_publish(&world, 10, true);
    world_publish(&world, 2, false);
    FUZZ_CHECK(tally_reads_native_create(world.mirror, &world, &world.reads, &source) == TALLY_OK);
    source.state = world_state;
    source.ready = world_ready;
    source.metrics = world_metrics;
    source.now_ms = world_now;
    source.count = source.define = on_count;
    const struct tally_http_options options = {.listen = "127.0.0.1:0", .threads = 1, .feed = world.feed};
    FUZZ_CHECK(tally_http_start(&options, &source, &world.http, &reason) == TALLY_OK);
    world.port = atoi(strrchr(tally_http_url(world.http), ':') + 1);
}

// All that the other side says until it ends; false: it does not end.
static bool hear_all(int fd, char *text, size_t room, size_t *out_size)
{
    *out_size = 0;
    for (;;) {
        char bytes[65536];
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        if (poll(&poll_fd, 1, 10000) != 1) return false;
        ssize_t got = recv(fd, bytes, sizeof bytes, 0);
        if (got <= 0) return true;
        size_t keep = (size_t)got < room - *out_size ? (size_t)got : room - *out_size;
        memcpy(text + *out_size, bytes, keep);
        *out_size += keep;
    }
}

static size_t talk(const void *bytes, size_t size, char *text, size_t room)
{
    const struct linger reset = {.l_onoff = 1}; // leaves no port behind that waits
    size_t heard;
    int fd = dial(&world);
    FUZZ_CHECK(!setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset));
    say(fd, bytes, size);
    (void)shutdown(fd, SHUT_WR);
    FUZZ_CHECK(hear_all(fd, text, room, &heard));
    close(fd);
    return heard;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char ask[] = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    static unsigned inputs;
    static char text[1 << 16];
    if (!world.http) start();
    size_t heard = talk(data, size, text, sizeof text);
    FUZZ_CHECK(!heard || (heard > 12 && !memcmp(text, "HTTP/1.1 ", 9)));
    if (inputs++ % 16 == 0) {
        heard = talk(ask, sizeof ask - 1, text, sizeof text - 1);
        text[heard] = '\0';
        FUZZ_CHECK(strstr(text, "200 OK") && strstr(text, "{\"ok\":true}"));
    }
    return 0;
}
