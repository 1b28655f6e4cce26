// SPDX-License-Identifier: Apache-2.0
#include "http_internal.h"

// One NAME=VALUE, decoded and NUL-terminated.
static const char *take_parameter(struct http_connection *connection, char *name, const struct http_query *query,
                                  unsigned *out_status)
{
    struct tally_http_state state;
    const struct tally_http_source *source = &connection->thread->http->source;
    const char *wrong = NULL;
    char *value = strchr(name, '=');
    if (!value) return "the query: expected NAME=VALUE";
    *value++ = '\0';
    if (query->take(query->ctx, name, value, &wrong)) return wrong;
    if (strcmp(name, "dataset") != 0) return query->unknown;
    source->state(source->ctx, &state);
    if (strcmp(value, state.dataset) == 0) return NULL;
    *out_status = 404;
    return "another dataset is held here: /v1/version names it";
}

const char *http_query_parse(struct http_connection *connection, const struct http_query *query, unsigned *out_status)
{
    const char *at = strchr(connection->url, '?');
    char *decoded = (char *)connection->thread->decoded;
    *out_status = 400;
    for (at = at ? at + 1 : ""; *at;) {
        size_t size = strcspn(at, "&"), decoded_size;
        if (!http_percent_decode(tally_bytes(at, size), connection->thread->decoded, &decoded_size))
            return "the query: a bad percent escape";
        decoded[decoded_size] = '\0';
        if (strlen(decoded) != decoded_size) return "the query: a NUL";
        const char *wrong = take_parameter(connection, decoded, query, out_status);
        if (wrong) return wrong;
        at += size + (at[size] == '&');
    }
    return NULL;
}
