// SPDX-License-Identifier: Apache-2.0
//
// StatsD at the edge: what the listener's thread parses it counts by a counter of its own (edge/counts/counts.h). From there it goes the way of all that is
// counted here. Threads: open and close the loop's; the metrics any.
#ifndef TALLYCAST_EDGE_STATSD_H
#define TALLYCAST_EDGE_STATSD_H

#include "options.h"

#include <edge/counts/counts.h>
#include <io/statsd_listener.h>

struct edge_statsd {
    struct tally_statsd_rules rules;
    struct tally_counts *counts;
    struct tally_counter *counter;          // the listener's thread's
    struct tally_statsd_listener *listener; // null: not asked for
};

// Listens, when that is asked for. What tally_statsd_listen says, with the reason.
TALLY_CHECKED enum tally_status edge_statsd_open(struct edge_statsd *statsd, const struct edge_options *options,
                                                 struct tally_counts *counts, struct tally_reason *out_reason);
// When nobody asks for metrics any more, and before counting ends: takes what the sockets hold. Fine when it was not opened.
void edge_statsd_close(struct edge_statsd *statsd);

#endif
