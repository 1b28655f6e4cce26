// SPDX-License-Identifier: Apache-2.0
#include "ingest.h"

#include <stdlib.h>
#include <tallycast/limits.h>

struct edge_ingest {
    struct tally_mailbox mailbox;
    uint32_t count;
    struct edge_requester lanes[];
};

static void on_mail(void *ctx, struct tally_mail *mail)
{
    struct edge_ingest *ingest = ctx;
    for (uint32_t i = 0; i < ingest->count; i++)
        if (edge_requester_take(&ingest->lanes[i], mail)) return;
}

enum tally_status edge_ingest_send(struct edge_ingest *ingest, uint32_t server, uint64_t request,
                                   struct tally_bytes bytes)
{
    enum tally_status status = edge_requester_send(&ingest->lanes[server], request, bytes);
    for (uint32_t i = 0; status == TALLY_OK && i < ingest->count; i++)
        if (i != server) edge_requester_give_up(&ingest->lanes[i]);
    return status;
}

static enum tally_status open_lane(struct edge_ingest *ingest, uint32_t server,
                                   const struct edge_ingest_options *options, const struct edge_requester_ops *ops,
                                   void *ctx, struct tally_reason *out_reason)
{
    const struct tally_endpoint_options endpoint = {.receive_bytes_max = TALLY_CONTROL_BYTES_MAX, .tls = &options->tls};
    const char *url = options->urls.items[server];
    int failed = edge_requester_open(&ingest->lanes[server], server, &ingest->mailbox, ops, ctx);
    if (failed) {
        tally_reason_set(out_reason, "no socket for %s: %s", url, nng_strerror(failed));
        return tally_status_from_nng(failed);
    }
    return tally_endpoint_dial(ingest->lanes[server].req, "count", url, &endpoint, NULL, out_reason);
}

enum tally_status edge_ingest_open(const struct edge_ingest_options *options, const struct edge_requester_ops *ops,
                                   void *ctx, uv_loop_t *loop, struct edge_ingest **out_ingest,
                                   struct tally_reason *out_reason)
{
    uint32_t count = (uint32_t)options->urls.count;
    struct edge_ingest *ingest = calloc(1, sizeof *ingest + count * sizeof *ingest->lanes);
    if (!ingest) {
        tally_reason_set(out_reason, "no memory");
        return TALLY_NO_MEMORY;
    }
    ingest->count = count;
    enum tally_status status = tally_mailbox_open(&ingest->mailbox, loop, on_mail, ingest);
    if (status != TALLY_OK) tally_reason_set(out_reason, "no mailbox: %s", tally_status_str(status));
    *out_ingest = ingest; // threads of NNG may hold it from here on: it is never freed
    for (uint32_t i = 0; status == TALLY_OK && i < count; i++)
        status = open_lane(ingest, i, options, ops, ctx, out_reason);
    return status;
}

void edge_ingest_stop(struct edge_ingest *ingest)
{
    for (uint32_t i = 0; ingest && i < ingest->count; i++) edge_requester_stop(&ingest->lanes[i]);
}
