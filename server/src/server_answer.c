// SPDX-License-Identifier: Apache-2.0
//
// Requests in, answers out.
#include <stdio.h>

#include "server_parts.h"

// Answers without a frame or values fit here: they need no memory, so there is always an answer.
#define SMALL_BYTES   640u
#define REFUSAL_BYTES 320u

static struct tally_answer blank(const struct tally_server *server)
{
    return (struct tally_answer){
        .dataset = server->options.dataset, .epoch = server->state.epoch, .version = server->state.version};
}

static void reply_status(struct tally_server *server, uint64_t token, enum tally_status status, const char *text,
                         uint64_t version, uint64_t expected)
{
    uint8_t bytes[SMALL_BYTES];
    struct tally_writer writer = tally_writer_fixed(bytes, sizeof bytes);
    struct tally_answer answer = blank(server);
    answer.status = status;
    answer.version = version;
    answer.expected_sequence = expected;
    if (status) answer.message = tally_bytes(text, strlen(text));
    if (tally_answer_encode(&answer, &writer)) return; // cannot be: everything in it is bounded
    server->ops->reply(server->ctx, token, tally_writer_bytes(&writer));
}

static void refuse(struct tally_server *server, uint64_t token, enum tally_status status, const char *text)
{
    tally_server_tell(server, TALLY_SERVER_EVENT_REQUEST_REFUSED, status, server->state.version, 0, text);
    reply_status(server, token, status, text, server->state.version, 0);
}

// A large answer; without memory for it, a small one that says so.
static void reply_answer(struct tally_server *server, uint64_t token, const struct tally_answer *answer)
{
    server->answer.size = 0;
    server->answer.failed = false;
    enum tally_status status = tally_answer_encode(answer, &server->answer);
    if (status)
        refuse(server, token, TALLY_BUSY, "no memory for the answer: try again later");
    else
        server->ops->reply(server->ctx, token, tally_writer_bytes(&server->answer));
}

void tally_server_reply_verdict(struct tally_server *server, uint64_t token, const struct tally_verdict *verdict)
{
    uint64_t version = verdict->version ? verdict->version : server->state.version;
    reply_status(server, token, verdict->status, tally_status_str(verdict->status), version, verdict->expected);
}

// ---------------------------------------------------------------------------------------------------- batches

// Why batches are not taken now; null when they are.
static const char *closed(const struct tally_server *server)
{
    if (server->failed) return "the server failed and is about to start again";
    if (!server->recovered) return "the server is starting";
    if (server->stopping) return "the server is stopping";
    if (server->unverified) return "readers hold too many old versions";
    return NULL;
}

static void count_verdict(struct tally_server *server, enum tally_status status)
{
    switch (status) {
    case TALLY_REPEAT: server->stats.repeats++; break;
    case TALLY_HOLE:
    case TALLY_UNKNOWN_PRODUCER: server->stats.holes++; break;
    case TALLY_BUSY: server->stats.busy++; break;
    default: server->stats.refused++;
    }
}

// The verdict when there is one now; false when the batch is pending.
static bool offer(struct tally_server *server, struct tally_bytes batch, bool waits, uint64_t token,
                  struct tally_verdict *out_verdict, struct tally_refusal *out_refusal)
{
    *out_refusal = (struct tally_refusal){.what = closed(server)};
    if (out_refusal->what) {
        *out_verdict = (struct tally_verdict){.status = TALLY_BUSY};
    } else if (tally_gather_offer(&server->gather, &server->state, batch, waits, token, out_verdict, out_refusal)) {
        return false;
    }
    count_verdict(server, out_verdict->status);
    return true;
}

// Bytes of a key that a refusal shows; any that are not printable ASCII as dots.
#define SHOWN_BYTES 64u

// A refusal in words: 'table "hits", key "x": an amount below 0: -5'. `text` holds size bytes.
static const char *refusal_text(const struct tally_refusal *refusal, enum tally_status status, char *text, size_t size)
{
    char key[SHOWN_BYTES + 1];
    size_t shown = refusal->key.size < SHOWN_BYTES ? refusal->key.size : SHOWN_BYTES;
    if (!refusal->what) return tally_status_str(status);
    for (size_t i = 0; i < shown; i++) {
        uint8_t byte = refusal->key.data[i];
        key[i] = byte >= 0x20 && byte < 0x7f ? (char)byte : '.';
    }
    key[shown] = 0;
    int at = 0, room = (int)size;
    if (refusal->table.size)
        at = snprintf(text, size, "table \"%.*s\"%s", (int)refusal->table.size, (const char *)refusal->table.data,
                      shown ? "" : ": ");
    if (shown)
        at += snprintf(text + at, (size_t)(room - at), ", key \"%s\"%s: ", key, refusal->key.size > shown ? "..." : "");
    at += snprintf(text + at, (size_t)(room - at), "%s", refusal->what);
    if (refusal->has_amount) (void)snprintf(text + at, (size_t)(room - at), ": %lld", (long long)refusal->amount);
    return text;
}

