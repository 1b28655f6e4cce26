// SPDX-License-Identifier: Apache-2.0
#include "edge.h"

#include <edge/page/page.h>
#include <io/log.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

// The least often the core is ticked: it shows by this that a version went stale.
#define TICK_MS 100
// NNG is asked about peers that it refused.
#define REFUSALS_MS 1000

enum exit_code { EXIT_DONE = 0, EXIT_WRONG_USE = 2, EXIT_UNREACHABLE = 3, EXIT_REFUSED = 4 };

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t edge_unix_ms(void) { return clock_ms(CLOCK_REALTIME); }

static struct tally_sync_now now(void) { return (struct tally_sync_now){clock_ms(CLOCK_MONOTONIC), edge_unix_ms()}; }

static int fail(enum exit_code code, const struct tally_reason *reason)
{
    tally_error("stopped", tally_log_str("reason", reason->text), tally_log_i64("exit", code));
    return (int)code;
}

// ---------------------------------------------------------------------------------------------------- actions of the core

// When a version became readable, on the clock that all processes of a machine share: what tests/bench/bench_latency.py looks at.
static void log_applied(struct edge *edge, struct tally_bytes frame)
{
    struct timespec at;
    struct tally_view_info held;
    clock_gettime(CLOCK_MONOTONIC, &at);
    edge->host_ops->held(edge->host, &held);
    tally_debug("applied", tally_log_u64("version", held.version), tally_log_u64("bytes", frame.size),
                tally_log_u64("monotonic_us", (uint64_t)at.tv_sec * 1000000 + (uint64_t)at.tv_nsec / 1000));
}

static enum tally_status do_apply(void *ctx, struct tally_bytes frame)
{
    struct edge *edge = ctx;
    enum tally_status status = edge->host_ops->apply(edge->host, frame);
    if (status == TALLY_OK && tally_log_enabled(TALLY_LOG_DEBUG)) log_applied(edge, frame);
    if (status == TALLY_STALLED) tally_feed_press(edge->feed);
    return status;
}

static void do_confirm(void *ctx, uint64_t epoch, uint64_t version, uint64_t now_ms)
{
    struct edge *edge = ctx;
    edge->host_ops->confirm(edge->host, epoch, version, now_ms);
    tally_feed_fresh(edge->feed, epoch, version, now_ms);
}

static void do_abandon(void *ctx)
{
    struct edge *edge = ctx;
    edge->host_ops->abandon(edge->host);
}

static void do_held(void *ctx, struct tally_view_info *out_info)
{
    struct edge *edge = ctx;
    edge->host_ops->held(edge->host, out_info);
}

static enum tally_status do_send(void *ctx, uint32_t server, uint64_t request, struct tally_bytes bytes)
{
    struct edge *edge = ctx;
    return edge_links_send(edge->links, server, request, bytes);
}

static void do_persist(void *ctx, enum tally_sync_persist kind, struct tally_bytes frame)
{
    struct edge *edge = ctx;
    struct tally_view_info held;
    edge->host_ops->held(edge->host, &held);
    if (kind == TALLY_SYNC_PERSIST_DELTA) {
        tally_feed_frame(edge->feed, &held, frame);
        tally_store_append(edge->store, frame);
    } else {
        tally_feed_restart(edge->feed, &held);
        tally_store_rebase(edge->store);
    }
    if (edge->counting) edge_counting_applied(edge->counting, held.epoch, held.version);
}

static void do_event(void *ctx, const struct tally_sync_event *event) { edge_log_event(ctx, event); }

static const struct tally_sync_ops sync_ops = {.apply = do_apply,
                                               .confirm = do_confirm,
                                               .abandon = do_abandon,
                                               .held = do_held,
                                               .send = do_send,
                                               .persist = do_persist,
                                               .event = do_event};

// ---------------------------------------------------------------------------------------------------- inputs of the core

static void on_timer(uv_timer_t *timer);

