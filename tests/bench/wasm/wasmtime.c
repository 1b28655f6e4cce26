// SPDX-License-Identifier: Apache-2.0
//
// Wasmtime as a contestant (contest.py), set up as the edge sets it up: wasmtime GUEST.wasm own|shared small|huge KIND KEYS SEED DRAWS NAMES
// huge: the memory is advised to be in huge pages, as a host may do. Measurements: dependent, independent, many (the guest loops), host (this
// process loops: copies each key in, calls tallycast_read, takes the value).
#include "../bench.h"
#include "reads.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <tallycast/bytes.h>
#include <wasmtime.h>

#define TEXT_MAX   ((size_t)16 << 20)
#define MEMORY_MAX ((size_t)4 << 30)
#define PAGES_MAX  65536u

static wasm_engine_t *engine;
static wasmtime_context_t *context;
static wasmtime_instance_t instance;
static uint8_t *base; // of the guest's memory: reserved as far as it may grow, so it stays
static uint32_t slot, table, scratch;
static wasmtime_func_t read_one;

static void end(const char *what, wasmtime_error_t *error, wasm_trap_t *trap)
{
    wasm_byte_vec_t text = {0};
    if (error) wasmtime_error_message(error, &text);
    if (trap) wasm_trap_message(trap, &text);
    fprintf(stderr, "wasmtime: %s: %.*s\n", what, (int)text.size, text.data ? text.data : "");
    exit(1);
}

static uint8_t *read_file(const char *path, size_t *out_size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(TEXT_MAX);
    if (!file || !data) end(path, NULL, NULL);
    *out_size = fread(data, 1, TEXT_MAX, file);
    fclose(file);
    return data;
}

// ---------------------------------------------------------------------------------------------------- guest

static wasmtime_func_t find(const char *name)
{
    wasmtime_extern_t item;
    if (!wasmtime_instance_export_get(context, &instance, name, strlen(name), &item) ||
        item.kind != WASMTIME_EXTERN_FUNC)
        end(name, NULL, NULL);
    return item.of.func;
}

static uint32_t call(wasmtime_func_t function, size_t count, const uint32_t *arguments)
{
    wasmtime_val_raw_t values[8];
    wasm_trap_t *trap = NULL;
    for (size_t i = 0; i < count; i++) values[i].i32 = (int32_t)arguments[i];
    wasmtime_error_t *error = wasmtime_func_call_unchecked(context, &function, values, count ? count : 1, &trap);
    if (error || trap) end("call", error, trap);
    return (uint32_t)values[0].i32;
}

