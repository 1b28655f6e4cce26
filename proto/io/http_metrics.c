// SPDX-License-Identifier: Apache-2.0
#include "http_internal.h"

#include <io/metrics.h>

static uint64_t sum(const struct tally_http *http, size_t offset)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < http->threads_count; i++) {
        const char *counters = (const char *)&http->threads[i].counters;
        total +=
            atomic_load_explicit((const _Atomic uint64_t *)(const void *)(counters + offset), memory_order_relaxed);
    }
    return total;
}

#define SUM(http, member) sum((http), offsetof(struct http_counters, member))

static void http_metrics(struct tally_http *http, struct tally_writer *out)
{
    static const char *const hundreds[] = {"0xx", "1xx", "2xx", "3xx", "4xx", "5xx"};
    tally_metric_head(out, "tally_http_answers_total", TALLY_METRIC_COUNTER, "HTTP answers by status.");
    for (unsigned i = 2; i < 6; i++)
        tally_metric_sample(out, "tally_http_answers_total", "status", hundreds[i],
                            sum(http, offsetof(struct http_counters, answers) + i * sizeof(uint64_t)));
    tally_metric_one(out, "tally_http_sent_bytes_total", TALLY_METRIC_COUNTER, "Bytes of HTTP answers.",
                     SUM(http, bytes_out));
    tally_metric_one(out, "tally_http_timeouts_total", TALLY_METRIC_COUNTER, "Connections ended by a deadline.",
                     SUM(http, timeouts));
    tally_metric_one(out, "tally_http_connections_refused_total", TALLY_METRIC_COUNTER,
                     "Connections over the limit, closed at once.", SUM(http, connections_refused));
    tally_metric_one(out, "tally_http_connections", TALLY_METRIC_GAUGE, "Open connections.",
                     atomic_load(&http->connections));
    tally_metric_one(out, "tally_http_snapshots_total", TALLY_METRIC_COUNTER, "Whole states begun.",
                     SUM(http, snapshots));
    tally_metric_one(out, "tally_http_snapshots_broken_total", TALLY_METRIC_COUNTER,
                     "Whole states not sent to their end.", SUM(http, snapshots_broken));
    tally_metric_one(out, "tally_http_snapshots", TALLY_METRIC_GAUGE, "Whole states on their way.",
                     atomic_load(&http->snapshots));
}

static void count_metrics(struct tally_http *http, struct tally_writer *out)
{
    const enum tally_metric_type counter = TALLY_METRIC_COUNTER;
    if (!http->source.count) return;
    tally_metric_head(out, "tally_http_counts_total", counter, "POST /v1/count, by outcome.");
    tally_metric_sample(out, "tally_http_counts_total", "outcome", "counted", SUM(http, counts));
    tally_metric_sample(out, "tally_http_counts_total", "outcome", "repeat", SUM(http, counts_repeated));
    tally_metric_sample(out, "tally_http_counts_total", "outcome", "refused", SUM(http, counts_refused));
    tally_metric_sample(out, "tally_http_counts_total", "outcome", "late", SUM(http, counts_late));
    tally_metric_one(out, "tally_http_count_events_total", counter, "Events that they counted.",
                     SUM(http, count_events));
    tally_metric_one(out, "tally_http_count_pending_bytes", TALLY_METRIC_GAUGE, "Bodies that wait to be counted.",
                     atomic_load(&http->count_bytes));
}

static void stream_metrics(struct tally_http *http, struct tally_writer *out)
{
    const enum tally_metric_type counter = TALLY_METRIC_COUNTER;
    uint32_t changes = 0;
    uint64_t bytes = 0;
    if (!http->options.feed) return;
    tally_feed_kept(http->options.feed, &changes, &bytes);
    tally_metric_one(out, "tally_stream_guests", TALLY_METRIC_GAUGE, "Open streams.", atomic_load(&http->streams));
    tally_metric_one(out, "tally_stream_opened_total", counter, "Streams begun.", SUM(http, streams));
    tally_metric_one(out, "tally_stream_refused_total", counter, "Streams answered with an error.",
                     SUM(http, streams_refused));
    tally_metric_head(out, "tally_stream_ended_total", counter, "Streams ended from here, by reason.");
    tally_metric_sample(out, "tally_stream_ended_total", "reason", "silent", SUM(http, streams_silent));
    tally_metric_sample(out, "tally_stream_ended_total", "reason", "slow", SUM(http, streams_slow));
    tally_metric_sample(out, "tally_stream_ended_total", "reason", "rude", SUM(http, streams_rude));
    tally_metric_sample(out, "tally_stream_ended_total", "reason", "failed", SUM(http, streams_failed));
    tally_metric_one(out, "tally_stream_messages_total", counter, "Messages sent: frames, parts, heartbeats.",
                     SUM(http, stream_messages));
    tally_metric_one(out, "tally_stream_sent_bytes_total", counter, "Bytes sent, framing included.",
                     SUM(http, stream_bytes));
    tally_metric_one(out, "tally_stream_whole_states_total", counter, "Whole states begun.", SUM(http, stream_wholes));
    tally_metric_one(out, "tally_stream_parts_total", counter, "Parts of whole states and of large changes sent.",
                     SUM(http, stream_parts));
    tally_metric_one(out, "tally_stream_merges_total", counter, "Times that changes were merged for who was behind.",
                     SUM(http, stream_merges));
    tally_metric_one(out, "tally_stream_recent_changes", TALLY_METRIC_GAUGE, "Changes kept for guests.", changes);
    tally_metric_one(out, "tally_stream_recent_bytes", TALLY_METRIC_GAUGE, "Their bytes.", bytes);
}

void http_get_metrics(struct http_connection *connection)
{
    struct tally_http *http = connection->thread->http;
    connection->status = 200;
    connection->content_type = "text/plain; version=0.0.4";
    http->source.metrics(http->source.ctx, &connection->answer);
    http_metrics(http, &connection->answer);
    count_metrics(http, &connection->answer);
    stream_metrics(http, &connection->answer);
    tally_metrics_process(&connection->answer);
}

void http_get_readyz(struct http_connection *connection)
{
    struct tally_http *http = connection->thread->http;
    struct tally_reason reason = {{0}};
    if (!http->source.ready(http->source.ctx, &reason)) {
        http_error(connection, 503, reason.text);
        return;
    }
    static const char text[] = "{\"ready\":true}\n";
    connection->status = 200;
    connection->content_type = "application/json";
    tally_write_raw(&connection->answer, text, sizeof text - 1);
}
