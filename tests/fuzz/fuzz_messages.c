// SPDX-License-Identifier: Apache-2.0
//
// The control messages: every decoder takes the input as it is and sealed; what one accepts is encoded and must be accepted again,
// as the same bytes from then on. The decoders' memory is bounded, and all of it is given back.
#include "fuzz.h"

#include <messages/messages.h>

static struct test_alloc memory;

static enum tally_status encode_request(const struct tally_request *request, struct tally_writer *out)
{
    switch (request->what) {
    case TALLY_REQUEST_HELLO: return tally_hello_encode(&request->hello, out);
    case TALLY_REQUEST_CATCH_UP: return tally_catch_up_encode(&request->catch_up, out);
    case TALLY_REQUEST_QUERY: return tally_query_encode(&request->query, out);
    default: return TALLY_NOT_FOUND;
    }
}

// Decodes and, when that works, encodes into *out: TALLY_OK. Others: refused, or nothing to encode.
static enum tally_status copy_request(struct tally_bytes message, struct tally_writer *out)
{
    struct tally_request request;
    enum tally_status status = tally_request_decode(&memory.alloc, message, &request);
    if (status) return status;
    status = encode_request(&request, out);
    tally_request_free(&memory.alloc, &request);
    return status;
}

static enum tally_status copy_answer(struct tally_bytes message, struct tally_writer *out)
{
    struct tally_answer answer;
    enum tally_status status = tally_answer_decode(&memory.alloc, message, &answer);
    if (status) return status;
    for (size_t i = 0; i < answer.values_count; i++) FUZZ_CHECK(((const uint8_t *)answer.found)[i] <= 1);
    status = tally_answer_encode(&answer, out);
    tally_answer_free(&memory.alloc, &answer);
    return status;
}

static enum tally_status copy_heartbeat(struct tally_bytes message, struct tally_writer *out)
{
    struct tally_heartbeat heartbeat;
    enum tally_status status = tally_heartbeat_decode(&memory.alloc, message, &heartbeat);
    if (status) return status;
    FUZZ_CHECK(tally_name_valid(heartbeat.dataset));
    status = tally_heartbeat_encode(&heartbeat, out);
    tally_heartbeat_free(&memory.alloc, &heartbeat);
    return status;
}

static void both_ways(struct tally_bytes message, enum tally_status (*copy)(struct tally_bytes, struct tally_writer *))
{
    struct tally_writer first = test_writer(), second = test_writer();
    test_alloc_init(&memory);
    memory.bytes_max = 4 * message.size + (1 << 20);
    if (copy(message, &first) == TALLY_OK) {
        FUZZ_CHECK(copy(tally_writer_bytes(&first), &second) == TALLY_OK);
        FUZZ_CHECK(tally_bytes_equal(tally_writer_bytes(&first), tally_writer_bytes(&second)));
    }
    FUZZ_CHECK(memory.blocks == 0);
    // The same with the nth allocation failing: a status, and nothing kept.
    for (size_t n = 1; n <= 8; n++) {
        test_alloc_init(&memory);
        memory.fail_at = n;
        first.size = 0;
        (void)copy(message, &first);
        FUZZ_CHECK(memory.blocks == 0);
    }
    test_writer_free(&first);
    test_writer_free(&second);
}

static void walk(struct tally_bytes message)
{
    both_ways(message, copy_request);
    both_ways(message, copy_answer);
    both_ways(message, copy_heartbeat);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_both(data, size, walk);
    struct tally_bytes dataset, sealed;
    enum tally_published_what what;
    if (tally_published_open(tally_bytes(data, size), &dataset, &what, &sealed) == TALLY_OK) {
        FUZZ_CHECK(tally_name_valid(dataset));
        FUZZ_CHECK(what == TALLY_PUBLISHED_FRAME || what == TALLY_PUBLISHED_HEARTBEAT);
        FUZZ_CHECK(sealed.data + sealed.size == data + size);
    }
    return 0;
}
