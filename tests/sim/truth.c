// SPDX-License-Identifier: Apache-2.0
//
// What must hold. The truth follows the records that reach the log, in the plainest way, and keeps what was cut from them. It
// knows of a batch whether it left, whether it is in the log, and whether its producer was told so.
#include "sim.h"

#include <server/src/state.h>

void sim_key(const struct sim *sim, uint32_t key, char *out, size_t *out_bytes)
{
    int size = snprintf(out, 1024, "key-%u", key);
    if (key == SIM_OVERFLOW) size = snprintf(out, 1024, "%s", TALLY_OVERFLOW_KEY);
    *out_bytes = (size_t)size;
    if (key != SIM_OVERFLOW && sim->config.key_bytes > (size_t)size) {
        memset(out + size, '.', sim->config.key_bytes - (size_t)size);
        *out_bytes = sim->config.key_bytes;
    }
}

// The keys of a seed, and at the end that of overflow rows.
static uint32_t key_after(const struct sim *sim, uint32_t key)
{
    return key + 1 == sim->config.keys ? SIM_OVERFLOW : key + 1;
}

struct tally_bytes sim_table(uint32_t table)
{
    static const char *const names[SIM_TABLES] = {"files", "repos", "other", "removed", "tallied"};
    return test_text(names[table]);
}

// ---------------------------------------------------------------------------------------------------- batches

struct sim_instance *sim_instance(struct sim *sim, uint64_t producer)
{
    if (producer == 0 || producer > sim->truth.instances_count) return NULL;
    return &sim->truth.instances[producer - 1];
}

struct sim_instance *sim_instance_of(struct sim *sim, uint64_t id)
{
    struct sim_instance *instance = sim_instance(sim, id);
    if (instance && !instance->id) return instance;
    for (size_t i = sim->truth.instances_count; i-- > 0;)
        if (sim->truth.instances[i].id == id) return &sim->truth.instances[i];
    return NULL;
}

uint64_t sim_instance_new(struct sim *sim)
{
    struct sim_truth *truth = &sim->truth;
    if (truth->instances_count == truth->instances_capacity) {
        truth->instances_capacity = truth->instances_capacity ? truth->instances_capacity * 2 : 16;
        truth->instances = realloc(truth->instances, truth->instances_capacity * sizeof *truth->instances);
        if (!truth->instances) abort();
    }
    truth->instances[truth->instances_count++] = (struct sim_instance){0};
    return truth->instances_count;
}

