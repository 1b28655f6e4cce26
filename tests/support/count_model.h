// SPDX-License-Identifier: Apache-2.0
//
// The naive model of the server's state: lists that are searched from end to end, following the rules of server/src/state.h in the
// plainest way. And random batches for both.
#ifndef TALLY_TEST_COUNT_MODEL_H
#define TALLY_TEST_COUNT_MODEL_H

#include <server/src/state.h>
#include <stdio.h>

#include "build.h"
#include "random.h"

#define MODEL_DATASET   "main"
#define MODEL_ROWS      4096
#define MODEL_TABLES    16
#define MODEL_PRODUCERS 64
#define MODEL_MEMBERS   200

struct model_row {
    char key[24];
    uint32_t id;
    int64_t value, error;
    uint8_t members[MODEL_MEMBERS / 8]; // distinct: which of model_member(0 ..)
};

struct model_table {
    char name[24];
    struct tally_definition definition;
    bool errors; // of the topk table before it
    struct model_row *rows;
    size_t count;
    struct model_row *counted; // topk: keys, with value as count; ids mean nothing
    size_t counted_count;
    int64_t floor;
};

struct model_producer {
    uint64_t id, sequence, version;
};

struct model {
    struct model_table tables[MODEL_TABLES];
    size_t tables_count, tables_max, producers_max;
    struct model_producer producers[MODEL_PRODUCERS]; // the longest silent first
    size_t producers_count;
    uint64_t version;
    uint64_t counted;
};

static inline void model_free(struct model *model)
{
    for (size_t i = 0; i < model->tables_count; i++) {
        free(model->tables[i].rows);
        free(model->tables[i].counted);
    }
    model->tables_count = 0;
}

static inline uint64_t model_member(uint64_t index) { return tally_mix64(index + 0x9e3779b97f4a7c15u); }

static inline struct model_table *model_table(struct model *model, struct tally_bytes name)
{
    for (size_t i = 0; i < model->tables_count; i++) {
        if (tally_bytes_equal(test_text(model->tables[i].name), name)) return &model->tables[i];
    }
    return NULL;
}

static inline struct model_row *model_find(struct model_row *rows, size_t count, struct tally_bytes key)
{
    for (size_t i = 0; i < count; i++) {
        if (tally_bytes_equal(test_text(rows[i].key), key)) return &rows[i];
    }
    return NULL;
}

static inline struct model_row *model_row(struct model_table *table, struct tally_bytes key)
{
    return model_find(table->rows, table->count, key);
}

static inline uint32_t model_free_id(const struct model_table *table)
{
    for (uint32_t id = 0;; id++) {
        bool taken = false;
        for (size_t i = 0; i < table->count; i++) taken |= table->rows[i].id == id;
        if (!taken) return id;
    }
}

static inline struct model_row *model_row_begin(struct model_table *table, struct tally_bytes key)
{
    uint32_t id = model_free_id(table);
    struct model_row *row = &table->rows[table->count++];
    if (table->count > MODEL_ROWS) abort();
    *row = (struct model_row){.id = id};
    memcpy(row->key, key.data, key.size);
    return row;
}

// ---------------------------------------------------------------------------------------------------- tables

static inline struct model_table *model_table_add(struct model *model, struct tally_bytes name,
                                                  const struct tally_definition *definition)
{
    struct model_table *table = &model->tables[model->tables_count++];
    if (model->tables_count > MODEL_TABLES) abort();
    *table = (struct model_table){.definition = *definition,
                                  .rows = calloc(MODEL_ROWS, sizeof *table->rows),
                                  .counted = calloc(MODEL_ROWS, sizeof *table->counted)};
    if (!table->rows || !table->counted) abort();
    memcpy(table->name, name.data, name.size);
    return table;
}

static inline struct model_table *model_table_begin(struct model *model, struct tally_bytes name,
                                                    struct tally_definition definition)
{
    const char *why;
    if (tally_definition_complete(&definition, name, &why)) abort();
    struct model_table *table = model_table_add(model, name, &definition);
    if (tally_definition_has_errors(&definition)) {
        uint8_t buffer[TALLY_NAME_BYTES_MAX];
        const struct tally_definition gauge = {.kind = TALLY_KIND_GAUGE};
        model_table_add(model, tally_error_name(name, buffer), &gauge)->errors = true;
    }
    return table;
}

