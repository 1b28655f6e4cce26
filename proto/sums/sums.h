// SPDX-License-Identifier: Apache-2.0
//
// Counts merged per table and key, of every kind that a batch can carry: what a process counted and has not sent yet. In the order in which keys came, so that
// those which wait longest leave first.
//
// An entry is one (table, kind, key), of a `distinct` table one (table, key, member). Merging is what the server would do with both, one
// after the other: sums stop at the greatest number, the last of two gauges holds, an adjustment of a gauge is added to what is there and stops at
// TALLY_LEVEL_MAX.
//
// Threads: belongs to one thread. Limits: TALLY_SUMS_TABLES_MAX (table, kind) pairs, 2^32 bytes of keys. Memory grows as needed and is kept until
// deinit. Cost: a hash and a cache miss or two.
#ifndef TALLYCAST_SUMS_H
#define TALLYCAST_SUMS_H

#include <tallycast/alloc.h>
#include <tallycast/bytes.h>
#include <tallycast/siphash.h>
#include <tallycast/status.h>

#define TALLY_SUMS_TABLES_MAX 1024u

// What a number does to its row, and so the kind of table that it is for.
enum tally_counting {
    TALLY_COUNTING_ADD,    // counter: added; 0 or more
    TALLY_COUNTING_SET,    // gauge: the last one holds
    TALLY_COUNTING_ADJUST, // gauge: added to whatever it is
    TALLY_COUNTING_MIN,    // min, max: offered
    TALLY_COUNTING_MAX,
    TALLY_COUNTING_MEMBER, // distinct: the number is the hash of a member
    TALLY_COUNTING_TOPK,   // topk: added; 0 or more
    TALLY_COUNTINGS
};

struct tally_sum {
    enum tally_counting counting;
    struct tally_bytes table, key; // as entries: borrowed until the next add or drop
    int64_t number;
};

// What a process holds of one row, merged: numbers in the order in which they came.
struct tally_merged {
    bool any;
    enum tally_counting counting; // of a gauge: SET once anything has set it, else ADJUST
    int64_t number;
};
// One more number behind those. Of one kind of table: not for members.
void tally_merged_add(struct tally_merged *merged, enum tally_counting counting, int64_t number);
// What it makes of a row that has `value`, or is not there; stops where the server does.
int64_t tally_merged_over(const struct tally_merged *merged, bool found, int64_t value);

struct tally_sums_table;
struct tally_sums_entry;

struct tally_sums {
    const struct tally_alloc *alloc;
    struct tally_seed seed;
    struct tally_sums_table *tables;
    uint32_t tables_count, tables_capacity;
    struct tally_sums_entry *entries; // [first, end)
    uint32_t first, end, capacity;
    uint32_t *slots; // number of an entry plus one; 0: empty
    uint32_t slots_bits;
    uint8_t *keys;
    size_t keys_size, keys_capacity;
    uint64_t bytes; // what the entries take in batches, from above, without tables' names
};

// `seed`: random, so that nobody outside can make keys collide.
void tally_sums_init(struct tally_sums *sums, struct tally_seed seed, const struct tally_alloc *alloc);
void tally_sums_deinit(struct tally_sums *sums);

// Names, sizes and numbers were checked by the caller. TALLY_FULL (a limit above), TALLY_NO_MEMORY: nothing changed.
TALLY_CHECKED enum tally_status tally_sums_add(struct tally_sums *sums, const struct tally_sum *sum);

// What is there for the key: TALLY_NOT_FOUND when nothing. For a gauge either of SET and ADJUST asks, and *out_counting says which it is. No members.
TALLY_CHECKED enum tally_status tally_sums_get(const struct tally_sums *sums, enum tally_counting counting,
                                               struct tally_bytes table, struct tally_bytes key,
                                               enum tally_counting *out_counting, int64_t *out_number);
// Its number, as of tally_sums_at. No members.
bool tally_sums_find(const struct tally_sums *sums, enum tally_counting counting, struct tally_bytes table,
                     struct tally_bytes key, uint32_t *out_number);
// Whether adding this would make no new entry.
bool tally_sums_has(const struct tally_sums *sums, const struct tally_sum *sum);

static inline uint32_t tally_sums_count(const struct tally_sums *sums) { return sums->end - sums->first; }

// Entry number 0 to count - 1, in order of their coming.
void tally_sums_at(const struct tally_sums *sums, uint32_t number, struct tally_sum *out_sum);

// A number of its (table, kind), below TALLY_SUMS_TABLES_MAX: the same for entries that have these in common, until something is dropped.
uint32_t tally_sums_table_at(const struct tally_sums *sums, uint32_t number);

// The first `count` entries leave. Cost: O(count), and now and then a copy of what stays.
void tally_sums_drop(struct tally_sums *sums, uint32_t count);
// Brings the entries of each table together, the tables in order of their first entry, else nothing changes. TALLY_NO_MEMORY: nothing changed.
TALLY_CHECKED enum tally_status tally_sums_group(struct tally_sums *sums);
static inline void tally_sums_clear(struct tally_sums *sums) { tally_sums_drop(sums, tally_sums_count(sums)); }

// Bytes that an entry takes in a batch, from above, without its table's name.
size_t tally_sum_bytes(const struct tally_sum *sum);

#endif
