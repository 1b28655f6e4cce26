// SPDX-License-Identifier: Apache-2.0
//
// Fields are written in order and, as proto3 has it, left out when they hold the default.
#include <assert.h>
#include <messages/messages.h>

static void put_uint(struct tally_writer *out, uint32_t number, uint64_t value)
{
    if (value) tally_write_uint(out, number, value);
}

static void put_fixed64(struct tally_writer *out, uint32_t number, uint64_t value)
{
    if (value) tally_write_fixed64(out, number, value);
}

static void put_bytes(struct tally_writer *out, uint32_t number, struct tally_bytes value)
{
    if (value.size) tally_write_bytes(out, number, value);
}

static void put_cursor(struct tally_writer *out, uint32_t number, const struct tally_whole_cursor *cursor)
{
    uint8_t memory[64];
    struct tally_writer inner = tally_writer_fixed(memory, sizeof memory);
    put_fixed64(&inner, 1, cursor->epoch);
    put_uint(&inner, 2, cursor->version);
    put_uint(&inner, 3, cursor->chunk);
    put_uint(&inner, 4, cursor->table);
    put_uint(&inner, 5, cursor->id);
    assert(!inner.failed);
    tally_write_bytes(out, number, tally_writer_bytes(&inner));
}

static enum tally_status sealed(struct tally_writer *out, size_t start)
{
    tally_seal(out, start);
    return out->failed ? TALLY_NO_MEMORY : TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- Request

enum tally_status tally_hello_encode(const struct tally_hello *hello, struct tally_writer *out)
{
    uint8_t memory[TALLY_NAME_BYTES_MAX + 32];
    struct tally_writer inner = tally_writer_fixed(memory, sizeof memory);
    assert(hello->dataset.size <= TALLY_NAME_BYTES_MAX);
    put_bytes(&inner, 1, hello->dataset);
    put_fixed64(&inner, 2, hello->producer);
    size_t start = out->size;
    tally_write_bytes(out, TALLY_REQUEST_HELLO, tally_writer_bytes(&inner));
    return sealed(out, start);
}

enum tally_status tally_catch_up_encode(const struct tally_catch_up *catch_up, struct tally_writer *out)
{
    uint8_t memory[TALLY_NAME_BYTES_MAX + 128];
    struct tally_writer inner = tally_writer_fixed(memory, sizeof memory);
    assert(catch_up->dataset.size <= TALLY_NAME_BYTES_MAX);
    put_bytes(&inner, 1, catch_up->dataset);
    put_fixed64(&inner, 2, catch_up->epoch);
    put_uint(&inner, 3, catch_up->version);
    if (catch_up->has_cursor) put_cursor(&inner, 4, &catch_up->cursor);
    size_t start = out->size;
    tally_write_bytes(out, TALLY_REQUEST_CATCH_UP, tally_writer_bytes(&inner));
    return sealed(out, start);
}

static size_t bytes_field_size(size_t size) { return 1 + tally_varint_size(size) + size; }

enum tally_status tally_query_encode(const struct tally_query *query, struct tally_writer *out)
{
    assert(query->keys_count <= TALLY_QUERY_KEYS_MAX);
    size_t inner_size = 0, start = out->size;
    if (query->dataset.size) inner_size += bytes_field_size(query->dataset.size);
    if (query->table.size) inner_size += bytes_field_size(query->table.size);
    for (size_t i = 0; i < query->keys_count; i++) inner_size += bytes_field_size(query->keys[i].size);
    tally_write_varint(out, TALLY_REQUEST_QUERY << 3 | TALLY_WIRE_BYTES);
    tally_write_varint(out, inner_size);
    put_bytes(out, 1, query->dataset);
    put_bytes(out, 2, query->table);
    for (size_t i = 0; i < query->keys_count; i++) tally_write_bytes(out, 3, query->keys[i]);
    return sealed(out, start);
}

// ---------------------------------------------------------------------------------------------------- Answer

enum tally_status tally_answer_encode(const struct tally_answer *answer, struct tally_writer *out)
{
    size_t start = out->size;
    put_uint(out, 1, (uint32_t)answer->status);
    put_bytes(out, 2, answer->message);
    put_bytes(out, 3, answer->dataset);
    put_fixed64(out, 4, answer->epoch);
    put_uint(out, 5, answer->version);
    put_uint(out, 6, answer->expected_sequence);
    put_bytes(out, 7, answer->frame);
    if (answer->has_cursor) put_cursor(out, 8, &answer->cursor);
    if (answer->values_count) {
        size_t values_size = 0;
        tally_write_varint(out, 9u << 3 | TALLY_WIRE_BYTES);
        tally_write_varint(out, answer->values_count);
        for (size_t i = 0; i < answer->values_count; i++) {
            tally_write_varint(out, answer->found[i]);
            values_size += tally_varint_size(tally_zigzag(answer->values[i]));
        }
        tally_write_varint(out, 10u << 3 | TALLY_WIRE_BYTES);
        tally_write_varint(out, values_size);
        for (size_t i = 0; i < answer->values_count; i++) tally_write_varint(out, tally_zigzag(answer->values[i]));
    }
    return sealed(out, start);
}

// ---------------------------------------------------------------------------------------------------- Heartbeat

enum tally_status tally_heartbeat_encode(const struct tally_heartbeat *heartbeat, struct tally_writer *out)
{
    uint8_t digest[TALLY_DIGEST_BYTES];
    size_t start = out->size;
    tally_digest_store(digest, heartbeat->digest);
    put_bytes(out, 1, heartbeat->dataset);
    put_fixed64(out, 2, heartbeat->epoch);
    put_uint(out, 3, heartbeat->version);
    tally_write_bytes(out, 4, tally_bytes(digest, sizeof digest));
    put_uint(out, 5, heartbeat->now_ms);
    return sealed(out, start);
}

// ---------------------------------------------------------------------------------------------------- what
// PUB sends

void tally_published_begin(struct tally_writer *writer, struct tally_bytes dataset, enum tally_published_what what)
{
    const uint8_t tail[2] = {0, (uint8_t)what};
    tally_write_raw(writer, dataset.data, dataset.size);
    tally_write_raw(writer, tail, sizeof tail);
}

enum tally_status tally_published_open(struct tally_bytes message, struct tally_bytes *out_dataset,
                                       enum tally_published_what *out_what, struct tally_bytes *out_sealed)
{
    size_t window = message.size < TALLY_NAME_BYTES_MAX + 1 ? message.size : TALLY_NAME_BYTES_MAX + 1;
    const uint8_t *nul = window ? memchr(message.data, 0, window) : NULL;
    if (!nul) return TALLY_MALFORMED;
    struct tally_bytes dataset = tally_bytes(message.data, (size_t)(nul - message.data));
    size_t head = dataset.size + 2;
    if (!tally_name_valid(dataset) || message.size < head) return TALLY_MALFORMED;
    uint8_t what = message.data[head - 1];
    if (what != TALLY_PUBLISHED_FRAME && what != TALLY_PUBLISHED_HEARTBEAT) return TALLY_MALFORMED;
    *out_dataset = dataset;
    *out_what = (enum tally_published_what)what;
    *out_sealed = tally_bytes(message.data + head, message.size - head);
    return TALLY_OK;
}
