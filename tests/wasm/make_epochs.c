// SPDX-License-Identifier: Apache-2.0
//
//   make_epochs > FILE
// A frame file of whole states: epochs 1, 2 and 3 of dataset "main". Tables "a" and "b" have one key, "k", and change their numbers from one
// epoch to the next; the value is ten times the epoch, and 1 more in "b". Epoch 3 has no "a".
#include "../support/build.h"

#include <stdio.h>
#include <tallycast/fingerprint.h>
#include <tallycast/framefile.h>

static void put(struct tally_bytes message)
{
    uint8_t size[4];
    tally_store32(size, (uint32_t)message.size);
    if (fwrite(size, 1, 4, stdout) != 4 || fwrite(message.data, 1, message.size, stdout) != message.size) exit(1);
}

static void write_epoch(uint64_t epoch, const char *const *tables, uint32_t count)
{
    const struct tally_seed seed = {epoch, 7};
    struct tally_frame_header header = {
        .dataset = test_text("main"), .epoch = epoch, .to = 1, .cut_ms = epoch, .rows = count, .seed = seed};
    int64_t values[2] = {0};
    for (uint32_t i = 0; i < count; i++) {
        values[i] = (int64_t)(10 * epoch) + (*tables[i] == 'b');
        tally_digest_add(&header.digest, tally_digest_row(tally_digest_table(seed, test_text(tables[i])),
                                                          tally_fingerprint(seed, "k", 1), values[i]));
    }
    struct test_frame frame;
    test_frame_init(&frame);
    tally_frame_begin(&frame.writer, &header);
    for (uint32_t i = 0; i < count; i++) {
        tally_frame_table_begin(&frame.writer, i, test_text(tables[i]), TALLY_KIND_COUNTER);
        tally_frame_added(&frame.writer, 0, test_text("k"), values[i]);
        tally_frame_table_end(&frame.writer);
    }
    if (tally_frame_finish(&frame.writer)) exit(1);
    put(test_frame_bytes(&frame));
    test_frame_free(&frame);
}

int main(void)
{
    fwrite(TALLY_FRAMEFILE_MAGIC, 1, TALLY_FRAMEFILE_MAGIC_BYTES, stdout);
    write_epoch(1, (const char *const[]){"a", "b"}, 2);
    write_epoch(2, (const char *const[]){"b", "a"}, 2);
    write_epoch(3, (const char *const[]){"b"}, 1);
    return fflush(stdout) ? 1 : 0;
}
