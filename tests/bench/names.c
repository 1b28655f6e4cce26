// SPDX-License-Identifier: Apache-2.0
#include "names.h"
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

#define SUFFIX_BYTES_MAX 11u // @4294967295

static void fail(const char *what, const char *file)
{
    fprintf(stderr, "bench: %s: %s (tests/bench/run.sh makes it and sets TALLY_BENCH_NAMES)\n", what, file);
    exit(1);
}

// The file's bytes and a NUL.
static char *read_all(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) fail("cannot read the names", path);
    long size = ftell(file);
    rewind(file);
    char *bytes = malloc((size_t)size + 1);
    if (!bytes || fread(bytes, 1, (size_t)size, file) != (size_t)size) fail("cannot read the names", path);
    bytes[size] = 0;
    fclose(file);
    return bytes;
}

struct line {
    const char *name;
    uint32_t name_bytes;
    uint64_t weight;
};

static uint32_t split(char *bytes, struct line *lines, uint32_t lines_max)
{
    uint32_t count = 0;
    for (char *at = bytes; *at && count < lines_max; count++) {
        char *tab = strchr(at, '\t'), *end = NULL;
        if (!tab) fail("not a line of name and weight", at);
        if (tab - at > (long)(NAMES_KEY_BYTES_MAX - SUFFIX_BYTES_MAX)) fail("a name is too long", at);
        lines[count] = (struct line){at, (uint32_t)(tab - at), strtoull(tab + 1, &end, 10)};
        at = *end == '\n' ? end + 1 : end;
    }
    return count;
}

void names_load(struct names *names, uint32_t count)
{
    enum { LINES_MAX = 1 << 20 };
    const char *path = getenv("TALLY_BENCH_NAMES");
    if (!path) fail("not set", "TALLY_BENCH_NAMES");
    char *bytes = read_all(path);
    struct line *lines = malloc(LINES_MAX * sizeof *lines);
    if (!lines) fail("no memory", path);
    uint32_t lines_count = split(bytes, lines, LINES_MAX);
    if (lines_count == 0) fail("no names", path);
    size_t text_bytes = 8;
    for (uint32_t i = 0; i < count; i++) text_bytes += lines[i % lines_count].name_bytes + SUFFIX_BYTES_MAX;
    *names = (struct names){.count = count, .text_bytes = text_bytes, .text = bench_huge(text_bytes)};
    names->start = bench_huge(((size_t)count + 1) * sizeof *names->start);
    names->weight = bench_huge((size_t)count * sizeof *names->weight);
    char *at = (char *)names->text;
    for (uint32_t i = 0; i < count; i++) {
        const struct line *line = &lines[i % lines_count];
        memcpy(at, line->name, line->name_bytes);
        at += line->name_bytes;
        if (i >= lines_count) at += sprintf(at, "@%u", i / lines_count);
        names->start[i + 1] = (uint32_t)(at - (char *)names->text);
        names->weight[i] = line->weight;
    }
    free(lines);
    free(bytes);
}

void names_free(struct names *names)
{
    if (!names->text) return;
    bench_huge_free(names->text, names->text_bytes);
    bench_huge_free(names->start, ((size_t)names->count + 1) * sizeof *names->start);
    bench_huge_free(names->weight, (size_t)names->count * sizeof *names->weight);
    *names = (struct names){0};
}

void draws_init(struct draws *draws, size_t count, size_t key_bytes_max)
{
    *draws = (struct draws){count, malloc(count * sizeof *draws->keys), malloc(count * key_bytes_max)};
    if (!draws->keys || !draws->text) fail("no memory", "draws");
}

void draws_free(struct draws *draws)
{
    free(draws->keys);
    free(draws->text);
}
