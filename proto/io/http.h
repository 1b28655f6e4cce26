// SPDX-License-Identifier: Apache-2.0
//
// The HTTP face of server and edge: the reads of one dataset over HTTP/1.1. docs/protocol.md lists the paths.
//
// N threads, each with its own libuv loop, listening socket (SO_REUSEPORT shares the port between them) and reader of the source; a
// connection lives on one thread. What it reads comes from a table of functions, so that the server's native mirror and the edge's
// WASM mirror plug in alike. Requests are parsed by http_parser: libwebsockets' own HTTP server collapses "//" and ".." and refuses
// %00 in a path, which are bytes of a key here. The WebSockets of /v1/stream are framed by wslay on the same loops (http_guest.h).
//
// Limits: sizes as in limits.h, heads to 16 KiB; connections_max connections in all (further ones are closed at once). A request that
// has not arrived within request_timeout_ms, and an answer of which nothing moved for write_timeout_ms, ends its connection; an idle
// connection ends after idle_timeout_ms. A whole state holds one chunk in memory and the view it reads, whatever the client's pace, for at most
// snapshot_timeout_ms.
#ifndef TALLYCAST_IO_HTTP_H
#define TALLYCAST_IO_HTTP_H

#include <io/feed.h>
#include <io/mailbox.h>
#include <io/reason.h>
#include <sums/sums.h>
#include <tallycast/mirror.h>
#include <tallycast/wire.h>

// A pinned version, in the form its source likes.
struct tally_http_view {
    uint64_t opaque[6];
};

// What does not come from a view.
struct tally_http_state {
    const char *name;   // "server", "edge"
    const char *client; // "wasm", "native"; null: left out
    const char *state;  // "cold", "booting", "catching_up", "live", "stale"
    const char *dataset;
    uint64_t newest_version; // newest version known of the held epoch; below the view's: lag 0
    uint64_t views_max_ms;   // a whole state is sent for at most this long (0: no bound)
};

// A request to a guest of one's own (/v1/guest/{name}...), borrowed for the call.
struct tally_http_call {
    struct tally_bytes name, path; // path: what follows the name, the query included, as it was sent
    struct tally_bytes body;
    bool post; // else GET or HEAD
};

#define TALLY_HTTP_TYPE_BYTES 101u

// What it is answered. `body` is empty and `type` "application/json" before the call.
struct tally_http_reply {
    unsigned status;
    char type[TALLY_HTTP_TYPE_BYTES];
    struct tally_view_info info; // the version that the answer is of
    struct tally_writer *body;
};

// What came by POST /v1/count, or by POST /v1/tables/NAME, on its way to whoever makes it durable.
struct tally_http_count {
    struct tally_mail mail;  // the owner's, while it has it
    struct tally_sums *sums; // 1 or more entries, grouped, of one batch (tally_sums_fit); not to be changed
    uint64_t producer;       // of an Idempotency-Key: its batch 1 is this; 0: none was given
    // Of a table: its name, valid, and the body as it came. Otherwise the name is empty.
    char table[TALLY_NAME_BYTES_MAX + 1];
    struct tally_bytes definition;
    // The owner's to fill in, before tally_http_counted.
    enum tally_status status;   // of enum tally_status what the answer to a batch has; OK and REPEAT: counted
    uint64_t epoch, version;    // that holds it; version 0: not known
    struct tally_reason reason; // when it was not counted
    uint64_t owner[4];          // free for it
};

// From any thread, once for each that was taken: it is decided. Neither `count` nor its sums are the owner's any more.
void tally_http_counted(struct tally_http_count *count);

// "Global plus mine": a key's value, and what this process counted for it that is not in that value.
struct tally_http_mine {
    int64_t value;            // 0 when it is not found
    struct tally_merged mine; // of what it counted, and in which way
    int64_t total;            // what the value is when that has come to it, and nothing else
    bool found;               // the value
    bool in_doubt; // a part of `mine` may be in the value too: a batch of before the last start is not acknowledged yet
    struct tally_view_info info; // epoch and version that the value is of
};

