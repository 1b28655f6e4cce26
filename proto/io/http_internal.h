// SPDX-License-Identifier: Apache-2.0
//
// Inside the HTTP face. A connection is a small state machine on one thread's loop:
//
//   IDLE ──first byte──► RECEIVING ──whole request──► ANSWERING ──written──► IDLE (what is left over is parsed next)
//                            │ refused                   │ whole state: chunk after chunk
//                            └──────► ANSWERING ──► LINGERING (input is thrown away, so that the answer is not reset) ──► CLOSING
//
// An upgrade to a WebSocket that is granted makes it STREAMING: what happens then is in http_guest.h.
//
// While it answers it does not read: a client that sends on waits in its socket. Every state but CLOSING has a deadline.
#ifndef TALLYCAST_IO_HTTP_INTERNAL_H
#define TALLYCAST_IO_HTTP_INTERNAL_H

#include <http_parser.h>
#include <io/feed.h>
#include <io/http.h>
#include <io/json.h>
#include <messages/messages.h>
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>
#include <wslay/wslay.h>

#define HTTP_HEAD_BYTES_MAX    16384u
#define HTTP_READ_BYTES        65536u
#define HTTP_READ_STREAM_BYTES 2048u
#define HTTP_KEEP_BYTES        65536u // a buffer larger than this is freed after its request

struct http_counters {
    _Atomic uint64_t answers[6]; // by hundred of the status
    _Atomic uint64_t bytes_out, timeouts, connections_refused, snapshots, snapshots_broken;
    _Atomic uint64_t streams, streams_refused;                                   // opened; answered with an error
    _Atomic uint64_t streams_silent, streams_slow, streams_rude, streams_failed; // ended from here, by reason
    _Atomic uint64_t counts, count_events, counts_repeated, counts_refused, counts_late;
    _Atomic uint64_t stream_messages, stream_bytes, stream_parts, stream_merges, stream_wholes;
};

// The merge that is under way on a thread of the pool, one for each HTTP thread, and what the last one gave.
struct guest_merge {
    uv_work_t work;
    bool busy;
    uint64_t epoch, from, to;
    struct tally_message **inputs; // while busy
    uint32_t inputs_count;
    struct tally_message *result; // from `from` to `to`; null: `status` says why
    enum tally_status status;
};

// The guests of one HTTP thread: http_guest.h.
struct http_guests {
    struct http_guest *first, **end;
    _Atomic unsigned count; // the feed looks at it from its thread: nobody is to be woken for nothing
    struct guest_parts *parts;
    unsigned views, splits;
    uint64_t presses; // of the feed, as last seen
    struct guest_merge merge;
    wslay_frame_context_ptr framer; // writes the heads of messages
    uint8_t *head;                  // where to
    size_t head_size;
};

struct http_thread {
    struct tally_http *http;
    unsigned number;
    int socket; // listening; -1 once the loop owns it
    pthread_t thread;
    bool started;
    uv_loop_t loop;
    uv_tcp_t listener;
    uv_async_t wake;
    uv_timer_t sweep;
    bool stopping;
    uint64_t stop_deadline_ms;
    void *reader; // of the source
    enum tally_status opened;
    uv_sem_t ready;
    struct http_connection *connections;
    struct http_counters counters;
    uint8_t read_buffer[HTTP_READ_BYTES];
    uint8_t decoded[TALLY_HTTP_URL_BYTES_MAX + 1]; // a percent-decoded path
    // Of one POST /v1/get.
    struct tally_bytes keys[TALLY_QUERY_KEYS_MAX];
    int64_t values[TALLY_QUERY_KEYS_MAX];
    bool found[TALLY_QUERY_KEYS_MAX];
    struct http_guests guests;
    struct tally_mailbox counted; // what was decided comes back
    bool counted_open;
    struct http_count *counts;     // under way
    struct tally_http_reply reply; // of a guest of one's own, and its lines of the head
    char reply_head[160];
};

