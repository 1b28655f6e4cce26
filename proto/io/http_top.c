// SPDX-License-Identifier: Apache-2.0
//
// GET /v1/top/{table}?k=N: its greatest rows of one version, by a look at each; so not of large tables, for which a topk table is kept.
#include "http_internal.h"

#include <stdlib.h>
#include <tallycast/top.h>

#define K_DEFAULT 10u

static bool take_k(void *ctx, const char *name, const char *value, const char **out_wrong)
{
    uint32_t *k = ctx;
    char *end;
    if (strcmp(name, "k") != 0) return false;
    unsigned long number = *value >= '0' && *value <= '9' ? strtoul(value, &end, 10) : 0;
    if (!number || *end || number > TALLY_TOP_ROWS_MAX)
        *out_wrong = "the query: k is 1 to 1000";
    else
        *k = (uint32_t)number;
    return true;
}

static enum tally_status scan(struct http_connection *connection, const struct tally_http_view *view, uint32_t table,
                              struct tally_best *top)
{
    const struct tally_http_source *source = &connection->thread->http->source;
    struct tally_cursor cursor = {.table = table};
    struct tally_row row;
    enum tally_status status;
    while ((status = source->next(connection->thread->reader, view, &cursor, &row)) == TALLY_OK && row.table == table)
        tally_best_offer(top, &row);
    tally_best_sort(top);
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

// The table that holds how far the counts of `name`, a topk table, may be too great; false: there is none.
static bool find_errors(struct http_connection *connection, const struct tally_http_view *view, struct tally_bytes name,
                        enum tally_kind kind, uint32_t *out_table)
{
    const struct tally_http_source *source = &connection->thread->http->source;
    static const char suffix[] = ".error";
    uint8_t errors[TALLY_NAME_BYTES_MAX + sizeof suffix];
    if (kind != TALLY_KIND_TOPK) return false;
    memcpy(errors, name.data, name.size);
    memcpy(errors + name.size, suffix, sizeof suffix - 1);
    return source->table(connection->thread->reader, view, tally_bytes(errors, name.size + sizeof suffix - 1),
                         out_table) == TALLY_OK;
}

static void answer(struct http_connection *connection, const struct tally_http_view *view,
                   const struct tally_view_info *info, struct tally_bytes name, enum tally_kind kind,
                   const struct tally_best *top)
{
    const struct tally_http_source *source = &connection->thread->http->source;
    struct tally_json json;
    uint32_t errors;
    int64_t error;
    bool bounded = find_errors(connection, view, name, kind, &errors);
    http_json_begin(connection, 200, &json);
    tally_json_bytes(&json, "table", name);
    tally_json_array_begin(&json, "rows");
    for (uint32_t i = 0; i < top->count; i++) {
        const struct tally_row *row = &top->rows[i];
        tally_json_object_begin(&json, NULL);
        tally_json_bytes(&json, "key", row->key);
        if (!tally_utf8_valid(row->key)) tally_json_base64(&json, "key_base64", row->key);
        tally_json_i64(&json, "value", row->value);
        if (bounded && source->get(connection->thread->reader, view, errors, row->key, &error) == TALLY_OK)
            tally_json_i64(&json, "error", error);
        tally_json_object_end(&json);
    }
    tally_json_array_end(&json);
    http_version_fields(connection, &json, info);
    http_json_end(connection, &json);
}

static void no_table(struct http_connection *connection, const struct tally_view_info *info, struct tally_bytes name)
{
    struct tally_json json;
    http_json_begin(connection, 404, &json);
    tally_json_str(&json, "error", "not found");
    tally_json_bytes(&json, "table", name);
    http_version_fields(connection, &json, info);
    http_json_end(connection, &json);
}

// With the view pinned.
static void top_of(struct http_connection *connection, const struct tally_http_view *view,
                   const struct tally_view_info *info, struct tally_bytes name, struct tally_best *top)
{
    const struct tally_http_source *source = &connection->thread->http->source;
    void *reader = connection->thread->reader;
    struct tally_table_info table;
    uint32_t number;
    enum tally_status status = source->table(reader, view, name, &number);
    if (status == TALLY_OK) status = source->table_info(reader, view, number, &table);
    if (status == TALLY_OK && table.rows > TALLY_TOP_SCAN_ROWS_MAX) {
        http_error(connection, 422, "the table has over 262144 keys: define a topk table of it, which a server keeps");
        return;
    }
    if (status == TALLY_OK) status = scan(connection, view, number, top);
    if (status == TALLY_OK)
        answer(connection, view, info, name, table.kind, top);
    else if (status == TALLY_NOT_FOUND)
        no_table(connection, info, name);
    else
        http_error(connection, 503, tally_status_str(status));
}

void http_get_top(struct http_connection *connection, struct tally_bytes table)
{
    uint32_t k = K_DEFAULT;
    const struct http_query query = {take_k, &k, "the query: only dataset and k are known"};
    struct tally_http_view view;
    struct tally_view_info info;
    unsigned status = 400;
    const char *wrong = tally_name_valid(table) ? http_query_parse(connection, &query, &status)
                                                : "a table's name is 1 to 64 of a-z 0-9 _ . -";
    if (wrong) {
        http_error(connection, status, wrong);
        return;
    }
    struct tally_best top = {.rows = malloc(k * sizeof *top.rows), .capacity = k};
    if (!top.rows) {
        http_error(connection, 503, "out of memory");
        return;
    }
    if (http_pin(connection, &view, &info)) {
        top_of(connection, &view, &info, table, &top);
        connection->thread->http->source.unpin(connection->thread->reader, &view);
    }
    free(top.rows);
}
