// SPDX-License-Identifier: Apache-2.0
//
// For test_io_http*.c: the HTTP face on a free port over a native mirror, and a client that says exactly the bytes a test wants.
#ifndef TALLY_TEST_HTTP_WORLD_H
#define TALLY_TEST_HTTP_WORLD_H

#define _GNU_SOURCE

#include "../support/build.h"
#include "../support/with_cmocka.h"

#include <arpa/inet.h>
#include <errno.h>
#include <io/log.h>
#include <io/reads_native.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <tallycast/fingerprint.h>
#include <tallycast/memory.h>
#include <time.h>
#include <unistd.h>

static const struct tally_seed world_seed = {11, 22};

struct world {
    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_reads_native *reads;
    struct tally_http *http;
    struct tally_feed *feed; // null unless the test made one
    struct tally_digest digest;
    uint64_t version, rows;
    bool ready;
    int port;
};

static inline void world_state(void *ctx, struct tally_http_state *out_state)
{
    struct world *world = tally_reads_native_owner(ctx);
    *out_state = (struct tally_http_state){
        .name = "server", .state = "live", .dataset = "main", .newest_version = world->version + 2};
}

static inline bool world_ready(void *ctx, struct tally_reason *out_reason)
{
    struct world *world = tally_reads_native_owner(ctx);
    if (!world->ready) tally_reason_set(out_reason, "not yet");
    return world->ready;
}

static inline void world_metrics(void *ctx, struct tally_writer *out)
{
    (void)ctx;
    tally_write_raw(out, "tally_test 1\n", 13);
}

static inline uint64_t world_now(void *ctx)
{
    (void)ctx;
    return 1763800000500;
}

// Publishes version + 1 with `count` more rows; row i of table "files" has key "key-i" and value i. With `special`, some more
// keys that are hard to say in a URL, value 1 each.
static const struct tally_bytes special_keys[] = {
    {(const uint8_t *)"a//b/../c", 9}, {(const uint8_t *)"\0\xff;&+ %", 7}, {(const uint8_t *)"\"\\\n", 3}};

static inline void world_publish(struct world *world, uint32_t count, bool special)
{
    struct test_frame frame;
    struct tally_bytes name = tally_bytes("files", 5);
    uint64_t table = tally_digest_table(world_seed, name);
    struct tally_frame_header header = {.dataset = tally_bytes("main", 4), .epoch = 7, .from = world->version};
    header.to = ++world->version;
    header.cut_ms = 1763800000000;
    header.seed = header.from ? (struct tally_seed){0} : world_seed;
    uint32_t first = (uint32_t)world->rows, specials = special ? 3 : 0;
    struct tally_bytes *keys = calloc(count + specials, sizeof *keys);
    char *text = malloc((size_t)count * 16 + 1);
    for (uint32_t i = 0; i < count + specials; i++) {
        if (i < count)
            keys[i] = tally_bytes(text + i * 16, (size_t)sprintf(text + i * 16, "key-%u", first + i));
        else
            keys[i] = special_keys[i - count];
        uint64_t fingerprint = tally_fingerprint(world_seed, keys[i].data, keys[i].size);
        tally_digest_add(&world->digest, tally_digest_row(table, fingerprint, i < count ? (int64_t)(first + i) : 1));
    }
    world->rows += count + specials;
    header.rows = world->rows;
    header.digest = world->digest;
    test_frame_init(&frame);
    tally_frame_begin(&frame.writer, &header);
    tally_frame_table_begin(&frame.writer, 0, name, TALLY_KIND_COUNTER);
    for (uint32_t i = 0; i < count + specials; i++)
        tally_frame_added(&frame.writer, first + i, keys[i], i < count ? (int64_t)(first + i) : 1);
    tally_frame_table_end(&frame.writer);
    assert_int_equal(tally_frame_finish(&frame.writer), TALLY_OK);
    assert_int_equal(tally_mirror_apply(world->mirror, &world->memory, test_frame_bytes(&frame)), TALLY_OK);
    const struct tally_view_info held = {.epoch = header.epoch,
                                         .version = header.to,
                                         .cut_ms = header.cut_ms,
                                         .fresh_ms = header.cut_ms,
                                         .digest = header.digest,
                                         .rows = header.rows};
    if (world->feed && header.from)
        tally_feed_frame(world->feed, &held, test_frame_bytes(&frame));
    else if (world->feed)
        tally_feed_restart(world->feed, &held);
    test_frame_free(&frame);
    free(keys);
    free(text);
}

static inline void world_init(struct world *world, uint32_t rows, struct tally_http_options options)
{
    struct tally_http_source source;
    struct tally_reason reason;
    *world = (struct world){.ready = true, .feed = options.feed};
    (void)signal(SIGPIPE, SIG_IGN); // as the daemons do: a client may be gone when it is answered
    tally_log_configure(TALLY_LOG_WARN, TALLY_LOG_LOGFMT);
    assert_int_equal(tally_memory_map((size_t)512 << 20, 0, &world->memory), TALLY_OK);
    const struct tally_mirror_options mirror = {.dataset = tally_bytes("main", 4)};
    assert_int_equal(tally_mirror_init(&world->memory, &mirror, &world->mirror), TALLY_OK);
    if (rows) world_publish(world, rows, true);
    assert_int_equal(tally_reads_native_create(world->mirror, world, &world->reads, &source), TALLY_OK);
    source.state = world_state;
    source.ready = world_ready;
    source.metrics = world_metrics;
    source.now_ms = world_now;
    if (!options.listen) options.listen = "127.0.0.1:0";
    if (!options.threads) options.threads = 1;
    enum tally_status status = tally_http_start(&options, &source, &world->http, &reason);
    if (status) fail_msg("%s", reason.text);
    world->port = atoi(strrchr(tally_http_url(world->http), ':') + 1);
}

