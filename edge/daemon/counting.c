// SPDX-License-Identifier: Apache-2.0
#include "counting.h"

#include <io/log.h>
#include <io/metrics.h>
#include <messages/messages.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <tallycast/limits.h>
#include <time.h>

struct edge_counting {
    struct edge_counting_options options;
    struct tally_counts *counts;
    struct tally_producer *producer; // under mutex
    struct tally_spool *spool;
    struct edge_ingest *ingest;
    void *reader; // the loop's
    pthread_mutex_t mutex;
    uv_timer_t timer;
    struct tally_mailbox mailbox;
    struct tally_mail written;
    enum tally_status write_status; // handed over with the mail
    bool stopping;
    // Numbers by which the core tells what is durable: of the last drain, times DRAIN_POSTS, plus one for each post since.
    uint64_t number;
    struct tally_http_count *posts; // that wait until they are durable; linked by owner[0], the number in owner[1]
};

// How often a reader pins anew, when what it read was older than what is still told apart.
#define MINE_TRIES 16u

#define DRAIN_POSTS ((uint64_t)1 << 24)

static uint64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static const char *server_url(const struct edge_counting *counting, uint32_t server)
{
    const struct tally_strings *urls = &counting->options.options->count;
    return server < urls->count ? urls->items[server] : "";
}

// ---------------------------------------------------------------------------------------------------- actions of the core: under mutex

static void do_write(void *ctx, bool anew, struct tally_bytes group)
{
    struct edge_counting *counting = ctx;
    tally_spool_write(counting->spool, anew, group);
}

static enum tally_status do_send(void *ctx, uint32_t server, uint64_t request, struct tally_bytes bytes)
{
    struct edge_counting *counting = ctx;
    if (counting->stopping) return TALLY_UNREACHABLE; // it stays in the spool
    return edge_ingest_send(counting->ingest, server, request, bytes);
}

static enum tally_status values_of(struct edge_counting *counting, const struct tally_http_view *view,
                                   const struct tally_sums *sums, int64_t *out_values)
{
    const struct tally_http_source *source = counting->options.source;
    enum { SOME = 512 };
    struct tally_bytes keys[SOME];
    bool found[SOME];
    uint32_t count = tally_sums_count(sums), to;
    for (uint32_t from = 0; from < count; from = to) {
        struct tally_sum sum, first;
        tally_sums_at(sums, from, &first);
        for (to = from; to < count && to - from < SOME; to++) {
            if (tally_sums_table_at(sums, to) != tally_sums_table_at(sums, from)) break;
            tally_sums_at(sums, to, &sum);
            keys[to - from] = sum.key;
        }
        enum tally_status status =
            tally_http_get_many(source, counting->reader, view, first.table, keys, to - from, out_values + from, found);
        if (status != TALLY_OK && status != TALLY_NOT_FOUND) return status;
        for (uint32_t i = 0; i < to - from; i++)
            if (status != TALLY_OK || !found[i]) out_values[from + i] = 0;
    }
    return TALLY_OK;
}

static enum tally_status do_values(void *ctx, const struct tally_sums *sums, int64_t *out_values, uint64_t *out_epoch,
                                   uint64_t *out_version)
{
    struct edge_counting *counting = ctx;
    const struct tally_http_source *source = counting->options.source;
    struct tally_http_view view;
    struct tally_view_info info = {0};
    enum tally_status status = source->pin(counting->reader, &view);
    if (status == TALLY_BUSY) { // nothing is held yet: version 0, which has nothing
        memset(out_values, 0, tally_sums_count(sums) * sizeof *out_values);
        status = TALLY_OK;
    } else if (status == TALLY_OK) {
        source->info(counting->reader, &view, &info);
        status = values_of(counting, &view, sums, out_values);
        source->unpin(counting->reader, &view);
    }
    if (status != TALLY_OK) return status;
    *out_epoch = info.epoch;
    *out_version = info.version;
    return TALLY_OK;
}

static void do_refuse(void *ctx, enum tally_counting counting, struct tally_bytes table, enum tally_status status)
{
    struct edge_counting *edge_counting = ctx;
    tally_counts_refuse(edge_counting->counts, counting, table, status);
}

