// SPDX-License-Identifier: Apache-2.0
//
// StatsD as a producer inside the server's process. The listener's thread merges what comes between two ticks; each tick hands that to the loop, which offers
// it as batches, a table each, so that a table that is refused takes no other with it. While a tally is not through (the server is busy), the next one is
// merged on; what does not fit is counted as full.
#ifndef TALLYCAST_SERVER_STATSD_H
#define TALLYCAST_SERVER_STATSD_H

#include <io/mailbox.h>
#include <io/statsd_listener.h>

#include "inputs.h"

struct daemon;

struct statsd_input {
    struct daemon *daemon;
    struct tally_statsd_rules rules;
    struct tally_statsd_listener *listener; // null: not asked for
    struct tally_mailbox mailbox;           // from the listener's thread
    struct tally_mail mail;
    struct tally_sums sums[2];
    unsigned filling; // which of them: the listener's thread
    _Atomic bool
        handed; // the other one is the loop's: release by the listener's thread, and by the loop when it is empty again
    uint32_t at;      // of the one that is handed: offered up to here
    uint64_t told_ms; // when a refusal was logged last
    struct input_producer producer;
};

// Starts to listen, when that is asked for. Logs why when it fails, and sets the exit code.
bool statsd_open(struct daemon *daemon);
// The loop, at each tick: goes on with what was put off.
void statsd_go_on(struct statsd_input *input);
// The loop: stops listening, and offers what there is.
void statsd_close(struct statsd_input *input);

#endif
