// SPDX-License-Identifier: Apache-2.0
//
// A REQ socket to one endpoint of one server, with one request on its way at a time; a newer one takes its place. What NNG's threads receive is handed to
// the loop's thread by the owner's mailbox; everything here is the loop's. Once a process: there is no closing, NNG 1.5.2 has faults in it; the
// socket ends with the process.
#ifndef TALLYCAST_EDGE_REQUESTER_H
#define TALLYCAST_EDGE_REQUESTER_H

#include <io/endpoint.h>
#include <io/mailbox.h>
#include <tallycast/bytes.h>

struct edge_requester_ops {
    // On the loop's thread; `server` is the place in the list of URLs. Bytes are borrowed for the call.
    void (*answer)(void *ctx, uint32_t server, uint64_t request, struct tally_bytes answer);
    void (*failed)(void *ctx, uint32_t server, uint64_t request, enum tally_status status);
};

enum edge_requester_state { EDGE_REQUESTER_IDLE, EDGE_REQUESTER_SENDING, EDGE_REQUESTER_RECEIVING };

// Part of its owner; the members are its own.
struct edge_requester {
    const struct edge_requester_ops *ops;
    void *ctx;
    struct tally_mailbox *mailbox;
    uint32_t server;
    nng_socket req;
    nng_ctx context;
    nng_aio *ask;
    struct tally_mail asked; // the aio has a result
    enum edge_requester_state state;
    bool given_up; // what is on its way is of no interest
    bool stopped;
    uint64_t request, request_next;
    nng_msg *next; // to be sent when what is on its way has ended; owned
};

// Makes the socket, before anything is dialled. What NNG says; then it is of no use. `ops` and `ctx` must outlive the process.
int edge_requester_open(struct edge_requester *requester, uint32_t server, struct tally_mailbox *mailbox,
                        const struct edge_requester_ops *ops, void *ctx);

// Whether the mail is a requester's, `requester`, and if so takes it.
bool edge_requester_take(struct edge_requester *requester, const struct tally_mail *mail);

// Takes a copy and returns at once. A request that is on its way is given up; its outcome is not told any more. TALLY_NO_MEMORY: nothing changed.
TALLY_CHECKED enum tally_status edge_requester_send(struct edge_requester *requester, uint64_t request,
                                                    struct tally_bytes bytes);

// What is on its way is not waited for any more.
void edge_requester_give_up(struct edge_requester *requester);

// After it nothing is called any more.
void edge_requester_stop(struct edge_requester *requester);

#endif
