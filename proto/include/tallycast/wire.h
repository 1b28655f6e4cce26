// SPDX-License-Identifier: Apache-2.0
//
// The protobuf wire format, by hand, for the messages on hot paths (Frame, Batch, Record): a reader that walks bytes
// in place and allocates nothing, and a writer over caller-given or growable memory. Control messages use protobuf-c
// (proto/messages/). Threads: an object belongs to one thread. Safe on any bytes: a reader never reads outside its
// run and always ends.
#ifndef TALLYCAST_WIRE_H
#define TALLYCAST_WIRE_H

#include <tallycast/bytes.h>
#include <tallycast/status.h>

enum tally_wire_type { TALLY_WIRE_VARINT = 0, TALLY_WIRE_FIXED64 = 1, TALLY_WIRE_BYTES = 2, TALLY_WIRE_FIXED32 = 5 };

// ---------------------------------------------------------------------------------------------------- reading

// A cursor over borrowed bytes.
struct tally_wire {
    const uint8_t *at, *end;
};

struct tally_wire_field {
    uint32_t number;
    enum tally_wire_type type;
    uint64_t value;           // VARINT, FIXED64, FIXED32
    struct tally_bytes bytes; // BYTES
};

static inline struct tally_wire tally_wire(struct tally_bytes bytes)
{
    // Nothing is added to a null pointer, not even 0: that is undefined in C.
    return (struct tally_wire){bytes.data, bytes.size ? bytes.data + bytes.size : bytes.data};
}

static inline bool tally_wire_done(const struct tally_wire *wire) { return wire->at == wire->end; }

// One varint of at most 10 bytes. False (cursor unmoved) when it is cut short or over 64 bits.
static inline bool tally_wire_varint(struct tally_wire *wire, uint64_t *out_value)
{
    const uint8_t *p = wire->at;
    if (p != wire->end && *p < 0x80) {
        *out_value = *p;
        wire->at = p + 1;
        return true;
    }
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && p != wire->end; shift += 7) {
        uint64_t b = *p++;
        if (shift == 63 && b > 1) return false;
        value |= (b & 0x7f) << shift;
        if (b < 0x80) {
            *out_value = value;
            wire->at = p;
            return true;
        }
    }
    return false;
}

// The next field. TALLY_OK; TALLY_NOT_FOUND at the end; TALLY_MALFORMED for anything that is no field, including
// field number 0 and the group types.
TALLY_CHECKED enum tally_status tally_wire_next(struct tally_wire *wire, struct tally_wire_field *out_field);

static inline uint64_t tally_zigzag(int64_t value) { return (uint64_t)value << 1 ^ (uint64_t)(value >> 63); }
static inline int64_t tally_unzigzag(uint64_t coded) { return (int64_t)(coded >> 1 ^ (0 - (coded & 1))); }

// ---------------------------------------------------------------------------------------------------- writing

// Appends to `data`. When `grow` is null the capacity is fixed. Failure is sticky: after the first append that does not
// fit, `failed` is set and nothing more is written, so that callers check once at the end.
struct tally_writer {
    uint8_t *data;
    size_t size, capacity;
    bool failed;
    // Makes room for at least `capacity_min` bytes by changing `data` and `capacity`; false when it cannot.
    bool (*grow)(struct tally_writer *writer, size_t capacity_min);
    void *grow_ctx; // for grow alone
};

// A writer over the caller's memory, which must outlive it.
static inline struct tally_writer tally_writer_fixed(void *data, size_t capacity)
{
    return (struct tally_writer){.data = data, .capacity = capacity};
}

bool tally_writer_reserve(struct tally_writer *writer, size_t more);
void tally_write_raw(struct tally_writer *writer, const void *data, size_t size);
void tally_write_varint(struct tally_writer *writer, uint64_t value);

// Whole fields, tag included. They are written also when the value is proto3's default; who wants to leave those out does so.
void tally_write_uint(struct tally_writer *writer, uint32_t number, uint64_t value);
void tally_write_fixed64(struct tally_writer *writer, uint32_t number, uint64_t value);
void tally_write_bytes(struct tally_writer *writer, uint32_t number, struct tally_bytes bytes);

static inline struct tally_bytes tally_writer_bytes(const struct tally_writer *writer)
{
    return tally_bytes(writer->data, writer->size);
}

// Bytes that a varint takes: 1 to 10.
static inline unsigned tally_varint_size(uint64_t value) { return (unsigned)(63 - __builtin_clzll(value | 1)) / 7 + 1; }

// ---------------------------------------------------------------------------------------------------- the seal

// The `check` field (number 15, fixed64) that ends a sealed message: 9 bytes.
#define TALLY_SEAL_BYTES 9u

// Appends the check of everything the writer holds from `start` on.
void tally_seal(struct tally_writer *writer, size_t start);

// TALLY_OK and the bytes before the check; TALLY_MALFORMED without a check at the end; TALLY_CORRUPT when it differs.
// Cost: SipHash over the message.
TALLY_CHECKED enum tally_status tally_unseal(struct tally_bytes message, struct tally_bytes *out_inner);

#endif
