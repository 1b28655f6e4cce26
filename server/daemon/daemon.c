// SPDX-License-Identifier: Apache-2.0
#include "daemon.h"

#include <io/log.h>
#include <signal.h>
#include <time.h>

#define INGEST_CONTEXTS  256u
#define CATCHUP_CONTEXTS 16u
#define PULL_SLOTS       256u
#define RUSH_MS          5u    // without input, after a record was cut because it was full
#define REFUSALS_MS      1000u // between two looks at what NNG refused
#define STOPPING_MS      20u   // between two looks at what is still under way
#define QUIET_ROUNDS     5u    // so many without an answer under way: NNG has taken what PUB was given

uint64_t daemon_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

bool daemon_refuse(struct daemon *daemon, enum exit_code code, enum tally_status status, const char *reason)
{
    daemon->exit_code = code;
    tally_error("cannot_start", tally_log_str("reason", reason), tally_log_status(status));
    return false;
}

// ---------------------------------------------------------------------------------------------------- what the core does

static void on_publish(void *ctx, struct tally_bytes message)
{
    struct daemon *daemon = ctx;
    if (daemon->pub.opened) tally_pub_send(&daemon->pub, message);
    if (daemon->feed) http_published(daemon, message);
}

// Tokens of the two REP sockets are told apart by this bit; those of inputs.h have another.
#define TOKEN_CATCHUP ((uint64_t)1 << 32)

static void on_reply(void *ctx, uint64_t token, struct tally_bytes answer)
{
    struct daemon *daemon = ctx;
    if (token & TOKEN_INPUTS)
        inputs_reply(&daemon->inputs, token, answer);
    else
        tally_rep_answer(token & TOKEN_CATCHUP ? daemon->catchup : daemon->ingest, (uint32_t)token, answer);
}

static void on_event(void *ctx, const struct tally_server_event *event)
{
    static const enum tally_log_level levels[] = {TALLY_LOG_DEBUG, TALLY_LOG_INFO, TALLY_LOG_WARN, TALLY_LOG_ERROR};
    struct tally_log_field fields[6];
    size_t count = 0;
    struct daemon *daemon = ctx;
    if (event->kind == TALLY_SERVER_EVENT_MIRROR_STALLED && daemon->feed) tally_feed_press(daemon->feed);
    if (event->epoch) fields[count++] = tally_log_hex("epoch", event->epoch);
    fields[count++] = tally_log_u64("version", event->version);
    if (event->count) fields[count++] = tally_log_u64("count", event->count);
    if (event->status) fields[count++] = tally_log_status(event->status);
    if (event->text[0]) fields[count++] = tally_log_str("text", event->text);
    fields[count] = (struct tally_log_field){.type = TALLY_LOG_END};
    tally_log_write(levels[event->level], event->name, fields);
}

struct half {
    void (*run)(void *ctx);
    void *ctx;
};

static void *run_half(void *ctx)
{
    const struct half *half = ctx;
    half->run(half->ctx);
    return NULL;
}

static void on_both(void *ctx, void (*one)(void *), void *one_ctx, void (*other)(void *), void *other_ctx)
{
    struct half half = {other, other_ctx};
    pthread_t thread;
    (void)ctx;
    bool beside = pthread_create(&thread, NULL, run_half, &half) == 0;
    one(one_ctx);
    if (beside)
        (void)pthread_join(thread, NULL);
    else
        other(other_ctx);
}

static bool on_may_lag(void *ctx) { return lag_may(&((struct daemon *)ctx)->lag); }
static void on_current(void *ctx) { lag_current(&((struct daemon *)ctx)->lag); }

static const struct tally_server_ops core_ops = {.publish = on_publish,
                                                 .reply = on_reply,
                                                 .event = on_event,
                                                 .both = on_both,
                                                 .may_lag = on_may_lag,
                                                 .current = on_current};

// ---------------------------------------------------------------------------------------------------- end

// The loop ends when the last answers have gone. NNG's sockets stay as they are until the process is gone: nng_close (1.5.2) can wait
// for ever while a peer is connecting.
static void end_finish(struct daemon *daemon)
{
    lag_end(&daemon->lag);
    uv_stop(&daemon->loop);
}

static void on_failed(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;
    tally_http_stop(&daemon->http, 0);
    end_finish(daemon);
}

// Nothing may be published, acknowledged or served as live any more. From a timer: this may be inside the mailbox that is then closed.
static void fail(struct daemon *daemon, enum tally_status status)
{
    struct tally_reason reason;
    tally_reason_set(&reason, "--data %s: %s: the server ends; start it again to recover", daemon->options->data,
                     tally_status_str(status));
    tally_error("failed", tally_log_str("reason", reason.text), tally_log_status(status));
    daemon->exit_code = EXIT_REFUSED;
    daemon->ending = true;
    atomic_store(&daemon->ready, false);
    (void)uv_timer_stop(&daemon->tick);
    (void)uv_timer_stop(&daemon->rush);
    (void)uv_timer_start(&daemon->stopping, on_failed, 0, 0);
}

