// SPDX-License-Identifier: Apache-2.0
//
// Other builds of the client's module and of guests, taken while the edge runs: when their files change (looked at once a second), and all of
// them on SIGHUP. The work is done on a thread of libuv's pool; what is refused is logged, and what was goes on.
//
// Threads: the loop's; the counts may be read by any.
#ifndef TALLYCAST_EDGE_RELOAD_H
#define TALLYCAST_EDGE_RELOAD_H

#include <edge/guests/guests.h>
#include <edge/host/host.h>
#include <io/file_identity.h>
#include <stdatomic.h>
#include <uv.h>

struct edge_reload {
    uv_loop_t *loop;
    const struct tally_host_ops *ops;
    struct tally_host *host;
    struct tally_guests *guests; // null: none
    char module[4096];           // empty: the client has none
    // Of the module's file: as it was when it was read last, and at the last look.
    struct tally_file_identity read, seen;
    uint64_t look_at_ms;
    bool all, module_wanted; // to be done next
    // What is under way.
    uv_work_t work;
    bool busy, with_module, with_all;
    enum tally_status status;
    struct tally_reason reason;
    uint64_t begun_ms;
    _Atomic uint64_t taken, refused, identity; // builds of the module; the one in use
};

// `module` null: the client has none. `guests` null: there are none.
void edge_reload_init(struct edge_reload *reload, uv_loop_t *loop, const struct tally_host_ops *ops,
                      struct tally_host *host, const char *module, struct tally_guests *guests);
// SIGHUP: all of them.
void edge_reload_all(struct edge_reload *reload);
// Often: looks whether there is something to do. `now_ms` is of a clock that only goes on.
void edge_reload_tick(struct edge_reload *reload, uint64_t now_ms);
// Waits for what is under way. Nothing begins afterwards; the loop must not run any more.
void edge_reload_stop(struct edge_reload *reload);

#endif