// What a record says of a table; what cannot be is nothing.
static inline void model_define(struct model *model, struct tally_bytes name, struct tally_definition definition)
{
    uint8_t buffer[TALLY_NAME_BYTES_MAX];
    const char *why;
    struct model_table *table = model_table(model, name);
    if (tally_definition_complete(&definition, name, &why)) return;
    bool errors = tally_definition_has_errors(&definition);
    if (table) {
        const struct tally_definition *old = &table->definition;
        bool same = old->kind == definition.kind && old->capacity == definition.capacity &&
                    tally_bytes_equal(tally_definition_source(old), tally_definition_source(&definition));
        if (!table->errors && same) table->definition = definition;
        return;
    }
    if (errors && model_table(model, tally_error_name(name, buffer))) return;
    if (model->tables_count + 1 + errors > model->tables_max) return;
    model_table_begin(model, name, definition);
}

// ---------------------------------------------------------------------------------------------------- entries

static inline void model_count(struct model_table *table, struct tally_bytes key, int64_t amount)
{
    struct model_row *row = model_find(table->counted, table->counted_count, key);
    if (amount == 0) return;
    if (!row) {
        if (table->counted_count == table->definition.capacity) {
            size_t last = 0;
            for (size_t i = 1; i < table->counted_count; i++) {
                const struct model_row *a = &table->counted[i], *b = &table->counted[last];
                if (a->value < b->value || (a->value == b->value && strcmp(a->key, b->key) > 0)) last = i;
            }
            if (table->counted[last].value > table->floor) table->floor = table->counted[last].value;
            table->counted[last] = table->counted[--table->counted_count];
        }
        row = &table->counted[table->counted_count++];
        *row = (struct model_row){.value = table->floor, .error = table->floor};
        memcpy(row->key, key.data, key.size);
    }
    row->value = amount > INT64_MAX - row->value ? INT64_MAX : row->value + amount;
}

static inline int64_t model_members(const struct model_row *row)
{
    int64_t count = 0;
    for (size_t i = 0; i < MODEL_MEMBERS; i++) count += row->members[i / 8] >> i % 8 & 1;
    return count;
}

static inline int64_t model_level(int64_t value)
{
    return value > TALLY_LEVEL_MAX ? TALLY_LEVEL_MAX : value < -TALLY_LEVEL_MAX ? -TALLY_LEVEL_MAX : value;
}

static inline void model_add(struct model *model, const struct tally_entries_reader *entries, struct tally_bytes key,
                             int64_t amount)
{
    struct model_table *table = model_table(model, entries->table);
    if (!table) table = model_table_begin(model, entries->table, (struct tally_definition){.kind = entries->kind});
    if (table->definition.kind == TALLY_KIND_TOPK) {
        model_count(table, key, amount);
        return;
    }
    struct model_row *row = model_row(table, key);
    bool first = !row;
    if (first) row = model_row_begin(table, key);
    switch (table->definition.kind) {
    case TALLY_KIND_GAUGE: row->value = entries->adjust ? model_level(row->value + amount) : amount; break;
    case TALLY_KIND_MIN: row->value = first || amount < row->value ? amount : row->value; break;
    case TALLY_KIND_MAX: row->value = first || amount > row->value ? amount : row->value; break;
    case TALLY_KIND_DISTINCT:
        for (size_t i = 0; i < MODEL_MEMBERS; i++) {
            if (model_member(i) == (uint64_t)amount) row->members[i / 8] |= (uint8_t)(1u << i % 8);
        }
        break;
    default: row->value = amount > INT64_MAX - row->value ? INT64_MAX : row->value + amount;
    }
}

static inline void model_remove(struct model *model, struct tally_bytes name, struct tally_bytes key)
{
    struct model_table *table = model_table(model, name);
    if (!table) return;
    bool topk = table->definition.kind == TALLY_KIND_TOPK;
    struct model_row *row = topk ? model_find(table->counted, table->counted_count, key) : model_row(table, key);
    if (!row) return;
    *row = topk ? table->counted[--table->counted_count] : table->rows[--table->count];
}

// ---------------------------------------------------------------------------------------------------- the end of a record

