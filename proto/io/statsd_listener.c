// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <io/address.h>
#include <io/log.h>
#include <io/metrics.h>
#include <io/statsd_listener.h>
#include <linux/sock_diag.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define DATAGRAM_BYTES 65536u // what libuv takes for one
#define DATAGRAMS      16u    // at a time
#define PORT_TRIES     64     // of port 0: UDP's may be taken for TCP

// A connection by TCP. The line that has not ended yet is kept at the front of `line`.
struct stream {
    uv_tcp_t tcp;
    struct tally_statsd_listener *listener;
    struct stream *next, **link;
    size_t size;
    bool too_long; // the rest of a line is thrown away
    uint8_t line[TALLY_STATSD_LINE_BYTES_MAX + 1];
};

struct tally_statsd_listener {
    struct tally_statsd_options options;
    pthread_t thread;
    uv_loop_t loop;
    uv_udp_t udp;
    uv_tcp_t tcp;
    uv_timer_t tick;
    uv_async_t stop;
    int udp_fd, tcp_fd;
    uv_sem_t begun;
    enum tally_status began;
    struct tally_statsd statsd;
    struct stream *streams;
    unsigned streams_count;
    uint64_t packets, bytes, connections, connections_refused;
    uint8_t *datagrams, chunk[65536];
    _Atomic uint64_t refused;
    pthread_mutex_t mutex; // of `shown`
    struct shown {
        uint64_t lines, values, skipped[TALLY_STATSD_REASONS], packets, bytes, connections, connections_refused;
        unsigned streams;
    } shown;
};

enum tally_status tally_statsd_rules_load(const struct tally_strings *texts, bool tags_dropped,
                                          struct tally_statsd_rules *out_rules, struct tally_reason *out_reason)
{
    tally_statsd_rules_init(out_rules);
    out_rules->tags_dropped = tags_dropped;
    for (size_t i = 0; i < texts->count; i++) {
        const char *wrong = tally_statsd_rules_add(out_rules, texts->items[i]);
        if (!wrong) continue;
        tally_reason_set(out_reason, "--statsd-rule \"%s\": %s", texts->items[i], wrong);
        return TALLY_INVALID;
    }
    return TALLY_OK;
}

static void show(struct tally_statsd_listener *it)
{
    pthread_mutex_lock(&it->mutex);
    it->shown = (struct shown){.lines = it->statsd.lines,
                               .values = it->statsd.values,
                               .packets = it->packets,
                               .bytes = it->bytes,
                               .connections = it->connections,
                               .connections_refused = it->connections_refused,
                               .streams = it->streams_count};
    memcpy(it->shown.skipped, it->statsd.skipped, sizeof it->shown.skipped);
    pthread_mutex_unlock(&it->mutex);
}

// ---------------------------------------------------------------------------------------------------- UDP

static void on_datagram_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *out_buffer)
{
    struct tally_statsd_listener *it = handle->data;
    (void)suggested;
    *out_buffer = uv_buf_init((char *)it->datagrams, DATAGRAM_BYTES * DATAGRAMS);
}

static void on_datagram(uv_udp_t *udp, ssize_t size, const uv_buf_t *buffer, const struct sockaddr *from,
                        unsigned flags)
{
    struct tally_statsd_listener *it = udp->data;
    (void)flags; // the memory is ours, and stays
    if (size <= 0 || !from) return;
    it->packets++;
    it->bytes += (size_t)size;
    tally_statsd_packet(&it->statsd, tally_bytes(buffer->base, (size_t)size));
}

// ---------------------------------------------------------------------------------------------------- TCP

static void on_stream_closed(uv_handle_t *handle) { free(handle->data); }

static void stream_close(struct stream *stream)
{
    if (uv_is_closing((uv_handle_t *)&stream->tcp)) return;
    *stream->link = stream->next;
    if (stream->next) stream->next->link = stream->link;
    stream->listener->streams_count--;
    uv_close((uv_handle_t *)&stream->tcp, on_stream_closed);
}

static void line_end(struct stream *stream)
{
    if (!stream->too_long)
        tally_statsd_line(&stream->listener->statsd, tally_bytes(stream->line, stream->size));
    else
        stream->listener->statsd.skipped[TALLY_STATSD_LINE]++;
    stream->size = 0;
    stream->too_long = false;
}

