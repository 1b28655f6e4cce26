// SPDX-License-Identifier: Apache-2.0
#include "http_internal.h"

#include <assert.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/ioctl.h>

#define LINGER_MS 1000u

static void receive(struct http_connection *connection, const uint8_t *data, size_t size);

static const struct tally_http_options *options_of(const struct http_connection *connection)
{
    return &connection->thread->http->options;
}

// What is not yet with the client: queued here and in the kernel, whose buffer alone may take longer than a deadline to drain.
size_t http_connection_unsent(struct http_connection *connection)
{
    int fd, kernel = 0;
    if (uv_fileno((uv_handle_t *)&connection->tcp, &fd) || ioctl(fd, SIOCOUTQ, &kernel)) kernel = 0;
    return connection->tcp.write_queue_size + (size_t)kernel;
}

static void deadline_set(struct http_connection *connection, unsigned after_ms)
{
    connection->deadline_ms = uv_now(&connection->thread->loop) + after_ms;
    if (connection->state == HTTP_STATE_ANSWERING) connection->unsent_seen = http_connection_unsent(connection);
}

// ---------------------------------------------------------------------------------------------------- end of a connection

static void on_closed(uv_handle_t *handle)
{
    struct http_connection *connection = handle->data;
    if (!connection->guest) atomic_fetch_sub(&connection->thread->http->connections, 1);
    http_guest_free(connection);
    tally_writer_free(&connection->body);
    tally_writer_free(&connection->answer);
    free(connection->stream.memory);
    free(connection->rest);
    free(connection);
}

void http_connection_close(struct http_connection *connection)
{
    if (connection->state == HTTP_STATE_CLOSING) return;
    connection->state = HTTP_STATE_CLOSING;
    http_snapshot_end(connection); // lets go of the view now; its memory stays until writes are cancelled
    http_guest_end(connection);    // likewise
    http_count_end(connection);
    *connection->link = connection->next;
    if (connection->next) connection->next->link = connection->link;
    uv_close((uv_handle_t *)&connection->tcp, on_closed);
}

static void on_shutdown(uv_shutdown_t *request, int failed)
{
    struct http_connection *connection = request->data;
    if (failed) http_connection_close(connection);
}

// The answer is written, the connection ends. Closing at once would reset it when input is left unread, and a reset may overtake the answer.
void http_connection_linger(struct http_connection *connection)
{
    http_guest_end(connection);
    connection->state = HTTP_STATE_LINGERING;
    deadline_set(connection, LINGER_MS);
    connection->shutdown.data = connection;
    if (uv_shutdown(&connection->shutdown, (uv_stream_t *)&connection->tcp, on_shutdown)) {
        http_connection_close(connection);
        return;
    }
    http_connection_read(connection, true);
}

// ---------------------------------------------------------------------------------------------------- answering

static void on_written(uv_write_t *write, int failed)
{
    struct http_connection *connection = write->data;
    if (connection->state == HTTP_STATE_CLOSING) return;
    if (failed)
        http_connection_close(connection);
    else
        http_connection_answered(connection);
}

void http_connection_send(struct http_connection *connection, const uv_buf_t *buffers, unsigned count)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++) bytes += buffers[i].len;
    atomic_fetch_add_explicit(&connection->thread->counters.bytes_out, bytes, memory_order_relaxed);
    connection->write.data = connection;
    if (uv_write(&connection->write, (uv_stream_t *)&connection->tcp, buffers, count, on_written)) {
        http_connection_close(connection);
        return;
    }
    deadline_set(connection, options_of(connection)->write_timeout_ms);
}

static const char *status_text(unsigned status)
{
    switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 422: return "Unprocessable Content";
    case 426: return "Upgrade Required";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    // A guest may answer with any; the text after the number is for people.
    default:
        return status < 300 ? "Success" : status < 400 ? "Redirection" : status < 500 ? "Client Error" : "Server Error";
    }
}

// Who may read the answer, in a browser (CORS).
static int write_origin(const struct http_connection *connection, char *out, size_t out_size)
{
    if (!connection->to_page) return 0;
    return snprintf(out, out_size,
                    "Access-Control-Allow-Origin: %s\r\nAccess-Control-Expose-Headers: Retry-After\r\nVary: Origin\r\n",
                    connection->headers.values[HTTP_HEADER_ORIGIN].text);
}

