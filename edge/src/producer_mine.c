// SPDX-License-Identifier: Apache-2.0
//
// "Global plus mine". A count of this edge is in one of: what no drain took yet (the caller's business), fresh, tail, the batch on its way, or
// an acknowledged part, which is in the versions from its place on. Of the batch nobody knows, while it is on its way, which versions have
// it: a server publishes before it answers. So for its keys the value is taken from before it was sent first, and all parts
// that are newer than that are added; for all other keys, from the version that is read.
#include "producer_internal.h"

static void let_go(struct tally_producer *producer)
{
    struct part *part = producer->parts;
    producer->parts = part->next;
    producer->parts_bytes -= part->sums.bytes;
    if (place_before(producer->gone, part->place)) producer->gone = part->place;
    tally_sums_deinit(&part->sums);
    tally_alloc_free(producer->alloc, part);
}

// Parts that the mirror has, and that the base of the batch has too.
static void prune(struct tally_producer *producer)
{
    while (producer->parts) {
        struct place place = producer->parts->place;
        bool kept = place_before(producer->held, place) ||
                    (producer->flight.base && place_before(producer->flight.base_place, place));
        if (kept && producer->parts_bytes <= producer->options.mine_bytes_max) return;
        let_go(producer);
    }
}

static void drop_base(struct tally_producer *producer)
{
    tally_alloc_free(producer->alloc, producer->flight.base);
    producer->flight.base = NULL;
}

void tally_producer_applied(struct tally_producer *producer, uint64_t epoch, uint64_t version)
{
    producer->held = (struct place){epoch, version};
    prune(producer);
}

void mine_sent(struct tally_producer *producer)
{
    struct flight *flight = &producer->flight;
    if (!producer->ops->values || flight->resumed) return;
    uint32_t count = tally_sums_count(&flight->sums);
    int64_t *base = tally_alloc_resize(producer->alloc, NULL, count * sizeof *base);
    if (!base) return;
    struct place place;
    if (producer->ops->values(producer->ctx, &flight->sums, base, &place.epoch, &place.version) != TALLY_OK) {
        tally_alloc_free(producer->alloc, base);
        return;
    }
    flight->base = base;
    flight->base_place = place;
}

void mine_resolved(struct tally_producer *producer, struct place at)
{
    struct flight *flight = &producer->flight;
    struct part *part = NULL, **last = &producer->parts;
    drop_base(producer);
    if (producer->ops->values && place_before(producer->held, at))
        part = tally_alloc_resize(producer->alloc, NULL, sizeof *part);
    if (part) {
        *part = (struct part){.sums = flight->sums, .place = at};
        tally_sums_init(&flight->sums, producer->options.seed, producer->alloc);
        while (*last) last = &(*last)->next;
        *last = part;
        producer->parts_bytes += part->sums.bytes;
    } else {
        // The mirror has it, or there is no memory: then older versions cannot be added to any more.
        if (place_before(producer->gone, at)) producer->gone = at;
        tally_sums_clear(&flight->sums);
    }
    prune(producer);
}

void mine_unsent(struct tally_producer *producer)
{
    drop_base(producer);
    prune(producer);
}

void mine_free(struct tally_producer *producer)
{
    drop_base(producer);
    while (producer->parts) let_go(producer);
}

// ---------------------------------------------------------------------------------------------------- asking

// As they come: later ones over earlier ones.
static void merge(struct tally_merged *merged, const struct tally_sums *sums, enum tally_counting counting,
                  struct tally_bytes table, struct tally_bytes key)
{
    int64_t number;
    if (tally_sums_get(sums, counting, table, key, &counting, &number) == TALLY_OK)
        tally_merged_add(merged, counting, number);
}

enum tally_status tally_producer_mine(const struct tally_producer *producer, uint64_t epoch, uint64_t version,
                                      enum tally_counting counting, struct tally_bytes table, struct tally_bytes key,
                                      struct tally_mine *out_mine)
{
    const struct flight *flight = &producer->flight;
    struct tally_mine mine = {0};
    struct place from = {epoch, version};
    uint32_t at;
    bool flies = flight->state != BATCH_NONE && tally_sums_find(&flight->sums, counting, table, key, &at);
    // The least and the greatest may come twice: the newest value is right whether it has them or not.
    bool once = counting != TALLY_COUNTING_MIN && counting != TALLY_COUNTING_MAX;
    if (flies && once && flight->base) {
        from = flight->base_place;
        mine.based = true;
        mine.value = flight->base[at];
    } else if (flies && once && (flight->ever_sent || flight->resumed)) {
        mine.in_doubt = true;
    }
    if (place_before(from, producer->gone)) return TALLY_OLD;
    mine.epoch = from.epoch;
    mine.version = from.version;
    for (const struct part *part = producer->parts; part; part = part->next)
        if (place_before(from, part->place)) merge(&mine.mine, &part->sums, counting, table, key);
    if (flies) merge(&mine.mine, &flight->sums, counting, table, key);
    merge(&mine.mine, &producer->tail, counting, table, key);
    merge(&mine.mine, &producer->fresh, counting, table, key);
    merge(&mine.mine, &producer->taking, counting, table, key);
    *out_mine = mine;
    return TALLY_OK;
}
