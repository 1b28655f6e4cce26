// SPDX-License-Identifier: Apache-2.0
#include "snapshot.h"

#include "parts.h"

enum {
    PRODUCERS_DATASET = 1,
    PRODUCERS_LINEAGE,
    PRODUCERS_EPOCH,
    PRODUCERS_VERSION,
    PRODUCERS_TIME_MS,
    PRODUCERS_PRODUCERS,
    PRODUCERS_SEQUENCES,
    PRODUCERS_VERSIONS,
    PRODUCERS_DEFINITIONS,
    PRODUCERS_PARTS,
};

// ---------------------------------------------------------------------------------------------------- writing

static void write_producers(const struct tally_state *state, uint64_t lineage, uint64_t parts, struct tally_writer *out)
{
    const struct tally_producers *producers = &state->producers;
    const struct tally_producer *p;
    uint64_t sequences = 0, versions = 0;
    size_t start = out->size;
    tally_write_bytes(out, PRODUCERS_DATASET, tally_state_dataset(state));
    tally_write_fixed64(out, PRODUCERS_LINEAGE, lineage);
    tally_write_fixed64(out, PRODUCERS_EPOCH, state->epoch);
    tally_write_uint(out, PRODUCERS_VERSION, state->version);
    if (state->time_ms) tally_write_uint(out, PRODUCERS_TIME_MS, state->time_ms);
    if (producers->count) {
        tally_write_varint(out, PRODUCERS_PRODUCERS << 3 | TALLY_WIRE_BYTES);
        tally_write_varint(out, (uint64_t)producers->count * 8);
        for (p = NULL; (p = tally_producers_next(producers, p));) {
            uint8_t id[8];
            tally_store64(id, p->id);
            tally_write_raw(out, id, sizeof id);
            sequences += tally_varint_size(p->sequence);
            versions += tally_varint_size(p->version);
        }
        tally_write_varint(out, PRODUCERS_SEQUENCES << 3 | TALLY_WIRE_BYTES);
        tally_write_varint(out, sequences);
        for (p = NULL; (p = tally_producers_next(producers, p));) tally_write_varint(out, p->sequence);
        tally_write_varint(out, PRODUCERS_VERSIONS << 3 | TALLY_WIRE_BYTES);
        tally_write_varint(out, versions);
        for (p = NULL; (p = tally_producers_next(producers, p));) tally_write_varint(out, p->version);
    }
    for (uint32_t i = 0; i < state->tables_count; i++) {
        const struct tally_state_table *table = &state->tables[i];
        tally_definition_write(out, PRODUCERS_DEFINITIONS, tally_bytes(table->name, table->name_bytes),
                               &table->definition);
    }
    if (parts) tally_write_uint(out, PRODUCERS_PARTS, parts);
    tally_seal(out, start);
}

enum tally_status tally_snapshot_begin(struct tally_snapshot_writer *writer, struct tally_reader *reader,
                                       const struct tally_state *state, uint64_t lineage, struct tally_writer *out)
{
    if (state->version == 0) return TALLY_NOT_FOUND;
    size_t start = out->size;
    tally_framefile_begin(out);
    // The entry's size goes in front when it is known.
    const uint8_t room[4] = {0};
    size_t size_at = out->size;
    tally_write_raw(out, room, sizeof room);
    write_producers(state, lineage, tally_parts_count(state), out);
    size_t size = out->size - size_at - sizeof room;
    if (out->failed || tally_parts_write(state, out)) {
        out->failed = false;
        out->size = start;
        return TALLY_NO_MEMORY;
    }
    tally_store32(out->data + size_at, (uint32_t)size);
    *writer = (struct tally_snapshot_writer){.begun = true, .version = state->version, .bytes = out->size - start};
    tally_view_pin(reader, &writer->view);
    return TALLY_OK;
}

enum tally_status tally_snapshot_next(struct tally_snapshot_writer *writer, uint8_t *scratch, uint8_t *chunk,
                                      struct tally_writer *out)
{
    size_t bytes, start = out->size;
    bool more;
    struct tally_cursor cursor = writer->cursor;
    uint32_t number = writer->chunk;
    enum tally_status status = tally_view_write_chunk(&writer->view, &cursor, &number, scratch, chunk, &bytes, &more);
    if (status) return status;
    tally_framefile_append(out, tally_bytes(chunk, bytes));
    if (out->failed) {
        out->failed = false;
        out->size = start;
        return TALLY_NO_MEMORY;
    }
    writer->cursor = cursor;
    writer->chunk = number;
    writer->bytes += out->size - start;
    writer->done = !more;
    return TALLY_OK;
}

