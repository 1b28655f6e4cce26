// SPDX-License-Identifier: Apache-2.0
#include "spool.h"

#include "file_at.h"

#include <errno.h>
#include <fcntl.h>
#include <io/log.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <tallycast/limits.h>
#include <tallycast/siphash.h>
#include <unistd.h>

#define SPOOL       "count.spool"
#define SPOOL_NEW   "count.new"
#define SPOOL_BAD   "count.bad"
#define MAGIC       "TALLYS1\n"
#define MAGIC_BYTES 8u
#define HEAD_BYTES  12u

struct tally_spool {
    int directory, file; // file -1: none yet
    uint64_t size;       // good bytes in it
    bool broken;         // what stands behind them is not known: only anew

    void (*written)(void *ctx, enum tally_status status);
    void *ctx;
    pthread_t thread;
    bool started;
    pthread_mutex_t mutex; // of what follows
    pthread_cond_t wake;
    bool stopping, waiting, anew; // waiting: `data` is to be written
    uint8_t *data;                // head and group
    size_t data_size;
    enum tally_status failed; // before it came to the thread
};

static uint64_t check_of(const void *data, size_t size)
{
    return tally_siphash((struct tally_seed){0x7473616379616c6cu, 0x74}, data, size);
}

static enum tally_status status_of(int error)
{
    if (error == ENOSPC || error == EDQUOT || error == EFBIG) return TALLY_NO_SPACE;
    return error == ENOMEM ? TALLY_NO_MEMORY : TALLY_IO;
}

// ---------------------------------------------------------------------------------------------------- coming and going

enum tally_status tally_spool_open(const char *directory, struct tally_spool **out_spool,
                                   struct tally_reason *out_reason)
{
    struct tally_spool *spool = calloc(1, sizeof *spool);
    if (!spool) {
        tally_reason_set(out_reason, "no memory");
        return TALLY_NO_MEMORY;
    }
    spool->file = -1;
    spool->broken = true; // until something was read or written
    pthread_mutex_init(&spool->mutex, NULL);
    pthread_cond_init(&spool->wake, NULL);
    spool->directory = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (spool->directory < 0 || faccessat(spool->directory, ".", W_OK | X_OK, 0)) {
        tally_reason_set(out_reason, "--data %s: counts cannot be kept there: %s", directory, strerror(errno));
        tally_spool_close(&spool);
        return TALLY_IO;
    }
    *out_spool = spool;
    return TALLY_OK;
}

void tally_spool_close(struct tally_spool **spool)
{
    struct tally_spool *it = *spool;
    if (!it) return;
    if (it->started) {
        pthread_mutex_lock(&it->mutex);
        it->stopping = true;
        pthread_cond_signal(&it->wake);
        pthread_mutex_unlock(&it->mutex);
        pthread_join(it->thread, NULL);
    }
    if (it->file >= 0) close(it->file);
    if (it->directory >= 0) close(it->directory);
    pthread_cond_destroy(&it->wake);
    pthread_mutex_destroy(&it->mutex);
    free(it->data);
    free(it);
    *spool = NULL;
}

// ---------------------------------------------------------------------------------------------------- reading

// The group at `at`: TALLY_OK and its bytes in *buffer, TALLY_CORRUPT when it does not verify or is cut short, TALLY_IO, TALLY_NO_MEMORY.
static enum tally_status read_group(int file, uint64_t file_size, uint64_t at, uint8_t **buffer, size_t *out_size)
{
    uint8_t head[HEAD_BYTES];
    if (file_size - at < sizeof head) return TALLY_CORRUPT;
    if (!file_read_at(file, head, sizeof head, at)) return TALLY_IO;
    uint64_t size = tally_load32(head);
    if (!size || size > TALLY_SPOOL_GROUP_BYTES_MAX || size > file_size - at - sizeof head) return TALLY_CORRUPT;
    uint8_t *grown = realloc(*buffer, size);
    if (!grown) return TALLY_NO_MEMORY;
    *buffer = grown;
    if (!file_read_at(file, grown, size, at + sizeof head)) return TALLY_IO;
    *out_size = size;
    return check_of(grown, size) == tally_load64(head + 4) ? TALLY_OK : TALLY_CORRUPT;
}

// Whether a good group begins anywhere behind `at`. Costs a look at each byte, and a check of what looks like a size: only after damage.
static bool good_behind(int file, uint64_t file_size, uint64_t at, uint8_t **buffer)
{
    size_t size;
    for (at++; at + HEAD_BYTES < file_size; at++)
        if (read_group(file, file_size, at, buffer, &size) != TALLY_CORRUPT) return true; // or it cannot be told
    return false;
}

static enum tally_status read_groups(struct tally_spool *spool, uint64_t file_size, uint8_t **buffer,
                                     enum tally_status (*group)(void *ctx, struct tally_bytes group), void *ctx,
                                     struct tally_reason *out_reason)
{
    uint8_t magic[MAGIC_BYTES];
    if (file_size < sizeof magic || !file_read_at(spool->file, magic, sizeof magic, 0) ||
        memcmp(magic, MAGIC, sizeof magic) != 0) {
        tally_reason_set(out_reason, "%s is no spool", SPOOL);
        return TALLY_CORRUPT; // it is renamed into its place when it is whole
    }
    spool->size = sizeof magic;
    do {
        size_t size = 0;
        enum tally_status status = read_group(spool->file, file_size, spool->size, buffer, &size);
        bool first = spool->size == sizeof magic; // it was whole before the file had its name: never a torn end
        if (status == TALLY_CORRUPT && !first && !good_behind(spool->file, file_size, spool->size, buffer))
            return TALLY_OK;
        if (status == TALLY_OK) status = group(ctx, tally_bytes(*buffer, size));
        if (status != TALLY_OK) {
            tally_reason_set(out_reason, "%s at byte %llu of %llu: %s", SPOOL, (unsigned long long)spool->size,
                             (unsigned long long)file_size, tally_status_str(status));
            return status;
        }
        spool->size += HEAD_BYTES + size;
    } while (spool->size < file_size);
    return TALLY_OK;
}

