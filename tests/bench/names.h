// SPDX-License-Identifier: Apache-2.0
//
// Real names as keys, by the rule of tests/data/README.md, from the plain text that run.py and contest.py make ($TALLY_BENCH_NAMES).
// And draws of keys: what is asked for lies end to end in the order of asking, so that a read pays for the map, not for
// finding its question (a string at a random place would be a cache miss by itself). The same for everybody.
#ifndef TALLY_BENCH_NAMES_H
#define TALLY_BENCH_NAMES_H

#include <stddef.h>
#include <tallycast/bytes.h>

#define NAMES_KEY_BYTES_MAX 128u // the longest line has 92, and what stands after it

struct names {
    uint32_t count;
    uint8_t *text;   // all of them end to end, then 8 bytes that nobody asks for
    uint32_t *start; // of count + 1
    uint64_t *weight;
    size_t text_bytes;
};

// Key 0 to count - 1. Ends the process when the file is not there.
void names_load(struct names *names, uint32_t count);
void names_free(struct names *names);

static inline struct tally_bytes names_key(const struct names *names, uint32_t i)
{
    return tally_bytes(names->text + names->start[i], names->start[i + 1] - names->start[i]);
}

struct draws {
    size_t count;
    struct tally_bytes *keys; // in `text`, end to end
    uint8_t *text;
};

void draws_init(struct draws *draws, size_t count, size_t key_bytes_max);
void draws_free(struct draws *draws);

// Makes the key the draw of this number, behind the draw before it, which was set before.
static inline void draws_set(struct draws *draws, size_t i, struct tally_bytes key)
{
    uint8_t *to = i ? (uint8_t *)(uintptr_t)(draws->keys[i - 1].data + draws->keys[i - 1].size) : draws->text;
    memcpy(to, key.data, key.size);
    draws->keys[i] = tally_bytes(to, key.size);
}

#endif
