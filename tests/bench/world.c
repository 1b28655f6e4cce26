// SPDX-License-Identifier: Apache-2.0
#include "world.h"
#include "bench.h"

#include <stdio.h>
#include <tallycast/fingerprint.h>

// A chunk ends with the row that passes this: the rest is room for that row's key, and for what a row takes beside its key.
#define CHUNK_BYTES (TALLY_CHUNK_BYTES_MAX / 2)
#define ROW_BYTES   4u

static struct tally_digest row_digest(const struct world *world, uint64_t table, uint32_t id)
{
    struct tally_bytes key = world_key(world, id);
    return tally_digest_row(table, tally_fingerprint(world->seed, key.data, key.size), world->values[id]);
}

static struct tally_frame_header header(const struct world *world, uint64_t from)
{
    return (struct tally_frame_header){
        .dataset = test_text("main"),
        .epoch = 1,
        .from = from,
        .to = world->version,
        .cut_ms = 1700000000000 + world->version,
        .digest = world->digest,
        .rows = world->keys_count,
        .seed = from ? (struct tally_seed){0, 0} : world->seed,
    };
}

void world_apply(struct world *world, struct tally_bytes frame, enum tally_status expected)
{
    enum tally_status status = tally_mirror_apply(world->mirror, &world->memory, frame);
    if (status == expected) return;
    fprintf(stderr, "bench: apply of version %llu: %s\n", (unsigned long long)world->version, tally_status_str(status));
    exit(1);
}

static void finish(struct test_frame *frame)
{
    if (tally_frame_finish(&frame->writer) == TALLY_OK) return;
    fprintf(stderr, "bench: a frame could not be written\n");
    exit(1);
}

// The first id that is not in the chunk that starts with `id`.
static uint32_t chunk_end(const struct world *world, uint32_t id)
{
    for (size_t bytes = 0; id < world->keys_count && bytes < CHUNK_BYTES; id++)
        bytes += world_key(world, id).size + ROW_BYTES;
    return id;
}

static void load(struct world *world)
{
    struct tally_frame_header head = header(world, 0);
    for (uint32_t id = 0; id < world->keys_count; head.chunk++) {
        struct test_frame frame;
        test_frame_init(&frame);
        uint32_t end = chunk_end(world, id);
        head.more = end < world->keys_count;
        tally_frame_begin(&frame.writer, &head);
        tally_frame_table_begin(&frame.writer, 0, test_text("t"), TALLY_KIND_COUNTER);
        tally_frame_table_rows(&frame.writer, world->keys_count);
        for (; id < end; id++) tally_frame_added(&frame.writer, id, world_key(world, id), world->values[id]);
        tally_frame_table_end(&frame.writer);
        finish(&frame);
        struct tally_bytes bytes = test_frame_bytes(&frame);
        double start = bench_now_ns();
        world_apply(world, bytes, head.more ? TALLY_MORE : TALLY_OK);
        world->load_ns += bench_now_ns() - start;
        world->load_bytes += bytes.size;
        test_frame_free(&frame);
    }
}

// The keys are there.
static void init(struct world *world, uint32_t keys_count, uint64_t seed)
{
    world->keys_count = keys_count;
    world->seed = (struct tally_seed){seed, 77};
    world->version = 1;
    world->random = seed;
    world->values = bench_huge((size_t)keys_count * 8);
    uint64_t table = tally_digest_table(world->seed, test_text("t"));
    for (uint32_t id = 0; id < keys_count; id++) {
        world->values[id] = id + 1;
        tally_digest_add(&world->digest, row_digest(world, table, id));
    }
    struct tally_mirror_options options = {test_text("main"), 0};
    if (tally_memory_map((size_t)8 << 30, TALLY_MEMORY_HUGE, &world->memory) ||
        tally_mirror_init(&world->memory, &options, &world->mirror) ||
        tally_reader_open(world->mirror, &world->reader)) {
        fprintf(stderr, "bench: no mirror\n");
        exit(1);
    }
    load(world);
}

void world_init(struct world *world, uint32_t keys_count, uint64_t seed)
{
    *world = (struct world){.keys = bench_huge((size_t)keys_count * 8)};
    for (uint32_t id = 0; id < keys_count; id++) world->keys[id] = tally_mix64(seed + id + 1);
    init(world, keys_count, seed);
}

void world_init_names(struct world *world, const struct names *names, uint64_t seed)
{
    *world = (struct world){.names = names};
    init(world, names->count, seed);
}

void world_draw(struct world *world, struct draws *draws)
{
    for (size_t i = 0; i < draws->count; i++)
        draws_set(draws, i, world_key(world, (uint32_t)bench_below(&world->random, world->keys_count)));
}

void world_deinit(struct world *world)
{
    tally_reader_close(&world->reader);
    tally_memory_unmap(&world->memory);
    if (world->keys) bench_huge_free(world->keys, (size_t)world->keys_count * 8);
    bench_huge_free(world->values, (size_t)world->keys_count * 8);
}

// A bit for each id, `count` of them set.
static uint8_t *draw(struct world *world, uint32_t count)
{
    uint8_t *drawn = calloc(world->keys_count / 8 + 1, 1);
    if (!drawn) exit(1);
    while (count) {
        uint32_t id = (uint32_t)bench_below(&world->random, world->keys_count);
        if (drawn[id / 8] >> (id % 8) & 1) continue;
        drawn[id / 8] |= (uint8_t)(1 << (id % 8));
        count--;
    }
    return drawn;
}

struct tally_bytes world_cut_rows(struct world *world, const uint32_t *ids, const int64_t *differences, uint32_t count,
                                  struct test_frame *frame)
{
    uint64_t table = tally_digest_table(world->seed, test_text("t"));
    for (uint32_t i = 0; i < count; i++) {
        tally_digest_subtract(&world->digest, row_digest(world, table, ids[i]));
        world->values[ids[i]] += differences[i];
        tally_digest_add(&world->digest, row_digest(world, table, ids[i]));
    }
    world->version++;
    struct tally_frame_header head = header(world, world->version - 1);
    test_frame_init(frame);
    tally_frame_begin(&frame->writer, &head);
    tally_frame_table_begin(&frame->writer, 0, tally_bytes(NULL, 0), TALLY_KIND_UNSPECIFIED);
    for (uint32_t i = 0; i < count; i++) tally_frame_changed(&frame->writer, ids[i], differences[i]);
    tally_frame_table_end(&frame->writer);
    finish(frame);
    return test_frame_bytes(frame);
}

struct tally_bytes world_cut(struct world *world, uint32_t count, struct test_frame *frame)
{
    uint8_t *drawn = draw(world, count);
    int64_t *differences = malloc(count * sizeof *differences);
    uint32_t *ids = malloc(count * sizeof *ids), changed = 0;
    if (!differences || !ids) exit(1);
    for (uint32_t id = 0; id < world->keys_count; id++) {
        if (!(drawn[id / 8] >> (id % 8) & 1)) continue;
        ids[changed] = id;
        differences[changed++] = (int64_t)(1 + bench_below(&world->random, 50));
    }
    struct tally_bytes bytes = world_cut_rows(world, ids, differences, changed, frame);
    free(drawn);
    free(ids);
    free(differences);
    return bytes;
}
