// SPDX-License-Identifier: Apache-2.0
//
// POST /v1/count, and POST /v1/tables/NAME, which goes the same way with its body as it is. The body is unpacked and taken apart (a large one on a thread of the pool), handed to the source's owner, and answered when that has
// decided. Meanwhile the connection waits, and does not read. It may end before: what was handed over is counted all the same.
#include "http_internal.h"

#include <io/count_body.h>
#include <io/inflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <sums/sums_batch.h>
#include <sys/random.h>
#include <tallycast/batch.h>
#include <tallycast/siphash.h>

#define INLINE_BYTES 32768u // smaller bodies are taken apart at once

struct http_count {
    struct tally_http_count count; // first: the mailbox hands it back
    struct http_thread *thread;
    struct http_connection *connection; // null: it has ended, or was answered
    struct http_count *next, **link;    // of the thread's
    uv_work_t work;
    struct tally_bytes text; // the body, in `packed` or `plain`
    struct tally_writer packed, plain;
    enum tally_packing packing;
    bool skip; // wrong events are left out; else nothing is counted when there is one
    enum tally_status unpacked, parsed;
    struct tally_count_body body;
};

#define COUNTER(thread, member) atomic_fetch_add_explicit(&(thread)->counters.member, 1, memory_order_relaxed)

static const char *header(const struct http_connection *connection, enum http_header which)
{
    return connection->headers.values[which].text;
}

// ---------------------------------------------------------------------------------------------------- life

static void on_counted(void *ctx, struct tally_mail *mail);

enum tally_status http_counts_init(struct http_thread *thread)
{
    if (!thread->http->source.count && !thread->http->source.define) return TALLY_OK;
    enum tally_status status = tally_mailbox_open(&thread->counted, &thread->loop, on_counted, thread);
    thread->counted_open = status == TALLY_OK;
    return status;
}

void http_counts_close(struct http_thread *thread)
{
    if (thread->counted_open) tally_mailbox_close(&thread->counted, NULL);
    thread->counted_open = false;
}

static void count_free(struct http_count *count)
{
    if (count->connection) count->connection->count = NULL;
    *count->link = count->next;
    if (count->next) count->next->link = count->link;
    atomic_fetch_sub(&count->thread->http->count_bytes, count->packed.size);
    tally_count_body_deinit(&count->body);
    tally_writer_free(&count->packed);
    tally_writer_free(&count->plain);
    free(count);
}

void http_counts_free(struct http_thread *thread)
{
    while (thread->counts) count_free(thread->counts);
}

void http_count_end(struct http_connection *connection)
{
    if (connection->count) connection->count->connection = NULL;
    connection->count = NULL;
}

// The budget is of bodies as they come; what they become is bounded by them and by TALLY_COUNT_BODY_BYTES_MAX.
static struct http_count *count_create(struct http_connection *connection)
{
    struct http_thread *thread = connection->thread;
    size_t size = connection->body.size;
    uint64_t before = atomic_fetch_add(&thread->http->count_bytes, size);
    struct http_count *count = NULL;
    struct tally_seed seed;
    if ((before == 0 || before + size <= TALLY_COUNT_PENDING_BYTES_MAX) &&
        getrandom(&seed, sizeof seed, 0) == (ssize_t)sizeof seed)
        count = malloc(sizeof *count);
    if (!count) {
        atomic_fetch_sub(&thread->http->count_bytes, size);
        return NULL;
    }
    memset(count, 0, offsetof(struct http_count, body));
    count->thread = thread;
    count->connection = connection;
    count->next = thread->counts;
    count->link = &thread->counts;
    if (count->next) count->next->link = &count->next;
    thread->counts = count;
    count->packed = connection->body;
    count->plain = connection->body = tally_writer_growable(&tally_alloc_libc);
    tally_count_body_init(&count->body, seed);
    connection->count = count;
    return count;
}

// ---------------------------------------------------------------------------------------------------- what is asked for

static bool take_wrong(void *ctx, const char *name, const char *value, const char **out_wrong)
{
    bool *skip = ctx;
    if (strcmp(name, "wrong") != 0) return false;
    *skip = strcmp(value, "skip") == 0;
    if (!*skip && strcmp(value, "refuse") != 0) *out_wrong = "wrong: expected refuse or skip";
    return true;
}

// The producer whose only batch the request is. Unkeyed: every server that reads the log must agree, and who may count needs no collision to do harm.
static uint64_t producer_of(const char *key)
{
    static const struct tally_seed seed = {0x7473616379616c6cu, 0x6b};
    return TALLY_PRODUCER_ONCE | tally_siphash(seed, key, strlen(key)) >> 8;
}

