// SPDX-License-Identifier: Apache-2.0
//
// Definitions of tables as JSON: an object with the words that the setting `table` has (definitions.h).
//
//   {"kind": "counter", "ttl": "1h", "max-keys": 100000}      {"kind": "topk", "k": 10, "of": "hits"}
//
// A number for ttl is milliseconds. Threads: pure function.
#ifndef TALLYCAST_SERVER_DEFINE_H
#define TALLYCAST_SERVER_DEFINE_H

#include <io/reason.h>

#include "../src/definitions.h"

// TALLY_INVALID with the reason. The definition is complete.
TALLY_CHECKED enum tally_status define_parse(const char *table, struct tally_bytes json,
                                             struct tally_definition *out_definition, struct tally_reason *out_reason);

#endif