static int64_t add(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

void sim_truth_sent(struct sim *sim, struct sim_batch *batch)
{
    if (batch->sent) return;
    batch->sent = true;
    for (unsigned i = 0; i < batch->entries; i++) {
        struct sim_cell *cell = &sim->truth.cells[batch->entry[i].table][batch->entry[i].key];
        if (batch->entry[i].amount >= 0) cell->sent = add(cell->sent, batch->entry[i].amount);
    }
}

void sim_truth_acked(struct sim *sim, struct sim_batch *batch)
{
    if (batch->acked) return;
    struct sim_instance *instance = sim_instance(sim, batch->producer);
    batch->acked = true;
    if (batch->sequence > instance->acked_max) instance->acked_max = batch->sequence;
    for (unsigned i = 0; i < batch->entries; i++) {
        struct sim_cell *cell = &sim->truth.cells[batch->entry[i].table][batch->entry[i].key];
        if (batch->entry[i].amount >= 0) cell->acked = add(cell->acked, batch->entry[i].amount);
    }
}

// ---------------------------------------------------------------------------------------------------- the log

static bool ages(const struct tally_definition *definition) { return definition->ttl_ms || definition->window; }

static void leave(struct sim *sim, struct sim_cell *cell)
{
    if (!cell->live) return;
    sim->truth.rows--;
    cell->live = false;
    cell->value = 0;
    aged_leave(&cell->aged);
}

// The key that an amount of `key` counts for: its own, or the overflow row's.
static uint32_t key_counted(struct sim *sim, uint32_t table, uint32_t key)
{
    const struct sim_cell *cells = sim->truth.cells[table];
    uint64_t live = 0, max = sim->truth.definitions[table].max_keys;
    for (uint32_t k = 0; max && k < sim->config.keys; k++) live += cells[k].live;
    if (max == 0 || cells[key].live || live < max) return key;
    sim->counters.overflowed++;
    return SIM_OVERFLOW;
}

static void count_one(struct sim *sim, uint32_t table, uint32_t key, int64_t amount)
{
    struct sim_truth *truth = &sim->truth;
    const struct tally_definition *definition = &truth->definitions[table];
    struct sim_cell *cell = &truth->cells[table][key_counted(sim, table, key)];
    if (!cell->live) truth->rows++;
    cell->value = cell->live ? add(cell->value, amount) : amount;
    cell->live = true;
    if (!ages(definition)) return;
    aged_count(&cell->aged, truth->time_ms, amount);
    if (definition->window) cell->value = aged_value(&cell->aged, TALLY_KIND_COUNTER);
}

static void count(struct sim *sim, const struct sim_batch *batch)
{
    for (unsigned i = 0; i < batch->entries; i++) {
        struct sim_cell *cell = &sim->truth.cells[batch->entry[i].table][batch->entry[i].key];
        if (batch->entry[i].amount >= 0) {
            count_one(sim, batch->entry[i].table, batch->entry[i].key, batch->entry[i].amount);
            continue;
        }
        if (cell->live) sim->counters.removals++;
        leave(sim, cell);
    }
}

// What the record says that tables are from now on.
static void define(struct sim *sim, struct tally_record_reader *reader)
{
    struct sim_truth *truth = &sim->truth;
    struct tally_bytes message, name;
    struct tally_definition definition;
    while (tally_record_next_definition(reader, &message)) {
        uint32_t table = 0;
        SIM_CHECK(sim, tally_definition_read(message, &name, &definition) == TALLY_OK);
        if (sim_kinds_has(name)) {
            sim_kinds_define(sim, name, &definition);
            continue;
        }
        while (table < SIM_TABLES && !tally_bytes_equal(sim_table(table), name)) table++;
        SIM_CHECK(sim, table < SIM_TABLES);
        bool began = !truth->definitions[table].ttl_ms;
        for (uint32_t k = 0; began && k <= SIM_OVERFLOW; k = key_after(sim, k))
            truth->cells[table][k].aged.touched_ms = truth->time_ms;
        truth->definitions[table] = definition;
        sim->counters.redefined++;
    }
}

// What is due at the record's time.
static void age(struct sim *sim)
{
    struct sim_truth *truth = &sim->truth;
    for (uint32_t t = 0; t < SIM_TABLES; t++) {
        const struct tally_definition *definition = &truth->definitions[t];
        for (uint32_t k = 0; ages(definition) && k <= SIM_OVERFLOW; k = key_after(sim, k)) {
            struct sim_cell *cell = &truth->cells[t][k];
            size_t events = cell->aged.count;
            if (!cell->live) continue;
            cell->aged.live = true;
            if (aged_advance(&cell->aged, definition, truth->time_ms)) {
                leave(sim, cell);
                sim->counters.expired++;
            } else if (definition->window) {
                sim->counters.slid += events - cell->aged.count;
                cell->value = aged_value(&cell->aged, TALLY_KIND_COUNTER);
            }
        }
    }
}

static void apply_batch(struct sim *sim, struct tally_bytes bytes)
{
    struct tally_batch_reader reader;
    if (tally_batch_open(bytes, &reader) != TALLY_OK) sim_fail(sim, "a batch in the log does not open");
    struct sim_instance *instance = sim_instance_of(sim, reader.header.producer);
    uint64_t sequence = reader.header.sequence;
    if (!instance || sequence > instance->count) sim_fail(sim, "a batch in the log that nobody sent");
    struct sim_batch *batch = instance->batches[sequence - 1];
    if (!batch->sent) sim_fail(sim, "a batch in the log before it was sent");
    if (!tally_bytes_equal(bytes, batch->inner))
        sim_fail(sim, "batch %llu of producer %llu is in the log with other content", (unsigned long long)sequence,
                 (unsigned long long)batch->producer);
    if (sequence != instance->last_effective + 1) return; // a repeat, or behind a hole
    instance->last_effective = sequence;
    batch->effective = true;
    count(sim, batch);
    for (unsigned e = 0; instance->id && e < batch->entries; e++)
        sim->truth.tallied[instance->edge][batch->entry[e].key] += batch->entry[e].amount;
    if (instance->id) sim_tally_kinds_log(&sim->edges[instance->edge], bytes);
    sim_kinds_count(sim, bytes);
}

static void apply_record(struct sim *sim, struct tally_bytes record, uint64_t version)
{
    struct tally_record_reader reader;
    struct tally_bytes batch;
    if (tally_record_open(record, &reader) != TALLY_OK || reader.header.version != version)
        sim_fail(sim, "record %llu does not open", (unsigned long long)version);
    if (reader.header.time_ms > sim->truth.time_ms) sim->truth.time_ms = reader.header.time_ms;
    define(sim, &reader);
    age(sim);
    while (tally_record_next(&reader, &batch)) apply_batch(sim, batch);
    sim_kinds_conclude(sim);
}

void sim_truth_lose(struct sim *sim, uint64_t version)
{
    struct sim_truth *truth = &sim->truth;
    truth->rows = truth->time_ms = 0;
    memset(truth->definitions, 0, sizeof truth->definitions);
    memset(truth->tallied, 0, sizeof truth->tallied);
    sim_kinds_reset(sim);
    for (unsigned i = 0; i < sim->config.edges; i++) sim_tally_kinds_reset(&sim->edges[i]);
    for (size_t t = 0; t < SIM_TABLES; t++) {
        for (size_t k = 0; k <= SIM_KEYS_MAX; k++) {
            truth->cells[t][k].live = false;
            truth->cells[t][k].value = truth->cells[t][k].acked = 0;
            aged_leave(&truth->cells[t][k].aged);
        }
    }
    for (size_t i = 0; i < truth->instances_count; i++) {
        struct sim_instance *instance = &truth->instances[i];
        instance->last_effective = 0;
        for (size_t b = 0; b < instance->count; b++) instance->batches[b]->effective = false;
    }
    while (truth->version > version) free((void *)(uintptr_t)truth->records[--truth->version].data);
    for (size_t v = 0; v < truth->version; v++) apply_record(sim, truth->records[v], v + 1);
    // What was acknowledged and is lost by design is as if it had not been.
    for (size_t i = 0; i < truth->instances_count; i++) {
        struct sim_instance *instance = &truth->instances[i];
        instance->acked_max = 0;
        for (size_t b = 0; b < instance->count; b++) {
            bool kept = instance->batches[b]->acked && instance->batches[b]->effective;
            instance->batches[b]->acked = false;
            if (kept) sim_truth_acked(sim, instance->batches[b]);
        }
    }
    sim_trace(sim, "log-lost-to", version, 0, 0);
}

void sim_truth_append(struct sim *sim, uint64_t version, struct tally_bytes record)
{
    struct sim_truth *truth = &sim->truth;
    if (version <= truth->version && truth->loss_allowed) sim_truth_lose(sim, version - 1);
    truth->loss_allowed = false;
    if (version != truth->version + 1)
        sim_fail(sim, "record %llu is appended behind version %zu", (unsigned long long)version, truth->version);
    if (truth->version == truth->capacity) {
        truth->capacity = truth->capacity ? truth->capacity * 2 : 64;
        truth->records = realloc(truth->records, truth->capacity * sizeof *truth->records);
        truth->frames = realloc(truth->frames, truth->capacity * sizeof *truth->frames);
        if (!truth->records || !truth->frames) abort();
    }
    truth->frames[truth->version] = 0;
    truth->records[truth->version++] = tally_bytes(test_exact_copy(record.data, record.size), record.size);
    apply_record(sim, record, version);
    sim->counters.versions++;
    sim_trace(sim, "append", version, record.size, truth->rows);
}

// ---------------------------------------------------------------------------------------------------- what was cut

static size_t place_of(const struct sim_truth *truth, uint64_t epoch, uint64_t version)
{
    size_t mask = ((size_t)1 << truth->cuts_bits) - 1, at = tally_mix64(epoch * 31 + version) & mask;
    while (truth->cuts[at].epoch && (truth->cuts[at].epoch != epoch || truth->cuts[at].version != version))
        at = (at + 1) & mask;
    return at;
}

const struct sim_cut *sim_truth_find(const struct sim *sim, uint64_t epoch, uint64_t version)
{
    if (!sim->truth.cuts) return NULL;
    const struct sim_cut *cut = &sim->truth.cuts[place_of(&sim->truth, epoch, version)];
    return cut->epoch ? cut : NULL;
}

static void insert(struct sim *sim, const struct sim_cut *cut)
{
    struct sim_truth *truth = &sim->truth;
    if (!truth->cuts || truth->cuts_count * 2 > (size_t)1 << truth->cuts_bits) {
        struct sim_cut *old = truth->cuts;
        size_t size = old ? (size_t)1 << truth->cuts_bits : 0;
        truth->cuts_bits = old ? truth->cuts_bits + 1 : 9;
        truth->cuts = calloc((size_t)1 << truth->cuts_bits, sizeof *truth->cuts);
        if (!truth->cuts) abort();
        for (size_t i = 0; i < size; i++) {
            if (old[i].epoch) truth->cuts[place_of(truth, old[i].epoch, old[i].version)] = old[i];
        }
        free(old);
    }
    struct sim_cut *place = &truth->cuts[place_of(truth, cut->epoch, cut->version)];
    if (place->epoch && !tally_digest_equal(place->digest, cut->digest))
        sim_fail(sim, "two different states were cut as epoch %016llx version %llu", (unsigned long long)cut->epoch,
                 (unsigned long long)cut->version);
    if (!place->epoch) truth->cuts_count++;
    *place = *cut;
}

// Of what the log says; *out_rows: how many rows that are.
static struct tally_digest digest_of(struct sim *sim, struct tally_seed seed, uint64_t *out_rows)
{
    struct tally_digest sum = {0};
    char key[1024];
    size_t key_bytes;
    for (uint32_t t = 0; t < SIM_TABLES; t++) {
        struct tally_bytes name = sim_table(t);
        uint64_t table = tally_digest_table(seed, name);
        for (uint32_t k = 0; k <= SIM_OVERFLOW; k = key_after(sim, k)) {
            const struct sim_cell *cell = &sim->truth.cells[t][k];
            if (!cell->live) continue;
            sim_key(sim, k, key, &key_bytes);
            tally_digest_add(&sum, tally_digest_row(table, tally_fingerprint(seed, key, key_bytes), cell->value));
        }
    }
    *out_rows = sim->truth.rows + sim_kinds_digest(sim, seed, &sum);
    return sum;
}

void sim_truth_cut(struct sim *sim)
{
    struct sim_server *server = &sim->server;
    struct tally_view view;
    struct tally_view_info info;
    struct tally_server_stats stats;
    tally_view_pin(&server->reader, &view);
    tally_view_info(&view, &info);
    tally_view_unpin(&view);
    if (info.version == 0) return;
    const struct sim_cut *known = sim_truth_find(sim, info.epoch, info.version);
    if (known && !tally_digest_equal(known->digest, info.digest)) known = NULL;
    if (known && server->lags) {
        // The mirror is of a version that was cut. What the server tells is of a newer one, which has the same keys' seed.
        tally_server_stats(server->core, &stats);
        SIM_CHECK(sim, stats.epoch == info.epoch && stats.version > info.version);
        info.version = stats.version;
        info.digest = stats.digest;
        info.rows = stats.rows;
        known = sim_truth_find(sim, info.epoch, info.version);
        if (known && !tally_digest_equal(known->digest, info.digest)) known = NULL;
    }
    if (known) return;
    if (info.version != sim->truth.version)
        sim_fail(sim, "the server's mirror is at version %llu, its log at %zu", (unsigned long long)info.version,
                 sim->truth.version);
    uint64_t rows;
    struct tally_digest digest = digest_of(sim, info.seed, &rows);
    if (info.rows != rows)
        sim_fail(sim, "version %llu has %llu rows, should have %llu", (unsigned long long)info.version,
                 (unsigned long long)info.rows, (unsigned long long)rows);
    if (!tally_digest_equal(digest, info.digest))
        sim_fail(sim, "version %llu is not what its log says", (unsigned long long)info.version);
    insert(sim, &(struct sim_cut){info.epoch, info.version, digest, info.rows});
    for (uint32_t t = 0; t < SIM_TABLE_REMOVED; t++) {
        if (sim->config.definitions[t].kind) continue; // not all that was counted is there
        for (uint32_t k = 0; k < sim->config.keys; k++) {
            const struct sim_cell *cell = &sim->truth.cells[t][k];
            if (cell->value < cell->acked || cell->value > cell->sent)
                sim_fail(sim, "table %u key %u is %lld: acknowledged %lld, ever sent %lld", t, k,
                         (long long)cell->value, (long long)cell->acked, (long long)cell->sent);
        }
    }
}

// ------------------------------------------------------------------------------------ frames

static uint64_t check_of(struct tally_bytes frame) { return tally_load64(frame.data + frame.size - 8); }

void sim_truth_published(struct sim *sim, struct tally_bytes message)
{
    struct tally_bytes dataset, sealed;
    struct tally_frame_reader reader;
    enum tally_published_what what;
    SIM_CHECK(sim, tally_published_open(message, &dataset, &what, &sealed) == TALLY_OK);
    if (what != TALLY_PUBLISHED_FRAME) return;
    SIM_CHECK(sim, tally_frame_open(sealed, &reader) == TALLY_OK);
    bool chunks = reader.header.chunk || reader.header.more || (reader.header.from == 0 && reader.header.to != 1);
    if (!chunks) sim->truth.frames[reader.header.to - 1] = check_of(sealed);
}

// Everything behind the log is a function of the log alone: a server that reads it later gives the same frames, byte for byte.
void sim_truth_replay(struct sim *sim)
{
    const struct sim_truth *truth = &sim->truth;
    const struct sim_server *server = &sim->server;
    const struct tally_log_identity *identity = &server->log_disk.identity;
    const struct tally_state_options options = {.dataset = test_text(SIM_DATASET),
                                                .epoch = identity->epoch,
                                                .seed = identity->seed,
                                                .clash_mask = sim->config.clash_mask,
                                                .frame_bytes_max = sim->config.frame_bytes_max};
    struct tally_state state;
    struct tally_writer out = test_writer();
    SIM_CHECK(sim, tally_state_init(&state, &options, &tally_alloc_libc) == TALLY_OK);
    for (size_t v = 0; v < truth->version; v++) {
        struct tally_applied applied;
        out.size = 0;
        SIM_CHECK(sim, tally_state_apply(&state, truth->records[v], &out, &applied) == TALLY_OK);
        const struct sim_cut *cut = sim_truth_find(sim, state.epoch, state.version);
        if (cut && !tally_digest_equal(cut->digest, state.digest))
            sim_fail(sim, "version %zu comes out as another state when the log is read again", v + 1);
        if (applied.whole || !truth->frames[v]) continue;
        if (check_of(tally_writer_bytes(&out)) != truth->frames[v])
            sim_fail(sim, "version %zu gives another frame when the log is read again", v + 1);
        sim->counters.frames_replayed++;
    }
    struct tally_server_stats stats;
    tally_server_stats(server->core, &stats);
    SIM_CHECK(sim, state.epoch == stats.epoch && tally_digest_equal(state.digest, stats.digest));
    tally_state_deinit(&state);
    test_writer_free(&out);
}

// ---------------------------------------------------------------------------------------------------- views

struct tally_digest sim_view_digest(struct sim *sim, const struct tally_view *view)
{
    struct tally_view_info info;
    struct tally_cursor cursor = {0};
    struct tally_row row;
    struct tally_digest sum = {0};
    uint64_t rows = 0, table = 0;
    uint32_t number = UINT32_MAX;
    tally_view_info(view, &info);
    while (tally_view_next(view, &cursor, &row)) {
        int64_t value = 0;
        if (row.table != number) {
            struct tally_table_info named;
            number = row.table;
            SIM_CHECK(sim, tally_view_table_info(view, number, &named) == TALLY_OK);
            table = tally_digest_table(info.seed, named.name);
        }
        if (tally_view_get(view, row.table, row.key, &value) != TALLY_OK || value != row.value)
            sim_fail(sim, "a listed row is not found by its key, or with another value");
        uint64_t key = tally_fingerprint(info.seed, row.key.data, row.key.size);
        tally_digest_add(&sum, tally_digest_row(table, key, row.value));
        rows++;
    }
    sim->counters.verified_rows += rows;
    SIM_CHECK(sim, rows == info.rows);
    return sum;
}

void sim_truth_final(struct sim *sim, const struct tally_view *view)
{
    char key[1024];
    size_t key_bytes;
    for (uint32_t t = 0; t < SIM_TABLES; t++) {
        uint32_t number = 0;
        bool known = tally_view_table(view, sim_table(t), &number) == TALLY_OK;
        for (uint32_t k = 0; k < sim->config.keys; k++) {
            const struct sim_cell *cell = &sim->truth.cells[t][k];
            int64_t value = 0;
            sim_key(sim, k, key, &key_bytes);
            bool found = known && tally_view_get(view, number, tally_bytes(key, key_bytes), &value) == TALLY_OK;
            if (found != cell->live || value != cell->value) sim_fail(sim, "at the end table %u key %u is wrong", t, k);
            // Not by the log, but by what the producers know.
            if (t != SIM_TABLE_REMOVED && !sim->config.definitions[t].kind && sim->counters.losses == 0 &&
                sim->counters.pushes == 0 && value != cell->acked)
                sim_fail(sim, "at the end table %u key %u is %lld, acknowledged are %lld", t, k, (long long)value,
                         (long long)cell->acked);
        }
    }
}

// A mirror after a whole life holds no more memory than one that took the same state at once, but for pages less full and what the arena
// has not joined again.
void sim_truth_memory(struct sim *sim, const struct tally_view *view, const struct tally_mirror *mirror)
{
    static uint8_t scratch[TALLY_CHUNK_BYTES_MAX], bytes[TALLY_CHUNK_BYTES_MAX];
    const struct tally_mirror_options options = {.dataset = test_text(SIM_DATASET)};
    struct tally_memory memory;
    struct tally_mirror *fresh;
    struct tally_cursor cursor = {0};
    uint32_t chunk = 0;
    size_t size;
    bool more = true;
    SIM_CHECK(sim, tally_memory_map(SIM_MEMORY_BYTES, 0, &memory) == TALLY_OK);
    SIM_CHECK(sim, tally_mirror_init(&memory, &options, &fresh) == TALLY_OK);
    while (more) {
        SIM_CHECK(sim, tally_view_write_chunk(view, &cursor, &chunk, scratch, bytes, &size, &more) == TALLY_OK);
        enum tally_status status = tally_mirror_apply(fresh, &memory, tally_bytes(bytes, size));
        SIM_CHECK(sim, status == (more ? TALLY_MORE : TALLY_OK));
    }
    struct tally_mirror_stats used, least;
    tally_mirror_stats(mirror, &used);
    tally_mirror_stats(fresh, &least);
    if (used.used_bytes - used.retired_bytes > 3 * least.used_bytes + (64 << 10))
        sim_fail(sim, "a mirror holds %llu bytes (%llu retired) where %llu do", (unsigned long long)used.used_bytes,
                 (unsigned long long)used.retired_bytes, (unsigned long long)least.used_bytes);
    tally_memory_unmap(&memory);
}

void sim_truth_free(struct sim *sim)
{
    struct sim_truth *truth = &sim->truth;
    sim_kinds_free(sim);
    for (size_t v = 0; v < truth->version; v++) free((void *)(uintptr_t)truth->records[v].data);
    free(truth->records);
    free(truth->frames);
    for (size_t t = 0; t < SIM_TABLES; t++) {
        for (size_t k = 0; k <= SIM_OVERFLOW; k++) aged_free(&truth->cells[t][k].aged);
    }
    free(truth->cuts);
    for (size_t i = 0; i < truth->instances_count; i++) {
        for (size_t b = 0; b < truth->instances[i].count; b++) {
            free(truth->instances[i].batches[b]->request);
            free(truth->instances[i].batches[b]->entry);
            free(truth->instances[i].batches[b]);
        }
        free(truth->instances[i].batches);
    }
    free(truth->instances);
}
