// SPDX-License-Identifier: Apache-2.0
#include "gather.h"

#include "explain.h"

#include <messages/messages.h>

#define NONE UINT32_MAX

enum tally_status tally_gather_init(struct tally_gather *gather, const struct tally_gather_options *options,
                                    const struct tally_alloc *alloc)
{
    *gather = (struct tally_gather){.alloc = alloc,
                                    .record = tally_writer_growable(alloc),
                                    .salt = options->salt,
                                    .waiters_max = options->waiters_max,
                                    .tables_closed = options->tables_closed,
                                    .tables_allowed = options->tables_allowed};
    tally_record_begin(&gather->record);
    if (!gather->record.failed) return TALLY_OK;
    tally_writer_free(&gather->record);
    return TALLY_NO_MEMORY;
}

void tally_gather_deinit(struct tally_gather *gather)
{
    if (!gather->alloc) return;
    tally_writer_free(&gather->record);
    tally_alloc_free(gather->alloc, gather->pending);
    tally_alloc_free(gather->alloc, gather->index);
    tally_alloc_free(gather->alloc, gather->waiters);
    *gather = (struct tally_gather){0};
}

void tally_gather_reset(struct tally_gather *gather)
{
    tally_record_begin(&gather->record);
    gather->count = 0;
    gather->waiters_count = 0;
    gather->pending_rows = 0;
    gather->names.count = 0;
    gather->definitions = 0;
    if (gather->index) memset(gather->index, 0, sizeof *gather->index << gather->index_bits);
}

// ---------------------------------------------------------------------------------------------------- who is pending

// The slot of a producer in the index: of its newest pending batch, or the empty one where it would go. The index exists.
static uint32_t *slot_of(const struct tally_gather *gather, uint64_t producer)
{
    uint32_t mask = (1u << gather->index_bits) - 1;
    uint32_t at = (uint32_t)(tally_mix64(producer ^ gather->salt) >> (64 - gather->index_bits));
    while (gather->index[at] && gather->pending[gather->index[at] - 1].producer != producer) at = (at + 1) & mask;
    return &gather->index[at];
}

static uint32_t newest_of(const struct tally_gather *gather, uint64_t producer)
{
    return gather->index ? *slot_of(gather, producer) - 1 : NONE; // an empty slot is 0: NONE
}

// Room for one more batch, in list and index.
static enum tally_status reserve_pending(struct tally_gather *gather)
{
    if (gather->count < gather->capacity) return TALLY_OK;
    uint32_t capacity = gather->capacity ? gather->capacity * 2 : 64, bits = 7;
    while ((1u << bits) < capacity * 2) bits++;
    uint32_t *index = tally_alloc_resize(gather->alloc, NULL, sizeof *index << bits);
    if (!index) return TALLY_NO_MEMORY;
    struct tally_pending *pending = tally_alloc_resize(gather->alloc, gather->pending, capacity * sizeof *pending);
    if (!pending) {
        tally_alloc_free(gather->alloc, index);
        return TALLY_NO_MEMORY;
    }
    tally_alloc_free(gather->alloc, gather->index);
    memset(index, 0, sizeof *index << bits);
    gather->pending = pending;
    gather->capacity = capacity;
    gather->index = index;
    gather->index_bits = bits;
    // In order, so that the newest of each producer is what stays.
    for (uint32_t i = 0; i < gather->count; i++) *slot_of(gather, pending[i].producer) = i + 1;
    return TALLY_OK;
}

static enum tally_status reserve_waiter(struct tally_gather *gather)
{
    if (gather->waiters_count < gather->waiters_capacity) return TALLY_OK;
    if (gather->waiters_count >= gather->waiters_max) return TALLY_BUSY;
    uint32_t capacity = gather->waiters_capacity ? gather->waiters_capacity * 2 : 64;
    if (capacity > gather->waiters_max) capacity = gather->waiters_max;
    struct tally_waiter *waiters = tally_alloc_resize(gather->alloc, gather->waiters, capacity * sizeof *waiters);
    if (!waiters) return TALLY_NO_MEMORY;
    gather->waiters = waiters;
    gather->waiters_capacity = capacity;
    return TALLY_OK;
}

static void wait_for(struct tally_gather *gather, uint32_t batch, bool waits, uint64_t token)
{
    if (waits) gather->waiters[gather->waiters_count++] = (struct tally_waiter){.token = token, .batch = batch};
}

// ---------------------------------------------------------------------------------------------------- a batch comes

// A batch that its producer sent before. True when that one is still pending: it is waited for.
static bool repeat(struct tally_gather *gather, const struct tally_producer *durable, uint32_t newest,
                   uint64_t sequence, bool waits, uint64_t token, struct tally_verdict *verdict)
{
    if (durable && sequence <= durable->sequence) {
        verdict->status = TALLY_REPEAT;
        verdict->version = durable->version;
        return false;
    }
    uint32_t batch = newest;
    while (gather->pending[batch].sequence != sequence) batch = gather->pending[batch].before;
    if (waits && (verdict->status = reserve_waiter(gather))) return false;
    wait_for(gather, batch, waits, token);
    return true;
}