// After each input: the readers' picture, and the next tick.
static void settle(struct edge *edge, bool with_mirror)
{
    edge_show(edge, with_mirror);
    uint64_t due_ms = tally_sync_due(edge->sync), now_ms = clock_ms(CLOCK_MONOTONIC), wait_ms = TICK_MS;
    if (due_ms < now_ms + TICK_MS) wait_ms = due_ms > now_ms ? due_ms - now_ms : 1;
    uv_update_time(&edge->loop);
    uint64_t left_ms = uv_timer_get_due_in(&edge->timer);
    if (!uv_is_active((uv_handle_t *)&edge->timer) || wait_ms < left_ms)
        uv_timer_start(&edge->timer, on_timer, wait_ms, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct edge *edge = timer->data;
    tally_sync_tick(edge->sync, now());
    uint64_t now_ms = clock_ms(CLOCK_MONOTONIC);
    if (now_ms - edge->refusals_at_ms >= REFUSALS_MS) {
        edge->refusals_at_ms = now_ms;
        tally_endpoint_report_refusals();
        edge_log_absent(edge, now_ms);
    }
    if (edge->counting) edge_counting_settle(edge->counting);
    edge_reload_tick(&edge->reload, now_ms);
    settle(edge, true);
}

static void on_connected(void *ctx, uint32_t server)
{
    struct edge *edge = ctx;
    tally_sync_connected(edge->sync, now(), server);
    settle(edge, false);
}

static void on_disconnected(void *ctx, uint32_t server)
{
    struct edge *edge = ctx;
    tally_sync_disconnected(edge->sync, now(), server);
    settle(edge, false);
}

static void on_message(void *ctx, uint32_t server, struct tally_bytes message)
{
    struct edge *edge = ctx;
    tally_sync_message(edge->sync, now(), server, message);
    settle(edge, false);
}

static void on_answer(void *ctx, uint32_t server, uint64_t request, struct tally_bytes answer)
{
    struct edge *edge = ctx;
    tally_sync_answer(edge->sync, now(), server, request, answer);
    settle(edge, false);
}

static void on_failed(void *ctx, uint32_t server, uint64_t request, enum tally_status status)
{
    struct edge *edge = ctx;
    tally_sync_answer_failed(edge->sync, now(), server, request, status);
    settle(edge, false);
}

static const struct edge_links_ops links_ops = {.connected = on_connected,
                                                .disconnected = on_disconnected,
                                                .message = on_message,
                                                .requests = {.answer = on_answer, .failed = on_failed}};

// ---------------------------------------------------------------------------------------------------- host

// The module: as set, or beside the binary as built, or as installed.
static const char *find_module(const struct edge_options *options, char *path, size_t path_size)
{
    if (options->module) return options->module;
    ssize_t size = readlink("/proc/self/exe", path, path_size - 1);
    if (size > 0) {
        path[size] = 0;
        static const char *const places[] = {"../wasm/tallycast-shared.wasm",
                                             "../share/tallycast/tallycast-shared.wasm"};
        char *name = strrchr(path, '/') + 1;
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            if ((size_t)(name - path) + strlen(places[i]) >= path_size) continue;
            memcpy(name, places[i], strlen(places[i]) + 1);
            if (access(path, R_OK) == 0) return path;
        }
    }
    return TALLY_MODULE_INSTALLED;
}

