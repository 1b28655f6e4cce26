// SPDX-License-Identifier: Apache-2.0
//
// What the edge says: log lines of the core's events, the state and the metrics that HTTP threads show.
#include "edge.h"

#include <io/log.h>
#include <io/metrics.h>
#include <stdio.h>

// ---------------------------------------------------------------------------------------------------- log

static const char *server_url(const struct edge *edge, uint32_t server)
{
    return server < edge->options->subscribe.count ? edge->options->subscribe.items[server] : "stored copy";
}

// A server that is not connected is told of after so long, and again at this distance.
#define ABSENT_MS       5000
#define ABSENT_AGAIN_MS 60000

void edge_log_absent(struct edge *edge, uint64_t now_ms)
{
    for (uint32_t i = 0; i < edge->options->subscribe.count; i++) {
        struct tally_sync_server_info info;
        uint64_t *at_ms = &edge->absent_at_ms[i];
        tally_sync_server_info(edge->sync, i, &info);
        if (info.connected) {
            *at_ms = 0;
        } else if (!*at_ms) {
            *at_ms = now_ms + ABSENT_MS;
        } else if (now_ms >= *at_ms) {
            *at_ms = now_ms + ABSENT_AGAIN_MS;
            tally_warn(
                "not_connected", tally_log_str("server", server_url(edge, i)),
                tally_log_str("effect", "tried again until it is there and speaks the protocol of a publish endpoint"));
        }
    }
}

void edge_log_event(const struct edge *edge, const struct tally_sync_event *event)
{
    const struct tally_log_field server = tally_log_str("server", server_url(edge, event->server));
    const struct tally_log_field epoch = tally_log_hex("epoch", event->epoch);
    const struct tally_log_field version = tally_log_u64("version", event->version);
    switch (event->kind) {
    case TALLY_SYNC_EVENT_STATE:
        tally_info("state", tally_log_str("from", tally_sync_state_str(event->state_from)),
                   tally_log_str("to", tally_sync_state_str(event->state_to)), epoch, version);
        return;
    case TALLY_SYNC_EVENT_CONNECTED: tally_info("connected", server); return;
    case TALLY_SYNC_EVENT_DISCONNECTED: tally_warn("disconnected", server); return;
    case TALLY_SYNC_EVENT_EPOCH: tally_info("epoch", server, epoch, version); return;
    case TALLY_SYNC_EVENT_GAP: tally_info("gap", server, epoch, version); return;
    case TALLY_SYNC_EVENT_CATCH_UP:
        tally_info("caught_up", server, epoch, version, tally_log_u64("messages", event->count));
        return;
    case TALLY_SYNC_EVENT_REQUEST_FAILED:
        tally_warn("request_failed", server, tally_log_status(event->status), tally_log_bytes("message", event->text));
        return;
    case TALLY_SYNC_EVENT_REFUSED:
        tally_warn("refused", server, tally_log_status(event->status), tally_log_u64("count", event->count));
        return;
    case TALLY_SYNC_EVENT_LOWER_EPOCH:
        tally_warn("lower_epoch", server, epoch, tally_log_u64("count", event->count));
        return;
    }
}

// ---------------------------------------------------------------------------------------------------- what is shown

void edge_show(struct edge *edge, bool with_mirror)
{
    struct tally_sync_now now = {.unix_ms = edge_unix_ms()};
    struct tally_mirror_stats mirror;
    if (with_mirror) edge->host_ops->stats(edge->host, &mirror);
    uint32_t connected = 0, servers = (uint32_t)edge->options->subscribe.count;
    for (uint32_t i = 0; i < servers; i++) {
        struct tally_sync_server_info info;
        tally_sync_server_info(edge->sync, i, &info);
        connected += info.connected;
    }
    pthread_mutex_lock(&edge->mutex);
    tally_sync_info(edge->sync, now, &edge->shown.info);
    edge->shown.sync = *tally_sync_stats(edge->sync);
    if (with_mirror) edge->shown.mirror = mirror;
    edge->shown.servers = servers;
    edge->shown.connected = connected;
    edge->shown.sound = edge->host_ops->sound(edge->host);
    pthread_mutex_unlock(&edge->mutex);
}

