// SPDX-License-Identifier: Apache-2.0
//
// The digest of a state: the sum, modulo 2^128, of a mixed hash of (table, key, value) over all its rows. Addition
// commutes, so it does not depend on the order of rows or on a layout, and one change costs one subtraction and
// one addition. The empty state has digest 0.
//
//   t       = SipHash-1-3(seed, table name)                       once a table
//   x, y    = f + v * C1 + t,  rotl(f, 32) + v * C2 + ~t          f: fingerprint of the key, v: value
//   row     = (mix(x) , mix(y))                                   low and high 64 bits
//   mix     = the finalizer of SplitMix64 (Stafford's variant 13): every input bit reaches every output bit
//
// Threads: pure functions. It answers accidents (lost, repeated, damaged changes: 2^-128 each to pass unseen);
// it is no signature: who knows the seed can forge.
#ifndef TALLYCAST_DIGEST_H
#define TALLYCAST_DIGEST_H

#include <tallycast/siphash.h>

struct tally_digest {
    uint64_t lo, hi;
};

#define TALLY_DIGEST_BYTES     16u
#define TALLY_DIGEST_HEX_BYTES 33u // 32 hexadecimal digits (high half first) and the NUL

static inline uint64_t tally_mix64(uint64_t x)
{
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static inline uint64_t tally_digest_table(struct tally_seed seed, struct tally_bytes table_name)
{
    return tally_siphash(seed, table_name.data, table_name.size);
}

static inline struct tally_digest tally_digest_row(uint64_t table, uint64_t fingerprint, int64_t value)
{
    uint64_t v = (uint64_t)value;
    return (struct tally_digest){
        .lo = tally_mix64(fingerprint + v * 0x9e3779b97f4a7c15u + table),
        .hi = tally_mix64(tally_rotl64(fingerprint, 32) + v * 0xd6e8feb86659fd93u + ~table),
    };
}

static inline void tally_digest_add(struct tally_digest *sum, struct tally_digest row)
{
    sum->lo += row.lo;
    sum->hi += row.hi + (sum->lo < row.lo);
}

static inline void tally_digest_subtract(struct tally_digest *sum, struct tally_digest row)
{
    sum->hi -= row.hi + (sum->lo < row.lo);
    sum->lo -= row.lo;
}

static inline bool tally_digest_equal(struct tally_digest a, struct tally_digest b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

// Wire form: 16 bytes, little-endian, low half first.
static inline struct tally_digest tally_digest_load(const uint8_t bytes[TALLY_DIGEST_BYTES])
{
    return (struct tally_digest){tally_load64(bytes), tally_load64(bytes + 8)};
}

static inline void tally_digest_store(uint8_t bytes[TALLY_DIGEST_BYTES], struct tally_digest digest)
{
    tally_store64(bytes, digest.lo);
    tally_store64(bytes + 8, digest.hi);
}

// Text form: 32 lower-case hexadecimal digits, most significant first. `parse` is strict: false, and *out_digest
// untouched, for anything else.
void tally_digest_format(struct tally_digest digest, char out_text[TALLY_DIGEST_HEX_BYTES]);
bool tally_digest_parse(const char *text, struct tally_digest *out_digest);

#endif
