// SPDX-License-Identifier: Apache-2.0
//
// The fingerprint of a key: SipHash-1-3 of its bytes under the dataset's secret seed, with 0 moved to 1 so that 0
// can mean "no row" in a mirror's line. Tables have each their own rows, so the table is not hashed in.
// The server guarantees that no two live keys of a table share one; on a clash it draws a new seed, in a new epoch.
#ifndef TALLYCAST_FINGERPRINT_H
#define TALLYCAST_FINGERPRINT_H

#include <tallycast/siphash.h>

static inline uint64_t tally_fingerprint(struct tally_seed seed, const void *key, size_t key_bytes)
{
    uint64_t h = tally_siphash(seed, key, key_bytes);
    if (__builtin_expect(h == 0, 0)) {
        __asm__(""); // stays a branch: arithmetic would be waited for by every read
        h = 1;
    }
    return h;
}

// The seed that replaces `seed` when two live keys clash at log position `version`: a pure function, so every
// server that reads the log draws the same one.
static inline struct tally_seed tally_seed_next(struct tally_seed seed, uint64_t version)
{
    uint8_t message[9];
    tally_store64(message, version);
    struct tally_seed next;
    message[8] = 0;
    next.k0 = tally_siphash(seed, message, sizeof message);
    message[8] = 1;
    next.k1 = tally_siphash(seed, message, sizeof message);
    return next;
}

#endif
