// SPDX-License-Identifier: Apache-2.0
#include "record.h"

#include <tallycast/limits.h>

enum { RECORD_VERSION = 1, RECORD_TIME_MS, RECORD_BATCHES, RECORD_EPOCH, RECORD_DEFINITIONS };

// ---------------------------------------------------------------------------------------------------- reading

// `again`: its seal was checked, or made, before.
static enum tally_status record_open(struct tally_bytes message, bool again, struct tally_record_reader *out_reader)
{
    static const enum tally_wire_type types[] = {TALLY_WIRE_VARINT, TALLY_WIRE_VARINT,  TALLY_WIRE_VARINT,
                                                 TALLY_WIRE_BYTES,  TALLY_WIRE_FIXED64, TALLY_WIRE_BYTES};
    struct tally_bytes inner;
    if (message.size > TALLY_RECORD_BYTES_MAX) return TALLY_LIMIT;
    enum tally_status status = TALLY_OK;
    if (again)
        inner = tally_bytes(message.data, message.size - TALLY_SEAL_BYTES);
    else
        status = tally_unseal(message, &inner);
    if (status) return status;
    struct tally_record_reader reader = {.batches = tally_wire(inner), .definitions = tally_wire(inner)};
    struct tally_wire wire = tally_wire(inner);
    struct tally_wire_field field;
    uint32_t seen = 0;
    while ((status = tally_wire_next(&wire, &field)) == TALLY_OK) {
        if (field.number > RECORD_DEFINITIONS) continue;
        if (field.type != types[field.number]) return TALLY_MALFORMED;
        if (field.number == RECORD_BATCHES) {
            reader.batches_count++;
            continue;
        }
        if (field.number == RECORD_DEFINITIONS) {
            reader.definitions_count++;
            continue;
        }
        if (seen >> field.number & 1) return TALLY_MALFORMED;
        seen |= 1u << field.number;
        switch (field.number) {
        case RECORD_VERSION: reader.header.version = field.value; break;
        case RECORD_TIME_MS: reader.header.time_ms = field.value; break;
        default: reader.header.epoch = field.value;
        }
    }
    if (status != TALLY_NOT_FOUND) return status;
    if (reader.header.version == 0) return TALLY_MALFORMED;
    *out_reader = reader;
    return TALLY_OK;
}

enum tally_status tally_record_open(struct tally_bytes message, struct tally_record_reader *out_reader)
{
    return record_open(message, false, out_reader);
}

enum tally_status tally_record_open_again(struct tally_bytes message, struct tally_record_reader *out_reader)
{
    return record_open(message, true, out_reader);
}

static bool next_of(struct tally_wire *wire, uint32_t number, struct tally_bytes *out_bytes)
{
    struct tally_wire_field field;
    while (tally_wire_next(wire, &field) == TALLY_OK) {
        if (field.number != number) continue;
        *out_bytes = field.bytes;
        return true;
    }
    return false;
}

bool tally_record_next(struct tally_record_reader *reader, struct tally_bytes *out_batch)
{
    return next_of(&reader->batches, RECORD_BATCHES, out_batch);
}

bool tally_record_next_definition(struct tally_record_reader *reader, struct tally_bytes *out_definition)
{
    if (reader->definitions_count == 0) return false; // without looking through the batches
    return next_of(&reader->definitions, RECORD_DEFINITIONS, out_definition);
}

// ---------------------------------------------------------------------------------------------------- writing

// Room in front for version and time: a tag of one byte and at most ten each.
#define FRONT_BYTES 22u

void tally_record_begin(struct tally_writer *out)
{
    static const uint8_t room[FRONT_BYTES];
    out->size = 0;
    out->failed = false;
    tally_write_raw(out, room, sizeof room);
}

void tally_record_batch(struct tally_writer *out, struct tally_bytes batch)
{
    tally_write_bytes(out, RECORD_BATCHES, batch);
}

void tally_record_definition(struct tally_writer *out, struct tally_bytes table,
                             const struct tally_definition *definition)
{
    tally_definition_write(out, RECORD_DEFINITIONS, table, definition);
}

enum tally_status tally_record_finish(struct tally_writer *out, const struct tally_record_header *header,
                                      struct tally_bytes *out_record)
{
    uint8_t front[FRONT_BYTES];
    struct tally_writer writer = tally_writer_fixed(front, sizeof front);
    tally_write_uint(&writer, RECORD_VERSION, header->version);
    if (header->time_ms) tally_write_uint(&writer, RECORD_TIME_MS, header->time_ms);
    if (out->failed) return TALLY_NO_MEMORY;
    size_t start = FRONT_BYTES - writer.size, size = out->size;
    memcpy(out->data + start, front, writer.size);
    if (header->epoch) tally_write_fixed64(out, RECORD_EPOCH, header->epoch);
    tally_seal(out, start);
    if (out->failed) {
        // As before, so that the caller may try again.
        out->failed = false;
        out->size = size;
        return TALLY_NO_MEMORY;
    }
    *out_record = tally_bytes(out->data + start, out->size - start);
    return TALLY_OK;
}
