// SPDX-License-Identifier: Apache-2.0
//
// As ../native/platform.h, with what WASM has.
#ifndef TALLYCAST_PLATFORM_H
#define TALLYCAST_PLATFORM_H

#include <stdint.h>

// WASM's atomics are all sequentially consistent: a relaxed store becomes one with a full fence, in the middle of every read (Wasmtime
// on x86-64: mov and mfence, which cost a hot read as much as all the rest, and let no two reads overlap in memory). So this is a
// plain store of 8 aligned bytes, which is one store on every 64-bit host. On a 32-bit one a thread that asks for the
// statistics while the low half overflows may be told a figure of two halves.
static inline void counter_add(_Atomic uint64_t *counter, uint64_t more)
{
    volatile uint64_t *plain = (volatile uint64_t *)counter;
    *plain = *plain + more;
}

// WASM has no prefetch: a load that nobody waits for. It holds its place in the processor until it is done, so there should be few
// instructions between one and the next.
static inline void fetch_line(const void *line) { (void)*(const volatile uint8_t *)line; }

#endif
