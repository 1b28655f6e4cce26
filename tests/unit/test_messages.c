// SPDX-License-Identifier: Apache-2.0
//
// Control messages: what goes in comes out, what is damaged or too much is refused, and what decoding takes is bounded and given back.
#include "../support/build.h"
#include "../support/random.h"
#include "../support/with_cmocka.h"

#include <messages/messages.h>

#define BYTES(text) tally_bytes((text), sizeof(text) - 1)

static void check_same(struct tally_bytes a, struct tally_bytes b)
{
    assert_int_equal(a.size, b.size);
    if (a.size) assert_memory_equal(a.data, b.data, a.size);
}

// Something of each kind in `out`, one after the other; answers where each begins.
enum { HELLO, CATCH_UP, CATCH_UP_CURSOR, QUERY, ANSWER, ANSWER_VALUES, HEARTBEAT, MESSAGES };

static const struct tally_whole_cursor cursor = {UINT64_MAX, UINT64_MAX - 1, UINT32_MAX, 255, UINT32_MAX - 2};
static const struct tally_bytes keys[] = {{(const uint8_t *)"a\0b", 3}, {(const uint8_t *)"k", 1}};
static const int64_t values[] = {INT64_MIN, 7};
static const bool found[] = {true, false};

static enum tally_status encode(unsigned which, struct tally_writer *out)
{
    struct tally_bytes dataset = BYTES("main");
    switch (which) {
    case HELLO: return tally_hello_encode(&(struct tally_hello){dataset, 42}, out);
    case CATCH_UP:
        return tally_catch_up_encode(&(struct tally_catch_up){.dataset = dataset, .epoch = 9, .version = 5}, out);
    case CATCH_UP_CURSOR: return tally_catch_up_encode(&(struct tally_catch_up){dataset, 0, 0, true, cursor}, out);
    case QUERY: return tally_query_encode(&(struct tally_query){dataset, BYTES("files"), keys, 2}, out);
    case ANSWER:
        return tally_answer_encode(&(struct tally_answer){.status = TALLY_HOLE,
                                                          .message = BYTES("why"),
                                                          .dataset = dataset,
                                                          .epoch = 9,
                                                          .version = 5,
                                                          .expected_sequence = UINT64_MAX,
                                                          .frame = BYTES("\0frame"),
                                                          .has_cursor = true,
                                                          .cursor = cursor},
                                   out);
    case ANSWER_VALUES:
        return tally_answer_encode(
            &(struct tally_answer){.dataset = dataset, .found = found, .values = values, .values_count = 2}, out);
    default:
        return tally_heartbeat_encode(&(struct tally_heartbeat){dataset, 9, 5, {1, UINT64_MAX}, 1763800000000, NULL},
                                      out);
    }
}

static enum tally_status decode(unsigned which, const struct tally_alloc *alloc, struct tally_bytes message)
{
    struct tally_request request;
    struct tally_answer answer;
    struct tally_heartbeat heartbeat;
    enum tally_status status;
    if (which <= QUERY) {
        if ((status = tally_request_decode(alloc, message, &request)) == TALLY_OK) tally_request_free(alloc, &request);
    } else if (which <= ANSWER_VALUES) {
        if ((status = tally_answer_decode(alloc, message, &answer)) == TALLY_OK) tally_answer_free(alloc, &answer);
    } else {
        status = tally_heartbeat_decode(alloc, message, &heartbeat);
        if (status == TALLY_OK) tally_heartbeat_free(alloc, &heartbeat);
    }
    return status;
}

static void check_cursor(const struct tally_whole_cursor *got)
{
    assert_true(got->epoch == cursor.epoch && got->version == cursor.version && got->chunk == cursor.chunk &&
                got->table == cursor.table && got->id == cursor.id);
}

