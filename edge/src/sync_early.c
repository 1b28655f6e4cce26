// SPDX-License-Identifier: Apache-2.0
#include "sync_internal.h"
#include <stdlib.h>
#include <string.h>

static int compare(const struct early_frame *a, const struct tally_frame_header *b)
{
    if (a->epoch != b->epoch) return a->epoch < b->epoch ? -1 : 1;
    if (a->from != b->from) return a->from < b->from ? -1 : 1;
    if (a->to != b->to) return a->to < b->to ? -1 : 1;
    return 0;
}

static void drop_first(struct tally_sync *sync)
{
    struct early_frame *first = &sync->early[0];
    sync->stats.early_bytes -= first->size;
    tally_alloc_free(&sync->alloc, first->data);
    sync->early_count--;
    memmove(first, first + 1, sync->early_count * sizeof *first);
    sync->stats.early_frames = sync->early_count;
}

void early_clear(struct tally_sync *sync)
{
    while (sync->early_count) drop_first(sync);
}

void early_hold(struct tally_sync *sync, uint32_t server, const struct tally_frame_header *header,
                struct tally_bytes frame)
{
    uint32_t low = 0, high = sync->early_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int order = compare(&sync->early[middle], header);
        if (order == 0) {
            sync->stats.frames_old++;
            return;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (!sync->early_count) {
        sync->stats.gaps++;
        sync_emit(sync,
                  &(struct tally_sync_event){
                      .kind = TALLY_SYNC_EVENT_GAP, .server = server, .epoch = header->epoch, .version = header->to});
    }
    // The lowest are given up first: an answer to a catch-up runs to the newest version, so the highest are
    // the ones that will still be of use after it.
    while (sync->early_count == sync->options.early_frames_max ||
           (sync->early_count && sync->stats.early_bytes + frame.size > sync->options.early_bytes_max)) {
        if (low == 0) break;
        drop_first(sync);
        sync->stats.early_dropped++;
        low--;
    }
    uint8_t *copy = NULL;
    if (sync->early_count < sync->options.early_frames_max &&
        sync->stats.early_bytes + frame.size <= sync->options.early_bytes_max) {
        copy = tally_alloc_resize(&sync->alloc, NULL, frame.size);
    }
    if (!copy) {
        sync->stats.early_dropped++;
        return;
    }
    memcpy(copy, frame.data, frame.size);
    memmove(sync->early + low + 1, sync->early + low, (sync->early_count - low) * sizeof *sync->early);
    sync->early[low] = (struct early_frame){.epoch = header->epoch,
                                            .from = header->from,
                                            .to = header->to,
                                            .since_ms = sync->now.monotonic_ms,
                                            .server = server,
                                            .data = copy,
                                            .size = frame.size};
    sync->early_count++;
    sync->stats.early_bytes += frame.size;
    sync->stats.early_frames = sync->early_count;
    sync->stats.early_total++;
}

void early_drain(struct tally_sync *sync)
{
    // A delta in the middle of a staged change would make the mirror let go of it.
    if (sync->staging) return;
    while (sync->early_count) {
        struct early_frame *first = &sync->early[0];
        const struct tally_view_info *held = &sync->held;
        bool useless = first->epoch < held->epoch ||
                       (first->epoch == held->epoch && first->from != 0 && first->from < held->version);
        if (first->epoch == held->epoch && first->to <= held->version) useless = true;
        bool turn = first->from == 0 || (first->epoch == held->epoch && first->from == held->version);
        if (!useless && turn) {
            // Out of the list before anything is called that might look at it.
            struct early_frame frame = *first;
            first->data = NULL;
            drop_first(sync);
            enum tally_status status =
                sync_apply(sync, frame.server, tally_bytes(frame.data, frame.size), frame.from != 0);
            tally_alloc_free(&sync->alloc, frame.data);
            if (status != TALLY_OK && status != TALLY_OLD) return;
            continue;
        }
        if (!useless) {
            if (sync->now.monotonic_ms - first->since_ms < EARLY_MS_MAX) return;
            sync->stats.early_dropped++;
        }
        drop_first(sync);
    }
}
