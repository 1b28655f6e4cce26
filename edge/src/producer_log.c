// SPDX-License-Identifier: Apache-2.0
//
// What the spool holds: groups, each written and read whole. A group is a run of records, a byte that says which and then varints and bytes:
//
//   H  1, producer id, next sequence, dataset (size, bytes)    first in a spool that was written anew
//   T  counting, table (size, bytes)                           the entries that follow are of this table
//   e  key (size, bytes), number (zigzag)                      is merged into the tail
//   B  producer id, sequence, taken, request (size, bytes)     the batch on its way; so many of the tail's first entries left with it
//   D  next sequence                                           it is not on its way any more: acknowledged, or given up
//   K  id                                                      what stands before it in the group came once under this id
//   P                                                          it goes back, under the tail, tables together; its sequence was not used
//
// `taken` is one more than the number, and 0 for all: then the batch has also what came with it and is written nowhere else.
// Reading the groups in order and doing what they say gives the state in memory again, entry by entry in the same order. The producer id is one
// in all of a spool, for another one is a spool written anew, and sequence numbers do not go back.
#include <messages/messages.h>
#include <sums/sums_batch.h>

#include "producer_internal.h"

#define LOG_VERSION 1u

// ---------------------------------------------------------------------------------------------------- writing

void log_begin(struct tally_producer *producer)
{
    producer->group.size = 0;
    producer->group.failed = false;
    producer->logged_size = 0;
}

// Ends a record that began at `start`: takes it back when memory ended.
static bool ended(struct tally_producer *producer, size_t start)
{
    if (!producer->group.failed) return true;
    producer->group.failed = false;
    producer->group.size = start;
    return false;
}

static void write_text(struct tally_writer *out, struct tally_bytes bytes)
{
    tally_write_varint(out, bytes.size);
    tally_write_raw(out, bytes.data, bytes.size);
}

bool log_header(struct tally_producer *producer)
{
    struct tally_writer *out = &producer->group;
    size_t start = out->size;
    tally_write_raw(out, "H", 1);
    tally_write_varint(out, LOG_VERSION);
    tally_write_varint(out, producer->id);
    tally_write_varint(out, producer->sequence);
    write_text(out, producer->options.dataset);
    return ended(producer, start);
}

bool log_sum(struct tally_producer *producer, const struct tally_sum *sum)
{
    struct tally_writer *out = &producer->group;
    size_t start = out->size;
    bool same = producer->logged_size && producer->logged_counting == sum->counting &&
                tally_bytes_equal(tally_bytes(producer->logged_name, producer->logged_size), sum->table);
    if (!same) {
        tally_write_raw(out, "T", 1);
        tally_write_varint(out, sum->counting);
        write_text(out, sum->table);
    }
    tally_write_raw(out, "e", 1);
    write_text(out, sum->key);
    tally_write_varint(out, tally_zigzag(sum->number));
    if (!ended(producer, start)) return false;
    memcpy(producer->logged_name, sum->table.data, sum->table.size);
    producer->logged_size = (uint32_t)sum->table.size;
    producer->logged_counting = sum->counting;
    return true;
}

bool log_batch(struct tally_producer *producer, uint32_t taken)
{
    struct tally_writer *out = &producer->group;
    size_t start = out->size;
    tally_write_raw(out, "B", 1);
    tally_write_varint(out, producer->id);
    tally_write_varint(out, producer->flight.sequence);
    tally_write_varint(out, taken == UINT32_MAX ? 0 : (uint64_t)taken + 1);
    write_text(out, tally_writer_bytes(&producer->flight.request));
    return ended(producer, start);
}

bool log_done(struct tally_producer *producer)
{
    size_t start = producer->group.size;
    tally_write_raw(&producer->group, "D", 1);
    tally_write_varint(&producer->group, producer->sequence);
    return ended(producer, start);
}

bool log_once(struct tally_producer *producer, uint64_t id)
{
    size_t start = producer->group.size;
    tally_write_raw(&producer->group, "K", 1);
    tally_write_varint(&producer->group, id);
    return ended(producer, start);
}

bool log_put_back(struct tally_producer *producer)
{
    size_t start = producer->group.size;
    tally_write_raw(&producer->group, "P", 1);
    return ended(producer, start);
}

// ---------------------------------------------------------------------------------------------------- the batch

