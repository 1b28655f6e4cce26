// SPDX-License-Identifier: Apache-2.0
//
// Inside the guests.
//
//   guests ─► guest (a name) ─► build (a compiled file; counted: the guest holds one, each seat on it another)
//          └► seat (a thread and a guest) ─► store, instance: of one build, used by that thread alone
#ifndef TALLYCAST_EDGE_GUESTS_INTERNAL_H
#define TALLYCAST_EDGE_GUESTS_INTERNAL_H

#include "guests.h"

#include <io/file_identity.h>
#include <pthread.h>
#include <stdatomic.h>
#include <wasmtime.h>

#define GUEST_TICK_MS         5u
#define GUEST_LOG_BYTES_MAX   1024u // of one line; the rest is cut
#define GUEST_LOG_LINES_MAX   16u   // of one call; the rest is dropped
#define GUEST_STACK_BYTES_MAX ((size_t)256 << 10)
#define GUEST_TABLE_ENTRIES   10000 // of a WASM table: function pointers

struct guest_build {
    wasmtime_module_t *module;
    wasmtime_instance_pre_t *pre; // with its imports
    _Atomic unsigned references;
};

struct guest {
    char name[TALLY_NAME_BYTES_MAX + 1];
    const char *path;
    pthread_mutex_t mutex; // of build and identity
    struct guest_build *build;
    struct tally_file_identity identity; // of the file as it was taken or refused last
    struct tally_file_identity seen;     // at the last look
    // Any thread adds; told by metrics. Nothing is ordered by them.
    _Atomic uint64_t calls, failures[3], nanoseconds, reads, adds, loads, loads_refused;
};

enum guest_failure { GUEST_TRAPPED, GUEST_LATE, GUEST_REFUSED }; // refused: it did not start

// What the imports of a call look at.
struct guest_seat {
    struct tally_guests *guests;
    struct guest *guest;
    struct guest_build *build; // null: no instance
    wasmtime_store_t *store;
    wasmtime_context_t *context;
    wasmtime_memory_t memory;
    wasmtime_func_t handle;
    // Of the call.
    void *reader;
    struct tally_http_view view;
    struct tally_view_info info;
    const struct tally_http_call *call;
    struct tally_http_reply *reply;
    struct tally_counter *counter; // null: nothing is counted here
    uint64_t reads, adds;
    unsigned lines;
    // Of one get_many.
    struct tally_bytes *keys;
    int64_t *values;
    bool *found;
};

struct tally_guests {
    struct tally_guests_options options;
    wasm_engine_t *engine;
    wasmtime_linker_t *linker;
    size_t count;
    struct guest *guests;
    struct guest_seat *seats; // [thread * count + guest]
    // What ends calls that take too long: as long as there is one, the engine's epoch goes on by one each GUEST_TICK_MS.
    pthread_t ticker;
    bool ticking;
    pthread_mutex_t mutex; // of the condition
    pthread_cond_t called;
    _Atomic unsigned calling;
    _Atomic bool stopping;
};

// imports.c
TALLY_CHECKED enum tally_status guest_imports_define(wasmtime_linker_t *linker, struct tally_reason *out_reason);

// build.c
TALLY_CHECKED enum tally_status guest_engine_open(struct tally_guests *guests, struct tally_reason *out_reason);
TALLY_CHECKED enum tally_status guest_build_make(struct tally_guests *guests, const struct guest *guest,
                                                 struct guest_build **out_build, struct tally_reason *out_reason);
void guest_build_release(struct guest_build *build); // null is fine
// Takes over the reference to `build`, also on failure. TALLY_UNSUPPORTED with the reason.
TALLY_CHECKED enum tally_status guest_seat_open(struct guest_seat *seat, struct guest_build *build,
                                                struct tally_reason *out_reason);
void guest_seat_close(struct guest_seat *seat);
// Frees both; true when it was the deadline that ended it.
bool guest_explain(wasmtime_error_t *error, wasm_trap_t *trap, struct tally_reason *out_reason);
// Sets the deadline of what runs next.
void guest_deadline(struct guest_seat *seat);

#endif
