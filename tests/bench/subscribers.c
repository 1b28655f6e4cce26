// SPDX-License-Identifier: Apache-2.0
//
// Many cheap subscribers in one process: real TCP sockets, one epoll, just enough of the SP protocol to be a SUB, which reads and forgets.
//
//   subscribers HOST PORT COUNT
//
// Prints `ready` when all have shaken hands. Then a line on stdin at a time: `mark` begins the count anew; `tell` prints, as JSON, what has come
// since: `messages` and `bytes` of all, `messages_min` and `messages_max` of one, `gap_ms` (the longest time between two messages
// of one), `spread_ms` (for each message the time from the first that had it to the last). Ends at the end of stdin.
//
//   handshake, both ways: 00 'S' 'P' 00 | protocol, 2 bytes big-endian: SUB 33, PUB 32 | 00 00
//   message: size, 8 bytes big-endian | that many bytes
#include <arpa/inet.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MESSAGES_MAX 4096u // between two marks
#define HEAD_BYTES   8u

static const uint8_t hello[HEAD_BYTES] = {0, 'S', 'P', 0, 0, 33, 0, 0};
static const uint8_t welcome[HEAD_BYTES] = {0, 'S', 'P', 0, 0, 32, 0, 0};

struct subscriber {
    int socket;
    bool welcomed;
    uint8_t head[HEAD_BYTES];
    uint32_t head_bytes;
    uint64_t left; // of the message that is being read
    uint64_t messages, bytes, last_us, gap_us;
};

static struct subscriber *subscribers;
static uint32_t count, welcomed;
static struct {
    uint64_t first_us, last_us;
} seen[MESSAGES_MAX];

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "subscribers: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void message_ended(struct subscriber *one)
{
    uint64_t at_us = now_us(), number = one->messages++;
    if (one->last_us && at_us - one->last_us > one->gap_us) one->gap_us = at_us - one->last_us;
    one->last_us = at_us;
    if (number >= MESSAGES_MAX) return;
    if (!seen[number].first_us) seen[number].first_us = at_us;
    seen[number].last_us = at_us;
}

static void head_ended(struct subscriber *one)
{
    one->head_bytes = 0;
    if (!one->welcomed) {
        if (memcmp(one->head, welcome, HEAD_BYTES) != 0) errno = EPROTO, die("handshake");
        one->welcomed = true;
        welcomed++;
        return;
    }
    for (uint32_t i = 0; i < HEAD_BYTES; i++) one->left = one->left << 8 | one->head[i];
    one->bytes += HEAD_BYTES;
    if (!one->left) message_ended(one);
}

static void take(struct subscriber *one, const uint8_t *at, size_t size)
{
    while (size) {
        if (one->left) {
            size_t part = size < one->left ? size : (size_t)one->left;
            one->left -= part;
            one->bytes += part;
            at += part;
            size -= part;
            if (!one->left) message_ended(one);
        } else {
            one->head[one->head_bytes++] = *at++;
            size--;
            if (one->head_bytes == HEAD_BYTES) head_ended(one);
        }
    }
}

static void read_some(struct subscriber *one)
{
    static uint8_t buffer[1 << 18];
    ssize_t size = recv(one->socket, buffer, sizeof buffer, MSG_DONTWAIT);
    if (size > 0)
        take(one, buffer, (size_t)size);
    else if (size == 0 || (errno != EAGAIN && errno != EINTR))
        die("a connection ended");
}

static void connect_all(int poll, const char *host, const char *port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    struct rlimit files;
    if (inet_pton(AF_INET, host, &to.sin_addr) != 1) die(host);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct subscriber *one = &subscribers[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = one};
        one->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (one->socket < 0 || connect(one->socket, (const struct sockaddr *)&to, sizeof to)) die("connect");
        if (send(one->socket, hello, sizeof hello, 0) != (ssize_t)sizeof hello) die("send");
        if (epoll_ctl(poll, EPOLL_CTL_ADD, one->socket, &event)) die("epoll");
    }
}

static void mark(void)
{
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < count; i++) {
        struct subscriber *one = &subscribers[i];
        one->messages = one->bytes = one->last_us = one->gap_us = 0;
    }
    printf("marked\n");
}

static void tell(void)
{
    uint64_t messages = 0, bytes = 0, least = UINT64_MAX, most = 0, gap_us = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct subscriber *one = &subscribers[i];
        messages += one->messages;
        bytes += one->bytes;
        if (one->messages < least) least = one->messages;
        if (one->messages > most) most = one->messages;
        if (one->gap_us > gap_us) gap_us = one->gap_us;
    }
    printf("{\"messages\": %llu, \"bytes\": %llu, \"messages_min\": %llu, \"messages_max\": %llu, \"gap_ms\": %.3f, "
           "\"spread_ms\": [",
           (unsigned long long)messages, (unsigned long long)bytes, (unsigned long long)least, (unsigned long long)most,
           (double)gap_us / 1000);
    for (uint64_t i = 0; i < least && i < MESSAGES_MAX; i++)
        printf("%s%.3f", i ? ", " : "", (double)(seen[i].last_us - seen[i].first_us) / 1000);
    printf("]}\n");
}

// False at the end of stdin.
static bool obey(void)
{
    char line[16];
    if (!fgets(line, sizeof line, stdin)) return false;
    if (!strcmp(line, "mark\n"))
        mark();
    else if (!strcmp(line, "tell\n"))
        tell();
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    struct epoll_event events[256], commands = {.events = EPOLLIN};
    int poll = epoll_create1(EPOLL_CLOEXEC);
    if (argc != 4 || poll < 0) errno = EINVAL, die("HOST PORT COUNT");
    count = (uint32_t)strtoul(argv[3], NULL, 10);
    subscribers = calloc(count, sizeof *subscribers);
    if (!subscribers) die("memory");
    setvbuf(stdin, NULL, _IONBF, 0); // what fgets took too much of would not wake epoll
    connect_all(poll, argv[1], argv[2]);
    if (epoll_ctl(poll, EPOLL_CTL_ADD, STDIN_FILENO, &commands)) die("epoll");
    for (bool told = false;;) {
        int ready = epoll_wait(poll, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr)
                read_some(events[i].data.ptr);
            else if (!obey())
                return 0;
        }
        if (!told && welcomed == count) {
            printf("ready\n");
            fflush(stdout);
            told = true;
        }
    }
}
