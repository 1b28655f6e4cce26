// SPDX-License-Identifier: Apache-2.0
#include <tallycast/siphash.h>
#include <tallycast/wire.h>

// ---------------------------------------------------------------------------------------------------- reading

enum tally_status tally_wire_next(struct tally_wire *wire, struct tally_wire_field *out_field)
{
    if (wire->at == wire->end) return TALLY_NOT_FOUND;
    struct tally_wire probe = *wire;
    uint64_t tag;
    if (!tally_wire_varint(&probe, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1fffffff) return TALLY_MALFORMED;
    struct tally_wire_field field = {.number = (uint32_t)(tag >> 3), .type = (enum tally_wire_type)(tag & 7)};
    size_t left = (size_t)(probe.end - probe.at);
    switch (tag & 7) {
    case TALLY_WIRE_VARINT:
        if (!tally_wire_varint(&probe, &field.value)) return TALLY_MALFORMED;
        break;
    case TALLY_WIRE_FIXED64:
        if (left < 8) return TALLY_MALFORMED;
        field.value = tally_load64(probe.at);
        probe.at += 8;
        break;
    case TALLY_WIRE_FIXED32:
        if (left < 4) return TALLY_MALFORMED;
        field.value = tally_load32(probe.at);
        probe.at += 4;
        break;
    case TALLY_WIRE_BYTES: {
        uint64_t size;
        if (!tally_wire_varint(&probe, &size) || size > (size_t)(probe.end - probe.at)) return TALLY_MALFORMED;
        field.bytes = tally_bytes(probe.at, (size_t)size);
        probe.at += size;
        break;
    }
    default: return TALLY_MALFORMED;
    }
    *wire = probe;
    *out_field = field;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- writing

bool tally_writer_reserve(struct tally_writer *writer, size_t more)
{
    if (writer->failed) return false;
    if (writer->capacity - writer->size >= more) return true;
    if (more <= SIZE_MAX - writer->size && writer->grow && writer->grow(writer, writer->size + more)) return true;
    writer->failed = true;
    return false;
}

void tally_write_raw(struct tally_writer *writer, const void *data, size_t size)
{
    if (size == 0 || !tally_writer_reserve(writer, size)) return;
    memcpy(writer->data + writer->size, data, size);
    writer->size += size;
}

void tally_write_varint(struct tally_writer *writer, uint64_t value)
{
    if (writer->failed) return;
    if (writer->capacity - writer->size < 10 && !tally_writer_reserve(writer, tally_varint_size(value))) return;
    uint8_t *p = writer->data + writer->size;
    while (value >= 0x80) {
        *p++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *p++ = (uint8_t)value;
    writer->size = (size_t)(p - writer->data);
}

void tally_write_uint(struct tally_writer *writer, uint32_t number, uint64_t value)
{
    tally_write_varint(writer, (uint64_t)number << 3 | TALLY_WIRE_VARINT);
    tally_write_varint(writer, value);
}

void tally_write_fixed64(struct tally_writer *writer, uint32_t number, uint64_t value)
{
    uint8_t bytes[8];
    tally_store64(bytes, value);
    tally_write_varint(writer, (uint64_t)number << 3 | TALLY_WIRE_FIXED64);
    tally_write_raw(writer, bytes, sizeof bytes);
}

void tally_write_bytes(struct tally_writer *writer, uint32_t number, struct tally_bytes bytes)
{
    tally_write_varint(writer, (uint64_t)number << 3 | TALLY_WIRE_BYTES);
    tally_write_varint(writer, bytes.size);
    tally_write_raw(writer, bytes.data, bytes.size);
}

// ---------------------------------------------------------------------------------------------------- the seal

// Field 15, fixed64.
#define SEAL_TAG 0x79

static uint64_t seal_check(const uint8_t *data, size_t size)
{
    const struct tally_seed key = {0x7473616379616c6cu, 0x74u};
    return tally_siphash(key, data, size);
}

void tally_seal(struct tally_writer *writer, size_t start)
{
    if (writer->failed) return;
    size_t size = writer->size - start;
    tally_write_fixed64(writer, 15, seal_check(size ? writer->data + start : writer->data, size));
}

enum tally_status tally_unseal(struct tally_bytes message, struct tally_bytes *out_inner)
{
    if (message.size < TALLY_SEAL_BYTES) return TALLY_MALFORMED;
    size_t inner = message.size - TALLY_SEAL_BYTES;
    if (message.data[inner] != SEAL_TAG) return TALLY_MALFORMED;
    if (tally_load64(message.data + inner + 1) != seal_check(message.data, inner)) return TALLY_CORRUPT;
    *out_inner = tally_bytes(message.data, inner);
    return TALLY_OK;
}
