// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <tallycast/batch.h>
#include <tallycast/limits.h>

enum { REQUEST_BATCH = 1, REQUEST_QUERY = 4, REQUEST_CHECK = 15 };
enum { BATCH_DATASET = 1, BATCH_PRODUCER, BATCH_SEQUENCE, BATCH_TABLES };
enum {
    ENTRIES_TABLE = 1,
    ENTRIES_KEYS,
    ENTRIES_AMOUNTS,
    ENTRIES_REMOVED,
    ENTRIES_KIND,
    ENTRIES_ADJUST,
    ENTRIES_MEMBERS
};

#define MEMBER_BYTES 8u

// ---------------------------------------------------------------------------------------------------- reading

// What nearly every key is: the tag, one byte of size, the key. Its size, or 0 when it is something else (or the end).
#define KEYS_TAG (ENTRIES_KEYS << 3 | TALLY_WIRE_BYTES)
static inline size_t short_key(const struct tally_wire *wire)
{
    size_t left = (size_t)(wire->end - wire->at);
    if (left < 3 || wire->at[0] != KEYS_TAG || wire->at[1] >= 0x80 || (size_t)wire->at[1] + 2 > left) return 0;
    return wire->at[1];
}

static bool key_valid(struct tally_bytes key) { return key.size >= 1 && key.size <= TALLY_KEY_BYTES_MAX; }

// What a TableEntries says besides its keys.
struct heading {
    struct tally_bytes name, amounts, members;
    uint64_t kind, adjust;
    uint32_t seen; // a bit a field
};

static bool heading_has(const struct heading *heading, uint32_t field) { return heading->seen >> field & 1; }

// A field other than keys and removed ones; each comes once at most.
static enum tally_status heading_field(struct heading *heading, const struct tally_wire_field *field)
{
    bool number = field->number == ENTRIES_KIND || field->number == ENTRIES_ADJUST;
    if (field->type != (number ? TALLY_WIRE_VARINT : TALLY_WIRE_BYTES)) return TALLY_MALFORMED;
    if (heading_has(heading, field->number)) return TALLY_MALFORMED;
    heading->seen |= 1u << field->number;
    switch (field->number) {
    case ENTRIES_TABLE: heading->name = field->bytes; break;
    case ENTRIES_AMOUNTS: heading->amounts = field->bytes; break;
    case ENTRIES_MEMBERS: heading->members = field->bytes; break;
    case ENTRIES_KIND: heading->kind = field->value; break;
    default: heading->adjust = field->value;
    }
    return TALLY_OK;
}

// Whether it fits together, with so many keys.
static enum tally_status heading_check(const struct heading *heading, uint64_t keys)
{
    struct tally_wire amounts = tally_wire(heading->amounts);
    uint64_t counted = heading->members.size / MEMBER_BYTES, ignored;
    if (!heading_has(heading, ENTRIES_TABLE) || !tally_name_valid(heading->name)) return TALLY_MALFORMED;
    if (heading->kind >= TALLY_KINDS) return TALLY_UNSUPPORTED;
    bool any = heading->kind == TALLY_KIND_UNSPECIFIED, distinct = heading->kind == TALLY_KIND_DISTINCT;
    if (heading->members.size && (heading->amounts.size || (!any && !distinct))) return TALLY_MALFORMED;
    if (heading->members.size % MEMBER_BYTES || (distinct && heading->amounts.size)) return TALLY_MALFORMED;
    if (heading->adjust > 1 || (heading->adjust && !any && heading->kind != TALLY_KIND_GAUGE)) return TALLY_MALFORMED;
    if (heading->adjust && heading->members.size) return TALLY_MALFORMED;
    for (; !tally_wire_done(&amounts); counted++) {
        if (!tally_wire_varint(&amounts, &ignored)) return TALLY_MALFORMED;
    }
    return counted == keys ? TALLY_OK : TALLY_MALFORMED;
}

// Checks one TableEntries and adds its keys to *entries.
static enum tally_status entries_check(struct tally_bytes message, uint64_t *entries)
{
    struct tally_wire wire = tally_wire(message);
    struct tally_wire_field field;
    struct heading heading = {0};
    enum tally_status status;
    uint64_t keys = 0, removed = 0;
    size_t size;
    for (;;) {
        for (; (size = short_key(&wire)); keys++) wire.at += 2 + size;
        if ((status = tally_wire_next(&wire, &field))) break;
        if (field.number > ENTRIES_MEMBERS) continue;
        if (field.number != ENTRIES_KEYS && field.number != ENTRIES_REMOVED) {
            if ((status = heading_field(&heading, &field))) return status;
            continue;
        }
        if (field.type != TALLY_WIRE_BYTES) return TALLY_MALFORMED;
        if (field.bytes.size > TALLY_KEY_BYTES_MAX) return TALLY_LIMIT;
        if (!key_valid(field.bytes)) return TALLY_MALFORMED;
        if (field.number == ENTRIES_KEYS)
            keys++;
        else
            removed++;
    }
    if (status != TALLY_NOT_FOUND) return status;
    if ((status = heading_check(&heading, keys))) return status;
    *entries += keys + removed;
    return *entries > TALLY_BATCH_ENTRIES_MAX ? TALLY_LIMIT : TALLY_OK;
}