void http_connection_answer(struct http_connection *connection)
{
    struct http_stream *stream = &connection->stream;
    if (connection->answer.failed) {
        connection->answer.failed = false;
        connection->answer.size = 0;
        http_snapshot_end(connection);
        http_error(connection, 503, "out of memory");
    }
    if (stream->active && !stream->chunked) connection->keep_alive = false;
    char length[64];
    struct tally_bytes body = connection->file.data ? connection->file : tally_writer_bytes(&connection->answer);
    if (stream->active)
        (void)snprintf(length, sizeof length, "%s", stream->chunked ? "Transfer-Encoding: chunked\r\n" : "");
    else
        (void)snprintf(length, sizeof length, "Content-Length: %zu\r\n", body.size);
    if (connection->status == 204) *length = '\0';
    int size = snprintf(
        connection->answer_head, sizeof connection->answer_head, "HTTP/1.1 %u %s\r\nContent-Type: %s\r\n%s%s%s%s%s%s%s",
        connection->status, status_text(connection->status), connection->content_type, length,
        connection->file.data ? "" : "Cache-Control: no-store\r\n", connection->allow ? "Allow: " : "",
        connection->allow ? connection->allow : "", connection->allow ? "\r\n" : "",
        connection->more_head ? connection->more_head : "", connection->keep_alive ? "" : "Connection: close\r\n");
    assert(size > 0 && (size_t)size < sizeof connection->answer_head);
    size += write_origin(connection, connection->answer_head + size, sizeof connection->answer_head - (size_t)size);
    assert((size_t)size + 2 < sizeof connection->answer_head);
    memcpy(connection->answer_head + size, "\r\n", 2);
    size += 2;
    atomic_fetch_add_explicit(&connection->thread->counters.answers[connection->status / 100], 1, memory_order_relaxed);
    bool bare = connection->head || connection->status == 304 || connection->status == 204;
    if (connection->head) {
        stream->more = false;
        http_snapshot_end(connection);
    }
    uv_buf_t buffers[2] = {uv_buf_init(connection->answer_head, (unsigned)size),
                           uv_buf_init((char *)body.data, (unsigned)body.size)};
    http_connection_send(connection, buffers, bare || body.size == 0 ? 1 : 2);
}

static void writer_empty(struct tally_writer *writer)
{
    if (writer->capacity > HTTP_KEEP_BYTES) tally_writer_free(writer);
    writer->size = 0;
    writer->failed = false;
}

static void request_begin(struct http_connection *connection)
{
    writer_empty(&connection->body);
    writer_empty(&connection->answer);
    connection->url_size = 0;
    connection->refused = 0;
    connection->headers = (struct http_headers){0};
    connection->head = connection->to_page = false;
    connection->allow = connection->more_head = NULL;
    connection->file = (struct tally_bytes){0};
    connection->state = HTTP_STATE_IDLE;
    deadline_set(connection, options_of(connection)->idle_timeout_ms);
}

void http_connection_answered(struct http_connection *connection)
{
    if (connection->stream.active) {
        http_snapshot_next(connection);
        return;
    }
    if (!connection->keep_alive || connection->thread->stopping) {
        http_connection_linger(connection);
        return;
    }
    request_begin(connection);
    http_parser_pause(&connection->parser, 0);
    uint8_t *rest = connection->rest;
    size_t size = connection->rest_size;
    connection->rest = NULL;
    connection->rest_size = 0;
    if (size) receive(connection, rest, size);
    free(rest);
    if (connection->state <= HTTP_STATE_RECEIVING) http_connection_read(connection, true);
}

// A request that is not taken to its end.
static void refuse(struct http_connection *connection, unsigned status, const char *message)
{
    http_connection_read(connection, false);
    connection->state = HTTP_STATE_ANSWERING;
    connection->keep_alive = false;
    http_error(connection, status, message);
    http_connection_answer(connection);
}

// ---------------------------------------------------------------------------------------------------- receiving

static int on_url(http_parser *parser, const char *at, size_t size)
{
    struct http_connection *connection = parser->data;
    if (size > TALLY_HTTP_URL_BYTES_MAX - connection->url_size) {
        connection->refused = 414;
        return -1;
    }
    memcpy(connection->url + connection->url_size, at, size);
    connection->url_size += size;
    return 0;
}

static const char *const header_names[HTTP_HEADERS] = {
    [HTTP_HEADER_ENCODING] = "content-encoding",
    [HTTP_HEADER_EXPECT] = "expect",
    [HTTP_HEADER_HOST] = "host",
    [HTTP_HEADER_IDEMPOTENCY] = "idempotency-key",
    [HTTP_HEADER_ORIGIN] = "origin",
    [HTTP_HEADER_UPGRADE] = "upgrade",
    [HTTP_HEADER_KEY] = "sec-websocket-key",
    [HTTP_HEADER_VERSION] = "sec-websocket-version",
    [HTTP_HEADER_NONE_MATCH] = "if-none-match",
};

