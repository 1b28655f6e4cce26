// SPDX-License-Identifier: Apache-2.0
#include "links.h"

#include <nng/protocol/pubsub0/sub.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// Frames that wait in NNG while one is being applied. At a tick of 20 ms this is five seconds of them.
#define RECEIVE_FRAMES 256

struct link {
    struct edge_links *links;
    uint32_t server;

    nng_socket sub;
    nng_aio *receive;
    struct tally_mail received; // the aio has a result

    // The connection of `sub` that is up, 0: none: as NNG's threads say, and as the loop's thread has told.
    atomic_int pipe;
    int pipe_told;

    struct edge_requester requester;
};

struct edge_links {
    const struct edge_links_ops *ops;
    void *ctx;
    struct tally_mailbox mailbox;
    uv_async_t connections;
    bool stopped;
    uint32_t count;
    struct link links[];
};

// ---------------------------------------------------------------------------------------------------- NNG's threads

static void on_received(void *ctx)
{
    struct link *link = ctx;
    tally_mailbox_put(&link->links->mailbox, &link->received);
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *ctx)
{
    struct link *link = ctx;
    // A connection that is refused (another protocol at the other end) goes without having come.
    int id = nng_pipe_id(pipe), up = id;
    if (event == NNG_PIPE_EV_ADD_POST)
        atomic_store(&link->pipe, id);
    else
        (void)atomic_compare_exchange_strong(&link->pipe, &up, 0);
    (void)uv_async_send(&link->links->connections);
}

// ---------------------------------------------------------------------------------------------------- the loop's thread

static void tell_connections(uv_async_t *async)
{
    struct edge_links *links = async->data;
    for (uint32_t i = 0; i < links->count && !links->stopped; i++) {
        struct link *link = &links->links[i];
        int pipe = atomic_load(&link->pipe), told = link->pipe_told;
        if (pipe == told) continue;
        link->pipe_told = pipe;
        if (told) links->ops->disconnected(links->ctx, i);
        if (pipe) links->ops->connected(links->ctx, i);
    }
}

static void take_received(struct link *link)
{
    struct edge_links *links = link->links;
    if (links->stopped) return;
    if (nng_aio_result(link->receive) == 0) {
        nng_msg *message = nng_aio_get_msg(link->receive);
        links->ops->message(links->ctx, link->server, tally_bytes(nng_msg_body(message), nng_msg_len(message)));
        nng_msg_free(message);
    }
    nng_recv_aio(link->sub, link->receive);
}

static void on_mail(void *ctx, struct tally_mail *mail)
{
    struct edge_links *links = ctx;
    for (uint32_t i = 0; i < links->count; i++) {
        if (mail == &links->links[i].received) take_received(&links->links[i]);
        if (edge_requester_take(&links->links[i].requester, mail)) return;
    }
}

enum tally_status edge_links_send(struct edge_links *links, uint32_t server, uint64_t request, struct tally_bytes bytes)
{
    return edge_requester_send(&links->links[server].requester, request, bytes);
}

// ---------------------------------------------------------------------------------------------------- opening

static int open_sockets(struct link *link, const char *dataset)
{
    int failed = nng_sub0_open(&link->sub);
    if (!failed) failed = nng_setopt_int(link->sub, NNG_OPT_RECVBUF, RECEIVE_FRAMES);
    // Topic: the name and the zero after it.
    if (!failed) failed = nng_setopt(link->sub, NNG_OPT_SUB_SUBSCRIBE, dataset, strlen(dataset) + 1);
    if (!failed) failed = nng_pipe_notify(link->sub, NNG_PIPE_EV_ADD_POST, on_pipe, link);
    if (!failed) failed = nng_pipe_notify(link->sub, NNG_PIPE_EV_REM_POST, on_pipe, link);
    if (!failed) failed = nng_aio_alloc(&link->receive, on_received, link);
    if (!failed)
        failed = edge_requester_open(&link->requester, link->server, &link->links->mailbox, &link->links->ops->requests,
                                     link->links->ctx);
    return failed;
}

static enum tally_status open_link(struct link *link, const struct edge_links_options *options,
                                   struct tally_reason *out_reason)
{
    const struct tally_endpoint_options endpoint = {.receive_bytes_max = TALLY_ANSWER_BYTES_MAX, .tls = &options->tls};
    int failed = open_sockets(link, options->dataset);
    if (failed) {
        tally_reason_set(out_reason, "no sockets for %s: %s", options->subscribe.items[link->server],
                         nng_strerror(failed));
        return tally_status_from_nng(failed);
    }
    enum tally_status status = tally_endpoint_dial(link->sub, "subscribe", options->subscribe.items[link->server],
                                                   &endpoint, NULL, out_reason);
    if (status == TALLY_OK)
        status = tally_endpoint_dial(link->requester.req, "catchup", options->catch_up.items[link->server], &endpoint,
                                     NULL, out_reason);
    if (status == TALLY_OK) nng_recv_aio(link->sub, link->receive);
    return status;
}

enum tally_status edge_links_open(const struct edge_links_options *options, const struct edge_links_ops *ops, void *ctx,
                                  uv_loop_t *loop, struct edge_links **out_links, struct tally_reason *out_reason)
{
    uint32_t count = (uint32_t)options->subscribe.count;
    struct edge_links *links = calloc(1, sizeof *links + count * sizeof *links->links);
    if (!links) {
        tally_reason_set(out_reason, "no memory");
        return TALLY_NO_MEMORY;
    }
    links->ops = ops;
    links->ctx = ctx;
    links->count = count;
    links->connections.data = links;
    enum tally_status status = tally_mailbox_open(&links->mailbox, loop, on_mail, links);
    if (status == TALLY_OK && uv_async_init(loop, &links->connections, tell_connections)) status = TALLY_IO;
    if (status != TALLY_OK) tally_reason_set(out_reason, "no mailbox: %s", tally_status_str(status));
    for (uint32_t i = 0; i < count; i++) {
        links->links[i].links = links;
        links->links[i].server = i;
    }
    *out_links = links; // threads of NNG may hold it from here on: it is never freed
    for (uint32_t i = 0; status == TALLY_OK && i < count; i++)
        status = open_link(&links->links[i], options, out_reason);
    return status;
}

void edge_links_stop(struct edge_links *links)
{
    if (!links) return;
    links->stopped = true;
    for (uint32_t i = 0; i < links->count; i++) edge_requester_stop(&links->links[i].requester);
}
