// SPDX-License-Identifier: Apache-2.0
#include "http_guest.h"

#include <errno.h>
#include <io/address.h>
#include <io/log.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// ---------------------------------------------------------------------------------------------------- HOST:PORT

enum tally_status tally_http_check(const char *setting, const char *listen_at, struct tally_reason *out_reason)
{
    struct tally_address address;
    return tally_address_parse(setting, listen_at, &address, out_reason);
}

// A bound socket, or -1 with errno.
static int socket_bind(const struct sockaddr *address, socklen_t size, bool share)
{
    int on = 1, off = 0, fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->sa_family == AF_INET6) (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if ((!share || setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0) && bind(fd, address, size) == 0 &&
        listen(fd, 1024) == 0)
        return fd;
    int error = errno;
    (void)close(fd);
    errno = error;
    return -1;
}

// One listening socket a thread. With several, a first one without SO_REUSEPORT finds out whether the port is free and,
// for port 0, which one it is: two servers that both share would otherwise share with each other.
static int sockets_open(struct tally_http *http, struct sockaddr_storage *address, socklen_t size)
{
    bool share = http->threads_count > 1;
    int first = socket_bind((struct sockaddr *)address, size, false);
    if (first < 0) return errno;
    if (getsockname(first, (struct sockaddr *)address, &size)) return errno;
    http->threads[0].socket = first;
    if (!share) return 0;
    (void)close(first);
    http->threads[0].socket = -1;
    for (unsigned i = 0; i < http->threads_count; i++) {
        http->threads[i].socket = socket_bind((struct sockaddr *)address, size, true);
        if (http->threads[i].socket < 0) return errno;
    }
    return 0;
}