static void do_event(void *ctx, const struct tally_producer_event *event)
{
    struct edge_counting *counting = ctx;
    const struct tally_log_field server = tally_log_str("server", server_url(counting, event->server));
    const struct tally_log_field sequence = tally_log_u64("sequence", event->sequence);
    switch (event->kind) {
    case TALLY_PRODUCER_EVENT_RESUMED:
        tally_info("count_resumed", tally_log_u64("entries", event->count), sequence);
        return;
    case TALLY_PRODUCER_EVENT_RENAMED:
        tally_warn("count_renamed", server, tally_log_status(event->status), sequence,
                   tally_log_str("effect", "the batch is sent again as a new producer's: the server lost what it had "
                                           "acknowledged, or forgot this edge"));
        return;
    case TALLY_PRODUCER_EVENT_REFUSED:
        tally_error("count_refused", server, tally_log_bytes("table", event->table), tally_log_status(event->status),
                    tally_log_bytes("message", event->text), tally_log_u64("entries_dropped", event->count),
                    tally_log_u64("amount", event->amount));
        return;
    case TALLY_PRODUCER_EVENT_PUT_OFF:
        tally_warn("count_put_off", server, tally_log_status(event->status), tally_log_bytes("message", event->text));
        return;
    case TALLY_PRODUCER_EVENT_WRITTEN:
        if (event->status == TALLY_OK)
            tally_info("count_spool_recovered");
        else
            tally_error("count_spool_failed", tally_log_status(event->status),
                        tally_log_str("effect", "counts are kept in memory, and not sent, until it can be written"));
        return;
    case TALLY_PRODUCER_EVENT_FULL:
        if (event->status == TALLY_OK)
            tally_info("count_spool_has_room");
        else
            tally_warn("count_spool_full", tally_log_u64("entries", event->count),
                       tally_log_str("effect", "new keys are refused until a server takes some"));
        return;
    case TALLY_PRODUCER_EVENT_UNREADABLE: tally_error("count_spool_refused", tally_log_status(event->status)); return;
    }
}

static const struct tally_producer_ops producer_ops = {
    .write = do_write, .send = do_send, .values = do_values, .refuse = do_refuse, .event = do_event};

// ---------------------------------------------------------------------------------------------------- inputs: the loop's thread

static enum tally_status take(void *ctx, const struct tally_sum *sum) { return tally_producer_take(ctx, sum); }

// Ends what an input began: the mutex is held before and not after.
static void settle(struct edge_counting *counting)
{
    uint64_t durable = tally_producer_durable(counting->producer);
    tally_counts_gate(counting->counts, tally_producer_gate(counting->producer));
    pthread_mutex_unlock(&counting->mutex);
    tally_counts_settle(counting->counts, durable / DRAIN_POSTS);
    struct tally_http_count *post = counting->posts, *waiting = NULL;
    while (post) {
        struct tally_http_count *next = (struct tally_http_count *)(uintptr_t)post->owner[0];
        if (post->owner[1] <= durable) {
            tally_http_counted(post);
        } else {
            post->owner[0] = (uintptr_t)waiting;
            waiting = post;
        }
        post = next;
    }
    counting->posts = waiting;
}

static void drain(struct edge_counting *counting)
{
    uint64_t number, now_ms = monotonic_ms();
    pthread_mutex_lock(&counting->mutex);
    if (tally_counts_due(counting->counts)) {
        enum tally_status status = tally_counts_drain(counting->counts, take, counting->producer, &number);
        if (status == TALLY_OK) {
            counting->number = number * DRAIN_POSTS;
            tally_producer_taken(counting->producer, now_ms, counting->number);
        } else {
            tally_producer_untake(counting->producer);
        }
    }
    tally_producer_tick(counting->producer, now_ms);
    settle(counting);
}

static void on_timer(uv_timer_t *timer) { drain(timer->data); }

