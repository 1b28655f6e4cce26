// SPDX-License-Identifier: Apache-2.0
#include "guest.h"

#include <assert.h>
#include <client-wasm/wasm/module.h>
#include <io/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <tallycast/siphash.h>

#define MODULE_BYTES_MAX ((size_t)16 << 20)
#define ARGUMENTS_MAX    8u

_Static_assert(TALLYCAST_INSTANCES_MAX == 64, "one bit each");

static const char *const names[WASM_FUNCTIONS_COUNT] = {
#define X(name) [WASM_##name] = "tallycast_" #name,
    WASM_FUNCTIONS(X)
#undef X
};

// Frees the error and puts what it says into the reason, after `what`.
static void explain(struct tally_reason *reason, const char *what, wasmtime_error_t *error, wasm_trap_t *trap)
{
    wasm_byte_vec_t text = {0};
    if (error) {
        wasmtime_error_message(error, &text);
        wasmtime_error_delete(error);
    } else if (trap) {
        wasm_trap_message(trap, &text);
        wasm_trap_delete(trap);
    }
    tally_reason_set(reason, "%s: %.*s", what, (int)text.size, text.data ? text.data : "");
    wasm_byte_vec_delete(&text);
}

// ---------------------------------------------------------------------------------------------------- module

static enum tally_status read_file(const char *path, uint8_t **out_data, size_t *out_size,
                                   struct tally_reason *out_reason)
{
    FILE *file = fopen(path, "rbe");
    if (!file) {
        tally_reason_set(out_reason, "module %s cannot be opened: %m", path);
        return TALLY_IO;
    }
    uint8_t *data = malloc(MODULE_BYTES_MAX);
    size_t size = data ? fread(data, 1, MODULE_BYTES_MAX, file) : 0;
    enum tally_status status = !data ? TALLY_NO_MEMORY : ferror(file) ? TALLY_IO : TALLY_OK;
    if (status == TALLY_OK && size == MODULE_BYTES_MAX) status = TALLY_LIMIT;
    fclose(file);
    if (status != TALLY_OK) {
        tally_reason_set(out_reason, "module %s cannot be read: %s", path, tally_status_str(status));
        free(data);
        return status;
    }
    *out_data = data;
    *out_size = size;
    return TALLY_OK;
}

static wasm_engine_t *make_engine(void)
{
    wasm_config_t *config = wasm_config_new();
    if (!config) return NULL;
    wasmtime_config_wasm_threads_set(config, true);
    wasmtime_config_shared_memory_set(config, true);
    return wasm_engine_new_with_config(config); // owns config
}

// The module asks for one memory, and says its limits.
static enum tally_status make_memory(struct wasm_module *module, uint64_t bytes_max, const char *path,
                                     struct tally_reason *out_reason)
{
    wasm_importtype_vec_t imports;
    wasmtime_module_imports(module->module, &imports);
    const wasm_memorytype_t *wanted =
        imports.size == 1 ? wasm_externtype_as_memorytype_const(wasm_importtype_type(imports.data[0])) : NULL;
    uint64_t pages = 0, pages_max = 0;
    bool fits = wanted && wasmtime_memorytype_isshared(wanted) && wasmtime_memorytype_maximum(wanted, &pages_max);
    if (fits) pages = wasmtime_memorytype_minimum(wanted);
    wasm_importtype_vec_delete(&imports);
    if (!fits) {
        tally_reason_set(out_reason, "module %s is not tallycast-shared.wasm: it does not import one shared memory",
                         path);
        return TALLY_UNSUPPORTED;
    }
    if (bytes_max / WASM_PAGE_BYTES < pages_max) pages_max = bytes_max / WASM_PAGE_BYTES;
    if (pages_max < pages) {
        tally_reason_set(out_reason, "memory-max of %llu bytes is too small: module %s begins with %llu",
                         (unsigned long long)bytes_max, path, (unsigned long long)(pages * WASM_PAGE_BYTES));
        return TALLY_INVALID;
    }
    wasm_memorytype_t *type = NULL;
    wasmtime_error_t *error = wasmtime_memorytype_new(pages, true, pages_max, false, true, 16, &type);
    if (!error) error = wasmtime_sharedmemory_new(module->engine, type, &module->memory);
    if (type) wasm_memorytype_delete(type);
    if (error) {
        explain(out_reason, "no shared memory for the module", error, NULL);
        return TALLY_NO_MEMORY;
    }
    module->base = wasmtime_sharedmemory_data(module->memory);
    // Reads and applies touch pages all over it: without huge pages most of them miss the TLB, too. Wasmtime reserves what the memory
    // may grow to, so the advice is for all of it; the guest grows to whole huge pages. Where it is not taken, all is as before, slower.
    (void)madvise(module->base, pages_max * WASM_PAGE_BYTES, MADV_HUGEPAGE);
    module->bytes_max = pages_max * WASM_PAGE_BYTES;
    return TALLY_OK;
}

