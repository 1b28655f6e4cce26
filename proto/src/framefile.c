// SPDX-License-Identifier: Apache-2.0
#include <tallycast/framefile.h>
#include <tallycast/limits.h>

enum tally_status tally_framefile_open(struct tally_bytes bytes, struct tally_framefile *out_file)
{
    if (bytes.size < TALLY_FRAMEFILE_MAGIC_BYTES) return TALLY_MALFORMED;
    if (memcmp(bytes.data, TALLY_FRAMEFILE_MAGIC, TALLY_FRAMEFILE_MAGIC_BYTES) != 0) return TALLY_MALFORMED;
    *out_file = (struct tally_framefile){.bytes = bytes, .at = TALLY_FRAMEFILE_MAGIC_BYTES};
    return TALLY_OK;
}

enum tally_status tally_framefile_next(struct tally_framefile *file, struct tally_bytes *out_message)
{
    size_t left = file->bytes.size - file->at;
    if (left == 0) return TALLY_NOT_FOUND;
    if (left < 4) return TALLY_MALFORMED;
    size_t size = tally_load32(file->bytes.data + file->at);
    if (size > TALLY_FRAME_BYTES_MAX) return TALLY_LIMIT;
    if (size > left - 4) return TALLY_MALFORMED;
    *out_message = tally_bytes(file->bytes.data + file->at + 4, size);
    file->at += 4 + size;
    return TALLY_OK;
}

void tally_framefile_begin(struct tally_writer *writer)
{
    tally_write_raw(writer, TALLY_FRAMEFILE_MAGIC, TALLY_FRAMEFILE_MAGIC_BYTES);
}

void tally_framefile_append(struct tally_writer *writer, struct tally_bytes message)
{
    uint8_t size[4];
    tally_store32(size, (uint32_t)message.size);
    tally_write_raw(writer, size, sizeof size);
    tally_write_raw(writer, message.data, message.size);
}