static void test_requests(void **state)
{
    (void)state;
    struct test_alloc alloc;
    struct tally_writer out = tally_writer_growable(&tally_alloc_libc);
    struct tally_request request;
    test_alloc_init(&alloc);
    assert_int_equal(encode(HELLO, &out), TALLY_OK);
    assert_int_equal(tally_request_decode(&alloc.alloc, tally_writer_bytes(&out), &request), TALLY_OK);
    assert_int_equal(request.what, TALLY_REQUEST_HELLO);
    check_same(request.hello.dataset, BYTES("main"));
    assert_int_equal(request.hello.producer, 42);
    tally_request_free(&alloc.alloc, &request);

    // Without the seal too: a hand-made client may leave it out.
    assert_int_equal(tally_request_decode(&alloc.alloc, tally_bytes(out.data, out.size - TALLY_SEAL_BYTES), &request),
                     TALLY_OK);
    assert_int_equal(request.what, TALLY_REQUEST_HELLO);
    tally_request_free(&alloc.alloc, &request);

    out.size = 0;
    assert_int_equal(encode(CATCH_UP_CURSOR, &out), TALLY_OK);
    assert_int_equal(tally_request_decode(&alloc.alloc, tally_writer_bytes(&out), &request), TALLY_OK);
    assert_int_equal(request.what, TALLY_REQUEST_CATCH_UP);
    assert_true(request.catch_up.has_cursor);
    check_cursor(&request.catch_up.cursor);
    tally_request_free(&alloc.alloc, &request);

    out.size = 0;
    assert_int_equal(encode(QUERY, &out), TALLY_OK);
    assert_int_equal(tally_request_decode(&alloc.alloc, tally_writer_bytes(&out), &request), TALLY_OK);
    assert_int_equal(request.what, TALLY_REQUEST_QUERY);
    assert_int_equal(request.query.keys_count, 2);
    check_same(request.query.table, BYTES("files"));
    check_same(request.query.keys[0], keys[0]);
    tally_request_free(&alloc.alloc, &request);

    // A batch is found in place.
    struct test_batch batch;
    test_batch_init(&batch);
    tally_batch_begin(&batch.writer, &(struct tally_batch_header){BYTES("main"), 1, 1});
    tally_batch_table_begin(&batch.writer, BYTES("files"));
    tally_batch_add(&batch.writer, BYTES("key"), 3);
    tally_batch_table_end(&batch.writer);
    assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
    assert_int_equal(tally_request_decode(&alloc.alloc, tally_writer_bytes(&batch.out), &request), TALLY_OK);
    assert_int_equal(request.what, TALLY_REQUEST_BATCH);
    assert_true(request.batch.data > batch.out.data && request.batch.data < batch.out.data + batch.out.size);
    test_batch_free(&batch);
    tally_writer_free(&out);
    assert_int_equal(alloc.blocks, 0);
}

static void test_answers(void **state)
{
    (void)state;
    struct test_alloc alloc;
    struct tally_writer out = tally_writer_growable(&tally_alloc_libc);
    struct tally_answer answer;
    struct tally_heartbeat heartbeat;
    test_alloc_init(&alloc);
    assert_int_equal(encode(ANSWER, &out), TALLY_OK);
    assert_int_equal(tally_answer_decode(&alloc.alloc, tally_writer_bytes(&out), &answer), TALLY_OK);
    assert_int_equal(answer.status, TALLY_HOLE);
    check_same(answer.message, BYTES("why"));
    check_same(answer.frame, BYTES("\0frame"));
    assert_true(answer.expected_sequence == UINT64_MAX && answer.epoch == 9 && answer.version == 5);
    check_cursor(&answer.cursor);
    tally_answer_free(&alloc.alloc, &answer);

    out.size = 0;
    assert_int_equal(encode(ANSWER_VALUES, &out), TALLY_OK);
    assert_int_equal(tally_answer_decode(&alloc.alloc, tally_writer_bytes(&out), &answer), TALLY_OK);
    assert_int_equal(answer.values_count, 2);
    for (unsigned i = 0; i < 2; i++) assert_true(answer.found[i] == found[i] && answer.values[i] == values[i]);
    tally_answer_free(&alloc.alloc, &answer);

    out.size = 0;
    assert_int_equal(encode(HEARTBEAT, &out), TALLY_OK);
    assert_int_equal(tally_heartbeat_decode(&alloc.alloc, tally_writer_bytes(&out), &heartbeat), TALLY_OK);
    assert_true(heartbeat.digest.lo == 1 && heartbeat.digest.hi == UINT64_MAX && heartbeat.now_ms == 1763800000000);
    tally_heartbeat_free(&alloc.alloc, &heartbeat);
    tally_writer_free(&out);
    assert_int_equal(alloc.blocks, 0);
}

// Every byte flipped, every length cut: refused (seals required), or for an unsealed request at least no harm.
static void test_damage(void **state)
{
    (void)state;
    struct test_alloc alloc;
    test_alloc_init(&alloc);
    for (unsigned which = 0; which < MESSAGES; which++) {
        struct tally_writer out = tally_writer_growable(&tally_alloc_libc);
        assert_int_equal(encode(which, &out), TALLY_OK);
        assert_int_equal(decode(which, &alloc.alloc, tally_writer_bytes(&out)), TALLY_OK);
        for (size_t size = 0; size < out.size; size++) {
            uint8_t *cut = test_exact_copy(out.data, size);
            enum tally_status status = decode(which, &alloc.alloc, tally_bytes(cut, size));
            if (which > QUERY) assert_int_not_equal(status, TALLY_OK);
            free(cut);
        }
        for (size_t at = 0; at < out.size; at++) {
            out.data[at] ^= 0x10;
            enum tally_status status = decode(which, &alloc.alloc, tally_writer_bytes(&out));
            if (which > QUERY) assert_int_not_equal(status, TALLY_OK);
            out.data[at] ^= 0x10;
        }
        tally_writer_free(&out);
    }
    assert_int_equal(alloc.blocks, 0);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (unsigned which = 0; which < MESSAGES; which++) {
        struct tally_writer out = tally_writer_growable(&tally_alloc_libc);
        assert_int_equal(encode(which, &out), TALLY_OK);
        enum tally_status status = TALLY_NO_MEMORY;
        for (size_t nth = 1; status == TALLY_NO_MEMORY; nth++) {
            struct test_alloc alloc;
            test_alloc_init(&alloc);
            alloc.fail_at = nth;
            status = decode(which, &alloc.alloc, tally_writer_bytes(&out));
            assert_int_equal(alloc.blocks, 0);
            assert_true(nth < 100);
        }
        assert_int_equal(status, TALLY_OK);
        // The writer itself.
        struct test_alloc none;
        test_alloc_init(&none);
        none.fail_at = 1;
        struct tally_writer failing = tally_writer_growable(&none.alloc);
        assert_int_equal(encode(which, &failing), TALLY_NO_MEMORY);
        tally_writer_free(&failing);
        assert_int_equal(none.blocks, 0);
        tally_writer_free(&out);
    }
}

