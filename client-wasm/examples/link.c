// SPDX-License-Identifier: Apache-2.0
//
// A WebAssembly module that has the client linked in: a mirror of its own, in its own memory, without any import. Whoever runs it, anywhere, gives it frames
// (of GET /v1/snapshot, of /v1/stream, of a file) and asks for values. tests/wasm/link.test.mjs does so under Node. By hand, from the installed library:
//
//   clang --target=wasm32 -O2 -mbulk-memory -ffreestanding -I include link.c -c && wasm-ld --no-entry link.o libtallycast-wasm.a -o link.wasm
#include <tallycast/memory.h>
#include <tallycast/mirror.h>

#define EXPORT(name) __attribute__((export_name(#name))) name

static uint8_t place[TALLY_CHUNK_BYTES_MAX]; // what is handed in: a frame; or a table's name and a key
static struct tally_memory memory;
static struct tally_mirror *mirror;
static struct tally_reader reader;
static int64_t value;

uint8_t *EXPORT(input)(void);
uint32_t EXPORT(start)(uint32_t dataset_bytes, uint32_t memory_bytes);
uint32_t EXPORT(take)(uint32_t bytes);
uint32_t EXPORT(find)(uint32_t table_bytes, uint32_t key_bytes);
int64_t EXPORT(found)(void);
uint64_t EXPORT(version)(void);

// Where to write what the calls below take.
uint8_t *input(void) { return place; }

// The dataset's name is at `input`. A status, as of all that follow.
uint32_t start(uint32_t dataset_bytes, uint32_t memory_bytes)
{
    struct tally_mirror_options options = {.dataset = tally_bytes(place, dataset_bytes)};
    enum tally_status status = tally_memory_map(memory_bytes, 0, &memory);
    if (!status) status = tally_mirror_init(&memory, &options, &mirror);
    return status ? status : tally_reader_open(mirror, &reader);
}

// A frame is at `input`.
uint32_t take(uint32_t bytes)
{
    if (bytes > sizeof place) return TALLY_LIMIT;
    return tally_mirror_apply(mirror, &memory, tally_bytes(place, bytes));
}

// A table's name and, right behind it, a key are at `input`.
uint32_t find(uint32_t table_bytes, uint32_t key_bytes)
{
    if (table_bytes > TALLY_NAME_BYTES_MAX || key_bytes > TALLY_KEY_BYTES_MAX) return TALLY_NOT_FOUND;
    return tally_get(&reader, tally_bytes(place, table_bytes), tally_bytes(place + table_bytes, key_bytes), &value);
}

int64_t found(void) { return value; }

uint64_t version(void)
{
    struct tally_view view;
    struct tally_view_info info;
    tally_view_pin(&reader, &view);
    tally_view_info(&view, &info);
    tally_view_unpin(&view);
    return info.version;
}
