// SPDX-License-Identifier: Apache-2.0
#include "http_internal.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static const struct tally_http_source *source_of(const struct http_connection *connection)
{
    return &connection->thread->http->source;
}

void http_json_begin(struct http_connection *connection, unsigned status, struct tally_json *out_json)
{
    connection->status = status;
    connection->content_type = "application/json";
    connection->answer.size = 0;
    *out_json = tally_json(&connection->answer);
    tally_json_object_begin(out_json, NULL);
}

void http_json_end(struct http_connection *connection, struct tally_json *json)
{
    tally_json_object_end(json);
    tally_write_raw(&connection->answer, "\n", 1);
}

void http_error(struct http_connection *connection, unsigned status, const char *message)
{
    struct tally_json json;
    http_json_begin(connection, status, &json);
    tally_json_str(&json, "error", message);
    http_json_end(connection, &json);
}

// ---------------------------------------------------------------------------------------------------- what every answer names

uint64_t http_age_ms(const struct http_connection *connection, const struct tally_view_info *info)
{
    const struct tally_http_source *source = source_of(connection);
    uint64_t now_ms;
    if (source->now_ms) {
        now_ms = source->now_ms(source->ctx);
    } else {
        struct timespec now;
        (void)clock_gettime(CLOCK_REALTIME, &now);
        now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    }
    return now_ms > info->fresh_ms ? now_ms - info->fresh_ms : 0;
}

void http_version_fields(struct http_connection *connection, struct tally_json *json,
                         const struct tally_view_info *info)
{
    struct tally_http_state state;
    source_of(connection)->state(source_of(connection)->ctx, &state);
    tally_json_str(json, "dataset", state.dataset);
    tally_json_hex64(json, "epoch", info->epoch);
    tally_json_u64(json, "version", info->version);
    if (info->version)
        tally_json_u64(json, "age_ms", http_age_ms(connection, info));
    else
        tally_json_null(json, "age_ms");
}

bool http_pin(struct http_connection *connection, struct tally_http_view *out_view, struct tally_view_info *out_info)
{
    const struct tally_http_source *source = source_of(connection);
    void *reader = connection->thread->reader;
    enum tally_status status = source->pin(reader, out_view);
    if (status) {
        http_error(connection, 503, status == TALLY_BUSY ? "nothing is held yet" : tally_status_str(status));
        return false;
    }
    source->info(reader, out_view, out_info);
    return true;
}

// ---------------------------------------------------------------------------------------------------- version, tables

void http_get_version(struct http_connection *connection)
{
    const struct tally_http_source *source = source_of(connection);
    struct tally_http_view view;
    struct tally_view_info info = {0};
    struct tally_http_state state;
    struct tally_json json;
    char digest[TALLY_DIGEST_HEX_BYTES];
    if (source->pin(connection->thread->reader, &view) == TALLY_OK) {
        source->info(connection->thread->reader, &view, &info);
        source->unpin(connection->thread->reader, &view);
    }
    source->state(source->ctx, &state);
    (void)snprintf(digest, sizeof digest, "%016llx%016llx", (unsigned long long)info.digest.hi,
                   (unsigned long long)info.digest.lo);
    http_json_begin(connection, 200, &json);
    tally_json_str(&json, "dataset", state.dataset);
    tally_json_hex64(&json, "epoch", info.epoch);
    tally_json_u64(&json, "version", info.version);
    tally_json_str(&json, "digest", digest);
    tally_json_u64(&json, "keys", info.rows);
    if (info.version)
        tally_json_time(&json, "cut_at", info.cut_ms);
    else
        tally_json_null(&json, "cut_at");
    if (info.version)
        tally_json_u64(&json, "age_ms", http_age_ms(connection, &info));
    else
        tally_json_null(&json, "age_ms");
    tally_json_u64(&json, "lag", state.newest_version > info.version ? state.newest_version - info.version : 0);
    tally_json_str(&json, "state", state.state);
    tally_json_str(&json, "name", state.name);
    if (state.client) tally_json_str(&json, "client", state.client);
    http_json_end(connection, &json);
}

void http_get_tables(struct http_connection *connection)
{
    const struct tally_http_source *source = source_of(connection);
    struct tally_http_view view;
    struct tally_view_info info;
    struct tally_table_info table;
    struct tally_json json;
    if (!http_pin(connection, &view, &info)) return;
    http_json_begin(connection, 200, &json);
    tally_json_array_begin(&json, "tables");
    for (uint32_t i = 0; i < info.tables; i++) {
        if (source->table_info(connection->thread->reader, &view, i, &table)) continue;
        tally_json_object_begin(&json, NULL);
        tally_json_bytes(&json, "table", table.name);
        tally_json_str(&json, "kind", tally_kind_name(table.kind));
        tally_json_u64(&json, "keys", table.rows);
        int64_t overflow;
        if (source->get(connection->thread->reader, &view, i, tally_overflow_key(), &overflow) == TALLY_OK)
            tally_json_i64(&json, "overflow", overflow);
        tally_json_object_end(&json);
    }
    tally_json_array_end(&json);
    http_version_fields(connection, &json, &info);
    http_json_end(connection, &json);
    source->unpin(connection->thread->reader, &view);
}

