// SPDX-License-Identifier: Apache-2.0
//
// The tally's part of the modules' ABI: tally.h in numbers, by the same rules as module.h. One map a memory, within the mirror's memory and
// its bound.
//
// Members are threads that count: each joins once and gives its number to every call. Names and keys lie where the caller put them, its
// reader's scratch for example.
//
//   entry, 24 bytes                    tally stats, 64 bytes
//     0 i64 amount                       0 u64 adds               32 u64 drains
//     8 u32 table                        8 u64 refused            40 u64 evicted
//    12 u32 address of the key          16 u64 refused_amount     48 u64 bytes
//    16 u32 bytes of the key            24 u64 contention         56 u64 keys
//    20 u32 0
#ifndef TALLYCAST_TALLY_MODULE_H
#define TALLYCAST_TALLY_MODULE_H

#include <stdint.h>

// Applier, after tallycast_open, once. `kind` 0: lock-free, 1: sharded (`shards` 0: 64). The seed is random. A status: 12 when
// there is one already or an argument is wrong, 1 when there is no memory for it.
uint32_t tallycast_tally_open(uint32_t kind, uint32_t bytes, uint32_t shards, uint64_t seed_k0, uint64_t seed_k1);

// Any, from here on. The number of a member, or a negated status. `may_wait` 0 where the thread must not block (a browser's main thread, a
// runtime without wait): it then spins for a lock, and gives up with 24. In tallycast.wasm nobody waits.
int32_t tallycast_tally_join(uint32_t may_wait);
void tallycast_tally_leave(uint32_t member);
// `member` was of a thread that has ended without leaving; `by` is the caller's.
void tallycast_tally_evict(uint32_t by, uint32_t member);

// The number of a table, or a negated status.
int32_t tallycast_tally_table(uint32_t name, uint32_t name_bytes);
// Bytes of its name, written to `out` (64 bytes); 0 when there is none of this number.
uint32_t tallycast_tally_table_name(uint32_t table, uint32_t out);

// Statuses.
uint32_t tallycast_tally_add(uint32_t member, uint32_t table, uint32_t key, uint32_t key_bytes, int64_t amount);
uint32_t tallycast_tally_get(uint32_t member, uint32_t table, uint32_t key, uint32_t key_bytes, uint32_t out_amount);
uint32_t tallycast_tally_stats(uint32_t out_stats);

// One thread at a time. begin: a status, 24: call again soon. next: 1 and an entry, whose key is good until the end; 0 after the last.
uint32_t tallycast_tally_drain_begin(uint32_t member);
uint32_t tallycast_tally_drain_next(uint32_t out_entry);
void tallycast_tally_drain_end(void);

#endif
