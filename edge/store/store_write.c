// SPDX-License-Identifier: Apache-2.0
//
// The writing thread. It keeps what the file leads to, and compares each frame with it: one that follows is appended, one that is in
// there already is skipped, any other means that the chain is broken and the copy is written anew.
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <io/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tallycast/frame.h>
#include <tallycast/framefile.h>
#include <unistd.h>

static bool write_entry(int file, struct tally_bytes message, uint64_t *offset)
{
    uint8_t head[4];
    tally_store32(head, (uint32_t)message.size);
    if (!file_write_at(file, head, sizeof head, *offset) ||
        !file_write_at(file, message.data, message.size, *offset + sizeof head))
        return false;
    *offset += sizeof head + message.size;
    return true;
}

// ---------------------------------------------------------------------------------------------------- success and failure

// Tells the change once, counts every failure.
static void failed(struct tally_store *store, const char *what, const char *reason)
{
    pthread_mutex_lock(&store->mutex);
    bool first = !store->stats.failing;
    store->stats.failing = true;
    store->stats.failures++;
    pthread_mutex_unlock(&store->mutex);
    store->wanted = true;
    store->retry_at_ms = store_monotonic_ms() + store->options.retry_ms;
    if (first)
        tally_warn("store_failed", tally_log_str("what", what), tally_log_str("reason", reason),
                   tally_log_str("effect", "reads go on from memory; the stored copy stays behind"));
}

static void succeeded(struct tally_store *store, bool rewritten, uint64_t bytes)
{
    pthread_mutex_lock(&store->mutex);
    bool recovered = store->stats.failing;
    store->stats.failing = false;
    store->stats.epoch = store->epoch;
    store->stats.version = store->version;
    if (rewritten) {
        store->stats.rewrites++;
        store->stats.base_bytes = bytes;
        store->stats.deltas_bytes = 0;
    } else {
        store->stats.appended++;
        store->stats.deltas_bytes += bytes;
    }
    pthread_mutex_unlock(&store->mutex);
    if (recovered) tally_info("store_recovered", tally_log_u64("version", store->version));
}

// ---------------------------------------------------------------------------------------------------- anew

static bool write_whole(struct tally_store *store, const struct tally_http_view *view, int file, uint64_t *out_size)
{
    struct tally_cursor cursor = {0};
    uint32_t chunk = 0;
    bool more = true;
    uint64_t size = TALLY_FRAMEFILE_MAGIC_BYTES, until_ms = store_monotonic_ms() + store->options.rewrite_ms_max;
    if (!file_write_at(file, TALLY_FRAMEFILE_MAGIC, TALLY_FRAMEFILE_MAGIC_BYTES, 0)) return false;
    while (more) {
        size_t bytes = 0;
        uint64_t now_ms = store_monotonic_ms();
        if (now_ms > until_ms || now_ms > atomic_load_explicit(&store->stop_by_ms, memory_order_relaxed)) {
            errno = ETIMEDOUT;
            return false;
        }
        enum tally_status status =
            store->source->write_chunk(store->reader, view, &cursor, &chunk, store->chunk, &bytes, &more);
        if (status != TALLY_OK) {
            errno = EIO;
            return false;
        }
        if (!write_entry(file, tally_bytes(store->chunk, bytes), &size)) return false;
    }
    *out_size = size;
    // Else a crash of the machine could leave an empty file under the good one's name.
    return fsync(file) == 0;
}

static bool open_reader(struct tally_store *store)
{
    if (!store->chunk) store->chunk = malloc(TALLY_CHUNK_BYTES_MAX);
    if (!store->chunk) return false;
    return store->source->open_reader(store->source->ctx, store->reader_number, &store->reader) == TALLY_OK;
}