// With the age of this moment: were the loop stuck, the state must still go stale.
static struct edge_shown look(struct edge *edge)
{
    pthread_mutex_lock(&edge->mutex);
    struct edge_shown shown = edge->shown;
    pthread_mutex_unlock(&edge->mutex);
    struct tally_sync_info *info = &shown.info;
    uint64_t now_ms = edge_unix_ms();
    info->age_ms = info->held.epoch && now_ms > info->held.fresh_ms ? now_ms - info->held.fresh_ms : 0;
    bool may_be_stale = info->state == TALLY_SYNC_LIVE || info->state == TALLY_SYNC_CATCHING_UP;
    if (may_be_stale && info->age_ms > edge->options->max_age_ms) info->state = TALLY_SYNC_STALE;
    return shown;
}

static void get_state(void *ctx, struct tally_http_state *out_state)
{
    struct edge *edge = ctx;
    struct edge_shown shown = look(edge);
    *out_state = (struct tally_http_state){.name = "edge",
                                           .client = edge->host_ops->name,
                                           .state = tally_sync_state_str(shown.info.state),
                                           .dataset = edge->options->dataset,
                                           .newest_version = shown.info.newest,
                                           .views_max_ms = 60000};
}

static bool get_ready(void *ctx, struct tally_reason *out_reason)
{
    struct edge *edge = ctx;
    struct edge_shown shown = look(edge);
    const struct tally_sync_info *info = &shown.info;
    if (!info->held.epoch) {
        tally_reason_set(out_reason, "%s: nothing verified is held yet", tally_sync_state_str(info->state));
        return false;
    }
    if (info->age_ms > edge->options->max_age_ms) {
        tally_reason_set(out_reason, "stale: version %llu is %llu ms old, more than %llu",
                         (unsigned long long)info->held.version, (unsigned long long)info->age_ms,
                         (unsigned long long)edge->options->max_age_ms);
        return false;
    }
    if (!shown.sound) {
        tally_reason_set(out_reason,
                         "the client failed; what is held stays readable, but only a restart brings newer versions");
        return false;
    }
    return true;
}

// ---------------------------------------------------------------------------------------------------- metrics

