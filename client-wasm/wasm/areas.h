// SPDX-License-Identifier: Apache-2.0
//
// What lies between the modules' data and the mirror. It is not in .bss, so that instantiating does not touch (and commit) it.
//
//   AREAS_START | stacks of instances 1 to 64 (shared module only) | scratch of readers 0 to 63 | mirror
#ifndef TALLYCAST_AREAS_H
#define TALLYCAST_AREAS_H

#include "module.h"

#include <tallycast/limits.h>

extern unsigned char __heap_base; // by the linker: the end of data and stack

struct tally_mirror;

// Bytes of stacks: stacks_shared.c, stacks_none.c.
extern const uint32_t stacks_bytes;

static inline uint32_t areas_start(void) { return ((uint32_t)(uintptr_t)&__heap_base + 4095u) & ~4095u; }

// The mirror, which is there from tallycast_open on. For code that is linked with the module and reads by mirror.h.
static inline struct tally_mirror *areas_mirror(void)
{
    return (struct tally_mirror *)(uintptr_t)(areas_start() + stacks_bytes +
                                              TALLY_READERS_MAX * TALLYCAST_SCRATCH_BYTES);
}

#endif
