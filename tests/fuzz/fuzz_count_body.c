// SPDX-License-Identifier: Apache-2.0
//
// Bodies of POST /v1/count, plain and (first byte 1, 2) packed: whatever comes, what is taken is what a batch can carry.
#include "fuzz.h"

#include <io/count_body.h>
#include <io/inflate.h>
#include <messages/messages.h>

static void walk(struct tally_bytes text)
{
    struct tally_count_body *body = malloc(sizeof *body);
    if (!body) abort();
    tally_count_body_init(body, (struct tally_seed){1, 2});
    enum tally_status status = tally_count_body_parse(body, text);
    FUZZ_CHECK(status == TALLY_OK || status == TALLY_FULL);
    for (uint32_t i = 0; i < tally_sums_count(&body->sums); i++) {
        struct tally_sum sum;
        tally_sums_at(&body->sums, i, &sum);
        FUZZ_CHECK(sum.key.size >= 1 && sum.key.size <= TALLY_KEY_BYTES_MAX && tally_name_valid(sum.table));
        FUZZ_CHECK(sum.number >= 0 || (sum.counting != TALLY_COUNTING_ADD && sum.counting != TALLY_COUNTING_TOPK));
    }
    tally_count_body_deinit(body);
    free(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size && (data[0] == TALLY_PACKING_GZIP || data[0] == TALLY_PACKING_ZSTD)) {
        struct tally_writer out = tally_writer_growable(&tally_alloc_libc);
        if (tally_inflate((enum tally_packing)data[0], tally_bytes(data + 1, size - 1), 1 << 16, &out) == TALLY_OK)
            walk(tally_writer_bytes(&out));
        FUZZ_CHECK(out.size <= (1 << 16) + 1);
        tally_writer_free(&out);
    } else {
        walk(tally_bytes(data, size));
    }
    return 0;
}
