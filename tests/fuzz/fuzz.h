// SPDX-License-Identifier: Apache-2.0
//
// What the fuzz targets share. Each target is one file with LLVMFuzzerTestOneInput; it is linked with libFuzzer (-DTALLY_FUZZ=ON,
// clang) or with replay.c, which runs it over files. FUZZ_CHECK holds also in builds without assertions.
#ifndef TALLY_FUZZ_H
#define TALLY_FUZZ_H

#include "../support/memory.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(what)                                                                                               \
    do {                                                                                                               \
        if (!(what)) {                                                                                                 \
            fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #what);                                  \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

// The message with a seal that fits, in a heap block of its own (so that a sanitizer sees a read past its end): what had a check at
// its end gets a right one, what had none gets one. Damage then reaches what is behind the seal.
static inline struct tally_bytes fuzz_reseal(struct tally_bytes message)
{
    struct tally_bytes inner = message;
    if (message.size >= TALLY_SEAL_BYTES && message.data[message.size - TALLY_SEAL_BYTES] == 0x79)
        inner.size = message.size - TALLY_SEAL_BYTES;
    uint8_t *block = malloc(inner.size + TALLY_SEAL_BYTES);
    if (!block) abort();
    struct tally_writer writer = tally_writer_fixed(block, inner.size + TALLY_SEAL_BYTES);
    tally_write_raw(&writer, inner.data, inner.size);
    tally_seal(&writer, 0);
    FUZZ_CHECK(!writer.failed);
    return tally_writer_bytes(&writer);
}

static inline void fuzz_free(struct tally_bytes block) { free((void *)(uintptr_t)block.data); }

// Runs `walk` over the bytes as they are and over the bytes with a seal that fits.
static inline void fuzz_both(const uint8_t *data, size_t size, void (*walk)(struct tally_bytes message))
{
    walk(tally_bytes(data, size));
    struct tally_bytes sealed = fuzz_reseal(tally_bytes(data, size));
    walk(sealed);
    fuzz_free(sealed);
}

// An input of several messages: each has its size before it as two bytes, little-endian; the last takes what is left. False at
// the end.
static inline bool fuzz_next(struct tally_bytes *input, struct tally_bytes *out_message)
{
    if (input->size < 2) return false;
    size_t size = input->data[0] | (size_t)input->data[1] << 8;
    if (size > input->size - 2) size = input->size - 2;
    *out_message = tally_bytes(input->data + 2, size);
    *input = tally_bytes(input->data + 2 + size, input->size - 2 - size);
    return true;
}

#endif
