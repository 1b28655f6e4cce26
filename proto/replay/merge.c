// SPDX-License-Identifier: Apache-2.0
//
// All row changes of all frames are listed table by table in the order in which they happened, sorted by id (the sort keeps the
// order of one id's), and composed id by id.
#include "merge.h"

#include <messages/messages.h>
#include <tallycast/limits.h>

#include "radix.h"

enum kind { REMOVED, CHANGED, ADDED };

struct change {
    enum kind kind;
    uint32_t id;
    int64_t number;         // difference or value
    struct tally_bytes key; // ADDED
};

struct table {
    bool seen;
    struct tally_bytes name;
    enum tally_kind kind;
    struct change *changes;
    size_t count, capacity;
};

struct merge {
    const struct tally_alloc *alloc;
    struct table tables[TALLY_TABLES_MAX];
    struct tally_frame_writer writer;
    uint64_t *sorted;
    size_t sorted_capacity;
};

// ---------------------------------------------------------------------------------------------------- reading

static enum tally_status note(struct merge *merge, struct table *table, struct change change)
{
    if (table->count == table->capacity) {
        size_t capacity = table->capacity ? table->capacity * 2 : 64;
        if (capacity > UINT32_MAX) return TALLY_LIMIT;
        struct change *changes = tally_alloc_resize(merge->alloc, table->changes, capacity * sizeof *changes);
        if (!changes) return TALLY_NO_MEMORY;
        table->changes = changes;
        table->capacity = capacity;
    }
    table->changes[table->count++] = change;
    return TALLY_OK;
}