// All slots must be filled but for those marked. `reader` is what open_reader gave for the calling thread.
struct tally_http_source {
    void *ctx;
    // Called once a thread, from that thread, before its first request; TALLY_FULL, TALLY_NO_MEMORY. Must not
    // block for long.
    enum tally_status (*open_reader)(void *ctx, unsigned thread, void **out_reader);
    // Called once a thread, from that thread, when no view of it is pinned any more.
    void (*close_reader)(void *ctx, void *reader);

    // Null: not wanted. Called now and then from the reader's thread, whether or not it has anything to do.
    void (*settle)(void *reader);

    // Pins the newest version. Views of one reader may overlap: a short read while a whole state is on its
    // way. TALLY_BUSY when there is nothing to read yet (503). Never blocks. Each view is unpinned once, by
    // the same thread.
    enum tally_status (*pin)(void *reader, struct tally_http_view *out_view);
    void (*unpin)(void *reader, struct tally_http_view *view);
    void (*info)(void *reader, const struct tally_http_view *view, struct tally_view_info *out_info);
    // Tables 0 to info.tables - 1; the name is borrowed until the next call with this reader.
    // TALLY_NOT_FOUND.
    enum tally_status (*table_info)(void *reader, const struct tally_http_view *view, uint32_t table,
                                    struct tally_table_info *out_info);
    // Number of the named table, for the two below: good for as long as the view. TALLY_NOT_FOUND.
    enum tally_status (*table)(void *reader, const struct tally_http_view *view, struct tally_bytes name,
                               uint32_t *out_table);
    // TALLY_NOT_FOUND, also for a number out of range. `key` of any size.
    enum tally_status (*get)(void *reader, const struct tally_http_view *view, uint32_t table, struct tally_bytes key,
                             int64_t *out_value);
    // Of one view; fills all of out_values and out_found. A number out of range finds nothing. count <= TALLY_QUERY_KEYS_MAX.
    enum tally_status (*get_numbered)(void *reader, const struct tally_http_view *view, uint32_t table,
                                      const struct tally_bytes *keys, size_t count, int64_t *out_values,
                                      bool *out_found);
    // The next row, in order of tables and ids, from a cursor that began with {table, 0}; its key is borrowed for as long as the view is
    // pinned. TALLY_NOT_FOUND after the last.
    enum tally_status (*next)(void *reader, const struct tally_http_view *view, struct tally_cursor *cursor,
                              struct tally_row *out_row);
    // The next chunk of the whole state, a sealed frame, as tally_view_write_chunk; `out` holds
    // TALLY_CHUNK_BYTES_MAX.
    enum tally_status (*write_chunk)(void *reader, const struct tally_http_view *view, struct tally_cursor *cursor,
                                     uint32_t *chunk, uint8_t *out, size_t *out_bytes, bool *out_more);

    // Null: nothing is counted here. On the thread of that number, which owns `reader`. TALLY_BUSY: not now. TALLY_UNSUPPORTED: a distinct table, to
    // whose estimate the members that wait cannot be added.
    enum tally_status (*get_mine)(void *ctx, unsigned thread, void *reader, struct tally_bytes table,
                                  struct tally_bytes key, struct tally_http_mine *out_mine);

    // Null: there are no guests. Answers a request to one, on the thread of that number, which owns `reader`. 0, or the status that is
    // answered instead, with the reason.
    unsigned (*call)(void *ctx, unsigned thread, void *reader, const struct tally_http_call *call,
                     struct tally_http_reply *reply, struct tally_reason *out_reason);

    // Null: /v1/count is not there. Takes a tally on the thread of `reader`; false: not now (503), with the reason. When it is taken, tally_http_counted
    // follows, on whatever thread, perhaps before this returns; but none after tally_http_stop has begun.
    bool (*count)(void *ctx, void *reader, struct tally_http_count *count);

    // The same, of a definition of a table. Null: tables are not defined by call here.
    bool (*define)(void *ctx, void *reader, struct tally_http_count *count);

    // Any thread. Strings stay valid as long as the source.
    void (*state)(void *ctx, struct tally_http_state *out_state);
    // Any thread: true, or false with the reason in one sentence (503).
    bool (*ready)(void *ctx, struct tally_reason *out_reason);
    // Any thread: appends the source's own metrics in Prometheus text form (metrics.h). The HTTP face adds
    // its own after them.
    void (*metrics)(void *ctx, struct tally_writer *out);
    // Unix milliseconds now. Null: the system's clock.
    uint64_t (*now_ms)(void *ctx);
};