struct tally_http {
    struct tally_http_options options;
    struct tally_http_source source;
    char url[320];
    unsigned threads_count;
    struct http_thread *threads;
    _Atomic unsigned connections, snapshots, streams; // connections: those that are no streams
    _Atomic uint64_t count_bytes;                     // bodies of POST /v1/count under way
    _Atomic bool stop;
    _Atomic unsigned stop_grace_ms;
};

enum http_state {
    HTTP_STATE_IDLE,
    HTTP_STATE_RECEIVING,
    HTTP_STATE_ANSWERING,
    HTTP_STATE_STREAMING,
    HTTP_STATE_LINGERING,
    HTTP_STATE_CLOSING
};

// A whole state on its way.
struct http_stream {
    bool active, more, chunked;
    struct tally_http_view view;
    struct tally_cursor cursor;
    uint32_t chunk;
    uint64_t deadline_ms;
    uint8_t *memory; // size line, u32 of the entry, chunk, end of line
};

// Headers that are looked at, each by its place here.
enum http_header {
    HTTP_HEADER_ENCODING, // Content-...
    HTTP_HEADER_EXPECT,
    HTTP_HEADER_HOST,
    HTTP_HEADER_IDEMPOTENCY, // ...-Key
    HTTP_HEADER_ORIGIN,
    HTTP_HEADER_UPGRADE,
    HTTP_HEADER_KEY,     // Sec-WebSocket-...
    HTTP_HEADER_VERSION, // Sec-WebSocket-...
    HTTP_HEADER_NONE_MATCH,
    HTTP_HEADERS,
};
#define HTTP_HEADER_BYTES_MAX 255u // longer values are as if they were empty

struct http_headers {
    char name[32]; // of the header that is being received
    size_t name_size;
    bool in_value;
    enum http_header at; // HTTP_HEADERS: none of these
    struct {
        char text[HTTP_HEADER_BYTES_MAX + 1];
        unsigned times; // the header came
        bool too_long;
    } values[HTTP_HEADERS];
};

struct http_connection {
    struct http_thread *thread;
    struct http_connection *next, **link;
    uv_tcp_t tcp;
    uv_write_t write;
    uv_shutdown_t shutdown;
    http_parser parser;
    enum http_state state;
    bool reading, keep_alive, head;
    struct http_headers headers;
    uint64_t deadline_ms;
    size_t unsent_seen; // bytes not yet taken by the client when the deadline was set
    unsigned refused;   // status of a request that is not taken to its end; 0: none
    uint8_t *rest;      // bytes behind the request, kept while it is answered
    size_t rest_size;
    char url[TALLY_HTTP_URL_BYTES_MAX + 1];
    size_t url_size;
    struct tally_writer body;                     // of the request
    unsigned status;                              // of the answer
    const char *content_type, *allow, *more_head; // more_head: whole lines
    struct tally_writer answer;                   // body of the answer
    struct tally_bytes file;                      // instead of it, when it has an address
    char file_head[TALLY_HTTP_FILE_HEAD_BYTES_MAX + 64];
    bool to_page; // the answer is for a page of another origin, which is let in
    char answer_head[TALLY_HTTP_FILE_HEAD_BYTES_MAX + HTTP_HEADER_BYTES_MAX + 768];
    struct http_stream stream;
    struct http_guest *guest; // null: no stream
    struct http_count *count; // null: no POST /v1/count is under way
};

// Thread of all below: the connection's.

// http_connection.c
void http_connection_accept(struct http_thread *thread);
void http_connection_close(struct http_connection *connection);
void http_connection_sweep(struct http_thread *thread);
void http_connection_send(struct http_connection *connection, const uv_buf_t *buffers, unsigned count);
void http_connection_answer(struct http_connection *connection); // sends what is filled in
void http_connection_answered(struct http_connection *connection);
void http_connection_linger(struct http_connection *connection);
void http_connection_read(struct http_connection *connection, bool reading);
size_t http_connection_unsent(struct http_connection *connection);

