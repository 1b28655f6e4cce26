// SPDX-License-Identifier: Apache-2.0
#include <io/log.h>
#include <io/metrics.h>
#include <stdio.h>
#include <sys/stat.h>

#include "daemon.h"

void http_figures_update(struct daemon *daemon)
{
    struct tally_server_stats stats;
    tally_server_stats(daemon->server, &stats);
    pthread_mutex_lock(&daemon->mutex);
    daemon->stats = stats;
    pthread_mutex_unlock(&daemon->mutex);
    if (daemon->feed) tally_feed_fresh(daemon->feed, stats.epoch, stats.version, daemon_now_ms());
}

static void figures_copy(struct daemon *daemon, struct tally_server_stats *out_stats, uint64_t *out_ticks)
{
    pthread_mutex_lock(&daemon->mutex);
    *out_stats = daemon->stats;
    *out_ticks = daemon->ticks;
    pthread_mutex_unlock(&daemon->mutex);
}

// ---------------------------------------------------------------------------------------------------- streams

static struct tally_view_info info_of(const struct tally_server_stats *stats)
{
    return (struct tally_view_info){.epoch = stats->epoch,
                                    .version = stats->version,
                                    .cut_ms = stats->cut_ms,
                                    .fresh_ms = stats->cut_ms,
                                    .digest = stats->digest,
                                    .rows = stats->rows,
                                    .tables = stats->tables};
}

// The first version and one of a new epoch have no delta; of a large state there is only the heartbeat.
void http_published(struct daemon *daemon, struct tally_bytes message)
{
    struct tally_bytes dataset, sealed;
    enum tally_published_what what;
    struct tally_server_stats stats;
    struct tally_view_info held;
    if (tally_published_open(message, &dataset, &what, &sealed)) return;
    tally_server_stats(daemon->server, &stats);
    struct tally_view_info now = info_of(&stats);
    tally_feed_held(daemon->feed, &held);
    if (held.epoch == now.epoch && held.version == now.version) return;
    bool follows = held.epoch == now.epoch && held.version && now.version == held.version + 1;
    if (what == TALLY_PUBLISHED_FRAME && follows)
        tally_feed_frame(daemon->feed, &now, sealed);
    else
        tally_feed_restart(daemon->feed, &now);
}

// ---------------------------------------------------------------------------------------------------- reads

static void state(void *ctx, struct tally_http_state *out_state)
{
    struct daemon *daemon = tally_reads_native_owner(ctx);
    struct tally_server_stats stats;
    uint64_t ticks;
    figures_copy(daemon, &stats, &ticks);
    *out_state = (struct tally_http_state){
        .name = "server", .state = "live", .dataset = daemon->options->dataset, .newest_version = stats.version};
}

static bool ready(void *ctx, struct tally_reason *out_reason)
{
    struct daemon *daemon = tally_reads_native_owner(ctx);
    bool is_ready = atomic_load(&daemon->ready);
    if (!is_ready) tally_reason_set(out_reason, "the server is stopping");
    return is_ready;
}

static uint64_t log_file_bytes(const struct daemon *daemon)
{
    char path[4096];
    struct stat file;
    (void)snprintf(path, sizeof path, "%s/log/data.mdb", daemon->options->data);
    return stat(path, &file) == 0 ? (uint64_t)file.st_blocks * 512 : 0;
}

