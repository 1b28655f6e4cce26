// SPDX-License-Identifier: Apache-2.0
//
// What a guest is sent next: recent changes as they are, merged by a thread of the pool, or in parts; the whole state in parts of a pinned version.
#include "http_guest.h"

#include <assert.h>
#include <replay/merge.h>
#include <stdlib.h>

// A pinned version is shared with a newcomer while what came after it is at most 1/8 of a whole state (and a little), and a quarter of its time is not over.
#define SHARE_PART  8u
#define SHARE_BYTES (64u << 10)
#define SHARE_TIME  4u

static struct tally_http *http_of(const struct http_guest *guest) { return guest->connection->thread->http; }
static struct http_guests *guests_of(const struct http_guest *guest) { return &guest->connection->thread->guests; }
static uint64_t now_of(const struct http_guest *guest) { return uv_now(&guest->connection->thread->loop); }

static void count(_Atomic uint64_t *counter) { atomic_fetch_add_explicit(counter, 1, memory_order_relaxed); }

static void say_take(struct http_guest *guest, struct tally_message *message)
{
    assert(guest->messages_count < TALLY_PACE_RUN_CHANGES && message->size <= TALLY_STREAM_MESSAGE_BYTES_MAX);
    guest->messages[guest->messages_count++] = message;
}

// ---------------------------------------------------------------------------------------------------- parts

static void parts_destroy(struct http_thread *thread, struct guest_parts *parts)
{
    struct http_guests *guests = &thread->guests;
    if (parts->frame) {
        tally_message_release(parts->frame);
        guests->splits--;
    } else {
        thread->http->source.unpin(thread->reader, &parts->view);
        guests->views--;
    }
    for (unsigned i = 0; i < GUEST_PARTS_KEPT; i++) tally_message_release(parts->kept[i].message);
    *parts->link = parts->next;
    if (parts->next) parts->next->link = parts->link;
    free(parts);
}

void http_guest_let_go(struct http_guest *guest)
{
    struct guest_parts *parts = guest->parts;
    guest->parts = NULL;
    if (parts && --parts->users == 0) parts_destroy(guest->connection->thread, parts);
}

// Without users yet, and neither view nor frame.
static struct guest_parts *parts_create(struct http_guest *guest)
{
    struct http_guests *guests = guests_of(guest);
    struct guest_parts *parts = calloc(1, sizeof *parts);
    if (!parts) return NULL;
    parts->since_ms = now_of(guest);
    parts->deadline_ms = parts->since_ms + http_of(guest)->options.stream_parts_ms;
    parts->next = guests->parts;
    parts->link = &guests->parts;
    if (parts->next) parts->next->link = &parts->next;
    guests->parts = parts;
    return parts;
}

static void parts_discard(struct guest_parts *parts)
{
    *parts->link = parts->next;
    if (parts->next) parts->next->link = parts->link;
    free(parts);
}

static void parts_join(struct http_guest *guest, struct guest_parts *parts)
{
    parts->users++;
    guest->parts = parts;
    guest->place = (struct guest_place){0};
}

// Makes the part at *place and moves it behind. Null: *out_status says why.
static struct tally_message *parts_make(struct http_thread *thread, struct guest_parts *parts,
                                        struct guest_place *place, bool *out_more, enum tally_status *out_status)
{
    const size_t room = TALLY_STREAM_MESSAGE_BYTES_MAX - 1;
    struct tally_message *message =
        tally_message_create(&tally_alloc_libc, TALLY_PUBLISHED_FRAME, TALLY_CHUNK_BYTES_MAX);
    size_t bytes = 0;
    *out_status = message ? TALLY_OK : TALLY_NO_MEMORY;
    if (message && parts->frame) {
        struct tally_writer out = tally_writer_fixed(message->data + 1, room);
        if (place->chunk == 0) *out_status = tally_split_begin(tally_message_inner(parts->frame), &place->split);
        if (!*out_status) *out_status = tally_split_next(&place->split, room, &tally_alloc_libc, &out, out_more);
        place->chunk++;
        bytes = out.size;
    } else if (message) {
        *out_status = thread->http->source.write_chunk(thread->reader, &parts->view, &place->cursor, &place->chunk,
                                                       message->data + 1, &bytes, out_more);
        if (!*out_status && bytes > room) *out_status = TALLY_LIMIT; // cannot be: a chunk's bound is generous
    }
    if (!*out_status) return tally_message_cut(message, bytes);
    tally_message_release(message);
    return NULL;
}

