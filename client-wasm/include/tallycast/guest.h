// SPDX-License-Identifier: Apache-2.0
//
// For guests in C: what a WebAssembly module that the edge runs may call, and what the edge calls in it. docs/guests.md tells the whole;
// this file is the contract, and all of it: the functions below are imports from the module "tallycast", of which a guest takes those
// that it wants. Anything else that it imports makes the edge refuse it.
//
//   clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry guest.c -o guest.wasm
//
// A guest exports its memory as `memory` (linkers do) and the function `handle`. The edge calls handle once for each request, one at a time
// in an instance; there are several instances. All that one call reads is of one version.
//
// Addresses are checked: a call with bytes that are not all in the guest's memory, or with a size over its limit, ends in a trap, and
// the request is answered with status 500 and the reason. So do a trap of any other kind; and a call that takes longer
// than the edge's guest-deadline ends with 504. The instance is then thrown away.
#ifndef TALLYCAST_GUEST_H
#define TALLYCAST_GUEST_H

#include <stdint.h>

#define TALLYCAST_IMPORT(name) __attribute__((import_module("tallycast"), import_name(#name)))
#define TALLYCAST_EXPORT(name) __attribute__((export_name(#name)))

// To be written by the guest: answers a request and gives the HTTP status, 200 to 599 but 204 and 304, which have no body.
TALLYCAST_EXPORT(handle) int32_t handle(void);

// ---------------------------------------------------------------------------------------------------- the request

// 0: GET or HEAD. 1: POST.
TALLYCAST_IMPORT(request_method) uint32_t tallycast_request_method(void);

// What follows the guest's name in the URL, its query included, as it was sent (still percent-encoded): "", "/a/b?c=d". Writes as
// many bytes as there are, but no more than `capacity`; gives how many there are.
TALLYCAST_IMPORT(request_path) uint32_t tallycast_request_path(void *out, uint32_t capacity);

// The body, likewise. At most 8 MiB.
TALLYCAST_IMPORT(request_body) uint32_t tallycast_request_body(void *out, uint32_t capacity);

// ---------------------------------------------------------------------------------------------------- the answer

// Appends to the body of the answer. At most 1 MiB in all.
TALLYCAST_IMPORT(respond) void tallycast_respond(const void *data, uint32_t bytes);

// Content-Type: 1 to 100 bytes of printable ASCII. Without it: application/json.
TALLYCAST_IMPORT(respond_type) void tallycast_respond_type(const char *text, uint32_t bytes);

// ---------------------------------------------------------------------------------------------------- reads

// The version that this call reads, and the epoch that it is of.
TALLYCAST_IMPORT(version) uint64_t tallycast_version(void);
TALLYCAST_IMPORT(epoch) uint64_t tallycast_epoch(void);

// The number of a table, for this call only; -1 when there is none of this name.
TALLYCAST_IMPORT(table) int32_t tallycast_table(const char *name, uint32_t bytes);

// 1, with the value in *out_value; 0 when there is no such key, or no such table: -1 for a table finds nothing.
TALLYCAST_IMPORT(get) int32_t tallycast_get(int32_t table, const void *key, uint32_t key_bytes, int64_t *out_value);

// `count` keys, to 4096, packed in keys_bytes bytes: of each its size (32 bits, little-endian), then its bytes, without padding. Fills `count`
// values (0 where there is none) and as many bytes of found (1 or 0); gives how many were found.
TALLYCAST_IMPORT(get_many)
uint32_t tallycast_get_many(int32_t table, const void *keys, uint32_t keys_bytes, uint32_t count, int64_t *out_values,
                            uint8_t *out_found);

// ---------------------------------------------------------------------------------------------------- counting

// Adds `amount` (0 or more) to a key of a counter, there or not yet: it is merged here, sent to a server with what others counted, and read when it
// has come back, so not by this call but with get_mine. 0: it will be counted exactly once, unless the edge dies before its spool has it. Otherwise it is
// not counted: 12 the table's name or the amount, 10 the key is empty or too long, 2 no room for a new key just now, 24 call again,
// 18 this edge does not count (its setting `count`), or what a server said of the table.
TALLYCAST_IMPORT(add)
int32_t tallycast_add(const char *table, uint32_t table_bytes, const void *key, uint32_t key_bytes, int64_t amount);

// A key with what this edge counted for it, in any way, and has not come back yet: "global plus mine". Of the newest version, which may be later than the one
// that the call reads; what this call has added is in it.
struct tallycast_mine {
    int64_t value;     // global: 0 when there is none
    int64_t mine;      // 0 when nothing waits
    int64_t total;     // both: what the value will be when that has come to it, and nothing else
    uint64_t version;  // that the value is of
    uint32_t counting; // what `mine` does to the value: 0 nothing, 1 added, 2 set, 3 the least of both, 4 the greatest
    uint32_t in_doubt; // 1: a part of `mine` may be in the value already; for a moment after the edge was started anew
};
// 0; 11: there is no such key and nothing waits for it (*out is filled with zeros but for the version). Otherwise *out is untouched: 12 the table's name or
// the key, 18 this edge does not count or the table is `distinct`, 24 call again.
// Of a topk table a key that is not among the first has the value 0: then the total is the least that it can be.
TALLYCAST_IMPORT(get_mine)
int32_t tallycast_get_mine(const char *table, uint32_t table_bytes, const void *key, uint32_t key_bytes,
                           struct tallycast_mine *out);

// ---------------------------------------------------------------------------------------------------- else

// A line of the edge's log (event=guest), cut at 1024 bytes; 16 lines a call, the rest is dropped.
TALLYCAST_IMPORT(log) void tallycast_log(const char *text, uint32_t bytes);

#endif
