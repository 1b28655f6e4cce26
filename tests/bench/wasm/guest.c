// SPDX-License-Identifier: Apache-2.0
//
// The guest that is measured: the whole module (client-wasm/wasm/module.h) and, linked to it, the loops of reads.h. So a host can
// call the module read by read, or have the guest read by itself, from the same memory.
//
// Exports beside the module's: bench_text(bytes) -> address to put the names at, before bench_load; bench_load(kind, keys, seed) -> status, 1 for
// names; bench_draw(seed, count) -> how many; bench_drawn(i) -> address, with bench_drawn_size(i); bench_dependent, bench_independent,
// bench_many (count) -> the sum of the values.
#include "reads.h"

#include "../../../client-wasm/wasm/areas.h"

#define EXPORT(name, ...)                                                                                              \
    uint32_t name(__VA_ARGS__);                                                                                        \
    __attribute__((export_name(#name))) uint32_t name(__VA_ARGS__)

static uint8_t text[READS_TEXT_MAX];
static uint32_t text_bytes;
static struct tally_reader reader;

enum tally_status reads_apply(struct tally_bytes frame)
{
    return tallycast_apply((uint32_t)(uintptr_t)frame.data, (uint32_t)frame.size);
}

EXPORT(bench_text, uint32_t bytes)
{
    if (bytes > sizeof text) return 0;
    text_bytes = bytes;
    return (uint32_t)(uintptr_t)text;
}

EXPORT(bench_load, uint32_t names, uint32_t keys, uint32_t seed)
{
    static const char dataset[] = "main";
    if (names && !reads_names(text, text_bytes)) return TALLY_INVALID;
    uint32_t status = tallycast_open((uint32_t)(uintptr_t)dataset, 4, 0, 0);
    if (status) return status;
    status = reads_load(keys, seed);
    return status ? status : (uint32_t)tally_reader_open(areas_mirror(), &reader);
}

EXPORT(bench_draw, uint32_t seed, uint32_t count) { return reads_draw(seed, count); }
EXPORT(bench_drawn, uint32_t i) { return (uint32_t)(uintptr_t)reads_drawn(i).data; }
EXPORT(bench_drawn_size, uint32_t i) { return (uint32_t)reads_drawn(i).size; }

static uint32_t in_view(uint64_t (*loop)(const struct tally_view *, uint32_t), uint32_t count)
{
    struct tally_view view;
    tally_view_pin(&reader, &view);
    uint64_t sum = loop(&view, count);
    tally_view_unpin(&view);
    return (uint32_t)sum;
}

EXPORT(bench_dependent, uint32_t count) { return in_view(reads_dependent, count); }
EXPORT(bench_independent, uint32_t count) { return in_view(reads_independent, count); }
EXPORT(bench_many, uint32_t count) { return in_view(reads_many, count); }