void tally_snapshot_end(struct tally_snapshot_writer *writer)
{
    if (writer->begun) tally_view_unpin(&writer->view);
    *writer = (struct tally_snapshot_writer){0};
}

// ---------------------------------------------------------------------------------------------------- reading

struct producers_reader {
    struct tally_snapshot_header header;
    struct tally_wire ids, sequences, versions;
    struct tally_wire definitions; // filtered by field
    uint64_t definitions_count, parts;
};

static enum tally_status producers_field(struct producers_reader *reader, const struct tally_wire_field *field)
{
    switch (field->number) {
    case PRODUCERS_DATASET: reader->header.dataset = field->bytes; break;
    case PRODUCERS_LINEAGE: reader->header.lineage = field->value; break;
    case PRODUCERS_EPOCH: reader->header.epoch = field->value; break;
    case PRODUCERS_VERSION: reader->header.version = field->value; break;
    case PRODUCERS_TIME_MS: reader->header.time_ms = field->value; break;
    case PRODUCERS_PRODUCERS:
        if (field->bytes.size % 8) return TALLY_MALFORMED;
        reader->ids = tally_wire(field->bytes);
        break;
    case PRODUCERS_SEQUENCES: reader->sequences = tally_wire(field->bytes); break;
    case PRODUCERS_VERSIONS: reader->versions = tally_wire(field->bytes); break;
    default: reader->parts = field->value; break;
    }
    return TALLY_OK;
}

static enum tally_status producers_open(struct tally_bytes message, struct producers_reader *out_reader)
{
    static const enum tally_wire_type types[] = {0,
                                                 TALLY_WIRE_BYTES,
                                                 TALLY_WIRE_FIXED64,
                                                 TALLY_WIRE_FIXED64,
                                                 TALLY_WIRE_VARINT,
                                                 TALLY_WIRE_VARINT,
                                                 TALLY_WIRE_BYTES,
                                                 TALLY_WIRE_BYTES,
                                                 TALLY_WIRE_BYTES,
                                                 TALLY_WIRE_BYTES,
                                                 TALLY_WIRE_VARINT};
    struct tally_bytes inner;
    struct tally_wire_field field;
    enum tally_status status = tally_unseal(message, &inner);
    if (status) return status;
    struct producers_reader reader = {.definitions = tally_wire(inner)};
    struct tally_wire wire = tally_wire(inner);
    uint32_t seen = 0;
    while ((status = tally_wire_next(&wire, &field)) == TALLY_OK) {
        if (field.number > PRODUCERS_PARTS) continue;
        if (field.type != types[field.number]) return TALLY_MALFORMED;
        if (field.number == PRODUCERS_DEFINITIONS) {
            reader.definitions_count++;
            continue;
        }
        if (seen >> field.number & 1) return TALLY_MALFORMED;
        seen |= 1u << field.number;
        if ((status = producers_field(&reader, &field))) return status;
    }
    if (status != TALLY_NOT_FOUND) return status;
    if (!tally_name_valid(reader.header.dataset) || !reader.header.epoch || !reader.header.version)
        return TALLY_MALFORMED;
    *out_reader = reader;
    return TALLY_OK;
}

static enum tally_status producers_load(struct producers_reader *reader, struct tally_producers *producers)
{
    uint64_t sequence, version;
    for (; !tally_wire_done(&reader->ids); reader->ids.at += 8) {
        uint64_t id = tally_load64(reader->ids.at);
        if (!tally_wire_varint(&reader->sequences, &sequence) || !tally_wire_varint(&reader->versions, &version))
            return TALLY_MALFORMED;
        if (id == 0 || sequence == 0 || version == 0 || version > reader->header.version) return TALLY_MALFORMED;
        if (tally_producers_full(producers, id)) return TALLY_LIMIT;
        if (tally_producers_find(producers, id)) return TALLY_MALFORMED;
        enum tally_status status = tally_producers_note(producers, id, sequence, version);
        if (status) return status;
    }
    return tally_wire_done(&reader->sequences) && tally_wire_done(&reader->versions) ? TALLY_OK : TALLY_MALFORMED;
}

