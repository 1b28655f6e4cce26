// SPDX-License-Identifier: Apache-2.0
#include "options.h"

#include <io/address.h>
#include <io/http.h>
#include <io/statsd_listener.h>
#include <string.h>

#include "../src/definitions.h"

#define TEXT(member, name, unit, value, help) TALLY_SETTING_TEXT(struct options, member, name, unit, value, help)
#define NUMBER(member, name, unit, value, min, max, help)                                                              \
    TALLY_SETTING_NUMBER(struct options, member, name, unit, value, min, max, help)
#define CHOICE(member, name, words, value, help) TALLY_SETTING_CHOICE(struct options, member, name, words, value, help)

static const struct tally_setting table[] = {
    TEXT(data, "data", "DIR", "./tallycast-data",
         "Directory of the log and the snapshots; made if it is not there, held by one server at a time"),
    TEXT(dataset, "dataset", "NAME", "main", "Name of the dataset: 1 to 64 of a-z 0-9 _ . -"),
    TEXT(ingest, "ingest", "URL", "tcp://127.0.0.1:7701",
         "Where acknowledged batches come in (NNG REP): tcp://HOST:PORT, tls+tcp://HOST:PORT or ipc:///PATH; port 0 "
         "lets the system choose"),
    TEXT(ingest_pull, "ingest-pull", "URL", NULL,
         "Where unacknowledged batches come in (NNG PULL); not listened on unless set"),
    TEXT(publish, "publish", "URL", "tcp://127.0.0.1:7702", "Where versions go out (NNG PUB)"),
    TEXT(catchup, "catchup", "URL", "tcp://127.0.0.1:7703", "Where who is behind asks (NNG REP)"),
    TEXT(http, "http", "HOST:PORT", "127.0.0.1:8090", "Where HTTP reads, metrics and health are answered"),
    NUMBER(http_threads, "http-threads", "threads", "1", 1, TALLY_HTTP_THREADS_MAX, "Threads that answer HTTP"),
    TEXT(statsd, "statsd", "HOST:PORT", NULL,
         "Where StatsD metrics come in, by UDP and TCP on the same port; not listened on unless set"),
    TALLY_SETTING_LIST(
        struct options, statsd_rules, "statsd-rule", "PREFIX=TABLE", NULL, TALLY_STATSD_RULES_MAX,
        "StatsD metrics whose names begin with PREFIX go, without it, to TABLE, TABLE.gauges and so on, instead of "
        "statsd, statsd.gauges; the longest prefix holds"),
    CHOICE(statsd_tags, "statsd-tags", "key|drop", "key",
           "Whether the tags of StatsD metrics are part of their keys (name;tag=value, sorted) or dropped"),
    NUMBER(statsd_buffer, "statsd-buffer", "bytes", "8M", 4096, 1u << 30,
           "Memory that the system is asked for to hold StatsD datagrams until they are read"),
    NUMBER(tick_ms, "tick", "ms", "20", 1, 60000, "Time between two versions while there is input"),
    CHOICE(tables, "tables", "open|closed", "open",
           "Whether a batch may begin any new table, or only those of --table"),
    TALLY_SETTING_LIST(
        struct options, table, "table", "DEFINITION", NULL, TALLY_TABLES_MAX,
        "Table that is to be: NAME KIND [ttl=1h] [max-keys=N] [window=1h or 1h/1m] [k=N] [capacity=N] [of=TABLE] "
        "[precision=N], KIND being counter, gauge, min, max, distinct or topk; NAME alone: a batch may begin "
        "it though tables are closed"),
    CHOICE(admin, "admin", "off|on", "off", "Whether tables may be defined by HTTP: POST /v1/tables/NAME"),
    CHOICE(durable, "durable", "sync|none", "sync",
           "Whether a batch is acknowledged after its record is on disk (sync) or with the system (none: a crash of "
           "the machine may lose the last, and begins a new epoch)"),
    NUMBER(retention_versions, "retention-versions", "versions", "4096", 1, 1u << 20,
           "Versions whose changes are kept for those who are behind; further back they get the whole state"),
    NUMBER(retention_bytes, "retention-bytes", "bytes", "64M", 1u << 16, (uint64_t)1 << 40,
           "Most bytes of such changes"),
    NUMBER(snapshot_every, "snapshot-every", "records", "10000", 1, 1u << 30,
           "Records between two snapshots; older parts of the log are let go afterwards"),
    NUMBER(heartbeat_ms, "heartbeat", "ms", "1000", 10, 60000, "Time between heartbeats while nothing is published"),
    NUMBER(streams_max, "stream-connections", "streams", "1024", 1, TALLY_STREAMS_MAX,
           "Streams (WebSockets of /v1/stream) that may be open at a time"),
    TALLY_SETTING_LIST(struct options, stream_origins, "stream-origin", "ORIGIN", NULL, 64,
                       "Web origin whose pages may open streams, and count, beside those of this very host, such as "
                       "https://example.org; * lets in any"),
    NUMBER(stream_idle_ms, "stream-idle", "ms", "60000", 100, 86400000,
           "A stream whose guest takes nothing, or does not answer a ping, for so long is ended"),
    NUMBER(stream_parts_ms, "stream-parts", "ms", "120000", 100, 86400000,
           "A stream whose guest takes longer for a whole state, or for a change too large for one message, is ended"),
    NUMBER(stream_bytes, "stream-retention-bytes", "bytes", "32M", 1u << 16, (uint64_t)1 << 40,
           "Most bytes of changes kept for guests that are behind; further back they get the whole state"),
    TEXT(tls.cert, "tls-cert", "FILE", NULL, "Certificate (PEM, with its chain) shown on tls+tcp endpoints"),
    TEXT(tls.key, "tls-key", "FILE", NULL, "Its key (PEM)"),
    TEXT(tls.ca, "tls-ca", "FILE", NULL, "When set, peers must show a certificate of this CA (PEM), or are refused"),
    CHOICE(log_level, "log-level", "debug|info|warn|error", "info", "Least level of log lines"),
    CHOICE(log_format, "log-format", "logfmt|json", "logfmt", "Form of log lines, on stderr"),
    NUMBER(grace_ms, "grace", "ms", "5000", 0, 600000, "Longest time that SIGTERM waits for answers under way"),
    NUMBER(memory_max, "memory-max", "bytes", "4G", 16u << 20, (uint64_t)1 << 42,
           "Most memory for what is served; address space is reserved, memory is taken as the state grows"),
};

