// SPDX-License-Identifier: Apache-2.0
//
// Requests that a guest of one's own answers. What it says is passed on as it is; which version it was said of is in the head.
#include "http_internal.h"

#include <stdio.h>

void http_call_guest(struct http_connection *connection, struct tally_bytes path)
{
    struct http_thread *thread = connection->thread;
    const struct tally_http_source *source = &thread->http->source;
    struct tally_http_reply *reply = &thread->reply;
    struct tally_reason reason = {{0}};
    size_t name_size = 0;
    while (name_size < path.size && path.data[name_size] != '/' && path.data[name_size] != '?') name_size++;
    const struct tally_http_call call = {
        .name = tally_bytes(path.data, name_size),
        .path = tally_bytes(path.data + name_size, path.size - name_size),
        .body = tally_writer_bytes(&connection->body),
        .post = connection->parser.method == HTTP_POST,
    };
    *reply = (struct tally_http_reply){.type = "application/json", .body = &connection->answer};
    unsigned instead = source->call(source->ctx, thread->number, thread->reader, &call, reply, &reason);
    if (instead) {
        http_error(connection, instead, reason.text);
    } else {
        connection->status = reply->status;
        connection->content_type = reply->type;
    }
    if (!reply->info.epoch) return;
    (void)snprintf(thread->reply_head, sizeof thread->reply_head,
                   "Tallycast-Epoch: %016llx\r\nTallycast-Version: %llu\r\nTallycast-Age-Ms: %llu\r\n",
                   (unsigned long long)reply->info.epoch, (unsigned long long)reply->info.version,
                   (unsigned long long)http_age_ms(connection, &reply->info));
    connection->more_head = thread->reply_head;
}