#define CALL(name, ...)                                                                                                \
    call(find(#name), sizeof((uint32_t[]){0, ##__VA_ARGS__}) / 4 - 1, (uint32_t[]){0, ##__VA_ARGS__} + 1)

static wasmtime_sharedmemory_t *make_shared_memory(const wasmtime_module_t *module)
{
    wasm_importtype_vec_t imports;
    wasmtime_module_imports(module, &imports);
    if (imports.size != 1) end("the guest does not import one memory", NULL, NULL);
    uint64_t pages =
        wasmtime_memorytype_minimum(wasm_externtype_as_memorytype_const(wasm_importtype_type(imports.data[0])));
    wasm_memorytype_t *type = NULL;
    wasmtime_sharedmemory_t *memory = NULL;
    wasmtime_error_t *error = wasmtime_memorytype_new(pages, true, PAGES_MAX, false, true, 16, &type);
    if (!error) error = wasmtime_sharedmemory_new(engine, type, &memory);
    if (error) end("no shared memory", error, NULL);
    base = wasmtime_sharedmemory_data(memory);
    return memory;
}

static void start(const char *path, bool shared)
{
    size_t size;
    uint8_t *bytes = read_file(path, &size);
    wasm_config_t *config = wasm_config_new();
    wasmtime_config_wasm_threads_set(config, true);
    wasmtime_config_shared_memory_set(config, true);
    engine = wasm_engine_new_with_config(config);
    wasmtime_module_t *module = NULL;
    wasmtime_error_t *error = wasmtime_module_new(engine, bytes, size, &module);
    if (error) end(path, error, NULL);
    context = wasmtime_store_context(wasmtime_store_new(engine, NULL, NULL));
    wasmtime_extern_t memory = {.kind = WASMTIME_EXTERN_SHAREDMEMORY};
    if (shared) memory.of.sharedmemory = make_shared_memory(module);
    wasm_trap_t *trap = NULL;
    error = wasmtime_instance_new(context, module, &memory, shared, &instance, &trap);
    if (error || trap) end(path, error, trap);
    if (!shared) {
        if (!wasmtime_instance_export_get(context, &instance, "memory", 6, &memory)) end("memory", NULL, NULL);
        base = wasmtime_memory_data(context, &memory.of.memory);
    }
}

// ---------------------------------------------------------------------------------------------------- measurements

static double measure_host(uint32_t count)
{
    static struct tally_bytes keys[READS_DRAWS_MAX];
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) keys[i] = tally_bytes(base + CALL(bench_drawn, i), CALL(bench_drawn_size, i));
    double from = bench_now_ns();
    for (uint32_t i = 0; i < count; i++) {
        memcpy(base + scratch + 8, keys[i].data, keys[i].size);
        wasmtime_val_raw_t values[] = {{.i32 = (int32_t)slot},
                                       {.i32 = (int32_t)table},
                                       {.i32 = (int32_t)scratch + 8},
                                       {.i32 = (int32_t)keys[i].size}};
        wasm_trap_t *trap = NULL;
        if (wasmtime_func_call_unchecked(context, &read_one, values, 4, &trap)) end("tallycast_read", NULL, trap);
        if (!isnan(values[0].f64)) sum += tally_load64(base + scratch);
    }
    double ns = (bench_now_ns() - from) / count;
    if (!sum) end("nothing was read", NULL, NULL);
    return ns;
}

static double measure_loop(const char *what, uint32_t count)
{
    char name[80];
    snprintf(name, sizeof name, "bench_%s", what);
    wasmtime_func_t loop = find(name);
    double from = bench_now_ns();
    if (!call(loop, 1, &count)) end("nothing was read", NULL, NULL);
    return (bench_now_ns() - from) / count;
}

int main(int argc, char **argv)
{
    if (argc != 9) end("usage: wasmtime GUEST.wasm own|shared small|huge KIND KEYS SEED DRAWS NAMES", NULL, NULL);
    bool names = !strcmp(argv[4], "names");
    uint32_t keys = (uint32_t)strtoul(argv[5], NULL, 10), seed = (uint32_t)strtoul(argv[6], NULL, 10);
    uint32_t draws = (uint32_t)strtoul(argv[7], NULL, 10);
    start(argv[1], !strcmp(argv[2], "shared"));
    if (!strcmp(argv[3], "huge") && madvise(base, MEMORY_MAX, MADV_HUGEPAGE)) end("madvise", NULL, NULL);
    if (names) {
        size_t size;
        uint8_t *text = read_file(argv[8], &size);
        memcpy(base + CALL(bench_text, (uint32_t)size), text, size);
        free(text);
    }
    if (CALL(bench_load, names, keys, seed)) end("the mirror does not load", NULL, NULL);
    slot = CALL(tallycast_reader_open);
    scratch = CALL(tallycast_reader_scratch, slot);
    memcpy(base + scratch, "t", 1);
    table = CALL(tallycast_read_table, slot, scratch, 1);
    read_one = find("tallycast_read");
    puts("ready");
    fflush(stdout);
    char line[64];
    for (uint32_t round = 1; fgets(line, sizeof line, stdin); round++) {
        line[strcspn(line, "\n")] = 0;
        uint32_t count = CALL(bench_draw, seed + round * 1000003, draws);
        printf("%.3f\n", !strcmp(line, "host") ? measure_host(count) : measure_loop(line, count));
        fflush(stdout);
    }
    return 0;
}
