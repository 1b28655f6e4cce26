// SPDX-License-Identifier: Apache-2.0
#include "counts.h"

#include <linux/futex.h>
#include <messages/messages.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <tallycast/limits.h>
#include <unistd.h>

#define BYTES_DEFAULT        (16u << 20)
#define OTHERS_BYTES_DEFAULT (4u << 20)
#define CACHE                64u // tables whose numbers a counter keeps at hand; a power of two
#define REFUSED_MAX          64u // tables that are refused at a time
#define BUSY_YIELDS          2000u

struct cached {
    uint8_t name[TALLY_NAME_BYTES_MAX];
    uint32_t size, table; // size 0: empty
};

// The counts of refusals have one writer, the counter's thread; others read them: relaxed.
struct tally_counter {
    struct tally_counts *counts;
    struct tally_counter *next, **link; // in the list of all
    struct tally_member member;
    _Atomic uint64_t adds, full, table, bad, amount;
    struct cached cache[CACHE];
};

struct refused {
    uint8_t name[TALLY_NAME_BYTES_MAX];
    uint32_t size;
    enum tally_counting counting;
    enum tally_status status;
};

struct tally_counts {
    struct tally_counts_options options;
    void *memory;
    struct tally_map *map;
    struct tally_member drainer;
    // Written by the loop, read by all before each addition. Relaxed: an addition that is late or early by one is as good.
    _Atomic uint32_t gate;
    _Atomic uint32_t refused_count;
    // The loop's.
    bool half_way; // the map has swapped, the drain has not ended: written under `mutex`

    pthread_mutex_t mutex; // of what follows
    struct tally_sums others, draining;
    struct refused refused[REFUSED_MAX];
    struct tally_counter *counters;
    struct tally_counter gone; // sums of those who left
    struct tally_counts_waiter *waiters;
    uint64_t drain; // number of the last that began
    uint32_t threads;
};

