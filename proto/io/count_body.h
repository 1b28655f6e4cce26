// SPDX-License-Identifier: Apache-2.0
//
// What POST /v1/count brings, as merged counts: events in JSON, one object after another (a line each, or not), or an array of them.
//
//   {"table": "files", "key": "a/b", "amount": 3}            a counter; without an amount 1
//   {"table": "loads", "key": "host7", "set": -12}           a gauge; or "adjust"
//   {"table": "users", "key": "de", "member": "alice"}       distinct
//   {"table": "best", "key": "x", "kind": "max", "amount": 9} min, max, topk, and the others by name
//
// Keys and members are bytes: those that are no UTF-8 come as "key_base64", "member_base64". An event that is wrong is noted with its line and left
// out. Threads: an object belongs to one thread at a time. Limits: TALLY_COUNT_EVENT_BYTES_MAX an event; memory about five times the body.
#ifndef TALLYCAST_IO_COUNT_BODY_H
#define TALLYCAST_IO_COUNT_BODY_H

#include <sums/sums.h>
#include <tallycast/limits.h>

#define TALLY_COUNT_WHY_BYTES 128u

struct tally_count_refusal {
    uint32_t line, event;            // from 1: where it begins, and which it is
    char why[TALLY_COUNT_WHY_BYTES]; // NUL-terminated UTF-8
};

struct tally_count_body {
    struct tally_sums sums;
    uint32_t accepted, refused;                                    // events
    struct tally_count_refusal refusals[TALLY_COUNT_REFUSALS_MAX]; // the first of them
};

// `seed`: random. Ends with deinit, whatever parse said.
void tally_count_body_init(struct tally_count_body *body, struct tally_seed seed);
void tally_count_body_deinit(struct tally_count_body *body);

// Takes all of `text` in. What is wrong is in the refusals. TALLY_NO_MEMORY, TALLY_FULL (of sums.h).
TALLY_CHECKED enum tally_status tally_count_body_parse(struct tally_count_body *body, struct tally_bytes text);

#endif
