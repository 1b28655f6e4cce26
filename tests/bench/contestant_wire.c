// SPDX-License-Identifier: Apache-2.0
//
// Frames of given changes, for bench_wire.py: their bytes, and what it takes to write and to read them, without any state or mirror.
//
//   contestant_wire --lists FILE
//
// FILE holds 64-bit numbers: for each list how many frames it has, and for each frame how many changes, then id and difference of each. A
// measurement is `bytes I`, `varints I` (both: bytes a change of list I, whole sealed frames), `encode I`, `decode I` (ns a change).
#include "bench.h"

#include "../support/build.h"

#include <stdio.h>
#include <stdlib.h>

#define LISTS_MAX     64u
#define CHANGES_ROUND 300000u // at least so many are timed

struct changes {
    uint32_t count;
    const uint64_t *pairs; // id, difference
    uint8_t *frame;        // as written
    size_t frame_bytes, varint_bytes;
};

struct list {
    size_t frames, changes;
    struct changes *of;
};

static struct list lists[LISTS_MAX];
static size_t lists_count;
static volatile uint64_t sink;

static struct tally_bytes write_frame(struct test_frame *frame, const struct changes *changes, uint64_t version)
{
    const struct tally_frame_header header = {.dataset = test_text("main"),
                                              .epoch = 0x01935a2b3c4d5e6f,
                                              .from = version - 1,
                                              .to = version,
                                              .cut_ms = 1732300000000 + 20 * version,
                                              .digest = {version * 0x9e3779b97f4a7c15u, version * 0xd6e8feb86659fd93u},
                                              .rows = 1000000};
    frame->out.size = 0;
    tally_frame_begin(&frame->writer, &header);
    tally_frame_table_begin(&frame->writer, 0, tally_bytes(NULL, 0), TALLY_KIND_UNSPECIFIED);
    for (uint32_t i = 0; i < changes->count; i++)
        tally_frame_changed(&frame->writer, (uint32_t)changes->pairs[2 * i], (int64_t)changes->pairs[2 * i + 1]);
    tally_frame_table_end(&frame->writer);
    if (tally_frame_finish(&frame->writer)) exit(1);
    return test_frame_bytes(frame);
}

// Reads all of it. The sum of everything, so that nothing is left out.
static uint64_t read_frame(struct tally_bytes message, uint32_t *out_count)
{
    struct tally_frame_reader reader;
    struct tally_table_reader table;
    uint64_t sum = 0;
    uint32_t id, count = 0;
    int64_t difference;
    if (tally_frame_open(message, &reader) || tally_frame_next_table(&reader, &table)) exit(1);
    while (tally_table_next_changed(&table, &id, &difference) == TALLY_OK) {
        sum += id * (uint64_t)difference;
        count++;
    }
    *out_count = count;
    return sum;
}

// The same frame with varint columns.
static size_t varint_frame_bytes(const struct changes *changes, uint64_t version)
{
    struct test_frame frame;
    test_frame_init(&frame);
    const struct changes none = {0};
    size_t bytes = write_frame(&frame, &none, version).size, gaps = 0, differences = 0;
    for (uint32_t i = 0; i < changes->count; i++) {
        gaps += tally_varint_size(changes->pairs[2 * i] - (i ? changes->pairs[2 * i - 2] : 0));
        differences += tally_varint_size(tally_zigzag((int64_t)changes->pairs[2 * i + 1]));
    }
    size_t table = 2 + tally_varint_size(gaps) + tally_varint_size(differences) + gaps + differences;
    test_frame_free(&frame);
    return bytes + 1 + tally_varint_size(table) + table;
}

static void prepare(struct changes *changes, uint64_t version)
{
    struct test_frame frame;
    uint64_t sum = 0;
    uint32_t count;
    test_frame_init(&frame);
    struct tally_bytes bytes = write_frame(&frame, changes, version);
    changes->frame = malloc(bytes.size);
    if (!changes->frame) exit(1);
    memcpy(changes->frame, bytes.data, bytes.size);
    changes->frame_bytes = bytes.size;
    changes->varint_bytes = varint_frame_bytes(changes, version);
    for (uint32_t i = 0; i < changes->count; i++) sum += changes->pairs[2 * i] * changes->pairs[2 * i + 1];
    if (read_frame(bytes, &count) != sum || count != changes->count) {
        fprintf(stderr, "contestant_wire: a frame reads as something else\n");
        exit(1);
    }
    test_frame_free(&frame);
}

static void load(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) exit(1);
    size_t size = (size_t)ftell(file);
    uint64_t *words = malloc(size + 8), *at = words;
    rewind(file);
    if (!words || fread(words, 1, size, file) != size) exit(1);
    fclose(file);
    while (at < words + size / 8 && lists_count < LISTS_MAX) {
        struct list *list = &lists[lists_count++];
        list->frames = *at++;
        list->of = calloc(list->frames, sizeof *list->of);
        if (!list->of) exit(1);
        for (size_t i = 0; i < list->frames; i++) {
            list->of[i] = (struct changes){.count = (uint32_t)at[0], .pairs = at + 1};
            at += 1 + 2 * at[0];
            list->changes += list->of[i].count;
            prepare(&list->of[i], 100 + i);
        }
    }
}

static double encode(const struct list *list)
{
    struct test_frame frame;
    size_t done = 0;
    test_frame_init(&frame);
    write_frame(&frame, &list->of[0], 1); // grows the buffers, which happens once
    double start = bench_now_ns();
    for (; done < CHANGES_ROUND; done += list->changes)
        for (size_t i = 0; i < list->frames; i++) sink += write_frame(&frame, &list->of[i], 100 + i).size;
    double end = bench_now_ns();
    test_frame_free(&frame);
    return (end - start) / (double)done;
}

static double decode(const struct list *list)
{
    size_t done = 0;
    uint32_t count;
    double start = bench_now_ns();
    for (; done < CHANGES_ROUND; done += list->changes)
        for (size_t i = 0; i < list->frames; i++)
            sink += read_frame(tally_bytes(list->of[i].frame, list->of[i].frame_bytes), &count);
    return (bench_now_ns() - start) / (double)done;
}

static double bytes_of(const struct list *list, bool varints)
{
    size_t bytes = 0;
    for (size_t i = 0; i < list->frames; i++) bytes += varints ? list->of[i].varint_bytes : list->of[i].frame_bytes;
    return (double)bytes / (double)list->changes;
}

int main(int argc, char **argv)
{
    if (argc != 3 || strcmp(argv[1], "--lists")) return 2;
    load(argv[2]);
    printf("ready\n");
    fflush(stdout);
    char what[32];
    size_t number;
    while (scanf("%31s %zu", what, &number) == 2) {
        if (number >= lists_count) return 2;
        const struct list *list = &lists[number];
        double value = !strcmp(what, "encode")   ? encode(list)
                       : !strcmp(what, "decode") ? decode(list)
                                                 : bytes_of(list, !strcmp(what, "varints"));
        printf("%.9g\n", value);
        fflush(stdout);
    }
    return 0;
}