static void take_bytes(struct stream *stream, const uint8_t *data, size_t size)
{
    while (size) {
        const uint8_t *newline = memchr(data, '\n', size);
        size_t part = newline ? (size_t)(newline - data) : size, room = sizeof stream->line - stream->size;
        if (newline && stream->size == 0 && !stream->too_long) {
            tally_statsd_line(&stream->listener->statsd, tally_bytes(data, part)); // whole, as most are
        } else {
            if (part > room) stream->too_long = true;
            memcpy(stream->line + stream->size, data, part < room ? part : room);
            stream->size += part < room ? part : room;
            if (newline) line_end(stream);
        }
        part += newline != NULL;
        data += part;
        size -= part;
    }
}

static void on_stream_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *out_buffer)
{
    struct stream *stream = handle->data;
    (void)suggested;
    *out_buffer = uv_buf_init((char *)stream->listener->chunk, sizeof stream->listener->chunk);
}

static void on_stream_read(uv_stream_t *tcp, ssize_t size, const uv_buf_t *buffer)
{
    struct stream *stream = tcp->data;
    if (size > 0) {
        stream->listener->bytes += (size_t)size;
        take_bytes(stream, (const uint8_t *)buffer->base, (size_t)size);
        return;
    }
    if (size == 0) return;
    if (size == UV_EOF && (stream->size || stream->too_long)) line_end(stream);
    stream_close(stream);
}

static void on_connection(uv_stream_t *listening, int failed)
{
    struct tally_statsd_listener *it = listening->data;
    struct stream *stream = failed ? NULL : calloc(1, sizeof *stream);
    if (!stream) return; // it waits until the next one comes
    stream->listener = it;
    stream->next = it->streams;
    stream->link = &it->streams;
    if (stream->next) stream->next->link = &stream->next;
    it->streams = stream;
    (void)uv_tcp_init(&it->loop, &stream->tcp);
    stream->tcp.data = stream;
    bool full = it->streams_count++ >= TALLY_STATSD_CONNECTIONS_MAX;
    it->connections++;
    it->connections_refused += full;
    if (uv_accept(listening, (uv_stream_t *)&stream->tcp) || full ||
        uv_read_start((uv_stream_t *)&stream->tcp, on_stream_buffer, on_stream_read))
        stream_close(stream);
}

// ---------------------------------------------------------------------------------------------------- the thread

static void on_tick(uv_timer_t *timer)
{
    struct tally_statsd_listener *it = timer->data;
    it->options.tick(it->options.ctx);
    show(it);
}

// What the kernel holds already is what was sent before the stop: it is taken.
static void drain(struct tally_statsd_listener *it)
{
    ssize_t size;
    while ((size = recv(it->udp_fd, it->datagrams, DATAGRAM_BYTES, MSG_DONTWAIT)) >= 0) {
        it->packets++;
        it->bytes += (size_t)size;
        tally_statsd_packet(&it->statsd, tally_bytes(it->datagrams, (size_t)size));
    }
    for (struct stream *stream = it->streams; stream; stream = stream->next) {
        int fd;
        if (uv_fileno((uv_handle_t *)&stream->tcp, &fd)) continue;
        for (unsigned i = 0; i < 64 && (size = recv(fd, it->chunk, sizeof it->chunk, MSG_DONTWAIT)) > 0; i++) {
            it->bytes += (size_t)size;
            take_bytes(stream, it->chunk, (size_t)size);
        }
        if (stream->size && !stream->too_long) line_end(stream);
    }
}

static void on_stop(uv_async_t *async)
{
    struct tally_statsd_listener *it = async->data;
    drain(it);
    it->options.tick(it->options.ctx);
    show(it);
    while (it->streams) stream_close(it->streams);
    uv_close((uv_handle_t *)&it->udp, NULL);
    uv_close((uv_handle_t *)&it->tcp, NULL);
    uv_close((uv_handle_t *)&it->tick, NULL);
    uv_close((uv_handle_t *)&it->stop, NULL);
}

static void *run(void *argument)
{
    struct tally_statsd_listener *it = argument;
    it->began = it->options.begin ? it->options.begin(it->options.ctx) : TALLY_OK;
    uv_sem_post(&it->begun);
    if (it->began) return NULL;
    (void)uv_run(&it->loop, UV_RUN_DEFAULT);
    if (it->options.end) it->options.end(it->options.ctx);
    return NULL;
}

// ---------------------------------------------------------------------------------------------------- start

static int bound(const struct sockaddr_storage *address, socklen_t size, int type)
{
    int on = 1, off = 0, fd = socket(address->ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    if (type == SOCK_STREAM) (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->ss_family == AF_INET6) (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, (const struct sockaddr *)address, size) == 0 && (type == SOCK_DGRAM || listen(fd, 1024) == 0))
        return fd;
    int error = errno;
    (void)close(fd);
    errno = error;
    return -1;
}

