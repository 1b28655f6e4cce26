// SPDX-License-Identifier: Apache-2.0
#include "../support/memory.h"
#include "../support/random.h"
#include "../support/with_cmocka.h"

#include <tallycast/wire.h>

// ------------------------------------------------------------------------------------------ varints

static void test_varints(void **state)
{
    (void)state;
    struct test_random random = test_random_start("wire");
    for (unsigned round = 0; round < 20000; round++) {
        uint64_t value = test_random_wide(&random), back = 1;
        uint8_t room[10];
        struct tally_writer writer = tally_writer_fixed(room, sizeof room);
        tally_write_varint(&writer, value);
        assert_false(writer.failed);
        assert_int_equal(writer.size, tally_varint_size(value));
        struct tally_wire wire = tally_wire(tally_writer_bytes(&writer));
        assert_true(tally_wire_varint(&wire, &back) && back == value && tally_wire_done(&wire));
        for (size_t cut = 0; cut < writer.size; cut++) {
            uint8_t *exact = test_exact_copy(room, cut);
            wire = tally_wire(tally_bytes(exact, cut));
            const uint8_t *at = wire.at;
            assert_false(tally_wire_varint(&wire, &back));
            assert_ptr_equal(wire.at, at);
            free(exact);
        }
        // Room for one byte less: nothing is written, and the failure stays.
        struct tally_writer tight = tally_writer_fixed(room, writer.size - 1);
        tally_write_varint(&tight, value);
        assert_true(tight.failed && tight.size == 0);
        tally_write_varint(&tight, 0);
        assert_true(tight.failed && tight.size == 0);
        assert_true(tally_unzigzag(tally_zigzag((int64_t)value)) == (int64_t)value);
    }
    assert_int_equal(tally_zigzag(0), 0);
    assert_int_equal(tally_zigzag(-1), 1);
    assert_int_equal(tally_zigzag(1), 2);
    assert_true(tally_zigzag(INT64_MIN) == UINT64_MAX && tally_zigzag(INT64_MAX) == UINT64_MAX - 1);
}

static void test_varints_too_long(void **state)
{
    (void)state;
    uint64_t value = 0;
    // 10 bytes hold 64 bits; one bit more, or an 11th byte, does not pass. Padding with zeros does: protobuf
    // allows it.
    uint8_t most[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x00};
    struct tally_wire wire = tally_wire(tally_bytes(most, 10));
    assert_true(tally_wire_varint(&wire, &value) && value == UINT64_MAX);
    most[9] = 0x02;
    wire = tally_wire(tally_bytes(most, 10));
    assert_false(tally_wire_varint(&wire, &value));
    most[9] = 0x81;
    wire = tally_wire(tally_bytes(most, 11));
    assert_false(tally_wire_varint(&wire, &value));
    uint8_t padded[] = {0x85, 0x80, 0x80, 0x00};
    wire = tally_wire(tally_bytes(padded, 4));
    assert_true(tally_wire_varint(&wire, &value) && value == 5 && tally_wire_done(&wire));
}

// ------------------------------------------------------------------------------------------ fields

struct model_field {
    uint32_t number;
    enum tally_wire_type type;
    uint64_t value;
    uint8_t bytes[300];
    size_t size;
};

static void write_field(struct tally_writer *writer, const struct model_field *field)
{
    uint8_t four[4];
    switch (field->type) {
    case TALLY_WIRE_VARINT: tally_write_uint(writer, field->number, field->value); break;
    case TALLY_WIRE_FIXED64: tally_write_fixed64(writer, field->number, field->value); break;
    case TALLY_WIRE_FIXED32: // has no writer: nothing of ours uses it, but a reader skips it
        tally_write_varint(writer, (uint64_t)field->number << 3 | TALLY_WIRE_FIXED32);
        tally_store32(four, (uint32_t)field->value);
        tally_write_raw(writer, four, 4);
        break;
    default: tally_write_bytes(writer, field->number, tally_bytes(field->bytes, field->size)); break;
    }
}