static void batches_write(struct tally_writer *out, const struct tally_server_stats *stats)
{
    const enum tally_metric_type counter = TALLY_METRIC_COUNTER;
    tally_metric_one(out, "tally_server_requests_total", counter, "Requests received.", stats->requests);
    tally_metric_one(out, "tally_server_pushes_total", counter, "Unacknowledged batches received.", stats->pushes);
    tally_metric_one(out, "tally_server_batches_total", counter, "Batches taken into records.", stats->batches);
    tally_metric_one(out, "tally_server_batch_bytes_total", counter, "Their bytes.", stats->batch_bytes);
    tally_metric_one(out, "tally_server_events_total", counter, "Entries of batches that were counted.", stats->events);
    tally_metric_one(out, "tally_server_amounts_total", counter,
                     "Sum of their amounts: the events of producers that merge before they send.", stats->amounts);
    tally_metric_head(out, "tally_server_batches_refused_total", counter, "Batches that were not counted, by reason.");
    tally_metric_sample(out, "tally_server_batches_refused_total", "reason", "repeat", stats->repeats);
    tally_metric_sample(out, "tally_server_batches_refused_total", "reason", "hole", stats->holes);
    tally_metric_sample(out, "tally_server_batches_refused_total", "reason", "busy", stats->busy);
    tally_metric_sample(out, "tally_server_batches_refused_total", "reason", "other", stats->refused);
    tally_metric_one(out, "tally_server_pending_batches", TALLY_METRIC_GAUGE, "Batches that wait for the next tick.",
                     stats->pending_batches);
    tally_metric_one(out, "tally_server_producers", TALLY_METRIC_GAUGE, "Producers remembered.", stats->producers);
    tally_metric_one(out, "tally_server_saturated_total", counter, "Counters that stopped at the greatest value.",
                     stats->saturated);
    tally_metric_one(out, "tally_server_expired_total", counter, "Rows that left because they were idle (ttl).",
                     stats->expired);
    tally_metric_one(out, "tally_server_slid_total", counter, "Amounts of keys that left a window.", stats->slid);
    tally_metric_one(out, "tally_server_overflowed_total", counter,
                     "Entries of keys beyond a table's max-keys: they are in its row __overflow__.", stats->overflowed);
}

static void versions_write(struct tally_writer *out, const struct tally_server_stats *stats, uint64_t ticks)
{
    const enum tally_metric_type counter = TALLY_METRIC_COUNTER, gauge = TALLY_METRIC_GAUGE;
    tally_metric_one(out, "tally_server_version", gauge, "Newest version.", stats->version);
    tally_metric_one(out, "tally_server_rows", gauge, "Live keys of all tables.", stats->rows);
    tally_metric_one(out, "tally_server_tables", gauge, "Tables.", stats->tables);
    tally_metric_one(out, "tally_server_ticks_total", counter, "Ticks.", ticks);
    tally_metric_one(out, "tally_server_frames_total", counter, "Frames published.", stats->frames);
    tally_metric_one(out, "tally_server_frame_bytes_total", counter, "Bytes of frames published.", stats->frame_bytes);
    tally_metric_one(out, "tally_server_changed_rows_total", counter, "Rows removed, changed and added by frames.",
                     stats->rows_changed);
    tally_metric_one(out, "tally_server_added_rows_total", counter, "Rows added by frames.", stats->rows_added);
    tally_metric_one(out, "tally_server_frame_added_bytes_total", counter,
                     "Bytes of frames in the columns that bring added rows.", stats->added_bytes);
    tally_metric_one(out, "tally_server_heartbeats_total", counter, "Heartbeats published.", stats->heartbeats);
    tally_metric_one(out, "tally_server_clashes_total", counter, "Fingerprint clashes.", stats->clashes);
    tally_metric_one(out, "tally_server_history_versions", gauge, "Versions kept for those who are behind.",
                     stats->history_versions);
    tally_metric_one(out, "tally_server_history_bytes", gauge, "Their bytes.", stats->history_bytes);
    tally_metric_head(out, "tally_server_catch_ups_total", counter, "Catch-up answers, by kind.");
    tally_metric_sample(out, "tally_server_catch_ups_total", "kind", "current", stats->catch_ups_current);
    tally_metric_sample(out, "tally_server_catch_ups_total", "kind", "delta", stats->catch_ups_delta);
    tally_metric_sample(out, "tally_server_catch_ups_total", "kind", "whole", stats->catch_ups_whole);
    tally_metric_sample(out, "tally_server_catch_ups_total", "kind", "gone", stats->catch_ups_gone);
    tally_metric_one(out, "tally_server_catch_up_bytes_total", counter, "Frames and chunks in answers.",
                     stats->catch_up_bytes);
    tally_metric_one(out, "tally_server_pins", gauge, "Whole states held for late joiners.", stats->pins);
    tally_metric_one(out, "tally_server_queries_total", counter, "Queries answered.", stats->queries);
}

