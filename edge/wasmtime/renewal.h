// SPDX-License-Identifier: Apache-2.0
//
// What the applier brings in while another client is made, kept in order for it; and the making of its state: a whole copy of a pinned
// view, and then what was kept. Frames are what a mirror takes in any case, and each is verified again, so the two builds need not have the same layout.
//
// Threads: keep, open, close by the applier's; copy and take_in by one thread at a time; give_up by any.
#ifndef TALLYCAST_EDGE_WASM_RENEWAL_H
#define TALLYCAST_EDGE_WASM_RENEWAL_H

#include "client.h"

#include <pthread.h>

#define RENEWAL_BYTES_MAX ((uint64_t)256 << 20) // kept at a time; past it, it is given up

struct renewal_step; // a frame, or that staged chunks were forgotten

struct renewal {
    pthread_mutex_t mutex; // of all below but the client
    bool open;
    const char *given_up; // why
    struct renewal_step *first, **end;
    uint64_t bytes;
    struct wasm_client *client; // null, or what is being made
};

void renewal_init(struct renewal *renewal);
void renewal_deinit(struct renewal *renewal);

void renewal_open(struct renewal *renewal);
// Forgets what was kept. The client is the caller's from here on.
void renewal_close(struct renewal *renewal);

// Nothing when it is not open. An empty frame: tally_mirror_abandon. Copies.
void renewal_keep(struct renewal *renewal, struct tally_bytes frame);
void renewal_give_up(struct renewal *renewal, const char *why);

// The newest version that `from` can pin, into the client; nothing when nothing is held. With the reason: TALLY_STALLED when it was given up, what the client
// says otherwise.
TALLY_CHECKED enum tally_status renewal_copy(struct renewal *renewal, struct wasm_seat *from,
                                             struct tally_reason *out_reason);
// All that was kept until now, likewise.
TALLY_CHECKED enum tally_status renewal_take_in(struct renewal *renewal, struct tally_reason *out_reason);

#endif
