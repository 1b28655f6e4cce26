// SPDX-License-Identifier: Apache-2.0
#include "sums.h"

#include <assert.h>
#include <string.h>
#include <tallycast/limits.h>
#include <tallycast/wire.h>

struct tally_sums_table {
    uint8_t name[TALLY_NAME_BYTES_MAX];
    uint8_t size, group;
};

// A gauge's entry is one, whether it is set or adjusted: `counting` says which.
struct tally_sums_entry {
    uint64_t key_at;
    int64_t number;
    uint32_t hash;
    uint16_t key_size, table;
    uint8_t counting;
};

#define SLOTS_BITS_MIN 6u

void tally_sums_init(struct tally_sums *sums, struct tally_seed seed, const struct tally_alloc *alloc)
{
    *sums = (struct tally_sums){.alloc = alloc, .seed = seed};
}

void tally_sums_deinit(struct tally_sums *sums)
{
    if (!sums->alloc) return;
    tally_alloc_free(sums->alloc, sums->tables);
    tally_alloc_free(sums->alloc, sums->entries);
    tally_alloc_free(sums->alloc, sums->slots);
    tally_alloc_free(sums->alloc, sums->keys);
    *sums = (struct tally_sums){0};
}

size_t tally_sum_bytes(const struct tally_sum *sum)
{
    size_t number = sum->counting == TALLY_COUNTING_MEMBER ? 8 : tally_varint_size(tally_zigzag(sum->number));
    return 1 + tally_varint_size(sum->key.size) + sum->key.size + number;
}

// ---------------------------------------------------------------------------------------------------- finding

static uint8_t group_of(enum tally_counting counting)
{
    return counting == TALLY_COUNTING_ADJUST ? TALLY_COUNTING_SET : (uint8_t)counting;
}

static bool table_is(const struct tally_sums_table *table, const struct tally_sum *sum)
{
    return table->group == group_of(sum->counting) && table->size == sum->table.size &&
           memcmp(table->name, sum->table.data, sum->table.size) == 0;
}

// tables_count when it is not there.
static uint32_t find_table(const struct tally_sums *sums, const struct tally_sum *sum)
{
    uint32_t i = 0;
    while (i < sums->tables_count && !table_is(&sums->tables[i], sum)) i++;
    return i;
}

// A member is part of what an entry is known by.
static uint64_t hash_of(const struct tally_sums *sums, uint32_t table, const struct tally_sum *sum)
{
    uint64_t hash = tally_siphash(sums->seed, sum->key.data, sum->key.size) + table * 0x9e3779b97f4a7c15u;
    if (sum->counting == TALLY_COUNTING_MEMBER) hash ^= (uint64_t)sum->number * 0xd6e8feb86659fd93u;
    return hash ^ hash >> 29;
}

static bool entry_is(const struct tally_sums *sums, const struct tally_sums_entry *entry, uint32_t table, uint64_t hash,
                     const struct tally_sum *sum)
{
    return entry->hash == (uint32_t)(hash >> 32) && entry->table == table && entry->key_size == sum->key.size &&
           memcmp(sums->keys + entry->key_at, sum->key.data, sum->key.size) == 0 &&
           (sum->counting != TALLY_COUNTING_MEMBER || entry->number == sum->number);
}

// The slot of the entry, or the empty one where it would go. There are slots.
static uint32_t *find(const struct tally_sums *sums, uint32_t table, uint64_t hash, const struct tally_sum *sum)
{
    uint32_t mask = (1u << sums->slots_bits) - 1, at = (uint32_t)hash & mask;
    while (sums->slots[at] && !entry_is(sums, &sums->entries[sums->slots[at] - 1], table, hash, sum))
        at = (at + 1) & mask;
    return &sums->slots[at];
}

static struct tally_sums_entry *look(const struct tally_sums *sums, const struct tally_sum *sum)
{
    uint32_t table = find_table(sums, sum);
    if (!sums->slots || table == sums->tables_count) return NULL;
    uint32_t slot = *find(sums, table, hash_of(sums, table, sum), sum);
    return slot ? &sums->entries[slot - 1] : NULL;
}

