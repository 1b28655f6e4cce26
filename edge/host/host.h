// SPDX-License-Identifier: Apache-2.0
//
// A host of the client core: keeps one mirror and lets one applier and several readers at it. Two implementations: wasmtime/
// (tallycast-shared.wasm, one shared memory, an instance a thread) and native/ (the same core as a library).
//
// Threads. The applier's functions are called from one thread at a time; readers' functions from the thread that opened the
// reader. Create and destroy from any one thread while nobody else uses it.
// Failure of a host is never the daemon's: a WASM trap is logged, the call answers TALLY_IO, and what was readable stays so.
#ifndef TALLYCAST_EDGE_HOST_H
#define TALLYCAST_EDGE_HOST_H

#include <io/http.h>

struct tally_host;

struct tally_host_options {
    struct tally_bytes dataset;
    uint64_t memory_bytes_max; // of the mirror and all that belongs to it
    uint32_t readers_max;      // that will ever be open at a time, 1 to 62
    const char *module;        // wasmtime: path of tallycast-shared.wasm
};

struct tally_host_ops {
    const char *name; // "wasm", "native"

    // On success fills ctx and all slots of *out_source that have to do with readers and views, and no other (state, ready,
    // metrics, now_ms). TALLY_INVALID, TALLY_NO_MEMORY, TALLY_UNSUPPORTED, TALLY_IO, with the reason.
    enum tally_status (*create)(const struct tally_host_options *options, struct tally_host **out_host,
                                struct tally_http_source *out_source, struct tally_reason *out_reason);
    // No reader may be open. Clears the pointer; null is fine.
    void (*destroy)(struct tally_host **host);
    // The applier: as mirror.h, and TALLY_IO when the host itself failed.
    enum tally_status (*apply)(struct tally_host *host, struct tally_bytes frame);
    void (*abandon)(struct tally_host *host);
    void (*confirm)(struct tally_host *host, uint64_t epoch, uint64_t version, uint64_t now_ms);
    // The newest version; when the host has failed, the last it told.
    void (*held)(struct tally_host *host, struct tally_view_info *out_info);
    void (*stats)(struct tally_host *host, struct tally_mirror_stats *out_stats);

    // The applier. False: it has failed and takes no more versions; only another build of the module, or a restart, helps.
    bool (*sound)(const struct tally_host *host);

    // The rest is null where there is no module (native).
    // The applier: a hash of the module's file as it is in use.
    uint64_t (*identity)(const struct tally_host *host);

    // Another build of the module takes over while everything goes on: begin, prepare, end, in this order, one at a time. Nobody who reads
    // notices: a reader goes over between two views, and finds the version that it had or a later one. For a while there are two memories.
    // The applier. From here on what it brings in is kept for the new one, too. TALLY_BUSY: between the chunks of a change; later.
    enum tally_status (*renew_begin)(struct tally_host *host);
    // Any one thread. Blocks for as long as it takes to compile and to copy the whole state. TALLY_STALLED when it cannot come up with the
    // applier (again later), and what create answers, with the reason.
    enum tally_status (*renew_prepare)(struct tally_host *host, const char *module, struct tally_reason *out_reason);
    // The applier, with what prepare answered (and its reason): the new one takes over, or is dropped. What was, goes on when it is not TALLY_OK.
    enum tally_status (*renew_end)(struct tally_host *host, enum tally_status prepared,
                                   struct tally_reason *out_reason);
    // Any thread: there is memory that nobody reads any more. Any one thread: gives it back, which may take its time.
    bool (*untidy)(struct tally_host *host);
    void (*tidy)(struct tally_host *host);
};

extern const struct tally_host_ops tally_host_native;
extern const struct tally_host_ops tally_host_wasmtime; // only where it was built: TALLY_HAVE_WASMTIME

#endif
