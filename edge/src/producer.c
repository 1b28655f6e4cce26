// SPDX-License-Identifier: Apache-2.0
#include <messages/messages.h>

#include "producer_internal.h"

#define SPOOL_BYTES_DEFAULT (64u << 20)
#define MINE_BYTES_DEFAULT  (16u << 20)
#define ANSWER_MS           10000u
#define RETRY_MS_MIN        50u
#define RETRY_MS_MAX        2000u
#define REFUSE_MS           10000u
#define REWRITE_BYTES_MIN   (1u << 20)
#define REWRITE_FACTOR      4u // a spool so many times as large as what is alive in it is written anew
// A request whose seal was damaged may look like one without a seal, and like nothing that we sent: believed when it is said so often.
#define SHAPE_REFUSALS 3u
// Of a batch's encoding, from above: what stands around the entries, and around those of a table.
#define BATCH_BYTES 256u
#define TABLE_BYTES 64u

static void event(const struct tally_producer *producer, struct tally_producer_event told)
{
    if (producer->ops->event) producer->ops->event(producer->ctx, &told);
}

static uint64_t next_random(struct tally_producer *producer)
{
    return tally_mix64(producer->random += 0x9e3779b97f4a7c15u);
}

// ---------------------------------------------------------------------------------------------------- coming and going

static void set_defaults(struct tally_producer_options *options)
{
    if (!options->spool_bytes_max) options->spool_bytes_max = SPOOL_BYTES_DEFAULT;
    if (!options->batch_bytes_max) options->batch_bytes_max = TALLY_BATCH_BYTES_MAX;
    if (!options->mine_bytes_max) options->mine_bytes_max = MINE_BYTES_DEFAULT;
    if (!options->answer_ms) options->answer_ms = ANSWER_MS;
    if (!options->retry_ms_min) options->retry_ms_min = RETRY_MS_MIN;
    if (!options->retry_ms_max) options->retry_ms_max = RETRY_MS_MAX;
    if (!options->refuse_ms) options->refuse_ms = REFUSE_MS;
    if (!options->rewrite_bytes_min) options->rewrite_bytes_min = REWRITE_BYTES_MIN;
}

enum tally_status tally_producer_create(const struct tally_producer_options *options,
                                        const struct tally_producer_ops *ops, void *ctx,
                                        const struct tally_alloc *alloc, struct tally_producer **out_producer)
{
    if (!tally_name_valid(options->dataset)) return TALLY_INVALID;
    if (!options->servers || options->servers > TALLY_PRODUCER_SERVERS_MAX) return TALLY_INVALID;
    if (options->batch_bytes_max > TALLY_BATCH_BYTES_MAX) return TALLY_INVALID;
    struct tally_producer *producer = tally_alloc_resize(alloc, NULL, sizeof *producer);
    if (!producer) return TALLY_NO_MEMORY;
    *producer = (struct tally_producer){.options = *options, .ops = ops, .ctx = ctx, .alloc = alloc};
    set_defaults(&producer->options);
    memcpy(producer->dataset, options->dataset.data, options->dataset.size);
    producer->options.dataset = tally_bytes(producer->dataset, options->dataset.size);
    producer->random = options->random;
    while (!producer->id || tally_producer_once(producer->id)) producer->id = next_random(producer);
    producer->sequence = 1;
    struct tally_sums *const sums[] = {&producer->taking, &producer->fresh, &producer->tail, &producer->flight.sums};
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) tally_sums_init(sums[i], options->seed, alloc);
    struct tally_writer *const writers[] = {&producer->group, &producer->body, &producer->entries, &producer->amounts,
                                            &producer->flight.request};
    for (size_t i = 0; i < sizeof writers / sizeof *writers; i++) *writers[i] = tally_writer_growable(alloc);
    *out_producer = producer;
    return TALLY_OK;
}