// Both sockets on one port. 0, or an errno.
static int sockets_open(struct tally_statsd_listener *it, struct sockaddr_storage *address, socklen_t size)
{
    // AF_INET and AF_INET6 keep the port at the same place.
    in_port_t *port = &((struct sockaddr_in *)(void *)address)->sin_port;
    bool any = *port == 0;
    for (int tries = 0;; tries++) {
        it->udp_fd = bound(address, size, SOCK_DGRAM);
        if (it->udp_fd < 0 || getsockname(it->udp_fd, (struct sockaddr *)address, &size)) return errno;
        it->tcp_fd = bound(address, size, SOCK_STREAM);
        if (it->tcp_fd >= 0) return 0;
        if (!any || errno != EADDRINUSE || tries == PORT_TRIES) return errno;
        (void)close(it->udp_fd);
        it->udp_fd = -1;
        *port = 0;
    }
}

static void buffer_set(const struct tally_statsd_listener *it)
{
    int wanted = (int)it->options.buffer_bytes, got = 0;
    socklen_t size = sizeof got;
    if (setsockopt(it->udp_fd, SOL_SOCKET, SO_RCVBUFFORCE, &wanted, sizeof wanted))
        (void)setsockopt(it->udp_fd, SOL_SOCKET, SO_RCVBUF, &wanted, sizeof wanted);
    // The kernel doubles what it is told, and shows that.
    if (getsockopt(it->udp_fd, SOL_SOCKET, SO_RCVBUF, &got, &size) == 0 && got / 2 < wanted)
        tally_warn("statsd_buffer", tally_log_i64("wanted_bytes", wanted), tally_log_i64("got_bytes", got / 2),
                   tally_log_str("reason", "the system allows no more: raise net.core.rmem_max"));
}

static enum tally_status listen_on(struct tally_statsd_listener *it, struct tally_reason *out_reason)
{
    struct tally_address address;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_DGRAM, .ai_flags = AI_PASSIVE}, *list;
    struct sockaddr_storage at = {0};
    const char *text = it->options.listen;
    enum tally_status status = tally_address_parse("statsd", text, &address, out_reason);
    if (status) return status;
    int failed = getaddrinfo(address.host[0] ? address.host : NULL, address.port, &hints, &list);
    if (failed) {
        tally_reason_set(out_reason, "--statsd %s: %s", text, gai_strerror(failed));
        return TALLY_UNREACHABLE;
    }
    socklen_t size = list->ai_addrlen;
    memcpy(&at, list->ai_addr, size);
    freeaddrinfo(list);
    if ((failed = sockets_open(it, &at, size))) {
        tally_reason_set(out_reason, "--statsd %s: %s", text,
                         failed == EADDRINUSE ? "the address is in use by another process" : strerror(failed));
        return failed == EADDRINUSE ? TALLY_IN_USE : failed == EADDRNOTAVAIL ? TALLY_UNREACHABLE : TALLY_IO;
    }
    buffer_set(it);
    bool brackets = strchr(address.host, ':') != NULL;
    for (int i = 0; i < 2; i++) {
        char url[320];
        (void)snprintf(url, sizeof url, "%s://%s%s%s:%u", i ? "tcp" : "udp", brackets ? "[" : "",
                       address.host[0] ? address.host : "*", brackets ? "]" : "",
                       ntohs(((struct sockaddr_in *)(void *)&at)->sin_port));
        tally_info("listening", tally_log_str("endpoint", i ? "statsd-tcp" : "statsd"), tally_log_str("url", url));
    }
    return TALLY_OK;
}

static enum tally_status loop_open(struct tally_statsd_listener *it)
{
    if (uv_loop_init(&it->loop)) return TALLY_NO_MEMORY;
    it->loop.data = it;
    (void)uv_udp_init_ex(&it->loop, &it->udp, AF_UNSPEC | UV_UDP_RECVMMSG);
    (void)uv_tcp_init(&it->loop, &it->tcp);
    (void)uv_timer_init(&it->loop, &it->tick);
    bool opened = uv_async_init(&it->loop, &it->stop, on_stop) == 0;
    it->udp.data = it->tcp.data = it->tick.data = it->stop.data = it;
    if (!opened || uv_udp_open(&it->udp, it->udp_fd)) return TALLY_IO;
    if (uv_tcp_open(&it->tcp, it->tcp_fd)) return TALLY_IO;
    it->tcp_fd = -1;
    if (uv_udp_recv_start(&it->udp, on_datagram_buffer, on_datagram) ||
        uv_listen((uv_stream_t *)&it->tcp, 1024, on_connection) ||
        uv_timer_start(&it->tick, on_tick, it->options.tick_ms, it->options.tick_ms))
        return TALLY_IO;
    return TALLY_OK;
}

