// SPDX-License-Identifier: Apache-2.0
//
// The scalar ABI of tallycast.wasm and tallycast-shared.wasm: what a host (Wasmtime, V8, a hand-written one) calls. It is mirror.h
// in numbers: addresses and sizes are u32 (i32 in WASM), 64-bit figures are i64. Nothing here traps on a wrong argument that is
// a number of this ABI (slot, view, table); an address that the host gives must be good, as for any C function.
//
// The modules.
//   tallycast.wasm         exports its own `memory`, imports nothing. One thread; the host is applier and reader.
//   tallycast-shared.wasm  imports `env.memory`, a shared memory, and nothing else. The host makes one memory: initial pages at least
//                          what the import asks for, maximum what the mirror may take in all, to 65536 pages. Then one instance a
//                          thread on that one memory. The first instantiation sets the data up, later ones find it done
//                          and change nothing.
// Both export `__stack_pointer` (mutable i32). An instance runs on the stack it points to, and all instances of a module
// start with the same one: of several instances on one memory each must be given its own before any other call:
//     instance.__stack_pointer = instance.tallycast_stack(n)      with n = 1, 2 ... different for each instance
// tallycast_stack itself uses no stack, so it may be called then. Instance 0 keeps the stack it starts with.
// A memory may grow in any call of the applier: a JavaScript host takes `memory.buffer` anew after each of those.
//
// Layout of the memory: data and stack | stacks of the instances | scratch of the readers | the mirror, to the end, growing.
//
// Threads. "Applier": one thread at a time. "Reader": the thread that owns the slot. "Any": any.
// Status results are enum tally_status (proto/include/tallycast/status.h): 0 ok. Where a function gives a number and can fail, it
// gives the negated status: -2 is TALLY_FULL.
//
// Structures that calls fill in (little-endian, no padding but what is shown, address aligned to 8):
//
//   info, 80 bytes                     table info, 24 bytes          row, 24 bytes
//     0 u64 epoch                        0 u64 rows                    0 i64 value
//     8 u64 version                      8 u32 address of the name     8 u32 table
//    16 u64 cut_ms                      12 u32 bytes of the name      12 u32 id
//    24 u64 fresh_ms                    16 u32 kind                   16 u32 address of the key
//    32 u64 digest, low half            20 u32 0                      20 u32 bytes of the key
//    40 u64 digest, high half
//    48 u64 seed k0                    cursor, 8 bytes               chunk state, 24 bytes
//    56 u64 seed k1                      0 u32 table                   0 u32 cursor: table
//    64 u64 rows                         4 u32 id                      4 u32 cursor: id
//    72 u32 tables                                                     8 u32 number of the next chunk
//    76 u32 0                                                         12 u32 bytes written by this call
//                                                                     16 u32 1: more chunks follow
//   stats, 88 bytes                                                   20 u32 0
//     0 u64 reads             32 u64 refused          64 u64 used_bytes
//     8 u64 hits              40 u64 swaps            72 u64 memory_bytes
//    16 u64 misses            48 u64 rows_changed     80 u32 readers
//    24 u64 applies           56 u64 retired_bytes    84 u32 stalled_readers
//
// Addresses of names and keys are borrowed from the view and good until it is unpinned.
#ifndef TALLYCAST_MODULE_H
#define TALLYCAST_MODULE_H

#include <stdint.h>

#define TALLYCAST_ABI           2u
#define TALLYCAST_INSTANCES_MAX 64u         // on one memory, beside the first
#define TALLYCAST_STACK_BYTES   (64u << 10) // of instances 1 to 64
#define TALLYCAST_SCRATCH_BYTES (64u << 10) // of each reader
#define TALLYCAST_VIEWS_MAX     16u         // pinned at a time through one slot

// ---------------------------------------------------------------------------------------------------- any

// TALLYCAST_ABI. A host refuses a module with another number.
uint32_t tallycast_abi(void);

// Top of the stack of instance 1 to 64; 0 for a number out of range, and for every number in tallycast.wasm, which has one
// instance a memory. Uses no stack.
uint32_t tallycast_stack(uint32_t instance);

// Any, after tallycast_open. Fills `stats`. TALLY_INVALID before tallycast_open.
uint32_t tallycast_stats(uint32_t out_stats);

// ---------------------------------------------------------------------------------------------------- applier

// Address of the applier's input buffer, made at least `bytes` long, or 0 when there is no memory for it. Write a dataset's
// name or a frame there and hand it on. The content is lost when it moves, which happens only in this call. To
// 4096 bytes it can be had before tallycast_open.
uint32_t tallycast_buffer(uint32_t bytes);

// Builds the empty mirror; once in the life of a memory (TALLY_INVALID the second time). Other instances on the memory need no call.
// bytes_max: bound of the mirror's memory (0: as far as the memory grows); retired_bytes_max: as in mirror.h (0: half of that).
uint32_t tallycast_open(uint32_t dataset, uint32_t dataset_bytes, uint64_t bytes_max, uint64_t retired_bytes_max);