enum tally_status tally_spool_boot(struct tally_spool *spool,
                                   enum tally_status (*group)(void *ctx, struct tally_bytes group), void *ctx,
                                   struct tally_reason *out_reason)
{
    struct stat about;
    uint8_t *buffer = NULL;
    (void)!unlinkat(spool->directory, SPOOL_NEW, 0);
    spool->file = openat(spool->directory, SPOOL, O_RDWR | O_CLOEXEC);
    if (spool->file < 0 && errno == ENOENT) return TALLY_OK;
    if (spool->file < 0 || fstat(spool->file, &about)) {
        tally_reason_set(out_reason, "%s cannot be read: %s", SPOOL, strerror(errno));
        return TALLY_IO;
    }
    uint64_t file_size = (uint64_t)about.st_size;
    enum tally_status status = read_groups(spool, file_size, &buffer, group, ctx, out_reason);
    free(buffer);
    if (status != TALLY_OK) return status;
    if (spool->size < file_size) {
        tally_warn("spool_tail_cut", tally_log_u64("good_bytes", spool->size),
                   tally_log_u64("cut_bytes", file_size - spool->size));
        if (ftruncate(spool->file, (off_t)spool->size)) {
            tally_reason_set(out_reason, "%s cannot be written: %s", SPOOL, strerror(errno));
            return TALLY_IO;
        }
    }
    spool->broken = false;
    return TALLY_OK;
}

enum tally_status tally_spool_set_aside(struct tally_spool *spool)
{
    if (spool->file >= 0) close(spool->file);
    spool->file = -1;
    spool->broken = true;
    return renameat(spool->directory, SPOOL, spool->directory, SPOOL_BAD) ? TALLY_IO : TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- writing

static enum tally_status append(struct tally_spool *spool, const uint8_t *data, size_t size)
{
    if (spool->broken || spool->file < 0) return TALLY_IO;
    if (!file_write_at(spool->file, data, size, spool->size) || fdatasync(spool->file)) {
        enum tally_status status = status_of(errno);
        spool->broken = true; // it may be there or not, now or after a crash; the next one is anew, and settles it
        return status;
    }
    spool->size += size;
    return TALLY_OK;
}

static enum tally_status replace(struct tally_spool *spool, const uint8_t *data, size_t size)
{
    int file = openat(spool->directory, SPOOL_NEW, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), error = 0;
    if (file < 0 || !file_write_at(file, MAGIC, MAGIC_BYTES, 0) || !file_write_at(file, data, size, MAGIC_BYTES) ||
        fsync(file))
        error = errno;
    if (!error && renameat(spool->directory, SPOOL_NEW, spool->directory, SPOOL)) error = errno;
    // The name, too. If that fails, either file may be found after a crash of the machine: nothing is to be sent on the new one's word.
    if (!error && fsync(spool->directory)) error = errno;
    if (error) {
        if (file >= 0) close(file);
        (void)!unlinkat(spool->directory, SPOOL_NEW, 0); // a full disk is not to be fuller for it
        spool->broken = true;
        return status_of(error);
    }
    if (spool->file >= 0) close(spool->file);
    spool->file = file;
    spool->size = MAGIC_BYTES + size;
    spool->broken = false;
    return TALLY_OK;
}

static void *spool_thread(void *opened)
{
    struct tally_spool *spool = opened;
    for (;;) {
        pthread_mutex_lock(&spool->mutex);
        while (!spool->waiting && !spool->stopping) pthread_cond_wait(&spool->wake, &spool->mutex);
        bool waiting = spool->waiting, anew = spool->anew;
        uint8_t *data = spool->data;
        size_t size = spool->data_size;
        enum tally_status status = spool->failed;
        spool->waiting = false;
        spool->data = NULL;
        pthread_mutex_unlock(&spool->mutex);
        if (!waiting) return NULL;
        if (status == TALLY_OK) status = anew ? replace(spool, data, size) : append(spool, data, size);
        free(data);
        spool->written(spool->ctx, status);
    }
}

enum tally_status tally_spool_start(struct tally_spool *spool, void (*written)(void *ctx, enum tally_status status),
                                    void *ctx)
{
    spool->written = written;
    spool->ctx = ctx;
    if (pthread_create(&spool->thread, NULL, spool_thread, spool)) return TALLY_NO_MEMORY;
    spool->started = true;
    return TALLY_OK;
}

void tally_spool_write(struct tally_spool *spool, bool anew, struct tally_bytes group)
{
    uint8_t *data = malloc(HEAD_BYTES + group.size);
    enum tally_status failed = group.size > TALLY_SPOOL_GROUP_BYTES_MAX ? TALLY_LIMIT : TALLY_OK;
    if (!data) failed = TALLY_NO_MEMORY;
    if (data) {
        tally_store32(data, (uint32_t)group.size);
        tally_store64(data + 4, check_of(group.data, group.size));
        memcpy(data + HEAD_BYTES, group.data, group.size);
    }
    pthread_mutex_lock(&spool->mutex);
    spool->data = data;
    spool->data_size = HEAD_BYTES + group.size;
    spool->failed = failed;
    spool->anew = anew;
    spool->waiting = true;
    pthread_cond_signal(&spool->wake);
    pthread_mutex_unlock(&spool->mutex);
}