static inline void world_deinit(struct world *world)
{
    tally_http_stop(&world->http, 0);
    tally_reads_native_destroy(&world->reads);
    tally_memory_unmap(&world->memory);
}

// ---------------------------------------------------------------------------------------------------- a client

static inline uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline int dial(const struct world *world)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)world->port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static inline void say(int fd, const void *bytes, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t sent = send(fd, (const char *)bytes + at, size - at, MSG_NOSIGNAL);
        if (sent <= 0) return; // the other side has heard enough
        at += (size_t)sent;
    }
}

static inline void say_text(int fd, const char *text) { say(fd, text, strlen(text)); }

struct answer {
    unsigned status;
    char *head, *body; // NUL-terminated
    size_t body_size;
    bool closed; // no answer at all
};

static inline bool hear_more(int fd, char **data, size_t *size)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    if (poll(&poll_fd, 1, 20000) != 1) fail_msg("no answer within 20 s");
    *data = realloc(*data, *size + 65537);
    ssize_t got = recv(fd, *data + *size, 65536, 0);
    if (got <= 0) return false;
    *size += (size_t)got;
    (*data)[*size] = '\0';
    return true;
}

// Takes apart a chunked body in place; false when it is not whole yet.
static inline bool dechunk(char *body, size_t size, size_t *out_size, size_t *out_used)
{
    size_t at = 0, to = 0;
    for (;;) {
        char *line_end = memmem(body + at, size - at, "\r\n", 2);
        if (!line_end) return false;
        size_t chunk = strtoul(body + at, NULL, 16);
        at = (size_t)(line_end + 2 - body);
        if (size - at < chunk + 2) return false;
        if (chunk == 0) break;
        memmove(body + to, body + at, chunk);
        to += chunk;
        at += chunk + 2;
    }
    *out_size = to;
    *out_used = at + 2;
    return true;
}

// One answer; what comes behind it stays in *rest, which starts null and is freed by the caller.
static inline struct answer hear(int fd, bool head_only, char **rest, size_t *rest_size)
{
    struct answer answer = {0};
    char *data = *rest, *head_end = NULL;
    size_t size = *rest_size, used = 0;
    while (!data || !(head_end = memmem(data, size, "\r\n\r\n", 4))) {
        if (hear_more(fd, &data, &size)) continue;
        answer.closed = true;
        free(data);
        *rest = NULL;
        *rest_size = 0;
        return answer;
    }
    size_t head_size = (size_t)(head_end + 4 - data);
    answer.head = strndup(data, head_size);
    answer.status = (unsigned)atoi(answer.head + 9);
    char *length = strcasestr(answer.head, "content-length: ");
    bool chunked = strcasestr(answer.head, "transfer-encoding: chunked") != NULL;
    if (head_only) {
        used = head_size;
    } else if (chunked) {
        char *copy = NULL;
        for (;;) {
            free(copy);
            copy = malloc(size);
            memcpy(copy, data + head_size, size - head_size);
            if (dechunk(copy, size - head_size, &answer.body_size, &used)) break;
            if (!hear_more(fd, &data, &size)) break; // cut short: body stays empty
        }
        answer.body = realloc(copy, answer.body_size + 1);
        used += head_size;
    } else {
        answer.body_size = length ? strtoul(length + 16, NULL, 10) : 0;
        while (size - head_size < answer.body_size && hear_more(fd, &data, &size)) continue;
        answer.body = malloc(answer.body_size + 1);
        memcpy(answer.body, data + head_size, answer.body_size);
        used = head_size + answer.body_size;
    }
    if (answer.body) answer.body[answer.body_size] = '\0';
    *rest_size = size - used;
    memmove(data, data + used, *rest_size);
    *rest = data;
    return answer;
}

static inline void answer_free(struct answer *answer)
{
    free(answer->head);
    free(answer->body);
    *answer = (struct answer){0};
}

// Says one request on a connection of its own.
static inline struct answer ask(const struct world *world, const char *request, size_t size)
{
    char *rest = NULL;
    size_t rest_size = 0;
    int fd = dial(world);
    say(fd, request, size);
    struct answer answer = hear(fd, strncmp(request, "HEAD", 4) == 0, &rest, &rest_size);
    free(rest);
    close(fd);
    return answer;
}

static inline struct answer ask_text(const struct world *world, const char *request)
{
    return ask(world, request, strlen(request));
}

static inline struct answer get(const struct world *world, const char *path)
{
    char request[8192];
    (void)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: t\r\n\r\n", path);
    return ask_text(world, request);
}

static inline void expect(struct answer answer, unsigned status, const char *body)
{
    assert_false(answer.closed);
    if (answer.status != status || (body && strcmp(answer.body, body) != 0))
        fail_msg("expected %u %s\n     got %u %s", status, body ? body : "", answer.status, answer.body);
    answer_free(&answer);
}

static inline bool closed_within(int fd, unsigned ms)
{
    uint64_t end = now_ms() + ms;
    char bytes[65536];
    for (uint64_t now = now_ms(); now < end; now = now_ms()) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        if (poll(&poll_fd, 1, (int)(end - now)) == 1 && recv(fd, bytes, sizeof bytes, 0) <= 0) return true;
    }
    return false;
}

#endif