static enum tally_status create_host(struct edge *edge, struct tally_reason *out_reason)
{
    const struct edge_options *options = edge->options;
    const char *module = find_module(options, edge->module, sizeof edge->module);
    struct tally_host_options host = {.dataset = tally_bytes(options->dataset, strlen(options->dataset)),
                                      .memory_bytes_max = options->memory_max,
                                      .readers_max = (uint32_t)options->threads + 2, // stored copy, counting
                                      .module = module};
#ifdef TALLY_HAVE_WASMTIME
    if (options->client != EDGE_CLIENT_NATIVE) {
        edge->host_ops = &tally_host_wasmtime;
        enum tally_status status = edge->host_ops->create(&host, &edge->host, &edge->host_source, out_reason);
        if (status == TALLY_OK) {
            tally_info("client", tally_log_str("client", "wasm"), tally_log_str("module", module),
                       tally_log_hex("id", edge->host_ops->identity(edge->host)));
            if (module != edge->module) (void)snprintf(edge->module, sizeof edge->module, "%s", module);
            return TALLY_OK;
        }
        if (options->client == EDGE_CLIENT_WASM) return status;
        tally_warn("client_fallback", tally_log_str("reason", out_reason->text));
    }
    const char *why = "as set";
    if (options->client != EDGE_CLIENT_NATIVE) why = "the WASM client cannot be had";
#else
    const char *why = "built without Wasmtime";
#endif
    edge->host_ops = &tally_host_native;
    edge->module[0] = '\0';
    enum tally_status status = edge->host_ops->create(&host, &edge->host, &edge->host_source, out_reason);
    if (status == TALLY_OK) tally_info("client", tally_log_str("client", "native"), tally_log_str("reason", why));
    return status;
}

// ---------------------------------------------------------------------------------------------------- stored copy

static enum tally_status boot_message(void *ctx, struct tally_bytes frame, uint64_t *out_epoch, uint64_t *out_version)
{
    struct edge *edge = ctx;
    struct tally_view_info held;
    enum tally_status status = tally_sync_boot_message(edge->sync, now(), frame);
    if (status != TALLY_OK) return status;
    edge->host_ops->held(edge->host, &held);
    *out_epoch = held.epoch;
    *out_version = held.version;
    return TALLY_OK;
}

static enum tally_status boot(struct edge *edge, struct tally_reason *out_reason)
{
    uint64_t start_ms = clock_ms(CLOCK_MONOTONIC);
    struct tally_store_boot from = {.ctx = edge, .message = boot_message};
    tally_sync_boot_begin(edge->sync, now());
    enum tally_status status = tally_store_boot(edge->store, &from, out_reason);
    tally_sync_boot_end(edge->sync, now());
    if (status != TALLY_OK) return status;
    struct tally_view_info held;
    edge->host_ops->held(edge->host, &held);
    if (held.epoch)
        tally_info("booted", tally_log_hex("epoch", held.epoch), tally_log_u64("version", held.version),
                   tally_log_u64("keys", held.rows), tally_log_u64("ms", clock_ms(CLOCK_MONOTONIC) - start_ms));
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- start and stop

static void on_terminate(uv_signal_t *handle, int number)
{
    struct edge *edge = handle->data;
    tally_info("stopping", tally_log_str("signal", strsignal(number)));
    uv_stop(&edge->loop);
}

static void on_hang_up(uv_signal_t *handle, int number)
{
    struct edge *edge = handle->data;
    (void)number;
    if (edge->reload.loop) edge_reload_all(&edge->reload);
}

static void start_loop(struct edge *edge)
{
    uv_loop_init(&edge->loop);
    uv_timer_init(&edge->loop, &edge->timer);
    edge->timer.data = edge;
    static const int numbers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < 2; i++) {
        uv_signal_init(&edge->loop, &edge->terminate[i]);
        edge->terminate[i].data = edge;
        uv_signal_start(&edge->terminate[i], on_terminate, numbers[i]);
    }
    uv_signal_init(&edge->loop, &edge->hang_up);
    edge->hang_up.data = edge;
    uv_signal_start(&edge->hang_up, on_hang_up, SIGHUP);
    (void)signal(SIGPIPE, SIG_IGN);
}

