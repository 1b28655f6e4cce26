// SPDX-License-Identifier: Apache-2.0
#include "state.h"

#include <assert.h>
#include <messages/messages.h>

#include "state_parts.h"

enum tally_status tally_state_init(struct tally_state *state, const struct tally_state_options *options,
                                   const struct tally_alloc *alloc)
{
    if (!tally_name_valid(options->dataset) || options->epoch == 0) return TALLY_INVALID;
    uint32_t tables_max = options->tables_max ? options->tables_max : TALLY_TABLES_MAX;
    if (tables_max > TALLY_TABLES_MAX) return TALLY_INVALID;
    struct tally_state_table *tables = tally_alloc_resize(alloc, NULL, tables_max * sizeof *tables);
    if (!tables) return TALLY_NO_MEMORY;
    memset(tables, 0, tables_max * sizeof *tables);
    *state = (struct tally_state){
        .alloc = alloc,
        .dataset_bytes = (uint32_t)options->dataset.size,
        .tables_max = tables_max,
        .rows_max = options->rows_max ? options->rows_max : TALLY_ROWS_MAX,
        .expired_max = options->expired_max ? options->expired_max : TALLY_EXPIRED_MAX,
        .frame_bytes_max = options->frame_bytes_max ? options->frame_bytes_max : TALLY_FRAME_BYTES_MAX,
        .clash_mask = options->clash_mask ? options->clash_mask : UINT64_MAX,
        .epoch = options->epoch,
        .seed = options->seed,
        .tables = tables,
    };
    memcpy(state->dataset, options->dataset.data, options->dataset.size);
    tally_keys_init(&state->keys, alloc);
    tally_producers_init(&state->producers, alloc,
                         options->producers_max ? options->producers_max : TALLY_PRODUCERS_MAX, options->seed.k0);
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) state->frame.columns[i] = tally_writer_growable(alloc);
    return TALLY_OK;
}

static void table_deinit(struct tally_state *state, struct tally_state_table *table)
{
    for (uint32_t id = 0; id < table->sketches_capacity; id++) tally_alloc_free(state->alloc, table->sketches[id]);
    tally_alloc_free(state->alloc, table->sketches);
    tally_topk_deinit(&table->topk);
    tally_top_deinit(&table->top);
    tally_rows_deinit(&table->rows);
    tally_aging_deinit(&table->aging);
}

void tally_state_deinit(struct tally_state *state)
{
    if (!state->alloc) return;
    for (uint32_t i = 0; i < state->tables_count; i++) table_deinit(state, &state->tables[i]);
    tally_alloc_free(state->alloc, state->tables);
    tally_alloc_free(state->alloc, state->verdicts);
    tally_alloc_free(state->alloc, state->changes);
    tally_keys_deinit(&state->keys);
    tally_producers_deinit(&state->producers);
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) tally_writer_free(&state->frame.columns[i]);
    *state = (struct tally_state){0};
}

uint32_t tally_state_table(const struct tally_state *state, struct tally_bytes name)
{
    for (uint32_t i = 0; i < state->tables_count; i++) {
        if (tally_bytes_equal(tally_bytes(state->tables[i].name, state->tables[i].name_bytes), name)) return i;
    }
    return TALLY_TABLES_MAX;
}

struct tally_state_table *tally_state_table_begin(struct tally_state *state, struct tally_bytes name,
                                                  const struct tally_definition *definition)
{
    assert(state->tables_count < state->tables_max);
    struct tally_state_table *table = &state->tables[state->tables_count++];
    memcpy(table->name, name.data, name.size);
    table->name_bytes = (uint32_t)name.size;
    table->definition = *definition;
    table->digest_key = tally_digest_table(state->seed, name);
    tally_rows_init(&table->rows, state->alloc, &state->keys, state->clash_mask);
    return table;
}