void tally_producer_destroy(struct tally_producer **producer)
{
    struct tally_producer *it = *producer;
    if (!it) return;
    mine_free(it);
    struct tally_sums *const sums[] = {&it->taking, &it->fresh, &it->tail, &it->flight.sums};
    for (size_t i = 0; i < sizeof sums / sizeof *sums; i++) tally_sums_deinit(sums[i]);
    struct tally_writer *const writers[] = {&it->group, &it->body, &it->entries, &it->amounts, &it->flight.request};
    for (size_t i = 0; i < sizeof writers / sizeof *writers; i++) tally_writer_free(writers[i]);
    tally_alloc_free(it->alloc, it);
    *producer = NULL;
}

// ---------------------------------------------------------------------------------------------------- what waits

static uint64_t waiting_bytes(const struct tally_producer *producer)
{
    return producer->taking.bytes + producer->fresh.bytes + producer->tail.bytes;
}

enum tally_status tally_producer_gate(const struct tally_producer *producer)
{
    uint64_t used = waiting_bytes(producer);
    if (producer->flight.state != BATCH_NONE) used += producer->flight.request.size;
    return used + producer->options.reserve_bytes > producer->options.spool_bytes_max ? TALLY_FULL : TALLY_OK;
}

static void look_at_gate(struct tally_producer *producer)
{
    enum tally_status status = tally_producer_gate(producer);
    if ((status != TALLY_OK) == producer->stats.gate_closed) return;
    producer->stats.gate_closed = status != TALLY_OK;
    producer->stats.full += producer->stats.gate_closed;
    event(producer, (struct tally_producer_event){.kind = TALLY_PRODUCER_EVENT_FULL,
                                                  .status = status,
                                                  .count = tally_sums_count(&producer->tail)});
}

bool tally_producer_known(const struct tally_producer *producer, const struct tally_sum *sum)
{
    return tally_sums_has(&producer->tail, sum) || tally_sums_has(&producer->fresh, sum) ||
           tally_sums_has(&producer->taking, sum);
}

// Merges from the front until memory ends; what was merged has left `from`. `logged`: into the group, too.
static bool merge(struct tally_producer *producer, struct tally_sums *from, struct tally_sums *to, bool logged)
{
    uint32_t count = tally_sums_count(from), done = 0;
    for (; done < count; done++) {
        struct tally_sum sum;
        size_t size = producer->group.size;
        uint32_t before = tally_sums_count(to);
        tally_sums_at(from, done, &sum);
        if (logged && !log_sum(producer, &sum)) break;
        if (tally_sums_add(to, &sum) != TALLY_OK) {
            if (logged) producer->group.size = size;
            break;
        }
        producer->stats.merged += tally_sums_count(to) == before;
    }
    tally_sums_drop(from, done);
    return done == count;
}

// What a drain brought joins what waits. False: not all of it, memory ended; it is tried again.
static bool merge_taken(struct tally_producer *producer)
{
    if (!producer->taking_whole) return true;
    if (!merge(producer, &producer->taking, &producer->fresh, false)) return false;
    producer->taking_whole = false;
    producer->taken_drain = producer->taking_drain;
    return true;
}

enum tally_status tally_producer_take(struct tally_producer *producer, const struct tally_sum *sum)
{
    if (!merge_taken(producer)) return TALLY_NO_MEMORY; // the drain before goes first
    return tally_sums_add(&producer->taking, sum);
}

void tally_producer_untake(struct tally_producer *producer)
{
    if (!producer->taking_whole) tally_sums_clear(&producer->taking);
}

// ---------------------------------------------------------------------------------------------------- a batch

static bool same_table(const struct tally_sums *sums, uint32_t a, uint32_t b)
{
    return tally_sums_table_at(sums, a) == tally_sums_table_at(sums, b);
}

