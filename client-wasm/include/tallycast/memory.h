// SPDX-License-Identifier: Apache-2.0
//
// Memory for a native mirror (mirror.h): address space reserved once, made usable as the mirror grows. Not part of the WASM
// modules. Threads: as `struct tally_memory`, the applier's; map and unmap by whoever owns the mirror.
#ifndef TALLYCAST_MEMORY_H
#define TALLYCAST_MEMORY_H

#include <tallycast/mirror.h>

enum tally_memory_flags {
    TALLY_MEMORY_HUGE = 1,   // advise transparent huge pages: random reads then miss the TLB less
    TALLY_MEMORY_SHARED = 2, // keep it across fork, for processes that read what this one applies
};

// Reserves `size_max` bytes (rounded up to 2 MiB) of address space, of which none are usable yet and none cost memory.
// TALLY_INVALID for size_max 0, TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_memory_map(size_t size_max, unsigned flags, struct tally_memory *out_memory);

// Gives all of it back. No reader may be reading. Nothing for memory that is not mapped (base null), so twice is fine.
void tally_memory_unmap(struct tally_memory *memory);

#endif
