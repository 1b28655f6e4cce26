// SPDX-License-Identifier: Apache-2.0
//
// How many different members there were: a HyperLogLog sketch. Exact words: an estimate with a standard error of 1.04 / sqrt(2^precision)
// (12: 1.6 %, 14: 0.8 %); up to 2^precision / 4 members the sketch holds a list of them and its estimate is their number, but for one member
// in 2^26 that is taken for another.
//
//   list       entries[count], ascending: the hash's upper 26 bits << 6 | 1 + zeros that its lower 38 begin with; of equal upper bits the
//              greatest. 4 bytes a member, 2^precision bytes at most
//   registers  2^precision bytes: 1 + zeros that follow the hash's upper `precision` bits, the greatest of all members with these (at most
//              63 - precision); 0: none. Beside them the number of zeros and the sum of 2^-register of the others, so that an estimate costs
//              the same whatever the size
//
// A sketch is a function of the set of its members: order, repeats and the way it was merged leave no trace. The estimate is reckoned in
// integers, so that it is the same at every server. Source: Flajolet et al. 2007; the list as in Heule et al. 2013 (HyperLogLog++); the estimator
// is the improved raw one of Ertl 2017 (arXiv:1702.01284), without its correction for registers that are full, which takes 2^50 members.
//
// Written: the byte 0 and the entries, 4 bytes each, little-endian; or the byte 1 and the registers.
//
// A null pointer is the empty sketch. Members are 64-bit hashes (XXH3-64 of what is counted). Threads: belongs to one thread. Memory: one block.
#ifndef TALLYCAST_SERVER_SKETCH_H
#define TALLYCAST_SERVER_SKETCH_H

#include <tallycast/alloc.h>
#include <tallycast/limits.h>
#include <tallycast/wire.h>

struct tally_sketch {
    uint32_t count;     // list: entries. Registers: those that are 0
    uint32_t capacity;  // list: entries that there is room for. 0: registers
    uint64_t sum;       // registers: of 2^-register of those that are not 0, in units of 2^-(63 - precision)
    uint32_t entries[]; // or the registers, as bytes
};

// TALLY_NO_MEMORY: nothing changed. *out_changed: a new member, as far as the sketch can tell. Cost: O(entries) in the list, else O(1).
TALLY_CHECKED enum tally_status tally_sketch_add(struct tally_sketch **sketch, uint32_t precision, uint64_t member,
                                                 const struct tally_alloc *alloc, bool *out_changed);

// `into` becomes the sketch of the members of both, which have the same precision. TALLY_NO_MEMORY: nothing but repeats was added.
TALLY_CHECKED enum tally_status tally_sketch_merge(struct tally_sketch **into, const struct tally_sketch *from,
                                                   uint32_t precision, const struct tally_alloc *alloc);

// Never less when members come, but for the step from the list to registers. Cost: O(1).
int64_t tally_sketch_estimate(const struct tally_sketch *sketch, uint32_t precision);

// Bytes that it takes in memory.
size_t tally_sketch_memory(const struct tally_sketch *sketch, uint32_t precision);

// ---------------------------------------------------------------------------------------------------- codec

size_t tally_sketch_bytes(const struct tally_sketch *sketch, uint32_t precision);
void tally_sketch_write(const struct tally_sketch *sketch, uint32_t precision, struct tally_writer *out);
// TALLY_MALFORMED for anything that no sketch is written as, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_sketch_read(struct tally_bytes bytes, uint32_t precision,
                                                  const struct tally_alloc *alloc, struct tally_sketch **out_sketch);

#endif