// http_route.c: looks at the request and fills status and answer, or starts a stream.
void http_route(struct http_connection *connection);

// http_reads.c: the answers. One in JSON: an object that is begun, and ended.
void http_json_begin(struct http_connection *connection, unsigned status, struct tally_json *out_json);
void http_json_end(struct http_connection *connection, struct tally_json *json);
// {"error": message}.
void http_error(struct http_connection *connection, unsigned status, const char *message);
void http_get_version(struct http_connection *connection);
void http_get_tables(struct http_connection *connection);
// Pins the newest version. False: there is none, and it is answered so.
bool http_pin(struct http_connection *connection, struct tally_http_view *out_view, struct tally_view_info *out_info);
// What each answer names: dataset, epoch, version, age.
void http_version_fields(struct http_connection *connection, struct tally_json *json,
                         const struct tally_view_info *info);
// http_top.c: a table's name as it was sent.
void http_get_top(struct http_connection *connection, struct tally_bytes table);
void http_get_key(struct http_connection *connection, struct tally_bytes path,
                  struct tally_bytes query); // "table/key", still percent-encoded
void http_post_get(struct http_connection *connection);
void http_get_metrics(struct http_connection *connection);
void http_get_readyz(struct http_connection *connection);

uint64_t http_age_ms(const struct http_connection *connection, const struct tally_view_info *info);

bool http_percent_decode(struct tally_bytes text, uint8_t *out, size_t *out_size); // false: a bad escape

// http_query.c: the query of a request. `dataset` may always be asked for, and must be the one that is held here; all else is the caller's.
struct http_query {
    // False: no such parameter. *out_wrong: what is wrong with it. Texts are NUL-terminated and borrowed for the call.
    bool (*take)(void *ctx, const char *name, const char *value, const char **out_wrong);
    void *ctx;
    const char *unknown; // what is said of a parameter that there is not
};
// Null, or what is wrong, and with which status.
const char *http_query_parse(struct http_connection *connection, const struct http_query *query, unsigned *out_status);

// http_call.c: "name..." as it was sent.
void http_call_guest(struct http_connection *connection, struct tally_bytes path);

// http_files.c: false when there is no such file.
bool http_get_file(struct http_connection *connection, const char *path, size_t path_size);
bool http_file_is(const struct http_connection *connection, const char *path, size_t path_size);

// http_upgrade.c: refuses, or makes connection->guest.
void http_get_stream(struct http_connection *connection);

// http_guest.c
enum tally_status http_guest_create(struct http_connection *connection, uint64_t epoch, uint64_t version,
                                    const char *answer);
void http_guest_start(struct http_connection *connection, const uint8_t *rest,
                      size_t size); // `rest`: came behind the request
void http_guest_receive(struct http_connection *connection, const uint8_t *data, size_t size);
void http_guest_sweep(struct http_connection *connection, uint64_t now_ms);
void http_guest_end(
    struct http_connection *connection); // lets go of everything that is shared; nothing without a guest
void http_guest_free(struct http_connection *connection);

bool http_origin_allowed(const struct http_connection *connection);

// http_count.c: fills status and answer, or sets connection->count, and goes on with http_connection_answer when that is decided.
void http_post_count(struct http_connection *connection);
void http_options_count(
    struct http_connection *connection); // what a browser asks before a page of another origin counts
void http_post_table(struct http_connection *connection, struct tally_bytes name); // "name", still percent-encoded
void http_count_late(struct http_connection *connection);       // it took too long: fills status and answer
void http_count_end(struct http_connection *connection);        // the connection ends; nothing without a count
enum tally_status http_counts_init(struct http_thread *thread); // before the thread runs
void http_counts_close(struct http_thread *thread);             // from its loop, or when that does not run any more
void http_counts_free(struct http_thread *thread);              // the loop has ended

// http_snapshot.c
void http_get_snapshot(struct http_connection *connection);
void http_snapshot_next(struct http_connection *connection);
void http_snapshot_end(struct http_connection *connection);

#endif
