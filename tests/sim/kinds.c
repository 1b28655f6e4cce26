// SPDX-License-Identifier: Apache-2.0
//
// Tables of every kind beside the counters: batches carry entries for them too, and the truth is the naive model of the unit tests
// (tests/support/count_model.h), which follows the log as the rest of the truth does.
#include "sim.h"

#include <server/src/state.h>

#include "../support/count_model.h"

struct sim_kinds {
    struct model model;
};

enum { KEYS = 40, DEFINED = 2 };

static const struct {
    const char *name;
    enum tally_kind kind;
} tables[] = {{"counted", TALLY_KIND_COUNTER}, {"gauge", TALLY_KIND_GAUGE},       {"min", TALLY_KIND_MIN},
              {"max", TALLY_KIND_MAX},         {"distinct", TALLY_KIND_DISTINCT}, {"hot", TALLY_KIND_TOPK}};

#define TABLES (sizeof tables / sizeof *tables)

// The settings: a small topk table, and the top of another table; k is another one at times.
size_t sim_kinds_settings(struct sim *sim, struct tally_named_definition *out)
{
    static const char *const texts[2][DEFINED] = {{"hot topk k=3 capacity=8", "top topk k=5 of=counted"},
                                                  {"hot topk k=5 capacity=8", "top topk k=2 of=counted"}};
    struct tally_bytes word;
    const char *why;
    bool defined;
    if (!sim->config.kinds) return 0;
    unsigned which = sim->config.redefine && test_random_percent(&sim->random, 30);
    for (size_t i = 0; i < DEFINED; i++)
        SIM_CHECK(sim, tally_definition_parse(texts[which][i], &out[i].table, &out[i].definition, &defined, &word,
                                              &why) == TALLY_OK);
    return DEFINED;
}

// Entries for one or two of the tables.
void sim_kinds_encode(struct sim *sim, struct tally_batch_writer *writer)
{
    struct test_random *random = &sim->random;
    if (!sim->config.kinds) return;
    for (uint64_t n = test_random_below(random, 3); n > 0; n--) {
        size_t table = test_random_below(random, TABLES);
        enum tally_kind kind = tables[table].kind;
        bool level = kind == TALLY_KIND_GAUGE || kind == TALLY_KIND_MIN || kind == TALLY_KIND_MAX;
        tally_batch_table_begin_as(writer, test_text(tables[table].name), kind,
                                   kind == TALLY_KIND_GAUGE && test_random_percent(random, 50));
        char key[24];
        for (uint64_t i = test_random_below(random, 6); i > 0; i--) {
            uint64_t keys = test_random_percent(random, 50) ? KEYS : KEYS / 8;
            (void)snprintf(key, sizeof key, "key-%u", (unsigned)test_random_below(random, keys));
            int64_t amount = (int64_t)test_random_below(random, 9);
            if (test_random_percent(random, sim->config.huge_amounts)) amount = INT64_MAX / 3;
            if (level && test_random_percent(random, 50)) amount = -amount;
            if (kind == TALLY_KIND_DISTINCT)
                tally_batch_add_member(writer, test_text(key), model_member(test_random_below(random, MODEL_MEMBERS)));
            else
                tally_batch_add(writer, test_text(key), amount);
        }
        if (test_random_percent(random, 10)) {
            (void)snprintf(key, sizeof key, "key-%u", (unsigned)test_random_below(random, KEYS));
            tally_batch_remove(writer, test_text(key));
        }
        tally_batch_table_end(writer);
    }
}

// ---------------------------------------------------------------------------------------------------- truth

// Whether an entry or a definition of this table is for here.
bool sim_kinds_has(struct tally_bytes name)
{
    for (size_t i = 0; i < TABLES; i++) {
        if (tally_bytes_equal(test_text(tables[i].name), name)) return true;
    }
    return tally_bytes_equal(test_text("top"), name);
}

void sim_kinds_reset(struct sim *sim)
{
    if (!sim->kinds) sim->kinds = calloc(1, sizeof *sim->kinds);
    if (!sim->kinds) abort();
    model_free(&sim->kinds->model);
    sim->kinds->model.tables_max = MODEL_TABLES;
}

void sim_kinds_free(struct sim *sim)
{
    if (sim->kinds) model_free(&sim->kinds->model);
    free(sim->kinds);
    sim->kinds = NULL;
}

void sim_kinds_define(struct sim *sim, struct tally_bytes name, const struct tally_definition *definition)
{
    model_define(&sim->kinds->model, name, *definition);
}

void sim_kinds_count(struct sim *sim, struct tally_bytes batch)
{
    struct tally_batch_reader reader;
    struct tally_entries_reader entries;
    struct tally_bytes key;
    int64_t amount;
    if (!sim->config.kinds || tally_batch_open(batch, &reader)) return;
    while (tally_batch_next_table(&reader, &entries)) {
        if (!sim_kinds_has(entries.table)) continue;
        while (tally_entries_next(&entries, &key, &amount)) {
            model_add(&sim->kinds->model, &entries, key, amount);
            sim->counters.kinds++;
        }
        while (tally_entries_next_removed(&entries, &key)) model_remove(&sim->kinds->model, entries.table, key);
    }
}

void sim_kinds_conclude(struct sim *sim)
{
    if (sim->config.kinds) model_conclude(&sim->kinds->model);
}

// Adds the rows of all these tables; gives their number.
uint64_t sim_kinds_digest(struct sim *sim, struct tally_seed seed, struct tally_digest *sum)
{
    uint64_t rows = 0;
    for (size_t t = 0; sim->config.kinds && t < sim->kinds->model.tables_count; t++) {
        const struct model_table *table = &sim->kinds->model.tables[t];
        uint64_t digest_key = tally_digest_table(seed, test_text(table->name));
        for (size_t i = 0; i < table->count; i++) {
            const struct model_row *row = &table->rows[i];
            uint64_t fingerprint = tally_fingerprint(seed, row->key, strlen(row->key));
            tally_digest_add(sum, tally_digest_row(digest_key, fingerprint, row->value));
        }
        rows += table->count;
    }
    return rows;
}
