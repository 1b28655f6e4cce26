// SPDX-License-Identifier: Apache-2.0
//
// A guest's file, compiled; and its instances, each in a store of its own with its limits.
#define _GNU_SOURCE // memmem, memrchr
#include "guests_internal.h"

#include <io/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MODULE_BYTES_MAX ((size_t)16 << 20)

// Of a trap the text says where it was, line by line, and last what it was; only that is for who called.
static struct tally_bytes what_happened(struct tally_bytes text)
{
    static const char causes[] = "Caused by:";
    const uint8_t *found = memmem(text.data, text.size, causes, sizeof causes - 1);
    while (text.size && (text.data[text.size - 1] == '\n' || text.data[text.size - 1] == '\0')) text.size--;
    const uint8_t *end = text.data + text.size, *line = found ? memrchr(text.data, '\n', text.size) : NULL;
    if (!line || line < found) return text;
    for (line++; line < end && (*line == ' ' || (*line >= '0' && *line <= '9') || *line == ':');) line++;
    return tally_bytes(line, (size_t)(end - line));
}

bool guest_explain(wasmtime_error_t *error, wasm_trap_t *trap, struct tally_reason *out_reason)
{
    wasm_byte_vec_t text = {0};
    wasmtime_trap_code_t code;
    bool late = trap && wasmtime_trap_code(trap, &code) && code == WASMTIME_TRAP_CODE_INTERRUPT;
    if (error) {
        wasmtime_error_message(error, &text);
        wasmtime_error_delete(error);
    } else if (trap) {
        wasm_trap_message(trap, &text);
        wasm_trap_delete(trap);
    }
    struct tally_bytes what = what_happened(tally_bytes(text.data ? text.data : "", text.size));
    tally_reason_set(out_reason, "%.*s", (int)what.size, (const char *)what.data);
    for (char *c = out_reason->text; *c; c++)
        if (*c == '\n') *c = ' ';
    wasm_byte_vec_delete(&text);
    return late;
}

// ---------------------------------------------------------------------------------------------------- engine

enum tally_status guest_engine_open(struct tally_guests *guests, struct tally_reason *out_reason)
{
    wasm_config_t *config = wasm_config_new();
    if (config) {
        wasmtime_config_epoch_interruption_set(config, true);
        wasmtime_config_max_wasm_stack_set(config, GUEST_STACK_BYTES_MAX);
        // With threads there would be a wait that no deadline ends.
        wasmtime_config_wasm_threads_set(config, false);
        wasmtime_config_wasm_memory64_set(config, false); // addresses are 32 bits
        guests->engine = wasm_engine_new_with_config(config);
    }
    if (guests->engine) guests->linker = wasmtime_linker_new(guests->engine);
    if (!guests->linker) {
        tally_reason_set(out_reason, "Wasmtime does not start");
        return TALLY_NO_MEMORY;
    }
    return guest_imports_define(guests->linker, out_reason);
}

// ---------------------------------------------------------------------------------------------------- build

void guest_build_release(struct guest_build *build)
{
    // Release: what this holder did with it comes before its end; acquire: the last one sees that of all.
    if (!build || atomic_fetch_sub_explicit(&build->references, 1, memory_order_acq_rel) != 1) return;
    if (build->pre) wasmtime_instance_pre_delete(build->pre);
    if (build->module) wasmtime_module_delete(build->module);
    free(build);
}

static uint8_t *read_file(const char *path, size_t *out_size, struct tally_reason *out_reason)
{
    FILE *file = fopen(path, "rbe");
    uint8_t *data = file ? malloc(MODULE_BYTES_MAX) : NULL;
    size_t size = data ? fread(data, 1, MODULE_BYTES_MAX, file) : 0;
    bool failed = !data || ferror(file) || size == MODULE_BYTES_MAX;
    if (!file)
        tally_reason_set(out_reason, "%s cannot be opened: %m", path);
    else if (failed)
        tally_reason_set(out_reason, size == MODULE_BYTES_MAX ? "%s is over 16 MiB" : "%s cannot be read", path);
    if (file) (void)fclose(file);
    if (!failed) {
        *out_size = size;
        return data;
    }
    free(data);
    return NULL;
}

static enum tally_status compile(struct tally_guests *guests, const char *path, struct guest_build *build,
                                 struct tally_reason *out_reason)
{
    size_t size;
    struct tally_reason what;
    uint8_t *bytes = read_file(path, &size, out_reason);
    if (!bytes) return TALLY_IO;
    wasmtime_error_t *error = wasmtime_module_new(guests->engine, bytes, size, &build->module);
    free(bytes);
    const char *wrong = "is no WebAssembly that can be run here";
    if (!error) {
        error = wasmtime_linker_instantiate_pre(guests->linker, build->module, &build->pre);
        wrong = "wants what there is not";
    }
    if (!error) return TALLY_OK;
    (void)guest_explain(error, NULL, &what);
    tally_reason_set(out_reason, "%s %s: %s", path, wrong, what.text);
    return TALLY_UNSUPPORTED;
}

