// SPDX-License-Identifier: Apache-2.0
#include "merge.h"

#include <stdlib.h>

#define NONE UINT32_MAX

struct entry {
    uint32_t hash, key_at; // low bits of the hash, to skip most comparisons; offset in `bytes`
    uint16_t key_size, table;
    uint32_t next; // entry of the same table, in order of arrival
    int64_t amount;
};

struct table {
    uint8_t name[TALLY_NAME_BYTES_MAX];
    uint8_t name_size;
    uint32_t first, last;
};

struct cli_merge {
    struct tally_seed seed;
    enum tally_kind kind;
    bool adjust;
    size_t batch_bytes, batch_bytes_max; // upper bound of the encoding of what is in it
    uint64_t events;
    uint32_t *slots, slot_mask; // index of an entry, or NONE
    struct entry *entries;
    uint32_t entry_count, entry_max;
    uint8_t *bytes;
    uint32_t byte_count;
    uint16_t table_count, table_last; // table_last: most events come in runs of one table
    struct table tables[TALLY_TABLES_MAX];
};

// Encoded sizes, from above: a table's name, its tags and the sizes of its columns; the batch's header and
// the Request around it.
#define TABLE_OVERHEAD  40u
#define BATCH_OVERHEAD  160u
#define ENTRY_BYTES_MIN 4u // tag, size, one byte of key, one byte of amount

static bool has_members(const struct cli_merge *merge) { return merge->kind == TALLY_KIND_DISTINCT; }

static size_t amount_bytes(const struct cli_merge *merge, int64_t amount)
{
    return has_members(merge) ? 8 : tally_varint_size(tally_zigzag(amount));
}

static size_t entry_bytes(const struct cli_merge *merge, size_t key_size, int64_t amount)
{
    return 1 + tally_varint_size(key_size) + key_size + amount_bytes(merge, amount);
}

// Of a key, or of one of its members.
static uint64_t hash_of(const struct cli_merge *merge, uint16_t table, const uint8_t *key, size_t key_size,
                        int64_t amount)
{
    struct tally_seed seed = {merge->seed.k0 + table, merge->seed.k1};
    if (has_members(merge)) seed.k1 ^= (uint64_t)amount;
    return tally_siphash(seed, key, key_size);
}

// What two amounts of one key are together; false when that is none.
static bool together(const struct cli_merge *merge, int64_t a, int64_t b, int64_t *out)
{
    switch (merge->kind) {
    case TALLY_KIND_MIN: *out = a < b ? a : b; return true;
    case TALLY_KIND_MAX: *out = a > b ? a : b; return true;
    case TALLY_KIND_DISTINCT: *out = b; return true;
    case TALLY_KIND_GAUGE:
        *out = merge->adjust ? a + b : b; // of two within TALLY_LEVEL_MAX: it fits
        return *out >= -TALLY_LEVEL_MAX && *out <= TALLY_LEVEL_MAX;
    default: return !__builtin_add_overflow(a, b, out);
    }
}

struct cli_merge *cli_merge_create(size_t batch_bytes_max, enum tally_kind kind, bool adjust, struct tally_seed seed)
{
    struct cli_merge *merge = calloc(1, sizeof *merge);
    if (!merge) return NULL;
    merge->seed = seed;
    merge->kind = kind;
    merge->adjust = adjust;
    merge->batch_bytes_max = batch_bytes_max;
    merge->batch_bytes = BATCH_OVERHEAD;
    merge->entry_max = (uint32_t)(batch_bytes_max / ENTRY_BYTES_MIN);
    if (merge->entry_max > TALLY_BATCH_ENTRIES_MAX) merge->entry_max = TALLY_BATCH_ENTRIES_MAX;
    uint32_t slots = 64;
    while (slots < merge->entry_max * 2) slots *= 2;
    merge->slot_mask = slots - 1;
    merge->slots = malloc(slots * sizeof *merge->slots);
    merge->entries = malloc(merge->entry_max * sizeof *merge->entries);
    merge->bytes = malloc(batch_bytes_max + TALLY_KEY_BYTES_MAX);
    if (!merge->slots || !merge->entries || !merge->bytes) {
        cli_merge_destroy(&merge);
        return NULL;
    }
    memset(merge->slots, 0xff, slots * sizeof *merge->slots);
    return merge;
}

void cli_merge_destroy(struct cli_merge **merge)
{
    if (!*merge) return;
    free((*merge)->slots);
    free((*merge)->entries);
    free((*merge)->bytes);
    free(*merge);
    *merge = NULL;
}

size_t cli_merge_entries(const struct cli_merge *merge) { return merge->entry_count; }
uint64_t cli_merge_events(const struct cli_merge *merge) { return merge->events; }

static bool is_table(const struct table *table, struct tally_bytes name)
{
    return table->name_size == name.size && memcmp(table->name, name.data, name.size) == 0;
}

// The number of the table, table_count when it is new.
static uint16_t find_table(const struct cli_merge *merge, struct tally_bytes name)
{
    if (merge->table_count && is_table(&merge->tables[merge->table_last], name)) return merge->table_last;
    uint16_t i = 0;
    while (i < merge->table_count && !is_table(&merge->tables[i], name)) i++;
    return i;
}

