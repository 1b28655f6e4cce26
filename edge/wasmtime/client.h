// SPDX-License-Identifier: Apache-2.0
//
// One client: tallycast-shared.wasm of one file, its memory, the mirror in it, an applier, and a seat for each reader that there may be.
// The host (wasmtime.c) has one, and for a while two when another file takes over.
//
// Memory is the guest's; what the host hands over or takes back is copied through a place that belongs to the calling thread alone:
// the applier's buffer, or a seat's scratch.
#ifndef TALLYCAST_EDGE_WASM_CLIENT_H
#define TALLYCAST_EDGE_WASM_CLIENT_H

#include "guest.h"

#include <edge/host/host.h>

// One that reads: an instance, a slot of the mirror and, for whole states, two chunks of guest memory. Made with the client; afterwards used by
// one thread at a time.
struct wasm_seat {
    struct wasm_instance instance;
    struct wasm_client *client;
    uint32_t slot, scratch;
    uint32_t chunk_scratch, chunk_out; // addresses of TALLY_CHUNK_BYTES_MAX each
    uint32_t views;                    // pinned: counted by the host, for this seat's reader
    bool left;                         // its reader goes on with another client, but for those views
};

struct wasm_client {
    struct wasm_module module;
    struct wasm_seat applier;
    struct tally_view_info held; // as last told
    struct tally_mirror_stats stats;
    _Atomic bool lost; // the applier trapped: half a change may lie in the memory, so there will be no other
    uint32_t seats_count;
    struct wasm_seat *seats;
    // The host's: readers that have it, and the host itself; the number of the client; the next one to be destroyed.
    unsigned references;
    uint64_t number;
    struct wasm_client *next;
};

// Compiles, and makes everything. As tally_host_ops.create.
TALLY_CHECKED enum tally_status wasm_client_create(const struct tally_host_options *options, uint32_t seats_count,
                                                   struct wasm_client **out_client, struct tally_reason *out_reason);
// Nobody may use it. Null is fine; clears the pointer.
void wasm_client_destroy(struct wasm_client **client);

// The applier's, as in host.h.
TALLY_CHECKED enum tally_status wasm_client_apply(struct wasm_client *client, struct tally_bytes frame);
void wasm_client_abandon(struct wasm_client *client);
void wasm_client_confirm(struct wasm_client *client, uint64_t epoch, uint64_t version, uint64_t now_ms);
void wasm_client_held(struct wasm_client *client, struct tally_view_info *out_info);
void wasm_client_stats(struct wasm_client *client, struct tally_mirror_stats *out_stats);
bool wasm_client_lost(const struct wasm_client *client);

// A view knows its seat: all that is read of it goes there.
static inline struct wasm_seat *wasm_seat_of(const struct tally_http_view *view)
{
    return (struct wasm_seat *)(uintptr_t)view->opaque[1];
}

TALLY_CHECKED enum tally_status wasm_seat_pin(struct wasm_seat *seat, struct tally_http_view *out_view);
void wasm_seat_unpin(const struct tally_http_view *view);

// The slots of a source that are about a view.
void wasm_client_fill(struct tally_http_source *source);

#endif
