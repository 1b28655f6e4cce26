// SPDX-License-Identifier: Apache-2.0
//
// The peers that take lines by TCP. Redis: INCRBY, a pipeline of a batch on each connection, the next when all of its replies have come.
// statsd: counters, one line each; it answers nothing, but it closes a connection when it has read to the end of what was sent.
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load_ingest.h"

struct line {
    int fd;
    const struct load_batch *batch;
    size_t written, replies; // of the batch
};

static int dial(const struct load *load)
{
    char host[256];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    const char *port = strrchr(load->where, ':');
    if (!port || (size_t)(port - load->where) >= sizeof host) load_fail("HOST:PORT");
    memcpy(host, load->where, (size_t)(port - load->where));
    host[port - load->where] = 0;
    if (getaddrinfo(host, port + 1, &hints, &found)) load_fail(load->where);
    int fd = socket(found->ai_family, SOCK_STREAM, 0), one = 1;
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen)) load_fail(load->where);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    freeaddrinfo(found);
    return fd;
}

static struct tally_bytes encode(struct load *load, const struct load_batch *batch, bool redis)
{
    size_t room = 0, size = 0;
    for (size_t i = 0; i < batch->count; i++) room += load->keys[batch->events[i].key].size + 64;
    char *data = load_memory(room + 1);
    for (size_t i = 0; i < batch->count; i++) {
        struct tally_bytes key = load->keys[batch->events[i].key];
        unsigned amount = batch->events[i].amount;
        if (redis)
            size += (size_t)snprintf(data + size, room - size, "*3\r\n$6\r\nINCRBY\r\n$%zu\r\n%s\r\n$%d\r\n%u\r\n",
                                     key.size, (const char *)key.data, amount < 10 ? 1 : 2, amount);
        else
            size += (size_t)snprintf(data + size, room - size, "%s:%u|c\n", (const char *)key.data, amount);
    }
    return tally_bytes(data, size);
}

// ---------------------------------------------------------------------------------------------------- Redis

static struct tally_bytes redis_encode(struct load *load, const struct load_batch *batch)
{
    return encode(load, batch, true);
}

static void redis_open(struct load *load)
{
    struct line *lines = load_memory(load->in_flight * sizeof *lines);
    for (size_t i = 0; i < load->in_flight; i++) lines[i].fd = dial(load);
    load->own = lines;
}

// The next batch, written as far as the socket takes it. False when there is none.
static bool line_begin(struct load *load, struct line *line)
{
    line->batch = load_take(load);
    line->written = line->replies = 0;
    return line->batch != NULL;
}

static void line_write(struct line *line)
{
    while (line->written < line->batch->bytes.size) {
        ssize_t wrote = send(line->fd, line->batch->bytes.data + line->written, line->batch->bytes.size - line->written,
                             MSG_DONTWAIT | MSG_NOSIGNAL);
        if (wrote < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (wrote < 0) load_fail("the connection broke");
        line->written += (size_t)wrote;
    }
}

static void line_read(struct line *line)
{
    char bytes[65536];
    ssize_t got = recv(line->fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) load_fail("the connection broke");
    if (memchr(bytes, '-', (size_t)got)) load_fail("an error in reply"); // sums here are never below 0
    const char *at = bytes, *end = bytes + got;
    while ((at = memchr(at, '\n', (size_t)(end - at)))) {
        line->replies++;
        if (++at == end) break;
    }
}

static void redis_run(struct load *load)
{
    struct line *lines = load->own;
    size_t count = load->in_flight, busy = 0;
    struct pollfd *polls = load_memory(count * sizeof *polls);
    for (size_t i = 0; i < count; i++) {
        polls[i].fd = -1;
        if (!line_begin(load, &lines[i])) continue;
        busy++;
        polls[i].fd = lines[i].fd;
        line_write(&lines[i]);
    }
    while (busy) {
        for (size_t i = 0; i < count; i++)
            polls[i].events = POLLIN | (lines[i].batch && lines[i].written < lines[i].batch->bytes.size ? POLLOUT : 0);
        if (poll(polls, count, -1) < 0 && errno != EINTR) load_fail("poll");
        for (size_t i = 0; i < count; i++) {
            if (polls[i].fd < 0 || !polls[i].revents) continue;
            if (polls[i].revents & POLLOUT) line_write(&lines[i]);
            if (polls[i].revents & ~POLLOUT) line_read(&lines[i]);
            if (lines[i].replies < lines[i].batch->count) continue;
            if (line_begin(load, &lines[i])) {
                line_write(&lines[i]);
            } else {
                polls[i].fd = -1;
                busy--;
            }
        }
    }
    free(polls);
}

const struct load_peer load_redis = {"redis", redis_encode, redis_open, redis_run};

// ---------------------------------------------------------------------------------------------------- statsd

static struct tally_bytes statsd_encode(struct load *load, const struct load_batch *batch)
{
    return encode(load, batch, false);
}

static void statsd_open(struct load *load) { (void)load; }

static void statsd_run(struct load *load)
{
    const struct load_batch *batch;
    int fd = dial(load);
    char rest[256];
    while ((batch = load_take(load))) {
        for (size_t at = 0; at < batch->bytes.size;) {
            ssize_t wrote = send(fd, batch->bytes.data + at, batch->bytes.size - at, MSG_NOSIGNAL);
            if (wrote < 0) load_fail("the connection broke");
            at += (size_t)wrote;
        }
    }
    (void)shutdown(fd, SHUT_WR);
    while (recv(fd, rest, sizeof rest, 0) > 0) {
    }
    (void)close(fd);
}

const struct load_peer load_statsd = {"statsd", statsd_encode, statsd_open, statsd_run};
