// SPDX-License-Identifier: Apache-2.0
//
// Guests of one's own: WebAssembly modules that an operator gives to the edge and that answer requests to /v1/guest/{name} out of the
// mirror. docs/guests.md is for who writes one; client-wasm/include/tallycast/guest.h is its header.
//
// A guest may be wrong in any way without harm to the edge. It has a memory of its own, at most memory_bytes_max of it; it imports the
// functions of guest.h and nothing else; every address that it gives is checked; a call that takes longer than deadline_ms is
// ended. After a trap the instance is thrown away, and the next call begins with a new one.
//
// Threads. A call runs on the HTTP thread that received it, and holds it up for as long as it takes. Each thread has an instance of each
// guest, made at its first call and kept: what a guest leaves in its memory is seen by its next call on the same thread.
// A call reads one version, pinned when it begins.
#ifndef TALLYCAST_EDGE_GUESTS_H
#define TALLYCAST_EDGE_GUESTS_H

#include <edge/counts/counts.h>
#include <io/http.h>
#include <io/reason.h>
#include <io/settings.h>

#define TALLY_GUESTS_MAX 16u

struct tally_guests;

struct tally_guests_options {
    struct tally_strings settings;          // each NAME=FILE; borrowed for as long as the guests live
    unsigned deadline_ms;                   // of one call
    uint64_t memory_bytes_max;              // of one instance
    unsigned threads;                       // that call, numbered from 0
    const struct tally_http_source *source; // what they read; its readers are those given to tally_guests_call
    struct tally_counter *const *
        counters; // to count with, one a thread, looked at when a guest counts; null, or null in it: nothing is counted here
};

// TALLY_INVALID with the reason, when a setting is no NAME=FILE or a name is there twice.
TALLY_CHECKED enum tally_status tally_guests_check(const struct tally_strings *settings,
                                                   struct tally_reason *out_reason);

// Compiles all of them and tries whether they start. TALLY_IO (a file cannot be read), TALLY_UNSUPPORTED (no module, or it wants what there is not),
// TALLY_NO_MEMORY, with the reason.
TALLY_CHECKED enum tally_status tally_guests_create(const struct tally_guests_options *options,
                                                    struct tally_guests **out_guests, struct tally_reason *out_reason);
// Nobody calls any more. Null is fine; clears the pointer.
void tally_guests_destroy(struct tally_guests **guests);

// The slot `call` of the HTTP face. Thread: number `thread`, which owns `reader`.
unsigned tally_guests_call(struct tally_guests *guests, unsigned thread, void *reader,
                           const struct tally_http_call *call, struct tally_http_reply *reply,
                           struct tally_reason *out_reason);

// Whether a file changed since it was last taken or refused, and has not changed since the last time that this was asked. Thread: one.
bool tally_guests_changed(struct tally_guests *guests);

// Takes the files anew that changed (all of them: whatever they look like); each thread goes over at its next call. A file that is refused is
// logged, and the module before it goes on. Thread: any, one at a time; blocks for as long as the compiler takes.
void tally_guests_reload(struct tally_guests *guests, bool all);

// Thread: any.
void tally_guests_metrics(struct tally_guests *guests, struct tally_writer *out);

#endif