static void parts_made(struct http_thread *thread, struct guest_parts *parts, uint32_t chunk, size_t bytes, bool more)
{
    if (parts->frame || chunk != parts->made_chunks) return;
    parts->made_chunks++;
    parts->made_bytes += bytes;
    if (!more) tally_feed_whole_took(thread->http->options.feed, parts->made_bytes, parts->rows);
}

static struct tally_message *parts_next(struct http_thread *thread, struct guest_parts *parts,
                                        struct guest_place *place, bool *out_more, enum tally_status *out_status)
{
    uint32_t chunk = place->chunk;
    for (unsigned i = 0; i < GUEST_PARTS_KEPT; i++) {
        if (!parts->kept[i].message || parts->kept[i].chunk != chunk) continue;
        *place = parts->kept[i].after;
        *out_more = parts->kept[i].more;
        return tally_message_acquire(parts->kept[i].message);
    }
    struct tally_message *message = parts_make(thread, parts, place, out_more, out_status);
    if (!message) return NULL;
    parts_made(thread, parts, chunk, message->size - 1, *out_more);
    if (parts->users > 1) {
        unsigned keep = parts->kept_next++ % GUEST_PARTS_KEPT;
        tally_message_release(parts->kept[keep].message);
        parts->kept[keep].message = tally_message_acquire(message);
        parts->kept[keep].chunk = chunk;
        parts->kept[keep].more = *out_more;
        parts->kept[keep].after = *place;
    }
    return message;
}

static void next_part(struct http_guest *guest)
{
    struct http_thread *thread = guest->connection->thread;
    struct guest_parts *parts = guest->parts;
    enum tally_status status = TALLY_OK;
    bool more = false;
    struct tally_message *message = parts_next(thread, parts, &guest->place, &more, &status);
    if (!message) {
        // In the middle of a change there is no going back. Without memory the next sweep tries again.
        if (status != TALLY_NO_MEMORY)
            http_guest_close(guest, GUEST_CLOSE_FAILED, tally_status_str(status));
        else if (!guest->pace.parts)
            http_guest_let_go(guest);
        return;
    }
    count(&thread->counters.stream_parts);
    say_take(guest, message);
    tally_pace_sent(&guest->pace, parts->epoch, parts->to, more, now_of(guest));
    if (!more) http_guest_let_go(guest);
}

// ---------------------------------------------------------------------------------------------------- whole states

static bool is_newer(const struct guest_parts *parts, const struct tally_pace *pace)
{
    return parts->epoch > pace->epoch || (parts->epoch == pace->epoch && parts->to > pace->version);
}

// A version that is pinned already and that the guest can go on from; null: none. *out_close: hardly anything came after it.
static struct guest_parts *view_find(struct http_guest *guest, bool *out_close)
{
    struct guest_parts *best = NULL;
    uint64_t best_bytes = 0, best_whole = 0, now_ms = now_of(guest);
    for (struct guest_parts *parts = guests_of(guest)->parts; parts; parts = parts->next) {
        uint64_t bytes, whole_bytes;
        bool late = now_ms - parts->since_ms > http_of(guest)->options.stream_parts_ms / SHARE_TIME;
        if (parts->frame || late || !is_newer(parts, &guest->pace)) continue;
        if (tally_feed_distance(http_of(guest)->options.feed, parts->epoch, parts->to, &bytes, &whole_bytes)) continue;
        if (best && bytes >= best_bytes) continue;
        best = parts;
        best_bytes = bytes;
        best_whole = whole_bytes;
    }
    *out_close = best && best_bytes <= best_whole / SHARE_PART + SHARE_BYTES;
    return best;
}