static struct tally_sum sum_of(const struct tally_sums *sums, const struct tally_sums_entry *entry)
{
    const struct tally_sums_table *table = &sums->tables[entry->table];
    return (struct tally_sum){.counting = (enum tally_counting)entry->counting,
                              .table = tally_bytes(table->name, table->size),
                              .key = tally_bytes(sums->keys + entry->key_at, entry->key_size),
                              .number = entry->number};
}

// ---------------------------------------------------------------------------------------------------- room

static enum tally_status grow(const struct tally_alloc *alloc, void **array, size_t size)
{
    void *grown = tally_alloc_resize(alloc, *array, size);
    if (!grown) return TALLY_NO_MEMORY;
    *array = grown;
    return TALLY_OK;
}

// All slots anew, for the entries that are there.
static void fill_slots(struct tally_sums *sums)
{
    uint32_t mask = (1u << sums->slots_bits) - 1;
    memset(sums->slots, 0, sizeof *sums->slots << sums->slots_bits);
    for (uint32_t i = sums->first; i < sums->end; i++) {
        struct tally_sum sum = sum_of(sums, &sums->entries[i]);
        uint32_t at = (uint32_t)hash_of(sums, sums->entries[i].table, &sum) & mask;
        while (sums->slots[at]) at = (at + 1) & mask;
        sums->slots[at] = i + 1;
    }
}

static enum tally_status reserve_slots(struct tally_sums *sums)
{
    uint32_t bits = sums->slots_bits ? sums->slots_bits : SLOTS_BITS_MIN;
    if (sums->slots && tally_sums_count(sums) + 1 <= (1u << bits) / 2) return TALLY_OK;
    if (sums->slots) bits++;
    if (bits > 31) return TALLY_FULL;
    uint32_t *slots = tally_alloc_resize(sums->alloc, NULL, sizeof *slots << bits);
    if (!slots) return TALLY_NO_MEMORY;
    tally_alloc_free(sums->alloc, sums->slots);
    sums->slots = slots;
    sums->slots_bits = bits;
    fill_slots(sums);
    return TALLY_OK;
}

// For one more table, entry and key.
static enum tally_status reserve(struct tally_sums *sums, const struct tally_sum *sum, bool new_table)
{
    enum tally_status status;
    if (new_table && sums->tables_count == TALLY_SUMS_TABLES_MAX) return TALLY_FULL;
    if (new_table && sums->tables_count == sums->tables_capacity) {
        uint32_t more = sums->tables_capacity ? sums->tables_capacity * 2 : 8;
        if ((status = grow(sums->alloc, (void **)&sums->tables, more * sizeof *sums->tables))) return status;
        sums->tables_capacity = more;
    }
    if (sums->end == sums->capacity) {
        uint32_t more = sums->capacity ? sums->capacity * 2 : 64;
        if (more > (1u << 30)) return TALLY_FULL;
        if ((status = grow(sums->alloc, (void **)&sums->entries, more * sizeof *sums->entries))) return status;
        sums->capacity = more;
    }
    if (sums->keys_size + sum->key.size > sums->keys_capacity) {
        size_t more = sums->keys_capacity ? sums->keys_capacity * 2 : 4096;
        if (more > (size_t)1 << 32) return TALLY_FULL;
        if ((status = grow(sums->alloc, (void **)&sums->keys, more))) return status;
        sums->keys_capacity = more;
    }
    return reserve_slots(sums);
}

// ---------------------------------------------------------------------------------------------------- adding

static int64_t plus(int64_t a, int64_t b)
{
    int64_t sum;
    if (!__builtin_add_overflow(a, b, &sum)) return sum;
    return b < 0 ? INT64_MIN : INT64_MAX;
}

// Of two within the bounds of a gauge, at which the server stops, too: beyond them it would refuse what comes of it.
static int64_t adjusted(int64_t a, int64_t b)
{
    int64_t sum = plus(a, b);
    if (sum > TALLY_LEVEL_MAX) return TALLY_LEVEL_MAX;
    return sum < -TALLY_LEVEL_MAX ? -TALLY_LEVEL_MAX : sum;
}

// `number`, then `more`.
static int64_t merge(int64_t number, enum tally_counting counting, int64_t more)
{
    switch (counting) {
    case TALLY_COUNTING_ADD:
    case TALLY_COUNTING_TOPK: return plus(number, more);
    case TALLY_COUNTING_ADJUST: return adjusted(number, more);
    case TALLY_COUNTING_SET: return more;
    case TALLY_COUNTING_MIN: return more < number ? more : number;
    case TALLY_COUNTING_MAX: return more > number ? more : number;
    default: return number; // a member is there, or it is not
    }
}

