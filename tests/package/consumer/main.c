// SPDX-License-Identifier: Apache-2.0
//
// A program outside the project: applies a frame, reads a key. Prints "repos nng 3".
#include <stdio.h>
#include <stdlib.h>
#include <tallycast/memory.h>
#include <tallycast/mirror.h>

int main(int argc, char **argv)
{
    static uint8_t frame[4096];
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!file) return 2;
    size_t size = fread(frame, 1, sizeof frame, file);
    fclose(file);

    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_reader reader;
    struct tally_mirror_options options = {.dataset = tally_bytes("main", 4)};
    int64_t value;
    enum tally_status status = tally_memory_map((size_t)1 << 30, TALLY_MEMORY_HUGE, &memory);
    if (!status) status = tally_mirror_init(&memory, &options, &mirror);
    if (!status) status = tally_mirror_apply(mirror, &memory, tally_bytes(frame, size));
    if (!status) status = tally_reader_open(mirror, &reader);
    if (!status) status = tally_get(&reader, tally_bytes("repos", 5), tally_bytes("nng", 3), &value);
    if (status) {
        fprintf(stderr, "%s\n", tally_status_str(status));
        return 1;
    }
    printf("repos nng %lld\n", (long long)value);
    tally_reader_close(&reader);
    tally_memory_unmap(&memory);
    return 0;
}