static const char *parse_headers(const struct http_connection *connection, enum tally_packing *out_packing,
                                 uint64_t *out_producer, unsigned *out_status)
{
    const struct http_headers *headers = &connection->headers;
    *out_status = 415;
    if (headers->values[HTTP_HEADER_ENCODING].times > 1 || headers->values[HTTP_HEADER_ENCODING].too_long ||
        !tally_packing_of(header(connection, HTTP_HEADER_ENCODING), out_packing))
        return "Content-Encoding: expected gzip, zstd or none";
    *out_status = 400;
    *out_producer = 0;
    if (headers->values[HTTP_HEADER_IDEMPOTENCY].times == 0) return NULL;
    if (headers->values[HTTP_HEADER_IDEMPOTENCY].times > 1 || headers->values[HTTP_HEADER_IDEMPOTENCY].too_long ||
        !*header(connection, HTTP_HEADER_IDEMPOTENCY))
        return "Idempotency-Key: expected one, of 1 to 255 bytes";
    *out_producer = producer_of(header(connection, HTTP_HEADER_IDEMPOTENCY));
    return NULL;
}

// ---------------------------------------------------------------------------------------------------- answers

static void write_refusals(struct tally_json *json, const struct tally_count_body *body)
{
    uint32_t named = body->refused < TALLY_COUNT_REFUSALS_MAX ? body->refused : TALLY_COUNT_REFUSALS_MAX;
    tally_json_array_begin(json, "refused");
    for (uint32_t i = 0; i < named; i++) {
        tally_json_object_begin(json, NULL);
        tally_json_u64(json, "line", body->refusals[i].line);
        tally_json_u64(json, "event", body->refusals[i].event);
        tally_json_str(json, "error", body->refusals[i].why);
        tally_json_object_end(json);
    }
    tally_json_array_end(json);
    if (body->refused > named) tally_json_u64(json, "refused_more", body->refused - named);
}

static void answer_wrong(struct http_connection *connection, const struct tally_count_body *body)
{
    struct tally_reason reason;
    struct tally_json json;
    uint32_t all = body->accepted + body->refused;
    if (all == 0) {
        http_error(connection, 400, "there is no event in the body");
        return;
    }
    tally_reason_set(&reason, "%u of %u events %s wrong: nothing was counted", body->refused, all,
                     body->refused == 1 ? "is" : "are");
    http_json_begin(connection, 400, &json);
    tally_json_str(&json, "error", reason.text);
    write_refusals(&json, body);
    http_json_end(connection, &json);
}

// Of a batch that was not counted.
static unsigned status_of(enum tally_status status)
{
    switch (status) {
    case TALLY_BUSY:
    case TALLY_IO:
    case TALLY_NO_MEMORY:
    case TALLY_NO_SPACE:
    case TALLY_TIMEOUT:
    case TALLY_UNREACHABLE: return 503;
    case TALLY_FORBIDDEN: return 403;
    case TALLY_LIMIT: return 413;
    default: return 422;
    }
}

// Of a table that was defined, or not.
static void answer_defined(struct http_connection *connection, const struct tally_http_count *count)
{
    const struct tally_http_source *source = &connection->thread->http->source;
    struct tally_http_state state;
    struct tally_json json;
    if (count->status) {
        http_error(connection, status_of(count->status), count->reason.text);
        if (connection->status == 503) connection->more_head = "Retry-After: 1\r\n";
        return;
    }
    source->state(source->ctx, &state);
    http_json_begin(connection, 200, &json);
    tally_json_str(&json, "table", count->table);
    tally_json_str(&json, "dataset", state.dataset);
    tally_json_hex64(&json, "epoch", count->epoch);
    tally_json_u64(&json, "version", count->version);
    http_json_end(connection, &json);
}