enum tally_status guest_build_make(struct tally_guests *guests, const struct guest *guest,
                                   struct guest_build **out_build, struct tally_reason *out_reason)
{
    struct tally_reason what;
    struct guest_build *build = calloc(1, sizeof *build);
    if (!build) {
        tally_reason_set(out_reason, "guest %s: no memory", guest->name);
        return TALLY_NO_MEMORY;
    }
    atomic_init(&build->references, 1);
    enum tally_status status = compile(guests, guest->path, build, &what);
    if (status == TALLY_OK) {
        // Tried once, so that what does not fit is refused now and not at the first call. Its start may read nothing: no call is under way.
        struct guest_seat seat = {.guests = guests, .guest = (struct guest *)(uintptr_t)guest};
        atomic_fetch_add_explicit(&build->references, 1, memory_order_relaxed);
        status = guest_seat_open(&seat, build, &what);
        guest_seat_close(&seat);
    }
    if (status != TALLY_OK) {
        tally_reason_set(out_reason, "guest %s: %s", guest->name, what.text);
        guest_build_release(build);
        return status;
    }
    *out_build = build;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- seat

void guest_deadline(struct guest_seat *seat)
{
    // One more: the tick under way counts only in part.
    wasmtime_context_set_epoch_deadline(seat->context, seat->guests->options.deadline_ms / GUEST_TICK_MS + 1);
}

static bool find_exports(struct guest_seat *seat, const wasmtime_instance_t *instance, struct tally_reason *out_reason)
{
    wasmtime_extern_t found;
    if (!wasmtime_instance_export_get(seat->context, instance, "memory", 6, &found) ||
        found.kind != WASMTIME_EXTERN_MEMORY) {
        tally_reason_set(out_reason, "it exports no memory of the name memory");
        return false;
    }
    seat->memory = found.of.memory;
    bool fits = wasmtime_instance_export_get(seat->context, instance, "handle", 6, &found) &&
                found.kind == WASMTIME_EXTERN_FUNC;
    if (fits) {
        seat->handle = found.of.func;
        wasm_functype_t *type = wasmtime_func_type(seat->context, &seat->handle);
        const wasm_valtype_vec_t *gives = wasm_functype_results(type);
        fits =
            wasm_functype_params(type)->size == 0 && gives->size == 1 && wasm_valtype_kind(gives->data[0]) == WASM_I32;
        wasm_functype_delete(type);
    }
    if (!fits) tally_reason_set(out_reason, "it exports no function handle that takes nothing and gives an i32");
    return fits;
}

// What compilers put beside a module's own start: constructors.
static bool initialize(struct guest_seat *seat, const wasmtime_instance_t *instance, struct tally_reason *out_reason)
{
    wasmtime_extern_t found;
    wasm_trap_t *trap = NULL;
    if (!wasmtime_instance_export_get(seat->context, instance, "_initialize", 11, &found) ||
        found.kind != WASMTIME_EXTERN_FUNC)
        return true;
    wasmtime_error_t *error = wasmtime_func_call(seat->context, &found.of.func, NULL, 0, NULL, 0, &trap);
    if (!error && !trap) return true;
    (void)guest_explain(error, trap, out_reason);
    return false;
}

enum tally_status guest_seat_open(struct guest_seat *seat, struct guest_build *build, struct tally_reason *out_reason)
{
    wasmtime_instance_t instance;
    wasm_trap_t *trap = NULL;
    seat->build = build;
    seat->store = wasmtime_store_new(seat->guests->engine, seat, NULL);
    seat->context = wasmtime_store_context(seat->store);
    wasmtime_store_limiter(seat->store, (int64_t)seat->guests->options.memory_bytes_max, GUEST_TABLE_ENTRIES, 1, 4, 1);
    guest_deadline(seat);
    wasmtime_error_t *error = wasmtime_instance_pre_instantiate(build->pre, seat->context, &instance, &trap);
    bool opened = !error && !trap;
    if (!opened) (void)guest_explain(error, trap, out_reason);
    opened = opened && find_exports(seat, &instance, out_reason) && initialize(seat, &instance, out_reason);
    if (opened) return TALLY_OK;
    guest_seat_close(seat);
    return TALLY_UNSUPPORTED;
}

void guest_seat_close(struct guest_seat *seat)
{
    if (seat->store) wasmtime_store_delete(seat->store);
    guest_build_release(seat->build);
    seat->store = NULL;
    seat->build = NULL;
}