static enum tally_status read_table(struct merge *merge, struct tally_table_reader *reader)
{
    struct table *table = &merge->tables[reader->table];
    struct change change = {.kind = REMOVED};
    enum tally_status status;
    table->seen = true;
    if (reader->name.size) {
        if (table->name.size && !tally_bytes_equal(table->name, reader->name)) return TALLY_MALFORMED;
        table->name = reader->name;
        table->kind = reader->kind;
    }
    while ((status = tally_table_next_removed(reader, &change.id)) == TALLY_OK) {
        if ((status = note(merge, table, change))) return status;
    }
    if (status != TALLY_NOT_FOUND) return status;
    change.kind = CHANGED;
    while ((status = tally_table_next_changed(reader, &change.id, &change.number)) == TALLY_OK) {
        if ((status = note(merge, table, change))) return status;
    }
    if (status != TALLY_NOT_FOUND) return status;
    change.kind = ADDED;
    while ((status = tally_table_next_added(reader, &change.id, &change.key, &change.number)) == TALLY_OK) {
        if ((status = note(merge, table, change))) return status;
    }
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

static enum tally_status read_frame(struct merge *merge, struct tally_bytes message, bool first,
                                    struct tally_frame_header *header)
{
    struct tally_frame_reader reader;
    struct tally_table_reader table;
    enum tally_status status = tally_frame_open(message, &reader);
    if (status) return status;
    if (reader.header.from == 0 || reader.header.chunk || reader.header.more) return TALLY_INVALID;
    if (!first) {
        if (!tally_bytes_equal(reader.header.dataset, header->dataset)) return TALLY_WRONG_DATASET;
        if (reader.header.epoch != header->epoch) return TALLY_WRONG_EPOCH;
        if (reader.header.from != header->to) return TALLY_GAP;
        reader.header.from = header->from;
    }
    *header = reader.header;
    while ((status = tally_frame_next_table(&reader, &table)) == TALLY_OK) {
        if ((status = read_table(merge, &table))) return status;
    }
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

// ---------------------------------------------------------------------------------------------------- composing

// What all changes of one id come to.
struct net {
    bool known; // the first change told whether it was live
    bool live;
    bool removed; // the row that was there at the start left
    bool added;   // the row that is there now came
    int64_t number;
    struct tally_bytes key;
};

static enum tally_status compose(struct net *net, const struct change *change)
{
    if (!net->known) {
        net->known = true;
        net->live = change->kind != ADDED;
    }
    if (net->live == (change->kind == ADDED)) return TALLY_MALFORMED;
    switch (change->kind) {
    case REMOVED:
        if (!net->added) net->removed = true;
        net->live = net->added = false;
        break;
    case CHANGED:
        if (__builtin_add_overflow(net->number, change->number, &net->number)) return TALLY_MALFORMED;
        break;
    case ADDED:
        net->live = net->added = true;
        net->key = change->key;
        net->number = change->number;
        break;
    }
    return TALLY_OK;
}

static void write_net(struct tally_frame_writer *writer, uint32_t id, const struct net *net)
{
    if (net->removed) tally_frame_removed(writer, id);
    if (net->added)
        tally_frame_added(writer, id, net->key, net->number);
    else if (net->live && net->number)
        tally_frame_changed(writer, id, net->number);
}

static enum tally_status sort(struct merge *merge, const struct table *table)
{
    if (table->count == 0) return TALLY_OK;
    if (merge->sorted_capacity < table->count * 2) {
        uint64_t *sorted = tally_alloc_resize(merge->alloc, merge->sorted, table->count * 2 * sizeof *sorted);
        if (!sorted) return TALLY_NO_MEMORY;
        merge->sorted = sorted;
        merge->sorted_capacity = table->count * 2;
    }
    for (size_t i = 0; i < table->count; i++) merge->sorted[i] = (uint64_t)table->changes[i].id << 32 | i;
    tally_radix_sort(merge->sorted, merge->sorted + table->count, table->count);
    return TALLY_OK;
}

static enum tally_status write_table(struct merge *merge, uint32_t number)
{
    const struct table *table = &merge->tables[number];
    enum tally_status status = sort(merge, table);
    if (status) return status;
    uint64_t added = 0;
    tally_frame_table_begin(&merge->writer, number, table->name, table->kind);
    for (size_t i = 0; i < table->count;) {
        uint32_t id = (uint32_t)(merge->sorted[i] >> 32);
        struct net net = {0};
        for (; i < table->count && merge->sorted[i] >> 32 == id; i++) {
            if ((status = compose(&net, &table->changes[(uint32_t)merge->sorted[i]]))) return status;
        }
        write_net(&merge->writer, id, &net);
        added += net.added;
    }
    tally_frame_table_rows(&merge->writer, added); // told of a table that is new in these frames: all that it has
    tally_frame_table_end(&merge->writer);
    return TALLY_OK;
}

static enum tally_status merge_frames(struct merge *merge, const struct tally_bytes *frames, size_t count,
                                      struct tally_writer *out)
{
    struct tally_frame_header header = {0};
    enum tally_status status;
    size_t start = out->size;
    for (size_t i = 0; i < count; i++) {
        if ((status = read_frame(merge, frames[i], i == 0, &header))) return status;
    }
    merge->writer.out = out;
    tally_frame_begin(&merge->writer, &header);
    for (uint32_t i = 0; i < TALLY_TABLES_MAX; i++) {
        if (!merge->tables[i].seen) continue;
        if ((status = write_table(merge, i))) return status;
    }
    status = tally_frame_finish(&merge->writer);
    if (!status && out->size - start > TALLY_FRAME_BYTES_MAX) status = TALLY_LIMIT;
    return status;
}

enum tally_status tally_frame_merge(const struct tally_bytes *frames, size_t count, const struct tally_alloc *alloc,
                                    struct tally_writer *out)
{
    if (count == 0) return TALLY_INVALID;
    struct merge *merge = tally_alloc_resize(alloc, NULL, sizeof *merge);
    if (!merge) return TALLY_NO_MEMORY;
    *merge = (struct merge){.alloc = alloc};
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) merge->writer.columns[i] = tally_writer_growable(alloc);
    size_t start = out->size;
    enum tally_status status = merge_frames(merge, frames, count, out);
    if (status) {
        out->size = start;
        out->failed = false;
    }
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) tally_writer_free(&merge->writer.columns[i]);
    for (unsigned i = 0; i < TALLY_TABLES_MAX; i++) tally_alloc_free(alloc, merge->tables[i].changes);
    tally_alloc_free(alloc, merge->sorted);
    tally_alloc_free(alloc, merge);
    return status;
}
