// SPDX-License-Identifier: Apache-2.0
#include "timed_log.h"

#include <time.h>

static struct tally_record_log *inner_of(struct tally_record_log *log) { return ((struct timed_log *)log)->inner; }

static uint64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static enum tally_status identity(struct tally_record_log *log, struct tally_log_identity *out_identity)
{
    return inner_of(log)->ops->identity(inner_of(log), out_identity);
}

static enum tally_status reset(struct tally_record_log *log, const struct tally_log_identity *to)
{
    return inner_of(log)->ops->reset(inner_of(log), to);
}

static void range(struct tally_record_log *log, uint64_t *out_first, uint64_t *out_last, bool *out_continuous)
{
    inner_of(log)->ops->range(inner_of(log), out_first, out_last, out_continuous);
}

static enum tally_status append(struct tally_record_log *log, uint64_t version, struct tally_bytes record)
{
    struct timed_log *timed = (struct timed_log *)log;
    uint64_t begun = now_ns();
    enum tally_status status = timed->inner->ops->append(timed->inner, version, record);
    atomic_fetch_add_explicit(&timed->append_ns, now_ns() - begun, memory_order_relaxed);
    atomic_fetch_add_explicit(&timed->appends, 1, memory_order_relaxed);
    return status;
}

static enum tally_status read_record(struct tally_record_log *log, uint64_t version, struct tally_bytes *out_record)
{
    return inner_of(log)->ops->read(inner_of(log), version, out_record);
}

static enum tally_status trim(struct tally_record_log *log, uint64_t version, bool *out_more)
{
    return inner_of(log)->ops->trim(inner_of(log), version, out_more);
}

static void close_log(struct tally_record_log *log) { inner_of(log)->ops->close(inner_of(log)); }

void timed_log_init(struct timed_log *log, struct tally_record_log *inner)
{
    static const struct tally_record_log_ops ops = {identity, reset, range, append, read_record, trim, close_log};
    *log = (struct timed_log){.log = {.ops = &ops}, .inner = inner};
}