// Names and values come in pieces.
static int on_header_field(http_parser *parser, const char *at, size_t size)
{
    struct http_headers *headers = &((struct http_connection *)parser->data)->headers;
    if (headers->in_value) headers->name_size = 0;
    headers->in_value = false;
    for (size_t i = 0; i < size; i++, headers->name_size++)
        if (headers->name_size < sizeof headers->name) headers->name[headers->name_size] = at[i];
    return 0;
}

static int on_header_value(http_parser *parser, const char *at, size_t size)
{
    struct http_headers *headers = &((struct http_connection *)parser->data)->headers;
    if (!headers->in_value) {
        headers->in_value = true;
        for (headers->at = 0; headers->at < HTTP_HEADERS; headers->at++) {
            const char *name = header_names[headers->at];
            if (headers->name_size != strlen(name) || strncasecmp(headers->name, name, headers->name_size) != 0)
                continue;
            headers->values[headers->at].times++;
            headers->values[headers->at].text[0] = '\0';
            break;
        }
    }
    if (headers->at == HTTP_HEADERS || headers->values[headers->at].too_long) return 0;
    char *text = headers->values[headers->at].text;
    size_t used = strlen(text);
    if (memchr(at, '\0', size) || size > HTTP_HEADER_BYTES_MAX - used) {
        headers->values[headers->at].too_long = true;
        text[0] = '\0';
        return 0;
    }
    memcpy(text + used, at, size);
    text[used + size] = '\0';
    return 0;
}

static int on_headers_complete(http_parser *parser)
{
    struct http_connection *connection = parser->data;
    if (parser->content_length != ULLONG_MAX && parser->content_length > TALLY_HTTP_BODY_BYTES_MAX) {
        connection->refused = 413;
        return -1;
    }
    if (strcasecmp(connection->headers.values[HTTP_HEADER_EXPECT].text, "100-continue") == 0) {
        char line[] = "HTTP/1.1 100 Continue\r\n\r\n";
        uv_buf_t buffer = uv_buf_init(line, sizeof line - 1);
        (void)uv_try_write((uv_stream_t *)&connection->tcp, &buffer, 1);
    }
    return 0;
}

static int on_body(http_parser *parser, const char *at, size_t size)
{
    struct http_connection *connection = parser->data;
    if (size > TALLY_HTTP_BODY_BYTES_MAX - connection->body.size)
        connection->refused = 413;
    else
        tally_write_raw(&connection->body, at, size);
    if (connection->body.failed) connection->refused = 503;
    return connection->refused ? -1 : 0;
}