// `again`: its entries were checked before.
static enum tally_status batch_open(struct tally_bytes message, bool again, struct tally_batch_reader *out_reader)
{
    if (message.size > TALLY_BATCH_BYTES_MAX) return TALLY_LIMIT;
    struct tally_batch_reader reader = {.tables = tally_wire(message)};
    struct tally_wire wire = tally_wire(message);
    struct tally_wire_field field;
    enum tally_status status;
    uint64_t entries = 0;
    uint32_t seen = 0;
    while ((status = tally_wire_next(&wire, &field)) == TALLY_OK) {
        static const enum tally_wire_type types[] = {0, TALLY_WIRE_BYTES, TALLY_WIRE_FIXED64, TALLY_WIRE_VARINT,
                                                     TALLY_WIRE_BYTES};
        if (field.number > BATCH_TABLES) continue;
        if (field.type != types[field.number]) return TALLY_MALFORMED;
        if (field.number != BATCH_TABLES) {
            if (seen >> field.number & 1) return TALLY_MALFORMED;
            seen |= 1u << field.number;
        }
        switch (field.number) {
        case BATCH_DATASET: reader.header.dataset = field.bytes; break;
        case BATCH_PRODUCER: reader.header.producer = field.value; break;
        case BATCH_SEQUENCE: reader.header.sequence = field.value; break;
        default:
            if (!again && (status = entries_check(field.bytes, &entries))) return status;
        }
    }
    if (status != TALLY_NOT_FOUND) return status;
    if (!tally_name_valid(reader.header.dataset)) return TALLY_MALFORMED;
    if (reader.header.producer == 0 || reader.header.sequence == 0) return TALLY_MALFORMED;
    *out_reader = reader;
    return TALLY_OK;
}

enum tally_status tally_batch_open(struct tally_bytes message, struct tally_batch_reader *out_reader)
{
    return batch_open(message, false, out_reader);
}

enum tally_status tally_batch_open_again(struct tally_bytes message, struct tally_batch_reader *out_reader)
{
    return batch_open(message, true, out_reader);
}

// The next length-delimited field `number`; the bytes were checked when the batch was opened.
static bool next_of(struct tally_wire *wire, uint32_t number, struct tally_bytes *out_bytes)
{
    struct tally_wire_field field;
    while (tally_wire_next(wire, &field) == TALLY_OK) {
        if (field.number == number && field.type == TALLY_WIRE_BYTES) {
            *out_bytes = field.bytes;
            return true;
        }
    }
    return false;
}

bool tally_batch_next_table(struct tally_batch_reader *reader, struct tally_entries_reader *out_entries)
{
    struct tally_bytes message;
    if (!next_of(&reader->tables, BATCH_TABLES, &message)) return false;
    struct tally_entries_reader entries = {.keys = tally_wire(message)};
    struct tally_wire wire = tally_wire(message), before;
    struct tally_wire_field field;
    size_t size;
    do {
        while ((size = short_key(&wire))) wire.at += 2 + size;
        before = wire;
        if (tally_wire_next(&wire, &field)) break;
        if (field.number == ENTRIES_TABLE) entries.table = field.bytes;
        if (field.number == ENTRIES_AMOUNTS) entries.amounts = tally_wire(field.bytes);
        if (field.number == ENTRIES_MEMBERS && field.bytes.size) {
            entries.amounts = tally_wire(field.bytes);
            entries.members = true;
        }
        if (field.number == ENTRIES_KIND) entries.kind = (enum tally_kind)field.value;
        if (field.number == ENTRIES_ADJUST) entries.adjust = field.value;
        if (field.number == ENTRIES_REMOVED && !entries.removed.at) entries.removed = before;
    } while (true);
    *out_entries = entries;
    return true;
}

bool tally_entries_next(struct tally_entries_reader *entries, struct tally_bytes *out_key, int64_t *out_amount)
{
    uint64_t coded;
    size_t size = short_key(&entries->keys);
    if (size) {
        *out_key = tally_bytes(entries->keys.at + 2, size);
        entries->keys.at += 2 + size;
    } else if (!next_of(&entries->keys, ENTRIES_KEYS, out_key)) {
        return false;
    }
    if (entries->members) {
        *out_amount = (int64_t)tally_load64(entries->amounts.at);
        entries->amounts.at += MEMBER_BYTES;
        return true;
    }
    if (!tally_wire_varint(&entries->amounts, &coded)) return false;
    *out_amount = tally_unzigzag(coded);
    return true;
}

