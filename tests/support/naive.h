// SPDX-License-Identifier: Apache-2.0
//
// A mirror as a plain list of rows, slow and obvious: what the real one is held against. It takes any frame bytes. The status
// that it gives is the real one's for every frame, but for TALLY_NO_MEMORY and TALLY_STALLED, which it never gives.
#ifndef TALLY_TEST_NAIVE_H
#define TALLY_TEST_NAIVE_H

#include <stdlib.h>
#include <tallycast/fingerprint.h>
#include <tallycast/frame.h>
#include <tallycast/limits.h>

struct naive_row {
    uint32_t table, id;
    uint8_t *key;
    size_t key_bytes;
    int64_t value;
};

struct naive_state {
    uint64_t epoch, version;
    struct tally_seed seed;
    struct tally_digest digest; // of the rows, reckoned anew each time
    uint32_t tables;
    char names[TALLY_TABLES_MAX][TALLY_NAME_BYTES_MAX + 1];
    struct naive_row *rows;
    size_t count, capacity;
};

struct naive {
    char dataset[TALLY_NAME_BYTES_MAX + 1];
    struct naive_state held, staged;
    struct tally_frame_header first; // of the change that is staged; its dataset is not used
    bool staging;
    uint32_t next_chunk;
};

static inline void naive_clear(struct naive_state *state)
{
    for (size_t i = 0; i < state->count; i++) free(state->rows[i].key);
    free(state->rows);
    *state = (struct naive_state){0};
}

static inline void naive_insert(struct naive_state *state, uint32_t table, uint32_t id, struct tally_bytes key,
                                int64_t value)
{
    if (state->count == state->capacity) {
        state->capacity = state->capacity ? state->capacity * 2 : 16;
        state->rows = realloc(state->rows, state->capacity * sizeof *state->rows);
    }
    uint8_t *copy = malloc(key.size ? key.size : 1);
    if (!state->rows || !copy) abort();
    memcpy(copy, key.data, key.size);
    state->rows[state->count++] = (struct naive_row){table, id, copy, key.size, value};
}

static inline void naive_copy(struct naive_state *to, const struct naive_state *from)
{
    naive_clear(to);
    *to = *from;
    to->rows = NULL;
    to->count = to->capacity = 0;
    for (size_t i = 0; i < from->count; i++) {
        const struct naive_row *row = &from->rows[i];
        naive_insert(to, row->table, row->id, tally_bytes(row->key, row->key_bytes), row->value);
    }
}

static inline struct naive_row *naive_find_id(struct naive_state *state, uint32_t table, uint32_t id)
{
    for (size_t i = 0; i < state->count; i++) {
        if (state->rows[i].table == table && state->rows[i].id == id) return &state->rows[i];
    }
    return NULL;
}

static inline struct naive_row *naive_find_key(struct naive_state *state, uint32_t table, struct tally_bytes key)
{
    for (size_t i = 0; i < state->count; i++) {
        struct naive_row *row = &state->rows[i];
        if (row->table == table && tally_bytes_equal(tally_bytes(row->key, row->key_bytes), key)) return row;
    }
    return NULL;
}

static inline void naive_digest(struct naive_state *state)
{
    state->digest = (struct tally_digest){0};
    for (size_t i = 0; i < state->count; i++) {
        const struct naive_row *row = &state->rows[i];
        const char *name = state->names[row->table];
        uint64_t table = tally_digest_table(state->seed, tally_bytes(name, strlen(name)));
        uint64_t key = tally_fingerprint(state->seed, row->key, row->key_bytes);
        tally_digest_add(&state->digest, tally_digest_row(table, key, row->value));
    }
}

static inline enum tally_status naive_table(struct naive_state *state, const struct tally_table_reader *table)
{
    const char *known = table->table < state->tables ? state->names[table->table] : NULL;
    if (known) {
        bool same = tally_bytes_equal(table->name, tally_bytes(known, strlen(known)));
        return table->name.size && !same ? TALLY_MALFORMED : TALLY_OK;
    }
    if (table->table != state->tables || !table->name.size) return TALLY_MALFORMED;
    for (uint32_t i = 0; i < state->tables; i++) {
        if (tally_bytes_equal(table->name, tally_bytes(state->names[i], strlen(state->names[i]))))
            return TALLY_MALFORMED;
    }
    memcpy(state->names[state->tables], table->name.data, table->name.size);
    state->names[state->tables++][table->name.size] = 0;
    return TALLY_OK;
}