static struct guest_parts *view_pin(struct http_guest *guest)
{
    struct http_thread *thread = guest->connection->thread;
    const struct tally_http_source *source = &thread->http->source;
    struct tally_view_info info;
    struct guest_parts *parts = parts_create(guest);
    if (!parts) return NULL;
    if (source->pin(thread->reader, &parts->view)) {
        parts_discard(parts);
        return NULL;
    }
    source->info(thread->reader, &parts->view, &info);
    parts->epoch = info.epoch;
    parts->to = info.version;
    parts->rows = info.rows;
    if (info.version == 0 || !is_newer(parts, &guest->pace)) {
        source->unpin(thread->reader, &parts->view);
        parts_discard(parts);
        return NULL;
    }
    thread->guests.views++;
    return parts;
}

// Null: the guest waits; views that others are in end by their deadline at the latest.
static void begin_whole(struct http_guest *guest)
{
    bool close;
    struct guest_parts *parts = view_find(guest, &close);
    if (!close && guests_of(guest)->views < GUEST_VIEWS_MAX) {
        struct guest_parts *pinned = view_pin(guest);
        if (pinned) parts = pinned;
    }
    if (!parts) return;
    count(&guest->connection->thread->counters.stream_wholes);
    parts_join(guest, parts);
    next_part(guest);
}

// ---------------------------------------------------------------------------------------------------- large changes

// Takes the message: a change from the guest's version to `to`, too large to be sent in one.
static void begin_split_take(struct http_guest *guest, struct tally_message *frame, uint64_t epoch, uint64_t to)
{
    struct http_guests *guests = guests_of(guest);
    struct guest_parts *parts = guests->parts;
    while (parts && parts->frame != frame) parts = parts->next;
    if (!parts && guests->splits < GUEST_SPLITS_MAX && (parts = parts_create(guest))) {
        parts->frame = tally_message_acquire(frame);
        parts->epoch = epoch;
        parts->to = to;
        guests->splits++;
    }
    tally_message_release(frame);
    if (!parts) return; // the guest waits
    parts_join(guest, parts);
    next_part(guest);
}

static void say_change_take(struct http_guest *guest, struct tally_message *message, uint64_t epoch, uint64_t to)
{
    if (message->size > TALLY_STREAM_MESSAGE_BYTES_MAX) {
        begin_split_take(guest, message, epoch, to);
        return;
    }
    say_take(guest, message);
    tally_pace_sent(&guest->pace, epoch, to, false, now_of(guest));
}

// ---------------------------------------------------------------------------------------------------- merging

// A thread of the pool: everything it touches belongs to it until merge_done.
static void merge_work(uv_work_t *work)
{
    struct guest_merge *merge = work->data;
    struct tally_writer out = tally_writer_growable(&tally_alloc_libc);
    struct tally_bytes *frames = calloc(merge->inputs_count, sizeof *frames);
    merge->status = frames ? TALLY_OK : TALLY_NO_MEMORY;
    for (uint32_t i = 0; frames && i < merge->inputs_count; i++) frames[i] = tally_message_inner(merge->inputs[i]);
    if (frames) merge->status = tally_frame_merge(frames, merge->inputs_count, &tally_alloc_libc, &out);
    if (!merge->status) {
        merge->result = tally_message_create(&tally_alloc_libc, TALLY_PUBLISHED_FRAME, out.size);
        if (merge->result)
            memcpy(merge->result->data + 1, out.data, out.size);
        else
            merge->status = TALLY_NO_MEMORY;
    }
    tally_writer_free(&out);
    free(frames);
}

