// SPDX-License-Identifier: Apache-2.0
#include "arena.h"

#define GROW_BYTES_MIN  ((size_t)1 << 20)
#define GROW_BYTES_MAX  ((size_t)4 << 20) // taken ahead of need; a call to the host for so much is cheap
#define ALIGN_LINES_MAX 64u               // 4 KiB
#define FETCH_AHEAD     4u                // blocks taken between the fetch of one and its own turn, plus 1
#define FETCH_LINES_MAX 16u               // of a block
#define FREE_PART       2u                // see arena.h
#define FREE_LINES_MIN  (((size_t)1 << 20) / LINE_BYTES)

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

// A larger free block, the rest of which goes back.
static uint32_t cut_up(struct tally_mirror *mirror, uint32_t class)
{
    uint32_t lines = class_lines(class);
    bool align = (lines & (lines - 1)) == 0 && lines <= ALIGN_LINES_MAX;
    for (uint32_t larger = class + 1; larger < ARENA_CLASSES; larger++) {
        uint32_t block = pop(mirror, larger), end = block + class_lines(larger), start = block;
        if (!block) continue;
        if (align && end - ((block + lines - 1) & ~(lines - 1)) >= lines) start = (block + lines - 1) & ~(lines - 1);
        carve(mirror, block, start - block);
        carve(mirror, start + lines, end - start - lines);
        return start;
    }
    return 0;
}

// ---------------------------------------------------------------------------------------------------- joining

// Sets the bits of a free block's lines.
static void mark(uint64_t *bits, uint32_t block, uint32_t lines)
{
    for (uint32_t at = block, end = block + lines; at < end;) {
        uint32_t first = at % 64, count = 64 - first < end - at ? 64 - first : end - at;
        bits[at / 64] |= (count == 64 ? UINT64_MAX : ((uint64_t)1 << count) - 1) << first;
        at += count;
    }
}

// The first line from `line` on whose bit is as wanted, or `end`.
static uint32_t next_line(const uint64_t *bits, uint32_t line, uint32_t end, bool wanted)
{
    while (line < end) {
        uint64_t word = (wanted ? bits[line / 64] : ~bits[line / 64]) >> line % 64;
        if (word) {
            line += (uint32_t)__builtin_ctzll(word);
            return line < end ? line : end;
        }
        line = (line / 64 + 1) * 64;
    }
    return end;
}

// Takes all free lists apart into a bit a line.
static void lists_to_bits(struct tally_mirror *mirror, uint64_t *bits)
{
    for (uint32_t i = 0; i < ARENA_CLASSES; i++) {
        for (uint32_t first = mirror->arena.free[i], next; first; first = next) {
            const struct trunk *trunk = at(mirror, first);
            next = trunk->next;
            for (uint32_t leaf = 0; leaf < trunk->count; leaf++) mark(bits, trunk->leaf[leaf], class_lines(i));
            mark(bits, first, class_lines(i));
        }
        mirror->arena.free[i] = 0;
    }
}

// Makes one free block of those that lie together. The bits lie in a block of the arena; without one, nothing is done. Cost: the free blocks, and
// the memory's lines / 64.
static void join(struct tally_mirror *mirror, struct tally_memory *memory)
{
    uint32_t end = mirror->arena.bump, block = 0;
    size_t bytes = ((size_t)end / 64 + 1) * sizeof(uint64_t);
    uint32_t smallest = class_of(lines_of(bytes)), class = smallest;
    for (; !block && class < ARENA_CLASSES; class ++) block = pop(mirror, class);
    class = block ? class - 1 : smallest;
    if (!block) block = bump(mirror, memory, class_lines(class));
    mirror->arena.taken_lines = 0;
    if (!block) return;
    uint64_t *bits = at(mirror, block);
    memset(bits, 0, bytes);
    lists_to_bits(mirror, bits);
    for (uint32_t start = next_line(bits, 0, end, true), stop; start < end; start = next_line(bits, stop, end, true)) {
        stop = next_line(bits, start, end, false);
        carve(mirror, start, stop - start);
    }
    push(mirror, block, class);
}

// Whether so much is free that the memory should not grow.
static bool much_free(const struct arena *arena)
{
    uint64_t free = arena->bump - arena->used_lines;
    return free > FREE_LINES_MIN + arena->used_lines / FREE_PART;
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
    if (!block && much_free(&mirror->arena)) {
        if (mirror->arena.taken_lines > mirror->arena.bump) join(mirror, memory);
        block = cut_up(mirror, class);
    }
    if (!block) block = bump(mirror, memory, class_lines(class));
    if (!block) block = cut_up(mirror, class);
    if (!block) return 0;
    struct arena *arena = &mirror->arena;
    arena->used_lines += class_lines(class);
    arena->taken_lines += class_lines(class);
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