static inline enum tally_status naive_rows(struct naive_state *state, struct tally_table_reader *table)
{
    uint32_t id;
    int64_t number;
    struct tally_bytes key;
    enum tally_status status;
    while ((status = tally_table_next_removed(table, &id)) == TALLY_OK) {
        struct naive_row *row = naive_find_id(state, table->table, id);
        if (!row) return TALLY_MALFORMED;
        free(row->key);
        *row = state->rows[--state->count];
    }
    if (status != TALLY_NOT_FOUND) return status;
    while ((status = tally_table_next_changed(table, &id, &number)) == TALLY_OK) {
        struct naive_row *row = naive_find_id(state, table->table, id);
        if (!row || __builtin_add_overflow(row->value, number, &row->value)) return TALLY_MALFORMED;
    }
    if (status != TALLY_NOT_FOUND) return status;
    while ((status = tally_table_next_added(table, &id, &key, &number)) == TALLY_OK) {
        if (naive_find_id(state, table->table, id)) return TALLY_MALFORMED;
        if (naive_find_key(state, table->table, key)) return TALLY_CLASH;
        naive_insert(state, table->table, id, key, number);
    }
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

static inline bool naive_follows(const struct naive *naive, const struct tally_frame_header *header)
{
    const struct tally_frame_header *first = &naive->first;
    return naive->staging && header->chunk == naive->next_chunk && header->epoch == first->epoch &&
           header->from == first->from && header->to == first->to && header->cut_ms == first->cut_ms &&
           header->rows == first->rows && tally_digest_equal(header->digest, first->digest) &&
           header->seed.k0 == first->seed.k0 && header->seed.k1 == first->seed.k1;
}

// Stages the frame's change beside the held state, as far as it goes: what the real one does up to the comparison of digests.
static inline enum tally_status naive_stage(struct naive *naive, struct tally_bytes frame)
{
    struct tally_frame_reader reader;
    struct tally_table_reader table;
    enum tally_status status = tally_frame_open(frame, &reader);
    if (status) return status;
    const struct tally_frame_header *header = &reader.header;
    const struct naive_state *held = &naive->held;
    if (!tally_bytes_equal(header->dataset, tally_bytes(naive->dataset, strlen(naive->dataset))))
        return TALLY_WRONG_DATASET;
    if (header->epoch < held->epoch || (header->epoch == held->epoch && header->to <= held->version)) return TALLY_OLD;
    if (header->from && header->epoch != held->epoch) return TALLY_WRONG_EPOCH;
    if (header->from && header->from != held->version) return TALLY_GAP;
    if (header->chunk && !naive_follows(naive, header)) return TALLY_GAP;
    struct naive_state *staged = &naive->staged;
    if (header->chunk == 0) {
        naive_clear(staged);
        if (header->from)
            naive_copy(staged, held);
        else
            staged->seed = header->seed;
        staged->epoch = header->epoch;
        staged->version = header->to;
        naive->first = *header;
        naive->next_chunk = 0;
    }
    naive->staging = false;
    while ((status = tally_frame_next_table(&reader, &table)) == TALLY_OK) {
        if (header->from == 0 && !(tally_wire_done(&table.removed) && tally_wire_done(&table.changed)))
            return TALLY_MALFORMED;
        if ((status = naive_table(staged, &table))) return status;
        if ((status = naive_rows(staged, &table))) return status;
    }
    if (status != TALLY_NOT_FOUND) return status;
    naive->staging = true;
    naive->next_chunk++;
    naive_digest(staged);
    return header->more ? TALLY_MORE : TALLY_OK;
}

static inline enum tally_status naive_apply(struct naive *naive, struct tally_bytes frame)
{
    enum tally_status status = naive_stage(naive, frame);
    if (status == TALLY_OK) {
        const struct naive_state *staged = &naive->staged;
        if (!tally_digest_equal(staged->digest, naive->first.digest) || staged->count != naive->first.rows)
            status = TALLY_DIGEST_MISMATCH;
    }
    if (status == TALLY_OK) naive_copy(&naive->held, &naive->staged);
    if (status != TALLY_MORE && status != TALLY_OLD) naive->staging = false;
    return status;
}

static inline void naive_init(struct naive *naive, const char *dataset)
{
    *naive = (struct naive){0};
    memcpy(naive->dataset, dataset, strlen(dataset) + 1);
}

static inline void naive_free(struct naive *naive)
{
    naive_clear(&naive->held);
    naive_clear(&naive->staged);
}

#endif