static void sync_metrics(struct tally_writer *out, const struct tally_sync_stats *sync)
{
    tally_metric_counter(out, "tally_sync_messages_total", "Published messages received.", sync->messages);
    tally_metric_head(out, "tally_sync_received_bytes_total", TALLY_METRIC_COUNTER, "Bytes received, by way.");
    tally_metric_sample(out, "tally_sync_received_bytes_total", "way", "published", sync->message_bytes);
    tally_metric_sample(out, "tally_sync_received_bytes_total", "way", "catch_up", sync->answer_bytes);
    tally_metric_counter(out, "tally_sync_heartbeats_total", "Heartbeats received.", sync->heartbeats);
    tally_metric_counter(out, "tally_sync_frames_applied_total", "Versions taken.", sync->frames_applied);
    tally_metric_counter(out, "tally_sync_frames_old_total", "Frames that were held already.", sync->frames_old);
    tally_metric_counter(out, "tally_sync_frames_lower_epoch_total", "Frames of an older epoch than the held one.",
                         sync->frames_lower_epoch);
    tally_metric_gauge(out, "tally_sync_early_frames", "Frames held ahead of their turn.", sync->early_frames);
    tally_metric_gauge(out, "tally_sync_early_bytes", "Bytes of them.", sync->early_bytes);
    tally_metric_counter(out, "tally_sync_early_dropped_total", "Early frames given up.", sync->early_dropped);
    tally_metric_counter(out, "tally_sync_gaps_total", "Times that a frame was missing.", sync->gaps);
    tally_metric_counter(out, "tally_sync_requests_total", "Catch-up requests sent.", sync->requests);
    tally_metric_counter(out, "tally_sync_requests_failed_total", "Catch-up requests that failed.",
                         sync->requests_failed);
    tally_metric_head(out, "tally_sync_catch_ups_total", TALLY_METRIC_COUNTER,
                      "Answered catch-ups, by what they brought.");
    tally_metric_sample(out, "tally_sync_catch_ups_total", "kind", "current", sync->catch_ups_current);
    tally_metric_sample(out, "tally_sync_catch_ups_total", "kind", "delta", sync->catch_ups_delta);
    tally_metric_sample(out, "tally_sync_catch_ups_total", "kind", "whole", sync->catch_ups_whole);
    tally_metric_counter(out, "tally_sync_chunks_total", "Chunks of whole states.", sync->chunks);
    tally_metric_counter(out, "tally_sync_restarts_total", "Whole states begun again.", sync->restarts);
    tally_metric_counter(out, "tally_sync_repairs_total", "Whole states asked for because something did not verify.",
                         sync->repairs);
    tally_metric_head(out, "tally_sync_refused_total", TALLY_METRIC_COUNTER, "Messages refused, by reason.");
    static const struct {
        enum tally_status status;
        const char *reason;
    } reasons[] = {
#define X(name, number, text) {TALLY_##name, #name},
        TALLY_STATUS_LIST(X)
#undef X
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        uint64_t count = sync->refused[reasons[i].status];
        if (count) tally_metric_sample(out, "tally_sync_refused_total", "reason", reasons[i].reason, count);
    }
}

static void store_metrics(struct tally_writer *out, const struct tally_store_stats *store)
{
    tally_metric_gauge(out, "tally_store_version", "Version that the stored copy leads to.", store->version);
    tally_metric_head(out, "tally_store_bytes", TALLY_METRIC_GAUGE, "Bytes of the stored copy.");
    tally_metric_sample(out, "tally_store_bytes", "part", "base", store->base_bytes);
    tally_metric_sample(out, "tally_store_bytes", "part", "deltas", store->deltas_bytes);
    tally_metric_gauge(out, "tally_store_queue_bytes", "Bytes that wait to be written.", store->queue_bytes);
    tally_metric_counter(out, "tally_store_appended_total", "Frames appended.", store->appended);
    tally_metric_counter(out, "tally_store_rewrites_total", "Times that the copy was written anew.", store->rewrites);
    tally_metric_counter(out, "tally_store_failures_total", "Writes that failed.", store->failures);
    tally_metric_counter(out, "tally_store_overflows_total", "Times that too much waited.", store->overflows);
    tally_metric_gauge(out, "tally_store_failing", "1: the stored copy cannot be written.", store->failing);
}

