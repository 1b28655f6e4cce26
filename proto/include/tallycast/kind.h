// SPDX-License-Identifier: Apache-2.0
//
// What the values of a table mean; they are signed 64-bit numbers whatever it is. Threads: pure functions.
#ifndef TALLYCAST_KIND_H
#define TALLYCAST_KIND_H

#include <tallycast/bytes.h>

enum tally_kind {
    TALLY_KIND_UNSPECIFIED = 0,
    TALLY_KIND_COUNTER = 1,
    TALLY_KIND_GAUGE = 2,
    TALLY_KIND_MIN = 3,
    TALLY_KIND_MAX = 4,
    TALLY_KIND_DISTINCT = 5,
    TALLY_KIND_TOPK = 6,
    TALLY_KINDS = 7
};

// The row that counts what comes for keys beyond a table's max_keys: there is one where some came.
#define TALLY_OVERFLOW_KEY "__overflow__"

static inline struct tally_bytes tally_overflow_key(void)
{
    return tally_bytes(TALLY_OVERFLOW_KEY, sizeof TALLY_OVERFLOW_KEY - 1);
}

// "counter", "gauge", "min", "max", "distinct", "topk"; "unspecified"; "unknown" for a number that is none of them.
const char *tally_kind_name(enum tally_kind kind);

// The kind of a name, or TALLY_KIND_UNSPECIFIED when it is not the name of one.
enum tally_kind tally_kind_of(struct tally_bytes name);

#endif
