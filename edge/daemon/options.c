// SPDX-License-Identifier: Apache-2.0
#include "options.h"

#include <edge/guests/guests.h>
#include <edge/src/producer.h>
#include <edge/src/sync.h>
#include <io/address.h>
#include <io/endpoint.h>
#include <io/http.h>
#include <io/statsd_listener.h>
#include <string.h>
#include <tallycast/limits.h>

#ifdef TALLY_HAVE_WASMTIME
#define CLIENTS "clients: wasm, native"
#else
#define CLIENTS "client: native (built without Wasmtime)"
#endif

static const struct tally_setting table[] = {
    TALLY_SETTING_TEXT(struct edge_options, data, "data", "DIR", "./tallycast-edge-data",
                       "directory of the stored copy, which the edge starts from"),
    TALLY_SETTING_TEXT(struct edge_options, dataset, "dataset", "NAME", "main", "dataset to follow: a-z 0-9 _ . -"),
    TALLY_SETTING_LIST(struct edge_options, subscribe, "subscribe", "URL", "tcp://127.0.0.1:7702",
                       TALLY_SYNC_SERVERS_MAX, "publish endpoint of a server; once for each server"),
    TALLY_SETTING_LIST(struct edge_options, catch_up, "catchup", "URL", "tcp://127.0.0.1:7703", TALLY_SYNC_SERVERS_MAX,
                       "catch-up endpoint of a server; the nth belongs to the nth subscribe"),
    TALLY_SETTING_LIST(struct edge_options, count, "count", "URL", NULL, TALLY_PRODUCER_SERVERS_MAX,
                       "ingest endpoint of a server, such as tcp://127.0.0.1:7701: what is counted at this edge goes "
                       "there; several must read one log. Without it nothing can be counted here"),
    TALLY_SETTING_NUMBER(struct edge_options, count_tick_ms, "count-tick", "ms", "50", 1, 60000,
                         "what is counted here is merged for so long, then written and sent"),
    TALLY_SETTING_NUMBER(struct edge_options, count_memory, "count-memory", "bytes", "16M", 1 << 18, 1 << 30,
                         "memory in which the counts of one tick are merged"),
    TALLY_SETTING_NUMBER(struct edge_options, count_spool, "count-spool", "bytes", "64M", 1 << 19,
                         TALLY_SPOOL_BYTES_MAX,
                         "most bytes of merged counts that wait for a server, at least twice count-memory; then new "
                         "keys are refused. Its file takes up to twice as much"),
    TALLY_SETTING_TEXT(
        struct edge_options, statsd, "statsd", "HOST:PORT", NULL,
        "where StatsD metrics come in, by UDP and TCP on the same port; not listened on unless set; wants count"),
    TALLY_SETTING_LIST(
        struct edge_options, statsd_rules, "statsd-rule", "PREFIX=TABLE", NULL, TALLY_STATSD_RULES_MAX,
        "StatsD metrics whose names begin with PREFIX go, without it, to TABLE, TABLE.gauges and so on, instead of "
        "statsd, statsd.gauges; the longest prefix holds"),
    TALLY_SETTING_CHOICE(
        struct edge_options, statsd_tags, "statsd-tags", "key|drop", "key",
        "whether the tags of StatsD metrics are part of their keys (name;tag=value, sorted) or dropped"),
    TALLY_SETTING_NUMBER(struct edge_options, statsd_buffer, "statsd-buffer", "bytes", "8M", 4096, 1u << 30,
                         "memory that the system is asked for to hold StatsD datagrams until they are read"),
    TALLY_SETTING_TEXT(struct edge_options, http, "http", "HOST:PORT", "127.0.0.1:8091", "where reads are answered"),
    TALLY_SETTING_NUMBER(struct edge_options, threads, "threads", "threads", "2", 1, TALLY_HTTP_THREADS_MAX,
                         "threads that answer reads, each with its own client instance"),
    TALLY_SETTING_NUMBER(struct edge_options, max_age_ms, "max-age", "ms", "5000", 100, 86400000,
                         "a version older than this is stale, and the edge not ready"),
    TALLY_SETTING_CHOICE(struct edge_options, client, "client", "auto|wasm|native", "auto",
                         "what reads are answered by: the WASM client in Wasmtime, the same code built natively, or "
                         "the first where it can be had"),
    TALLY_SETTING_TEXT(
        struct edge_options, module, "module", "FILE", NULL,
        "tallycast-shared.wasm, taken anew when the file changes and on SIGHUP; without this setting the one that "
        "was built or installed with the edge"),
    TALLY_SETTING_NUMBER(struct edge_options, memory_max, "memory-max", "bytes", "4G", (uint64_t)64 << 20,
                         (uint64_t)1 << 40, "bound of the mirror's memory; the WASM client takes 4G at most"),
    TALLY_SETTING_LIST(struct edge_options, guests, "guest", "NAME=FILE", NULL, TALLY_GUESTS_MAX,
                       "WebAssembly module that answers /v1/guest/NAME (docs/guests.md); once for each guest"),
    TALLY_SETTING_NUMBER(struct edge_options, guest_deadline_ms, "guest-deadline", "ms", "100", 10, 10000,
                         "a call of a guest that takes longer is ended and answered with 504"),
    TALLY_SETTING_NUMBER(struct edge_options, guest_memory_max, "guest-memory-max", "bytes", "16M", 64 << 10,
                         (uint64_t)1 << 32, "most memory of one instance of a guest; each thread has its own"),
    TALLY_SETTING_NUMBER(struct edge_options, streams_max, "stream-connections", "streams", "1024", 1,
                         TALLY_STREAMS_MAX, "streams (WebSockets of /v1/stream) that may be open at a time"),
    TALLY_SETTING_LIST(struct edge_options, stream_origins, "stream-origin", "ORIGIN", NULL, 64,
                       "web origin whose pages may open streams, and count, beside those of this very host, such as "
                       "https://example.org; * lets in any"),
    TALLY_SETTING_NUMBER(struct edge_options, stream_idle_ms, "stream-idle", "ms", "60000", 100, 86400000,
                         "a stream whose guest takes nothing, or does not answer a ping, for so long is ended"),
    TALLY_SETTING_NUMBER(struct edge_options, stream_parts_ms, "stream-parts", "ms", "120000", 100, 86400000,
                         "a stream whose guest takes longer for a whole state, or for a change too large for one "
                         "message, is ended"),
    TALLY_SETTING_NUMBER(
        struct edge_options, stream_bytes, "stream-retention-bytes", "bytes", "32M", 1 << 16, (uint64_t)1 << 40,
        "most bytes of changes kept for guests that are behind; further back they get the whole state"),
    TALLY_SETTING_TEXT(struct edge_options, tls_cert, "tls-cert", "FILE", NULL, "certificate shown to servers (PEM)"),
    TALLY_SETTING_TEXT(struct edge_options, tls_key, "tls-key", "FILE", NULL, "its key (PEM)"),
    TALLY_SETTING_TEXT(struct edge_options, tls_ca, "tls-ca", "FILE", NULL,
                       "what the certificates of servers are checked with (PEM); needed for tls+tcp"),
    TALLY_SETTING_CHOICE(struct edge_options, log_level, "log-level", "debug|info|warn|error", "info",
                         "the least that is logged"),
    TALLY_SETTING_CHOICE(struct edge_options, log_format, "log-format", "logfmt|json", "logfmt", "form of a log line"),
    TALLY_SETTING_NUMBER(struct edge_options, grace_ms, "grace", "ms", "5000", 0, 600000,
                         "time to answer what was asked and to write the stored copy when stopped"),
};