// ---------------------------------------------------------------------------------------------------- one key

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// Into `out`, which holds as much as `text`. False for a % without two digits.
bool http_percent_decode(struct tally_bytes text, uint8_t *out, size_t *out_size)
{
    size_t size = 0;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t byte = text.data[i];
        if (byte == '%') {
            int high = i + 2 < text.size ? hex_digit((char)text.data[i + 1]) : -1;
            int low = i + 2 < text.size ? hex_digit((char)text.data[i + 2]) : -1;
            if (high < 0 || low < 0) return false;
            byte = (uint8_t)(high << 4 | low);
            i += 2;
        }
        out[size++] = byte;
    }
    *out_size = size;
    return true;
}

// Splits "table/key" and decodes both into the thread's scratch. Null, or what is wrong.
static const char *key_path_parse(struct http_thread *thread, struct tally_bytes path, struct tally_bytes *out_table,
                                  struct tally_bytes *out_key)
{
    const uint8_t *slash = memchr(path.data, '/', path.size);
    size_t table_size, key_size;
    if (!slash) return "expected /v1/get/{table}/{key}";
    size_t table_end = (size_t)(slash - path.data);
    if (!http_percent_decode(tally_bytes(path.data, table_end), thread->decoded, &table_size) ||
        !http_percent_decode(tally_bytes(slash + 1, path.size - table_end - 1), thread->decoded + table_size,
                             &key_size))
        return "a % in the path is not followed by two hexadecimal digits";
    *out_table = tally_bytes(thread->decoded, table_size);
    *out_key = tally_bytes(thread->decoded + table_size, key_size);
    if (!tally_name_valid(*out_table)) return "a table's name is 1 to 64 of a-z 0-9 _ . -";
    if (key_size == 0) return "the key is empty";
    if (key_size > TALLY_KEY_BYTES_MAX) return "the key is longer than 1024 bytes";
    return NULL;
}

// What `mine` does to the value.
static const char *const countings[TALLY_COUNTINGS] = {
    [TALLY_COUNTING_ADD] = "add",      [TALLY_COUNTING_TOPK] = "add", [TALLY_COUNTING_SET] = "set",
    [TALLY_COUNTING_ADJUST] = "add",   [TALLY_COUNTING_MIN] = "min",  [TALLY_COUNTING_MAX] = "max",
    [TALLY_COUNTING_MEMBER] = "member"};

// The key with what was counted here and is not in its value.
static void get_mine(struct http_connection *connection, struct tally_bytes table, struct tally_bytes key)
{
    const struct tally_http_source *source = source_of(connection);
    struct http_thread *thread = connection->thread;
    struct tally_http_mine mine;
    struct tally_json json;
    if (!source->get_mine) {
        http_error(connection, 400, "mine: nothing is counted here");
        return;
    }
    enum tally_status status = source->get_mine(source->ctx, thread->number, thread->reader, table, key, &mine);
    if (status == TALLY_UNSUPPORTED) {
        http_error(connection, 400, "mine: members that wait cannot be added to the estimate of a distinct table");
        return;
    }
    if (status != TALLY_OK) {
        http_error(connection, 503, tally_status_str(status));
        return;
    }
    bool found = mine.found || mine.mine.any;
    http_json_begin(connection, found ? 200 : 404, &json);
    if (!found) tally_json_str(&json, "error", "not found");
    tally_json_bytes(&json, "table", table);
    tally_json_bytes(&json, "key", key);
    if (!tally_utf8_valid(key)) tally_json_base64(&json, "key_base64", key);
    tally_json_i64(&json, "value", mine.value);
    tally_json_i64(&json, "mine", mine.mine.number);
    tally_json_str(&json, "counting", mine.mine.any ? countings[mine.mine.counting] : "nothing");
    tally_json_i64(&json, "total", mine.total);
    tally_json_u64(&json, "in_doubt", mine.in_doubt);
    http_version_fields(connection, &json, &mine.info);
    http_json_end(connection, &json);
}

