// SPDX-License-Identifier: Apache-2.0
//
// The tally: a writable map that counts in memory which many threads share, and is emptied by one of them from time to time.
//
//     (table, key) -> amount            add: any member      drain: one at a time      get, len, stats: any member, anyone
//
// Two maps stand behind one interface:
//   TALLY_MAP_CAS      lock-free. Chains whose heads are exchanged by compare-and-swap; an entry never changes once it is linked, but for its
//                      amount, to which an atomic addition adds.
//   TALLY_MAP_SHARDED  64 shards (or as many as asked for) with a lock word each and open addressing inside.
// Neither allocates after init or leaves garbage. The map holds two generations of counts: a drain makes the other one current and then owns
// the full one, while members go on counting in the empty one.
//
// Memory: the caller's, of a fixed size; refers to itself by offset, so threads and processes may have it mapped at different addresses.
// Threads: everything may be called from any thread, but a member belongs to one at a time.
// Exactness: an addition that was answered TALLY_OK is in exactly one drain. Any other answer: it is in none, and stats say so.
// Cost: an addition hashes the key and touches two or three cache lines, an atomic operation or two among them.
#ifndef TALLYCAST_TALLY_H
#define TALLYCAST_TALLY_H

#include <tallycast/bytes.h>
#include <tallycast/siphash.h>
#include <tallycast/status.h>

#define TALLY_MEMBERS_MAX    64u
#define TALLY_MAP_TABLES_MAX 64u
#define TALLY_MAP_BYTES_MIN  (64u << 10)
#define TALLY_MAP_SHARDS     64u
#define TALLY_MAP_SHARDS_MAX 4096u
#define TALLY_MAP_AMOUNT_MAX                                                                                           \
    ((int64_t)1 << 53) // of one addition, so that a sum in one generation cannot overflow unseen

enum tally_map_kind { TALLY_MAP_CAS, TALLY_MAP_SHARDED };

struct tally_map_options {
    enum tally_map_kind kind;
    struct tally_seed seed; // of the hash; random, so that nobody outside can make keys collide
    uint32_t shards;        // a power of two up to TALLY_MAP_SHARDS_MAX; 0: TALLY_MAP_SHARDS. Sharded only
};

// How a thread waits for a lock of the sharded map, and wakes those who wait: futex, memory.atomic.wait32. `wait` returns when the word is
// not `expected` any more, when woken, or for no reason. `wait` null (a browser's main thread may not): it spins. If any member
// of a map waits, all of them must be able to wake.
struct tally_map_waiter {
    void *ctx;
    void (*wait)(void *ctx, _Atomic uint32_t *word, uint32_t expected);
    void (*wake)(void *ctx, _Atomic uint32_t *word);
};

struct tally_map;

struct tally_member {
    struct tally_map *map;
    struct tally_map_waiter waiter;
    uint32_t slot;
};

struct tally_map_stats {
    uint64_t adds;           // that were counted
    uint64_t refused;        // that were not, for lack of room
    uint64_t refused_amount; // what they would have added
    uint64_t contention;     // times that a member met another: a compare-and-swap that failed, a lock that was held
    uint64_t drains;
    uint64_t evicted; // members whose thread was gone
    uint64_t bytes;   // of the memory
    uint64_t keys;    // in the current generation
};

// `memory` is aligned to 64 bytes, zeroed or not. TALLY_INVALID: under TALLY_MAP_BYTES_MIN, over 16 GiB, not aligned, unknown kind,
// shards that are no power of two, or too many for the memory: each half of a shard has room for one longest key at least.
TALLY_CHECKED enum tally_status tally_map_init(void *memory, size_t bytes, const struct tally_map_options *options,
                                               struct tally_map **out_map);

// TALLY_FULL when there are TALLY_MEMBERS_MAX. `waiter` null: it spins.
TALLY_CHECKED enum tally_status tally_map_join(struct tally_map *map, const struct tally_map_waiter *waiter,
                                               struct tally_member *out_member);
void tally_map_leave(struct tally_member *member);