static void answer_batch(struct tally_server *server, uint64_t token, struct tally_bytes batch)
{
    struct tally_verdict verdict;
    struct tally_refusal refusal;
    char words[REFUSAL_BYTES];
    if (!offer(server, batch, true, token, &verdict, &refusal)) return;
    const char *text = refusal_text(&refusal, verdict.status, words, sizeof words);
    if (verdict.status != TALLY_REPEAT)
        tally_server_tell(server, TALLY_SERVER_EVENT_REQUEST_REFUSED, verdict.status, server->state.version, 0, text);
    uint64_t version = verdict.version ? verdict.version : server->state.version;
    reply_status(server, token, verdict.status, text, version, verdict.expected);
}

void tally_server_define(struct tally_server *server, uint64_t token, struct tally_bytes table,
                         const struct tally_definition *definition)
{
    struct tally_definition complete = *definition;
    const char *why = closed(server);
    enum tally_status status = why ? TALLY_BUSY : TALLY_OK;
    uint32_t number = tally_state_table(&server->state, table);
    // What is left out stays as it is.
    if (!status && complete.kind == TALLY_KIND_UNSPECIFIED && number != TALLY_TABLES_MAX)
        complete.kind = server->state.tables[number].definition.kind;
    if (!status) status = tally_definition_complete(&complete, table, &why);
    if (!status) status = tally_gather_define(&server->gather, &server->state, table, &complete, true, token, &why);
    if (!status) return;
    reply_status(server, token, status, why ? why : tally_status_str(status), server->state.version, 0);
}

void tally_server_push(struct tally_server *server, struct tally_bytes request, uint64_t now_ms)
{
    struct tally_bytes batch;
    struct tally_verdict verdict;
    struct tally_refusal refusal;
    char words[REFUSAL_BYTES];
    (void)now_ms;
    server->stats.pushes++;
    verdict.status = tally_request_batch(request, &batch);
    if (verdict.status) {
        server->stats.refused++;
        tally_server_tell(server, TALLY_SERVER_EVENT_REQUEST_REFUSED, verdict.status, server->state.version, 0,
                          "pushed, and no batch");
    } else if (offer(server, batch, false, 0, &verdict, &refusal) && verdict.status != TALLY_REPEAT) {
        tally_server_tell(server, TALLY_SERVER_EVENT_REQUEST_REFUSED, verdict.status, server->state.version, 0,
                          refusal_text(&refusal, verdict.status, words, sizeof words));
    }
}

// ---------------------------------------------------------------------------------------------------- the others

static bool ours(struct tally_server *server, uint64_t token, struct tally_bytes dataset)
{
    if (tally_bytes_equal(dataset, server->options.dataset)) return true;
    refuse(server, token, TALLY_WRONG_DATASET, tally_status_str(TALLY_WRONG_DATASET));
    return false;
}

static void answer_hello(struct tally_server *server, uint64_t token, const struct tally_hello *hello)
{
    if (!ours(server, token, hello->dataset)) return;
    // What is durable, not what is pending: the one who asks may have lost its memory of what it sent.
    const struct tally_producer *producer =
        hello->producer ? tally_producers_find(&server->state.producers, hello->producer) : NULL;
    uint64_t expected = producer ? producer->sequence + 1 : hello->producer ? 1 : 0;
    reply_status(server, token, TALLY_OK, "", server->state.version, expected);
}

// Who holds a version of this epoch that was never cut here has it from a future that this data does not know: the directory was put back to an
// earlier state, or a disk lost what it had said was on it.
static void notice_ahead(struct tally_server *server, const struct tally_catch_up *held)
{
    if (server->overtaken || held->epoch != server->state.epoch || held->version <= server->state.version) return;
    server->overtaken = server->epoch_due = true;
}

// Before the mirror is read. False: the request is refused.
static bool current(struct tally_server *server, uint64_t token, uint64_t now_ms)
{
    enum tally_status status = tally_server_current(server, now_ms);
    if (status) refuse(server, token, TALLY_BUSY, server->failed ? closed(server) : tally_status_str(status));
    return status == TALLY_OK;
}