// Nothing more is parsed until this request is answered.
static int on_message_complete(http_parser *parser)
{
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings parser_settings = {
    .on_url = on_url,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

static const char *refusal_text(unsigned status)
{
    switch (status) {
    case 413: return "the body is too large";
    case 414: return "the URL is too long";
    case 431: return "the head is too large";
    case 408: return "the request took too long";
    default: return "out of memory";
    }
}

static void request_take(struct http_connection *connection, const uint8_t *rest, size_t size)
{
    http_connection_read(connection, false);
    if (size) {
        connection->rest = malloc(size);
        if (!connection->rest) {
            refuse(connection, 503, refusal_text(503));
            return;
        }
        memcpy(connection->rest, rest, size);
        connection->rest_size = size;
    }
    connection->state = HTTP_STATE_ANSWERING;
    connection->url[connection->url_size] = '\0';
    connection->head = connection->parser.method == HTTP_HEAD;
    connection->keep_alive = http_should_keep_alive(&connection->parser) && !connection->parser.upgrade;
    http_route(connection);
    if (connection->count) {
        deadline_set(connection, options_of(connection)->write_timeout_ms);
        return; // it is answered when it is decided
    }
    if (!connection->guest) {
        http_connection_answer(connection);
        return;
    }
    uint8_t *early = connection->rest;
    connection->rest = NULL;
    connection->rest_size = 0;
    http_guest_start(connection, early, size);
    free(early);
}

static void receive(struct http_connection *connection, const uint8_t *data, size_t size)
{
    if (connection->state == HTTP_STATE_IDLE) {
        connection->state = HTTP_STATE_RECEIVING;
        deadline_set(connection, options_of(connection)->request_timeout_ms);
    }
    size_t used = http_parser_execute(&connection->parser, &parser_settings, (const char *)data, size);
    enum http_errno error = HTTP_PARSER_ERRNO(&connection->parser);
    if (connection->refused)
        refuse(connection, connection->refused, refusal_text(connection->refused));
    else if (error == HPE_PAUSED)
        request_take(connection, data + used, size - used);
    else if (error == HPE_HEADER_OVERFLOW)
        refuse(connection, 431, refusal_text(431));
    else if (error != HPE_OK)
        refuse(connection, 400, http_errno_description(error));
}

static void on_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *out_buffer)
{
    struct http_connection *connection = handle->data;
    (void)suggested;
    // A guest has little to say, and each of its pings is answered.
    unsigned size = connection->state == HTTP_STATE_STREAMING ? HTTP_READ_STREAM_BYTES : HTTP_READ_BYTES;
    *out_buffer = uv_buf_init((char *)connection->thread->read_buffer, size);
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer)
{
    struct http_connection *connection = stream->data;
    if (size < 0)
        http_connection_close(connection);
    else if (size > 0 && connection->state == HTTP_STATE_STREAMING)
        http_guest_receive(connection, (const uint8_t *)buffer->base, (size_t)size);
    else if (size > 0 && connection->state != HTTP_STATE_LINGERING)
        receive(connection, (const uint8_t *)buffer->base, (size_t)size);
}

void http_connection_read(struct http_connection *connection, bool reading)
{
    if (connection->reading == reading) return;
    connection->reading = reading;
    if (!reading)
        (void)uv_read_stop((uv_stream_t *)&connection->tcp);
    else if (uv_read_start((uv_stream_t *)&connection->tcp, on_buffer, on_read))
        http_connection_close(connection);
}

// ---------------------------------------------------------------------------------------------------- accepting, deadlines

void http_connection_accept(struct http_thread *thread)
{
    struct tally_http *http = thread->http;
    struct http_connection *connection = calloc(1, sizeof *connection);
    if (!connection) return; // the client waits in the queue until the next one comes
    connection->thread = thread;
    connection->body = connection->answer = tally_writer_growable(&tally_alloc_libc);
    connection->next = thread->connections;
    connection->link = &thread->connections;
    if (connection->next) connection->next->link = &connection->next;
    thread->connections = connection;
    (void)uv_tcp_init(&thread->loop, &connection->tcp);
    connection->tcp.data = connection;
    bool full = atomic_fetch_add(&http->connections, 1) >= http->options.connections_max;
    if (uv_accept((uv_stream_t *)&thread->listener, (uv_stream_t *)&connection->tcp) || full) {
        if (full) atomic_fetch_add_explicit(&thread->counters.connections_refused, 1, memory_order_relaxed);
        http_connection_close(connection);
        return;
    }
    (void)uv_tcp_nodelay(&connection->tcp, 1);
    http_parser_init(&connection->parser, HTTP_REQUEST);
    connection->parser.data = connection;
    request_begin(connection);
    http_connection_read(connection, true);
}

static void deadline_passed(struct http_connection *connection)
{
    struct http_counters *counters = &connection->thread->counters;
    if (connection->count) {
        http_count_late(connection);
        http_connection_answer(connection);
        return;
    }
    if (connection->state == HTTP_STATE_ANSWERING && http_connection_unsent(connection) != connection->unsent_seen) {
        deadline_set(connection, options_of(connection)->write_timeout_ms); // slow, but it moves
        return;
    }
    if (connection->state == HTTP_STATE_ANSWERING || connection->state == HTTP_STATE_RECEIVING)
        atomic_fetch_add_explicit(&counters->timeouts, 1, memory_order_relaxed);
    if (connection->state == HTTP_STATE_RECEIVING)
        refuse(connection, 408, refusal_text(408));
    else
        http_connection_close(connection);
}

void http_connection_sweep(struct http_thread *thread)
{
    uint64_t now_ms = uv_now(&thread->loop);
    for (struct http_connection *connection = thread->connections, *next; connection; connection = next) {
        next = connection->next;
        if (connection->state == HTTP_STATE_STREAMING && !(thread->stopping && now_ms >= thread->stop_deadline_ms)) {
            http_guest_sweep(connection, now_ms);
            continue;
        }
        bool stop = thread->stopping && (connection->state == HTTP_STATE_IDLE || now_ms >= thread->stop_deadline_ms);
        bool expired = connection->stream.active && now_ms >= connection->stream.deadline_ms;
        if (stop || expired)
            http_connection_close(connection);
        else if (now_ms >= connection->deadline_ms)
            deadline_passed(connection);
    }
    if (!thread->stopping || thread->connections) return;
    if (!uv_is_closing((uv_handle_t *)&thread->wake)) uv_close((uv_handle_t *)&thread->wake, NULL);
    if (!uv_is_closing((uv_handle_t *)&thread->sweep)) uv_close((uv_handle_t *)&thread->sweep, NULL);
    http_counts_close(thread);
}