static void answer_decided(struct http_connection *connection, const struct http_count *done)
{
    const struct tally_http_source *source = &connection->thread->http->source;
    const struct tally_http_count *count = &done->count;
    struct tally_http_state state;
    struct tally_json json;
    if (*count->table) {
        answer_defined(connection, count);
        return;
    }
    if (count->status != TALLY_OK && count->status != TALLY_REPEAT) {
        COUNTER(done->thread, counts_refused);
        http_error(connection, status_of(count->status), count->reason.text);
        if (connection->status == 503) connection->more_head = "Retry-After: 1\r\n";
        return;
    }
    if (count->status == TALLY_REPEAT) {
        COUNTER(done->thread, counts_repeated);
    } else {
        COUNTER(done->thread, counts);
        atomic_fetch_add_explicit(&done->thread->counters.count_events, done->body.accepted, memory_order_relaxed);
    }
    source->state(source->ctx, &state);
    http_json_begin(connection, 200, &json);
    tally_json_str(&json, "dataset", state.dataset);
    if (count->version) {
        tally_json_hex64(&json, "epoch", count->epoch);
        tally_json_u64(&json, "version", count->version);
    } else {
        tally_json_null(&json, "epoch");
        tally_json_null(&json, "version");
    }
    tally_json_u64(&json, "accepted", done->body.accepted);
    tally_json_bool(&json, "repeat", count->status == TALLY_REPEAT);
    write_refusals(&json, &done->body);
    http_json_end(connection, &json);
}

void http_count_late(struct http_connection *connection)
{
    bool keyed = connection->count->count.producer != 0, table = *connection->count->count.table;
    COUNTER(connection->thread, counts_late);
    http_count_end(connection);
    connection->more_head = "Retry-After: 1\r\n";
    connection->keep_alive = false;
    http_error(
        connection, 503,
        table ? "not durable in time: the table may be defined or not; send it again"
        : keyed
            ? "not acknowledged in time: it may be counted or not; send it again with the same Idempotency-Key"
            : "not acknowledged in time: it may be counted or not; only with an Idempotency-Key can it be sent again");
}

// ---------------------------------------------------------------------------------------------------- the way of a request

static void on_work(uv_work_t *work)
{
    struct http_count *count = work->data;
    struct tally_bytes packed = tally_writer_bytes(&count->packed);
    count->text = packed;
    if (count->packing) {
        count->unpacked = tally_inflate(count->packing, packed, TALLY_COUNT_BODY_BYTES_MAX, &count->plain);
        count->text = tally_writer_bytes(&count->plain);
    }
    if (!count->unpacked) count->parsed = tally_count_body_parse(&count->body, count->text);
    if (!count->unpacked && !count->parsed) count->parsed = tally_sums_group(&count->body.sums);
    tally_writer_free(&count->plain);
}

// Gives it to the owner. False: it goes no further, and the answer is filled in.
static bool hand_over(struct http_count *count)
{
    struct http_connection *connection = count->connection;
    const struct tally_http_source *source = &count->thread->http->source;
    const struct tally_sums *sums = &count->body.sums;
    if (count->unpacked == TALLY_LIMIT)
        http_error(connection, 413, "the body is too large when it is unpacked: at most 8388608 bytes");
    else if (count->unpacked == TALLY_MALFORMED)
        http_error(connection, 400, "the body is not what Content-Encoding says, or damaged, or cut short");
    else if (count->parsed == TALLY_FULL)
        http_error(connection, 413, "too many tables");
    else if (count->unpacked || count->parsed)
        http_error(connection, 503, "out of memory");
    else if ((count->body.refused && !count->skip) || count->body.accepted == 0)
        answer_wrong(connection, &count->body);
    else if (tally_sums_fit(sums, 0, TALLY_BATCH_BYTES_MAX) < tally_sums_count(sums))
        http_error(connection, 413,
                   "too many keys for one batch of 1048576 bytes and 131072 entries: send them in several requests");
    else if (source->count(source->ctx, count->thread->reader, &count->count))
        return true;
    else
        http_error(connection, 503, count->count.reason.text);
    if (connection->status == 503) connection->more_head = "Retry-After: 1\r\n";
    COUNTER(count->thread, counts_refused);
    return false;
}

static void after_work(uv_work_t *work, int cancelled)
{
    struct http_count *count = work->data;
    struct http_connection *connection = count->connection;
    (void)cancelled; // nobody cancels
    if (connection && hand_over(count)) return;
    count_free(count);
    if (connection) http_connection_answer(connection);
}

static void on_counted(void *ctx, struct tally_mail *mail)
{
    struct http_count *count = (struct http_count *)(void *)mail;
    struct http_connection *connection = count->connection;
    (void)ctx;
    if (connection) answer_decided(connection, count);
    count_free(count);
    if (connection) http_connection_answer(connection);
}

void tally_http_counted(struct tally_http_count *count)
{
    struct http_count *done = (struct http_count *)(void *)count;
    tally_mailbox_put(&done->thread->counted, &count->mail);
}