// How many of the tail's first entries go into a batch.
static uint32_t fitting(const struct tally_producer *producer)
{
    const struct tally_sums *tail = &producer->tail;
    uint32_t count = tally_sums_count(tail), max = TALLY_BATCH_ENTRIES_MAX, n = 0;
    uint64_t seen[TALLY_SUMS_TABLES_MAX / 64] = {0}, bytes = BATCH_BYTES;
    if (producer->isolate && producer->isolate < max) max = producer->isolate;
    for (; n < count && n < max; n++) {
        struct tally_sum sum;
        uint32_t table = tally_sums_table_at(tail, n);
        if (producer->isolate && !same_table(tail, 0, n)) break;
        tally_sums_at(tail, n, &sum);
        size_t more = tally_sum_bytes(&sum);
        // Twice: a gauge may be both set and adjusted.
        if (!(seen[table / 64] >> table % 64 & 1)) more += 2 * (TABLE_BYTES + sum.table.size);
        if (n && bytes + more > producer->options.batch_bytes_max) break;
        seen[table / 64] |= (uint64_t)1 << table % 64;
        bytes += more;
    }
    return n;
}

static void forget_flight(struct tally_producer *producer)
{
    tally_sums_clear(&producer->flight.sums);
    producer->flight.state = BATCH_NONE;
}

// Makes a batch of the tail's first `count` entries and writes it into the group; they have left the tail then. False: nothing changed.
static bool make_batch(struct tally_producer *producer, uint32_t count, uint64_t now_ms)
{
    struct flight *flight = &producer->flight;
    bool all = count == tally_sums_count(&producer->tail);
    enum tally_status status = TALLY_OK;
    for (uint32_t i = 0; status == TALLY_OK && i < count; i++) {
        struct tally_sum sum;
        tally_sums_at(&producer->tail, i, &sum);
        status = tally_sums_add(&flight->sums, &sum);
    }
    flight->sequence = producer->sequence;
    if (status == TALLY_OK) status = tally_sums_group(&flight->sums);
    if (status == TALLY_OK) status = encode_request(producer);
    if (status != TALLY_OK || !log_batch(producer, all ? UINT32_MAX : count)) {
        tally_sums_clear(&flight->sums);
        return false;
    }
    assert(flight->request.size <= producer->options.batch_bytes_max || count == 1);
    tally_sums_drop(&producer->tail, count);
    producer->isolate -= producer->isolate < count ? producer->isolate : count;
    flight->state = BATCH_WRITING;
    flight->ever_sent = flight->resumed = false;
    flight->tries = flight->refusals = 0;
    flight->since_ms = producer->since_ms;
    producer->since_ms = now_ms;
    producer->batch_at_ms = now_ms + producer->options.batch_ms;
    producer->stats.batches++;
    producer->stats.batch_bytes += flight->request.size;
    producer->stats.batch_entries += count;
    return true;
}

// ---------------------------------------------------------------------------------------------------- writing

// All there is, for a spool written anew.
static bool write_image(struct tally_producer *producer)
{
    if (!merge(producer, &producer->fresh, &producer->tail, false)) return false;
    if (!log_header(producer)) return false;
    if (producer->flight.state != BATCH_NONE && !log_batch(producer, 0)) return false;
    for (uint32_t i = 0; i < tally_sums_count(&producer->tail); i++) {
        struct tally_sum sum;
        tally_sums_at(&producer->tail, i, &sum);
        if (!log_sum(producer, &sum)) return false;
    }
    uint64_t first =
        producer->once_count > TALLY_PRODUCER_ONCE_MAX ? producer->once_count - TALLY_PRODUCER_ONCE_MAX : 0;
    for (uint64_t i = first; i < producer->once_count; i++)
        if (!log_once(producer, producer->once[i % TALLY_PRODUCER_ONCE_MAX])) return false;
    producer->once_logged = producer->once_count;
    producer->settled = SETTLED_NOTHING;
    return true;
}

