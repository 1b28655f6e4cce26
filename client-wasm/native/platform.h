// SPDX-License-Identifier: Apache-2.0
//
// What the core does in one way natively and in another in WASM (../wasm/platform.h).
#ifndef TALLYCAST_PLATFORM_H
#define TALLYCAST_PLATFORM_H

#include <stdatomic.h>
#include <stdint.h>

// Counts for statistics. Thread: the counter's one writer; others read it. Relaxed: the figure says nothing about anything else.
static inline void counter_add(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + more, memory_order_relaxed);
}

// Brings a line that will be read soon into the cache. The address is good.
static inline void fetch_line(const void *line) { __builtin_prefetch(line); }

#endif
