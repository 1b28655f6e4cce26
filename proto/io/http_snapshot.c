// SPDX-License-Identifier: Apache-2.0
//
// GET /v1/snapshot: a frame file of one pinned version, a chunk at a time. The next chunk is made when the last one is written.
#include "http_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <tallycast/framefile.h>

#define LINE_BYTES  16u // "100004\r\n", before the entry
#define ENTRY_BYTES 4u

void http_snapshot_end(struct http_connection *connection)
{
    struct http_stream *stream = &connection->stream;
    struct http_thread *thread = connection->thread;
    if (!stream->active) return;
    stream->active = false;
    if (stream->more) atomic_fetch_add_explicit(&thread->counters.snapshots_broken, 1, memory_order_relaxed);
    thread->http->source.unpin(thread->reader, &stream->view);
    atomic_fetch_sub(&thread->http->snapshots, 1);
}

void http_get_snapshot(struct http_connection *connection)
{
    struct http_stream *stream = &connection->stream;
    struct http_thread *thread = connection->thread;
    struct tally_http *http = thread->http;
    struct tally_view_info info;
    if (atomic_fetch_add(&http->snapshots, 1) >= http->options.snapshots_max) {
        atomic_fetch_sub(&http->snapshots, 1);
        http_error(connection, 503, "too many snapshots are on their way: try again later");
        return;
    }
    if (!stream->memory) stream->memory = malloc(LINE_BYTES + ENTRY_BYTES + TALLY_CHUNK_BYTES_MAX + 2);
    if (!stream->memory || http->source.pin(thread->reader, &stream->view)) {
        atomic_fetch_sub(&http->snapshots, 1);
        http_error(connection, 503, stream->memory ? "nothing is held yet" : "out of memory");
        return;
    }
    http->source.info(thread->reader, &stream->view, &info);
    if (info.version == 0) {
        http->source.unpin(thread->reader, &stream->view);
        atomic_fetch_sub(&http->snapshots, 1);
        http_error(connection, 503, "nothing is held yet");
        return;
    }
    stream->active = stream->more = true;
    stream->chunked = connection->parser.http_major > 1 || connection->parser.http_minor >= 1;
    stream->cursor = (struct tally_cursor){0};
    stream->chunk = 0;
    stream->deadline_ms = uv_now(&thread->loop) + http->options.snapshot_timeout_ms;
    atomic_fetch_add_explicit(&thread->counters.snapshots, 1, memory_order_relaxed);
    connection->status = 200;
    connection->content_type = "application/octet-stream";
    if (stream->chunked) tally_write_raw(&connection->answer, "8\r\n", 3);
    tally_framefile_begin(&connection->answer);
    if (stream->chunked) tally_write_raw(&connection->answer, "\r\n", 2);
}

void http_snapshot_next(struct http_connection *connection)
{
    struct http_stream *stream = &connection->stream;
    struct http_thread *thread = connection->thread;
    uint8_t *entry = stream->memory + LINE_BYTES;
    size_t size = 0;
    char line[LINE_BYTES];
    if (!stream->more) {
        http_snapshot_end(connection);
        free(stream->memory);
        stream->memory = NULL;
        if (!stream->chunked) {
            http_connection_answered(connection);
            return;
        }
        static char last[] = "0\r\n\r\n";
        uv_buf_t buffer = uv_buf_init(last, sizeof last - 1);
        http_connection_send(connection, &buffer, 1);
        return;
    }
    enum tally_status status = thread->http->source.write_chunk(
        thread->reader, &stream->view, &stream->cursor, &stream->chunk, entry + ENTRY_BYTES, &size, &stream->more);
    if (status) {
        stream->more = true;
        http_connection_close(connection); // cut short: the client sees that the last piece is missing
        return;
    }
    tally_store32(entry, (uint32_t)size);
    size += ENTRY_BYTES;
    if (stream->chunked) {
        int line_size = snprintf(line, sizeof line, "%zx\r\n", size);
        memcpy(entry + size, "\r\n", 2);
        entry -= line_size;
        memcpy(entry, line, (size_t)line_size);
        size += (size_t)line_size + 2;
    }
    uv_buf_t buffer = uv_buf_init((char *)entry, (unsigned)size);
    http_connection_send(connection, &buffer, 1);
}
