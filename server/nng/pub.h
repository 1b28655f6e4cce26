// SPDX-License-Identifier: Apache-2.0
//
// The PUB socket. It never waits and may drop: what a subscriber misses it asks for (docs/protocol.md).
// Threads: open and send on one thread; the figures on any.
#ifndef TALLYCAST_SERVER_PUB_H
#define TALLYCAST_SERVER_PUB_H

#include <io/endpoint.h>
#include <stdatomic.h>
#include <tallycast/bytes.h>

struct tally_pub {
    nng_socket socket;
    bool opened;
    _Atomic uint64_t messages, bytes, failed;
    _Atomic uint64_t sent_bytes; // bytes times subscribers at that time: what went on the wire, drops apart
    _Atomic unsigned subscribers;
};

// The caller's storage, zeroed; stays as long as the process: nng_close (1.5.2) can wait for ever while a peer connects. Status as tally_endpoint_listen.
TALLY_CHECKED enum tally_status tally_pub_open(struct tally_pub *pub, const char *setting, const char *url,
                                               const struct tally_endpoint_options *endpoint,
                                               struct tally_reason *out_reason);
void tally_pub_send(struct tally_pub *pub, struct tally_bytes message);

#endif