bool tally_entries_next_removed(struct tally_entries_reader *entries, struct tally_bytes *out_key)
{
    return next_of(&entries->removed, ENTRIES_REMOVED, out_key);
}

enum tally_status tally_request_batch(struct tally_bytes request, struct tally_bytes *out_batch)
{
    struct tally_wire wire = tally_wire(request);
    struct tally_wire_field field;
    struct tally_bytes batch = {0}, ignored;
    enum tally_status status;
    bool found = false, other = false, sealed = false;
    if (request.size > TALLY_BATCH_BYTES_MAX) return TALLY_LIMIT;
    while ((status = tally_wire_next(&wire, &field)) == TALLY_OK) {
        if (field.number == REQUEST_BATCH) {
            if (found || field.type != TALLY_WIRE_BYTES) return TALLY_MALFORMED;
            batch = field.bytes;
            found = true;
        } else if (field.number <= REQUEST_QUERY) {
            other = true;
        } else if (field.number == REQUEST_CHECK) {
            sealed = true;
        }
    }
    if (status != TALLY_NOT_FOUND) return status;
    if (sealed && (status = tally_unseal(request, &ignored))) return status;
    if (!found) return TALLY_NOT_FOUND;
    if (other) return TALLY_MALFORMED; // a Request is one of its kinds
    *out_batch = batch;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- writing

void tally_batch_begin(struct tally_batch_writer *writer, const struct tally_batch_header *header)
{
    // A buffer that once could not grow may grow again: the failure was that batch's.
    writer->body.failed = writer->entries.failed = writer->amounts.failed = false;
    writer->body.size = 0;
    tally_write_bytes(&writer->body, BATCH_DATASET, header->dataset);
    tally_write_fixed64(&writer->body, BATCH_PRODUCER, header->producer);
    tally_write_uint(&writer->body, BATCH_SEQUENCE, header->sequence);
}

void tally_batch_table_begin_as(struct tally_batch_writer *writer, struct tally_bytes table, enum tally_kind kind,
                                bool adjust)
{
    writer->entries.size = 0;
    writer->amounts.size = 0;
    writer->kind = kind;
    writer->adjust = adjust;
    writer->removing = writer->members = false;
    tally_write_bytes(&writer->entries, ENTRIES_TABLE, table);
}

void tally_batch_table_begin(struct tally_batch_writer *writer, struct tally_bytes table)
{
    tally_batch_table_begin_as(writer, table, TALLY_KIND_UNSPECIFIED, false);
}

void tally_batch_add(struct tally_batch_writer *writer, struct tally_bytes key, int64_t amount)
{
    assert(!writer->removing && !writer->members);
    tally_write_bytes(&writer->entries, ENTRIES_KEYS, key);
    tally_write_varint(&writer->amounts, tally_zigzag(amount));
}

void tally_batch_add_member(struct tally_batch_writer *writer, struct tally_bytes key, uint64_t member)
{
    uint8_t bytes[MEMBER_BYTES];
    assert(!writer->removing && (writer->members || !writer->amounts.size));
    tally_store64(bytes, member);
    writer->members = true;
    tally_write_bytes(&writer->entries, ENTRIES_KEYS, key);
    tally_write_raw(&writer->amounts, bytes, sizeof bytes);
}

static void write_amounts(struct tally_batch_writer *writer)
{
    if (writer->amounts.size && !writer->members) {
        tally_write_bytes(&writer->entries, ENTRIES_AMOUNTS, tally_writer_bytes(&writer->amounts));
        writer->amounts.size = 0;
    }
}

void tally_batch_remove(struct tally_batch_writer *writer, struct tally_bytes key)
{
    write_amounts(writer);
    writer->removing = true;
    tally_write_bytes(&writer->entries, ENTRIES_REMOVED, key);
}

void tally_batch_table_end(struct tally_batch_writer *writer)
{
    write_amounts(writer);
    if (writer->kind) tally_write_uint(&writer->entries, ENTRIES_KIND, writer->kind);
    if (writer->adjust) tally_write_uint(&writer->entries, ENTRIES_ADJUST, 1);
    if (writer->members) tally_write_bytes(&writer->entries, ENTRIES_MEMBERS, tally_writer_bytes(&writer->amounts));
    tally_write_bytes(&writer->body, BATCH_TABLES, tally_writer_bytes(&writer->entries));
}

enum tally_status tally_batch_finish(struct tally_batch_writer *writer)
{
    size_t start = writer->out->size;
    if (writer->body.failed || writer->entries.failed || writer->amounts.failed) writer->out->failed = true;
    tally_write_bytes(writer->out, REQUEST_BATCH, tally_writer_bytes(&writer->body));
    tally_seal(writer->out, start);
    return writer->out->failed ? TALLY_NO_MEMORY : TALLY_OK;
}
