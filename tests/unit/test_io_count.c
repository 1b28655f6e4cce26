// SPDX-License-Identifier: Apache-2.0
//
// POST /v1/count without sockets: packed bodies (proto/io/inflate.h), and events in JSON (proto/io/count_body.h).
#include "../support/with_cmocka.h"

#include "../support/build.h"
#include "../support/random.h"

#include <io/count_body.h>
#include <io/inflate.h>
#include <messages/messages.h>
#include <stdlib.h>
#include <sums/sums_batch.h>
#include <zlib.h>
#include <zstd.h>

// ---------------------------------------------------------------------------------------------------- packed bodies

static struct tally_bytes gzip(struct tally_bytes plain)
{
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)plain.data, .avail_in = (uInt)plain.size};
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    size_t room = deflateBound(&stream, plain.size) + 64;
    uint8_t *packed = malloc(room);
    stream.next_out = packed;
    stream.avail_out = (uInt)room;
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    size_t size = room - stream.avail_out;
    deflateEnd(&stream);
    return tally_bytes(packed, size);
}

static struct tally_bytes zstd(struct tally_bytes plain)
{
    size_t room = ZSTD_compressBound(plain.size);
    uint8_t *packed = malloc(room);
    size_t size = ZSTD_compress(packed, room, plain.data, plain.size, 3);
    assert_false(ZSTD_isError(size));
    return tally_bytes(packed, size);
}

static struct tally_bytes pack(enum tally_packing packing, struct tally_bytes plain)
{
    return packing == TALLY_PACKING_GZIP ? gzip(plain) : zstd(plain);
}

static enum tally_status unpack(enum tally_packing packing, struct tally_bytes packed, size_t bytes_max,
                                struct tally_writer *out)
{
    *out = tally_writer_growable(&tally_alloc_libc);
    return tally_inflate(packing, packed, bytes_max, out);
}

static void packed_bodies_come_out_as_they_were(void **state)
{
    static const size_t sizes[] = {1, 100, 65535, 65536, 65537, 300000};
    (void)state;
    for (int packing = TALLY_PACKING_GZIP; packing <= TALLY_PACKING_ZSTD; packing++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            struct tally_writer out;
            uint8_t *plain = malloc(sizes[i]);
            for (size_t at = 0; at < sizes[i]; at++) plain[at] = (uint8_t)(at * at >> 5);
            struct tally_bytes packed = pack((enum tally_packing)packing, tally_bytes(plain, sizes[i]));
            // The bound itself is fine, one less is crossed.
            assert_int_equal(unpack((enum tally_packing)packing, packed, sizes[i], &out), TALLY_OK);
            assert_true(tally_bytes_equal(tally_writer_bytes(&out), tally_bytes(plain, sizes[i])));
            tally_writer_free(&out);
            assert_int_equal(unpack((enum tally_packing)packing, packed, sizes[i] - 1, &out), TALLY_LIMIT);
            tally_writer_free(&out);
            // Two, one after the other, are one run.
            uint8_t *twice = malloc(packed.size * 2);
            memcpy(twice, packed.data, packed.size);
            memcpy(twice + packed.size, packed.data, packed.size);
            assert_int_equal(unpack((enum tally_packing)packing, tally_bytes(twice, packed.size * 2), 1 << 20, &out),
                             TALLY_OK);
            assert_int_equal(out.size, 2 * sizes[i]);
            tally_writer_free(&out);
            free(twice);
            free((void *)(uintptr_t)packed.data);
            free(plain);
        }
    }
}