static inline int model_rank(const void *x, const void *y)
{
    const struct model_row *a = x, *b = y;
    if (a->value != b->value) return a->value > b->value ? -1 : 1;
    return strcmp(a->key, b->key);
}

static inline int model_by_id(const void *x, const void *y)
{
    const struct model_row *a = x, *b = y;
    return (a->id > b->id) - (a->id < b->id);
}

// The rows become the first `count` of `list`, with their values or errors.
static inline void model_follow(struct model_table *table, const struct model_row *list, size_t count, bool errors)
{
    qsort(table->rows, table->count, sizeof *table->rows, model_by_id);
    size_t kept = 0;
    for (size_t i = 0; i < table->count; i++) {
        bool stays = false;
        for (size_t j = 0; j < count; j++) stays |= strcmp(list[j].key, table->rows[i].key) == 0;
        if (stays) table->rows[kept++] = table->rows[i];
    }
    table->count = kept;
    for (size_t i = 0; i < count; i++) {
        struct model_row *row = model_row(table, test_text(list[i].key));
        if (!row) row = model_row_begin(table, test_text(list[i].key));
        row->value = errors ? list[i].error : list[i].value;
    }
}

static inline void model_conclude(struct model *model)
{
    static struct model_row list[MODEL_ROWS];
    for (size_t i = 0; i < model->tables_count; i++) {
        struct model_table *table = &model->tables[i];
        if (table->definition.kind != TALLY_KIND_DISTINCT) continue;
        for (size_t r = 0; r < table->count; r++) {
            int64_t members = model_members(&table->rows[r]);
            if (members > table->rows[r].value) table->rows[r].value = members;
        }
    }
    for (size_t i = 0; i < model->tables_count; i++) {
        struct model_table *table = &model->tables[i], *source = table;
        if (table->definition.kind != TALLY_KIND_TOPK) continue;
        bool of = tally_definition_topk_of(&table->definition);
        if (of) source = model_table(model, tally_definition_source(&table->definition));
        if (!source || (of && source->definition.kind == TALLY_KIND_TOPK)) continue;
        size_t count = of ? source->count : source->counted_count;
        memcpy(list, of ? source->rows : source->counted, count * sizeof *list);
        qsort(list, count, sizeof *list, model_rank);
        if (count > table->definition.k) count = table->definition.k;
        model_follow(table, list, count, false);
        if (!of) model_follow(table + 1, list, count, true);
    }
}

static inline void model_note(struct model *model, uint64_t id, uint64_t sequence)
{
    size_t at = 0;
    while (at < model->producers_count && model->producers[at].id != id) at++;
    if (at == model->producers_count && model->producers_count == model->producers_max) at = 0;
    if (at < model->producers_count) {
        memmove(&model->producers[at], &model->producers[at + 1],
                (--model->producers_count - at) * sizeof model->producers[0]);
    }
    model->producers[model->producers_count++] = (struct model_producer){id, sequence, model->version};
}

// A table that a batch would begin.
struct model_pending {
    char name[24];
    enum tally_kind kind;
    bool errors;
};

// Whether the entries are of the kind that their table has, or would have.
static inline bool model_admits(struct model *model, const struct tally_entries_reader *entries,
                                struct model_pending *pending, size_t *tables, bool *full)
{
    struct tally_entries_reader reader = *entries;
    struct tally_bytes key;
    int64_t amount;
    const struct model_table *table = model_table(model, entries->table);
    bool any = tally_entries_next(&reader, &key, &amount), errors = false, of = false;
    enum tally_kind kind = entries->kind ? entries->kind : TALLY_KIND_COUNTER;
    size_t at = 0;
    while (at < *tables && !tally_bytes_equal(test_text(pending[at].name), entries->table)) at++;
    if (table) {
        kind = table->definition.kind;
        errors = table->errors;
        of = tally_definition_topk_of(&table->definition);
    } else if (at < *tables) {
        kind = pending[at].kind;
        errors = pending[at].errors;
    } else if (!any) {
        return true;
    } else {
        uint8_t buffer[TALLY_NAME_BYTES_MAX];
        struct tally_bytes names[2] = {entries->table, tally_error_name(entries->table, buffer)};
        size_t needs = kind == TALLY_KIND_TOPK ? 2 : 1;
        for (size_t i = 0; i < *tables; i++) {
            if (needs == 2 && tally_bytes_equal(test_text(pending[i].name), names[1])) return false;
        }
        if (needs == 2 && model_table(model, names[1])) return false;
        for (size_t i = 0; i < needs; i++) {
            if (model->tables_count + *tables >= model->tables_max) {
                *full = true;
                break;
            }
            pending[*tables] = (struct model_pending){.kind = i ? TALLY_KIND_GAUGE : kind, .errors = i};
            memcpy(pending[(*tables)++].name, names[i].data, names[i].size);
        }
    }
    if (errors || of || (entries->kind && entries->kind != kind)) return false;
    if (any && entries->members != (kind == TALLY_KIND_DISTINCT)) return false;
    if (entries->adjust && kind != TALLY_KIND_GAUGE) return false;
    reader = *entries;
    while (!entries->members && tally_entries_next(&reader, &key, &amount)) {
        bool sums = kind == TALLY_KIND_COUNTER || kind == TALLY_KIND_TOPK;
        if (sums ? amount < 0 : amount > TALLY_LEVEL_MAX || amount < -TALLY_LEVEL_MAX) return false;
    }
    return true;
}