static void futex_wait(void *ctx, _Atomic uint32_t *word, uint32_t expected)
{
    (void)ctx;
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(void *ctx, _Atomic uint32_t *word)
{
    (void)ctx;
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static const struct tally_map_waiter waiter = {.wait = futex_wait, .wake = futex_wake};

// ---------------------------------------------------------------------------------------------------- coming and going

enum tally_status tally_counts_create(const struct tally_counts_options *options, struct tally_counts **out_counts)
{
    struct tally_counts *counts = calloc(1, sizeof *counts);
    if (!counts) return TALLY_NO_MEMORY;
    counts->options = *options;
    if (!counts->options.bytes) counts->options.bytes = BYTES_DEFAULT;
    if (!counts->options.others_bytes) counts->options.others_bytes = OTHERS_BYTES_DEFAULT;
    size_t bytes = (size_t)counts->options.bytes / 64 * 64;
    struct tally_map_options map = {.kind = TALLY_MAP_CAS, .seed = options->seed};
    pthread_mutex_init(&counts->mutex, NULL);
    tally_sums_init(&counts->others, options->seed, &tally_alloc_libc);
    tally_sums_init(&counts->draining, options->seed, &tally_alloc_libc);
    enum tally_status status = TALLY_NO_MEMORY;
    if ((counts->memory = aligned_alloc(64, bytes ? bytes : 64)))
        status = tally_map_init(counts->memory, bytes, &map, &counts->map);
    if (status == TALLY_OK) status = tally_map_join(counts->map, &waiter, &counts->drainer);
    if (status == TALLY_OK)
        *out_counts = counts;
    else
        tally_counts_destroy(&counts);
    return status;
}

void tally_counts_destroy(struct tally_counts **counts)
{
    struct tally_counts *it = *counts;
    if (!it) return;
    while (it->waiters) {
        struct tally_counts_waiter *first = it->waiters;
        it->waiters = first->next;
        first->done(first, TALLY_IO);
    }
    tally_sums_deinit(&it->others);
    tally_sums_deinit(&it->draining);
    pthread_mutex_destroy(&it->mutex);
    free(it->memory);
    free(it);
    *counts = NULL;
}

enum tally_status tally_counts_join(struct tally_counts *counts, struct tally_counter **out_counter)
{
    struct tally_counter *counter = calloc(1, sizeof *counter);
    if (!counter) return TALLY_NO_MEMORY;
    enum tally_status status = tally_map_join(counts->map, &waiter, &counter->member);
    if (status != TALLY_OK) {
        free(counter);
        return status;
    }
    counter->counts = counts;
    pthread_mutex_lock(&counts->mutex);
    counter->next = counts->counters;
    if (counter->next) counter->next->link = &counter->next;
    counter->link = &counts->counters;
    counts->counters = counter;
    counts->threads++;
    pthread_mutex_unlock(&counts->mutex);
    *out_counter = counter;
    return TALLY_OK;
}

static void add_to(_Atomic uint64_t *number, uint64_t more)
{
    atomic_store_explicit(number, atomic_load_explicit(number, memory_order_relaxed) + more, memory_order_relaxed);
}

static uint64_t load(const _Atomic uint64_t *number) { return atomic_load_explicit(number, memory_order_relaxed); }

static void sum_up(struct tally_counter *total, const struct tally_counter *one)
{
    add_to(&total->adds, load(&one->adds));
    add_to(&total->full, load(&one->full));
    add_to(&total->table, load(&one->table));
    add_to(&total->bad, load(&one->bad));
    add_to(&total->amount, load(&one->amount));
}

void tally_counts_leave(struct tally_counter **counter)
{
    struct tally_counter *it = *counter;
    if (!it) return;
    pthread_mutex_lock(&it->counts->mutex);
    sum_up(&it->counts->gone, it);
    *it->link = it->next;
    if (it->next) it->next->link = it->link;
    it->counts->threads--;
    pthread_mutex_unlock(&it->counts->mutex);
    tally_map_leave(&it->member);
    free(it);
    *counter = NULL;
}

// ---------------------------------------------------------------------------------------------------- counting

// The number of a table in the map. TALLY_FULL when the map has no more numbers.
static enum tally_status table_number(struct tally_counter *counter, struct tally_bytes name, uint32_t *out_table)
{
    uint32_t hash = (uint32_t)name.size;
    for (size_t i = 0; i < name.size; i++) hash = (hash ^ name.data[i]) * 0x01000193u;
    struct cached *cached = &counter->cache[(hash ^ hash >> 16) & (CACHE - 1)];
    if (cached->size == name.size && memcmp(cached->name, name.data, name.size) == 0) {
        *out_table = cached->table;
        return TALLY_OK;
    }
    enum tally_status status = tally_map_table(counter->member.map, name, out_table);
    if (status != TALLY_OK) return status;
    memcpy(cached->name, name.data, name.size);
    cached->size = (uint32_t)name.size;
    cached->table = *out_table;
    return TALLY_OK;
}

static enum tally_status put_other(struct tally_counts *counts, const struct tally_sum *sum)
{
    enum tally_status status = TALLY_FULL;
    pthread_mutex_lock(&counts->mutex);
    if (counts->others.bytes + tally_sum_bytes(sum) <= counts->options.others_bytes ||
        tally_sums_has(&counts->others, sum))
        status = tally_sums_add(&counts->others, sum);
    pthread_mutex_unlock(&counts->mutex);
    return status;
}

static bool is_refused(const struct refused *refused, enum tally_counting counting, struct tally_bytes table)
{
    return refused->counting == counting && tally_bytes_equal(tally_bytes(refused->name, refused->size), table);
}

enum tally_status tally_counts_refusal(struct tally_counts *counts, const struct tally_sum *sum)
{
    enum tally_status status = TALLY_OK;
    pthread_mutex_lock(&counts->mutex);
    uint32_t count = atomic_load_explicit(&counts->refused_count, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++)
        if (is_refused(&counts->refused[i], sum->counting, sum->table)) status = counts->refused[i].status;
    pthread_mutex_unlock(&counts->mutex);
    return status;
}

static enum tally_status check(const struct tally_sum *sum)
{
    bool sums_up = sum->counting == TALLY_COUNTING_ADD || sum->counting == TALLY_COUNTING_TOPK;
    if (sum->counting >= TALLY_COUNTINGS || !tally_name_valid(sum->table)) return TALLY_INVALID;
    if (sums_up && sum->number < 0) return TALLY_INVALID;
    return sum->key.size == 0 || sum->key.size > TALLY_KEY_BYTES_MAX ? TALLY_LIMIT : TALLY_OK;
}

static enum tally_status merge(struct tally_counter *counter, const struct tally_sum *sum)
{
    uint32_t table;
    if (sum->counting != TALLY_COUNTING_ADD || sum->number > TALLY_MAP_AMOUNT_MAX)
        return put_other(counter->counts, sum);
    enum tally_status status = table_number(counter, sum->table, &table);
    if (status == TALLY_FULL) return put_other(counter->counts, sum);
    return status == TALLY_OK ? tally_map_add(&counter->member, table, sum->key, sum->number) : status;
}

enum tally_status tally_counts_put(struct tally_counter *counter, const struct tally_sum *sum)
{
    struct tally_counts *counts = counter->counts;
    enum tally_status status = check(sum);
    if (status != TALLY_OK) {
        add_to(&counter->bad, 1);
        return status;
    }
    if (atomic_load_explicit(&counts->refused_count, memory_order_relaxed) &&
        (status = tally_counts_refusal(counts, sum)) != TALLY_OK) {
        add_to(&counter->table, 1);
        return status;
    }
    status = (enum tally_status)atomic_load_explicit(&counts->gate, memory_order_relaxed);
    if (status != TALLY_OK && counts->options.known && counts->options.known(counts->options.ctx, sum))
        status = TALLY_OK;
    if (status == TALLY_OK) status = merge(counter, sum);
    if (status == TALLY_OK) {
        add_to(&counter->adds, 1);
    } else {
        add_to(&counter->full, 1);
        if (sum->counting == TALLY_COUNTING_ADD) add_to(&counter->amount, (uint64_t)sum->number);
    }
    return status;
}

enum tally_status tally_counts_add(struct tally_counter *counter, struct tally_bytes table, struct tally_bytes key,
                                   int64_t amount)
{
    const struct tally_sum sum = {.counting = TALLY_COUNTING_ADD, .table = table, .key = key, .number = amount};
    return tally_counts_put(counter, &sum);
}

enum tally_status tally_counts_undrained(struct tally_counter *counter, enum tally_counting counting,
                                         struct tally_bytes table, struct tally_bytes key, struct tally_merged *merged)
{
    struct tally_counts *counts = counter->counts;
    const struct tally_sum sum = {.counting = counting, .table = table, .key = key};
    enum tally_status status = check(&sum);
    if (status != TALLY_OK) return status;
    int64_t other = 0, mapped = 0;
    enum tally_counting how = counting;
    uint32_t number;
    pthread_mutex_lock(&counts->mutex);
    bool there = tally_sums_get(&counts->others, counting, table, key, &how, &other) == TALLY_OK;
    bool half_way = counts->half_way;
    pthread_mutex_unlock(&counts->mutex);
    if (half_way) return TALLY_BUSY;
    if (counting == TALLY_COUNTING_ADD && table_number(counter, table, &number) == TALLY_OK)
        status = tally_map_get(&counter->member, number, key, &mapped);
    if (status != TALLY_OK) return status;
    if (there) tally_merged_add(merged, how, other);
    if (mapped) tally_merged_add(merged, counting, mapped);
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- drain

// The map's drain has to begin and may have to wait for additions that are half-way, each of a few instructions.
static enum tally_status begin(struct tally_counts *counts, struct tally_drain *out_drain)
{
    enum tally_status status = tally_drain_begin(&counts->drainer, out_drain);
    for (unsigned i = 0; status == TALLY_BUSY && i < BUSY_YIELDS; i++) {
        sched_yield();
        status = tally_drain_begin(&counts->drainer, out_drain);
    }
    return status;
}

static enum tally_status take_map(struct tally_counts *counts, struct tally_drain *drain,
                                  enum tally_status (*take)(void *ctx, const struct tally_sum *sum), void *ctx)
{
    struct tally_entry entry;
    enum tally_status status = TALLY_OK;
    while (status == TALLY_OK && tally_drain_next(drain, &entry)) {
        const struct tally_sum sum = {.counting = TALLY_COUNTING_ADD,
                                      .table = tally_map_table_name(counts->map, entry.table),
                                      .key = entry.key,
                                      .number = entry.amount};
        status = take(ctx, &sum);
    }
    return status;
}

enum tally_status tally_counts_drain(struct tally_counts *counts,
                                     enum tally_status (*take)(void *ctx, const struct tally_sum *sum), void *ctx,
                                     uint64_t *out_drain)
{
    struct tally_drain drain;
    pthread_mutex_lock(&counts->mutex);
    if (!counts->half_way) {
        // What waits for this drain was merged before it began: the swaps come after this.
        struct tally_sums empty = counts->draining;
        counts->draining = counts->others;
        counts->others = empty;
        counts->drain++;
        counts->half_way = true;
    }
    uint64_t number = counts->drain;
    pthread_mutex_unlock(&counts->mutex);
    enum tally_status status = begin(counts, &drain);
    if (status == TALLY_OK) status = take_map(counts, &drain, take, ctx);
    for (uint32_t i = 0; status == TALLY_OK && i < tally_sums_count(&counts->draining); i++) {
        struct tally_sum sum;
        tally_sums_at(&counts->draining, i, &sum);
        status = take(ctx, &sum);
    }
    if (status != TALLY_OK) return status;
    tally_drain_end(&drain);
    tally_sums_clear(&counts->draining);
    pthread_mutex_lock(&counts->mutex);
    counts->half_way = false;
    pthread_mutex_unlock(&counts->mutex);
    *out_drain = number;
    return TALLY_OK;
}

bool tally_counts_due(struct tally_counts *counts)
{
    if (tally_map_len(counts->map)) return true;
    pthread_mutex_lock(&counts->mutex);
    bool due = counts->half_way || counts->waiters || tally_sums_count(&counts->others);
    pthread_mutex_unlock(&counts->mutex);
    return due;
}

uint64_t tally_counts_bytes_max(const struct tally_counts *counts)
{
    return counts->options.bytes / 2 + counts->options.others_bytes;
}

// ---------------------------------------------------------------------------------------------------- waiting

void tally_counts_wait(struct tally_counts *counts, struct tally_counts_waiter *waiting)
{
    pthread_mutex_lock(&counts->mutex);
    waiting->drain = counts->drain + 1;
    waiting->next = counts->waiters;
    counts->waiters = waiting;
    pthread_mutex_unlock(&counts->mutex);
}

void tally_counts_settle(struct tally_counts *counts, uint64_t drain)
{
    struct tally_counts_waiter *done = NULL, **link;
    pthread_mutex_lock(&counts->mutex);
    for (link = &counts->waiters; *link;) {
        struct tally_counts_waiter *at = *link;
        if (at->drain > drain) {
            link = &at->next;
            continue;
        }
        *link = at->next;
        at->next = done;
        done = at;
    }
    pthread_mutex_unlock(&counts->mutex);
    while (done) {
        struct tally_counts_waiter *next = done->next;
        done->done(done, TALLY_OK);
        done = next;
    }
}

// ---------------------------------------------------------------------------------------------------- refusing

void tally_counts_gate(struct tally_counts *counts, enum tally_status status)
{
    atomic_store_explicit(&counts->gate, (uint32_t)status, memory_order_relaxed);
}

void tally_counts_refuse(struct tally_counts *counts, enum tally_counting counting, struct tally_bytes table,
                         enum tally_status status)
{
    pthread_mutex_lock(&counts->mutex);
    uint32_t count = atomic_load_explicit(&counts->refused_count, memory_order_relaxed), at = 0;
    while (at < count && !is_refused(&counts->refused[at], counting, table)) at++;
    if (status == TALLY_OK && at < count) {
        counts->refused[at] = counts->refused[--count];
    } else if (status != TALLY_OK && at < REFUSED_MAX) {
        struct refused *refused = &counts->refused[at];
        if (at == count) count++;
        memcpy(refused->name, table.data, table.size);
        refused->size = (uint32_t)table.size;
        refused->counting = counting;
        refused->status = status;
    }
    atomic_store_explicit(&counts->refused_count, count, memory_order_relaxed);
    pthread_mutex_unlock(&counts->mutex);
}

void tally_counts_stats(struct tally_counts *counts, struct tally_counts_stats *out_stats)
{
    struct tally_counter total = {0};
    pthread_mutex_lock(&counts->mutex);
    sum_up(&total, &counts->gone);
    for (const struct tally_counter *at = counts->counters; at; at = at->next) sum_up(&total, at);
    *out_stats = (struct tally_counts_stats){.adds = load(&total.adds),
                                             .refused_full = load(&total.full),
                                             .refused_table = load(&total.table),
                                             .refused_bad = load(&total.bad),
                                             .refused_amount = load(&total.amount),
                                             .drains = counts->drain,
                                             .keys = tally_map_len(counts->map) + tally_sums_count(&counts->others),
                                             .threads = counts->threads};
    for (const struct tally_counts_waiter *at = counts->waiters; at; at = at->next) out_stats->waiters++;
    pthread_mutex_unlock(&counts->mutex);
}
