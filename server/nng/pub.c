// SPDX-License-Identifier: Apache-2.0
#include "pub.h"

#include <nng/protocol/pubsub0/pub.h>

// Messages that wait for one slow subscriber before further ones are dropped for it.
#define SEND_BUFFER 128

// NNG's threads.
static void on_subscriber(nng_pipe pipe, nng_pipe_ev event, void *argument)
{
    struct tally_pub *pub = argument;
    (void)pipe;
    if (event == NNG_PIPE_EV_ADD_POST)
        atomic_fetch_add(&pub->subscribers, 1);
    else
        atomic_fetch_sub(&pub->subscribers, 1);
}

enum tally_status tally_pub_open(struct tally_pub *pub, const char *setting, const char *url,
                                 const struct tally_endpoint_options *endpoint, struct tally_reason *out_reason)
{
    tally_reason_set(out_reason, "--%s %s: %s", setting, url, tally_status_str(TALLY_NO_MEMORY));
    int failed = nng_pub0_open(&pub->socket);
    if (failed) return tally_status_from_nng(failed);
    pub->opened = true;
    if ((failed = nng_pipe_notify(pub->socket, NNG_PIPE_EV_ADD_POST, on_subscriber, pub)) ||
        (failed = nng_pipe_notify(pub->socket, NNG_PIPE_EV_REM_POST, on_subscriber, pub)) ||
        (failed = nng_socket_set_int(pub->socket, NNG_OPT_SENDBUF, SEND_BUFFER))) {
        tally_reason_set(out_reason, "--%s %s: %s", setting, url, nng_strerror(failed));
        return tally_status_from_nng(failed);
    }
    return tally_endpoint_listen(pub->socket, setting, url, endpoint, NULL, out_reason);
}

void tally_pub_send(struct tally_pub *pub, struct tally_bytes message)
{
    nng_msg *copy;
    if (nng_msg_alloc(&copy, message.size)) {
        atomic_fetch_add(&pub->failed, 1);
        return;
    }
    memcpy(nng_msg_body(copy), message.data, message.size);
    if (nng_sendmsg(pub->socket, copy, NNG_FLAG_NONBLOCK)) {
        nng_msg_free(copy);
        atomic_fetch_add(&pub->failed, 1);
        return;
    }
    atomic_fetch_add(&pub->messages, 1);
    atomic_fetch_add(&pub->bytes, message.size);
    atomic_fetch_add(&pub->sent_bytes, message.size * atomic_load(&pub->subscribers));
}