static void on_stopping(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;
    bool quiet = tally_rep_sending(daemon->ingest) + tally_rep_sending(daemon->catchup) == 0;
    daemon->quiet_rounds = quiet ? daemon->quiet_rounds + 1 : 0;
    if (daemon->quiet_rounds >= QUIET_ROUNDS || uv_now(&daemon->loop) >= daemon->grace_end_ms) end_finish(daemon);
}

static void end_begin(struct daemon *daemon)
{
    daemon->ending = true;
    atomic_store(&daemon->ready, false);
    daemon->grace_end_ms = uv_now(&daemon->loop) + daemon->options->grace_ms;
    (void)uv_timer_stop(&daemon->tick);
    (void)uv_timer_stop(&daemon->rush);
    (void)uv_timer_start(&daemon->stopping, on_stopping, STOPPING_MS, STOPPING_MS);
    statsd_close(&daemon->statsd);
    enum tally_status status = tally_server_stop(daemon->server, daemon_now_ms());
    http_figures_update(daemon);
    if (status) fail(daemon, status);
}

// ---------------------------------------------------------------------------------------------------- inputs

static void tick(struct daemon *daemon)
{
    enum tally_status status = tally_server_tick(daemon->server, daemon_now_ms());
    pthread_mutex_lock(&daemon->mutex);
    daemon->ticks++;
    pthread_mutex_unlock(&daemon->mutex);
    http_figures_update(daemon);
    if (status) fail(daemon, status);
}

// Nothing came since the last look.
static void on_rush(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;
    bool over = daemon->inputs_seen == daemon->rush_seen;
    daemon->rush_seen = daemon->inputs_seen;
    if (!over) return;
    (void)uv_timer_stop(timer);
    if (!daemon->ending) tick(daemon);
}

// A tick that came before its time, because the record was full, counts as one: the next is due a whole one later, or it would cut a short record between
// two full ones; and what is left when the rush is over need not wait so long.
void daemon_after_input(struct daemon *daemon)
{
    daemon->inputs_seen++;
    if (daemon->ending || !tally_server_hurry(daemon->server)) return;
    tick(daemon);
    if (daemon->ending) return;
    uv_update_time(&daemon->loop);
    (void)uv_timer_again(&daemon->tick);
    (void)uv_timer_start(&daemon->rush, on_rush, RUSH_MS, RUSH_MS);
}

// An HTTP thread waits for the newest version.
static void on_wanted(void *ctx)
{
    struct daemon *daemon = ctx;
    if (daemon->ending) return;
    enum tally_status status = tally_server_current(daemon->server, daemon_now_ms());
    if (status && status != TALLY_STALLED) fail(daemon, status);
}

static void on_ingest(void *ctx, uint32_t token, struct tally_bytes request)
{
    struct daemon *daemon = ctx;
    tally_server_request(daemon->server, TALLY_ENDPOINT_INGEST, token, request, daemon_now_ms());
    daemon_after_input(daemon);
}

static void on_catch_up(void *ctx, uint32_t token, struct tally_bytes request)
{
    struct daemon *daemon = ctx;
    tally_server_request(daemon->server, TALLY_ENDPOINT_CATCH_UP, TOKEN_CATCHUP | token, request, daemon_now_ms());
}

static void on_push(void *ctx, struct tally_bytes message)
{
    struct daemon *daemon = ctx;
    tally_server_push(daemon->server, message, daemon_now_ms());
    daemon_after_input(daemon);
}

static void on_tick(uv_timer_t *timer)
{
    struct daemon *daemon = timer->data;
    tick(daemon);
    if (!daemon->ending) statsd_go_on(&daemon->statsd);
}

static void on_refusals(uv_timer_t *timer)
{
    (void)timer;
    tally_endpoint_report_refusals();
}

static void on_signal(uv_signal_t *signal, int number)
{
    struct daemon *daemon = signal->data;
    tally_info("signal", tally_log_str("signal", number == SIGTERM  ? "SIGTERM"
                                                 : number == SIGINT ? "SIGINT"
                                                                    : "SIGHUP"));
    if (daemon->ending)
        end_finish(daemon);
    else
        end_begin(daemon);
}

// ---------------------------------------------------------------------------------------------------- start

static bool loop_open(struct daemon *daemon)
{
    if (uv_loop_init(&daemon->loop) || lag_open(&daemon->lag, &daemon->loop, on_wanted, daemon))
        return daemon_refuse(daemon, EXIT_REFUSED, TALLY_NO_MEMORY, "event loop");
    daemon->loop_open = true;
    (void)uv_timer_init(&daemon->loop, &daemon->tick);
    (void)uv_timer_init(&daemon->loop, &daemon->rush);
    (void)uv_timer_init(&daemon->loop, &daemon->refusals);
    (void)uv_timer_init(&daemon->loop, &daemon->stopping);
    daemon->tick.data = daemon->rush.data = daemon->refusals.data = daemon->stopping.data = daemon;
    static const int ends[] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        daemon->ends[i].data = daemon;
        if (uv_signal_init(&daemon->loop, &daemon->ends[i]) || uv_signal_start(&daemon->ends[i], on_signal, ends[i]))
            return daemon_refuse(daemon, EXIT_REFUSED, TALLY_IO, "signals");
    }
    return true;
}