static bool counting_of(const struct tally_entries_reader *entries, enum tally_counting *out_counting)
{
    switch ((int)entries->kind) {
    case TALLY_KIND_COUNTER: *out_counting = TALLY_COUNTING_ADD; return true;
    case TALLY_KIND_GAUGE: *out_counting = entries->adjust ? TALLY_COUNTING_ADJUST : TALLY_COUNTING_SET; return true;
    case TALLY_KIND_MIN: *out_counting = TALLY_COUNTING_MIN; return true;
    case TALLY_KIND_MAX: *out_counting = TALLY_COUNTING_MAX; return true;
    case TALLY_KIND_DISTINCT: *out_counting = TALLY_COUNTING_MEMBER; return true;
    case TALLY_KIND_TOPK: *out_counting = TALLY_COUNTING_TOPK; return true;
    default: return false;
    }
}

enum tally_status encode_request(struct tally_producer *producer)
{
    struct flight *flight = &producer->flight;
    const struct tally_sums *sums = &flight->sums;
    const struct tally_batch_header header = {producer->options.dataset, producer->id, flight->sequence};
    flight->request.size = 0;
    flight->request.failed = false;
    producer->body.size = producer->entries.size = producer->amounts.size = 0;
    producer->body.failed = producer->entries.failed = producer->amounts.failed = false;
    struct tally_batch_writer writer = {
        .out = &flight->request, .body = producer->body, .entries = producer->entries, .amounts = producer->amounts};
    tally_batch_begin(&writer, &header);
    tally_sums_write(sums, 0, tally_sums_count(sums), &writer);
    enum tally_status status = tally_batch_finish(&writer);
    // The writer worked on copies; their memory may have grown.
    producer->body = writer.body;
    producer->entries = writer.entries;
    producer->amounts = writer.amounts;
    flight->request.failed = false;
    return status;
}