static void rewrite_from(struct tally_store *store)
{
    struct tally_http_view view;
    struct tally_view_info info;
    enum tally_status pinned = store->source->pin(store->reader, &view);
    if (pinned != TALLY_OK) {
        failed(store, "rewrite", tally_status_str(pinned));
        return;
    }
    store->source->info(store->reader, &view, &info);
    uint64_t size = 0;
    int error = 0;
    int file = openat(store->directory, COPY_NEW, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0 || !write_whole(store, &view, file, &size)) error = errno;
    store->source->unpin(store->reader, &view);
    if (!error && renameat(store->directory, COPY_NEW, store->directory, COPY)) error = errno;
    if (error) {
        if (file >= 0) close(file);
        (void)!unlinkat(store->directory, COPY_NEW, 0);
        failed(store, "rewrite", strerror(error));
        return;
    }
    if (store->file >= 0) close(store->file);
    store->file = file;
    store->file_size = size;
    store->epoch = info.epoch;
    store->version = info.version;
    store->wanted = false;
    succeeded(store, true, size);
    tally_debug("store_rewritten", tally_log_u64("version", info.version), tally_log_u64("bytes", size));
}

// The reader is open for no longer than it is used: it would hold on to memory that its host has done with.
static void rewrite(struct tally_store *store)
{
    if (!open_reader(store)) {
        failed(store, "rewrite", "no reader of the mirror");
        return;
    }
    rewrite_from(store);
    store->source->close_reader(store->source->ctx, store->reader);
    store->reader = NULL;
}

// ---------------------------------------------------------------------------------------------------- frames

static void append(struct tally_store *store, struct tally_bytes frame, const struct tally_frame_header *header)
{
    uint64_t size = store->file_size;
    if (!write_entry(store->file, frame, &size)) {
        int error = errno;
        // What was written of it must not stand before later frames. It is cut off here, or as a torn tail at the next start: nothing is
        // appended any more until the copy has been written anew.
        (void)!ftruncate(store->file, (off_t)store->file_size);
        failed(store, "append", strerror(error));
        return;
    }
    uint64_t bytes = size - store->file_size;
    store->file_size = size;
    store->version = header->to;
    succeeded(store, false, bytes);
}

static bool too_long(struct tally_store *store)
{
    pthread_mutex_lock(&store->mutex);
    uint64_t base = store->stats.base_bytes, deltas = store->stats.deltas_bytes;
    pthread_mutex_unlock(&store->mutex);
    return deltas > store->options.deltas_bytes_min && deltas > 2 * base;
}

static void take(struct tally_store *store, const struct store_item *item)
{
    struct tally_frame_reader frame;
    struct tally_bytes bytes = tally_bytes(item->data, item->size);
    if (store->wanted) return;
    if (!item->size || tally_frame_open(bytes, &frame) != TALLY_OK) {
        store->wanted = true;
        return;
    }
    const struct tally_frame_header *header = &frame.header;
    if (store->file < 0 || header->epoch != store->epoch || header->from > store->version)
        store->wanted = true;
    else if (header->to <= store->version)
        return;
    else if (header->from != store->version)
        store->wanted = true;
    else
        append(store, bytes, header);
    if (too_long(store)) store->wanted = true;
}

// All that waits. Blocks until something does, it is time to try again, or the end.
static struct store_item *wait_items(struct tally_store *store)
{
    pthread_mutex_lock(&store->mutex);
    while (!store->head && !atomic_load_explicit(&store->stopping, memory_order_relaxed)) {
        if (!store->wanted) {
            pthread_cond_wait(&store->wake, &store->mutex);
            continue;
        }
        struct timespec until = {.tv_sec = (time_t)(store->retry_at_ms / 1000),
                                 .tv_nsec = (long)(store->retry_at_ms % 1000) * 1000000};
        if (pthread_cond_timedwait(&store->wake, &store->mutex, &until) == ETIMEDOUT) break;
    }
    struct store_item *items = store->head;
    store->head = NULL;
    store->tail = &store->head;
    store->stats.queue_bytes = 0;
    pthread_mutex_unlock(&store->mutex);
    return items;
}

void *store_thread(void *opened)
{
    struct tally_store *store = opened;
    bool stopping = false;
    while (!stopping) {
        // Looked at before the queue: what was put before the end is written.
        stopping = atomic_load_explicit(&store->stopping, memory_order_acquire);
        struct store_item *item = wait_items(store);
        while (item) {
            struct store_item *next = item->next;
            take(store, item);
            free(item);
            item = next;
        }
        if (store->wanted && store_monotonic_ms() >= store->retry_at_ms) rewrite(store);
    }
    return NULL;
}
