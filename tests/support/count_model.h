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
#define MODEL_TABLES    8
#define MODEL_PRODUCERS 64

struct model_row {
    char key[24];
    uint32_t id;
    int64_t value;
};

struct model_table {
    char name[16];
    struct model_row rows[MODEL_ROWS];
    size_t count;
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

static inline struct model_table *model_table(struct model *model, struct tally_bytes name)
{
    for (size_t i = 0; i < model->tables_count; i++) {
        if (tally_bytes_equal(test_text(model->tables[i].name), name)) return &model->tables[i];
    }
    return NULL;
}

static inline struct model_row *model_row(struct model_table *table, struct tally_bytes key)
{
    for (size_t i = 0; i < table->count; i++) {
        if (tally_bytes_equal(test_text(table->rows[i].key), key)) return &table->rows[i];
    }
    return NULL;
}

static inline uint32_t model_free_id(const struct model_table *table)
{
    for (uint32_t id = 0;; id++) {
        bool taken = false;
        for (size_t i = 0; i < table->count; i++) taken |= table->rows[i].id == id;
        if (!taken) return id;
    }
}

static inline void model_add(struct model *model, struct tally_bytes name, struct tally_bytes key, int64_t amount)
{
    struct model_table *table = model_table(model, name);
    if (!table) {
        table = &model->tables[model->tables_count++];
        memcpy(table->name, name.data, name.size);
        table->name[name.size] = 0;
    }
    struct model_row *row = model_row(table, key);
    if (!row) {
        uint32_t id = model_free_id(table);
        row = &table->rows[table->count++];
        *row = (struct model_row){.id = id};
        memcpy(row->key, key.data, key.size);
    }
    row->value = amount > INT64_MAX - row->value ? INT64_MAX : row->value + amount;
}

static inline void model_remove(struct model *model, struct tally_bytes name, struct tally_bytes key)
{
    struct model_table *table = model_table(model, name);
    struct model_row *row = table ? model_row(table, key) : NULL;
    if (row) *row = table->rows[--table->count];
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
    size_t tables = 0;
    struct tally_bytes names[MODEL_TABLES];
    again = batch;
    while (tally_batch_next_table(&again, &entries)) {
        bool named = false;
        struct tally_bytes name = entries.table;
        while (tally_entries_next(&entries, &key, &amount)) {
            if (amount < 0) return TALLY_INVALID;
            named = true;
        }
        bool again_ = false;
        for (size_t i = 0; i < tables; i++) again_ |= tally_bytes_equal(names[i], name);
        if (named && !model_table(model, name) && !again_) names[tables++] = name;
    }
    if (model->tables_count + tables > model->tables_max) return TALLY_FULL;
    while (tally_batch_next_table(&batch, &entries)) {
        while (tally_entries_next(&entries, &key, &amount)) model_add(model, entries.table, key, amount);
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
};

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
