// SPDX-License-Identifier: Apache-2.0
#include "store_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <io/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <tallycast/frame.h>
#include <tallycast/framefile.h>
#include <time.h>
#include <unistd.h>

uint64_t store_monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

// ---------------------------------------------------------------------------------------------------- directory

// Makes it, and the folders above it. Why the last of them could not be made, 0 when it is there.
static int make_directory(const char *path)
{
    char part[4096];
    size_t size = strlen(path);
    if (size >= sizeof part) return ENAMETOOLONG;
    memcpy(part, path, size + 1);
    for (char *p = part + 1; *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        (void)!mkdir(part, 0777);
        *p = '/';
    }
    return mkdir(part, 0700) && errno != EEXIST ? errno : 0;
}

// Nothing can be written there: the edge can do without, and what is stored there can still be read. A path that is no directory is a
// mistake in the settings.
static enum tally_status unwritable(const char *path, int error, struct tally_reason *out_reason)
{
    if (error == ENOTDIR || error == EEXIST || error == ENAMETOOLONG) {
        tally_reason_set(out_reason, "--data %s cannot be made or used: %s", path, strerror(error));
        return TALLY_INVALID;
    }
    tally_warn("store_off", tally_log_str("data", path), tally_log_str("reason", strerror(error)),
               tally_log_str("effect", "reads go on from memory; no copy is stored until the next start"));
    return TALLY_OK;
}

static enum tally_status lock_directory(struct tally_store *store, const char *path, struct tally_reason *out_reason)
{
    store->lock = openat(store->directory, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (store->lock < 0) return unwritable(path, errno, out_reason);
    char text[32] = {0};
    if (flock(store->lock, LOCK_EX | LOCK_NB)) {
        if (errno != EWOULDBLOCK) return unwritable(path, errno, out_reason);
        (void)!pread(store->lock, text, sizeof text - 1, 0);
        text[strcspn(text, "\n")] = 0;
        tally_reason_set(out_reason, "--data %s is in use by another tallycast-edge (process %s)", path, text);
        return TALLY_IN_USE;
    }
    int size = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    (void)!ftruncate(store->lock, 0);
    (void)!pwrite(store->lock, text, (size_t)size, 0); // for people: the lock is the lock
    return TALLY_OK;
}

static void set_defaults(struct tally_store_options *options)
{
    options->directory = NULL;
    options->dataset = (struct tally_bytes){0};
    if (!options->deltas_bytes_min) options->deltas_bytes_min = 1u << 20;
    if (!options->queue_bytes_max) options->queue_bytes_max = 64u << 20;
    if (!options->retry_ms) options->retry_ms = 30000;
    if (!options->rewrite_ms_max) options->rewrite_ms_max = 60000;
}

enum tally_status tally_store_open(const struct tally_store_options *options, struct tally_store **out_store,
                                   struct tally_reason *out_reason)
{
    struct tally_store *store = calloc(1, sizeof *store);
    if (!store) {
        tally_reason_set(out_reason, "no memory");
        return TALLY_NO_MEMORY;
    }
    store->options = *options;
    set_defaults(&store->options);
    store->lock = store->file = -1;
    atomic_init(&store->stop_by_ms, UINT64_MAX);
    memcpy(store->dataset, options->dataset.data, options->dataset.size);
    store->dataset_size = options->dataset.size;
    pthread_mutex_init(&store->mutex, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&store->wake, &clock);
    pthread_condattr_destroy(&clock);
    store->tail = &store->head;

