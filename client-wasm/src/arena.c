// SPDX-License-Identifier: Apache-2.0
#include "arena.h"

#define GROW_BYTES_MIN  ((size_t)1 << 20)
#define GROW_BYTES_MAX  ((size_t)4 << 20) // taken ahead of need; a call to the host for so much is cheap
#define ALIGN_LINES_MAX 64u               // 4 KiB
#define FETCH_AHEAD     4u                // blocks taken between the fetch of one and its own turn, plus 1
#define FETCH_LINES_MAX 16u               // of a block

static uint32_t class_of(uint32_t lines)
{
    if (lines <= 4) return lines - 1;
    uint32_t last = lines - 1;
    uint32_t exponent = 31 - (uint32_t)__builtin_clz(last);
    return (exponent - 2) * 4 + (last >> (exponent - 2));
}

static uint32_t class_lines(uint32_t class)
{
    if (class < 4) return class + 1;
    return (5 + (class & 3)) << ((class - 4) / 4);
}

static void push(struct tally_mirror *mirror, uint32_t block, uint32_t class)
{
    uint32_t first = mirror->arena.free[class];
    struct trunk *trunk = first ? at(mirror, first) : NULL;
    if (trunk && trunk->count < TRUNK_LEAVES) {
        trunk->leaf[trunk->count++] = block;
        return;
    }
    *(struct trunk *)at(mirror, block) = (struct trunk){.next = first};
    mirror->arena.free[class] = block;
}

// Fetches the lines of a block that will be taken soon, to write to them: the first store to each would otherwise wait for memory,
// which makes up more than half of the time of a copy to a block that was not used lately.
// Always inline: gcc 12 takes a function that does nothing but this for one without effect, and drops its calls.
static inline __attribute__((always_inline)) void fetch(struct tally_mirror *mirror, const struct trunk *trunk,
                                                        uint32_t class)
{
    if (trunk->count < FETCH_AHEAD && trunk->next == 0) return;
    uint32_t block;
    if (trunk->count >= FETCH_AHEAD) {
        block = trunk->leaf[trunk->count - FETCH_AHEAD];
    } else {
        const struct trunk *next = at(mirror, trunk->next);
        uint32_t later = FETCH_AHEAD - trunk->count - 1; // after those and the trunk itself
        block = next->count > later ? next->leaf[next->count - 1 - later] : trunk->next;
    }
    uint8_t *line = at(mirror, block);
    uint32_t lines = class_lines(class) < FETCH_LINES_MAX ? class_lines(class) : FETCH_LINES_MAX;
    for (uint32_t i = 0; i < lines; i++) __builtin_prefetch(line + (size_t)i * LINE_BYTES, 1);
}

static uint32_t pop(struct tally_mirror *mirror, uint32_t class)
{
    uint32_t block = mirror->arena.free[class];
    if (block == 0) return 0;
    struct trunk *trunk = at(mirror, block);
    fetch(mirror, trunk, class);
    if (trunk->count) return trunk->leaf[--trunk->count];
    mirror->arena.free[class] = trunk->next;
    if (trunk->next) {
        const struct trunk *next = at(mirror, trunk->next);
        if (next->next) __builtin_prefetch(at(mirror, next->next));
    }
    return block;
}

// Puts a run of lines on the free lists, largest classes first.
static void carve(struct tally_mirror *mirror, uint32_t start, uint32_t lines)
{
    while (lines) {
        uint32_t class = class_of(lines);
        if (class_lines(class) > lines) class --;
        push(mirror, start, class);
        start += class_lines(class);
        lines -= class_lines(class);
    }
}

static void set_end(struct tally_mirror *mirror, const struct tally_memory *memory)
{
    uint64_t lines = memory->size / LINE_BYTES;
    mirror->arena.end = lines > LINES_MAX ? LINES_MAX : (uint32_t)lines;
    atomic_store_explicit(&mirror->memory_bytes, memory->size, memory_order_relaxed);
}

// Makes the arena reach to `end` lines at least.
static bool extend(struct tally_mirror *mirror, struct tally_memory *memory, uint64_t end)
{
    if (end > LINES_MAX || end > memory->size_max / LINE_BYTES || !memory->grow) return false;
    size_t needed = (size_t)end * LINE_BYTES;
    size_t step = memory->size / 8 > GROW_BYTES_MIN ? memory->size / 8 : GROW_BYTES_MIN;
    if (step > GROW_BYTES_MAX) step = GROW_BYTES_MAX;
    size_t wanted = memory->size_max - memory->size > step ? memory->size + step : memory->size_max;
    bool grown = wanted > needed && memory->grow(memory, wanted);
    if (!grown) grown = memory->grow(memory, needed);
    if (grown) set_end(mirror, memory);
    return grown && mirror->arena.end >= end;
}

static uint32_t bump(struct tally_mirror *mirror, struct tally_memory *memory, uint32_t lines)
{
    struct arena *arena = &mirror->arena;
    bool align = (lines & (lines - 1)) == 0 && lines <= ALIGN_LINES_MAX;
    uint64_t start = align ? ((uint64_t)arena->bump + lines - 1) & ~(uint64_t)(lines - 1) : arena->bump;
    if (start + lines > arena->end && !extend(mirror, memory, start + lines)) return 0;
    carve(mirror, arena->bump, (uint32_t)start - arena->bump);
    arena->bump = (uint32_t)start + lines;
    return (uint32_t)start;
}

// The last resort: a larger free block, the rest of which goes back.
static uint32_t cut_up(struct tally_mirror *mirror, uint32_t class)
{
    for (uint32_t larger = class + 1; larger < ARENA_CLASSES; larger++) {
        uint32_t block = pop(mirror, larger);
        if (!block) continue;
        carve(mirror, block + class_lines(class), class_lines(larger) - class_lines(class));
        return block;
    }
    return 0;
}

void mirror_arena_init(struct tally_mirror *mirror, const struct tally_memory *memory, uint32_t first_line)
{
    mirror->arena.bump = first_line;
    mirror->arena.used_lines = first_line;
    set_end(mirror, memory);
}

uint32_t mirror_arena_alloc(struct tally_mirror *mirror, struct tally_memory *memory, size_t bytes)
{
    if (bytes == 0 || bytes > memory->size_max) return 0;
    uint32_t class = class_of(lines_of(bytes));
    uint32_t block = pop(mirror, class);
    if (!block) block = bump(mirror, memory, class_lines(class));
    if (!block) block = cut_up(mirror, class);
    if (!block) return 0;
    struct arena *arena = &mirror->arena;
    arena->used_lines += class_lines(class);
    if (arena->used_lines > arena->used_lines_max) arena->used_lines_max = arena->used_lines;
    return block;
}

void mirror_arena_free(struct tally_mirror *mirror, uint32_t block, size_t bytes)
{
    uint32_t class = class_of(lines_of(bytes));
    mirror->arena.used_lines -= class_lines(class);
    push(mirror, block, class);
}

size_t mirror_arena_block_bytes(size_t bytes) { return (size_t)class_lines(class_of(lines_of(bytes))) * LINE_BYTES; }
