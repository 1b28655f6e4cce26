// SPDX-License-Identifier: Apache-2.0
//
// The settings of tallycast-edge.
#ifndef TALLYCAST_EDGE_OPTIONS_H
#define TALLYCAST_EDGE_OPTIONS_H

#include <io/settings.h>

enum edge_client { EDGE_CLIENT_AUTO, EDGE_CLIENT_WASM, EDGE_CLIENT_NATIVE };

struct edge_options {
    const char *data, *dataset, *http, *module;
    struct tally_strings subscribe, catch_up, count;
    uint64_t count_tick_ms, count_memory, count_spool;
    const char *statsd; // null: not listened on
    struct tally_strings statsd_rules;
    unsigned statsd_tags; // place in "key|drop"
    uint64_t statsd_buffer;
    uint64_t threads, max_age_ms, memory_max, grace_ms;
    struct tally_strings guests;
    uint64_t guest_deadline_ms, guest_memory_max;
    unsigned client, log_level, log_format;
    uint64_t streams_max, stream_idle_ms, stream_parts_ms, stream_bytes;
    struct tally_strings stream_origins;
    const char *tls_cert, *tls_key, *tls_ca;
};

extern const struct tally_settings_spec edge_settings;

// What no single setting shows. TALLY_INVALID with the reason.
enum tally_status edge_options_check(const struct edge_options *options, struct tally_reason *out_reason);

#endif