    int error = make_directory(options->directory);
    store->directory = open(options->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (store->directory < 0 && (errno != ENOENT || !error)) error = errno;
    enum tally_status status = store->directory < 0 ? unwritable(options->directory, error, out_reason)
                                                    : lock_directory(store, options->directory, out_reason);
    if (status != TALLY_OK) {
        tally_store_close(&store, 0);
        return status;
    }
    store->stats.failing = store->lock < 0;
    *out_store = store;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- reading it at start

struct boot_state {
    uint64_t at;     // end of what was read
    uint64_t good;   // end of what verified and leads to a version
    uint8_t *buffer; // of the message being read
    size_t capacity;
};

// The message at state->at, into the buffer. TALLY_NOT_FOUND at the end of the file.
static enum tally_status next_message(int file, uint64_t file_size, struct boot_state *state,
                                      struct tally_bytes *out_message)
{
    uint8_t head[4];
    uint64_t left = file_size - state->at;
    if (left == 0) return TALLY_NOT_FOUND;
    if (left < sizeof head || !file_read_at(file, head, sizeof head, state->at)) return TALLY_MALFORMED;
    size_t size = tally_load32(head);
    if (size > TALLY_FRAME_BYTES_MAX) return TALLY_LIMIT;
    if (size > left - sizeof head) return TALLY_MALFORMED;
    if (size > state->capacity) {
        uint8_t *grown = realloc(state->buffer, size);
        if (!grown) return TALLY_NO_MEMORY;
        state->buffer = grown;
        state->capacity = size;
    }
    if (!file_read_at(file, state->buffer, size, state->at + sizeof head)) return TALLY_IO;
    *out_message = tally_bytes(state->buffer, size);
    state->at += sizeof head + size;
    return TALLY_OK;
}

// The first message says whose copy it is.
static bool other_dataset(const struct tally_store *store, struct tally_bytes message, struct tally_reason *out_reason)
{
    struct tally_frame_reader frame;
    if (tally_frame_open(message, &frame) != TALLY_OK) return false;
    struct tally_bytes mine = tally_bytes(store->dataset, store->dataset_size);
    if (tally_bytes_equal(frame.header.dataset, mine)) return false;
    tally_reason_set(out_reason, "--data holds a copy of dataset %.*s, not of %.*s", (int)frame.header.dataset.size,
                     (const char *)frame.header.dataset.data, (int)mine.size, (const char *)mine.data);
    return true;
}

static enum tally_status read_copy(struct tally_store *store, int file, uint64_t file_size,
                                   const struct tally_store_boot *boot, struct boot_state *state,
                                   struct tally_reason *out_reason)
{
    uint8_t magic[TALLY_FRAMEFILE_MAGIC_BYTES];
    if (file_size < sizeof magic || !file_read_at(file, magic, sizeof magic, 0) ||
        memcmp(magic, TALLY_FRAMEFILE_MAGIC, sizeof magic) != 0)
        return TALLY_MALFORMED;
    state->at = sizeof magic;
    for (bool first = true;; first = false) {
        struct tally_bytes message;
        enum tally_status status = next_message(file, file_size, state, &message);
        if (status == TALLY_NOT_FOUND) return TALLY_OK;
        if (status != TALLY_OK) return status;
        if (first && other_dataset(store, message, out_reason)) return TALLY_WRONG_DATASET;
        status = boot->message(boot->ctx, message, &store->epoch, &store->version);
        if (status == TALLY_OK || (status == TALLY_OLD && state->good))
            state->good = state->at;
        else if (status != TALLY_MORE)
            return status;
        if (status == TALLY_OK && !store->stats.base_bytes) store->stats.base_bytes = state->at;
    }
}

// What is done with a copy that ended with `status`.
static void settle_copy(struct tally_store *store, uint64_t file_size, const struct boot_state *state,
                        enum tally_status status)
{
    store->stats.booted_bytes = state->good;
    store->stats.refused_bytes = file_size - state->good;
    if (status == TALLY_NO_MEMORY || status == TALLY_IO) {
        // Not the copy's fault: leave it, until there is a newer one.
        tally_warn("store_not_read", tally_log_status(status), tally_log_u64("good_bytes", state->good));
        store->epoch = store->version = 0;
        return;
    }
    if (!state->good) {
        tally_warn("store_refused", tally_log_status(status), tally_log_u64("bytes", file_size),
                   tally_log_str("action", "set aside as " COPY_BAD));
        if (store->lock >= 0) (void)!renameat(store->directory, COPY, store->directory, COPY_BAD);
        return;
    }
    if (state->good < file_size)
        tally_warn("store_tail_cut", tally_log_status(status == TALLY_OK ? TALLY_MALFORMED : status),
                   tally_log_u64("good_bytes", state->good), tally_log_u64("cut_bytes", file_size - state->good));
    if (store->lock < 0) return;
    store->file = openat(store->directory, COPY, O_RDWR | O_CLOEXEC);
    if (store->file >= 0 && state->good < file_size && ftruncate(store->file, (off_t)state->good)) {
        close(store->file);
        store->file = -1;
    }
    store->file_size = state->good;
    store->stats.deltas_bytes = state->good - store->stats.base_bytes;
    if (store->file < 0) store->epoch = store->version = 0; // not to be appended to: it will be written anew
}

enum tally_status tally_store_boot(struct tally_store *store, const struct tally_store_boot *boot,
                                   struct tally_reason *out_reason)
{
    if (store->directory < 0) return TALLY_OK;
    if (store->lock >= 0) (void)!unlinkat(store->directory, COPY_NEW, 0); // of a rewrite that was not finished
    int file = openat(store->directory, COPY, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        if (errno != ENOENT) tally_warn("store_not_read", tally_log_str("reason", strerror(errno)));
        return TALLY_OK;
    }
    struct stat about;
    struct boot_state state = {0};
    uint64_t file_size = fstat(file, &about) == 0 && S_ISREG(about.st_mode) ? (uint64_t)about.st_size : 0;
    enum tally_status status = read_copy(store, file, file_size, boot, &state, out_reason);
    close(file);
    free(state.buffer);
    if (status == TALLY_WRONG_DATASET && !state.good) return status;
    settle_copy(store, file_size, &state, status);
    store->stats.epoch = store->epoch;
    store->stats.version = store->version;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- queue

enum tally_status tally_store_start(struct tally_store *store, const struct tally_http_source *source, unsigned reader)
{
    store->source = source;
    store->reader_number = reader;
    if (store->lock < 0) return TALLY_OK; // nothing can be written
    if (pthread_create(&store->thread, NULL, store_thread, store)) return TALLY_NO_MEMORY;
    store->started = true;
    return TALLY_OK;
}

static void free_items(struct store_item *item)
{
    while (item) {
        struct store_item *next = item->next;
        free(item);
        item = next;
    }
}

static void put(struct tally_store *store, struct tally_bytes frame)
{
    if (!store->started) return;
    struct store_item *item = malloc(sizeof *item + frame.size);
    struct store_item *dropped = NULL;
    if (item) {
        *item = (struct store_item){.size = frame.size};
        if (frame.size) memcpy(item->data, frame.data, frame.size);
    }
    pthread_mutex_lock(&store->mutex);
    if (!item || store->stats.queue_bytes + frame.size > store->options.queue_bytes_max) {
        // What is missing from the chain makes the writer write the copy anew with the next frame that it gets.
        dropped = store->head;
        store->head = NULL;
        store->tail = &store->head;
        store->stats.queue_bytes = 0;
        store->stats.overflows++;
    }
    if (item) {
        *store->tail = item;
        store->tail = &item->next;
        store->stats.queue_bytes += frame.size;
        pthread_cond_signal(&store->wake);
    }
    pthread_mutex_unlock(&store->mutex);
    free_items(dropped);
}

void tally_store_append(struct tally_store *store, struct tally_bytes frame) { put(store, frame); }

void tally_store_rebase(struct tally_store *store) { put(store, (struct tally_bytes){0}); }

void tally_store_stats(struct tally_store *store, struct tally_store_stats *out_stats)
{
    pthread_mutex_lock(&store->mutex);
    *out_stats = store->stats;
    pthread_mutex_unlock(&store->mutex);
}

void tally_store_close(struct tally_store **store, unsigned grace_ms)
{
    struct tally_store *it = *store;
    if (!it) return;
    if (it->started) {
        pthread_mutex_lock(&it->mutex);
        atomic_store(&it->stop_by_ms, store_monotonic_ms() + grace_ms);
        atomic_store(&it->stopping, true);
        pthread_cond_signal(&it->wake);
        pthread_mutex_unlock(&it->mutex);
        pthread_join(it->thread, NULL);
    }
    free_items(it->head);
    if (it->file >= 0) close(it->file);
    if (it->lock >= 0) close(it->lock); // unlocks
    if (it->directory >= 0) close(it->directory);
    pthread_cond_destroy(&it->wake);
    pthread_mutex_destroy(&it->mutex);
    free(it->chunk);
    free(it);
    *store = NULL;
}