void http_get_key(struct http_connection *connection, struct tally_bytes path, struct tally_bytes query)
{
    const struct tally_http_source *source = source_of(connection);
    struct http_thread *thread = connection->thread;
    struct tally_http_view view;
    struct tally_view_info info;
    struct tally_bytes table, key;
    struct tally_json json;
    int64_t value = 0;
    bool found = false;
    const char *wrong = key_path_parse(thread, path, &table, &key);
    if (wrong) {
        http_error(connection, 400, wrong);
        return;
    }
    if (tally_bytes_equal(query, tally_bytes("?mine=1", 7))) {
        get_mine(connection, table, key);
        return;
    }
    if (!http_pin(connection, &view, &info)) return;
    enum tally_status status = tally_http_get_many(source, thread->reader, &view, table, &key, 1, &value, &found);
    source->unpin(thread->reader, &view);
    if (status && status != TALLY_NOT_FOUND) {
        http_error(connection, 503, tally_status_str(status));
        return;
    }
    found = found && status == TALLY_OK;
    http_json_begin(connection, found ? 200 : 404, &json);
    if (!found) tally_json_str(&json, "error", "not found");
    tally_json_bytes(&json, "table", table);
    tally_json_bytes(&json, "key", key);
    if (!tally_utf8_valid(key)) tally_json_base64(&json, "key_base64", key);
    if (found) tally_json_i64(&json, "value", value);
    http_version_fields(connection, &json, &info);
    http_json_end(connection, &json);
}

// ---------------------------------------------------------------------------------------------------- many keys

// jansson allocates for every value: a body of nothing but brackets would make it take forty times its size. Counts what separates
// values, outside strings.
static bool json_modest(struct tally_bytes text)
{
    size_t marks = 0;
    bool inside = false;
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (inside && c == '\\')
            i++;
        else if (c == '"')
            inside = !inside;
        else if (!inside && (c == ',' || c == '[' || c == '{'))
            marks++;
    }
    return marks <= TALLY_QUERY_KEYS_MAX + 8;
}

// Fills the thread's keys, which point into `root`. Null, or what is wrong.
static const char *keys_take(struct http_thread *thread, json_t *root, struct tally_bytes *out_table, size_t *out_count)
{
    json_t *table = json_object_get(root, "table"), *keys = json_object_get(root, "keys");
    if (!json_is_string(table) || !json_is_array(keys))
        return "expected {\"table\": \"...\", \"keys\": [\"...\", ...]}";
    *out_table = tally_bytes(json_string_value(table), json_string_length(table));
    if (!tally_name_valid(*out_table)) return "a table's name is 1 to 64 of a-z 0-9 _ . -";
    size_t count = json_array_size(keys);
    if (count > TALLY_QUERY_KEYS_MAX) return "more than 4096 keys";
    for (size_t i = 0; i < count; i++) {
        json_t *key = json_array_get(keys, i);
        if (!json_is_string(key)) return "a key is no string";
        thread->keys[i] = tally_bytes(json_string_value(key), json_string_length(key));
        if (thread->keys[i].size == 0) return "a key is empty";
        if (thread->keys[i].size > TALLY_KEY_BYTES_MAX) return "a key is longer than 1024 bytes";
    }
    *out_count = count;
    return NULL;
}

static void keys_answer(struct http_connection *connection, struct tally_bytes table, size_t count)
{
    const struct tally_http_source *source = source_of(connection);
    struct http_thread *thread = connection->thread;
    struct tally_http_view view;
    struct tally_view_info info;
    struct tally_json json;
    if (!http_pin(connection, &view, &info)) return;
    enum tally_status status =
        tally_http_get_many(source, thread->reader, &view, table, thread->keys, count, thread->values, thread->found);
    source->unpin(thread->reader, &view);
    if (status && status != TALLY_NOT_FOUND) {
        http_error(connection, 503, tally_status_str(status));
        return;
    }
    http_json_begin(connection, 200, &json);
    tally_json_bytes(&json, "table", table);
    tally_json_array_begin(&json, "values");
    for (size_t i = 0; i < count; i++) {
        if (status == TALLY_OK && thread->found[i])
            tally_json_i64(&json, NULL, thread->values[i]);
        else
            tally_json_null(&json, NULL);
    }
    tally_json_array_end(&json);
    http_version_fields(connection, &json, &info);
    http_json_end(connection, &json);
}

void http_post_get(struct http_connection *connection)
{
    struct tally_bytes body = tally_writer_bytes(&connection->body), table;
    json_error_t error;
    size_t count;
    if (!json_modest(body)) {
        http_error(connection, 413, "more than 4096 keys");
        return;
    }
    json_t *root = json_loadb(body.size ? (const char *)body.data : "", body.size,
                              JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!root) {
        struct tally_reason reason;
        tally_reason_set(&reason, "the body is no JSON: %s at byte %d", error.text, error.position);
        http_error(connection, 400, reason.text);
        return;
    }
    const char *wrong = keys_take(connection->thread, root, &table, &count);
    if (wrong)
        http_error(connection, 400, wrong);
    else
        keys_answer(connection, table, count);
    json_decref(root);
}
