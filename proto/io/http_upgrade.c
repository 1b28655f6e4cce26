// SPDX-License-Identifier: Apache-2.0
//
// GET /v1/stream: what is asked for, who asks, and the opening handshake of RFC 6455. Everything that is wrong is an HTTP answer.
#include "http_guest.h"

#include <ctype.h>
#include <mbedtls/base64.h>
#include <mbedtls/sha1.h>
#include <stdio.h>
#include <strings.h>

#define NONCE_BYTES 16u

struct request {
    uint64_t epoch, version;
};

static const char *header(const struct http_connection *connection, enum http_header which)
{
    return connection->headers.values[which].text;
}

// ---------------------------------------------------------------------------------------------------- query

static bool number(const char **at, unsigned base, uint64_t *out_value)
{
    const char *start = *at;
    uint64_t value = 0;
    for (;; (*at)++) {
        unsigned digit;
        if (**at >= '0' && **at <= '9')
            digit = (unsigned)(**at - '0');
        else if (base == 16 && (**at | 32) >= 'a' && (**at | 32) <= 'f')
            digit = (unsigned)(**at | 32) - 'a' + 10;
        else
            break;
        if (value > (UINT64_MAX - digit) / base) return false;
        value = value * base + digit;
    }
    *out_value = value;
    return *at != start;
}

// "EPOCH:VERSION", as it is shown: hexadecimal, then decimal. Who holds nothing says 0:0, or nothing at all.
static const char *parse_from(const char *text, struct request *out_request)
{
    struct request request;
    bool parsed = number(&text, 16, &request.epoch) && *text++ == ':' && number(&text, 10, &request.version) && !*text;
    if (!parsed || (request.epoch == 0 && request.version))
        return "from: expected EPOCH:VERSION, 16 hexadecimal digits and a number, or 0:0";
    if (request.version == 0) request.epoch = 0;
    *out_request = request;
    return NULL;
}

static bool take_from(void *ctx, const char *name, const char *value, const char **out_wrong)
{
    if (strcmp(name, "from") != 0) return false;
    *out_wrong = parse_from(value, ctx);
    return true;
}

// ---------------------------------------------------------------------------------------------------- who asks

// A page is let in when it came from this very host, or when its origin is set. What is no page sends no Origin. The check keeps out pages of
// others that run in a browser beside us; it is no login.
bool http_origin_allowed(const struct http_connection *connection)
{
    const struct tally_http_options *options = &connection->thread->http->options;
    const char *origin = header(connection, HTTP_HEADER_ORIGIN), *host = header(connection, HTTP_HEADER_HOST);
    unsigned times = connection->headers.values[HTTP_HEADER_ORIGIN].times;
    if (times == 0) return true;
    if (times > 1 || !*origin) return false;
    for (size_t i = 0; i < options->origins_count; i++)
        if (strcmp(options->origins[i], "*") == 0 || strcasecmp(options->origins[i], origin) == 0) return true;
    const char *authority = strstr(origin, "://");
    return authority && *host && strcasecmp(authority + 3, host) == 0;
}

static bool origin_valid(const char *text)
{
    if (strcmp(text, "*") == 0 || strcasecmp(text, "null") == 0) return true;
    const char *authority = strstr(text, "://");
    if (!authority || authority == text || !authority[3]) return false;
    for (const char *at = text; at < authority; at++)
        if (!isalnum((unsigned char)*at) && !strchr("+-.", *at)) return false;
    return authority[3 + strcspn(authority + 3, "/?#@ \t")] == 0;
}

enum tally_status tally_http_origins_check(const char *setting, const char *const *origins, size_t count,
                                           struct tally_reason *out_reason)
{
    for (size_t i = 0; i < count; i++) {
        if (origin_valid(origins[i])) continue;
        tally_reason_set(out_reason, "--%s \"%s\": expected SCHEME://HOST or SCHEME://HOST:PORT, or *", setting,
                         origins[i]);
        return TALLY_INVALID;
    }
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- handshake

static bool accept_key(const char *key, char out_accept[64])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char bytes[64], sum[20];
    size_t size;
    if (mbedtls_base64_decode(bytes, sizeof bytes, &size, (const unsigned char *)key, strlen(key)) ||
        size != NONCE_BYTES || strlen(key) != 24)
        return false;
    memcpy(bytes, key, 24);
    memcpy(bytes + 24, guid, sizeof guid - 1);
    if (mbedtls_sha1_ret(bytes, 24 + sizeof guid - 1, sum)) return false;
    return mbedtls_base64_encode((unsigned char *)out_accept, 64, &size, sum, sizeof sum) == 0;
}

static const char *check_handshake(const struct http_connection *connection)
{
    if (!connection->parser.upgrade || strcasecmp(header(connection, HTTP_HEADER_UPGRADE), "websocket") != 0)
        return "this is a WebSocket: expected Connection: Upgrade and Upgrade: websocket";
    if (strcmp(header(connection, HTTP_HEADER_VERSION), "13") != 0) return "expected Sec-WebSocket-Version: 13";
    return connection->head ? "expected GET" : NULL;
}

static void refuse(struct http_connection *connection, unsigned status, const char *message)
{
    atomic_fetch_add_explicit(&connection->thread->counters.streams_refused, 1, memory_order_relaxed);
    if (status == 426) connection->more_head = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    connection->keep_alive = false;
    http_error(connection, status, message);
}

static void grant(struct http_connection *connection, const struct request *request, const char *accept)
{
    struct tally_http *http = connection->thread->http;
    struct tally_view_info held;
    char answer[256];
    if (connection->thread->stopping) {
        refuse(connection, 503, "stopping: try again elsewhere, or later");
        return;
    }
    tally_feed_held(http->options.feed, &held);
    if (held.version == 0) {
        refuse(connection, 503, "nothing is held yet: try again later");
        return;
    }
    if (atomic_fetch_add(&http->streams, 1) >= http->options.streams_max) {
        atomic_fetch_sub(&http->streams, 1);
        refuse(connection, 503, "too many streams are open: try again elsewhere, or later");
        return;
    }
    (void)snprintf(answer, sizeof answer,
                   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                   "Sec-WebSocket-Accept: %s\r\n\r\n",
                   accept);
    if (http_guest_create(connection, request->epoch, request->version, answer)) {
        atomic_fetch_sub(&http->streams, 1);
        refuse(connection, 503, "out of memory");
    }
}

void http_get_stream(struct http_connection *connection)
{
    struct request request = {0};
    const struct http_query query = {take_from, &request, "the query: only dataset and from are known"};
    char accept[64];
    unsigned status;
    if (!connection->thread->http->options.feed) {
        refuse(connection, 404, "no such path");
        return;
    }
    const char *wrong = http_query_parse(connection, &query, &status);
    if (wrong) {
        refuse(connection, status, wrong);
    } else if ((wrong = check_handshake(connection))) {
        refuse(connection, 426, wrong);
    } else if (!accept_key(header(connection, HTTP_HEADER_KEY), accept)) {
        refuse(connection, 400, "Sec-WebSocket-Key: expected 16 bytes in base64");
    } else if (!http_origin_allowed(connection)) {
        refuse(connection, 403, "this Origin is not let in: the setting stream-origin names those that are");
    } else {
        grant(connection, &request, accept);
    }
}