static void log_write(struct tally_writer *out, struct daemon *daemon, const struct tally_server_stats *stats)
{
    const enum tally_metric_type counter = TALLY_METRIC_COUNTER, gauge = TALLY_METRIC_GAUGE;
    tally_metric_one(out, "tally_server_records_total", counter, "Records appended.", stats->records);
    tally_metric_one(out, "tally_server_record_bytes_total", counter, "Their bytes.", stats->record_bytes);
    tally_metric_head(out, "tally_server_append_seconds_sum", counter, "Time spent in appends.");
    tally_metric_sample_seconds(out, "tally_server_append_seconds_sum", NULL, NULL,
                                atomic_load(&daemon->log.append_ns));
    tally_metric_one(out, "tally_server_append_seconds_count", counter, "Appends.", atomic_load(&daemon->log.appends));
    tally_metric_one(out, "tally_server_log_bytes", gauge, "Disk taken by the log.", log_file_bytes(daemon));
    tally_metric_one(out, "tally_server_snapshots_total", counter, "Snapshots written.", stats->snapshots);
    tally_metric_one(out, "tally_server_snapshot_version", gauge, "Version of the newest snapshot.",
                     stats->snapshot_version);
    tally_metric_one(out, "tally_server_published_total", counter, "Messages published: frames and heartbeats.",
                     atomic_load(&daemon->pub.messages));
    tally_metric_one(out, "tally_server_published_bytes_total", counter, "Their bytes.",
                     atomic_load(&daemon->pub.bytes));
    tally_metric_one(out, "tally_server_sent_bytes_total", counter, "Their bytes, times the subscribers of the time.",
                     atomic_load(&daemon->pub.sent_bytes));
    tally_metric_one(out, "tally_server_publish_failed_total", counter, "Messages that could not be published.",
                     atomic_load(&daemon->pub.failed));
    tally_metric_one(out, "tally_server_subscribers", gauge, "Connected subscribers.",
                     atomic_load(&daemon->pub.subscribers));
}

static void metrics(void *ctx, struct tally_writer *out)
{
    struct daemon *daemon = tally_reads_native_owner(ctx);
    struct tally_mirror *mirror = tally_server_mirror(daemon->server);
    struct tally_server_stats stats;
    struct tally_mirror_stats mirror_stats;
    uint64_t ticks;
    figures_copy(daemon, &stats, &ticks);
    tally_mirror_stats(mirror, &mirror_stats);
    const struct tally_view_info info = {.version = stats.version, .rows = stats.rows, .tables = stats.tables};
    versions_write(out, &stats, ticks);
    batches_write(out, &stats);
    log_write(out, daemon, &stats);
    tally_metrics_mirror(out, &mirror_stats, &info);
    pthread_mutex_lock(&daemon->mutex);
    if (daemon->statsd.listener) tally_statsd_metrics(daemon->statsd.listener, out);
    pthread_mutex_unlock(&daemon->mutex);
}

static bool count(void *ctx, void *reader, struct tally_http_count *count)
{
    struct daemon *daemon = tally_reads_native_owner(ctx);
    (void)reader;
    return inputs_count(&daemon->inputs, count);
}

static enum tally_status before_read(void *owner) { return lag_read(&((struct daemon *)owner)->lag); }

bool http_open(struct daemon *daemon)
{
    struct tally_http_source source;
    struct tally_reason reason;
    const struct tally_feed_options feed = {.dataset =
                                                tally_bytes(daemon->options->dataset, strlen(daemon->options->dataset)),
                                            .bytes_max = daemon->options->stream_bytes};
    enum tally_status status = tally_feed_create(&feed, &daemon->feed);
    if (status) return daemon_refuse(daemon, EXIT_REFUSED, status, "no memory for streams");
    const struct tally_http_options options = {.listen = daemon->options->http,
                                               .threads = (unsigned)daemon->options->http_threads,
                                               .feed = daemon->feed,
                                               .streams_max = (unsigned)daemon->options->streams_max,
                                               .stream_idle_ms = (unsigned)daemon->options->stream_idle_ms,
                                               .stream_parts_ms = (unsigned)daemon->options->stream_parts_ms,
                                               .origins = daemon->options->stream_origins.items,
                                               .origins_count = daemon->options->stream_origins.count};
    const struct tally_view_info recovered = info_of(&daemon->stats);
    tally_feed_restart(daemon->feed, &recovered);
    status = tally_reads_native_create(tally_server_mirror(daemon->server), daemon, &daemon->reads, &source);
    if (status) return daemon_refuse(daemon, EXIT_CANNOT_REACH, status, "--http");
    tally_reads_native_before(daemon->reads, before_read);
    source.state = state;
    source.ready = ready;
    source.count = count;
    if (daemon->options->admin) source.define = count;
    source.metrics = metrics;
    status = tally_http_start(&options, &source, &daemon->http, &reason);
    return status == TALLY_OK || daemon_refuse(daemon, EXIT_CANNOT_REACH, status, reason.text);
}