// For a member whose thread has ended without leaving, in the middle of an addition perhaps, and will not come back (a worker that was
// terminated): frees its slot, its announcement and its lock, and wakes who waits for it. An addition that had not been answered may be counted or not.
void tally_map_evict(struct tally_member *by, uint32_t slot);

// The number of a table by its name, made on first use: the same for all members. TALLY_INVALID for a name that is not [a-z0-9_.-]{1,64},
// TALLY_FULL over TALLY_MAP_TABLES_MAX, TALLY_BUSY when a member that is making one does not go on. Cost: a scan; keep the number.
TALLY_CHECKED enum tally_status tally_map_table(struct tally_map *map, struct tally_bytes name, uint32_t *out_table);
// Empty for a number that was not given out.
struct tally_bytes tally_map_table_name(const struct tally_map *map, uint32_t table);

// TALLY_INVALID for an amount below 0 or over TALLY_MAP_AMOUNT_MAX, or a table that is not there; TALLY_LIMIT for a key that is empty or over
// TALLY_KEY_BYTES_MAX; TALLY_FULL when a new key has no room, or a sum would pass 2^62: drain it; TALLY_BUSY when a lock's holder
// does not go on (sharded). FULL and BUSY are counted as refused.
TALLY_CHECKED enum tally_status tally_map_add(struct tally_member *member, uint32_t table, struct tally_bytes key,
                                              int64_t amount);

// What the current generation has of it: 0 when it has nothing. TALLY_INVALID, TALLY_LIMIT, TALLY_BUSY as above.
TALLY_CHECKED enum tally_status tally_map_get(struct tally_member *member, uint32_t table, struct tally_bytes key,
                                              int64_t *out_amount);

#define TALLY_MAP_NONE         (-1)               // no amount: the key is not there
#define TALLY_MAP_EXCHANGE_MAX ((int64_t)1 << 62) // what an exchange may set

// For maps that are more than counts: makes the key's amount in the current generation `amount`, or takes the key out of it (TALLY_MAP_NONE), and
// gives what it was, TALLY_MAP_NONE if it was not there. One step, like an addition, with which it may be mixed. Of an exchange that meets a drain, all
// is in the generation that it began in. A key that was taken out comes in no drain, and is not counted by len; its room is used
// again when the key comes back, or when the generation is emptied. Adding 0 does not bring it back.
// TALLY_INVALID for another amount below 0 or over TALLY_MAP_EXCHANGE_MAX, otherwise as add; `stats.adds` counts additions only.
TALLY_CHECKED enum tally_status tally_map_exchange(struct tally_member *member, uint32_t table, struct tally_bytes key,
                                                   int64_t amount, int64_t *out_was);

// As get, but tells a key that is not there (TALLY_MAP_NONE) from one of amount 0.
TALLY_CHECKED enum tally_status tally_map_find(struct tally_member *member, uint32_t table, struct tally_bytes key,
                                               int64_t *out_amount);

uint64_t tally_map_len(const struct tally_map *map); // keys in the current generation
void tally_map_stats(const struct tally_map *map, struct tally_map_stats *out_stats);

// ---------------------------------------------------------------------------------------------------- drain
// begin until it is not TALLY_BUSY, next until false, end. One drainer at a time, which is the caller's business; a drainer that vanished in the
// middle is evicted and followed by another that begins anew and gets the same entries, until one gets to the end.

struct tally_entry {
    uint32_t table;
    struct tally_bytes key; // borrowed until the end of the drain
    int64_t amount;
};

struct tally_drain {
    struct tally_map *map;
    uint64_t place, chain; // where `next` stands
};

// Makes the other generation current. TALLY_BUSY: members are still finishing additions to this one; call again soon. It never waits.
TALLY_CHECKED enum tally_status tally_drain_begin(struct tally_member *member, struct tally_drain *out_drain);
// In no order; each key once.
bool tally_drain_next(struct tally_drain *drain, struct tally_entry *out_entry);
// Empties it for the drain after the next.
void tally_drain_end(struct tally_drain *drain);

#endif