// Whether it may be counted, and why not.
static enum tally_status admit(struct edge_counting *counting, struct tally_http_count *post)
{
    enum tally_status full = tally_producer_gate(counting->producer);
    if (counting->stopping) return TALLY_BUSY;
    for (uint32_t i = 0; i < tally_sums_count(post->sums); i++) {
        struct tally_sum sum;
        tally_sums_at(post->sums, i, &sum);
        enum tally_status status = tally_counts_refusal(counting->counts, &sum);
        if (status == TALLY_OK && full != TALLY_OK && !tally_producer_known(counting->producer, &sum)) status = full;
        if (status == TALLY_OK) continue;
        if (status == full) {
            tally_reason_set(&post->reason, "the spool is full: new keys are refused until a server takes some");
            return TALLY_BUSY;
        }
        tally_reason_set(&post->reason, "table %.*s: %s", (int)sum.table.size, (const char *)sum.table.data,
                         tally_status_str(status));
        return status;
    }
    return TALLY_OK;
}

static enum tally_status take_post(struct edge_counting *counting, struct tally_http_count *post)
{
    // First: what was taken once is not refused, whatever has become of its tables and of the room since.
    if (post->producer && tally_producer_took_once(counting->producer, post->producer)) return TALLY_REPEAT;
    enum tally_status status = admit(counting, post);
    if (status != TALLY_OK) return status;
    for (uint32_t i = 0; status == TALLY_OK && i < tally_sums_count(post->sums); i++) {
        struct tally_sum sum;
        tally_sums_at(post->sums, i, &sum);
        status = tally_producer_take(counting->producer, &sum);
    }
    // Last: nothing fails after it.
    if (status == TALLY_OK && post->producer) status = tally_producer_take_once(counting->producer, post->producer);
    if (status != TALLY_OK) {
        tally_reason_set(&post->reason, "%s", tally_status_str(status));
        tally_producer_untake(counting->producer);
    }
    return status;
}

static void on_post(struct edge_counting *counting, struct tally_http_count *post)
{
    pthread_mutex_lock(&counting->mutex);
    post->status = take_post(counting, post);
    bool waits = post->status == TALLY_OK || post->status == TALLY_REPEAT;
    if (post->status == TALLY_OK) tally_producer_taken(counting->producer, monotonic_ms(), ++counting->number);
    // A repeat of what is not durable yet waits for that, too.
    post->owner[1] = counting->number;
    if (waits) {
        post->owner[0] = (uintptr_t)counting->posts;
        counting->posts = post;
    }
    settle(counting);
    if (!waits) tally_http_counted(post);
}

void edge_counting_post(struct edge_counting *counting, struct tally_http_count *count)
{
    tally_mailbox_put(&counting->mailbox, &count->mail);
}

static void on_mail(void *ctx, struct tally_mail *mail)
{
    struct edge_counting *counting = ctx;
    if (mail != &counting->written) {
        on_post(counting, (struct tally_http_count *)(void *)mail);
        return;
    }
    pthread_mutex_lock(&counting->mutex);
    tally_producer_written(counting->producer, monotonic_ms(), counting->write_status);
    settle(counting);
}

// The spool's thread. One write is under way at a time, so the mail is not queued.
static void written(void *ctx, enum tally_status status)
{
    struct edge_counting *counting = ctx;
    counting->write_status = status;
    tally_mailbox_put(&counting->mailbox, &counting->written);
}

static void on_answer(void *ctx, uint32_t server, uint64_t request, struct tally_bytes answer)
{
    struct edge_counting *counting = ctx;
    pthread_mutex_lock(&counting->mutex);
    tally_producer_answer(counting->producer, monotonic_ms(), server, request, answer);
    settle(counting);
}

static void on_failed(void *ctx, uint32_t server, uint64_t request, enum tally_status status)
{
    struct edge_counting *counting = ctx;
    pthread_mutex_lock(&counting->mutex);
    tally_producer_answer_failed(counting->producer, monotonic_ms(), server, request, status);
    settle(counting);
}

static const struct edge_requester_ops ingest_ops = {.answer = on_answer, .failed = on_failed};

void edge_counting_applied(struct edge_counting *counting, uint64_t epoch, uint64_t version)
{
    pthread_mutex_lock(&counting->mutex);
    tally_producer_applied(counting->producer, epoch, version);
    pthread_mutex_unlock(&counting->mutex);
}

