// SPDX-License-Identifier: Apache-2.0
//
// Files that are answered as they are. A browser keeps them and asks each time whether they are still the same: the tag is a hash of the bytes.
#include "http_internal.h"

#include <stdio.h>
#include <tallycast/siphash.h>

static const struct tally_http_file *find(const struct http_connection *connection, const char *path, size_t path_size)
{
    const struct tally_http_options *options = &connection->thread->http->options;
    for (size_t i = 0; i < options->files_count; i++)
        if (strlen(options->files[i].path) == path_size && memcmp(options->files[i].path, path, path_size) == 0)
            return &options->files[i];
    return NULL;
}

bool http_file_is(const struct http_connection *connection, const char *path, size_t path_size)
{
    return find(connection, path, path_size) != NULL;
}

bool http_get_file(struct http_connection *connection, const char *path, size_t path_size)
{
    const struct tally_http_file *file = find(connection, path, path_size);
    char tag[24];
    if (!file) return false;
    // 0.1 ms for the largest: no need to keep it.
    uint64_t hash = tally_siphash((struct tally_seed){0}, file->bytes, file->size);
    (void)snprintf(tag, sizeof tag, "\"%016llx\"", (unsigned long long)hash);
    bool same = strstr(connection->headers.values[HTTP_HEADER_NONE_MATCH].text, tag) != NULL;
    connection->status = same ? 304 : 200;
    connection->content_type = file->content_type;
    connection->file = tally_bytes(file->bytes, file->size);
    (void)snprintf(connection->file_head, sizeof connection->file_head, "Cache-Control: no-cache\r\nETag: %s\r\n%s",
                   tag, file->head);
    connection->more_head = connection->file_head;
    return true;
}
