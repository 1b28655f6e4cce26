// SPDX-License-Identifier: Apache-2.0
//
// Prometheus text, version 0.0.4, written into a struct tally_writer. For each metric: the head once, then
// its samples. Threads: pure functions.
#ifndef TALLYCAST_IO_METRICS_H
#define TALLYCAST_IO_METRICS_H

#include <tallycast/mirror.h>
#include <tallycast/wire.h>

enum tally_metric_type { TALLY_METRIC_COUNTER, TALLY_METRIC_GAUGE };

// "# HELP name help" and "# TYPE name counter".
void tally_metric_head(struct tally_writer *out, const char *name, enum tally_metric_type type, const char *help);
// name{label="value"} number; label null: none.
void tally_metric_sample(struct tally_writer *out, const char *name, const char *label, const char *label_value,
                         uint64_t value);
void tally_metric_sample_seconds(struct tally_writer *out, const char *name, const char *label, const char *label_value,
                                 uint64_t nanoseconds);
// Head and one sample.
void tally_metric_one(struct tally_writer *out, const char *name, enum tally_metric_type type, const char *help,
                      uint64_t value);
void tally_metric_counter(struct tally_writer *out, const char *name, const char *help, uint64_t value);
void tally_metric_gauge(struct tally_writer *out, const char *name, const char *help, uint64_t value);

// tally_mirror_*: what every holder of a mirror tells.
void tally_metrics_mirror(struct tally_writer *out, const struct tally_mirror_stats *stats,
                          const struct tally_view_info *info);
// process_*: resident memory, open files, CPU seconds, start time. Reads /proc.
void tally_metrics_process(struct tally_writer *out);

#endif