static void draw_field(struct test_random *random, struct model_field *field)
{
    static const enum tally_wire_type types[] = {TALLY_WIRE_VARINT, TALLY_WIRE_FIXED64, TALLY_WIRE_BYTES,
                                                 TALLY_WIRE_FIXED32};
    field->type = types[test_random_below(random, 4)];
    field->number = (uint32_t)test_random_between(random, 1, test_random_percent(random, 80) ? 20 : 0x1fffffff);
    field->value = test_random_wide(random);
    if (field->type == TALLY_WIRE_FIXED32) field->value &= UINT32_MAX;
    field->size = test_random_below(random, test_random_percent(random, 80) ? 10 : sizeof field->bytes);
    test_random_fill(random, field->bytes, field->size);
}

static void assert_field(const struct tally_wire_field *got, const struct model_field *expected)
{
    assert_int_equal(got->number, expected->number);
    assert_int_equal(got->type, expected->type);
    if (got->type == TALLY_WIRE_BYTES)
        assert_true(tally_bytes_equal(got->bytes, tally_bytes(expected->bytes, expected->size)));
    else
        assert_true(got->value == expected->value);
}

// What was written is read back; cut anywhere, the whole fields are read and then MALFORMED, or the end at a
// border.
static void test_fields_and_truncations(void **state)
{
    (void)state;
    enum { FIELDS_MAX = 12 };
    struct test_random random = test_random_start("wire");
    for (unsigned round = 0; round < 300; round++) {
        struct model_field fields[FIELDS_MAX];
        size_t ends[FIELDS_MAX + 1] = {0}, count = test_random_below(&random, FIELDS_MAX);
        struct tally_writer writer = test_writer();
        for (size_t i = 0; i < count; i++) {
            draw_field(&random, &fields[i]);
            write_field(&writer, &fields[i]);
            ends[i + 1] = writer.size;
        }
        for (size_t cut = 0; cut <= writer.size; cut++) {
            uint8_t *exact = test_exact_copy(writer.data, cut);
            struct tally_wire wire = tally_wire(tally_bytes(exact, cut));
            struct tally_wire_field field;
            size_t whole = 0;
            for (; whole < count && ends[whole + 1] <= cut; whole++) {
                assert_int_equal(tally_wire_next(&wire, &field), TALLY_OK);
                assert_field(&field, &fields[whole]);
            }
            const uint8_t *at = wire.at;
            assert_int_equal(tally_wire_next(&wire, &field), ends[whole] == cut ? TALLY_NOT_FOUND : TALLY_MALFORMED);
            assert_ptr_equal(wire.at, at);
            free(exact);
        }
        test_writer_free(&writer);
    }
}

