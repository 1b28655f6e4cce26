// SPDX-License-Identifier: Apache-2.0
//
// Reading Prometheus text. Threads: pure functions.
#ifndef TALLYCAST_CLI_METRICS_H
#define TALLYCAST_CLI_METRICS_H

#include <tallycast/bytes.h>

// The sum of all samples of the metric `name`, over its labels. False when there is none, or one that is no
// number.
bool cli_metric_sum(struct tally_bytes text, const char *name, double *out_sum);

#endif
