// SPDX-License-Identifier: Apache-2.0
#include "radix.h"

#include <string.h>

#define DIGIT_BITS 11u
#define DIGITS     (1u << DIGIT_BITS)
#define FEW        96u

static void insertion_sort(uint64_t *values, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        uint64_t value = values[i];
        size_t at = i;
        for (; at && values[at - 1] >> 32 > value >> 32; at--) values[at] = values[at - 1];
        values[at] = value;
    }
}

void tally_radix_sort(uint64_t *values, uint64_t *scratch, size_t count)
{
    if (count < FEW) {
        insertion_sort(values, count);
        return;
    }
    uint64_t all = 0;
    for (size_t i = 0; i < count; i++) all |= values[i];
    uint64_t *from = values, *to = scratch;
    for (unsigned shift = 32; shift < 64 && all >> shift; shift += DIGIT_BITS) {
        size_t places[DIGITS] = {0}, next = 0;
        for (size_t i = 0; i < count; i++) places[from[i] >> shift & (DIGITS - 1)]++;
        for (unsigned d = 0; d < DIGITS; d++) {
            size_t here = places[d];
            places[d] = next;
            next += here;
        }
        for (size_t i = 0; i < count; i++) to[places[from[i] >> shift & (DIGITS - 1)]++] = from[i];
        uint64_t *swap = from;
        from = to;
        to = swap;
    }
    if (from != values) memcpy(values, from, count * sizeof *values);
}