// ---------------------------------------------------------------------------------------------------- coming and going

static bool known(void *ctx, const struct tally_sum *sum)
{
    struct edge_counting *counting = ctx;
    pthread_mutex_lock(&counting->mutex);
    bool is_known = tally_producer_known(counting->producer, sum);
    pthread_mutex_unlock(&counting->mutex);
    return is_known;
}

static void draw(void *out, size_t size)
{
    if (getrandom(out, size, 0) == (ssize_t)size) return;
    uint64_t now = monotonic_ms(); // no entropy, hardly possible: then at least not the same at each start
    memcpy(out, &now, size < sizeof now ? size : sizeof now);
}

static enum tally_status create_producer(struct edge_counting *counting)
{
    const struct edge_options *options = counting->options.options;
    struct tally_producer_options producer = {.dataset = tally_bytes(options->dataset, strlen(options->dataset)),
                                              .servers = (uint32_t)options->count.count,
                                              .spool_bytes_max = options->count_spool,
                                              .batch_ms = options->count_tick_ms,
                                              .reserve_bytes = tally_counts_bytes_max(counting->counts)};
    draw(&producer.random, sizeof producer.random);
    draw(&producer.seed, sizeof producer.seed);
    return tally_producer_create(&producer, &producer_ops, counting, &tally_alloc_libc, &counting->producer);
}

static enum tally_status boot_group(void *ctx, struct tally_bytes group)
{
    struct edge_counting *counting = ctx;
    return tally_producer_boot(counting->producer, group);
}

// Reads the spool. One that is damaged is set aside: the edge goes on without it, and says so.
static enum tally_status boot(struct edge_counting *counting, struct tally_reason *out_reason)
{
    enum tally_status status = tally_spool_boot(counting->spool, boot_group, counting, out_reason);
    if (status != TALLY_CORRUPT && status != TALLY_MALFORMED) return status;
    tally_error(
        "count_spool_damaged", tally_log_str("reason", out_reason->text),
        tally_log_str("action", "set aside as count.bad; what it held and was not acknowledged is not counted"));
    if (tally_spool_set_aside(counting->spool) != TALLY_OK) return TALLY_IO;
    tally_producer_destroy(&counting->producer);
    return create_producer(counting);
}

static enum tally_status start(struct edge_counting *counting, struct tally_reason *out_reason)
{
    const struct edge_options *options = counting->options.options;
    struct tally_counts_options counts = {
        .bytes = options->count_memory, .others_bytes = options->count_memory / 4, .known = known, .ctx = counting};
    struct edge_ingest_options ingest = {
        .urls = options->count, .tls = {.cert = options->tls_cert, .key = options->tls_key, .ca = options->tls_ca}};
    draw(&counts.seed, sizeof counts.seed);
    enum tally_status status = tally_counts_create(&counts, &counting->counts);
    if (status == TALLY_OK) status = create_producer(counting);
    if (status != TALLY_OK) {
        tally_reason_set(out_reason, "counting cannot start: %s", tally_status_str(status));
        return status;
    }
    const struct tally_http_source *source = counting->options.source;
    status = source->open_reader(source->ctx, counting->options.reader, &counting->reader);
    if (status != TALLY_OK) tally_reason_set(out_reason, "no reader for counting: %s", tally_status_str(status));
    if (status == TALLY_OK) status = tally_spool_open(options->data, &counting->spool, out_reason);
    if (status == TALLY_OK) status = boot(counting, out_reason);
    if (status == TALLY_OK) {
        status = tally_mailbox_open(&counting->mailbox, counting->options.loop, on_mail, counting);
        if (status == TALLY_OK) status = tally_spool_start(counting->spool, written, counting);
        if (status != TALLY_OK) tally_reason_set(out_reason, "no thread for the spool");
    }
    if (status == TALLY_OK)
        status =
            edge_ingest_open(&ingest, &ingest_ops, counting, counting->options.loop, &counting->ingest, out_reason);
    return status;
}