static enum tally_status listen_on(struct tally_http *http, struct tally_reason *out_reason)
{
    struct tally_address address;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list;
    struct sockaddr_storage bound = {0};
    const char *listen_at = http->options.listen;
    enum tally_status status = tally_address_parse("http", listen_at, &address, out_reason);
    if (status) return status;
    int failed = getaddrinfo(address.host[0] ? address.host : NULL, address.port, &hints, &list);
    if (failed) {
        tally_reason_set(out_reason, "--http %s: %s", listen_at, gai_strerror(failed));
        return TALLY_UNREACHABLE;
    }
    socklen_t size = list->ai_addrlen;
    memcpy(&bound, list->ai_addr, size);
    freeaddrinfo(list);
    if ((failed = sockets_open(http, &bound, size))) {
        tally_reason_set(out_reason, "--http %s: %s", listen_at,
                         failed == EADDRINUSE ? "the address is in use by another process" : strerror(failed));
        return failed == EADDRINUSE ? TALLY_IN_USE : failed == EADDRNOTAVAIL ? TALLY_UNREACHABLE : TALLY_IO;
    }
    // AF_INET and AF_INET6 keep the port at the same place.
    unsigned port = ntohs(((struct sockaddr_in *)&bound)->sin_port);
    bool brackets = strchr(address.host, ':') != NULL;
    (void)snprintf(http->url, sizeof http->url, "http://%s%s%s:%u", brackets ? "[" : "",
                   address.host[0] ? address.host : "*", brackets ? "]" : "", port);
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- a thread

static void on_connection(uv_stream_t *listener, int failed)
{
    if (!failed) http_connection_accept(listener->data);
}

static void on_sweep(uv_timer_t *timer)
{
    struct http_thread *thread = timer->data;
    if (thread->http->source.settle) thread->http->source.settle(thread->reader);
    http_connection_sweep(thread);
}

static void handles_close(struct http_thread *thread)
{
    http_counts_close(thread);
    if (!uv_is_closing((uv_handle_t *)&thread->wake)) uv_close((uv_handle_t *)&thread->wake, NULL);
    if (!uv_is_closing((uv_handle_t *)&thread->sweep)) uv_close((uv_handle_t *)&thread->sweep, NULL);
}

static void on_wake(uv_async_t *wake)
{
    struct http_thread *thread = wake->data;
    if (!thread->stopping) http_guests_pump(thread);
    if (thread->stopping || !atomic_load(&thread->http->stop)) return;
    thread->stopping = true;
    thread->stop_deadline_ms = uv_now(&thread->loop) + atomic_load(&thread->http->stop_grace_ms);
    uv_close((uv_handle_t *)&thread->listener, NULL);
    http_connection_sweep(thread);
}

static bool loop_open(struct http_thread *thread)
{
    if (uv_loop_init(&thread->loop)) return false;
    // Closing handles of a loop that never ran: it is run once more in loop_close.
    (void)uv_tcp_init(&thread->loop, &thread->listener);
    (void)uv_timer_init(&thread->loop, &thread->sweep);
    thread->listener.data = thread->sweep.data = thread->wake.data = thread;
    bool opened = uv_async_init(&thread->loop, &thread->wake, on_wake) == 0;
    if (opened && uv_tcp_open(&thread->listener, thread->socket) == 0)
        thread->socket = -1;
    else
        opened = false;
    return opened && uv_listen((uv_stream_t *)&thread->listener, 1024, on_connection) == 0 &&
           uv_timer_start(&thread->sweep, on_sweep, 200, 200) == 0;
}

// The feed's owner: a version came. Guests that are there see it when they are pumped; one that comes later when it begins.
static void on_version(void *ctx)
{
    struct http_thread *thread = ctx;
    if (atomic_load(&thread->guests.count)) (void)uv_async_send(&thread->wake);
}

static void *thread_run(void *argument)
{
    struct http_thread *thread = argument;
    const struct tally_http_source *source = &thread->http->source;
    thread->opened = source->open_reader(source->ctx, thread->number, &thread->reader);
    uv_sem_post(&thread->ready);
    if (thread->opened) return NULL;
    (void)uv_run(&thread->loop, UV_RUN_DEFAULT);
    source->close_reader(source->ctx, thread->reader);
    return NULL;
}

// Called from the sweep when a stopping thread has no connection left.
static void thread_free(struct http_thread *thread)
{
    if (thread->started) (void)pthread_join(thread->thread, NULL);
    if (thread->loop.data) {
        if (!uv_is_closing((uv_handle_t *)&thread->listener)) uv_close((uv_handle_t *)&thread->listener, NULL);
        handles_close(thread);
        (void)uv_run(&thread->loop, UV_RUN_DEFAULT);
        (void)uv_loop_close(&thread->loop);
        uv_sem_destroy(&thread->ready);
    }
    http_guests_deinit(thread);
    http_counts_free(thread);
    if (thread->socket >= 0) (void)close(thread->socket);
}

static void http_free(struct tally_http *http)
{
    for (unsigned i = 0; i < http->threads_count; i++) thread_free(&http->threads[i]);
    free(http->threads);
    free(http);
}

static enum tally_status thread_start(struct http_thread *thread)
{
    thread->loop.data = NULL;
    if (!loop_open(thread)) return TALLY_IO;
    thread->loop.data = thread;
    struct tally_feed *feed = thread->http->options.feed;
    enum tally_status status = http_guests_init(thread);
    if (!status) status = http_counts_init(thread);
    if (!status && feed) status = tally_feed_listen(feed, on_version, thread);
    if (status) return status;
    if (uv_sem_init(&thread->ready, 0)) return TALLY_IO;
    if (pthread_create(&thread->thread, NULL, thread_run, thread)) return TALLY_NO_MEMORY;
    thread->started = true;
    uv_sem_wait(&thread->ready);
    return thread->opened;
}

// ---------------------------------------------------------------------------------------------------- start and stop

static unsigned or_default(unsigned value, unsigned value_default) { return value ? value : value_default; }

enum tally_status tally_http_start(const struct tally_http_options *options, const struct tally_http_source *source,
                                   struct tally_http **out_http, struct tally_reason *out_reason)
{
    if (options->threads < 1 || options->threads > TALLY_HTTP_THREADS_MAX) {
        tally_reason_set(out_reason, "--http-threads %u: expected 1 to %u", options->threads, TALLY_HTTP_THREADS_MAX);
        return TALLY_INVALID;
    }
    tally_reason_set(out_reason, "--http %s: %s", options->listen, tally_status_str(TALLY_NO_MEMORY));
    struct tally_http *http = calloc(1, sizeof *http);
    if (!http) return TALLY_NO_MEMORY;
    http->options = *options;
    http->source = *source;
    http->options.connections_max = or_default(options->connections_max, 1024);
    http->options.request_timeout_ms = or_default(options->request_timeout_ms, 10000);
    http->options.write_timeout_ms = or_default(options->write_timeout_ms, 10000);
    http->options.idle_timeout_ms = or_default(options->idle_timeout_ms, 60000);
    http->options.snapshots_max = or_default(options->snapshots_max, 8);
    http->options.snapshot_timeout_ms = or_default(options->snapshot_timeout_ms, 120000);
    http->options.streams_max = or_default(options->streams_max, 1024);
    http->options.stream_idle_ms = or_default(options->stream_idle_ms, 60000);
    http->options.stream_parts_ms = or_default(options->stream_parts_ms, 120000);
    http->options.stream_heartbeat_ms = or_default(options->stream_heartbeat_ms, 1000);
    http->threads = calloc(options->threads, sizeof *http->threads);
    enum tally_status status = http->threads ? TALLY_OK : TALLY_NO_MEMORY;
    if (http->threads) http->threads_count = options->threads;
    for (unsigned i = 0; i < http->threads_count; i++) {
        http->threads[i].http = http;
        http->threads[i].number = i;
        http->threads[i].socket = -1;
    }
    http_parser_set_max_header_size(HTTP_HEAD_BYTES_MAX);
    if (!status) status = listen_on(http, out_reason);
    for (unsigned i = 0; !status && i < http->threads_count; i++) {
        status = thread_start(&http->threads[i]);
        if (status) tally_reason_set(out_reason, "--http-threads: thread %u: %s", i, tally_status_str(status));
    }
    if (status) {
        tally_http_stop(&http, 0);
        return status;
    }
    tally_info("listening", tally_log_str("endpoint", "http"), tally_log_str("url", http->url));
    *out_http = http;
    return TALLY_OK;
}

const char *tally_http_url(const struct tally_http *http) { return http->url; }

void tally_http_stop(struct tally_http **http, unsigned grace_ms)
{
    struct tally_http *stopping = *http;
    if (!stopping) return;
    *http = NULL;
    for (unsigned i = 0; stopping->options.feed && i < stopping->threads_count; i++)
        tally_feed_leave(stopping->options.feed, &stopping->threads[i]);
    atomic_store(&stopping->stop_grace_ms, grace_ms);
    atomic_store(&stopping->stop, true);
    for (unsigned i = 0; i < stopping->threads_count; i++)
        if (stopping->threads[i].started) (void)uv_async_send(&stopping->threads[i].wake);
    http_free(stopping);
}