// Messages made to cost much: what decoding takes stays within twice their size and what TALLY_QUERY_KEYS_MAX keys need.
static void test_budget(void **state)
{
    (void)state;
    const size_t base = 1 << 20;
    struct tally_writer body = tally_writer_growable(&tally_alloc_libc), out = tally_writer_growable(&tally_alloc_libc);
    for (unsigned what = 0; what < 3; what++) {
        struct test_alloc alloc;
        test_alloc_init(&alloc);
        alloc.bytes_max = 2 * TALLY_CONTROL_BYTES_MAX + base;
        out.size = body.size = 0;
        while (body.size < TALLY_CONTROL_BYTES_MAX - 64) {
            if (what == 0)
                tally_write_bytes(&body, 3, BYTES("k")); // too many keys
            else if (what == 1)
                tally_write_uint(&body, 99, 1); // unknown fields
            else
                tally_write_bytes(&body, 3, BYTES("")); // empty keys
        }
        tally_write_bytes(&out, TALLY_REQUEST_QUERY, tally_writer_bytes(&body));
        struct tally_request request;
        enum tally_status status = tally_request_decode(&alloc.alloc, tally_writer_bytes(&out), &request);
        assert_true(status == TALLY_LIMIT || status == TALLY_MALFORMED);
        assert_int_equal(alloc.blocks, 0);
    }
    // As many keys as are allowed, one byte each: they go in.
    struct tally_bytes many[TALLY_QUERY_KEYS_MAX];
    for (size_t i = 0; i < TALLY_QUERY_KEYS_MAX; i++) many[i] = BYTES("k");
    out.size = 0;
    assert_int_equal(
        tally_query_encode(&(struct tally_query){BYTES("main"), BYTES("files"), many, TALLY_QUERY_KEYS_MAX}, &out),
        TALLY_OK);
    assert_int_equal(decode(QUERY, &tally_alloc_libc, tally_writer_bytes(&out)), TALLY_OK);
    // A control message over its limit.
    out.size = body.size = 0;
    for (size_t i = 0; i < TALLY_CONTROL_BYTES_MAX; i++) tally_write_raw(&body, "x", 1);
    tally_write_bytes(&out, 77, tally_writer_bytes(&body));
    assert_int_equal(decode(QUERY, &tally_alloc_libc, tally_writer_bytes(&out)), TALLY_LIMIT);
    tally_writer_free(&out);
    tally_writer_free(&body);
}

static void test_published(void **state)
{
    (void)state;
    struct tally_writer out = tally_writer_growable(&tally_alloc_libc);
    struct tally_bytes dataset, sealed;
    enum tally_published_what what;
    tally_published_begin(&out, BYTES("main"), TALLY_PUBLISHED_HEARTBEAT);
    tally_write_raw(&out, "rest", 4);
    assert_memory_equal(out.data, "main\0Hrest", 10);
    assert_int_equal(tally_published_open(tally_writer_bytes(&out), &dataset, &what, &sealed), TALLY_OK);
    check_same(dataset, BYTES("main"));
    assert_int_equal(what, TALLY_PUBLISHED_HEARTBEAT);
    check_same(sealed, BYTES("rest"));
    static const struct tally_bytes wrong[] = {{NULL, 0},
                                               {(const uint8_t *)"main", 4},
                                               {(const uint8_t *)"main\0", 5},
                                               {(const uint8_t *)"main\0X", 6},
                                               {(const uint8_t *)"\0F", 2},
                                               {(const uint8_t *)"Main\0F", 6}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(tally_published_open(wrong[i], &dataset, &what, &sealed), TALLY_MALFORMED);
    tally_writer_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),  cmocka_unit_test(test_answers), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_no_memory), cmocka_unit_test(test_budget),  cmocka_unit_test(test_published),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