enum tally_status wasm_module_open(const char *path, uint64_t memory_bytes_max, struct wasm_module *out_module,
                                   struct tally_reason *out_reason)
{
    struct wasm_module module = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    enum tally_status status = read_file(path, &bytes, &size, out_reason);
    if (status != TALLY_OK) return status;
    module.engine = make_engine();
    if (!module.engine) {
        tally_reason_set(out_reason, "Wasmtime does not start");
        status = TALLY_IO;
        goto out;
    }
    wasmtime_error_t *error = wasmtime_module_new(module.engine, bytes, size, &module.module);
    if (error) {
        struct tally_reason what;
        tally_reason_set(&what, "module %s does not compile", path);
        explain(out_reason, what.text, error, NULL);
        status = TALLY_UNSUPPORTED;
        goto out;
    }
    status = make_memory(&module, memory_bytes_max, path, out_reason);
out:
    if (status != TALLY_OK) {
        free(bytes);
        wasm_module_close(&module);
        return status;
    }
    out_module->engine = module.engine;
    out_module->module = module.module;
    out_module->memory = module.memory;
    out_module->base = module.base;
    out_module->bytes_max = module.bytes_max;
    out_module->identity = tally_siphash((struct tally_seed){0}, bytes, size);
    atomic_init(&out_module->stacks, 0);
    free(bytes);
    return TALLY_OK;
}

void wasm_module_close(struct wasm_module *module)
{
    if (module->memory) wasmtime_sharedmemory_delete(module->memory);
    if (module->module) wasmtime_module_delete(module->module);
    if (module->engine) wasm_engine_delete(module->engine);
    module->memory = NULL;
    module->module = NULL;
    module->engine = NULL;
    module->base = NULL;
}

// ---------------------------------------------------------------------------------------------------- instance

// Numbers 1 to 64; 0 when all are taken. Taking and giving back needs no ordering: the thread that opens an instance on a stack
// after another closed one there learns of it by whatever told it to open.
static uint32_t take_stack(struct wasm_module *module)
{
    uint64_t taken = atomic_load_explicit(&module->stacks, memory_order_relaxed);
    for (;;) {
        if (taken == UINT64_MAX) return 0;
        uint32_t bit = (uint32_t)__builtin_ctzll(~taken);
        if (atomic_compare_exchange_weak_explicit(&module->stacks, &taken, taken | (uint64_t)1 << bit,
                                                  memory_order_acq_rel, memory_order_relaxed))
            return bit + 1;
    }
}

static bool find_exports(struct wasm_instance *instance, wasmtime_instance_t *it, struct tally_reason *out_reason)
{
    wasmtime_extern_t item;
    for (uint32_t i = 0; i < WASM_FUNCTIONS_COUNT; i++) {
        bool found = wasmtime_instance_export_get(instance->context, it, names[i], strlen(names[i]), &item);
        if (!found || item.kind != WASMTIME_EXTERN_FUNC) {
            tally_reason_set(out_reason, "the module does not export the function %s", names[i]);
            return false;
        }
        instance->functions[i] = item.of.func;
    }
    static const char stack_pointer[] = "__stack_pointer";
    if (!wasmtime_instance_export_get(instance->context, it, stack_pointer, strlen(stack_pointer), &item) ||
        item.kind != WASMTIME_EXTERN_GLOBAL) {
        tally_reason_set(out_reason, "the module does not export the global %s", stack_pointer);
        return false;
    }
    instance->stack_pointer = item.of.global;
    return true;
}