static void get_metrics(void *ctx, struct tally_writer *out)
{
    struct edge *edge = ctx;
    struct edge_shown shown = look(edge);
    const struct tally_sync_info *info = &shown.info;
    struct tally_reason unused;
    struct tally_store_stats store;
    tally_store_stats(edge->store, &store);
    tally_metric_gauge(out, "tally_edge_ready", "1: /readyz answers 200.", get_ready(edge, &unused));
    tally_metric_gauge(out, "tally_edge_lag_versions", "Versions behind the newest known.", info->lag);
    tally_metric_head(out, "tally_edge_age_seconds", TALLY_METRIC_GAUGE,
                      "Time since the held version was known to be the newest.");
    tally_metric_sample_seconds(out, "tally_edge_age_seconds", NULL, NULL, info->age_ms * 1000000);
    tally_metric_head(out, "tally_edge_state", TALLY_METRIC_GAUGE, "1 for the state that the edge is in.");
    for (unsigned i = TALLY_SYNC_COLD; i <= TALLY_SYNC_STALE; i++)
        tally_metric_sample(out, "tally_edge_state", "state", tally_sync_state_str((enum tally_sync_state)i),
                            info->state == i);
    tally_metric_head(out, "tally_edge_client", TALLY_METRIC_GAUGE, "1 for the client that reads are answered by.");
    tally_metric_sample(out, "tally_edge_client", "client", edge->host_ops->name, 1);
    if (edge->reload.module[0]) {
        char id[17];
        (void)snprintf(id, sizeof id, "%016llx",
                       (unsigned long long)atomic_load_explicit(&edge->reload.identity, memory_order_relaxed));
        tally_metric_head(out, "tally_edge_module", TALLY_METRIC_GAUGE, "1 for the client's module that is in use.");
        tally_metric_sample(out, "tally_edge_module", "id", id, 1);
        tally_metric_head(out, "tally_edge_module_reloads_total", TALLY_METRIC_COUNTER,
                          "Other builds of the client's module, by what became of them.");
        tally_metric_sample(out, "tally_edge_module_reloads_total", "result", "taken",
                            atomic_load_explicit(&edge->reload.taken, memory_order_relaxed));
        tally_metric_sample(out, "tally_edge_module_reloads_total", "result", "refused",
                            atomic_load_explicit(&edge->reload.refused, memory_order_relaxed));
    }
    tally_metric_gauge(out, "tally_edge_servers", "Servers to follow.", shown.servers);
    tally_metric_gauge(out, "tally_edge_servers_connected", "Servers that are connected.", shown.connected);
    sync_metrics(out, &shown.sync);
    store_metrics(out, &store);
    tally_metrics_mirror(out, &shown.mirror, &info->held);
#ifdef TALLY_HAVE_WASMTIME
    if (edge->guests) tally_guests_metrics(edge->guests, out);
#endif
    if (edge->counting) edge_counting_metrics(edge->counting, out);
    if (edge->statsd.listener) tally_statsd_metrics(edge->statsd.listener, out);
}

static enum tally_status get_mine(void *ctx, unsigned thread, void *reader, struct tally_bytes table,
                                  struct tally_bytes key, struct tally_http_mine *out_mine)
{
    struct edge *edge = ctx;
    return edge_counting_mine(edge->counting, edge->counters[thread], reader, table, key, out_mine);
}

// ---------------------------------------------------------------------------------------------------- source

static bool count(void *ctx, void *reader, struct tally_http_count *count)
{
    struct edge *edge = ctx;
    (void)reader;
    if (*count->table) {
        tally_reason_set(&count->reason, "tables are defined at a server, not at an edge");
        count->status = TALLY_FORBIDDEN;
        tally_http_counted(count);
        return true;
    }
    edge_counting_post(edge->counting, count);
    return true;
}

static enum tally_status open_reader(void *ctx, unsigned thread, void **out_reader)
{
    struct edge *edge = ctx;
    return edge->host_source.open_reader(edge->host_source.ctx, thread, out_reader);
}

static void close_reader(void *ctx, void *reader)
{
    struct edge *edge = ctx;
    edge->host_source.close_reader(edge->host_source.ctx, reader);
}

#ifdef TALLY_HAVE_WASMTIME
static unsigned call_guest(void *ctx, unsigned thread, void *reader, const struct tally_http_call *call,
                           struct tally_http_reply *reply, struct tally_reason *out_reason)
{
    struct edge *edge = ctx;
    return tally_guests_call(edge->guests, thread, reader, call, reply, out_reason);
}
#endif

void edge_fill_source(struct edge *edge)
{
    edge->source = edge->host_source;
    edge->source.ctx = edge;
    edge->source.open_reader = open_reader;
    edge->source.close_reader = close_reader;
    edge->source.state = get_state;
    edge->source.ready = get_ready;
    edge->source.metrics = get_metrics;
    if (edge->counting) edge->source.get_mine = get_mine;
    if (edge->counting) edge->source.count = count;
#ifdef TALLY_HAVE_WASMTIME
    if (edge->guests) edge->source.call = call_guest;
#endif
}
