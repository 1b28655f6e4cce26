// SPDX-License-Identifier: Apache-2.0
//
// The settings of tallycast-server: one table for flags, YAML keys, --help and the example configuration.
#ifndef TALLYCAST_SERVER_OPTIONS_H
#define TALLYCAST_SERVER_OPTIONS_H

#include <io/endpoint.h>
#include <io/settings.h>

struct options {
    const char *data, *dataset;
    const char *ingest, *ingest_pull, *publish, *catchup, *http;
    uint64_t http_threads, tick_ms;
    const char *statsd; // null: not listened on
    struct tally_strings statsd_rules;
    unsigned statsd_tags; // place in "key|drop"
    uint64_t statsd_buffer;
    struct tally_strings table;
    unsigned tables, admin, durable; // places in "open|closed", "sync|none"
    uint64_t retention_versions, retention_bytes, snapshot_every, heartbeat_ms;
    uint64_t streams_max, stream_idle_ms, stream_parts_ms, stream_bytes;
    struct tally_strings stream_origins;
    struct tally_tls tls;
    unsigned log_level, log_format;
    uint64_t grace_ms, memory_max;
};

extern const struct tally_settings_spec server_settings;

// What a table of ranges cannot say: names, URLs, settings that belong together. TALLY_INVALID with the reason.
TALLY_CHECKED enum tally_status options_check(const struct options *options, struct tally_reason *out_reason);

#endif
