// SPDX-License-Identifier: Apache-2.0
//
// Sorts 64-bit values by their upper 32 bits, keeping the order of equal ones. `scratch` holds as many. Threads: pure function.
// Cost: O(count) for many, in as many passes as the greatest value needs digits of 11 bits.
#ifndef TALLYCAST_REPLAY_RADIX_H
#define TALLYCAST_REPLAY_RADIX_H

#include <stddef.h>
#include <stdint.h>

void tally_radix_sort(uint64_t *values, uint64_t *scratch, size_t count);

#endif
