// SPDX-License-Identifier: Apache-2.0
//
// Decoding by protobuf-c, under a budget. Without one, 1 MiB of input makes it allocate up to 56 MiB (empty
// sub-messages) or 44 (unknown fields). What an honest message needs is its own bytes once more, and for a
// query or its answer a few words a key; while parsing also 32 bytes a field that was scanned.
#include <messages/messages.h>
#include <tallycast/batch.h>

#include "tallycast.pb-c.h"

#define BLOCK_BYTES       16u  // what an allocator adds to a block, about
#define KEY_BYTES         160u // a scanned field (doubling slabs), its place in an array, its block
#define BUDGET_BYTES_BASE 16384u

struct budget {
    const struct tally_alloc *alloc;
    size_t left;
    bool over, failed;
    ProtobufCAllocator allocator;
};

static void *budget_alloc(void *ctx, size_t size)
{
    struct budget *budget = ctx;
    if (size > budget->left || budget->left - size < BLOCK_BYTES) {
        budget->over = true;
        return NULL;
    }
    budget->left -= size + BLOCK_BYTES;
    void *block = tally_alloc_resize(budget->alloc, NULL, size ? size : 1);
    if (!block) budget->failed = true;
    return block;
}

static void budget_free(void *ctx, void *block)
{
    struct budget *budget = ctx;
    tally_alloc_free(budget->alloc, block);
}

static void budget_init(struct budget *budget, const struct tally_alloc *alloc, size_t message_size)
{
    *budget = (struct budget){
        .alloc = alloc,
        .left = BUDGET_BYTES_BASE + 2 * message_size + (size_t)TALLY_QUERY_KEYS_MAX * KEY_BYTES,
        .allocator = {.alloc = budget_alloc, .free = budget_free},
    };
    budget->allocator.allocator_data = budget;
}

static enum tally_status unpack(struct budget *budget, const ProtobufCMessageDescriptor *descriptor,
                                struct tally_bytes bytes, void *out_message)
{
    void *message = protobuf_c_message_unpack(descriptor, &budget->allocator, bytes.size, bytes.data);
    if (!message) return budget->failed ? TALLY_NO_MEMORY : budget->over ? TALLY_LIMIT : TALLY_MALFORMED;
    memcpy(out_message, &message, sizeof message);
    return TALLY_OK;
}

static void release(const struct tally_alloc *alloc, void **owned)
{
    struct budget budget;
    if (!*owned) return;
    budget_init(&budget, alloc, 0);
    protobuf_c_message_free_unpacked(*owned, &budget.allocator);
    *owned = NULL;
}

static struct tally_bytes text(const char *string) { return tally_bytes(string, strlen(string)); }
static struct tally_bytes bytes_of(ProtobufCBinaryData data) { return tally_bytes(data.data, data.len); }

static struct tally_whole_cursor cursor_of(const Tallycast__V1__Cursor *cursor)
{
    return (struct tally_whole_cursor){cursor->epoch, cursor->version, cursor->chunk, cursor->table, cursor->id};
}

// ---------------------------------------------------------------------------------------------------- Request

static enum tally_status query_take(const struct tally_alloc *alloc, const Tallycast__V1__Query *from,
                                    struct tally_request *request)
{
    struct tally_query *query = &request->query;
    query->dataset = text(from->dataset);
    query->table = text(from->table);
    if (!tally_name_valid(query->dataset) || !tally_name_valid(query->table)) return TALLY_MALFORMED;
    if (from->n_keys > TALLY_QUERY_KEYS_MAX) return TALLY_LIMIT;
    if (from->n_keys == 0) return TALLY_OK;
    struct tally_bytes *keys = tally_alloc_resize(alloc, NULL, from->n_keys * sizeof *keys);
    if (!keys) return TALLY_NO_MEMORY;
    request->owned_keys = keys;
    for (size_t i = 0; i < from->n_keys; i++) {
        keys[i] = bytes_of(from->keys[i]);
        if (keys[i].size > TALLY_KEY_BYTES_MAX) return TALLY_LIMIT;
        if (keys[i].size == 0) return TALLY_MALFORMED;
    }
    query->keys = keys;
    query->keys_count = from->n_keys;
    return TALLY_OK;
}

static enum tally_status request_take(const struct tally_alloc *alloc, const Tallycast__V1__Request *from,
                                      struct tally_request *request)
{
    switch (from->what_case) {
    case TALLYCAST__V1__REQUEST__WHAT_HELLO:
        request->what = TALLY_REQUEST_HELLO;
        request->hello = (struct tally_hello){text(from->hello->dataset), from->hello->producer};
        return tally_name_valid(request->hello.dataset) ? TALLY_OK : TALLY_MALFORMED;
    case TALLYCAST__V1__REQUEST__WHAT_CATCH_UP:
        request->what = TALLY_REQUEST_CATCH_UP;
        request->catch_up = (struct tally_catch_up){text(from->catch_up->dataset),
                                                    from->catch_up->epoch,
                                                    from->catch_up->version,
                                                    from->catch_up->cursor != NULL,
                                                    {0}};
        if (from->catch_up->cursor) request->catch_up.cursor = cursor_of(from->catch_up->cursor);
        return tally_name_valid(request->catch_up.dataset) ? TALLY_OK : TALLY_MALFORMED;
    case TALLYCAST__V1__REQUEST__WHAT_QUERY:
        request->what = TALLY_REQUEST_QUERY;
        return query_take(alloc, from->query, request);
    default: return TALLY_OK;
    }
}