const struct tally_settings_spec server_settings = {
    .program = "tallycast-server",
    .summary = "gathers counts into one ordered log and publishes exact versions of them",
    .example = "tallycast-server --data /var/lib/tallycast --dataset main --http 127.0.0.1:8090",
    .version = TALLY_VERSION,
    .table = table,
    .table_count = sizeof table / sizeof *table,
};

static enum tally_status check_table(const char *text, struct tally_reason *out_reason)
{
    struct tally_bytes name, word;
    struct tally_definition definition;
    const char *why;
    bool defined;
    enum tally_status status = tally_definition_parse(text, &name, &definition, &defined, &word, &why);
    if (status)
        tally_reason_set(out_reason, "--table \"%s\": %s%.*s%s%s", text, word.size ? "\"" : "", (int)word.size,
                         (const char *)word.data, word.size ? "\": " : "", why);
    return status;
}

enum tally_status options_check(const struct options *options, struct tally_reason *out_reason)
{
    const struct {
        const char *setting, *url;
    } endpoints[] = {{"ingest", options->ingest},
                     {"ingest-pull", options->ingest_pull},
                     {"publish", options->publish},
                     {"catchup", options->catchup}};
    if (!tally_name_valid(tally_bytes(options->dataset, strlen(options->dataset)))) {
        tally_reason_set(out_reason, "--dataset \"%s\": expected 1 to 64 of a-z 0-9 _ . -", options->dataset);
        return TALLY_INVALID;
    }
    for (size_t i = 0; i < options->table.count; i++) {
        enum tally_status status = check_table(options->table.items[i], out_reason);
        if (status) return status;
    }
    if (!options->tls.cert != !options->tls.key) {
        tally_reason_set(out_reason, "--tls-cert and --tls-key belong together");
        return TALLY_INVALID;
    }
    const struct tally_tls *tls = options->tls.cert || options->tls.ca ? &options->tls : NULL;
    for (size_t i = 0; i < sizeof endpoints / sizeof *endpoints; i++) {
        if (!endpoints[i].url) continue;
        enum tally_status status = tally_endpoint_check(endpoints[i].setting, endpoints[i].url, tls, out_reason);
        if (status) return status;
    }
    struct tally_statsd_rules rules;
    struct tally_address address;
    enum tally_status status = tally_statsd_rules_load(&options->statsd_rules, false, &rules, out_reason);
    if (!status && options->statsd) status = tally_address_parse("statsd", options->statsd, &address, out_reason);
    if (!status)
        status = tally_http_origins_check("stream-origin", options->stream_origins.items, options->stream_origins.count,
                                          out_reason);
    return status ? status : tally_http_check("http", options->http, out_reason);
}