static bool reset_stack(struct wasm_instance *instance)
{
    wasmtime_val_t top = {.kind = WASMTIME_I32, .of.i32 = (int32_t)instance->stack_top};
    wasmtime_error_t *error = wasmtime_global_set(instance->context, &instance->stack_pointer, &top);
    if (error) wasmtime_error_delete(error);
    return !error;
}

static enum tally_status set_up(struct wasm_instance *instance, struct tally_reason *out_reason)
{
    wasmtime_extern_t memory = {.kind = WASMTIME_EXTERN_SHAREDMEMORY, .of.sharedmemory = instance->module->memory};
    wasmtime_instance_t it;
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error =
        wasmtime_instance_new(instance->context, instance->module->module, &memory, 1, &it, &trap);
    if (error || trap) {
        explain(out_reason, "the module does not start", error, trap);
        return TALLY_IO;
    }
    if (!find_exports(instance, &it, out_reason)) return TALLY_UNSUPPORTED;
    uint32_t abi = 0;
    if (!wasm_do(instance, abi, &abi) || abi != TALLYCAST_ABI) {
        tally_reason_set(out_reason, "the module speaks ABI %u, this host %u", abi, TALLYCAST_ABI);
        return TALLY_UNSUPPORTED;
    }
    if (!wasm_do(instance, stack, &instance->stack_top, WASM_I32(instance->stack)) || !instance->stack_top ||
        !reset_stack(instance)) {
        tally_reason_set(out_reason, "the module has no stack number %u", instance->stack);
        return TALLY_UNSUPPORTED;
    }
    return TALLY_OK;
}

enum tally_status wasm_instance_open(struct wasm_module *module, struct wasm_instance *out_instance,
                                     struct tally_reason *out_reason)
{
    struct wasm_instance instance = {.module = module, .stack = take_stack(module)};
    if (!instance.stack) {
        tally_reason_set(out_reason, "all %u stacks of the module are taken", TALLYCAST_INSTANCES_MAX);
        return TALLY_FULL;
    }
    enum tally_status status = TALLY_NO_MEMORY;
    instance.store = wasmtime_store_new(module->engine, NULL, NULL);
    if (instance.store) {
        instance.context = wasmtime_store_context(instance.store);
        status = set_up(&instance, out_reason);
    } else {
        tally_reason_set(out_reason, "no memory for an instance of the module");
    }
    if (status != TALLY_OK)
        wasm_instance_close(&instance);
    else
        *out_instance = instance;
    return status;
}

void wasm_instance_close(struct wasm_instance *instance)
{
    if (instance->store) wasmtime_store_delete(instance->store);
    if (instance->stack)
        atomic_fetch_and_explicit(&instance->module->stacks, ~((uint64_t)1 << (instance->stack - 1)),
                                  memory_order_acq_rel);
    *instance = (struct wasm_instance){0};
}

bool wasm_call(struct wasm_instance *instance, enum wasm_function function, const wasmtime_val_raw_t *arguments,
               size_t count, uint32_t *out_result)
{
    wasmtime_val_raw_t values[ARGUMENTS_MAX];
    assert(count <= ARGUMENTS_MAX);
    if (count) memcpy(values, arguments, count * sizeof *values);
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = wasmtime_func_call_unchecked(instance->context, &instance->functions[function], values,
                                                           count ? count : 1, &trap);
    if (!error && !trap) {
        if (out_result) *out_result = (uint32_t)values[0].i32;
        return true;
    }
    struct tally_reason reason;
    explain(&reason, names[function], error, trap);
    // What the call pushed was not popped.
    bool usable = instance->stack_top && reset_stack(instance);
    tally_error("wasm_trap", tally_log_str("call", names[function]), tally_log_str("reason", reason.text),
                tally_log_str("instance", usable ? "usable" : "lost"));
    return false;
}
