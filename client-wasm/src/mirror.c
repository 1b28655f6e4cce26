// SPDX-License-Identifier: Apache-2.0
#include "arena.h"

enum tally_status tally_mirror_init(struct tally_memory *memory, const struct tally_mirror_options *options,
                                    struct tally_mirror **out_mirror)
{
    struct tally_mirror *mirror = memory->base;
    if (!mirror || (uintptr_t)mirror % LINE_BYTES || memory->size > memory->size_max) return TALLY_INVALID;
    if (!tally_name_valid(options->dataset)) return TALLY_INVALID;
    if (memory->size < sizeof *mirror &&
        (memory->size_max < sizeof *mirror || !memory->grow || !memory->grow(memory, sizeof *mirror)))
        return TALLY_NO_MEMORY;

    memset(mirror, 0, sizeof *mirror);
    mirror->dataset_bytes = (uint32_t)options->dataset.size;
    memcpy(mirror->dataset, options->dataset.data, options->dataset.size);
    mirror->retired_bytes_max = options->retired_bytes_max ? options->retired_bytes_max : memory->size_max / 2;
    mirror_arena_init(mirror, memory, lines_of(sizeof *mirror));

    uint32_t root = mirror_arena_alloc(mirror, memory, sizeof(struct tally_root));
    if (!root) return TALLY_NO_MEMORY;
    struct tally_root *empty = at(mirror, root);
    memset(empty, 0, sizeof *empty);
    empty->generation = 1;
    mirror->live_bytes = mirror_arena_block_bytes(sizeof *empty);
    atomic_store_explicit(&mirror->used_bytes, mirror->arena.used_lines * LINE_BYTES, memory_order_relaxed);
    mirror->magic = MIRROR_MAGIC;
    mirror->layout_version = MIRROR_LAYOUT;
    atomic_store(&mirror->root, root);
    atomic_store(&mirror->generation, 1);
    *out_mirror = mirror;
    return TALLY_OK;
}

static uint64_t load(const _Atomic uint64_t *figure) { return atomic_load_explicit(figure, memory_order_relaxed); }

void tally_mirror_stats(const struct tally_mirror *mirror, struct tally_mirror_stats *out_stats)
{
    struct tally_mirror_stats stats = {
        .applies = load(&mirror->applies),
        .refused = load(&mirror->refused),
        .swaps = load(&mirror->swaps),
        .rows_changed = load(&mirror->rows_changed),
        .retired_bytes = load(&mirror->retired_bytes),
        .used_bytes = load(&mirror->used_bytes),
        .memory_bytes = load(&mirror->memory_bytes),
    };
    uint64_t generation = load(&mirror->generation);
    for (uint32_t i = 0; i < TALLY_READERS_MAX; i++) {
        const struct slot *slot = &mirror->slots[i];
        uint64_t announced = load(&slot->announced);
        stats.hits += load(&slot->hits);
        stats.misses += load(&slot->misses);
        stats.readers += atomic_load_explicit(&slot->open, memory_order_relaxed);
        stats.stalled_readers += announced && announced < generation;
    }
    stats.reads = stats.hits + stats.misses;
    *out_stats = stats;
}
