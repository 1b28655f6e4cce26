// SPDX-License-Identifier: Apache-2.0
//
// The frame file: every entry is inside, the walk ends, and cutting the file where it says the good part ends makes it whole.
#include "fuzz.h"

#include <tallycast/framefile.h>
#include <tallycast/limits.h>

static enum tally_status walk(struct tally_bytes bytes, size_t *out_at)
{
    struct tally_framefile file;
    struct tally_bytes message, inner;
    enum tally_status status = tally_framefile_open(bytes, &file);
    if (status) return status;
    while ((status = tally_framefile_next(&file, &message)) == TALLY_OK) {
        FUZZ_CHECK(message.size <= TALLY_FRAME_BYTES_MAX);
        FUZZ_CHECK(message.data >= bytes.data && message.data + message.size == bytes.data + file.at);
        (void)!tally_unseal(message, &inner);
    }
    FUZZ_CHECK(file.at <= bytes.size);
    *out_at = file.at;
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0, again = 0;
    enum tally_status status = walk(tally_bytes(data, size), &at);
    if (at) FUZZ_CHECK(walk(tally_bytes(data, at), &again) == TALLY_NOT_FOUND && again == at);
    if (status == TALLY_NOT_FOUND) FUZZ_CHECK(at == size);
    return 0;
}