static enum tally_status create_sync(struct edge *edge, struct tally_reason *out_reason)
{
    const struct edge_options *options = edge->options;
    struct tally_sync_options sync = {.dataset = tally_bytes(options->dataset, strlen(options->dataset)),
                                      .servers = (uint32_t)options->subscribe.count,
                                      .max_age_ms = options->max_age_ms};
    if (getrandom(&sync.random, sizeof sync.random, 0) != (ssize_t)sizeof sync.random) sync.random = (uint64_t)getpid();
    enum tally_status status = tally_sync_create(&sync, &sync_ops, edge, &tally_alloc_libc, &edge->sync);
    if (status != TALLY_OK) tally_reason_set(out_reason, "no sync: %s", tally_status_str(status));
    return status;
}

static enum tally_status start_links(struct edge *edge, struct tally_reason *out_reason)
{
    const struct edge_options *options = edge->options;
    struct edge_links_options links = {
        .dataset = options->dataset,
        .subscribe = options->subscribe,
        .catch_up = options->catch_up,
        .tls = {.cert = options->tls_cert, .key = options->tls_key, .ca = options->tls_ca}};
    return edge_links_open(&links, &links_ops, edge, &edge->loop, &edge->links, out_reason);
}

static enum tally_status start_guests(struct edge *edge, struct tally_reason *out_reason)
{
    if (!edge->options->guests.count) return TALLY_OK;
#ifdef TALLY_HAVE_WASMTIME
    struct tally_guests_options guests = {.settings = edge->options->guests,
                                          .deadline_ms = (unsigned)edge->options->guest_deadline_ms,
                                          .memory_bytes_max = edge->options->guest_memory_max,
                                          .threads = (unsigned)edge->options->threads,
                                          .source = &edge->source,
                                          .counters = edge->counters}; // which are there before the first call
    return tally_guests_create(&guests, &edge->guests, out_reason);
#else
    tally_reason_set(out_reason, "built without Wasmtime"); // edge_options_check said so before
    return TALLY_UNSUPPORTED;
#endif
}

static enum tally_status start_http(struct edge *edge, struct tally_reason *out_reason)
{
    const struct edge_options *options = edge->options;
    struct tally_view_info held;
    struct tally_http_options http = {.listen = options->http,
                                      .threads = (unsigned)options->threads,
                                      .feed = edge->feed,
                                      .streams_max = (unsigned)options->streams_max,
                                      .stream_idle_ms = (unsigned)options->stream_idle_ms,
                                      .stream_parts_ms = (unsigned)options->stream_parts_ms,
                                      .origins = options->stream_origins.items,
                                      .origins_count = options->stream_origins.count};
    http.files = edge_page_files(&http.files_count);
    edge->host_ops->held(edge->host, &held);
    tally_feed_restart(edge->feed, &held); // what the stored copy had
    return tally_http_start(&http, &edge->source, &edge->http, out_reason);
}

static enum tally_status start_counting(struct edge *edge, struct tally_reason *out_reason)
{
    unsigned threads = (unsigned)edge->options->threads;
    const struct edge_counting_options counting = {
        .options = edge->options, .source = &edge->host_source, .reader = threads + 1, .loop = &edge->loop};
    struct tally_view_info held;
    if (!edge->options->count.count) return TALLY_OK;
    enum tally_status status = edge_counting_start(&counting, &edge->counting, out_reason);
    for (unsigned i = 0; status == TALLY_OK && i < threads; i++) {
        status = tally_counts_join(edge_counting_counts(edge->counting), &edge->counters[i]);
        if (status != TALLY_OK) tally_reason_set(out_reason, "no counter for a thread: %s", tally_status_str(status));
    }
    if (status != TALLY_OK) return status;
    edge->host_ops->held(edge->host, &held);
    edge_counting_applied(edge->counting, held.epoch, held.version);
    return edge_statsd_open(&edge->statsd, edge->options, edge_counting_counts(edge->counting), out_reason);
}