static void add_entry(struct cli_merge *merge, uint32_t slot, uint16_t table_number, uint32_t hash,
                      struct tally_bytes key, int64_t amount)
{
    struct table *table = &merge->tables[table_number];
    uint32_t index = merge->entry_count++;
    merge->entries[index] = (struct entry){
        .hash = hash,
        .key_at = merge->byte_count,
        .key_size = (uint16_t)key.size,
        .table = table_number,
        .next = NONE,
        .amount = amount,
    };
    memcpy(merge->bytes + merge->byte_count, key.data, key.size);
    merge->byte_count += (uint32_t)key.size;
    if (table->first == NONE)
        table->first = index;
    else
        merge->entries[table->last].next = index;
    table->last = index;
    merge->slots[slot] = index;
}

enum tally_status cli_merge_add(struct cli_merge *merge, struct tally_bytes table, struct tally_bytes key,
                                int64_t amount)
{
    uint16_t number = find_table(merge, table);
    uint64_t full_hash = hash_of(merge, number, key.data, key.size, amount);
    uint32_t hash = (uint32_t)(full_hash >> 32), slot = (uint32_t)full_hash & merge->slot_mask;
    for (; merge->slots[slot] != NONE; slot = (slot + 1) & merge->slot_mask) {
        struct entry *entry = &merge->entries[merge->slots[slot]];
        if (entry->hash != hash || entry->table != number || entry->key_size != key.size ||
            memcmp(merge->bytes + entry->key_at, key.data, key.size) != 0 ||
            (has_members(merge) && entry->amount != amount))
            continue;
        int64_t sum;
        if (!together(merge, entry->amount, amount, &sum)) return TALLY_FULL;
        size_t bytes = merge->batch_bytes - amount_bytes(merge, entry->amount) + amount_bytes(merge, sum);
        if (bytes > merge->batch_bytes && bytes > merge->batch_bytes_max) return TALLY_FULL;
        merge->batch_bytes = bytes;
        entry->amount = sum;
        merge->events++;
        merge->table_last = number;
        return TALLY_OK;
    }
    size_t bytes = merge->batch_bytes + entry_bytes(merge, key.size, amount);
    if (number == merge->table_count) bytes += table.size + TABLE_OVERHEAD;
    if (merge->entry_count && (bytes > merge->batch_bytes_max || merge->entry_count == merge->entry_max))
        return TALLY_FULL;
    if (number == merge->table_count) {
        if (number == TALLY_TABLES_MAX) return TALLY_FULL;
        struct table *new_table = &merge->tables[merge->table_count++];
        *new_table = (struct table){.name_size = (uint8_t)table.size, .first = NONE};
        memcpy(new_table->name, table.data, table.size);
    }
    add_entry(merge, slot, number, hash, key, amount);
    merge->batch_bytes = bytes;
    merge->events++;
    merge->table_last = number;
    return TALLY_OK;
}

enum tally_status cli_merge_take(struct cli_merge *merge, const struct tally_batch_header *header,
                                 struct tally_batch_writer *writer)
{
    tally_batch_begin(writer, header);
    for (uint16_t i = 0; i < merge->table_count; i++) {
        const struct table *table = &merge->tables[i];
        tally_batch_table_begin_as(writer, tally_bytes(table->name, table->name_size), merge->kind, merge->adjust);
        for (uint32_t at = table->first; at != NONE; at = merge->entries[at].next) {
            const struct entry *entry = &merge->entries[at];
            struct tally_bytes key = tally_bytes(merge->bytes + entry->key_at, entry->key_size);
            if (has_members(merge))
                tally_batch_add_member(writer, key, (uint64_t)entry->amount);
            else
                tally_batch_add(writer, key, entry->amount);
        }
        tally_batch_table_end(writer);
    }
    enum tally_status status = tally_batch_finish(writer);
    if (status != TALLY_OK) return status;
    // Clearing the slots of few entries one by one is cheaper than clearing all of them.
    if (merge->entry_count < merge->slot_mask / 16) {
        for (uint32_t i = 0; i < merge->entry_count; i++) {
            const struct entry *entry = &merge->entries[i];
            uint32_t slot =
                (uint32_t)hash_of(merge, entry->table, merge->bytes + entry->key_at, entry->key_size, entry->amount) &
                merge->slot_mask;
            // Entries are cleared in order of arrival, so an emptied slot may cut a later entry's probe path:
            // go on past empty slots until this very entry is met.
            while (merge->slots[slot] != i) slot = (slot + 1) & merge->slot_mask;
            merge->slots[slot] = NONE;
        }
    } else {
        memset(merge->slots, 0xff, ((size_t)merge->slot_mask + 1) * sizeof *merge->slots);
    }
    merge->entry_count = merge->byte_count = merge->table_count = merge->table_last = 0;
    merge->events = 0;
    merge->batch_bytes = BATCH_OVERHEAD;
    return TALLY_OK;
}
