// SPDX-License-Identifier: Apache-2.0
//
// Reads that are measured natively and in WASM by the same code: made keys, the whole state of them, the draws, the loops. Freestanding,
// compiled into bench_contest_wasm (native.c) and into the guests (guest.c).
//
// Keys are 8 bytes that look random, or real names by the rule of tests/data/README.md. Key i has the value i + 1. All that is drawn is there
// (hits). The drawn keys' bytes lie end to end in the order in which they are read, as a request's would, so that what is measured is the
// mirror's memory and not the keys'.
#ifndef TALLY_BENCH_READS_H
#define TALLY_BENCH_READS_H

#include <tallycast/mirror.h>

#define READS_DRAWS_MAX 1000000u
#define READS_NAMES_MAX (1u << 18)  // lines of the text
#define READS_TEXT_MAX  (16u << 20) // its bytes
#define READS_KEY_MAX   256u        // bytes of a key that is made
#define READS_DRAWN_MAX (64u << 20) // bytes of all drawn keys
#define READS_MANY      16u

// Keys from here on are the names in `text`, `name<TAB>weight` a line; it stays in place. Returns how many.
uint32_t reads_names(const uint8_t *text, uint32_t text_bytes);

// Hands the whole state of `keys_count` keys, chunk by chunk, to reads_apply (the host's), which says TALLY_MORE or TALLY_OK.
TALLY_CHECKED enum tally_status reads_load(uint32_t keys_count, uint64_t seed);
enum tally_status reads_apply(struct tally_bytes frame);

// Draws `count` (at most READS_DRAWS_MAX, a multiple of READS_MANY) keys at random; how many fit is returned.
uint32_t reads_draw(uint64_t seed, uint32_t count);

// The drawn key number i.
struct tally_bytes reads_drawn(uint32_t i);

// Each gives the sum of the values. Dependent: each key's address depends on the value read before. Independent: the processor may
// overlap them. Many: get_many of READS_MANY each.
uint64_t reads_dependent(const struct tally_view *view, uint32_t count);
uint64_t reads_independent(const struct tally_view *view, uint32_t count);
uint64_t reads_many(const struct tally_view *view, uint32_t count);

#endif