// What the tables are, which the frames brought; one definition a table, by number.
static enum tally_status definitions_load(struct producers_reader *reader, struct tally_state *state)
{
    struct tally_wire_field field;
    uint32_t number = 0;
    bool none = reader->definitions_count == 0;
    if (!none && reader->definitions_count != state->tables_count) return TALLY_MALFORMED;
    while (number < state->tables_count) {
        struct tally_bytes name;
        struct tally_definition definition = {.kind = TALLY_KIND_COUNTER};
        enum tally_status status = TALLY_OK;
        if (!none) {
            if (tally_wire_next(&reader->definitions, &field)) return TALLY_MALFORMED;
            if (field.number != PRODUCERS_DEFINITIONS) continue;
            status = tally_definition_read(field.bytes, &name, &definition);
        }
        if (!status) status = tally_state_load_definition(state, number, none ? NULL : &name, &definition);
        if (status) return status;
        number++;
    }
    return TALLY_OK;
}

static enum tally_status open_file(struct tally_bytes bytes, struct tally_framefile *out_file,
                                   struct producers_reader *out_reader)
{
    struct tally_bytes message;
    enum tally_status status = tally_framefile_open(bytes, out_file);
    if (!status) status = tally_framefile_next(out_file, &message);
    if (status) return status == TALLY_NOT_FOUND ? TALLY_MALFORMED : status;
    return producers_open(message, out_reader);
}

enum tally_status tally_snapshot_open(struct tally_bytes file, struct tally_snapshot_header *out_header)
{
    struct tally_framefile frames;
    struct producers_reader reader;
    enum tally_status status = open_file(file, &frames, &reader);
    if (!status) *out_header = reader.header;
    return status;
}

enum tally_status tally_snapshot_load(struct tally_bytes file, struct tally_state *state)
{
    struct tally_framefile frames;
    struct producers_reader reader;
    struct tally_bytes message;
    struct tally_state_cursor cursor = {0};
    enum tally_status status = open_file(file, &frames, &reader);
    if (!status) status = producers_load(&reader, &state->producers);
    struct tally_framefile parts = frames; // they wait for the rows
    for (uint64_t i = 0; !status && i < reader.parts; i++) status = tally_framefile_next(&frames, &message);
    if (status) return status == TALLY_NOT_FOUND ? TALLY_MALFORMED : status;
    do {
        status = tally_framefile_next(&frames, &message);
        if (status) return status == TALLY_NOT_FOUND ? TALLY_MALFORMED : status;
        status = tally_state_load_chunk(state, message, &cursor);
    } while (status == TALLY_MORE);
    if (status) return status;
    if (tally_framefile_next(&frames, &message) != TALLY_NOT_FOUND) return TALLY_MALFORMED;
    const struct tally_snapshot_header *header = &reader.header;
    bool same = header->epoch == state->epoch && header->version == state->version && header->time_ms == state->time_ms;
    if (!same) return TALLY_MALFORMED;
    status = definitions_load(&reader, state);
    for (uint64_t i = 0; !status && i < reader.parts; i++) {
        status = tally_framefile_next(&parts, &message);
        if (!status) status = tally_part_load(state, message);
    }
    return status ? status : tally_parts_verify(state);
}

enum tally_status tally_snapshot_stage(struct tally_bytes file, struct tally_mirror *mirror,
                                       struct tally_memory *memory, struct tally_bytes *out_last)
{
    struct tally_framefile frames;
    struct producers_reader reader;
    struct tally_bytes message, last;
    enum tally_status status = open_file(file, &frames, &reader);
    for (uint64_t i = 0; !status && i < reader.parts; i++) status = tally_framefile_next(&frames, &message);
    if (!status) status = tally_framefile_next(&frames, &last);
    while (!status) {
        status = tally_framefile_next(&frames, &message);
        if (status == TALLY_NOT_FOUND) {
            *out_last = last;
            return TALLY_OK;
        }
        if (status) break;
        status = tally_mirror_apply(mirror, memory, last);
        // Only the last chunk may complete the state.
        status = status == TALLY_MORE ? TALLY_OK : status ? status : TALLY_MALFORMED;
        last = message;
    }
    return status == TALLY_NOT_FOUND ? TALLY_MALFORMED : status;
}
