// SPDX-License-Identifier: Apache-2.0
//
// tallycast-shared.wasm in Wasmtime: one compiled module and one shared memory, and instances on them, each used by one thread
// at a time and on its own stack (client-wasm/wasm/module.h). Nothing in here knows what the calls mean.
//
// Addresses in the guest are uint32_t; wasm_at turns one into a pointer. The memory grows while others read, but its base never
// moves: Wasmtime reserves the address space of a shared memory's maximum when it is made.
#ifndef TALLYCAST_EDGE_WASM_GUEST_H
#define TALLYCAST_EDGE_WASM_GUEST_H

#include <io/reason.h>
#include <stdatomic.h>
#include <tallycast/bytes.h>
#include <tallycast/status.h>
#include <wasmtime.h>

#define WASM_PAGE_BYTES 65536u

#define WASM_FUNCTIONS(X)                                                                                              \
    X(abi)                                                                                                             \
    X(stack)                                                                                                           \
    X(stats)                                                                                                           \
    X(buffer)                                                                                                          \
    X(open)                                                                                                            \
    X(apply)                                                                                                           \
    X(abandon)                                                                                                         \
    X(confirm)                                                                                                         \
    X(alloc)                                                                                                           \
    X(reader_open)                                                                                                     \
    X(reader_close)                                                                                                    \
    X(reader_scratch)                                                                                                  \
    X(reader_scratch_size)                                                                                             \
    X(pin)                                                                                                             \
    X(unpin)                                                                                                           \
    X(info)                                                                                                            \
    X(table)                                                                                                           \
    X(table_info)                                                                                                      \
    X(get)                                                                                                             \
    X(get_many)                                                                                                        \
    X(next)                                                                                                            \
    X(write_chunk)

enum wasm_function {
#define X(name) WASM_##name,
    WASM_FUNCTIONS(X)
#undef X
        WASM_FUNCTIONS_COUNT
};

struct wasm_module {
    wasm_engine_t *engine;
    wasmtime_module_t *module;
    wasmtime_sharedmemory_t *memory;
    uint8_t *base;
    uint64_t identity;       // hash of the file
    uint64_t bytes_max;      // that the memory may grow to
    _Atomic uint64_t stacks; // bit n: the stack of instance n is taken
};

struct wasm_instance {
    struct wasm_module *module;
    wasmtime_store_t *store;
    wasmtime_context_t *context;
    wasmtime_func_t functions[WASM_FUNCTIONS_COUNT];
    wasmtime_global_t stack_pointer;
    uint32_t stack, stack_top;
};

// Compiles the module and makes its memory, of at most `memory_bytes_max`. TALLY_IO (no file), TALLY_UNSUPPORTED (not our module),
// TALLY_INVALID (too little memory), TALLY_NO_MEMORY. On failure there is nothing to close.
TALLY_CHECKED enum tally_status wasm_module_open(const char *path, uint64_t memory_bytes_max,
                                                 struct wasm_module *out_module, struct tally_reason *out_reason);
// Its instances must be closed.
void wasm_module_close(struct wasm_module *module);

// Thread: any; afterwards one at a time. TALLY_FULL (no stack left), TALLY_UNSUPPORTED (an export is missing), TALLY_IO.
TALLY_CHECKED enum tally_status wasm_instance_open(struct wasm_module *module, struct wasm_instance *out_instance,
                                                   struct tally_reason *out_reason);
void wasm_instance_close(struct wasm_instance *instance);

// Calls a function; arguments by WASM_I32 and WASM_I64, the result, if any, in *out_result. False when the guest trapped: it is
// logged, and the instance may be used again, on an unwound stack.
TALLY_CHECKED bool wasm_call(struct wasm_instance *instance, enum wasm_function function,
                             const wasmtime_val_raw_t *arguments, size_t count, uint32_t *out_result);

#define WASM_I32(value) ((wasmtime_val_raw_t){.i32 = (int32_t)(value)})
#define WASM_I64(value) ((wasmtime_val_raw_t){.i64 = (int64_t)(value)})
// wasm_do(instance, pin, &result, WASM_I32(slot))
#define wasm_do(instance, name, out_result, ...)                                                                       \
    wasm_call((instance), WASM_##name, (const wasmtime_val_raw_t[]){{0}, ##__VA_ARGS__} + 1,                           \
              sizeof((const wasmtime_val_raw_t[]){{0}, ##__VA_ARGS__}) / sizeof(wasmtime_val_raw_t) - 1, (out_result))

static inline uint8_t *wasm_at(const struct wasm_instance *instance, uint32_t address)
{
    return instance->module->base + address;
}

#endif