// tally_mirror_apply, _abandon, _confirm. The frame is borrowed for the call.
uint32_t tallycast_apply(uint32_t frame, uint32_t frame_bytes);
void tallycast_abandon(void);
void tallycast_confirm(uint64_t epoch, uint64_t version, uint64_t now_ms);

// Memory for the host's own use in this memory (for tallycast_write_chunk, for instance), aligned to 64, not zeroed; 0 when there is
// none. Give it back with the same number of bytes.
uint32_t tallycast_alloc(uint32_t bytes);
void tallycast_free(uint32_t address, uint32_t bytes);

// ---------------------------------------------------------------------------------------------------- readers

// A slot (0 to 63), or -TALLY_FULL, -TALLY_INVALID before tallycast_open. Any thread; the slot is then that thread's.
int32_t tallycast_reader_open(void);

// Unpins what is pinned and gives the slot back. Nothing for a slot that is not open. By the slot's thread, or by any other when that one is gone: a
// worker that was ended from outside, wherever it was.
void tallycast_reader_close(uint32_t slot);

// The slot's own TALLYCAST_SCRATCH_BYTES, aligned to 64, for keys in and results out; 0 for a slot out of range.
uint32_t tallycast_reader_scratch(uint32_t slot);
uint32_t tallycast_reader_scratch_size(void);

// A view of the newest version: a number 0 or more, or -TALLY_FULL past TALLYCAST_VIEWS_MAX, -TALLY_INVALID for a slot that is not
// open. Views of one slot may overlap, but while any of them is pinned the oldest holds the garbage: give a view that
// is kept long a slot of its own.
int32_t tallycast_pin(uint32_t slot);
void tallycast_unpin(uint32_t view);

// ---------------------------------------------------------------------------------------------------- single reads
// For hosts that read one key at a time: one call, of four arguments (Wasmtime passes no more in registers), and the result is a
// number, which costs a JavaScript host less than a 64-bit integer or a place in memory.

// Number of the named table, for tallycast_read. -TALLY_NOT_FOUND, -TALLY_INVALID. -TALLY_WRONG_EPOCH: another epoch came, so the
// numbers that this slot was told before are good no more. Forget them and ask again.
int32_t tallycast_read_table(uint32_t slot, uint32_t name, uint32_t name_bytes);

// The newest value of a key: pin, get, unpin. A value is rounded to a double, and left as an i64 in the first 8 bytes of the
// slot's scratch. NaN: the key has none, or the slot is not open. Infinity: `table` is a number of another epoch, or was never asked for: forget all
// numbers of tallycast_read_table and ask again.
double tallycast_read(uint32_t slot, uint32_t table, uint32_t key, uint32_t key_bytes);

// The same of a view (the scratch is that of its slot); `table` by tallycast_table. NaN also for a view that is not pinned.
double tallycast_view_read(uint32_t view, uint32_t table, uint32_t key, uint32_t key_bytes);

// ---------------------------------------------------------------------------------------------------- a view
// Each by the thread that owns the view's slot. TALLY_INVALID for a view that is not pinned.

// Fills `info`.
uint32_t tallycast_info(uint32_t view, uint32_t out_info);

// Number of the named table; -TALLY_NOT_FOUND, -TALLY_INVALID.
int32_t tallycast_table(uint32_t view, uint32_t name, uint32_t name_bytes);

// Fills `table info`. TALLY_NOT_FOUND.
uint32_t tallycast_table_info(uint32_t view, uint32_t table, uint32_t out_table_info);

// Writes an i64 to out_value. TALLY_NOT_FOUND leaves it untouched.
uint32_t tallycast_get(uint32_t view, uint32_t table, uint32_t key, uint32_t key_bytes, uint32_t out_value);

// `count` keys, packed in `keys_bytes` bytes at `keys`: u32 size, then the bytes, of each, without padding. Writes count i64 to
// out_values (0 where absent) and count bytes (1 found, 0 not) to out_found. TALLY_INVALID when the keys do not fill
// keys_bytes exactly; out_values and out_found are then undefined.
uint32_t tallycast_get_many(uint32_t view, uint32_t table, uint32_t keys, uint32_t keys_bytes, uint32_t count,
                            uint32_t out_values, uint32_t out_found);

// The next row from `cursor` (8 bytes, zero to start; advanced) into `row`. 1: a row; 0: the end, or a view not pinned.
uint32_t tallycast_next(uint32_t view, uint32_t cursor, uint32_t out_row);

// tally_view_write_chunk: `state` is `chunk state`, zeroed to start; `scratch` and `out` are 1 MiB (TALLY_CHUNK_BYTES_MAX) each,
// from tallycast_alloc for instance. Go on while the word at state + 16 is 1.
uint32_t tallycast_write_chunk(uint32_t view, uint32_t state, uint32_t scratch, uint32_t out);

#endif