static void what_is_cut_short_or_damaged_is_refused(void **state)
{
    struct test_random random = test_random_start("io_count: damaged");
    uint8_t plain[3000];
    (void)state;
    for (size_t i = 0; i < sizeof plain; i++) plain[i] = (uint8_t)(i % 7 * i % 23);
    for (int packing = TALLY_PACKING_GZIP; packing <= TALLY_PACKING_ZSTD; packing++) {
        struct tally_bytes packed = pack((enum tally_packing)packing, tally_bytes(plain, sizeof plain));
        struct tally_writer out;
        for (size_t size = 0; size < packed.size; size++) {
            uint8_t *cut = malloc(size + 1);
            memcpy(cut, packed.data, size);
            assert_int_equal(unpack((enum tally_packing)packing, tally_bytes(cut, size), 1 << 20, &out),
                             TALLY_MALFORMED);
            tally_writer_free(&out);
            free(cut);
        }
        for (int round = 0; round < 2000; round++) { // whatever comes out: nothing is read or written beside
            uint8_t *bent = malloc(packed.size);
            memcpy(bent, packed.data, packed.size);
            bent[test_random_below(&random, packed.size)] ^= (uint8_t)(1 + test_random_below(&random, 255));
            (void)!unpack((enum tally_packing)packing, tally_bytes(bent, packed.size), 1 << 20, &out);
            assert_true(out.size <= (1 << 20) + 1);
            tally_writer_free(&out);
            free(bent);
        }
        free((void *)(uintptr_t)packed.data);
    }
}

static void a_bomb_is_refused(void **state)
{
    (void)state;
    size_t huge = (size_t)256 << 20;
    uint8_t *plain = calloc(1, huge);
    for (int packing = TALLY_PACKING_GZIP; packing <= TALLY_PACKING_ZSTD; packing++) {
        struct tally_writer out;
        struct tally_bytes packed = pack((enum tally_packing)packing, tally_bytes(plain, huge));
        assert_true(packed.size < huge / 500);
        assert_int_equal(unpack((enum tally_packing)packing, packed, TALLY_COUNT_BODY_BYTES_MAX, &out), TALLY_LIMIT);
        assert_true(out.capacity <= 2 * TALLY_COUNT_BODY_BYTES_MAX + (1 << 17));
        tally_writer_free(&out);
        free((void *)(uintptr_t)packed.data);
    }
    free(plain);
}

static void packings_have_names(void **state)
{
    enum tally_packing packing;
    (void)state;
    assert_true(tally_packing_of("", &packing) && packing == TALLY_PACKING_NONE);
    assert_true(tally_packing_of("identity", &packing) && packing == TALLY_PACKING_NONE);
    assert_true(tally_packing_of("GZip", &packing) && packing == TALLY_PACKING_GZIP);
    assert_true(tally_packing_of("zstd", &packing) && packing == TALLY_PACKING_ZSTD);
    assert_false(tally_packing_of("br", &packing));
    assert_false(tally_packing_of("gzip, gzip", &packing));
}

// ---------------------------------------------------------------------------------------------------- events

static void parse(struct tally_count_body *body, const char *text, size_t size)
{
    tally_count_body_init(body, (struct tally_seed){1, 2});
    char *copy = malloc(size ? size : 1); // so that a sanitizer sees a read past its end
    memcpy(copy, text, size);
    assert_int_equal(tally_count_body_parse(body, tally_bytes(copy, size)), TALLY_OK);
    free(copy);
}

// The sums as "counting table key number;", in order of their coming.
static void expect(const char *text, const char *sums, uint32_t accepted, uint32_t refused)
{
    struct tally_count_body *body = malloc(sizeof *body);
    char found[4096] = "";
    parse(body, text, strlen(text));
    for (uint32_t i = 0; i < tally_sums_count(&body->sums); i++) {
        struct tally_sum sum;
        tally_sums_at(&body->sums, i, &sum);
        size_t at = strlen(found);
        (void)snprintf(found + at, sizeof found - at, "%d %.*s %.*s %lld;", (int)sum.counting, (int)sum.table.size,
                       (const char *)sum.table.data, (int)sum.key.size, (const char *)sum.key.data,
                       (long long)sum.number);
    }
    if (strcmp(found, sums) != 0 || body->accepted != accepted || body->refused != refused)
        fail_msg("%s\n got %u accepted, %u refused (%s): %s", text, body->accepted, body->refused,
                 body->refused ? body->refusals[0].why : "", found);
    tally_count_body_deinit(body);
    free(body);
}

