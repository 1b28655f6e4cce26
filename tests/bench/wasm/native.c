// SPDX-License-Identifier: Apache-2.0
//
// The native contestant (contest.py): native KIND KEYS SEED DRAWS NAMES [FRAMES]
// KIND is ids or names. With FRAMES it writes the whole state there as a frame file instead, and ends.
#include "../bench.h"
#include "reads.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tallycast/memory.h>

static struct tally_memory memory;
static struct tally_mirror *mirror;
static struct tally_view view;
static FILE *frames;

static void end(const char *what, const char *why)
{
    fprintf(stderr, "native: %s: %s\n", what, why);
    exit(1);
}

enum tally_status reads_apply(struct tally_bytes frame)
{
    if (!frames) return tally_mirror_apply(mirror, &memory, frame);
    uint8_t size[4];
    tally_store32(size, (uint32_t)frame.size);
    if (fwrite(size, 4, 1, frames) != 1 || fwrite(frame.data, frame.size, 1, frames) != 1) return TALLY_IO;
    return TALLY_MORE;
}

static uint8_t *read_text(const char *path, uint32_t *out_bytes)
{
    FILE *file = fopen(path, "rb");
    uint8_t *text = malloc(READS_TEXT_MAX);
    if (!file || !text) end(path, "cannot be read");
    *out_bytes = (uint32_t)fread(text, 1, READS_TEXT_MAX, file);
    fclose(file);
    return text;
}

static void measure(const char *what, uint64_t seed, uint32_t count)
{
    uint64_t (*loop)(const struct tally_view *, uint32_t) = !strcmp(what, "dependent")     ? reads_dependent
                                                            : !strcmp(what, "independent") ? reads_independent
                                                            : !strcmp(what, "many")        ? reads_many
                                                                                           : NULL;
    if (!loop) {
        puts("-");
        return;
    }
    count = reads_draw(seed, count);
    double start = bench_now_ns();
    uint64_t sum = loop(&view, count);
    double ns = (bench_now_ns() - start) / count;
    if (!sum) end(what, "nothing was read");
    printf("%.3f\n", ns);
}

int main(int argc, char **argv)
{
    if (argc < 6) end("usage", "native KIND KEYS SEED DRAWS NAMES [FRAMES]");
    uint32_t keys = (uint32_t)strtoul(argv[2], NULL, 10), draws = (uint32_t)strtoul(argv[4], NULL, 10), bytes;
    uint64_t seed = strtoull(argv[3], NULL, 10);
    if (!strcmp(argv[1], "names")) {
        uint8_t *text = read_text(argv[5], &bytes);
        if (!reads_names(text, bytes)) end(argv[5], "no names");
    }
    if (argc > 6) {
        frames = fopen(argv[6], "wb");
        if (!frames || fwrite("TALLYF1\n", 8, 1, frames) != 1) end(argv[6], "cannot be written");
        if (reads_load(keys, seed) != TALLY_MORE || fclose(frames)) end(argv[6], "cannot be written");
        return 0;
    }
    struct tally_reader reader;
    const struct tally_mirror_options options = {tally_bytes((const uint8_t *)"main", 4), 0};
    if (tally_memory_map((size_t)4 << 30, TALLY_MEMORY_HUGE, &memory) ||
        tally_mirror_init(&memory, &options, &mirror) || reads_load(keys, seed) || tally_reader_open(mirror, &reader))
        end("load", "no mirror");
    tally_view_pin(&reader, &view);
    puts("ready");
    fflush(stdout);
    char line[64];
    for (uint64_t round = 1; fgets(line, sizeof line, stdin); round++) {
        line[strcspn(line, "\n")] = 0;
        measure(line, seed + round * 1000003, draws);
        fflush(stdout);
    }
    return 0;
}