static enum tally_status append(struct tally_gather *gather, struct tally_bytes batch)
{
    size_t size = gather->record.size;
    if (size + batch.size + TALLY_RECORD_BATCH_BYTES_MAX + TALLY_RECORD_HEADER_BYTES_MAX > TALLY_RECORD_BYTES_MAX)
        return TALLY_BUSY;
    tally_record_batch(&gather->record, batch);
    if (!gather->record.failed) return TALLY_OK;
    gather->record.failed = false;
    gather->record.size = size;
    return TALLY_NO_MEMORY;
}

static bool names_have(const struct tally_table_names *names, const uint8_t *name, uint8_t size)
{
    for (uint32_t i = 0; names && i < names->count; i++) {
        if (tally_bytes_equal(tally_bytes(names->names[i], names->sizes[i]), tally_bytes(name, size))) return true;
    }
    return false;
}

// Whether the tables that are about to begin, from number `first` on, may.
static bool may_begin(const struct tally_gather *gather, uint32_t first)
{
    const struct tally_table_names *names = &gather->names;
    for (uint32_t i = first; gather->tables_closed && i < names->count; i++) {
        if (names->kinds[i] != TALLY_NAME_ERRORS &&
            !names_have(gather->tables_allowed, names->names[i], names->sizes[i]))
            return false;
    }
    return true;
}

bool tally_gather_offer(struct tally_gather *gather, const struct tally_state *state, struct tally_bytes batch,
                        bool waits, uint64_t token, struct tally_verdict *out_verdict,
                        struct tally_refusal *out_refusal)
{
    struct tally_batch_reader reader;
    uint64_t entries;
    *out_refusal = (struct tally_refusal){0};
    *out_verdict = (struct tally_verdict){.status = tally_batch_open(batch, &reader)};
    if (out_verdict->status) {
        tally_explain_batch(batch, out_verdict->status, out_refusal);
        return false;
    }
    uint64_t producer = reader.header.producer, sequence = reader.header.sequence;
    const struct tally_producer *durable = tally_producers_find(&state->producers, producer);
    uint32_t newest = newest_of(gather, producer);
    uint64_t last = newest != NONE ? gather->pending[newest].sequence : durable ? durable->sequence : 0;
    out_verdict->expected = last + 1;
    // Before dedupe: a sequence number of another dataset means nothing here.
    if (!tally_bytes_equal(reader.header.dataset, tally_state_dataset(state))) {
        *out_verdict = (struct tally_verdict){.status = TALLY_WRONG_DATASET};
        return false;
    }
    if (sequence <= last) return repeat(gather, durable, newest, sequence, waits, token, out_verdict);
    if (sequence != last + 1) {
        out_verdict->status = last ? TALLY_HOLE : TALLY_UNKNOWN_PRODUCER;
        return false;
    }
    uint32_t names = gather->names.count;
    enum tally_status status =
        tally_state_admit(state, &reader, &gather->names, gather->pending_rows, &entries, out_refusal);
    if (!status && !may_begin(gather, names)) status = TALLY_FORBIDDEN;
    if (!status) status = reserve_pending(gather);
    if (!status && waits) status = reserve_waiter(gather);
    if (!status) status = append(gather, batch);
    if ((out_verdict->status = status)) {
        gather->names.count = names;
        return false;
    }
    gather->pending[gather->count] =
        (struct tally_pending){.producer = producer, .sequence = sequence, .before = newest};
    wait_for(gather, gather->count, waits, token);
    *slot_of(gather, producer) = ++gather->count;
    gather->pending_rows += entries;
    return true;
}

enum tally_status tally_gather_define(struct tally_gather *gather, const struct tally_state *state,
                                      struct tally_bytes table, const struct tally_definition *definition, bool waits,
                                      uint64_t token, const char **out_why)
{
    uint32_t names = gather->names.count;
    size_t size = gather->record.size;
    *out_why = "no room in this tick: again later";
    enum tally_status status = tally_state_admit_definition(state, table, definition, &gather->names, out_why);
    if (!status && size + TALLY_DEFINITION_BYTES_MAX + TALLY_RECORD_HEADER_BYTES_MAX > TALLY_RECORD_BYTES_MAX)
        status = TALLY_BUSY;
    if (!status && waits) status = reserve_waiter(gather);
    if (!status) {
        tally_record_definition(&gather->record, table, definition);
        if (gather->record.failed) {
            gather->record.failed = false;
            gather->record.size = size;
            status = TALLY_NO_MEMORY;
        }
    }
    if (status) {
        gather->names.count = names;
        return status;
    }
    wait_for(gather, TALLY_WAITS_DEFINED, waits, token);
    gather->definitions++;
    return TALLY_OK;
}

enum tally_status tally_gather_cut(struct tally_gather *gather, const struct tally_record_header *header,
                                   struct tally_bytes *out_record)
{
    return tally_record_finish(&gather->record, header, out_record);
}
