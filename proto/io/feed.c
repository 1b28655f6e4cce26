// SPDX-License-Identifier: Apache-2.0
#include "feed.h"

#include <messages/messages.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define LISTENERS_MAX 64u
// About what a row of a whole state takes, until one was sent: gap, size, a short key, value.
#define ROW_BYTES 24u

struct tally_feed {
    uint8_t dataset[TALLY_NAME_BYTES_MAX];
    size_t dataset_size;
    _Atomic uint64_t presses;
    pthread_mutex_t mutex; // of what follows
    struct tally_recent recent;
    struct tally_view_info held;
    uint64_t row_bytes_x16;    // bytes of a row in a whole state, times 16
    pthread_mutex_t listening; // of listeners; held while they are called
    struct {
        void (*wake)(void *ctx);
        void *ctx;
    } listeners[LISTENERS_MAX];
    unsigned listeners_count;
};

enum tally_status tally_feed_create(const struct tally_feed_options *options, struct tally_feed **out_feed)
{
    if (options->dataset.size > TALLY_NAME_BYTES_MAX) return TALLY_INVALID;
    struct tally_feed *feed = calloc(1, sizeof *feed);
    if (!feed) return TALLY_NO_MEMORY;
    enum tally_status status = tally_recent_init(&feed->recent, options->changes_max ? options->changes_max : 4096,
                                                 options->bytes_max, &tally_alloc_libc);
    if (status) {
        free(feed);
        return status;
    }
    memcpy(feed->dataset, options->dataset.data, options->dataset.size);
    feed->dataset_size = options->dataset.size;
    feed->row_bytes_x16 = ROW_BYTES * 16;
    (void)pthread_mutex_init(&feed->mutex, NULL);
    (void)pthread_mutex_init(&feed->listening, NULL);
    *out_feed = feed;
    return TALLY_OK;
}

void tally_feed_destroy(struct tally_feed **feed)
{
    struct tally_feed *it = *feed;
    if (!it) return;
    *feed = NULL;
    tally_recent_deinit(&it->recent);
    (void)pthread_mutex_destroy(&it->mutex);
    (void)pthread_mutex_destroy(&it->listening);
    free(it);
}

// ---------------------------------------------------------------------------------------------------- the owner

static void wake_all(struct tally_feed *feed)
{
    pthread_mutex_lock(&feed->listening);
    for (unsigned i = 0; i < feed->listeners_count; i++) feed->listeners[i].wake(feed->listeners[i].ctx);
    pthread_mutex_unlock(&feed->listening);
}

void tally_feed_restart(struct tally_feed *feed, const struct tally_view_info *held)
{
    pthread_mutex_lock(&feed->mutex);
    tally_recent_restart(&feed->recent, held->epoch, held->version);
    feed->held = *held;
    pthread_mutex_unlock(&feed->mutex);
    wake_all(feed);
}

void tally_feed_frame(struct tally_feed *feed, const struct tally_view_info *held, struct tally_bytes frame)
{
    struct tally_message *message = tally_message_create(&tally_alloc_libc, TALLY_PUBLISHED_FRAME, frame.size);
    if (message) memcpy(message->data + 1, frame.data, frame.size);
    pthread_mutex_lock(&feed->mutex);
    bool follows = held->epoch == feed->recent.epoch && held->version > feed->recent.last && feed->recent.last;
    if (message && follows) {
        tally_recent_add_take(&feed->recent, held->version, message);
    } else {
        tally_message_release(message);
        tally_recent_restart(&feed->recent, held->epoch, held->version);
    }
    feed->held = *held;
    pthread_mutex_unlock(&feed->mutex);
    wake_all(feed);
}

void tally_feed_fresh(struct tally_feed *feed, uint64_t epoch, uint64_t version, uint64_t now_ms)
{
    pthread_mutex_lock(&feed->mutex);
    bool same = feed->held.epoch == epoch && feed->held.version == version;
    if (same && now_ms > feed->held.fresh_ms) feed->held.fresh_ms = now_ms;
    pthread_mutex_unlock(&feed->mutex);
}

void tally_feed_press(struct tally_feed *feed)
{
    atomic_fetch_add(&feed->presses, 1);
    wake_all(feed);
}

uint64_t tally_feed_presses(const struct tally_feed *feed) { return atomic_load(&feed->presses); }

// ---------------------------------------------------------------------------------------------------- listeners

enum tally_status tally_feed_listen(struct tally_feed *feed, void (*wake)(void *ctx), void *ctx)
{
    enum tally_status status = TALLY_FULL;
    pthread_mutex_lock(&feed->listening);
    if (feed->listeners_count < LISTENERS_MAX) {
        feed->listeners[feed->listeners_count].wake = wake;
        feed->listeners[feed->listeners_count++].ctx = ctx;
        status = TALLY_OK;
    }
    pthread_mutex_unlock(&feed->listening);
    return status;
}

void tally_feed_leave(struct tally_feed *feed, void *ctx)
{
    pthread_mutex_lock(&feed->listening);
    for (unsigned i = 0; i < feed->listeners_count; i++) {
        if (feed->listeners[i].ctx != ctx) continue;
        feed->listeners[i--] = feed->listeners[--feed->listeners_count];
    }
    pthread_mutex_unlock(&feed->listening);
}