static void test_no_fields(void **state)
{
    (void)state;
    static const struct {
        const char *what;
        uint8_t bytes[12];
        size_t size;
    } wrong[] = {
        {"field number 0", {0x00, 0x00}, 2},
        {"start of a group", {0x0b, 0x0c}, 2},
        {"end of a group", {0x0c}, 1},
        {"wire type 6", {0x0e, 0, 0, 0, 0, 0, 0, 0, 0}, 9},
        {"wire type 7", {0x0f, 0, 0, 0, 0, 0, 0, 0, 0}, 9},
        {"a field number over 29 bits", {0x80, 0x80, 0x80, 0x80, 0x10, 0x00}, 6},
        {"a tag that wraps around to field 1", {0x88, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01, 0x00}, 11},
        {"a size over what is there", {0x0a, 0x02, 0x00}, 3},
        {"a size of 64 bits", {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, 11},
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct tally_wire wire = tally_wire(tally_bytes(wrong[i].bytes, wrong[i].size));
        struct tally_wire_field field = {.number = 77};
        if (tally_wire_next(&wire, &field) != TALLY_MALFORMED) fail_msg("not refused: %s", wrong[i].what);
        assert_int_equal(field.number, 77);
    }
    struct tally_wire nothing = tally_wire(tally_bytes(NULL, 0));
    struct tally_wire_field field;
    assert_int_equal(tally_wire_next(&nothing, &field), TALLY_NOT_FOUND);
}

// Any bytes: the reader stays inside, moves on with each field, and ends.
static void test_random_bytes(void **state)
{
    (void)state;
    struct test_random random = test_random_start("wire");
    for (unsigned round = 0; round < 20000; round++) {
        uint8_t bytes[64];
        size_t size = test_random_below(&random, sizeof bytes);
        test_random_fill(&random, bytes, size);
        uint8_t *exact = test_exact_copy(bytes, size);
        struct tally_wire wire = tally_wire(tally_bytes(exact, size));
        struct tally_wire_field field;
        const uint8_t *before = wire.at;
        enum tally_status status;
        while ((status = tally_wire_next(&wire, &field)) == TALLY_OK) {
            assert_true(wire.at > before && wire.at <= wire.end);
            if (field.type == TALLY_WIRE_BYTES)
                assert_true(field.bytes.data >= before && field.bytes.data + field.bytes.size == wire.at);
            before = wire.at;
        }
        assert_true(status == TALLY_MALFORMED || (status == TALLY_NOT_FOUND && tally_wire_done(&wire)));
        free(exact);
    }
}

// ------------------------------------------------------------------------------------------ writer

static void test_writer_full(void **state)
{
    (void)state;
    struct test_random random = test_random_start("wire");
    struct model_field field;
    for (unsigned round = 0; round < 300; round++) {
        draw_field(&random, &field);
        struct tally_writer whole = test_writer();
        write_field(&whole, &field);
        for (size_t capacity = 0; capacity <= whole.size; capacity++) {
            uint8_t *room = test_exact_copy(whole.data, capacity);
            struct tally_writer writer = tally_writer_fixed(room, capacity);
            write_field(&writer, &field);
            assert_int_equal(writer.failed, capacity < whole.size);
            assert_true(writer.size <= capacity && memcmp(room, whole.data, writer.size) == 0);
            size_t size = writer.size;
            tally_write_raw(&writer, "", 0);
            if (writer.failed) tally_write_raw(&writer, "x", 1);
            assert_int_equal(writer.size, size);
            free(room);
        }
        test_writer_free(&whole);
    }
    struct tally_writer writer = {0};
    assert_false(tally_writer_reserve(&writer, SIZE_MAX));
    assert_true(writer.failed);
}

// ------------------------------------------------------------------------------------------ the seal

static void test_seal(void **state)
{
    (void)state;
    struct test_random random = test_random_start("wire");
    for (unsigned round = 0; round < 60; round++) {
        struct tally_writer writer = test_writer();
        size_t start = test_random_below(&random, 5), size = test_random_below(&random, 60);
        uint8_t bytes[64];
        test_random_fill(&random, bytes, sizeof bytes);
        tally_write_raw(&writer, bytes, start + size);
        tally_seal(&writer, start);
        assert_int_equal(writer.size, start + size + TALLY_SEAL_BYTES);
        struct tally_bytes sealed = tally_bytes(writer.data + start, size + TALLY_SEAL_BYTES), inner = {0};
        assert_int_equal(tally_unseal(sealed, &inner), TALLY_OK);
        assert_true(inner.data == sealed.data && inner.size == size);
        for (size_t bit = 0; bit < sealed.size * 8; bit++) {
            struct tally_bytes untouched = {bytes, 77};
            writer.data[start + bit / 8] ^= (uint8_t)(1u << bit % 8);
            // A flip in the tag of the check leaves no check; anywhere else it differs.
            assert_int_equal(tally_unseal(sealed, &untouched), bit / 8 == size ? TALLY_MALFORMED : TALLY_CORRUPT);
            assert_true(untouched.data == bytes && untouched.size == 77);
            writer.data[start + bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t cut = 0; cut < sealed.size; cut++) {
            uint8_t *exact = test_exact_copy(sealed.data, cut);
            assert_int_not_equal(tally_unseal(tally_bytes(exact, cut), &inner), TALLY_OK);
            free(exact);
        }
        test_writer_free(&writer);
    }
    struct tally_bytes inner;
    assert_int_equal(tally_unseal(tally_bytes(NULL, 0), &inner), TALLY_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_varints),      cmocka_unit_test(test_varints_too_long),
        cmocka_unit_test(test_no_fields),    cmocka_unit_test(test_fields_and_truncations),
        cmocka_unit_test(test_random_bytes), cmocka_unit_test(test_writer_full),
        cmocka_unit_test(test_seal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