static void inputs_free(struct guest_merge *merge)
{
    for (uint32_t i = 0; i < merge->inputs_count; i++) tally_message_release(merge->inputs[i]);
    free(merge->inputs);
    merge->inputs = NULL;
    merge->inputs_count = 0;
}

static void merge_done(uv_work_t *work, int failed)
{
    struct guest_merge *merge = work->data;
    struct http_thread *thread = (struct http_thread *)work->loop->data;
    (void)failed;
    merge->busy = false;
    inputs_free(merge);
    http_guests_pump_at(thread, merge->epoch, merge->from); // before anyone else starts another
    http_guests_pump(thread);
}

static void merge_start(struct http_guest *guest, uint64_t epoch, uint64_t from, uint32_t changes)
{
    struct http_thread *thread = guest->connection->thread;
    struct guest_merge *merge = &thread->guests.merge;
    tally_message_release(merge->result);
    *merge = (struct guest_merge){.epoch = epoch, .from = from};
    merge->status = tally_feed_changes(thread->http->options.feed, epoch, from, changes, &merge->inputs, &merge->to);
    if (merge->status) return; // looked up anew at the next sweep
    merge->inputs_count = changes;
    merge->work.data = merge;
    merge->busy = uv_queue_work(&thread->loop, &merge->work, merge_work, merge_done) == 0;
    if (!merge->busy) {
        merge->status = TALLY_NO_MEMORY;
        inputs_free(merge);
    }
    count(&thread->counters.stream_merges);
    http_guest_to_end(guest); // next time it is the others' turn first
}

static void merged(struct http_guest *guest, const struct tally_feed_next *next)
{
    struct guest_merge *merge = &guests_of(guest)->merge;
    bool ours = !merge->busy && merge->epoch == next->epoch && merge->from == next->from && next->from;
    if (ours && merge->result) {
        say_change_take(guest, tally_message_acquire(merge->result), merge->epoch, merge->to);
    } else if (ours && merge->status) {
        // It could not be: then one by one.
        uint64_t to;
        struct tally_message *message = tally_feed_change(http_of(guest)->options.feed, next->epoch, next->from, &to);
        merge->status = TALLY_OK;
        if (message) say_change_take(guest, message, next->epoch, to);
    } else if (!merge->busy) {
        merge_start(guest, next->epoch, next->from, next->pace.count);
    }
}

void http_guests_merge_free(struct http_thread *thread)
{
    struct guest_merge *merge = &thread->guests.merge;
    assert(!merge->busy);
    tally_message_release(merge->result);
    merge->result = NULL;
}

// ---------------------------------------------------------------------------------------------------- the next step

void http_guest_pick(struct http_guest *guest)
{
    struct http_thread *thread = guest->connection->thread;
    struct tally_feed *feed = thread->http->options.feed;
    struct tally_feed_next next;
    struct tally_message *message;
    tally_feed_next(feed, &guest->pace, thread->http->options.stream_heartbeat_ms, now_of(guest), &next);
    switch (next.pace.step) {
    case TALLY_PACE_NOTHING: break;
    case TALLY_PACE_HEARTBEAT:
        message = tally_feed_heartbeat(feed, &next.held);
        if (!message) break;
        say_take(guest, message);
        tally_pace_heartbeat_sent(&guest->pace, now_of(guest));
        break;
    case TALLY_PACE_RUN:
        for (uint32_t i = 0; i < next.count; i++) say_take(guest, next.messages[i]);
        if (next.count) tally_pace_sent(&guest->pace, next.epoch, next.to, false, now_of(guest));
        break;
    case TALLY_PACE_SPLIT:
        if (next.count) begin_split_take(guest, next.messages[0], next.epoch, next.to);
        break;
    case TALLY_PACE_MERGE: merged(guest, &next); break;
    case TALLY_PACE_WHOLE: begin_whole(guest); break;
    case TALLY_PACE_PART: next_part(guest); break;
    }
}
