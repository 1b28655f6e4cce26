// SPDX-License-Identifier: Apache-2.0
#include "statsd.h"

#include <io/log.h>
#include <sums/sums_batch.h>
#include <sys/random.h>

#include "daemon.h"

#define TELL_MS 10000u // at least so long between two words about refusals

// ---------------------------------------------------------------------------------------------------- the listener's thread

static enum tally_status take(void *ctx, const struct tally_sum *sum)
{
    struct statsd_input *input = ctx;
    struct tally_sums *sums = &input->sums[input->filling];
    if (sums->bytes >= TALLY_STATSD_SUMS_BYTES_MAX && !tally_sums_has(sums, sum)) return TALLY_FULL;
    return tally_sums_add(sums, sum);
}

static void hand_over(void *ctx)
{
    struct statsd_input *input = ctx;
    if (atomic_load_explicit(&input->handed, memory_order_acquire)) return;
    struct tally_sums *sums = &input->sums[input->filling];
    if (!tally_sums_count(sums) || tally_sums_group(sums)) return; // no memory: at the next tick
    input->filling ^= 1;
    input->at = 0;
    atomic_store_explicit(&input->handed, true, memory_order_release);
    tally_mailbox_put(&input->mailbox, &input->mail);
}

// ---------------------------------------------------------------------------------------------------- the loop

static bool again_later(enum tally_status status)
{
    return status == TALLY_BUSY || status == TALLY_NO_MEMORY || status == TALLY_IO || status == TALLY_NO_SPACE;
}

// Entries from number `first` on that one batch takes: all of one table.
static uint32_t of_one_table(const struct tally_sums *sums, uint32_t first, struct tally_bytes *out_table)
{
    uint32_t most = tally_sums_fit(sums, first, TALLY_BATCH_BYTES_MAX), count = 1;
    struct tally_sum sum, other;
    tally_sums_at(sums, first, &sum);
    for (; count < most; count++) {
        tally_sums_at(sums, first + count, &other);
        if (!tally_bytes_equal(other.table, sum.table)) break;
    }
    *out_table = sum.table;
    return count;
}

static void tell_refused(struct statsd_input *input, struct tally_bytes table, uint32_t keys, enum tally_status status)
{
    uint64_t now_ms = uv_now(&input->daemon->loop);
    if (input->listener) tally_statsd_refused(input->listener, keys);
    if (input->told_ms && now_ms - input->told_ms < TELL_MS) return;
    input->told_ms = now_ms;
    tally_warn("statsd_refused", tally_log_bytes("table", table), tally_log_u64("keys", keys), tally_log_status(status),
               tally_log_str("reason", input->daemon->inputs.reason.text));
}

static void offer_all(struct statsd_input *input, struct tally_sums *sums)
{
    while (input->at < tally_sums_count(sums)) {
        struct tally_bytes table;
        uint32_t count = of_one_table(sums, input->at, &table);
        enum tally_status status = inputs_offer(&input->daemon->inputs, &input->producer, sums, input->at, count);
        if (again_later(status)) return;
        if (status) tell_refused(input, table, count, status);
        input->at += count;
        daemon_after_input(input->daemon);
    }
    tally_sums_clear(sums);
}

void statsd_go_on(struct statsd_input *input)
{
    if (!atomic_load_explicit(&input->handed, memory_order_acquire)) return;
    struct tally_sums *sums = &input->sums[input->filling ^ 1]; // it does not change while this one is handed
    offer_all(input, sums);
    if (!tally_sums_count(sums)) atomic_store_explicit(&input->handed, false, memory_order_release);
}

static void on_mail(void *ctx, struct tally_mail *mail)
{
    (void)mail;
    statsd_go_on(ctx);
}

bool statsd_open(struct daemon *daemon)
{
    struct statsd_input *input = &daemon->statsd;
    const struct options *options = daemon->options;
    struct tally_reason reason;
    struct tally_seed seed;
    if (!options->statsd) return true;
    input->daemon = daemon;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        return daemon_refuse(daemon, EXIT_REFUSED, TALLY_IO, "the system gives no random numbers");
    tally_sums_init(&input->sums[0], seed, &tally_alloc_libc);
    tally_sums_init(&input->sums[1], seed, &tally_alloc_libc);
    input_producer_draw(&input->producer);
    enum tally_status status =
        tally_statsd_rules_load(&options->statsd_rules, options->statsd_tags == 1, &input->rules, &reason);
    if (!status) status = tally_mailbox_open(&input->mailbox, &daemon->loop, on_mail, input);
    if (status) return daemon_refuse(daemon, EXIT_REFUSED, status, "--statsd");
    const struct tally_statsd_options listen = {.listen = options->statsd,
                                                .rules = &input->rules,
                                                .tick_ms = (unsigned)options->tick_ms,
                                                .buffer_bytes = (unsigned)options->statsd_buffer,
                                                .take = take,
                                                .tick = hand_over,
                                                .ctx = input};
    status = tally_statsd_listen(&listen, &input->listener, &reason);
    if (!status) return true;
    return daemon_refuse(daemon, status == TALLY_INVALID ? EXIT_WRONG_USE : EXIT_CANNOT_REACH, status, reason.text);
}

void statsd_close(struct statsd_input *input)
{
    if (!input->listener) return;
    struct tally_statsd_listener *listener = input->listener;
    pthread_mutex_lock(&input->daemon->mutex); // who tells its metrics
    input->listener = NULL;
    pthread_mutex_unlock(&input->daemon->mutex);
    tally_statsd_stop(&listener);
    // Its thread has ended: both tallies are this one's.
    statsd_go_on(input);
    struct tally_sums *rest = &input->sums[input->filling];
    if (tally_sums_count(rest) && !tally_sums_group(rest)) {
        input->at = 0;
        offer_all(input, rest);
    }
    uint32_t lost = tally_sums_count(&input->sums[0]) + tally_sums_count(&input->sums[1]);
    if (lost)
        tally_warn("statsd_lost", tally_log_u64("keys", lost),
                   tally_log_str("reason", "the server could not take them before its end"));
}
