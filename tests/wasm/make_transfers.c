// SPDX-License-Identifier: Apache-2.0
//
//   make_transfers KEYS VERSIONS SEED > FILE
// A frame file (framefile.h): a whole state of KEYS keys, then deltas, VERSIONS versions in all.
#include "../support/transfers.h"

#include <tallycast/framefile.h>

static void put(struct tally_bytes message)
{
    uint8_t size[4];
    tally_store32(size, (uint32_t)message.size);
    if (fwrite(size, 1, 4, stdout) != 4 || fwrite(message.data, 1, message.size, stdout) != message.size) exit(1);
}

int main(int argc, char **argv)
{
    static struct transfers transfers;
    if (argc != 4) {
        fprintf(stderr, "usage: make_transfers KEYS VERSIONS SEED\n");
        return 2;
    }
    uint32_t keys = (uint32_t)strtoul(argv[1], NULL, 10);
    uint64_t versions = strtoull(argv[2], NULL, 10);
    if (keys < 3 || keys > TRANSFERS_KEYS_MAX) return 2;
    transfers_init(&transfers, keys, strtoull(argv[3], NULL, 10));
    fwrite(TALLY_FRAMEFILE_MAGIC, 1, TALLY_FRAMEFILE_MAGIC_BYTES, stdout);
    put(transfers_whole(&transfers));
    while (transfers.version < versions) put(transfers_next(&transfers, keys / 8));
    transfers_deinit(&transfers);
    return fflush(stdout) ? 1 : 0;
}