// What is new. False: nothing is, but perhaps that a batch is done, which need not be written for its own sake.
static bool write_news(struct tally_producer *producer, uint64_t now_ms)
{
    struct tally_writer *group = &producer->group;
    if (producer->settled == SETTLED_DONE && !log_done(producer)) return false;
    if (producer->settled == SETTLED_PUT_BACK && !log_put_back(producer)) return false;
    size_t settled = group->size;
    (void)merge(producer, &producer->fresh, &producer->tail, true);
    size_t merged = group->size;
    uint32_t waiting = tally_sums_count(&producer->tail), count = 0;
    if (producer->flight.state == BATCH_NONE && waiting && now_ms >= producer->batch_at_ms) count = fitting(producer);
    if (count && make_batch(producer, count, now_ms) && count == waiting) {
        // The batch has all that came: it is not written twice.
        memmove(group->data + settled, group->data + merged, group->size - merged);
        group->size -= merged - settled;
    }
    // An id is not written before all that came under it.
    while (!tally_sums_count(&producer->fresh) && producer->once_logged < producer->once_count) {
        if (!log_once(producer, producer->once[producer->once_logged % TALLY_PRODUCER_ONCE_MAX])) break;
        producer->once_logged++;
    }
    if (group->size == settled && producer->settled != SETTLED_PUT_BACK) return false;
    producer->settled = SETTLED_NOTHING;
    return true;
}

static bool too_long(const struct tally_producer *producer)
{
    uint64_t alive = producer->tail.bytes + producer->fresh.bytes, written = producer->stats.spool_bytes;
    if (producer->flight.state != BATCH_NONE) alive += producer->flight.request.size;
    return written > producer->options.rewrite_bytes_min &&
           (written > REWRITE_FACTOR * alive || written > 2 * producer->options.spool_bytes_max);
}

static void write_later(struct tally_producer *producer, uint64_t now_ms)
{
    uint64_t longer = producer->write_ms * 2;
    producer->write_ms = longer < producer->options.retry_ms_min ? producer->options.retry_ms_min : longer;
    if (producer->write_ms > producer->options.retry_ms_max) producer->write_ms = producer->options.retry_ms_max;
    producer->write_at_ms = now_ms + producer->write_ms;
}

// Nothing that was taken is in memory alone, but for what is being written.
static bool all_logged(const struct tally_producer *producer)
{
    return !tally_sums_count(&producer->fresh) && producer->once_logged == producer->once_count;
}

static void write_some(struct tally_producer *producer, uint64_t now_ms)
{
    if (producer->writing || now_ms < producer->write_at_ms) return;
    (void)merge_taken(producer);
    log_begin(producer);
    if (too_long(producer)) producer->anew = true;
    if (producer->anew) {
        if (!write_image(producer)) {
            write_later(producer, now_ms);
            return;
        }
    } else if (!write_news(producer, now_ms)) {
        // All that was taken is durable, or nothing came since.
        if (all_logged(producer)) producer->durable_drain = producer->taken_drain;
        return;
    }
    producer->writing = true;
    // Of a drain of which a part is still in fresh, for lack of memory, the next write tells.
    producer->writing_drain = all_logged(producer) ? producer->taken_drain : producer->durable_drain;
    producer->written_bytes = producer->group.size;
    producer->stats.writes++;
    producer->stats.write_bytes += producer->group.size;
    producer->stats.rewrites += producer->anew;
    producer->writing_anew = producer->anew;
    producer->writing_flight = producer->flight.state == BATCH_WRITING;
    producer->anew = false;
    producer->ops->write(producer->ctx, producer->writing_anew, tally_writer_bytes(&producer->group));
}

// ---------------------------------------------------------------------------------------------------- sending

