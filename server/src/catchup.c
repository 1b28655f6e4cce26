// SPDX-License-Identifier: Apache-2.0
#include "catchup.h"

#include <replay/merge.h>

// A pinned version is shared with a newcomer while what came after it is at most 1/8 of a whole state (and a little).
#define SHARE_PART  8u
#define SHARE_BYTES (64u << 10)

// A pin that was asked for within this time is in use.
#define BUSY_MS 1000u

// While more garbage than this waits for readers, a pin that is not in use is let go: what a pin keeps from being reused grows with every version,
// up to all that was written since.
#define GARBAGE_BYTES (8u << 20)
#define GARBAGE_PART  8u // and so much of what is in use

// Frames are looked at for merging while they are at most so many times a whole state: merged they may be less than one.
#define MERGE_TIMES 4u

enum tally_status tally_catchup_init(struct tally_catchup *catchup, struct tally_mirror *mirror, uint64_t pin_idle_ms,
                                     const struct tally_alloc *alloc)
{
    struct tally_reader reader;
    uint8_t *chunk = tally_alloc_resize(alloc, NULL, TALLY_CHUNK_BYTES_MAX);
    uint8_t *scratch = tally_alloc_resize(alloc, NULL, TALLY_CHUNK_BYTES_MAX);
    enum tally_status status = chunk && scratch ? tally_reader_open(mirror, &reader) : TALLY_NO_MEMORY;
    if (status) {
        tally_alloc_free(alloc, chunk);
        tally_alloc_free(alloc, scratch);
        return status;
    }
    *catchup = (struct tally_catchup){.alloc = alloc,
                                      .mirror = mirror,
                                      .reader = reader,
                                      .pin_idle_ms = pin_idle_ms,
                                      .chunk = chunk,
                                      .scratch = scratch,
                                      .merged = tally_writer_growable(alloc)};
    return TALLY_OK;
}

static void unpin(struct tally_catchup_pin *pin)
{
    if (pin->used) tally_view_unpin(&pin->view);
    pin->used = false;
}

void tally_catchup_deinit(struct tally_catchup *catchup)
{
    if (!catchup->alloc) return;
    for (unsigned i = 0; i < TALLY_CATCHUP_PINS_MAX; i++) unpin(&catchup->pins[i]);
    tally_reader_close(&catchup->reader);
    tally_alloc_free(catchup->alloc, catchup->chunk);
    tally_alloc_free(catchup->alloc, catchup->scratch);
    tally_writer_free(&catchup->merged);
    *catchup = (struct tally_catchup){0};
}

// ---------------------------------------------------------------------------------------------------- merged frames

// Merges the frames from `version` on, as far as MERGE_BYTES_MAX goes (at least one). *out_bytes: their bytes.
static enum tally_status merge_from(struct tally_catchup *catchup, const struct tally_history *history,
                                    uint64_t version, uint64_t *out_bytes)
{
    uint64_t bytes = 0, to = version;
    while (to < history->last) {
        uint64_t more = tally_history_frame(history, to + 1).size;
        if (to != version && bytes + more > TALLY_CATCHUP_MERGE_BYTES_MAX) break;
        bytes += more;
        to++;
    }
    *out_bytes = bytes;
    bool current = catchup->merged_epoch == history->epoch && catchup->merged_from == version && catchup->merged_to;
    if (current && (catchup->merged_to == to || catchup->merged_part)) return TALLY_OK;

    size_t count = (size_t)(to - version);
    struct tally_bytes *frames = tally_alloc_resize(catchup->alloc, NULL, count * sizeof *frames);
    if (!frames) return TALLY_NO_MEMORY;
    for (size_t i = 0; i < count; i++) frames[i] = tally_history_frame(history, version + 1 + i);
    catchup->merged_to = 0;
    catchup->merged.size = 0;
    catchup->merged.failed = false;
    enum tally_status status = TALLY_OK;
    if (count > 1) {
        status = tally_frame_merge(frames, count, catchup->alloc, &catchup->merged);
    } else {
        tally_write_raw(&catchup->merged, frames[0].data, frames[0].size);
        if (catchup->merged.failed) status = TALLY_NO_MEMORY;
    }
    tally_alloc_free(catchup->alloc, frames);
    if (status) return status;
    catchup->merged_epoch = history->epoch;
    catchup->merged_from = version;
    catchup->merged_to = to;
    catchup->merged_part = to != history->last;
    return TALLY_OK;
}