const struct tally_settings_spec edge_settings = {
    .program = "tallycast-edge",
    .summary = "an exact, verified, read-only copy of a dataset (" CLIENTS ")",
    .example = "tallycast-edge --subscribe tcp://127.0.0.1:7702 --catchup tcp://127.0.0.1:7703 --http 127.0.0.1:8091",
    .version = TALLY_VERSION " (" CLIENTS ")",
    .table = table,
    .table_count = sizeof table / sizeof *table,
};

enum tally_status edge_options_check(const struct edge_options *options, struct tally_reason *out_reason)
{
    const struct tally_tls tls = {.cert = options->tls_cert, .key = options->tls_key, .ca = options->tls_ca};
    if (!tally_name_valid(tally_bytes(options->dataset, strlen(options->dataset)))) {
        tally_reason_set(out_reason, "--dataset %s: a name has 1 to 64 of a-z 0-9 _ . -", options->dataset);
        return TALLY_INVALID;
    }
    if (!options->tls_cert != !options->tls_key) {
        tally_reason_set(out_reason, "--tls-cert and --tls-key belong together");
        return TALLY_INVALID;
    }
    if (!options->subscribe.count || options->subscribe.count != options->catch_up.count) {
        tally_reason_set(out_reason, "--subscribe is given for %zu servers, --catchup for %zu: each server has both",
                         options->subscribe.count, options->catch_up.count);
        return TALLY_INVALID;
    }
    if (options->statsd && !options->count.count) {
        tally_reason_set(out_reason, "--statsd wants --count: what comes in must go to a server");
        return TALLY_INVALID;
    }
    struct tally_statsd_rules rules;
    struct tally_address address;
    enum tally_status listen = tally_statsd_rules_load(&options->statsd_rules, false, &rules, out_reason);
    if (!listen && options->statsd) listen = tally_address_parse("statsd", options->statsd, &address, out_reason);
    if (listen) return listen;
    if (options->count_spool < 2 * options->count_memory) {
        tally_reason_set(out_reason, "--count-spool is less than twice --count-memory");
        return TALLY_INVALID;
    }
#ifndef TALLY_HAVE_WASMTIME
    if (options->client == EDGE_CLIENT_WASM) {
        tally_reason_set(out_reason, "--client wasm: this edge was built without Wasmtime");
        return TALLY_INVALID;
    }
    if (options->guests.count) {
        tally_reason_set(out_reason, "--guest %s: this edge was built without Wasmtime", options->guests.items[0]);
        return TALLY_INVALID;
    }
    enum tally_status status = TALLY_OK;
#else
    enum tally_status status = tally_guests_check(&options->guests, out_reason);
#endif
    if (status == TALLY_OK) status = tally_http_check("http", options->http, out_reason);
    if (status == TALLY_OK)
        status = tally_http_origins_check("stream-origin", options->stream_origins.items, options->stream_origins.count,
                                          out_reason);
    for (size_t i = 0; status == TALLY_OK && i < options->subscribe.count; i++) {
        status = tally_endpoint_check("subscribe", options->subscribe.items[i], &tls, out_reason);
        if (status == TALLY_OK) status = tally_endpoint_check("catchup", options->catch_up.items[i], &tls, out_reason);
    }
    for (size_t i = 0; status == TALLY_OK && i < options->count.count; i++)
        status = tally_endpoint_check("count", options->count.items[i], &tls, out_reason);
    return status;
}
