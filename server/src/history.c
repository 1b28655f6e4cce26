// SPDX-License-Identifier: Apache-2.0
#include "history.h"

#include <assert.h>

enum tally_status tally_history_init(struct tally_history *history, uint32_t versions_max, uint64_t bytes_max,
                                     const struct tally_alloc *alloc)
{
    if (versions_max == 0) return TALLY_INVALID;
    struct tally_bytes *frames = tally_alloc_resize(alloc, NULL, versions_max * sizeof *frames);
    if (!frames) return TALLY_NO_MEMORY;
    memset(frames, 0, versions_max * sizeof *frames);
    *history =
        (struct tally_history){.alloc = alloc, .frames = frames, .versions_max = versions_max, .bytes_max = bytes_max};
    return TALLY_OK;
}

static struct tally_bytes *slot(const struct tally_history *history, uint64_t version)
{
    return &history->frames[version % history->versions_max];
}

static void drop_oldest(struct tally_history *history)
{
    struct tally_bytes *frame = slot(history, ++history->first);
    history->bytes -= frame->size;
    tally_alloc_free(history->alloc, (void *)(uintptr_t)frame->data);
    *frame = (struct tally_bytes){0};
}

void tally_history_deinit(struct tally_history *history)
{
    if (!history->alloc) return;
    tally_history_restart(history, 0, 0);
    tally_alloc_free(history->alloc, history->frames);
    *history = (struct tally_history){0};
}

void tally_history_restart(struct tally_history *history, uint64_t epoch, uint64_t version)
{
    while (history->first != history->last) drop_oldest(history);
    history->epoch = epoch;
    history->first = history->last = version;
}

static bool full_for(const struct tally_history *history, size_t more)
{
    if (history->last - history->first == history->versions_max) return true;
    bool needed = history->needed_from && history->first >= history->needed_from;
    return history->bytes + more > history->bytes_max * (needed ? TALLY_HISTORY_STRETCH : 1);
}

void tally_history_add(struct tally_history *history, struct tally_bytes frame)
{
    while (history->first != history->last && full_for(history, frame.size)) drop_oldest(history);
    // A frame from 0 is a whole state: nobody goes on from there. One over the bound is not kept.
    uint8_t *copy = NULL;
    if (history->last != 0 && frame.size <= history->bytes_max)
        copy = tally_alloc_resize(history->alloc, NULL, frame.size);
    if (!copy) {
        tally_history_restart(history, history->epoch, history->last + 1);
        return;
    }
    memcpy(copy, frame.data, frame.size);
    *slot(history, ++history->last) = tally_bytes(copy, frame.size);
    history->bytes += frame.size;
}

bool tally_history_has(const struct tally_history *history, uint64_t epoch, uint64_t version)
{
    return epoch == history->epoch && version >= history->first && version <= history->last && version != 0;
}

struct tally_bytes tally_history_frame(const struct tally_history *history, uint64_t version)
{
    assert(version > history->first && version <= history->last);
    return *slot(history, version);
}

uint64_t tally_history_bytes_from(const struct tally_history *history, uint64_t version)
{
    uint64_t bytes = 0;
    for (uint64_t v = version + 1; v <= history->last; v++) bytes += slot(history, v)->size;
    return bytes;
}