// TALLY_NOT_FOUND when a whole state is cheaper.
static enum tally_status answer_delta(struct tally_catchup *catchup, const struct tally_history *history,
                                      uint64_t version, uint64_t whole_bytes, struct tally_answer *answer)
{
    uint64_t bytes = tally_history_bytes_from(history, version), part;
    if (bytes > whole_bytes * MERGE_TIMES + SHARE_BYTES) return TALLY_NOT_FOUND;
    enum tally_status status = merge_from(catchup, history, version, &part);
    if (status == TALLY_LIMIT) return TALLY_NOT_FOUND;
    if (status) return status;
    // What the whole way will take, if the rest merges as well as this part.
    double expected = (double)catchup->merged.size * ((double)bytes / (double)(part ? part : 1));
    if (expected > (double)whole_bytes + SHARE_BYTES) return TALLY_NOT_FOUND;
    answer->frame = tally_writer_bytes(&catchup->merged);
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- whole states

static struct tally_catchup_pin *pin_find(struct tally_catchup *catchup, uint64_t epoch, uint64_t version)
{
    for (unsigned i = 0; i < TALLY_CATCHUP_PINS_MAX; i++) {
        struct tally_catchup_pin *pin = &catchup->pins[i];
        if (pin->used && pin->epoch == epoch && pin->version == version) return pin;
    }
    return NULL;
}

// A pinned version for a newcomer: one that is recent enough, or the newest; null when nothing was applied yet.
static struct tally_catchup_pin *pin_choose(struct tally_catchup *catchup, const struct tally_history *history,
                                            uint64_t whole_bytes, uint64_t now_ms)
{
    struct tally_catchup_pin *newest = NULL, *free = NULL, *idlest = &catchup->pins[0];
    for (unsigned i = 0; i < TALLY_CATCHUP_PINS_MAX; i++) {
        struct tally_catchup_pin *pin = &catchup->pins[i];
        if (!pin->used) {
            free = pin;
            continue;
        }
        if (idlest->used && pin->used_ms < idlest->used_ms) idlest = pin;
        if (!tally_history_has(history, pin->epoch, pin->version)) continue;
        if (!newest || pin->version > newest->version) newest = pin;
    }
    if (newest && tally_history_bytes_from(history, newest->version) <= whole_bytes / SHARE_PART + SHARE_BYTES)
        return newest;
    // Rather a longer way than to break off one that somebody is on.
    if (!free && newest && now_ms - idlest->used_ms < BUSY_MS) return newest;
    struct tally_catchup_pin *pin = free ? free : idlest;
    struct tally_view_info info;
    unpin(pin);
    tally_view_pin(&catchup->reader, &pin->view);
    tally_view_info(&pin->view, &info);
    pin->used = true;
    pin->epoch = info.epoch;
    pin->version = info.version;
    if (info.version == 0) {
        unpin(pin);
        return NULL;
    }
    return pin;
}

static enum tally_status answer_chunk(struct tally_catchup *catchup, struct tally_catchup_pin *pin,
                                      const struct tally_whole_cursor *from, uint64_t now_ms,
                                      struct tally_answer *answer)
{
    struct tally_cursor cursor = {.table = from->table, .id = from->id};
    uint32_t chunk = from->chunk;
    size_t bytes;
    bool more;
    pin->used_ms = now_ms;
    enum tally_status status =
        tally_view_write_chunk(&pin->view, &cursor, &chunk, catchup->scratch, catchup->chunk, &bytes, &more);
    if (status) return status;
    answer->frame = tally_bytes(catchup->chunk, bytes);
    answer->has_cursor = more;
    answer->cursor = (struct tally_whole_cursor){
        .epoch = pin->epoch, .version = pin->version, .chunk = chunk, .table = cursor.table, .id = cursor.id};
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- answers

enum tally_status tally_catchup_answer(struct tally_catchup *catchup, const struct tally_history *history,
                                       const struct tally_catch_up *request, uint64_t whole_bytes, uint64_t now_ms,
                                       struct tally_answer *out_answer, enum tally_catchup_how *out_how)
{
    struct tally_answer answer = {.epoch = history->epoch, .version = history->last};
    struct tally_whole_cursor start = request->cursor;
    struct tally_catchup_pin *pin = NULL;
    enum tally_status status = TALLY_OK;
    if (request->has_cursor) {
        *out_how = TALLY_CATCHUP_WHOLE;
        pin = pin_find(catchup, start.epoch, start.version);
        status = pin ? answer_chunk(catchup, pin, &start, now_ms, &answer) : TALLY_GONE;
        if (status == TALLY_GONE) *out_how = TALLY_CATCHUP_GONE;
        answer.status = status;
        status = TALLY_OK;
        goto out;
    }
    // Who holds a greater epoch than ours would refuse what we have: being told our epoch is enough.
    bool ours = request->epoch == history->epoch;
    *out_how = TALLY_CATCHUP_CURRENT;
    if (history->last == 0 || request->epoch > history->epoch || (ours && request->version >= history->last)) goto out;
    if (tally_history_has(history, request->epoch, request->version)) {
        *out_how = TALLY_CATCHUP_DELTA;
        status = answer_delta(catchup, history, request->version, whole_bytes, &answer);
        if (status != TALLY_NOT_FOUND) goto out;
        status = TALLY_OK;
    }
    pin = pin_choose(catchup, history, whole_bytes, now_ms);
    if (!pin) {
        *out_how = TALLY_CATCHUP_CURRENT;
        goto out;
    }
    *out_how = TALLY_CATCHUP_WHOLE;
    start = (struct tally_whole_cursor){0};
    status = answer_chunk(catchup, pin, &start, now_ms, &answer);
out:
    if (!status) *out_answer = answer;
    return status;
}

// How long a pin may be idle now.
static uint64_t idle_ms(const struct tally_catchup *catchup)
{
    struct tally_mirror_stats stats;
    if (catchup->pin_idle_ms <= BUSY_MS) return catchup->pin_idle_ms;
    tally_mirror_stats(catchup->mirror, &stats);
    bool much = stats.retired_bytes > GARBAGE_BYTES + stats.used_bytes / GARBAGE_PART;
    return much ? BUSY_MS : catchup->pin_idle_ms;
}

void tally_catchup_expire(struct tally_catchup *catchup, struct tally_history *history, uint64_t now_ms, bool pressed)
{
    uint64_t idle_max_ms = tally_catchup_pins(catchup) ? idle_ms(catchup) : 0;
    history->needed_from = 0;
    for (unsigned i = 0; i < TALLY_CATCHUP_PINS_MAX; i++) {
        struct tally_catchup_pin *pin = &catchup->pins[i];
        if (!pin->used) continue;
        // The clock may jump back: then the time begins anew.
        if (now_ms < pin->used_ms) pin->used_ms = now_ms;
        bool idle = now_ms - pin->used_ms >= idle_max_ms;
        if (pressed || idle || !tally_history_has(history, pin->epoch, pin->version))
            unpin(pin);
        else if (!history->needed_from || pin->version < history->needed_from)
            history->needed_from = pin->version;
    }
}

uint32_t tally_catchup_pins(const struct tally_catchup *catchup)
{
    uint32_t pins = 0;
    for (unsigned i = 0; i < TALLY_CATCHUP_PINS_MAX; i++) pins += catchup->pins[i].used;
    return pins;
}