enum tally_status edge_counting_start(const struct edge_counting_options *options, struct edge_counting **out_counting,
                                      struct tally_reason *out_reason)
{
    struct edge_counting *counting = calloc(1, sizeof *counting);
    if (!counting) {
        tally_reason_set(out_reason, "no memory");
        return TALLY_NO_MEMORY;
    }
    counting->options = *options;
    pthread_mutex_init(&counting->mutex, NULL);
    uv_timer_init(options->loop, &counting->timer);
    counting->timer.data = counting;
    *out_counting = counting; // what is half open is closed by edge_counting_stop
    enum tally_status status = start(counting, out_reason);
    if (status != TALLY_OK) return status;
    pthread_mutex_lock(&counting->mutex);
    tally_producer_boot_end(counting->producer, monotonic_ms());
    settle(counting);
    uint64_t tick_ms = options->options->count_tick_ms;
    uv_timer_start(&counting->timer, on_timer, tick_ms, tick_ms);
    return TALLY_OK;
}

void edge_counting_stop(struct edge_counting **counting, unsigned grace_ms)
{
    struct edge_counting *it = *counting;
    if (!it) return;
    uint64_t until_ms = monotonic_ms() + grace_ms;
    it->stopping = true;
    edge_ingest_stop(it->ingest);
    if (it->ingest) {
        drain(it);
        // All that was counted is on disk before the process ends, if the disk takes it. The timer goes on ticking.
        struct tally_producer_stats stats;
        for (;;) {
            tally_producer_stats(it->producer, monotonic_ms(), &stats);
            if (!tally_counts_due(it->counts) && tally_producer_kept(it->producer)) break;
            if (monotonic_ms() >= until_ms) break;
            uv_run(it->options.loop, UV_RUN_ONCE);
        }
        tally_info("count_stopped", tally_log_u64("entries_kept", stats.waiting + stats.in_flight),
                   tally_log_u64("durable", tally_producer_kept(it->producer)));
    }
    uv_timer_stop(&it->timer);
    tally_spool_close(&it->spool);
    if (it->reader) it->options.source->close_reader(it->options.source->ctx, it->reader);
    tally_producer_destroy(&it->producer);
    tally_counts_destroy(&it->counts);
    *counting = NULL; // the rest stays with the loop, and NNG's threads, until the process ends
}

struct tally_counts *edge_counting_counts(struct edge_counting *counting) { return counting->counts; }

// ---------------------------------------------------------------------------------------------------- global plus mine

void edge_counting_settle(struct edge_counting *counting)
{
    const struct tally_http_source *source = counting->options.source;
    if (source->settle) source->settle(counting->reader);
}

