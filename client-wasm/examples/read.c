// SPDX-License-Identifier: Apache-2.0
// One key of a whole state: curl -s http://127.0.0.1:8091/v1/snapshot | ./read main files nng/README.md
// cc read.c -o read $(pkg-config --cflags --libs tallycast)
#include <stdio.h>
#include <stdlib.h>
#include <tallycast/framefile.h>
#include <tallycast/memory.h>
#include <tallycast/mirror.h>

static uint8_t bytes[256 << 20];

int main(int argc, char **argv)
{
    struct tally_framefile file;
    struct tally_bytes frame;
    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_reader reader;
    int64_t value;
    if (argc != 4 || tally_framefile_open(tally_bytes(bytes, fread(bytes, 1, sizeof bytes, stdin)), &file)) return 2;
    struct tally_mirror_options options = {.dataset = tally_bytes(argv[1], strlen(argv[1]))};
    enum tally_status status = tally_memory_map((size_t)4 << 30, TALLY_MEMORY_HUGE, &memory);
    if (!status) status = tally_mirror_init(&memory, &options, &mirror);
    while (!status && !tally_framefile_next(&file, &frame)) {
        status =
            tally_mirror_apply(mirror, &memory, frame); // each is verified; a state in chunks is there with its last
        if (status == TALLY_MORE) status = TALLY_OK;
    }
    if (!status) status = tally_reader_open(mirror, &reader);
    if (!status)
        status =
            tally_get(&reader, tally_bytes(argv[2], strlen(argv[2])), tally_bytes(argv[3], strlen(argv[3])), &value);
    if (!status) printf("%lld\n", (long long)value);
    if (status) fprintf(stderr, "%s\n", tally_status_str(status));
    return status != TALLY_OK;
}