enum tally_status tally_statsd_listen(const struct tally_statsd_options *options,
                                      struct tally_statsd_listener **out_listener, struct tally_reason *out_reason)
{
    tally_reason_set(out_reason, "--statsd %s: %s", options->listen, tally_status_str(TALLY_NO_MEMORY));
    // A process that cannot start ends: what is half made is left to that.
    struct tally_statsd_listener *it = calloc(1, sizeof *it);
    if (!it) return TALLY_NO_MEMORY;
    it->options = *options;
    it->udp_fd = it->tcp_fd = -1;
    it->statsd = (struct tally_statsd){.rules = options->rules, .take = options->take, .ctx = options->ctx};
    it->datagrams = malloc((size_t)DATAGRAM_BYTES * DATAGRAMS);
    if (!it->datagrams || pthread_mutex_init(&it->mutex, NULL) || uv_sem_init(&it->begun, 0)) return TALLY_NO_MEMORY;
    enum tally_status status = listen_on(it, out_reason);
    if (status) return status;
    if ((status = loop_open(it))) return status;
    if (pthread_create(&it->thread, NULL, run, it)) return TALLY_NO_MEMORY;
    uv_sem_wait(&it->begun);
    if (it->began) {
        (void)pthread_join(it->thread, NULL);
        tally_reason_set(out_reason, "--statsd %s: %s", options->listen, tally_status_str(it->began));
        return it->began;
    }
    *out_listener = it;
    return TALLY_OK;
}

void tally_statsd_stop(struct tally_statsd_listener **listener)
{
    struct tally_statsd_listener *it = *listener;
    if (!it) return;
    *listener = NULL;
    (void)uv_async_send(&it->stop);
    (void)pthread_join(it->thread, NULL);
    (void)uv_loop_close(&it->loop);
    uv_sem_destroy(&it->begun);
    pthread_mutex_destroy(&it->mutex);
    free(it->datagrams);
    free(it);
}

// ---------------------------------------------------------------------------------------------------- metrics

void tally_statsd_refused(struct tally_statsd_listener *listener, uint64_t values)
{
    atomic_fetch_add_explicit(&listener->refused, values, memory_order_relaxed);
}

// Datagrams that the kernel dropped for lack of room in the socket's buffer.
static uint64_t dropped(const struct tally_statsd_listener *it)
{
    uint32_t memory[SK_MEMINFO_VARS] = {0};
    socklen_t size = sizeof memory;
    return getsockopt(it->udp_fd, SOL_SOCKET, SO_MEMINFO, memory, &size) == 0 ? memory[SK_MEMINFO_DROPS] : 0;
}

void tally_statsd_metrics(struct tally_statsd_listener *it, struct tally_writer *out)
{
    const enum tally_metric_type counter = TALLY_METRIC_COUNTER;
    pthread_mutex_lock(&it->mutex);
    struct shown shown = it->shown;
    pthread_mutex_unlock(&it->mutex);
    shown.skipped[TALLY_STATSD_REFUSED] += atomic_load_explicit(&it->refused, memory_order_relaxed);
    tally_metric_one(out, "tally_statsd_packets_total", counter, "Datagrams received.", shown.packets);
    tally_metric_one(out, "tally_statsd_dropped_total", counter,
                     "Datagrams that the system dropped for lack of room in the socket's buffer.", dropped(it));
    tally_metric_one(out, "tally_statsd_bytes_total", counter, "Bytes received, by UDP and TCP.", shown.bytes);
    tally_metric_one(out, "tally_statsd_lines_total", counter, "Lines received.", shown.lines);
    tally_metric_one(out, "tally_statsd_values_total", counter, "Values counted.", shown.values);
    tally_metric_head(out, "tally_statsd_skipped_total", counter,
                      "Lines, or values of them, that were not counted, by reason.");
    for (int i = 0; i < TALLY_STATSD_REASONS; i++)
        tally_metric_sample(out, "tally_statsd_skipped_total", "reason",
                            tally_statsd_reason_str((enum tally_statsd_reason)i), shown.skipped[i]);
    tally_metric_one(out, "tally_statsd_connections", TALLY_METRIC_GAUGE, "Open connections by TCP.", shown.streams);
    tally_metric_one(out, "tally_statsd_connections_total", counter, "Connections by TCP.", shown.connections);
    tally_metric_one(out, "tally_statsd_connections_refused_total", counter,
                     "Connections over the limit, closed at once.", shown.connections_refused);
}