static uint64_t whole_bytes(const struct tally_feed *feed) { return feed->held.rows * feed->row_bytes_x16 / 16 + 256; }

void tally_feed_next(struct tally_feed *feed, const struct tally_pace *pace, uint64_t heartbeat_ms, uint64_t now_ms,
                     struct tally_feed_next *out_next)
{
    uint32_t behind;
    struct tally_feed_next *next = out_next;
    pthread_mutex_lock(&feed->mutex);
    const struct tally_recent *recent = &feed->recent;
    next->pace = tally_pace_next(pace, recent, whole_bytes(feed), TALLY_STREAM_MESSAGE_BYTES_MAX, heartbeat_ms, now_ms);
    next->held = feed->held;
    next->epoch = recent->epoch;
    next->from = next->to = pace->version;
    next->count = 0;
    bool changes = next->pace.step == TALLY_PACE_RUN || next->pace.step == TALLY_PACE_SPLIT;
    if (changes && tally_recent_behind(recent, pace->epoch, pace->version, &behind)) {
        for (; next->count < next->pace.count; next->count++, behind--) {
            const struct tally_recent_change *change = tally_recent_at(recent, behind);
            next->messages[next->count] = tally_message_acquire(change->message);
            next->to = change->to;
        }
    }
    pthread_mutex_unlock(&feed->mutex);
}

enum tally_status tally_feed_changes(struct tally_feed *feed, uint64_t epoch, uint64_t version, uint32_t count,
                                     struct tally_message ***out_messages, uint64_t *out_to)
{
    uint32_t behind;
    struct tally_message **messages = malloc(count * sizeof *messages);
    if (!messages) return TALLY_NO_MEMORY;
    enum tally_status status = TALLY_GONE;
    pthread_mutex_lock(&feed->mutex);
    if (tally_recent_behind(&feed->recent, epoch, version, &behind) && behind >= count) {
        for (uint32_t i = 0; i < count; i++, behind--) {
            const struct tally_recent_change *change = tally_recent_at(&feed->recent, behind);
            messages[i] = tally_message_acquire(change->message);
            *out_to = change->to;
        }
        status = TALLY_OK;
    }
    pthread_mutex_unlock(&feed->mutex);
    if (status)
        free(messages);
    else
        *out_messages = messages;
    return status;
}

struct tally_message *tally_feed_change(struct tally_feed *feed, uint64_t epoch, uint64_t version, uint64_t *out_to)
{
    struct tally_message **messages, *message;
    if (tally_feed_changes(feed, epoch, version, 1, &messages, out_to)) return NULL;
    message = messages[0];
    free(messages);
    return message;
}

enum tally_status tally_feed_distance(struct tally_feed *feed, uint64_t epoch, uint64_t version, uint64_t *out_bytes,
                                      uint64_t *out_whole_bytes)
{
    uint32_t behind;
    enum tally_status status = TALLY_GONE;
    pthread_mutex_lock(&feed->mutex);
    if (tally_recent_behind(&feed->recent, epoch, version, &behind)) {
        *out_bytes = tally_recent_bytes(&feed->recent, behind);
        *out_whole_bytes = whole_bytes(feed);
        status = TALLY_OK;
    }
    pthread_mutex_unlock(&feed->mutex);
    return status;
}

void tally_feed_whole_took(struct tally_feed *feed, uint64_t bytes, uint64_t rows)
{
    if (!rows) return;
    pthread_mutex_lock(&feed->mutex);
    feed->row_bytes_x16 = bytes * 16 / rows + 1;
    pthread_mutex_unlock(&feed->mutex);
}

struct tally_message *tally_feed_heartbeat(const struct tally_feed *feed, const struct tally_view_info *held)
{
    uint8_t bytes[256];
    struct tally_writer writer = tally_writer_fixed(bytes, sizeof bytes);
    const struct tally_heartbeat heartbeat = {.dataset = tally_bytes(feed->dataset, feed->dataset_size),
                                              .epoch = held->epoch,
                                              .version = held->version,
                                              .digest = held->digest,
                                              .now_ms = held->fresh_ms};
    if (tally_heartbeat_encode(&heartbeat, &writer)) return NULL;
    struct tally_message *message = tally_message_create(&tally_alloc_libc, TALLY_PUBLISHED_HEARTBEAT, writer.size);
    if (message) memcpy(message->data + 1, bytes, writer.size);
    return message;
}

void tally_feed_held(struct tally_feed *feed, struct tally_view_info *out_held)
{
    pthread_mutex_lock(&feed->mutex);
    *out_held = feed->held;
    pthread_mutex_unlock(&feed->mutex);
}

void tally_feed_kept(struct tally_feed *feed, uint32_t *out_changes, uint64_t *out_bytes)
{
    pthread_mutex_lock(&feed->mutex);
    *out_changes = feed->recent.count;
    *out_bytes = feed->recent.bytes;
    pthread_mutex_unlock(&feed->mutex);
}
