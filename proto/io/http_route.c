// SPDX-License-Identifier: Apache-2.0
#include "http_internal.h"

static void healthz(struct http_connection *connection)
{
    static const char text[] = "{\"ok\":true}\n";
    connection->status = 200;
    connection->content_type = "application/json";
    tally_write_raw(&connection->answer, text, sizeof text - 1);
}

static const struct route {
    const char *path;
    void (*get)(struct http_connection *connection);
    void (*post)(struct http_connection *connection);
    const char *allow;
    void (*options)(struct http_connection *connection);
} routes[] = {
    {"/v1/version", http_get_version, NULL, "GET, HEAD", NULL},
    {"/v1/tables", http_get_tables, NULL, "GET, HEAD", NULL},
    {"/v1/get", NULL, http_post_get, "POST", NULL},
    {"/v1/count", NULL, http_post_count, "OPTIONS, POST", http_options_count},
    {"/v1/snapshot", http_get_snapshot, NULL, "GET, HEAD", NULL},
    {"/v1/stream", http_get_stream, NULL, "GET", NULL},
    {"/metrics", http_get_metrics, NULL, "GET, HEAD", NULL},
    {"/healthz", healthz, NULL, "GET, HEAD", NULL},
    {"/readyz", http_get_readyz, NULL, "GET, HEAD", NULL},
};

static void method_wrong(struct http_connection *connection, const char *allow)
{
    connection->allow = allow;
    http_error(connection, 405, "this path does not know that method");
}

void http_route(struct http_connection *connection)
{
    static const char key_path[] = "/v1/get/";
    static const char guest_path[] = "/v1/guest/";
    static const char table_path[] = "/v1/tables/";
    static const char top_path[] = "/v1/top/";
    const size_t key_path_size = sizeof key_path - 1, guest_path_size = sizeof guest_path - 1;
    const size_t table_path_size = sizeof table_path - 1, top_path_size = sizeof top_path - 1;
    const char *url = connection->url;
    size_t size = strcspn(url, "?");
    bool get = connection->parser.method == HTTP_GET || connection->head, post = connection->parser.method == HTTP_POST;
    if (size > key_path_size && memcmp(url, key_path, key_path_size) == 0) {
        if (get)
            http_get_key(connection, tally_bytes(url + key_path_size, size - key_path_size),
                         tally_bytes(url + size, strlen(url) - size));
        else
            method_wrong(connection, "GET, HEAD");
        return;
    }
    if (size > top_path_size && memcmp(url, top_path, top_path_size) == 0) {
        if (get)
            http_get_top(connection, tally_bytes(url + top_path_size, size - top_path_size));
        else
            method_wrong(connection, "GET, HEAD");
        return;
    }
    if (size > guest_path_size && memcmp(url, guest_path, guest_path_size) == 0) {
        if (!connection->thread->http->source.call)
            http_error(connection, 404, "there are no guests here");
        else if (get || post)
            http_call_guest(connection, tally_bytes(url + guest_path_size, strlen(url) - guest_path_size));
        else
            method_wrong(connection, "GET, HEAD, POST");
        return;
    }
    if (size > table_path_size && memcmp(url, table_path, table_path_size) == 0) {
        if (post)
            http_post_table(connection, tally_bytes(url + table_path_size, size - table_path_size));
        else
            method_wrong(connection, "POST");
        return;
    }
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        const struct route *route = &routes[i];
        if (strlen(route->path) != size || memcmp(url, route->path, size) != 0) continue;
        bool options = connection->parser.method == HTTP_OPTIONS;
        void (*handler)(struct http_connection *) = get       ? route->get
                                                    : post    ? route->post
                                                    : options ? route->options
                                                              : NULL;
        if (handler)
            handler(connection);
        else
            method_wrong(connection, route->allow);
        return;
    }
    if (get && http_get_file(connection, url, size)) return;
    if (!get && http_file_is(connection, url, size))
        method_wrong(connection, "GET, HEAD");
    else
        http_error(connection, 404, "no such path");
}