static bool endpoints_open(struct daemon *daemon)
{
    const struct options *options = daemon->options;
    const struct tally_tls *tls = options->tls.cert || options->tls.ca ? &options->tls : NULL;
    struct tally_reason reason;
    const struct tally_rep_options ingest = {.setting = "ingest",
                                             .url = options->ingest,
                                             .endpoint = {.receive_bytes_max = TALLY_BATCH_BYTES_MAX, .tls = tls},
                                             .contexts = INGEST_CONTEXTS,
                                             .request = on_ingest,
                                             .ctx = daemon};
    const struct tally_rep_options catchup = {.setting = "catchup",
                                              .url = options->catchup,
                                              .endpoint = {.receive_bytes_max = TALLY_CONTROL_BYTES_MAX, .tls = tls},
                                              .contexts = CATCHUP_CONTEXTS,
                                              .request = on_catch_up,
                                              .ctx = daemon};
    const struct tally_pull_options pull = {.setting = "ingest-pull",
                                            .url = options->ingest_pull,
                                            .endpoint = {.receive_bytes_max = TALLY_BATCH_BYTES_MAX, .tls = tls},
                                            .slots = PULL_SLOTS,
                                            .message = on_push,
                                            .ctx = daemon};
    const struct tally_endpoint_options publish = {.receive_bytes_max = TALLY_CONTROL_BYTES_MAX, .tls = tls};
    enum tally_status status = tally_rep_open(&ingest, &daemon->loop, &daemon->ingest, &reason);
    if (!status && options->ingest_pull) status = tally_pull_open(&pull, &daemon->loop, &daemon->pull, &reason);
    if (!status) status = tally_pub_open(&daemon->pub, "publish", options->publish, &publish, &reason);
    if (!status) status = tally_rep_open(&catchup, &daemon->loop, &daemon->catchup, &reason);
    if (!status) return true;
    return daemon_refuse(daemon, status == TALLY_INVALID ? EXIT_WRONG_USE : EXIT_CANNOT_REACH, status, reason.text);
}

static void go_live(struct daemon *daemon)
{
    struct tally_server_stats stats;
    tally_server_stats(daemon->server, &stats);
    atomic_store(&daemon->ready, true);
    tally_rep_arm(daemon->ingest);
    tally_rep_arm(daemon->catchup);
    if (daemon->pull) tally_pull_arm(daemon->pull);
    (void)uv_timer_start(&daemon->tick, on_tick, daemon->options->tick_ms, daemon->options->tick_ms);
    (void)uv_timer_start(&daemon->refusals, on_refusals, REFUSALS_MS, REFUSALS_MS);
    tally_info("ready", tally_log_str("dataset", daemon->options->dataset), tally_log_hex("epoch", stats.epoch),
               tally_log_u64("version", stats.version), tally_log_u64("keys", stats.rows));
}

static void serve(struct daemon *daemon)
{
    bool live = storage_open(daemon, &core_ops) && loop_open(daemon) && endpoints_open(daemon);
    if (live && inputs_open(&daemon->inputs, daemon))
        live = daemon_refuse(daemon, EXIT_REFUSED, TALLY_NO_MEMORY, "no memory for inputs");
    if (live) {
        http_figures_update(daemon);
        live = statsd_open(daemon) && http_open(daemon);
    }
    if (live)
        go_live(daemon);
    else if (daemon->loop_open)
        end_finish(daemon);
    if (daemon->loop_open) {
        (void)uv_run(&daemon->loop, UV_RUN_DEFAULT);
        uint64_t now_ms = uv_now(&daemon->loop);
        uint64_t left_ms = daemon->grace_end_ms > now_ms ? daemon->grace_end_ms - now_ms : 0;
        tally_http_stop(&daemon->http, (unsigned)left_ms); // its readers must be gone before the core is
    }
    tally_reads_native_destroy(&daemon->reads);
    tally_feed_destroy(&daemon->feed);
}

enum exit_code daemon_run(const struct options *options)
{
    // Static, and not taken apart: NNG's threads may still put mail into its loop, until the process is gone.
    static struct daemon daemon;
    daemon = (struct daemon){.options = options};
    (void)signal(SIGPIPE, SIG_IGN);
    if (pthread_mutex_init(&daemon.mutex, NULL)) return EXIT_REFUSED;
    serve(&daemon);
    storage_close(&daemon);
    tally_info("ended", tally_log_u64("exit_code", (uint64_t)daemon.exit_code));
    return daemon.exit_code;
}
