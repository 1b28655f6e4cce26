// SPDX-License-Identifier: Apache-2.0
#include "statsd.h"

#define TRIES 100 // of an addition that another thread hinders for a moment

static enum tally_status begin(void *ctx)
{
    struct edge_statsd *statsd = ctx;
    return tally_counts_join(statsd->counts, &statsd->counter);
}

static enum tally_status take(void *ctx, const struct tally_sum *sum)
{
    struct edge_statsd *statsd = ctx;
    enum tally_status status = TALLY_BUSY;
    for (int i = 0; status == TALLY_BUSY && i < TRIES; i++) status = tally_counts_put(statsd->counter, sum);
    return status;
}

static void tick(void *ctx) { (void)ctx; } // the edge drains all counts by itself

static void end(void *ctx)
{
    struct edge_statsd *statsd = ctx;
    tally_counts_leave(&statsd->counter);
}

enum tally_status edge_statsd_open(struct edge_statsd *statsd, const struct edge_options *options,
                                   struct tally_counts *counts, struct tally_reason *out_reason)
{
    if (!options->statsd) return TALLY_OK;
    statsd->counts = counts;
    enum tally_status status =
        tally_statsd_rules_load(&options->statsd_rules, options->statsd_tags == 1, &statsd->rules, out_reason);
    if (status) return status;
    const struct tally_statsd_options listen = {.listen = options->statsd,
                                                .rules = &statsd->rules,
                                                .tick_ms = (unsigned)options->count_tick_ms,
                                                .buffer_bytes = (unsigned)options->statsd_buffer,
                                                .begin = begin,
                                                .take = take,
                                                .tick = tick,
                                                .end = end,
                                                .ctx = statsd};
    return tally_statsd_listen(&listen, &statsd->listener, out_reason);
}

void edge_statsd_close(struct edge_statsd *statsd) { tally_statsd_stop(&statsd->listener); }