static void put_off(struct tally_producer *producer, uint64_t now_ms, enum tally_status status, struct tally_bytes text)
{
    uint32_t server = producer->server;
    uint64_t longer = producer->retry_ms * 2;
    producer->retry_ms = longer < producer->options.retry_ms_min ? producer->options.retry_ms_min : longer;
    if (producer->retry_ms > producer->options.retry_ms_max) producer->retry_ms = producer->options.retry_ms_max;
    // Half of it to all of it, so that edges that lost the same server do not come back together.
    producer->retry_at_ms = now_ms + producer->retry_ms / 2 + next_random(producer) % (producer->retry_ms / 2 + 1);
    producer->flight.state = BATCH_WAITING;
    producer->server = (server + 1) % producer->options.servers;
    producer->stats.failed++;
    if (producer->put_off == status) return;
    producer->put_off = status; // once a reason, not once a try
    event(producer, (struct tally_producer_event){
                        .kind = TALLY_PRODUCER_EVENT_PUT_OFF, .status = status, .server = server, .text = text});
}

static void send_some(struct tally_producer *producer, uint64_t now_ms)
{
    struct flight *flight = &producer->flight;
    const struct tally_bytes nothing = {0};
    if (flight->state == BATCH_SENT && now_ms >= producer->answer_by_ms)
        put_off(producer, now_ms, TALLY_TIMEOUT, nothing);
    if (flight->state != BATCH_WAITING || now_ms < producer->retry_at_ms) return;
    if (!flight->ever_sent) mine_sent(producer);
    flight->ever_sent = true; // whatever the send says: it may have left
    producer->stats.sent++;
    producer->stats.sent_bytes += flight->request.size;
    producer->stats.resends += flight->tries++ > 0;
    flight->state = BATCH_SENT;
    producer->answer_by_ms = now_ms + producer->options.answer_ms;
    enum tally_status status =
        producer->ops->send(producer->ctx, producer->server, ++producer->request, tally_writer_bytes(&flight->request));
    if (status != TALLY_OK) put_off(producer, now_ms, status, nothing);
}

static void pump(struct tally_producer *producer, uint64_t now_ms)
{
    if (!producer->booted) return;
    write_some(producer, now_ms);
    send_some(producer, now_ms);
    look_at_gate(producer);
}

// ---------------------------------------------------------------------------------------------------- what became of it

static void acknowledged(struct tally_producer *producer, const struct tally_answer *answer)
{
    struct flight *flight = &producer->flight;
    producer->stats.acknowledged++;
    producer->stats.repeats += answer->status == TALLY_REPEAT;
    producer->sequence = flight->sequence + 1;
    flight->state = BATCH_NONE;
    producer->settled = SETTLED_DONE;
    producer->retry_ms = producer->retry_at_ms = 0;
    producer->put_off = TALLY_OK;
    mine_resolved(producer, (struct place){answer->epoch, answer->version});
}

// The server does not know what it should: the same entries under another id. Were it the batch's answer alone that was lost, and then the
// server's memory of it, they are counted twice.
static void rename_producer(struct tally_producer *producer, uint64_t now_ms, enum tally_status status)
{
    struct flight *flight = &producer->flight;
    uint64_t id = producer->id, sequence = flight->sequence;
    do producer->id = next_random(producer);
    while (!producer->id || tally_producer_once(producer->id));
    flight->sequence = 1;
    if (encode_request(producer) != TALLY_OK) {
        // The request is gone; entries and spool have it.
        producer->id = id;
        flight->sequence = sequence;
        if (encode_request(producer) != TALLY_OK) flight->request.size = 0;
        put_off(producer, now_ms, TALLY_NO_MEMORY, (struct tally_bytes){0});
        return;
    }
    event(producer, (struct tally_producer_event){.kind = TALLY_PRODUCER_EVENT_RENAMED,
                                                  .status = status,
                                                  .server = producer->server,
                                                  .sequence = sequence});
    producer->sequence = 1;
    producer->stats.renamed++;
    producer->anew = true; // header and batch
    flight->state = BATCH_WRITING;
    flight->ever_sent = flight->resumed = false;
    producer->retry_at_ms = 0;
    mine_unsent(producer);
}

