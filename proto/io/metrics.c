// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <io/metrics.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

__attribute__((format(printf, 2, 3))) static void print(struct tally_writer *out, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size > 0) tally_write_raw(out, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
}

void tally_metric_head(struct tally_writer *out, const char *name, enum tally_metric_type type, const char *help)
{
    print(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type == TALLY_METRIC_COUNTER ? "counter" : "gauge");
}

static void series(struct tally_writer *out, const char *name, const char *label, const char *label_value)
{
    print(out, "%s", name);
    if (!label) return;
    print(out, "{%s=\"", label);
    for (const char *p = label_value; *p; p++) {
        if (*p == '"' || *p == '\\') tally_write_raw(out, "\\", 1);
        tally_write_raw(out, *p == '\n' ? " " : p, 1);
    }
    print(out, "\"}");
}

void tally_metric_sample(struct tally_writer *out, const char *name, const char *label, const char *label_value,
                         uint64_t value)
{
    series(out, name, label, label_value);
    print(out, " %" PRIu64 "\n", value);
}

void tally_metric_sample_seconds(struct tally_writer *out, const char *name, const char *label, const char *label_value,
                                 uint64_t nanoseconds)
{
    series(out, name, label, label_value);
    print(out, " %" PRIu64 ".%09" PRIu64 "\n", nanoseconds / 1000000000u, nanoseconds % 1000000000u);
}

void tally_metric_one(struct tally_writer *out, const char *name, enum tally_metric_type type, const char *help,
                      uint64_t value)
{
    tally_metric_head(out, name, type, help);
    tally_metric_sample(out, name, NULL, NULL, value);
}

void tally_metric_counter(struct tally_writer *out, const char *name, const char *help, uint64_t value)
{
    tally_metric_one(out, name, TALLY_METRIC_COUNTER, help, value);
}

void tally_metric_gauge(struct tally_writer *out, const char *name, const char *help, uint64_t value)
{
    tally_metric_one(out, name, TALLY_METRIC_GAUGE, help, value);
}

void tally_metrics_mirror(struct tally_writer *out, const struct tally_mirror_stats *stats,
                          const struct tally_view_info *info)
{
    const enum tally_metric_type counter = TALLY_METRIC_COUNTER, gauge = TALLY_METRIC_GAUGE;
    tally_metric_one(out, "tally_mirror_version", gauge, "Version being served.", info->version);
    tally_metric_one(out, "tally_mirror_rows", gauge, "Live keys of all tables.", info->rows);
    tally_metric_one(out, "tally_mirror_tables", gauge, "Tables.", info->tables);
    tally_metric_head(out, "tally_mirror_reads_total", counter, "Reads of single keys, by result.");
    tally_metric_sample(out, "tally_mirror_reads_total", "result", "hit", stats->hits);
    tally_metric_sample(out, "tally_mirror_reads_total", "result", "miss", stats->misses);
    tally_metric_one(out, "tally_mirror_applies_total", counter, "Frames and chunks taken.", stats->applies);
    tally_metric_one(out, "tally_mirror_refused_total", counter, "Frames and chunks refused.", stats->refused);
    tally_metric_one(out, "tally_mirror_swaps_total", counter, "Versions published to readers.", stats->swaps);
    tally_metric_one(out, "tally_mirror_rows_changed_total", counter, "Rows removed, changed or added.",
                     stats->rows_changed);
    tally_metric_one(out, "tally_mirror_retired_bytes", gauge, "Bytes that wait for readers to let go.",
                     stats->retired_bytes);
    tally_metric_one(out, "tally_mirror_used_bytes", gauge, "Bytes in use.", stats->used_bytes);
    tally_metric_one(out, "tally_mirror_memory_bytes", gauge, "Bytes taken from the host.", stats->memory_bytes);
    tally_metric_one(out, "tally_mirror_readers", gauge, "Open readers.", stats->readers);
    tally_metric_one(out, "tally_mirror_stalled_readers", gauge, "Readers that hold an earlier version.",
                     stats->stalled_readers);
}

void tally_metrics_process(struct tally_writer *out)
{
    unsigned long long size = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "re");
    if (statm) {
        if (fscanf(statm, "%llu %llu", &size, &resident) != 2) resident = 0;
        (void)fclose(statm);
    }
    tally_metric_one(out, "process_resident_memory_bytes", TALLY_METRIC_GAUGE, "Resident memory.",
                     (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE));
    struct rusage usage = {0};
    (void)getrusage(RUSAGE_SELF, &usage);
    uint64_t cpu_us = ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * 1000000u +
                      (uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec;
    tally_metric_head(out, "process_cpu_seconds_total", TALLY_METRIC_COUNTER, "User and system time.");
    tally_metric_sample_seconds(out, "process_cpu_seconds_total", NULL, NULL, cpu_us * 1000u);
}
