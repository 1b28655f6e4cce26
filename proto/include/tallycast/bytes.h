// SPDX-License-Identifier: Apache-2.0
//
// A borrowed run of bytes: owns nothing, valid as long as what it points into.
#ifndef TALLYCAST_BYTES_H
#define TALLYCAST_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct tally_bytes {
    const uint8_t *data;
    size_t size;
};

static inline struct tally_bytes tally_bytes(const void *data, size_t size) { return (struct tally_bytes){data, size}; }

static inline bool tally_bytes_equal(struct tally_bytes a, struct tally_bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

// Little-endian loads and stores at any alignment. The compilers we use turn them into one instruction.
static inline uint64_t tally_load64(const uint8_t *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 |
           (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

static inline void tally_store64(uint8_t *p, uint64_t v)
{
    // Written out: a loop would stay one.
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
    p[2] = (uint8_t)(v >> 16);
    p[3] = (uint8_t)(v >> 24);
    p[4] = (uint8_t)(v >> 32);
    p[5] = (uint8_t)(v >> 40);
    p[6] = (uint8_t)(v >> 48);
    p[7] = (uint8_t)(v >> 56);
}

static inline uint32_t tally_load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void tally_store32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (8 * i));
}

// True for [a-z0-9_.-]{1,64}: the names of datasets and tables.
bool tally_name_valid(struct tally_bytes name);

#endif