static void takes_lines_objects_and_arrays(void **state)
{
    (void)state;
    expect("{\"table\":\"a\",\"key\":\"x\"}", "0 a x 1;", 1, 0);
    expect("{\"table\":\"a\",\"key\":\"x\",\"amount\":4}\n{\"table\":\"a\",\"key\":\"x\",\"amount\":3}\r\n\n{\"table\":"
           "\"b\",\"key\":\"x\"}\n",
           "0 a x 7;0 b x 1;", 3, 0);
    expect(" [ {\"table\":\"a\",\"key\":\"x\"} ,\n{\"table\":\"a\",\"key\":\"y\",\"amount\":0}] \n", "0 a x 1;0 a y 0;",
           2, 0);
    expect("{\n  \"table\": \"a\",\n  \"key\": \"x\"\n}\n", "0 a x 1;", 1, 0);
    expect("{\"table\":\"a\",\"key\":\"x\"}{\"table\":\"a\",\"key\":\"x\"} {\"table\":\"a\",\"key\":\"x\"}", "0 a x 3;",
           3, 0);
    expect("", "", 0, 0);
    expect("\n \r\n", "", 0, 0);
    expect("[]", "", 0, 0);
    expect("{\"table\":\"a\",\"key_base64\":\"eA==\"}", "0 a x 1;", 1, 0);
    expect("{\"table\":\"a\",\"key\":\"\\u0078\"}", "0 a x 1;", 1, 0);
    expect("{\"table\":\"a\",\"key\":\"x\",\"amount\":9223372036854775807}{\"table\":\"a\",\"key\":\"x\"}",
           "0 a x 9223372036854775807;", 2, 0);
}

static void takes_every_kind(void **state)
{
    char sums[64];
    (void)state;
    expect("{\"table\":\"g\",\"key\":\"x\",\"set\":-5}{\"table\":\"g\",\"key\":\"x\",\"adjust\":2}", "1 g x -3;", 2, 0);
    expect("{\"table\":\"g\",\"key\":\"x\",\"adjust\":2}", "2 g x 2;", 1, 0);
    expect("{\"table\":\"g\",\"key\":\"x\",\"kind\":\"gauge\",\"amount\":-5}", "1 g x -5;", 1, 0);
    expect("{\"table\":\"m\",\"key\":\"x\",\"kind\":\"min\",\"amount\":-5}{\"table\":\"m\",\"key\":\"x\",\"kind\":"
           "\"min\",\"amount\":7}",
           "3 m x -5;", 2, 0);
    expect("{\"table\":\"m\",\"key\":\"x\",\"kind\":\"max\",\"amount\":-5}{\"table\":\"m\",\"key\":\"x\",\"kind\":"
           "\"max\",\"amount\":7}",
           "4 m x 7;", 2, 0);
    expect("{\"table\":\"t\",\"key\":\"x\",\"kind\":\"topk\"}", "6 t x 1;", 1, 0);
    (void)snprintf(sums, sizeof sums, "5 d x %lld;", (long long)tally_member(test_text("ann")));
    expect("{\"table\":\"d\",\"key\":\"x\",\"member\":\"ann\"}{\"table\":\"d\",\"key\":\"x\",\"kind\":\"distinct\","
           "\"member_base64\":\"YW5u\"}",
           sums, 2, 0);
}