enum tally_status tally_state_sketches_reserve(struct tally_state *state, struct tally_state_table *table)
{
    uint32_t capacity = table->rows.ids_capacity;
    if (capacity <= table->sketches_capacity) return TALLY_OK;
    struct tally_sketch **sketches =
        tally_alloc_resize(state->alloc, table->sketches, (size_t)capacity * sizeof *sketches);
    if (!sketches) return TALLY_NO_MEMORY;
    memset(sketches + table->sketches_capacity, 0, (capacity - table->sketches_capacity) * sizeof *sketches);
    table->sketches = sketches;
    table->sketches_capacity = capacity;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- whole states

// What a row takes in a chunk besides its key, at most: gap, key size, value.
#define ROW_BYTES_MAX (5u + 2u + 10u)
// What a table takes besides its rows: tag, size, number, name, kind, and tag and size of four columns.
#define TABLE_BYTES_MAX (TALLY_NAME_BYTES_MAX + 48u)
// Header and seal.
#define CHUNK_HEADER_BYTES_MAX 256u

// Adds rows of one table from cursor->id on, as long as there is room. True when all rows are in.
static bool write_rows(struct tally_state *state, struct tally_state_cursor *cursor, size_t *room)
{
    const struct tally_state_table *table = &state->tables[cursor->table];
    struct tally_frame_writer *frame = &state->frame;
    if (*room < TABLE_BYTES_MAX + ROW_BYTES_MAX + TALLY_KEY_BYTES_MAX) return false;
    *room -= TABLE_BYTES_MAX;
    tally_frame_table_begin(frame, cursor->table, tally_bytes(table->name, table->name_bytes), table->definition.kind);
    tally_frame_table_rows(frame, table->rows.live);
    for (; cursor->id < table->rows.ids; cursor->id++) {
        const struct tally_state_row *row = &table->rows.rows[cursor->id];
        if (!tally_row_live(row)) continue;
        if (*room < ROW_BYTES_MAX + row->key_bytes) break;
        *room -= ROW_BYTES_MAX + row->key_bytes;
        tally_frame_added(frame, cursor->id, tally_row_key(row), row->value);
    }
    tally_frame_table_end(frame);
    return cursor->id == table->rows.ids;
}

// Whether anything follows (table, id).
static bool more_rows(const struct tally_state *state, const struct tally_state_cursor *cursor)
{
    return cursor->table < state->tables_count;
}

enum tally_status tally_state_write_chunk(struct tally_state *state, struct tally_state_cursor *cursor,
                                          struct tally_writer *out)
{
    if (state->broken) return state->broken;
    if (state->version == 0) return TALLY_NOT_FOUND;
    // `more` stands in the header, before the rows: it is found by a dry run over the sizes.
    struct tally_state_cursor end = *cursor;
    size_t room = TALLY_CHUNK_BYTES_MAX - CHUNK_HEADER_BYTES_MAX;
    while (end.table < state->tables_count) {
        const struct tally_rows *rows = &state->tables[end.table].rows;
        if (room < TABLE_BYTES_MAX + ROW_BYTES_MAX + TALLY_KEY_BYTES_MAX) break;
        room -= TABLE_BYTES_MAX;
        for (; end.id < rows->ids; end.id++) {
            if (!tally_row_live(&rows->rows[end.id])) continue;
            if (room < ROW_BYTES_MAX + rows->rows[end.id].key_bytes) break;
            room -= ROW_BYTES_MAX + rows->rows[end.id].key_bytes;
        }
        if (end.id < rows->ids) break;
        end.table++;
        end.id = 0;
    }
    struct tally_frame_header header = {.dataset = tally_state_dataset(state),
                                        .epoch = state->epoch,
                                        .to = state->version,
                                        .cut_ms = state->time_ms,
                                        .digest = state->digest,
                                        .rows = state->rows,
                                        .seed = state->seed,
                                        .chunk = cursor->chunk,
                                        .more = more_rows(state, &end)};
    state->frame.out = out;
    tally_frame_begin(&state->frame, &header);
    room = TALLY_CHUNK_BYTES_MAX - CHUNK_HEADER_BYTES_MAX;
    while (cursor->table < state->tables_count && write_rows(state, cursor, &room)) {
        cursor->table++;
        cursor->id = 0;
    }
    assert(cursor->table == end.table && cursor->id == end.id);
    cursor->chunk++;
    cursor->done = !header.more;
    return tally_frame_finish(&state->frame);
}

// Rows that are hashed before the first of them is put into the index: by then its slots have come from memory, which a state of
// millions of rows waits for otherwise.
#define LOADED_AT_ONCE 32u

struct loaded_row {
    uint64_t fingerprint;
    int64_t value;
    struct tally_bytes key;
    uint32_t id;
};

static enum tally_status load_row(struct tally_state *state, struct tally_state_table *table,
                                  const struct loaded_row *row)
{
    if (tally_rows_find(&table->rows, row->fingerprint) != TALLY_NO_ROW) return TALLY_CLASH;
    enum tally_status status = tally_rows_put(&table->rows, row->id, row->fingerprint, row->key, row->value);
    if (status) return status;
    tally_digest_add(&state->digest, tally_digest_row(table->digest_key, row->fingerprint, row->value));
    state->rows++;
    state->key_bytes += row->key.size;
    return TALLY_OK;
}

static enum tally_status load_rows(struct tally_state *state, struct tally_state_table *table,
                                   struct tally_table_reader *reader)
{
    struct loaded_row rows[LOADED_AT_ONCE];
    enum tally_status status = TALLY_OK;
    while (status == TALLY_OK) {
        uint32_t count = 0;
        while (count < LOADED_AT_ONCE) {
            struct loaded_row *row = &rows[count];
            if ((status = tally_table_next_added(reader, &row->id, &row->key, &row->value))) break;
            row->fingerprint = tally_fingerprint(state->seed, row->key.data, row->key.size);
            tally_rows_prefetch_index(&table->rows, row->fingerprint);
            count++;
        }
        for (uint32_t i = 0; i < count; i++) {
            enum tally_status loaded = load_row(state, table, &rows[i]);
            if (loaded) return loaded;
        }
    }
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

static enum tally_status load_table(struct tally_state *state, struct tally_table_reader *reader)
{
    struct tally_state_table *table;
    enum tally_status status;
    uint32_t id;
    int64_t value;
    if (reader->table == state->tables_count) {
        if (!reader->name.size || tally_state_table(state, reader->name) != TALLY_TABLES_MAX) return TALLY_MALFORMED;
        if (state->tables_count == state->tables_max) return TALLY_LIMIT;
        // What it is besides its kind, tally_state_load_definitions says.
        const struct tally_definition definition = {.kind = reader->kind};
        table = tally_state_table_begin(state, reader->name, &definition);
    } else {
        if (reader->table + 1 != state->tables_count) return TALLY_MALFORMED;
        table = &state->tables[reader->table];
        if (reader->name.size && tally_state_table(state, reader->name) != reader->table) return TALLY_MALFORMED;
    }
    status = tally_table_next_removed(reader, &id);
    if (status == TALLY_NOT_FOUND) status = tally_table_next_changed(reader, &id, &value);
    if (status != TALLY_NOT_FOUND) return status ? status : TALLY_MALFORMED;
    return load_rows(state, table, reader);
}

static enum tally_status load_header(struct tally_state *state, const struct tally_frame_header *header,
                                     struct tally_state_cursor *cursor)
{
    if (!tally_bytes_equal(header->dataset, tally_state_dataset(state))) return TALLY_WRONG_DATASET;
    if (header->from != 0 || header->chunk != cursor->chunk || cursor->done) return TALLY_GAP;
    if (cursor->chunk == 0) {
        if (state->version || state->tables_count) return TALLY_INVALID;
        state->epoch = header->epoch;
        state->version = header->to;
        state->seed = header->seed;
        state->time_ms = header->cut_ms;
        cursor->digest = header->digest;
        cursor->rows = header->rows;
        return TALLY_OK;
    }
    // As a mirror sees it: all chunks say the same of the whole.
    if (cursor->rows != header->rows || !tally_digest_equal(cursor->digest, header->digest)) return TALLY_GAP;
    if (state->epoch != header->epoch || state->version != header->to || state->time_ms != header->cut_ms)
        return TALLY_GAP;
    return state->seed.k0 == header->seed.k0 && state->seed.k1 == header->seed.k1 ? TALLY_OK : TALLY_GAP;
}

static enum tally_status load_chunk(struct tally_state *state, struct tally_bytes frame,
                                    struct tally_state_cursor *cursor)
{
    struct tally_frame_reader reader;
    struct tally_table_reader table;
    enum tally_status status = tally_frame_open(frame, &reader);
    if (!status) status = load_header(state, &reader.header, cursor);
    if (status) return status;
    while ((status = tally_frame_next_table(&reader, &table)) == TALLY_OK) {
        if ((status = load_table(state, &table))) return status;
    }
    if (status != TALLY_NOT_FOUND) return status;
    cursor->chunk++;
    if (reader.header.more) return TALLY_MORE;
    cursor->done = true;
    if (state->rows != reader.header.rows || !tally_digest_equal(state->digest, reader.header.digest))
        return TALLY_DIGEST_MISMATCH;
    for (uint32_t i = 0; i < state->tables_count; i++) {
        if ((status = tally_rows_settle(&state->tables[i].rows))) return status;
    }
    return TALLY_OK;
}

enum tally_status tally_state_load_chunk(struct tally_state *state, struct tally_bytes frame,
                                         struct tally_state_cursor *cursor)
{
    if (state->broken) return state->broken;
    enum tally_status status = load_chunk(state, frame, cursor);
    if (status && status != TALLY_MORE) state->broken = status;
    return status;
}