static void answer_catch_up(struct tally_server *server, uint64_t token, const struct tally_catch_up *catch_up,
                            uint64_t now_ms)
{
    struct tally_answer answer;
    enum tally_catchup_how how = TALLY_CATCHUP_CURRENT;
    if (!ours(server, token, catch_up->dataset) || !current(server, token, now_ms)) return;
    notice_ahead(server, catch_up);
    enum tally_status status = tally_catchup_answer(&server->catchup, &server->history, catch_up,
                                                    tally_server_whole_bytes(server), now_ms, &answer, &how);
    if (status) {
        refuse(server, token, TALLY_BUSY, "no memory for the answer: try again later");
        return;
    }
    answer.dataset = server->options.dataset;
    if (answer.status) {
        const char *text = tally_status_str(answer.status);
        answer.message = tally_bytes(text, strlen(text));
    }
    switch (how) {
    case TALLY_CATCHUP_CURRENT: server->stats.catch_ups_current++; break;
    case TALLY_CATCHUP_DELTA: server->stats.catch_ups_delta++; break;
    case TALLY_CATCHUP_GONE: server->stats.catch_ups_gone++; break;
    case TALLY_CATCHUP_WHOLE:
        if (!catch_up->has_cursor) server->stats.catch_ups_whole++;
        server->stats.chunks++;
        break;
    }
    server->stats.catch_up_bytes += answer.frame.size;
    reply_answer(server, token, &answer);
}

static void answer_query(struct tally_server *server, uint64_t token, const struct tally_query *query, uint64_t now_ms)
{
    struct tally_view view;
    struct tally_view_info info;
    uint32_t table;
    if (!ours(server, token, query->dataset) || !current(server, token, now_ms)) return;
    struct tally_answer answer = blank(server);
    memset(server->found, 0, query->keys_count * sizeof *server->found);
    memset(server->values, 0, query->keys_count * sizeof *server->values);
    tally_view_pin(&server->reader, &view);
    tally_view_info(&view, &info);
    if (info.version && tally_view_table(&view, query->table, &table) == TALLY_OK)
        tally_view_get_many(&view, table, query->keys, query->keys_count, server->values, server->found);
    tally_view_unpin(&view);
    answer.version = info.version;
    answer.found = server->found;
    answer.values = server->values;
    answer.values_count = query->keys_count;
    server->stats.queries++;
    reply_answer(server, token, &answer);
}

// ---------------------------------------------------------------------------------------------------- requests

static void answer_request(struct tally_server *server, enum tally_endpoint endpoint, uint64_t token,
                           const struct tally_request *request, uint64_t now_ms)
{
    bool ingest = endpoint == TALLY_ENDPOINT_INGEST;
    const char *elsewhere = ingest ? "ask at the catch-up endpoint" : "send batches to the ingest endpoint";
    switch (request->what) {
    case TALLY_REQUEST_BATCH:
        if (ingest)
            answer_batch(server, token, request->batch);
        else
            refuse(server, token, TALLY_FORBIDDEN, elsewhere);
        break;
    case TALLY_REQUEST_HELLO: answer_hello(server, token, &request->hello); break;
    case TALLY_REQUEST_CATCH_UP:
        if (ingest)
            refuse(server, token, TALLY_FORBIDDEN, elsewhere);
        else
            answer_catch_up(server, token, &request->catch_up, now_ms);
        break;
    case TALLY_REQUEST_QUERY:
        if (ingest)
            refuse(server, token, TALLY_FORBIDDEN, elsewhere);
        else
            answer_query(server, token, &request->query, now_ms);
        break;
    case TALLY_REQUEST_NOTHING:
    default: refuse(server, token, TALLY_UNSUPPORTED, "a request of a kind that this server does not know");
    }
}

void tally_server_request(struct tally_server *server, enum tally_endpoint endpoint, uint64_t token,
                          struct tally_bytes request, uint64_t now_ms)
{
    struct tally_request decoded;
    server->stats.requests++;
    if (!server->recovered || server->failed || server->stopping) {
        server->stats.busy++;
        refuse(server, token, TALLY_BUSY, closed(server));
        return;
    }
    enum tally_status status = tally_request_decode(server->alloc, request, &decoded);
    if (status) {
        server->stats.refused++;
        refuse(server, token, status == TALLY_NO_MEMORY ? TALLY_BUSY : status, tally_status_str(status));
        return;
    }
    answer_request(server, endpoint, token, &decoded, now_ms);
    tally_request_free(server->alloc, &decoded);
}
