// SPDX-License-Identifier: Apache-2.0
//
// The control messages of proto/tallycast.proto as plain structs: Request (but for a batch, which batch.h
// reads in place), Answer and Heartbeat. Decoding goes through protobuf-c with a bound on what it may
// allocate: at most twice the message, plus what TALLY_QUERY_KEYS_MAX keys need. Encoding writes the fields
// in order and allocates only what the writer grows.
//
// Ownership: a decoded struct owns what it points into, in `owned`, until its free function, which takes the
// same allocator. A struct that is to be encoded borrows everything. Threads: pure functions over their
// arguments.
#ifndef TALLYCAST_MESSAGES_H
#define TALLYCAST_MESSAGES_H

#include <tallycast/alloc.h>
#include <tallycast/digest.h>
#include <tallycast/limits.h>
#include <tallycast/wire.h>

// ---------------------------------------------------------------------------------------------------- a growable writer

// An empty writer that doubles its memory through `alloc`, which must outlive it. Free it with
// tally_writer_free; `size` may be set back to 0 to use the memory again.
struct tally_writer tally_writer_growable(const struct tally_alloc *alloc);

// Frees the memory and leaves an empty growable writer with `failed` cleared.
void tally_writer_free(struct tally_writer *writer);

// ---------------------------------------------------------------------------------------------------- Request

// The numbers are those of the oneof in Request.
enum tally_request_what {
    TALLY_REQUEST_NOTHING = 0, // a kind that this build does not know
    TALLY_REQUEST_BATCH = 1,
    TALLY_REQUEST_HELLO = 2,
    TALLY_REQUEST_CATCH_UP = 3,
    TALLY_REQUEST_QUERY = 4,
};

struct tally_hello {
    struct tally_bytes dataset;
    uint64_t producer; // 0: none
};

// Where the next chunk of a whole state begins.
struct tally_whole_cursor {
    uint64_t epoch, version;
    uint32_t chunk, table, id;
};

struct tally_catch_up {
    struct tally_bytes dataset;
    uint64_t epoch, version;
    bool has_cursor;
    struct tally_whole_cursor cursor;
};

struct tally_query {
    struct tally_bytes dataset, table;
    const struct tally_bytes *keys;
    size_t keys_count; // to TALLY_QUERY_KEYS_MAX
};

struct tally_request {
    enum tally_request_what what;
    struct tally_bytes batch; // BATCH: borrowed from the message, not validated yet; see tally_batch_open
    struct tally_hello hello;
    struct tally_catch_up catch_up;
    struct tally_query query;
    void *owned, *owned_keys;
};

// Checks the seal where there is one (a Request may come without) and decodes. For a batch nothing is
// allocated. Names are validated, keys are 1 to TALLY_KEY_BYTES_MAX bytes. TALLY_OK (also with
// TALLY_REQUEST_NOTHING), TALLY_MALFORMED, TALLY_CORRUPT, TALLY_LIMIT, TALLY_NO_MEMORY. On failure there is
// nothing to free.
TALLY_CHECKED enum tally_status tally_request_decode(const struct tally_alloc *alloc, struct tally_bytes message,
                                                     struct tally_request *out_request);
void tally_request_free(const struct tally_alloc *alloc, struct tally_request *request);

// Appends a sealed Request to `out`. The seal covers what is appended. TALLY_NO_MEMORY when the writer
// failed.
TALLY_CHECKED enum tally_status tally_hello_encode(const struct tally_hello *hello, struct tally_writer *out);
TALLY_CHECKED enum tally_status tally_catch_up_encode(const struct tally_catch_up *catch_up, struct tally_writer *out);
TALLY_CHECKED enum tally_status tally_query_encode(const struct tally_query *query, struct tally_writer *out);

// ---------------------------------------------------------------------------------------------------- Answer

struct tally_answer {
    enum tally_status status;   // of the peer; a number that this build does not know stays as it came
    struct tally_bytes message; // for people
    struct tally_bytes dataset;
    uint64_t epoch, version;
    uint64_t expected_sequence;
    struct tally_bytes frame; // size 0: none
    bool has_cursor;
    struct tally_whole_cursor cursor;
    const bool *found; // Query: one a key
    const int64_t *values;
    size_t values_count;
    void *owned, *owned_found;
};

// The seal is required. Errors as tally_request_decode.
TALLY_CHECKED enum tally_status tally_answer_decode(const struct tally_alloc *alloc, struct tally_bytes message,
                                                    struct tally_answer *out_answer);
void tally_answer_free(const struct tally_alloc *alloc, struct tally_answer *answer);
TALLY_CHECKED enum tally_status tally_answer_encode(const struct tally_answer *answer, struct tally_writer *out);

// ---------------------------------------------------------------------------------------------------- Heartbeat

struct tally_heartbeat {
    struct tally_bytes dataset;
    uint64_t epoch, version;
    struct tally_digest digest;
    uint64_t now_ms;
    void *owned;
};

// The seal is required. Errors as tally_request_decode.
TALLY_CHECKED enum tally_status tally_heartbeat_decode(const struct tally_alloc *alloc, struct tally_bytes message,
                                                       struct tally_heartbeat *out_heartbeat);
void tally_heartbeat_free(const struct tally_alloc *alloc, struct tally_heartbeat *heartbeat);
TALLY_CHECKED enum tally_status tally_heartbeat_encode(const struct tally_heartbeat *heartbeat,
                                                       struct tally_writer *out);

// ---------------------------------------------------------------------------------------------------- what
// PUB sends

enum tally_published_what { TALLY_PUBLISHED_FRAME = 'F', TALLY_PUBLISHED_HEARTBEAT = 'H' };

// dataset name, 0x00, 'F' or 'H': what precedes the sealed message. The first two are the topic to subscribe
// to.
void tally_published_begin(struct tally_writer *writer, struct tally_bytes dataset, enum tally_published_what what);

// Takes a published message apart; all borrowed. TALLY_MALFORMED.
TALLY_CHECKED enum tally_status tally_published_open(struct tally_bytes message, struct tally_bytes *out_dataset,
                                                     enum tally_published_what *out_what,
                                                     struct tally_bytes *out_sealed);

#endif
