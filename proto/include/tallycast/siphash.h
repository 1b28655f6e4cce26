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

// The `size` (less than 8) bytes at p as a number. In loads that overlap: a loop over bytes costs as much as the hash, because how often it
// goes round cannot be predicted.
static inline uint64_t tally_siphash_short(const uint8_t *p, size_t size)
{
    if (size >= 4) return tally_load32(p) | (uint64_t)tally_load32(p + size - 4) << (8 * (size - 4));
    if (size == 0) return 0;
    return (uint64_t)p[0] | (uint64_t)p[size / 2] << (8 * (size / 2)) | (uint64_t)p[size - 1] << (8 * (size - 1));
}

// The last block: the bytes behind the last whole 8, and the size.
static inline uint64_t tally_siphash_last(const uint8_t *p, size_t size)
{
    uint64_t rest = size < 8
                        ? tally_siphash_short(p, size)
                        : tally_load64(p + size - 8) >> 8 >> (56 - 8 * (size & 7)); // twice: 64 at once is no shift
    return rest | (uint64_t)size << 56;
}

// Inline because a read of the mirror starts with it; always, because clang's flatten reaches one call deep.
__attribute__((always_inline)) static inline uint64_t tally_siphash(struct tally_seed seed, const void *data,
                                                                    size_t size)
{
    const uint8_t *p = data;
    uint64_t v0 = seed.k0 ^ 0x736f6d6570736575u, v1 = seed.k1 ^ 0x646f72616e646f6du;
    uint64_t v2 = seed.k0 ^ 0x6c7967656e657261u, v3 = seed.k1 ^ 0x7465646279746573u;
    uint64_t last = tally_siphash_last(p, size);
    for (size_t left = size / 8; left; left--, p += 8) {
        uint64_t m = tally_load64(p);
        v3 ^= m;
        TALLY_SIPROUND(v0, v1, v2, v3);
        v0 ^= m;
        // Or the compiler counts in pointers; then the end of the loop, which is guessed wrong as often as not, is known only when
        // the pointer is, while the size often is earlier.
        __asm__("" : "+r"(left));
    }
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