// The value of the newest version, and the kind of its table: unspecified when the mirror does not have it.
static enum tally_status read_value(const struct tally_http_source *source, void *reader, struct tally_bytes table,
                                    struct tally_bytes key, struct tally_http_mine *out_mine, enum tally_kind *out_kind)
{
    struct tally_http_view view;
    struct tally_table_info info;
    uint32_t number;
    *out_mine = (struct tally_http_mine){0};
    *out_kind = TALLY_KIND_UNSPECIFIED;
    enum tally_status status = source->pin(reader, &view);
    if (status == TALLY_BUSY) return TALLY_OK; // nothing is held yet: version 0
    if (status != TALLY_OK) return status;
    source->info(reader, &view, &out_mine->info);
    status = source->table(reader, &view, table, &number);
    if (status == TALLY_OK) status = source->table_info(reader, &view, number, &info);
    if (status == TALLY_OK) {
        *out_kind = info.kind;
        status = source->get(reader, &view, number, key, &out_mine->value);
        out_mine->found = status == TALLY_OK;
    }
    source->unpin(reader, &view);
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

// What waits for the key, counted in this way. No drain can be between the two while the mutex is held.
static enum tally_status read_waiting(struct edge_counting *counting, struct tally_counter *counter,
                                      enum tally_counting how, struct tally_bytes table, struct tally_bytes key,
                                      const struct tally_view_info *info, struct tally_mine *out_mine)
{
    pthread_mutex_lock(&counting->mutex);
    enum tally_status status =
        tally_producer_mine(counting->producer, info->epoch, info->version, how, table, key, out_mine);
    if (status == TALLY_OK) status = tally_counts_undrained(counter, how, table, key, &out_mine->mine);
    pthread_mutex_unlock(&counting->mutex);
    return status;
}

// One try: TALLY_OLD to pin anew.
static enum tally_status read_mine(struct edge_counting *counting, struct tally_counter *counter, void *reader,
                                   struct tally_bytes table, struct tally_bytes key, struct tally_http_mine *out_mine)
{
    static const enum tally_counting of_kind[TALLY_KINDS] = {[TALLY_KIND_COUNTER] = TALLY_COUNTING_ADD,
                                                             [TALLY_KIND_GAUGE] = TALLY_COUNTING_SET,
                                                             [TALLY_KIND_MIN] = TALLY_COUNTING_MIN,
                                                             [TALLY_KIND_MAX] = TALLY_COUNTING_MAX,
                                                             [TALLY_KIND_TOPK] = TALLY_COUNTING_TOPK};
    enum tally_kind kind;
    struct tally_mine mine = {0};
    enum tally_status status = read_value(counting->options.source, reader, table, key, out_mine, &kind);
    if (status != TALLY_OK) return status;
    if (kind == TALLY_KIND_DISTINCT) return TALLY_UNSUPPORTED;
    // Of a table that has not come back yet, it is of the kind for which something waits.
    enum tally_kind first = kind ? kind : TALLY_KIND_COUNTER, last = kind ? kind : TALLY_KIND_TOPK;
    for (unsigned each = first; status == TALLY_OK && !mine.mine.any && each <= last; each++)
        if (each != TALLY_KIND_DISTINCT)
            status = read_waiting(counting, counter, of_kind[each], table, key, &out_mine->info, &mine);
    if (status != TALLY_OK) return status;
    if (mine.based) {
        out_mine->value = mine.value;
        out_mine->found = mine.value != 0;
        out_mine->info.epoch = mine.epoch;
        out_mine->info.version = mine.version;
    }
    out_mine->mine = mine.mine;
    out_mine->total = tally_merged_over(&mine.mine, out_mine->found, out_mine->value);
    out_mine->in_doubt = mine.in_doubt;
    return TALLY_OK;
}

enum tally_status edge_counting_mine(struct edge_counting *counting, struct tally_counter *counter, void *reader,
                                     struct tally_bytes table, struct tally_bytes key, struct tally_http_mine *out_mine)
{
    enum tally_status status = TALLY_OLD;
    // Each time that it is too old a newer version has come meanwhile.
    for (unsigned i = 0; status == TALLY_OLD && i < MINE_TRIES; i++)
        status = read_mine(counting, counter, reader, table, key, out_mine);
    return status == TALLY_OLD ? TALLY_BUSY : status;
}

// ---------------------------------------------------------------------------------------------------- metrics

static void counts_metrics(struct tally_writer *out, const struct tally_counts_stats *counts)
{
    tally_metric_counter(out, "tally_count_adds_total", "Counts taken from guests, HTTP and StatsD.", counts->adds);
    tally_metric_head(out, "tally_count_refused_total", TALLY_METRIC_COUNTER, "Counts refused, by reason.");
    tally_metric_sample(out, "tally_count_refused_total", "reason", "full", counts->refused_full);
    tally_metric_sample(out, "tally_count_refused_total", "reason", "table", counts->refused_table);
    tally_metric_sample(out, "tally_count_refused_total", "reason", "bad", counts->refused_bad);
    tally_metric_counter(out, "tally_count_refused_amount_total",
                         "What those refused for lack of room would have added.", counts->refused_amount);
    tally_metric_counter(out, "tally_count_drains_total", "Times that what threads merged was taken.", counts->drains);
    tally_metric_gauge(out, "tally_count_threads", "Threads that count.", counts->threads);
}

static void spool_metrics(struct tally_writer *out, const struct tally_producer_stats *stats)
{
    tally_metric_gauge(out, "tally_spool_batches", "Batches on their way.", stats->in_flight > 0);
    tally_metric_head(out, "tally_spool_entries", TALLY_METRIC_GAUGE, "Entries that are not acknowledged.");
    tally_metric_sample(out, "tally_spool_entries", "part", "waiting", stats->waiting);
    tally_metric_sample(out, "tally_spool_entries", "part", "in_flight", stats->in_flight);
    tally_metric_head(out, "tally_spool_alive_bytes", TALLY_METRIC_GAUGE, "Bytes of them in batches.");
    tally_metric_sample(out, "tally_spool_alive_bytes", "part", "waiting", stats->waiting_bytes);
    tally_metric_sample(out, "tally_spool_alive_bytes", "part", "in_flight", stats->in_flight_bytes);
    tally_metric_gauge(out, "tally_spool_bytes", "Bytes of the spool's file.", stats->spool_bytes);
    tally_metric_head(out, "tally_spool_age_seconds", TALLY_METRIC_GAUGE, "How long the oldest of it waits.");
    tally_metric_sample_seconds(out, "tally_spool_age_seconds", NULL, NULL, stats->age_ms * 1000000);
    tally_metric_counter(out, "tally_spool_writes_total", "Groups written.", stats->writes);
    tally_metric_counter(out, "tally_spool_written_bytes_total", "Bytes of them.", stats->write_bytes);
    tally_metric_counter(out, "tally_spool_rewrites_total", "Times that the spool was written anew.", stats->rewrites);
    tally_metric_counter(out, "tally_spool_failures_total", "Writes that failed.", stats->write_failures);
    tally_metric_counter(out, "tally_spool_full_total", "Times that it was full.", stats->full);
    tally_metric_gauge(out, "tally_spool_full", "1: new keys are refused.", stats->gate_closed);
    tally_metric_gauge(out, "tally_spool_failing", "1: it cannot be written.", stats->failing);
    tally_metric_counter(out, "tally_spool_taken_total", "Entries taken.", stats->taken);
    tally_metric_counter(out, "tally_spool_merged_total", "Entries merged with others that waited.", stats->merged);
}

static void producer_metrics(struct tally_writer *out, const struct tally_producer_stats *stats)
{
    tally_metric_counter(out, "tally_producer_batches_total", "Batches made.", stats->batches);
    tally_metric_counter(out, "tally_producer_batch_entries_total", "Entries of them.", stats->batch_entries);
    tally_metric_counter(out, "tally_producer_batch_bytes_total", "Bytes of them.", stats->batch_bytes);
    tally_metric_counter(out, "tally_producer_sent_total", "Requests sent.", stats->sent);
    tally_metric_counter(out, "tally_producer_sent_bytes_total", "Bytes of them.", stats->sent_bytes);
    tally_metric_counter(out, "tally_producer_resends_total", "Requests that were sent before.", stats->resends);
    tally_metric_counter(out, "tally_producer_failed_total", "Requests put off, or without an answer.", stats->failed);
    tally_metric_counter(out, "tally_producer_acknowledged_total", "Batches acknowledged.", stats->acknowledged);
    tally_metric_counter(out, "tally_producer_repeats_total", "Of these, counted before.", stats->repeats);
    tally_metric_counter(out, "tally_producer_refused_total", "Batches refused.", stats->refused);
    tally_metric_counter(out, "tally_producer_put_back_total", "Batches of several tables taken apart for that.",
                         stats->put_back);
    tally_metric_counter(out, "tally_producer_dropped_total", "Entries given up because their table was refused.",
                         stats->dropped);
    tally_metric_counter(out, "tally_producer_dropped_amount_total", "What they would have added.",
                         stats->dropped_amount);
    tally_metric_counter(out, "tally_producer_renamed_total", "Times that the server had forgotten this edge.",
                         stats->renamed);
}

void edge_counting_metrics(struct edge_counting *counting, struct tally_writer *out)
{
    struct tally_counts_stats counts;
    struct tally_producer_stats stats;
    tally_counts_stats(counting->counts, &counts);
    pthread_mutex_lock(&counting->mutex);
    tally_producer_stats(counting->producer, monotonic_ms(), &stats);
    pthread_mutex_unlock(&counting->mutex);
    counts_metrics(out, &counts);
    spool_metrics(out, &stats);
    producer_metrics(out, &stats);
}