void tally_merged_add(struct tally_merged *merged, enum tally_counting counting, int64_t number)
{
    merged->number = merged->any ? merge(merged->number, counting, number) : number;
    if (!merged->any || counting == TALLY_COUNTING_SET) merged->counting = counting;
    merged->any = true;
}

int64_t tally_merged_over(const struct tally_merged *merged, bool found, int64_t value)
{
    if (!merged->any) return value;
    return found ? merge(value, merged->counting, merged->number) : merged->number;
}

static void append(struct tally_sums *sums, uint32_t table, uint64_t hash, const struct tally_sum *sum)
{
    uint32_t *slot = find(sums, table, hash, sum); // anew: there may be other slots
    if (table == sums->tables_count) {
        struct tally_sums_table *made = &sums->tables[sums->tables_count++];
        *made = (struct tally_sums_table){.size = (uint8_t)sum->table.size, .group = group_of(sum->counting)};
        memcpy(made->name, sum->table.data, sum->table.size);
    }
    memcpy(sums->keys + sums->keys_size, sum->key.data, sum->key.size);
    sums->entries[sums->end++] = (struct tally_sums_entry){.key_at = sums->keys_size,
                                                           .number = sum->number,
                                                           .hash = (uint32_t)(hash >> 32),
                                                           .key_size = (uint16_t)sum->key.size,
                                                           .table = (uint16_t)table,
                                                           .counting = (uint8_t)sum->counting};
    sums->keys_size += sum->key.size;
    *slot = sums->end;
}

enum tally_status tally_sums_add(struct tally_sums *sums, const struct tally_sum *sum)
{
    assert(sum->key.size && sum->key.size <= TALLY_KEY_BYTES_MAX && sum->table.size <= TALLY_NAME_BYTES_MAX);
    uint32_t table = find_table(sums, sum);
    uint64_t hash = hash_of(sums, table, sum);
    uint32_t slot = sums->slots && table < sums->tables_count ? *find(sums, table, hash, sum) : 0;
    if (slot) {
        struct tally_sums_entry *entry = &sums->entries[slot - 1];
        struct tally_sum before = sum_of(sums, entry);
        sums->bytes -= tally_sum_bytes(&before);
        entry->number = merge(entry->number, sum->counting, sum->number);
        if (sum->counting == TALLY_COUNTING_SET) entry->counting = TALLY_COUNTING_SET;
        before.number = entry->number;
        sums->bytes += tally_sum_bytes(&before);
        return TALLY_OK;
    }
    enum tally_status status = reserve(sums, sum, table == sums->tables_count);
    if (status) return status;
    append(sums, table, hash, sum);
    sums->bytes += tally_sum_bytes(sum);
    return TALLY_OK;
}

bool tally_sums_has(const struct tally_sums *sums, const struct tally_sum *sum) { return look(sums, sum) != NULL; }

enum tally_status tally_sums_get(const struct tally_sums *sums, enum tally_counting counting, struct tally_bytes table,
                                 struct tally_bytes key, enum tally_counting *out_counting, int64_t *out_number)
{
    const struct tally_sum sum = {.counting = counting, .table = table, .key = key};
    const struct tally_sums_entry *entry = look(sums, &sum);
    assert(counting != TALLY_COUNTING_MEMBER);
    if (!entry) return TALLY_NOT_FOUND;
    *out_counting = (enum tally_counting)entry->counting;
    *out_number = entry->number;
    return TALLY_OK;
}

bool tally_sums_find(const struct tally_sums *sums, enum tally_counting counting, struct tally_bytes table,
                     struct tally_bytes key, uint32_t *out_number)
{
    const struct tally_sum sum = {.counting = counting, .table = table, .key = key};
    const struct tally_sums_entry *entry = look(sums, &sum);
    assert(counting != TALLY_COUNTING_MEMBER);
    if (entry) *out_number = (uint32_t)(entry - sums->entries) - sums->first;
    return entry != NULL;
}

void tally_sums_at(const struct tally_sums *sums, uint32_t number, struct tally_sum *out_sum)
{
    assert(number < tally_sums_count(sums));
    *out_sum = sum_of(sums, &sums->entries[sums->first + number]);
}