// In the order in which a failure costs least: nothing is dialed or answered before the data was accepted.
static int start(struct edge *edge)
{
    struct tally_reason reason = {{0}};
    const struct edge_options *options = edge->options;
    struct tally_store_options store = {.directory = options->data,
                                        .dataset = tally_bytes(options->dataset, strlen(options->dataset))};
    struct tally_feed_options feed = {.dataset = store.dataset, .bytes_max = options->stream_bytes};
    if (tally_feed_create(&feed, &edge->feed) != TALLY_OK) {
        tally_reason_set(&reason, "no memory for streams");
        return fail(EXIT_REFUSED, &reason);
    }
    if (tally_store_open(&store, &edge->store, &reason) != TALLY_OK) return fail(EXIT_REFUSED, &reason);
    if (create_host(edge, &reason) != TALLY_OK) return fail(EXIT_REFUSED, &reason);
    if (create_sync(edge, &reason) != TALLY_OK || boot(edge, &reason) != TALLY_OK) return fail(EXIT_REFUSED, &reason);
    if (start_guests(edge, &reason) != TALLY_OK) return fail(EXIT_REFUSED, &reason);
    edge_reload_init(&edge->reload, &edge->loop, edge->host_ops, edge->host, edge->module[0] ? edge->module : NULL,
                     edge->guests);
    if (start_counting(edge, &reason) != TALLY_OK) return fail(EXIT_REFUSED, &reason);
    edge_fill_source(edge);
    edge_show(edge, true);
    if (tally_store_start(edge->store, &edge->source, (unsigned)options->threads) != TALLY_OK) {
        tally_reason_set(&reason, "no thread for the stored copy");
        return fail(EXIT_REFUSED, &reason);
    }
    enum tally_status status = start_http(edge, &reason);
    if (status != TALLY_OK) return fail(status == TALLY_INVALID ? EXIT_WRONG_USE : EXIT_UNREACHABLE, &reason);
    status = start_links(edge, &reason);
    if (status != TALLY_OK) return fail(status == TALLY_INVALID ? EXIT_WRONG_USE : EXIT_UNREACHABLE, &reason);
    return EXIT_DONE;
}

static void stop(struct edge *edge)
{
    uint64_t start_ms = clock_ms(CLOCK_MONOTONIC), grace_ms = edge->options->grace_ms;
    edge_links_stop(edge->links);
    edge_reload_stop(&edge->reload);
    tally_http_stop(&edge->http, (unsigned)grace_ms);
#ifdef TALLY_HAVE_WASMTIME
    tally_guests_destroy(&edge->guests);
#endif
    edge_statsd_close(&edge->statsd);
    for (size_t i = 0; i < TALLY_HTTP_THREADS_MAX; i++) tally_counts_leave(&edge->counters[i]);
    edge_counting_stop(&edge->counting, (unsigned)grace_ms);
    tally_feed_destroy(&edge->feed);
    uint64_t spent_ms = clock_ms(CLOCK_MONOTONIC) - start_ms;
    tally_store_close(&edge->store, (unsigned)(grace_ms > spent_ms ? grace_ms - spent_ms : 0));
    tally_sync_destroy(&edge->sync);
    if (edge->host) edge->host_ops->destroy(&edge->host);
}

int edge_run(const struct edge_options *options)
{
    static struct edge edge; // threads of NNG may look at it until the process ends
    edge.options = options;
    pthread_mutex_init(&edge.mutex, NULL);
    start_loop(&edge);
    int code = start(&edge);
    if (code == EXIT_DONE) {
        tally_info("ready", tally_log_str("dataset", options->dataset), tally_log_str("client", edge.host_ops->name),
                   tally_log_str("http", tally_http_url(edge.http)),
                   tally_log_u64("version", edge.shown.info.held.version));
        settle(&edge, true);
        uv_run(&edge.loop, UV_RUN_DEFAULT);
    }
    stop(&edge);
    if (code == EXIT_DONE) tally_info("stopped", tally_log_i64("exit", code));
    return code;
}
