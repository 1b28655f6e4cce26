// SPDX-License-Identifier: Apache-2.0
//
// A record log around another that takes the time of appends: the core has no clock. Threads: as the log, the figures any.
#ifndef TALLYCAST_SERVER_TIMED_LOG_H
#define TALLYCAST_SERVER_TIMED_LOG_H

#include <stdatomic.h>

#include "../src/record_log.h"

struct timed_log {
    struct tally_record_log log;    // first; hand out &log
    struct tally_record_log *inner; // owned: closed with this one
    _Atomic uint64_t appends, append_ns;
};

// `log` is the caller's storage.
void timed_log_init(struct timed_log *log, struct tally_record_log *inner);

#endif