static void says_what_is_wrong(void **state)
{
    static const struct {
        const char *text, *why;
    } cases[] = {
        {"{\"key\":\"x\"}", "there is no table, or it is no string"},
        {"{\"table\":7,\"key\":\"x\"}", "there is no table, or it is no string"},
        {"{\"table\":\"A\",\"key\":\"x\"}", "a table's name is 1 to 64 of a-z 0-9 _ . -"},
        {"{\"table\":\"\",\"key\":\"x\"}", "a table's name is 1 to 64 of a-z 0-9 _ . -"},
        {"{\"table\":\"a\"}", "there is no key, or it is no string"},
        {"{\"table\":\"a\",\"key\":7}", "there is no key, or it is no string"},
        {"{\"table\":\"a\",\"key\":\"\"}", "the key is empty"},
        {"{\"table\":\"a\",\"key_base64\":\"\"}", "the key is empty"},
        {"{\"table\":\"a\",\"key_base64\":\"?\"}", "key_base64 is no base64"},
        {"{\"table\":\"a\",\"key\":\"x\",\"key_base64\":\"eA==\"}",
         "a key or a member comes as text or in base64, not both"},
        {"{\"table\":\"a\",\"key\":\"\xff\"}", "no JSON: unable to decode byte 0xff"},
        {"{\"table\":\"a\",\"key\":\"x\",\"amount\":-1}", "the amount is below 0: a counter only grows"},
        {"{\"table\":\"a\",\"key\":\"x\",\"amount\":1.5}", "the amount is no integer"},
        {"{\"table\":\"a\",\"key\":\"x\",\"amount\":\"1\"}", "the amount is no integer"},
        {"{\"table\":\"a\",\"key\":\"x\",\"amount\":null}", "the amount is no integer"},
        {"{\"table\":\"a\",\"key\":\"x\",\"amount\":NaN}", "no JSON: invalid token near 'NaN'"},
        {"{\"table\":\"a\",\"key\":\"x\",\"amount\":9223372036854775808}", "no JSON: too big integer"},
        {"{\"table\":\"a\",\"key\":\"x\",\"set\":4611686018427387904}", "the amount is beyond 2^62 - 1"},
        {"{\"table\":\"a\",\"key\":\"x\",\"ammount\":1}", "\"ammount\" is no member of an event"},
        {"{\"table\":\"a\",\"key\":\"x\",\"kind\":\"sum\"}",
         "the kind is none of counter, gauge, min, max, distinct, topk"},
        {"{\"table\":\"a\",\"key\":\"x\",\"kind\":\"min\"}", "there is no amount"},
        {"{\"table\":\"a\",\"key\":\"x\",\"kind\":\"gauge\"}", "there is no amount"},
        {"{\"table\":\"a\",\"key\":\"x\",\"kind\":\"distinct\",\"amount\":1}", "a distinct table wants a member"},
        {"{\"table\":\"a\",\"key\":\"x\",\"kind\":\"counter\",\"set\":1}", "set and adjust are of a gauge"},
        {"{\"table\":\"a\",\"key\":\"x\",\"kind\":\"counter\",\"member\":\"m\"}", "a member is of a distinct table"},
        {"{\"table\":\"a\",\"key\":\"x\",\"amount\":1,\"set\":1}",
         "one of amount, set, adjust and member, not several"},
        {"{\"table\":\"a\",\"key\":\"x\",\"key\":\"y\"}", "no JSON: duplicate object key"},
        {"[[]]", "an event is an object"},
        {"[1]", "no JSON: '[' or '{' expected"},
        {"{", "no JSON: string or '}' expected"},
        {"nonsense", "no JSON: '[' or '{' expected"},
        {"[{\"table\":\"a\",\"key\":\"x\"}", "the array is not closed by ]"},
        {"[{\"table\":\"a\",\"key\":\"x\"}] 1", "something follows the array"},
    };
    (void)state;
    struct tally_count_body *body = malloc(sizeof *body);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        parse(body, cases[i].text, strlen(cases[i].text));
        if (body->refused != 1 || strncmp(body->refusals[0].why, cases[i].why, strlen(cases[i].why)) != 0)
            fail_msg("%s: %s", cases[i].text, body->refused ? body->refusals[0].why : "accepted");
        tally_count_body_deinit(body);
    }
    free(body);
}