// One batch of the record that makes model->version.
static inline enum tally_status model_batch(struct model *model, struct tally_bytes message)
{
    struct tally_batch_reader batch, again;
    struct tally_entries_reader entries;
    struct tally_bytes key;
    int64_t amount;
    if (tally_batch_open(message, &batch) != TALLY_OK) return TALLY_MALFORMED;
    uint64_t last = 0;
    for (size_t i = 0; i < model->producers_count; i++) {
        if (model->producers[i].id == batch.header.producer) last = model->producers[i].sequence;
    }
    if (batch.header.sequence <= last) return TALLY_REPEAT;
    if (batch.header.sequence != last + 1) return last ? TALLY_HOLE : TALLY_UNKNOWN_PRODUCER;
    struct model_pending pending[MODEL_TABLES];
    size_t tables = 0;
    bool full = false;
    again = batch;
    while (tally_batch_next_table(&again, &entries)) {
        if (!model_admits(model, &entries, pending, &tables, &full)) return TALLY_INVALID;
    }
    if (full) return TALLY_FULL;
    while (tally_batch_next_table(&batch, &entries)) {
        while (tally_entries_next(&entries, &key, &amount)) model_add(model, &entries, key, amount);
        while (tally_entries_next_removed(&entries, &key)) model_remove(model, entries.table, key);
    }
    model_note(model, batch.header.producer, batch.header.sequence);
    model->counted++;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- random batches

struct model_feed {
    struct test_random *random;
    uint64_t sent[MODEL_PRODUCERS + 8]; // last sequence that each producer used
    size_t producers, tables, keys;
    unsigned remove_percent, strange_percent;
    bool kinds; // tables of every kind, not counters alone
};

static const char *const model_kind_tables[] = {"t0",  "gauge", "min",  "max",      "distinct",
                                                "hot", "top",   "best", "hot.error"};

// Entries for a table of any kind: mostly such as fit.
static inline void model_feed_kinds(struct model_feed *feed, struct test_batch *batch, bool strange)
{
    struct test_random *random = feed->random;
    static const enum tally_kind kinds[] = {TALLY_KIND_COUNTER, TALLY_KIND_GAUGE,    TALLY_KIND_MIN,
                                            TALLY_KIND_MAX,     TALLY_KIND_DISTINCT, TALLY_KIND_TOPK,
                                            TALLY_KIND_TOPK,    TALLY_KIND_TOPK,     TALLY_KIND_GAUGE};
    size_t table = test_random_below(random, strange ? 9 : 6);
    enum tally_kind kind = kinds[table];
    if (strange && test_random_percent(random, 10)) kind = (enum tally_kind)(1 + test_random_below(random, 6));
    bool told = !strange || test_random_percent(random, 80), members = kind == TALLY_KIND_DISTINCT;
    bool adjust = kind == TALLY_KIND_GAUGE && test_random_percent(random, 50);
    bool level = kind == TALLY_KIND_GAUGE || kind == TALLY_KIND_MIN || kind == TALLY_KIND_MAX;
    tally_batch_table_begin_as(&batch->writer, test_text(model_kind_tables[table]),
                               told ? kind : TALLY_KIND_UNSPECIFIED, adjust);
    for (size_t n = test_random_below(random, 12); n > 0; n--) {
        char key[24];
        int64_t amount = test_random_percent(random, 3) ? INT64_MAX / 2 : (int64_t)test_random_below(random, 9);
        if (level && test_random_percent(random, 50)) amount = -amount;
        if (strange && test_random_percent(random, 2)) amount = (int64_t)test_random_next(random);
        (void)snprintf(key, sizeof key, "key-%u", (unsigned)test_random_below(random, feed->keys));
        if (members)
            tally_batch_add_member(&batch->writer, test_text(key),
                                   model_member(test_random_below(random, MODEL_MEMBERS)));
        else
            tally_batch_add(&batch->writer, test_text(key), amount);
    }
}

// What a record may say of those tables.
static inline struct tally_definition model_feed_definition(struct model_feed *feed, struct tally_bytes *out_table)
{
    static const char *const texts[] = {"hot topk k=3 capacity=7",
                                        "hot topk k=5 capacity=7",
                                        "hot topk k=2 capacity=9",
                                        "top topk k=4 of=t0",
                                        "top topk k=9 of=t0",
                                        "top topk k=4 of=min",
                                        "best topk k=3 of=distinct",
                                        "gauge gauge",
                                        "gauge min",
                                        "best topk k=2",
                                        "hot.error counter",
                                        "max max"};
    struct tally_definition definition;
    struct tally_bytes word;
    const char *why;
    bool defined;
    // The first ones more often.
    size_t at = test_random_below(feed->random, 1 + test_random_below(feed->random, sizeof texts / sizeof *texts));
    if (tally_definition_parse(texts[at], out_table, &definition, &defined, &word, &why)) abort();
    return definition;
}

// The sealed Request with the batch; test_batch_free it. *out_batch: the Batch in it.
static inline void model_feed_batch(struct model_feed *feed, struct test_batch *batch, struct tally_bytes *out_batch)
{
    struct test_random *random = feed->random;
    size_t producer = test_random_below(random, feed->producers);
    uint64_t sequence = feed->sent[producer] + 1;
    bool strange = test_random_percent(random, feed->strange_percent);
    if (strange && test_random_percent(random, 50))
        sequence = 1 + test_random_below(random, sequence + 3);
    else
        feed->sent[producer] = sequence;
    test_batch_init(batch);
    const struct tally_batch_header header = {
        .dataset = test_text(MODEL_DATASET), .producer = 1000 + producer, .sequence = sequence};
    tally_batch_begin(&batch->writer, &header);
    for (size_t tables = test_random_below(random, 3); tables > 0; tables--) {
        char name[16], key[24];
        if (feed->kinds) {
            model_feed_kinds(feed, batch, strange);
            for (size_t n = test_random_below(random, 12) * feed->remove_percent / 100; n > 0; n--) {
                (void)snprintf(key, sizeof key, "key-%u", (unsigned)test_random_below(random, feed->keys));
                tally_batch_remove(&batch->writer, test_text(key));
            }
            tally_batch_table_end(&batch->writer);
            continue;
        }
        (void)snprintf(name, sizeof name, "t%u", (unsigned)test_random_below(random, feed->tables));
        tally_batch_table_begin(&batch->writer, test_text(name));
        for (size_t n = test_random_below(random, 12); n > 0; n--) {
            (void)snprintf(key, sizeof key, "key-%u", (unsigned)test_random_below(random, feed->keys));
            int64_t amount = test_random_percent(random, 3) ? INT64_MAX / 2 : (int64_t)test_random_below(random, 4);
            if (strange && test_random_percent(random, 5)) amount = -1;
            tally_batch_add(&batch->writer, test_text(key), amount);
        }
        for (size_t n = test_random_below(random, 12) * feed->remove_percent / 100; n > 0; n--) {
            (void)snprintf(key, sizeof key, "key-%u", (unsigned)test_random_below(random, feed->keys));
            tally_batch_remove(&batch->writer, test_text(key));
        }
        tally_batch_table_end(&batch->writer);
    }
    if (tally_batch_finish(&batch->writer) || tally_request_batch(test_batch_bytes(batch), out_batch)) abort();
}

#endif
