// SPDX-License-Identifier: Apache-2.0
#include "links.h"

#include <io/mailbox.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

// Frames that wait in NNG while one is being applied. At a tick of 20 ms this is five seconds of them.
#define RECEIVE_FRAMES 256
// NNG may send a request again by itself after so long. The sync core does that, sooner and to another server.
#define RESEND_MS (3600 * 1000)
// Longer than the sync core waits: ends the operation of a server that is not there.
#define REQUEST_MS 30000

enum request_state { REQUEST_IDLE, REQUEST_SENDING, REQUEST_RECEIVING };

struct link {
    struct edge_links *links;
    uint32_t server;

    nng_socket sub;
    nng_aio *receive;
    struct tally_mail received; // the aio has a result

    // The connection of `sub` that is up, 0: none: as NNG's threads say, and as the loop's thread has told.
    atomic_int pipe;
    int pipe_told;

    nng_socket req;
    nng_ctx context;
    nng_aio *ask;
    struct tally_mail asked;  // the aio has a result
    enum request_state state; // the loop's thread
    bool given_up;            // what is on its way is of no interest
    uint64_t request, request_next;
    nng_msg *next; // to be sent when what is on its way has ended; owned
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

static struct link *link_of_receive(struct tally_mail *mail)
{
    return (struct link *)(void *)((char *)mail - offsetof(struct link, received));
}

static struct link *link_of_ask(struct tally_mail *mail)
{
    return (struct link *)(void *)((char *)mail - offsetof(struct link, asked));
}

// ---------------------------------------------------------------------------------------------------- NNG's threads

static void on_received(void *ctx)
{
    struct link *link = ctx;
    tally_mailbox_put(&link->links->mailbox, &link->received);
}

static void on_asked(void *ctx)
{
    struct link *link = ctx;
    tally_mailbox_put(&link->links->mailbox, &link->asked);
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

static void start_request(struct link *link)
{
    link->state = REQUEST_SENDING;
    link->given_up = false;
    link->request = link->request_next;
    nng_aio_set_timeout(link->ask, REQUEST_MS);
    nng_aio_set_msg(link->ask, link->next);
    link->next = NULL;
    nng_ctx_send(link->context, link->ask);
}

static void take_asked(struct link *link)
{
    struct edge_links *links = link->links;
    int failed = nng_aio_result(link->ask);
    nng_msg *message = NULL;
    if (failed && link->state == REQUEST_SENDING) nng_msg_free(nng_aio_get_msg(link->ask)); // was not taken
    if (!failed && link->state == REQUEST_RECEIVING) message = nng_aio_get_msg(link->ask);
    bool sent = !failed && link->state == REQUEST_SENDING;
    if (sent && !link->given_up && !links->stopped) {
        link->state = REQUEST_RECEIVING;
        nng_ctx_recv(link->context, link->ask);
        return;
    }
    link->state = REQUEST_IDLE;
    // A request that comes in from the calls below finds the link idle.
    if (!link->given_up && !links->stopped) {
        if (message)
            links->ops->answer(links->ctx, link->server, link->request,
                               tally_bytes(nng_msg_body(message), nng_msg_len(message)));
        else
            links->ops->failed(links->ctx, link->server, link->request, tally_status_from_nng(failed));
    }
    if (message) nng_msg_free(message);
    if (link->state == REQUEST_IDLE && link->next && !links->stopped) start_request(link);
}

static void on_mail(void *ctx, struct tally_mail *mail)
{
    struct edge_links *links = ctx;
    for (uint32_t i = 0; i < links->count; i++) {
        if (mail == &links->links[i].received)
            take_received(link_of_receive(mail));
        else if (mail == &links->links[i].asked)
            take_asked(link_of_ask(mail));
    }
}

enum tally_status edge_links_send(struct edge_links *links, uint32_t server, uint64_t request, struct tally_bytes bytes)
{
    struct link *link = &links->links[server];
    nng_msg *message;
    if (nng_msg_alloc(&message, 0)) return TALLY_NO_MEMORY;
    if (nng_msg_append(message, bytes.data, bytes.size)) {
        nng_msg_free(message);
        return TALLY_NO_MEMORY;
    }
    if (link->next) nng_msg_free(link->next);
    link->next = message;
    link->request_next = request;
    if (link->state == REQUEST_IDLE) {
        start_request(link);
    } else {
        link->given_up = true;
        nng_aio_cancel(link->ask);
    }
    return TALLY_OK;
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
    if (!failed) failed = nng_req0_open(&link->req);
    if (!failed) failed = nng_setopt_ms(link->req, NNG_OPT_REQ_RESENDTIME, RESEND_MS);
    if (!failed) failed = nng_ctx_open(&link->context, link->req);
    if (!failed) failed = nng_aio_alloc(&link->ask, on_asked, link);
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
        status = tally_endpoint_dial(link->req, "catchup", options->catch_up.items[link->server], &endpoint, NULL,
                                     out_reason);
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
    if (links) links->stopped = true;
}
