// SPDX-License-Identifier: Apache-2.0
#include "recent.h"

#include <assert.h>

enum tally_status tally_recent_init(struct tally_recent *recent, uint32_t changes_max, uint64_t bytes_max,
                                    const struct tally_alloc *alloc)
{
    if (changes_max == 0) return TALLY_INVALID;
    struct tally_recent_change *ring = tally_alloc_resize(alloc, NULL, changes_max * sizeof *ring);
    if (!ring) return TALLY_NO_MEMORY;
    *recent = (struct tally_recent){.alloc = alloc, .ring = ring, .changes_max = changes_max, .bytes_max = bytes_max};
    return TALLY_OK;
}

void tally_recent_deinit(struct tally_recent *recent)
{
    if (!recent->alloc) return;
    tally_recent_restart(recent, 0, 0);
    tally_alloc_free(recent->alloc, recent->ring);
    *recent = (struct tally_recent){0};
}

static struct tally_recent_change *at(const struct tally_recent *recent, uint32_t index)
{
    return &recent->ring[(recent->start + index) % recent->changes_max];
}

static void drop_oldest(struct tally_recent *recent)
{
    struct tally_recent_change *oldest = at(recent, 0);
    recent->first = oldest->to;
    recent->bytes -= oldest->message->size;
    tally_message_release(oldest->message);
    recent->start = (recent->start + 1) % recent->changes_max;
    recent->count--;
}

void tally_recent_restart(struct tally_recent *recent, uint64_t epoch, uint64_t version)
{
    while (recent->count) drop_oldest(recent);
    recent->epoch = epoch;
    recent->first = recent->last = version;
}

void tally_recent_add_take(struct tally_recent *recent, uint64_t to, struct tally_message *message)
{
    assert(to > recent->last);
    if (message->size > recent->bytes_max) {
        tally_message_release(message);
        tally_recent_restart(recent, recent->epoch, to);
        return;
    }
    while (recent->count == recent->changes_max || recent->bytes + message->size > recent->bytes_max)
        drop_oldest(recent);
    *at(recent, recent->count++) = (struct tally_recent_change){
        .from = recent->last, .to = to, .bytes_before = recent->bytes_total, .message = message};
    recent->last = to;
    recent->bytes += message->size;
    recent->bytes_total += message->size;
}

bool tally_recent_behind(const struct tally_recent *recent, uint64_t epoch, uint64_t version, uint32_t *out_count)
{
    if (epoch != recent->epoch || version == 0 || version < recent->first || version > recent->last) return false;
    uint32_t low = 0, high = recent->count; // the first change from `version` or a later one is in low to high
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (at(recent, middle)->from < version)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < recent->count ? at(recent, low)->from != version : version != recent->last) return false;
    *out_count = recent->count - low;
    return true;
}

const struct tally_recent_change *tally_recent_at(const struct tally_recent *recent, uint32_t behind)
{
    assert(behind >= 1 && behind <= recent->count);
    return at(recent, recent->count - behind);
}

uint64_t tally_recent_bytes(const struct tally_recent *recent, uint32_t behind)
{
    return behind ? recent->bytes_total - tally_recent_at(recent, behind)->bytes_before : 0;
}