static void goes_on_behind_a_wrong_line_and_names_it(void **state)
{
    static const char text[] = "{\"table\":\"a\",\"key\":\"x\"}\n"
                               "{\"table\":\"a\",\n"
                               "{\"table\":\"a\",\"key\":\"x\",\"amount\":-1}\n"
                               "\n"
                               "{\"table\":\"a\",\"key\":\"x\"} {\"table\":\"a\",\"key\":\"\"}\n"
                               "{\"table\":\"a\",\"key\":\"x\"}";
    (void)state;
    struct tally_count_body *body = malloc(sizeof *body);
    parse(body, text, sizeof text - 1);
    assert_int_equal(body->accepted, 3);
    assert_int_equal(body->refused, 3);
    static const uint32_t lines[] = {2, 3, 5}, events[] = {2, 3, 5};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(body->refusals[i].line, lines[i]);
        assert_int_equal(body->refusals[i].event, events[i]);
    }
    tally_count_body_deinit(body);
    free(body);
}

static void limits_hold(void **state)
{
    struct tally_count_body *body = malloc(sizeof *body);
    char *text = malloc(TALLY_COUNT_EVENT_BYTES_MAX * 2 + 200);
    (void)state;
    // Keys of 1024 bytes and of one more, plain, escaped and in base64.
    for (int over = 0; over <= 1; over++) {
        int size = sprintf(text, "{\"table\":\"a\",\"key\":\"%0*d\"}", 1024 + over, 7);
        parse(body, text, (size_t)size);
        assert_int_equal(body->refused, over);
        tally_count_body_deinit(body);
        size = sprintf(text, "{\"table\":\"a\",\"key\":\"");
        for (int i = 0; i < 1024 + over; i++) size += sprintf(text + size, "\\u0001");
        size += sprintf(text + size, "\"}");
        parse(body, text, (size_t)size);
        assert_int_equal(body->refused, over);
        tally_count_body_deinit(body);
        size = sprintf(text, "{\"table\":\"a\",\"key_base64\":\"");
        for (int i = 0; i < 341 + over; i++) size += sprintf(text + size, "AAAA");
        size += sprintf(text + size, "AA==\"}");
        parse(body, text, (size_t)size);
        assert_int_equal(body->refused, over);
        if (over) assert_string_equal(body->refusals[0].why, "the key is longer than 1024 bytes");
        tally_count_body_deinit(body);
    }
    // An event of the greatest size, and of one byte more; the next one is taken all the same.
    for (int over = 0; over <= 1; over++) {
        int size = sprintf(text, "{\"table\":\"a\",\"key\":\"x\",%*s\"amount\":2}", 0, "");
        size = sprintf(text, "{\"table\":\"a\",\"key\":\"x\",%*s\"amount\":2}",
                       (int)TALLY_COUNT_EVENT_BYTES_MAX - size + over, "");
        assert_int_equal(size, TALLY_COUNT_EVENT_BYTES_MAX + over);
        size += sprintf(text + size, "\n{\"table\":\"a\",\"key\":\"y\"}");
        parse(body, text, (size_t)size);
        assert_int_equal(body->refused, over);
        assert_int_equal(body->accepted, 2 - over);
        if (over) assert_string_equal(body->refusals[0].why, "an event of more than 16384 bytes");
        tally_count_body_deinit(body);
    }
    // More wrong events than an answer names.
    size_t size = 0;
    for (unsigned i = 0; i < TALLY_COUNT_REFUSALS_MAX + 5; i++) size += (size_t)sprintf(text + size, "{}\n");
    parse(body, text, size);
    assert_int_equal(body->refused, TALLY_COUNT_REFUSALS_MAX + 5);
    assert_int_equal(body->refusals[TALLY_COUNT_REFUSALS_MAX - 1].line, TALLY_COUNT_REFUSALS_MAX);
    tally_count_body_deinit(body);
    free(text);
    free(body);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(packed_bodies_come_out_as_they_were),
                                       cmocka_unit_test(what_is_cut_short_or_damaged_is_refused),
                                       cmocka_unit_test(a_bomb_is_refused),
                                       cmocka_unit_test(packings_have_names),
                                       cmocka_unit_test(takes_lines_objects_and_arrays),
                                       cmocka_unit_test(takes_every_kind),
                                       cmocka_unit_test(says_what_is_wrong),
                                       cmocka_unit_test(goes_on_behind_a_wrong_line_and_names_it),
                                       cmocka_unit_test(limits_hold)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
