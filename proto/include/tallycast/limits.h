// SPDX-License-Identifier: Apache-2.0
//
// Every size that comes from outside, in one place. A decoder answers TALLY_LIMIT when one is crossed, and each
// has a test that crosses it.
#ifndef TALLYCAST_LIMITS_H
#define TALLYCAST_LIMITS_H

// Names. Datasets and tables: [a-z0-9_.-]{1,64}. Keys: any bytes.
#define TALLY_NAME_BYTES_MAX 64u
#define TALLY_KEY_BYTES_MAX  1024u

// State.
#define TALLY_TABLES_MAX 256u       // tables in a dataset
#define TALLY_ROWS_MAX   (1u << 28) // live keys in a table
#define TALLY_PRODUCERS_MAX                                                                                            \
    (1u << 16) // producers remembered for dedupe, and as many of one batch; the longest silent goes first

// What a gauge, a min and a max hold: between -TALLY_LEVEL_MAX and this, so that the difference of any two fits into 64 bits.
#define TALLY_LEVEL_MAX (((int64_t)1 << 62) - 1)

// Definitions.
#define TALLY_TOPK_MAX          10000u     // k
#define TALLY_TOPK_CAPACITY_MAX (1u << 20) // keys that a topk table counts
#define TALLY_PRECISION_MIN     10u        // of a sketch: 2^precision registers
#define TALLY_PRECISION_MAX     14u
#define TALLY_SPAN_MS_MAX       (366u * 86400000ull) // of ttl and windows: a leap year
#define TALLY_PANES_MAX         1024u                // panes in a window

// What a clock that jumps ahead may do to one record.
#define TALLY_EXPIRED_MAX (1u << 20) // rows that expire in it; the rest does in the next ones

// Messages, in bytes. A receiver sets these on its socket before it listens or dials.
#define TALLY_BATCH_BYTES_MAX   (1u << 20)  // one Request with a Batch
#define TALLY_RECORD_BYTES_MAX  (16u << 20) // one log record: batches of one tick
#define TALLY_FRAME_BYTES_MAX   (64u << 20) // one delta frame
#define TALLY_CHUNK_BYTES_MAX   (1u << 20)  // one chunk of a whole state
#define TALLY_CONTROL_BYTES_MAX (64u << 10) // Request without Batch, Heartbeat
#define TALLY_ANSWER_BYTES_MAX  (TALLY_FRAME_BYTES_MAX + 4096u)
#define TALLY_BATCH_ENTRIES_MAX (1u << 17) // entries in one batch
// A message of /v1/stream, with its kind. A chunk of a whole state is at least 100 bytes below its own limit.
#define TALLY_STREAM_MESSAGE_BYTES_MAX (1u << 20)

// Counts of an edge that wait for a server: the most that the setting `count-spool` allows, and one group of the spool's file.
#define TALLY_SPOOL_BYTES_MAX       (1u << 30)
#define TALLY_SPOOL_GROUP_BYTES_MAX (2 * TALLY_SPOOL_BYTES_MAX - 1)

// Streams of one process.
#define TALLY_STREAMS_MAX 65536u

// Reads.
#define TALLY_QUERY_KEYS_MAX      4096u      // keys in one Query or one POST /v1/get
#define TALLY_TOP_ROWS_MAX        1000u      // rows that a GET /v1/top answers
#define TALLY_TOP_SCAN_ROWS_MAX   (1u << 18) // rows of a table that it looks through
#define TALLY_HTTP_BODY_BYTES_MAX (8u << 20) // body of one POST
#define TALLY_HTTP_URL_BYTES_MAX  4096u      // path and query; a key may be percent-encoded

#define TALLY_GUEST_ANSWER_BYTES_MAX (1u << 20) // body of what a guest of the edge answers

// Counting by HTTP: POST /v1/count.
#define TALLY_COUNT_BODY_BYTES_MAX      (8u << 20)  // of a body, unpacked
#define TALLY_COUNT_EVENT_BYTES_MAX     16384u      // one event in JSON
#define TALLY_COUNT_REFUSALS_MAX        100u        // wrong events that an answer names
#define TALLY_COUNT_PENDING_BYTES_MAX   (64u << 20) // bodies that wait to be acknowledged, in all; one always may
#define TALLY_IDEMPOTENCY_KEY_BYTES_MAX 255u

// StatsD.
#define TALLY_STATSD_LINE_BYTES_MAX  8192u
#define TALLY_STATSD_TAGS_MAX        64u
#define TALLY_STATSD_RULES_MAX       64u
#define TALLY_STATSD_CONNECTIONS_MAX 1024u       // by TCP
#define TALLY_STATSD_SUMS_BYTES_MAX  (32u << 20) // keys and numbers of one tick

// Readers of one mirror (slots); see mirror.h.
#define TALLY_READERS_MAX 64u

#endif
