// SPDX-License-Identifier: Apache-2.0
//
// Record codec: one entry of the log, as drawn in proto/tallycast.proto. Reading walks the bytes in place, allocates
// nothing and is safe on any bytes; batches stay as their producers wrote them.
// Threads: an object belongs to one thread.
#ifndef TALLYCAST_SERVER_RECORD_H
#define TALLYCAST_SERVER_RECORD_H

#include <tallycast/wire.h>

#include "definitions.h"

struct tally_record_header {
    uint64_t version;
    uint64_t time_ms;
    uint64_t epoch; // not 0: a new epoch begins with this record
};

// ---------------------------------------------------------------------------------------------------- reading

struct tally_record_reader {
    struct tally_record_header header;
    struct tally_wire batches, definitions;
    uint64_t batches_count, definitions_count;
};

// Checks the seal and parses the header. TALLY_MALFORMED, TALLY_CORRUPT, TALLY_LIMIT. Cost: one pass for the seal.
TALLY_CHECKED enum tally_status tally_record_open(struct tally_bytes message, struct tally_record_reader *out_reader);

// The same of bytes that tally_record_open took or tally_record_finish made. Cost: the walk over its batches.
TALLY_CHECKED enum tally_status tally_record_open_again(struct tally_bytes message,
                                                        struct tally_record_reader *out_reader);

// The next batch, not validated (tally_batch_open does that); false after the last.
bool tally_record_next(struct tally_record_reader *reader, struct tally_bytes *out_batch);

// The next definition, not validated (tally_definition_read does that); false after the last.
bool tally_record_next_definition(struct tally_record_reader *reader, struct tally_bytes *out_definition);

// ---------------------------------------------------------------------------------------------------- writing

// What a record needs beside its batches: header fields, seal, and the tag and size of one batch.
#define TALLY_RECORD_HEADER_BYTES_MAX 40u
#define TALLY_RECORD_BATCH_BYTES_MAX  6u

// Batches come first in time, the header is known last: room for it is kept in front. begin, { batch, definition }, finish. Between
// them `out->size` is the record's size so far. Failure to grow is sticky in the writer and told by finish.
void tally_record_begin(struct tally_writer *out);
void tally_record_batch(struct tally_writer *out, struct tally_bytes batch);
// At most TALLY_DEFINITION_BYTES_MAX.
void tally_record_definition(struct tally_writer *out, struct tally_bytes table,
                             const struct tally_definition *definition);
// Writes the header in front and the seal behind. *out_record is borrowed from the writer. TALLY_NO_MEMORY.
TALLY_CHECKED enum tally_status tally_record_finish(struct tally_writer *out, const struct tally_record_header *header,
                                                    struct tally_bytes *out_record);

#endif