static void refuse_table(struct tally_producer *producer, const struct tally_sum *sum, uint64_t now_ms,
                         enum tally_status status)
{
    struct refusal *place = &producer->refusals[0];
    for (unsigned i = 1; i < REFUSALS_MAX && place->until_ms; i++) place = &producer->refusals[i];
    if (place->until_ms)
        return; // as many as are kept: who counts is not told, what comes is refused by the server again
    memcpy(place->name, sum->table.data, sum->table.size);
    place->sum = (struct tally_sum){.counting = sum->counting, .table = tally_bytes(place->name, sum->table.size)};
    place->until_ms = now_ms + producer->options.refuse_ms;
    producer->ops->refuse(producer->ctx, sum->counting, place->sum.table, status);
}

static void let_tables(struct tally_producer *producer, uint64_t now_ms)
{
    for (unsigned i = 0; i < REFUSALS_MAX; i++) {
        struct refusal *refusal = &producer->refusals[i];
        if (!refusal->until_ms || now_ms < refusal->until_ms) continue;
        refusal->until_ms = 0;
        producer->ops->refuse(producer->ctx, refusal->sum.counting, refusal->sum.table, TALLY_OK);
    }
}

// A batch of one table is given up.
static void give_up(struct tally_producer *producer, uint64_t now_ms, const struct tally_answer *answer)
{
    struct flight *flight = &producer->flight;
    struct tally_sum sum, last = {.counting = TALLY_COUNTINGS};
    uint64_t amount = 0;
    uint32_t count = tally_sums_count(&flight->sums);
    for (uint32_t i = 0; i < count; i++) {
        tally_sums_at(&flight->sums, i, &sum);
        if (sum.counting == TALLY_COUNTING_ADD) amount += (uint64_t)sum.number;
        if (sum.counting != last.counting) refuse_table(producer, &sum, now_ms, answer->status);
        last = sum;
    }
    producer->stats.dropped += count;
    producer->stats.dropped_amount += amount;
    event(producer, (struct tally_producer_event){.kind = TALLY_PRODUCER_EVENT_REFUSED,
                                                  .status = answer->status,
                                                  .server = producer->server,
                                                  .sequence = flight->sequence,
                                                  .count = count,
                                                  .amount = amount,
                                                  .table = last.table,
                                                  .text = answer->message});
    producer->sequence = flight->sequence;
    producer->settled = SETTLED_DONE;
    producer->isolate = 0;
    forget_flight(producer);
    mine_unsent(producer);
}

static void refused(struct tally_producer *producer, uint64_t now_ms, const struct tally_answer *answer)
{
    struct flight *flight = &producer->flight;
    uint32_t count = tally_sums_count(&flight->sums);
    bool shape =
        answer->status == TALLY_MALFORMED || answer->status == TALLY_LIMIT || answer->status == TALLY_UNSUPPORTED;
    if (shape && ++flight->refusals < SHAPE_REFUSALS) {
        put_off(producer, now_ms, answer->status, answer->message);
        return;
    }
    producer->stats.refused++;
    producer->put_off = TALLY_OK;
    // Tables stand together: the first and the last tell whether there are several.
    if (!count || same_table(&flight->sums, 0, count - 1)) {
        give_up(producer, now_ms, answer);
        return;
    }
    uint32_t waiting = tally_sums_count(&producer->tail) + count;
    if (put_back(producer) != TALLY_OK) {
        put_off(producer, now_ms, TALLY_NO_MEMORY, (struct tally_bytes){0}); // it will be refused again
        return;
    }
    producer->isolate = tally_sums_count(&producer->tail);
    producer->stats.merged += waiting - producer->isolate;
    producer->stats.put_back++;
    producer->settled = SETTLED_PUT_BACK;
    producer->since_ms = flight->since_ms;
    mine_unsent(producer);
}

