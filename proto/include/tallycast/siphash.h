// SPDX-License-Identifier: Apache-2.0
//
// SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012; the reduced-round variant that
// Rust and Python use for their maps). Additions, rotations and xors only, so it is as fast in WASM as natively,
// has a published specification for every language, and an attacker who does not know the key cannot make
// collisions. Threads: pure functions. Cost: one round per 8 bytes and four more.
#ifndef TALLYCAST_SIPHASH_H
#define TALLYCAST_SIPHASH_H

#include <tallycast/bytes.h>

struct tally_seed {
    uint64_t k0, k1;
};

static inline uint64_t tally_rotl64(uint64_t x, unsigned n) { return x << n | x >> (64 - n); }

#define TALLY_SIPROUND(v0, v1, v2, v3)                                                                                 \
    do {                                                                                                               \
        (v0) += (v1), (v1) = tally_rotl64((v1), 13), (v1) ^= (v0), (v0) = tally_rotl64((v0), 32);                      \
        (v2) += (v3), (v3) = tally_rotl64((v3), 16), (v3) ^= (v2);                                                     \
        (v0) += (v3), (v3) = tally_rotl64((v3), 21), (v3) ^= (v0);                                                     \
        (v2) += (v1), (v1) = tally_rotl64((v1), 17), (v1) ^= (v2), (v2) = tally_rotl64((v2), 32);                      \
    } while (0)

// Inline because a read of the mirror starts with it.
static inline uint64_t tally_siphash(struct tally_seed seed, const void *data, size_t size)
{
    const uint8_t *p = data;
    uint64_t v0 = seed.k0 ^ 0x736f6d6570736575u, v1 = seed.k1 ^ 0x646f72616e646f6du;
    uint64_t v2 = seed.k0 ^ 0x6c7967656e657261u, v3 = seed.k1 ^ 0x7465646279746573u;
    size_t left = size;
    for (; left >= 8; left -= 8, p += 8) {
        uint64_t m = tally_load64(p);
        v3 ^= m;
        TALLY_SIPROUND(v0, v1, v2, v3);
        v0 ^= m;
    }
    uint64_t last = (uint64_t)size << 56;
    for (size_t i = 0; i < left; i++) last |= (uint64_t)p[i] << (8 * i);
    v3 ^= last;
    TALLY_SIPROUND(v0, v1, v2, v3);
    v0 ^= last;
    v2 ^= 0xff;
    TALLY_SIPROUND(v0, v1, v2, v3);
    TALLY_SIPROUND(v0, v1, v2, v3);
    TALLY_SIPROUND(v0, v1, v2, v3);
    return v0 ^ v1 ^ v2 ^ v3;
}

#endif