// Keys of the named table. TALLY_NOT_FOUND for an unknown table; otherwise as get_numbered.
TALLY_CHECKED static inline enum tally_status tally_http_get_many(const struct tally_http_source *source, void *reader,
                                                                  const struct tally_http_view *view,
                                                                  struct tally_bytes table,
                                                                  const struct tally_bytes *keys, size_t count,
                                                                  int64_t *out_values, bool *out_found)
{
    uint32_t number;
    enum tally_status status = source->table(reader, view, table, &number);
    return status ? status : source->get_numbered(reader, view, number, keys, count, out_values, out_found);
}

// A file that is answered as it is, with an entity tag, so that a browser that has it is told so. All of it is borrowed for as long as the
// HTTP face runs.
struct tally_http_file {
    const char *path;         // "/", "/client/src/web.js"; the query is not looked at
    const char *content_type; // "text/html; charset=utf-8"
    const char *head;         // whole further lines, to TALLY_HTTP_FILE_HEAD_BYTES_MAX bytes; or empty
    const uint8_t *bytes;
    size_t size;
};

#define TALLY_HTTP_FILE_HEAD_BYTES_MAX 768u

struct tally_http_options {
    const char *listen; // "HOST:PORT", "[::1]:PORT"; port 0: the system chooses
    unsigned threads;   // 1 to TALLY_HTTP_THREADS_MAX
    // 0 takes the default.
    unsigned connections_max;     // 1024
    unsigned request_timeout_ms;  // 10000
    unsigned write_timeout_ms;    // 10000: also of a POST /v1/count that is not acknowledged
    unsigned idle_timeout_ms;     // 60000
    unsigned snapshots_max;       // 8: whole states on their way at once; more are answered with 503
    unsigned snapshot_timeout_ms; // 120000
    // /v1/stream: nobody is let in when there is no feed. It must outlive the HTTP face.
    struct tally_feed *feed;
    unsigned streams_max;     // 1024, apart from connections_max: further ones are answered with 503
    unsigned stream_idle_ms;  // 60000: a guest that takes nothing, or does not answer a ping, for so long is let go
    unsigned stream_parts_ms; // 120000: ... and one that is not through a change in parts, which holds a pinned version
    unsigned stream_heartbeat_ms; // 1000
    const char *const *origins;   // beside those of this very host; "*": any. Borrowed for as long as it runs
    size_t origins_count;
    const struct tally_http_file *files; // beside the paths of the protocol, which go first
    size_t files_count;
};

#define TALLY_HTTP_THREADS_MAX 32u

// Whether each is an origin as browsers write it (SCHEME://HOST or SCHEME://HOST:PORT, without a path; null), or "*". TALLY_OK, or
// TALLY_INVALID with the reason, which names --SETTING. Thread: any one.
TALLY_CHECKED enum tally_status tally_http_origins_check(const char *setting, const char *const *origins, size_t count,
                                                         struct tally_reason *out_reason);

struct tally_http;

// TALLY_OK, or TALLY_INVALID with the reason: checks "HOST:PORT".
TALLY_CHECKED enum tally_status tally_http_check(const char *setting, const char *listen,
                                                 struct tally_reason *out_reason);

// Starts the threads and returns when all of them listen; logs event=listening endpoint=http url=... Copies
// options and source (source->ctx must outlive it). TALLY_INVALID, TALLY_IN_USE, TALLY_UNREACHABLE,
// TALLY_FULL, TALLY_NO_MEMORY, TALLY_IO. One a process.
TALLY_CHECKED enum tally_status tally_http_start(const struct tally_http_options *options,
                                                 const struct tally_http_source *source, struct tally_http **out_http,
                                                 struct tally_reason *out_reason);

const char *tally_http_url(const struct tally_http *http); // "http://127.0.0.1:8090"

// Takes no more connections, lets requests in progress end for at most grace_ms, joins the threads
// (close_reader is called on each) and frees. Blocks. Clears *http; null is fine.
void tally_http_stop(struct tally_http **http, unsigned grace_ms);

#endif