static void take_answer(struct tally_producer *producer, uint64_t now_ms, const struct tally_answer *answer)
{
    switch ((int)answer->status) {
    case TALLY_OK:
    case TALLY_REPEAT: acknowledged(producer, answer); return;
    case TALLY_HOLE:
    case TALLY_UNKNOWN_PRODUCER: rename_producer(producer, now_ms, answer->status); return;
    case TALLY_BUSY:
    case TALLY_NO_MEMORY:
    case TALLY_NO_SPACE:
    case TALLY_IO:
    case TALLY_TIMEOUT:
    case TALLY_UNREACHABLE:
    case TALLY_CORRUPT:
    case TALLY_WRONG_DATASET: // of the settings, not of the batch
        put_off(producer, now_ms, answer->status, answer->message);
        return;
    default: refused(producer, now_ms, answer);
    }
}

// ---------------------------------------------------------------------------------------------------- inputs

void tally_producer_boot_end(struct tally_producer *producer, uint64_t now_ms)
{
    const struct flight *flight = &producer->flight;
    uint64_t count = tally_sums_count(&producer->tail) + (uint64_t)tally_sums_count(&flight->sums);
    producer->booted = true;
    producer->anew = true;
    producer->since_ms = producer->flight.since_ms = now_ms;
    if (flight->state != BATCH_NONE) producer->flight.state = BATCH_WRITING;
    if (count)
        event(producer, (struct tally_producer_event){.kind = TALLY_PRODUCER_EVENT_RESUMED,
                                                      .count = count,
                                                      .sequence = flight->state ? flight->sequence : 0});
    pump(producer, now_ms);
}

bool tally_producer_took_once(const struct tally_producer *producer, uint64_t id)
{
    uint64_t kept = producer->once_count;
    if (kept > TALLY_PRODUCER_ONCE_MAX) kept = TALLY_PRODUCER_ONCE_MAX;
    for (uint64_t i = 0; i < kept; i++)
        if (producer->once[i] == id) return true;
    return false;
}

enum tally_status tally_producer_take_once(struct tally_producer *producer, uint64_t id)
{
    if (tally_producer_took_once(producer, id)) return TALLY_REPEAT;
    // What is not logged yet must not be overwritten.
    if (producer->once_count - producer->once_logged == TALLY_PRODUCER_ONCE_MAX) return TALLY_BUSY;
    producer->once[producer->once_count++ % TALLY_PRODUCER_ONCE_MAX] = id;
    return TALLY_OK;
}

void tally_producer_taken(struct tally_producer *producer, uint64_t now_ms, uint64_t drain)
{
    if (!tally_sums_count(&producer->fresh) && !tally_sums_count(&producer->tail)) producer->since_ms = now_ms;
    if (!producer->taking_whole) {
        producer->stats.taken += tally_sums_count(&producer->taking);
        producer->taking_whole = true;
        producer->taking_drain = drain;
    }
    (void)merge_taken(producer);
    pump(producer, now_ms);
}

void tally_producer_written(struct tally_producer *producer, uint64_t now_ms, enum tally_status status)
{
    assert(producer->writing);
    producer->writing = false;
    if (status != producer->write_status) {
        producer->write_status = status;
        event(producer, (struct tally_producer_event){.kind = TALLY_PRODUCER_EVENT_WRITTEN, .status = status});
    }
    producer->stats.failing = status != TALLY_OK;
    if (status != TALLY_OK) {
        // What is there now is not known: all of it is written anew.
        producer->stats.write_failures++;
        producer->anew = true;
        write_later(producer, now_ms);
    } else {
        producer->stats.spool_bytes =
            (producer->writing_anew ? 0 : producer->stats.spool_bytes) + producer->written_bytes;
        producer->write_ms = producer->write_at_ms = 0;
        if (producer->writing_drain > producer->durable_drain) producer->durable_drain = producer->writing_drain;
        if (producer->writing_flight) producer->flight.state = BATCH_WAITING;
    }
    pump(producer, now_ms);
}