enum tally_status put_back(struct tally_producer *producer)
{
    struct tally_sums merged;
    const struct tally_sums *both[] = {&producer->flight.sums, &producer->tail};
    enum tally_status status = TALLY_OK;
    tally_sums_init(&merged, producer->options.seed, producer->alloc);
    for (unsigned which = 0; which < 2; which++) {
        for (uint32_t i = 0; status == TALLY_OK && i < tally_sums_count(both[which]); i++) {
            struct tally_sum sum;
            tally_sums_at(both[which], i, &sum);
            status = tally_sums_add(&merged, &sum);
        }
    }
    if (status == TALLY_OK) status = tally_sums_group(&merged);
    if (status != TALLY_OK) {
        tally_sums_deinit(&merged);
        return status;
    }
    tally_sums_deinit(&producer->tail);
    producer->tail = merged;
    if (tally_sums_count(&producer->flight.sums)) tally_sums_clear(&producer->flight.sums);
    producer->flight.state = BATCH_NONE;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- reading

static bool read_text(struct tally_wire *wire, struct tally_bytes *out_bytes)
{
    uint64_t size;
    if (!tally_wire_varint(wire, &size) || size > (size_t)(wire->end - wire->at)) return false;
    *out_bytes = tally_bytes(wire->at, (size_t)size);
    wire->at += size;
    return true;
}

// Whether a server takes the number: it would refuse the whole table.
static bool number_fits(const struct tally_sum *sum)
{
    if (sum->counting == TALLY_COUNTING_MEMBER) return true;
    if (sum->counting == TALLY_COUNTING_ADD || sum->counting == TALLY_COUNTING_TOPK) return sum->number >= 0;
    return sum->number >= -TALLY_LEVEL_MAX && sum->number <= TALLY_LEVEL_MAX;
}

static enum tally_status read_header(struct tally_producer *producer, struct tally_wire *wire)
{
    uint64_t version, id, sequence;
    struct tally_bytes dataset;
    if (!tally_wire_varint(wire, &version)) return TALLY_MALFORMED;
    if (version != LOG_VERSION) return TALLY_UNSUPPORTED;
    if (!tally_wire_varint(wire, &id) || !tally_wire_varint(wire, &sequence) || !read_text(wire, &dataset))
        return TALLY_MALFORMED;
    if (!id || !sequence) return TALLY_MALFORMED;
    if (!tally_bytes_equal(dataset, producer->options.dataset)) return TALLY_WRONG_DATASET;
    producer->id = id;
    producer->sequence = sequence;
    producer->booted = true;
    return TALLY_OK;
}

static enum tally_status read_table(struct tally_wire *wire, struct tally_sum *sum)
{
    uint64_t counting;
    if (!tally_wire_varint(wire, &counting) || !read_text(wire, &sum->table)) return TALLY_MALFORMED;
    if (counting >= TALLY_COUNTINGS) return TALLY_UNSUPPORTED;
    sum->counting = (enum tally_counting)counting;
    return tally_name_valid(sum->table) ? TALLY_OK : TALLY_MALFORMED;
}

static enum tally_status read_sum(struct tally_producer *producer, struct tally_wire *wire, struct tally_sum *sum)
{
    uint64_t number;
    if (!sum->table.size || !read_text(wire, &sum->key) || !tally_wire_varint(wire, &number)) return TALLY_MALFORMED;
    if (!sum->key.size || sum->key.size > TALLY_KEY_BYTES_MAX) return TALLY_MALFORMED;
    sum->number = tally_unzigzag(number);
    if (!number_fits(sum)) return TALLY_MALFORMED;
    return tally_sums_add(&producer->tail, sum);
}

// The entries of the batch again, from its request.
static enum tally_status read_request(struct tally_producer *producer)
{
    struct flight *flight = &producer->flight;
    struct tally_bytes inner;
    struct tally_batch_reader reader;
    struct tally_entries_reader entries;
    enum tally_status status = tally_request_batch(tally_writer_bytes(&flight->request), &inner);
    if (status == TALLY_OK) status = tally_batch_open(inner, &reader);
    if (status != TALLY_OK) return status == TALLY_UNSUPPORTED ? status : TALLY_MALFORMED;
    if (reader.header.producer != producer->id || reader.header.sequence != flight->sequence) return TALLY_MALFORMED;
    if (!tally_bytes_equal(reader.header.dataset, producer->options.dataset)) return TALLY_MALFORMED;
    tally_sums_clear(&flight->sums);
    while (tally_batch_next_table(&reader, &entries)) {
        struct tally_sum sum = {.table = entries.table};
        if (!counting_of(&entries, &sum.counting)) return TALLY_UNSUPPORTED;
        while (tally_entries_next(&entries, &sum.key, &sum.number)) {
            if (!number_fits(&sum)) return TALLY_MALFORMED;
            if ((status = tally_sums_add(&flight->sums, &sum))) return status;
        }
    }
    // As it was when it was made: what is put back depends on the order.
    return tally_sums_group(&flight->sums);
}

static enum tally_status read_batch(struct tally_producer *producer, struct tally_wire *wire)
{
    struct flight *flight = &producer->flight;
    uint64_t id, sequence, taken;
    struct tally_bytes request;
    if (!tally_wire_varint(wire, &id) || !tally_wire_varint(wire, &sequence) || !tally_wire_varint(wire, &taken))
        return TALLY_MALFORMED;
    if (id != producer->id || sequence < producer->sequence || !read_text(wire, &request)) return TALLY_MALFORMED;
    if (taken > (uint64_t)tally_sums_count(&producer->tail) + 1) return TALLY_MALFORMED;
    tally_sums_drop(&producer->tail, taken ? (uint32_t)taken - 1 : tally_sums_count(&producer->tail));
    producer->sequence = flight->sequence = sequence;
    flight->request.size = 0;
    tally_write_raw(&flight->request, request.data, request.size);
    if (flight->request.failed) return TALLY_NO_MEMORY;
    flight->state = BATCH_WAITING;
    flight->resumed = true;
    return read_request(producer);
}

enum tally_status tally_producer_boot(struct tally_producer *producer, struct tally_bytes group)
{
    struct tally_wire wire = tally_wire(group);
    struct tally_sum sum = {.table = {0}};
    enum tally_status status = TALLY_OK;
    while (status == TALLY_OK && !tally_wire_done(&wire)) {
        uint8_t what = *wire.at++;
        if (producer->booted == (what == 'H')) return TALLY_MALFORMED; // a spool begins with it, and has one
        switch (what) {
        case 'H': status = read_header(producer, &wire); break;
        case 'T': status = read_table(&wire, &sum); break;
        case 'e': status = read_sum(producer, &wire, &sum); break;
        case 'B': status = read_batch(producer, &wire); break;
        case 'D': {
            uint64_t sequence;
            if (!tally_wire_varint(&wire, &sequence) || sequence < producer->sequence) return TALLY_MALFORMED;
            producer->sequence = sequence;
            tally_sums_clear(&producer->flight.sums);
            producer->flight.state = BATCH_NONE;
            break;
        }
        case 'K': {
            uint64_t id;
            if (!tally_wire_varint(&wire, &id) || !id) return TALLY_MALFORMED;
            producer->once[producer->once_count++ % TALLY_PRODUCER_ONCE_MAX] = id;
            break;
        }
        case 'P':
            if (producer->flight.state == BATCH_NONE) return TALLY_MALFORMED;
            status = put_back(producer);
            break;
        default: return TALLY_UNSUPPORTED;
        }
    }
    return status;
}