enum tally_status tally_request_decode(const struct tally_alloc *alloc, struct tally_bytes message,
                                       struct tally_request *out_request)
{
    struct tally_request request = {.what = TALLY_REQUEST_NOTHING};
    if (message.size > TALLY_BATCH_BYTES_MAX) return TALLY_LIMIT;
    // Walks the fields once: finds a batch, and checks the seal when there is one.
    enum tally_status status = tally_request_batch(message, &request.batch);
    if (status == TALLY_OK) {
        request.what = TALLY_REQUEST_BATCH;
        *out_request = request;
        return TALLY_OK;
    }
    if (status != TALLY_NOT_FOUND) return status;
    if (message.size > TALLY_CONTROL_BYTES_MAX) return TALLY_LIMIT;

    struct budget budget;
    Tallycast__V1__Request *from;
    budget_init(&budget, alloc, message.size);
    if ((status = unpack(&budget, &tallycast__v1__request__descriptor, message, &from))) return status;
    request.owned = from;
    if ((status = request_take(alloc, from, &request))) {
        tally_request_free(alloc, &request);
        return status;
    }
    *out_request = request;
    return TALLY_OK;
}

void tally_request_free(const struct tally_alloc *alloc, struct tally_request *request)
{
    tally_alloc_free(alloc, request->owned_keys);
    request->owned_keys = NULL;
    release(alloc, &request->owned);
}

// ---------------------------------------------------------------------------------------------------- Answer

static enum tally_status answer_take(const struct tally_alloc *alloc, const Tallycast__V1__Answer *from,
                                     struct tally_answer *answer)
{
    answer->status = (enum tally_status)from->status;
    answer->message = text(from->message);
    answer->dataset = text(from->dataset);
    answer->epoch = from->epoch;
    answer->version = from->version;
    answer->expected_sequence = from->expected_sequence;
    answer->frame = bytes_of(from->frame);
    answer->has_cursor = from->cursor != NULL;
    if (from->cursor) answer->cursor = cursor_of(from->cursor);
    if (from->n_found != from->n_values) return TALLY_MALFORMED;
    if (from->n_found > TALLY_QUERY_KEYS_MAX) return TALLY_LIMIT;
    if (from->n_found == 0) return TALLY_OK;
    bool *found = tally_alloc_resize(alloc, NULL, from->n_found * sizeof *found);
    if (!found) return TALLY_NO_MEMORY;
    answer->owned_found = found;
    for (size_t i = 0; i < from->n_found; i++) found[i] = from->found[i] != 0;
    answer->found = found;
    answer->values = from->values;
    answer->values_count = from->n_values;
    return TALLY_OK;
}

enum tally_status tally_answer_decode(const struct tally_alloc *alloc, struct tally_bytes message,
                                      struct tally_answer *out_answer)
{
    struct tally_answer answer = {.status = TALLY_OK};
    struct tally_bytes inner;
    struct budget budget;
    Tallycast__V1__Answer *from;
    enum tally_status status;
    if (message.size > TALLY_ANSWER_BYTES_MAX) return TALLY_LIMIT;
    if ((status = tally_unseal(message, &inner))) return status;
    budget_init(&budget, alloc, inner.size);
    if ((status = unpack(&budget, &tallycast__v1__answer__descriptor, inner, &from))) return status;
    answer.owned = from;
    if ((status = answer_take(alloc, from, &answer))) {
        tally_answer_free(alloc, &answer);
        return status;
    }
    *out_answer = answer;
    return TALLY_OK;
}

void tally_answer_free(const struct tally_alloc *alloc, struct tally_answer *answer)
{
    tally_alloc_free(alloc, answer->owned_found);
    answer->owned_found = NULL;
    release(alloc, &answer->owned);
}

// ---------------------------------------------------------------------------------------------------- Heartbeat

enum tally_status tally_heartbeat_decode(const struct tally_alloc *alloc, struct tally_bytes message,
                                         struct tally_heartbeat *out_heartbeat)
{
    struct tally_bytes inner;
    struct budget budget;
    Tallycast__V1__Heartbeat *from;
    enum tally_status status;
    if (message.size > TALLY_CONTROL_BYTES_MAX) return TALLY_LIMIT;
    if ((status = tally_unseal(message, &inner))) return status;
    budget_init(&budget, alloc, inner.size);
    if ((status = unpack(&budget, &tallycast__v1__heartbeat__descriptor, inner, &from))) return status;
    struct tally_heartbeat heartbeat = {.dataset = text(from->dataset),
                                        .epoch = from->epoch,
                                        .version = from->version,
                                        .now_ms = from->now_ms,
                                        .owned = from};
    if (from->digest.len != TALLY_DIGEST_BYTES || !tally_name_valid(heartbeat.dataset)) {
        tally_heartbeat_free(alloc, &heartbeat);
        return TALLY_MALFORMED;
    }
    heartbeat.digest = tally_digest_load(from->digest.data);
    *out_heartbeat = heartbeat;
    return TALLY_OK;
}

void tally_heartbeat_free(const struct tally_alloc *alloc, struct tally_heartbeat *heartbeat)
{
    release(alloc, &heartbeat->owned);
}