void tally_producer_answer(struct tally_producer *producer, uint64_t now_ms, uint32_t server, uint64_t request,
                           struct tally_bytes bytes)
{
    struct tally_answer answer;
    if (producer->flight.state != BATCH_SENT || request != producer->request || server != producer->server) return;
    enum tally_status status = tally_answer_decode(producer->alloc, bytes, &answer);
    if (status == TALLY_OK) {
        take_answer(producer, now_ms, &answer);
        tally_answer_free(producer->alloc, &answer);
    } else {
        put_off(producer, now_ms, status, (struct tally_bytes){0});
    }
    pump(producer, now_ms);
}

void tally_producer_answer_failed(struct tally_producer *producer, uint64_t now_ms, uint32_t server, uint64_t request,
                                  enum tally_status status)
{
    if (producer->flight.state != BATCH_SENT || request != producer->request || server != producer->server) return;
    put_off(producer, now_ms, status, (struct tally_bytes){0});
    pump(producer, now_ms);
}

void tally_producer_tick(struct tally_producer *producer, uint64_t now_ms)
{
    let_tables(producer, now_ms);
    pump(producer, now_ms);
}

uint64_t tally_producer_due(const struct tally_producer *producer)
{
    uint64_t due_ms = UINT64_MAX;
    if (producer->write_at_ms && !producer->writing) due_ms = producer->write_at_ms;
    if (producer->flight.state == BATCH_NONE && tally_sums_count(&producer->tail) && !producer->writing &&
        producer->batch_at_ms < due_ms)
        due_ms = producer->batch_at_ms > producer->write_at_ms ? producer->batch_at_ms : producer->write_at_ms;
    if (producer->flight.state == BATCH_WAITING && producer->retry_at_ms < due_ms) due_ms = producer->retry_at_ms;
    if (producer->flight.state == BATCH_SENT && producer->answer_by_ms < due_ms) due_ms = producer->answer_by_ms;
    for (unsigned i = 0; i < REFUSALS_MAX; i++) {
        uint64_t until_ms = producer->refusals[i].until_ms;
        if (until_ms && until_ms < due_ms) due_ms = until_ms;
    }
    return due_ms;
}

// ---------------------------------------------------------------------------------------------------- what is known

uint64_t tally_producer_durable(const struct tally_producer *producer) { return producer->durable_drain; }

bool tally_producer_kept(const struct tally_producer *producer)
{
    return !producer->writing && !producer->anew && all_logged(producer) && !tally_sums_count(&producer->taking) &&
           producer->flight.state != BATCH_WRITING;
}

bool tally_producer_idle(const struct tally_producer *producer)
{
    return producer->flight.state == BATCH_NONE && !tally_sums_count(&producer->taking) &&
           !tally_sums_count(&producer->fresh) && !tally_sums_count(&producer->tail);
}

void tally_producer_stats(const struct tally_producer *producer, uint64_t now_ms,
                          struct tally_producer_stats *out_stats)
{
    struct tally_producer_stats stats = producer->stats;
    bool flies = producer->flight.state != BATCH_NONE;
    stats.id = producer->id;
    stats.sequence = producer->sequence + flies;
    stats.waiting = (uint64_t)tally_sums_count(&producer->taking) + tally_sums_count(&producer->fresh) +
                    tally_sums_count(&producer->tail);
    stats.waiting_bytes = waiting_bytes(producer);
    stats.in_flight = flies ? tally_sums_count(&producer->flight.sums) : 0;
    stats.in_flight_bytes = flies ? producer->flight.request.size : 0;
    uint64_t since_ms = flies ? producer->flight.since_ms : producer->since_ms;
    stats.age_ms = (flies || stats.waiting) && now_ms > since_ms ? now_ms - since_ms : 0;
    *out_stats = stats;
}