uint32_t tally_sums_table_at(const struct tally_sums *sums, uint32_t number)
{
    assert(number < tally_sums_count(sums));
    return sums->entries[sums->first + number].table;
}

// ---------------------------------------------------------------------------------------------------- leaving

// Entries and keys to the front; numbers of entries change, so slots are filled anew.
static void compact(struct tally_sums *sums)
{
    size_t keys_at = sums->entries[sums->first].key_at; // keys lie in order of their entries
    memmove(sums->keys, sums->keys + keys_at, sums->keys_size - keys_at);
    memmove(sums->entries, sums->entries + sums->first, tally_sums_count(sums) * sizeof *sums->entries);
    sums->end -= sums->first;
    sums->first = 0;
    sums->keys_size -= keys_at;
    for (uint32_t i = 0; i < sums->end; i++) sums->entries[i].key_at -= keys_at;
    fill_slots(sums);
}

// Empties a slot, and moves back what stands behind it only because that was full (Knuth 6.4, algorithm R).
static void empty_slot(struct tally_sums *sums, uint32_t at)
{
    uint32_t mask = (1u << sums->slots_bits) - 1, next = at;
    for (;;) {
        sums->slots[at] = 0;
        for (;;) {
            next = (next + 1) & mask;
            if (!sums->slots[next]) return;
            struct tally_sums_entry *entry = &sums->entries[sums->slots[next] - 1];
            struct tally_sum sum = sum_of(sums, entry);
            uint32_t home = (uint32_t)hash_of(sums, entry->table, &sum) & mask;
            if (((next - home) & mask) >= ((next - at) & mask)) break; // its way leads over the empty one
        }
        sums->slots[at] = sums->slots[next];
        at = next;
    }
}

void tally_sums_drop(struct tally_sums *sums, uint32_t count)
{
    assert(count <= tally_sums_count(sums));
    if (!count) return;
    if (count == tally_sums_count(sums)) {
        sums->first = sums->end = sums->tables_count = 0;
        sums->keys_size = 0;
        sums->bytes = 0;
        memset(sums->slots, 0, sizeof *sums->slots << sums->slots_bits);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct tally_sums_entry *entry = &sums->entries[sums->first];
        struct tally_sum sum = sum_of(sums, entry);
        uint32_t *slot = find(sums, entry->table, hash_of(sums, entry->table, &sum), &sum);
        sums->bytes -= tally_sum_bytes(&sum);
        empty_slot(sums, (uint32_t)(slot - sums->slots));
        sums->first++;
    }
    if (sums->first > tally_sums_count(sums)) compact(sums);
}

enum tally_status tally_sums_group(struct tally_sums *sums)
{
    uint32_t count = tally_sums_count(sums);
    struct tally_sums grouped;
    enum tally_status status = TALLY_OK;
    if (!count) return TALLY_OK;
    uint32_t *first = tally_alloc_resize(sums->alloc, NULL, (TALLY_SUMS_TABLES_MAX + (size_t)count) * sizeof *first);
    if (!first) return TALLY_NO_MEMORY;
    // Chains of each table's entries, from the last to the first.
    uint32_t *next = first + TALLY_SUMS_TABLES_MAX;
    memset(first, 0, TALLY_SUMS_TABLES_MAX * sizeof *first);
    for (uint32_t i = count; i-- > 0;) {
        uint32_t table = sums->entries[sums->first + i].table;
        next[i] = first[table];
        first[table] = i + 1;
    }
    tally_sums_init(&grouped, sums->seed, sums->alloc);
    for (uint32_t i = 0; status == TALLY_OK && i < count; i++) {
        uint32_t table = sums->entries[sums->first + i].table;
        for (uint32_t at = first[table]; status == TALLY_OK && at; at = next[at - 1]) {
            struct tally_sum sum;
            tally_sums_at(sums, at - 1, &sum);
            status = tally_sums_add(&grouped, &sum);
        }
        first[table] = 0;
    }
    tally_alloc_free(sums->alloc, first);
    if (status != TALLY_OK) {
        tally_sums_deinit(&grouped);
        return status;
    }
    tally_sums_deinit(sums);
    *sums = grouped;
    return TALLY_OK;
}