// A page of another origin may read what is answered to it, if it is let in.
static bool origin_check(struct http_connection *connection)
{
    bool allowed = http_origin_allowed(connection);
    connection->to_page = allowed && connection->headers.values[HTTP_HEADER_ORIGIN].times;
    return allowed;
}

static const char origin_wrong[] = "this Origin is not let in: the setting stream-origin names those that are";

void http_options_count(struct http_connection *connection)
{
    if (!connection->thread->http->source.count) {
        http_error(connection, 404, "no such path");
    } else if (!origin_check(connection)) {
        http_error(connection, 403, origin_wrong);
    } else {
        connection->status = 204;
        connection->content_type = "application/json";
        connection->allow = "OPTIONS, POST";
        if (connection->to_page)
            connection->more_head = "Access-Control-Allow-Methods: POST\r\n"
                                    "Access-Control-Allow-Headers: Content-Type, Content-Encoding, Idempotency-Key\r\n"
                                    "Access-Control-Max-Age: 7200\r\n";
    }
}

void http_post_count(struct http_connection *connection)
{
    struct http_thread *thread = connection->thread;
    enum tally_packing packing;
    unsigned status = 404;
    uint64_t producer;
    bool skip = false;
    const struct http_query query = {take_wrong, &skip, "the query: only dataset and wrong are known"};
    const char *wrong = thread->http->source.count ? NULL : "no such path";
    if (!wrong && !origin_check(connection)) {
        status = 403;
        wrong = origin_wrong;
    }
    if (!wrong) wrong = http_query_parse(connection, &query, &status);
    if (!wrong) wrong = parse_headers(connection, &packing, &producer, &status);
    if (wrong) {
        http_error(connection, status, wrong);
        return;
    }
    struct http_count *count = count_create(connection);
    if (!count) {
        connection->more_head = "Retry-After: 1\r\n";
        http_error(connection, 503, "too much waits to be counted: send it again later");
        return;
    }
    count->skip = skip;
    count->packing = packing;
    count->count.producer = producer;
    count->count.sums = &count->body.sums;
    count->work.data = count;
    bool small = !packing && count->packed.size <= INLINE_BYTES;
    if (!small && uv_queue_work(&thread->loop, &count->work, on_work, after_work) == 0) return;
    on_work(&count->work);
    if (!hand_over(count)) count_free(count);
}

// ---------------------------------------------------------------------------------------------------- tables

#define DEFINITION_BYTES_MAX 4096u

// Null, or what is wrong.
static const char *check_table(struct http_connection *connection, struct tally_bytes name, size_t *out_size,
                               unsigned *out_status)
{
    *out_status = 404;
    if (!connection->thread->http->source.count) return "no such path";
    *out_status = 403;
    if (!connection->thread->http->source.define)
        return "tables are not defined by call here: the setting admin is off";
    // A page of another origin counts, where it is let in, and defines nothing.
    if (connection->headers.values[HTTP_HEADER_ORIGIN].times) return "not from a web page";
    *out_status = 400;
    if (strchr(connection->url, '?')) return "the query: none is expected";
    if (connection->headers.values[HTTP_HEADER_ENCODING].times) return "Content-Encoding: expected none";
    if (!http_percent_decode(name, connection->thread->decoded, out_size)) return "a bad percent escape";
    if (!tally_name_valid(tally_bytes(connection->thread->decoded, *out_size)))
        return "the table's name: expected 1 to 64 of a-z 0-9 _ . -";
    *out_status = 413;
    return connection->body.size > DEFINITION_BYTES_MAX ? "a definition of more than 4096 bytes" : NULL;
}

void http_post_table(struct http_connection *connection, struct tally_bytes name)
{
    const struct tally_http_source *source = &connection->thread->http->source;
    size_t size = 0;
    unsigned status;
    const char *wrong = check_table(connection, name, &size, &status);
    if (wrong) {
        http_error(connection, status, wrong);
        return;
    }
    struct http_count *count = count_create(connection);
    if (!count) {
        connection->more_head = "Retry-After: 1\r\n";
        http_error(connection, 503, "too much waits to be counted: send it again later");
        return;
    }
    count->count.sums = &count->body.sums; // none
    memcpy(count->count.table, connection->thread->decoded, size);
    count->count.definition = tally_writer_bytes(&count->packed);
    if (source->define(source->ctx, count->thread->reader, &count->count)) return;
    http_error(connection, 503, count->count.reason.text);
    connection->more_head = "Retry-After: 1\r\n";
    count_free(count);
}
