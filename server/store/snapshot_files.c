// SPDX-License-Identifier: Apache-2.0
#include "snapshot_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "errors.h"

#define KEPT       2u
#define PATH_BYTES 4096u
#define NAMES_MAX  64u

// Written data is pushed to the disk so often, so that the sync at the end has little left to do.
#define PUSH_BYTES (4u << 20)

struct files {
    struct tally_snapshot_store store;
    const struct tally_alloc *alloc;
    char dir[PATH_BYTES];
    uint8_t *loaded;
    int fd; // of the one being written, or -1
    uint64_t version;
    off_t written, pushed;
};

static struct files *files_of(struct tally_snapshot_store *store) { return (struct files *)(void *)store; }

static bool path_of(const struct files *files, const char *name, char out[PATH_BYTES])
{
    return (size_t)snprintf(out, PATH_BYTES, "%s/%s", files->dir, name) < PATH_BYTES;
}

static void name_of(uint64_t version, char out[40])
{
    (void)snprintf(out, 40, "snapshot-%016llx.tally", (unsigned long long)version);
}

static bool parse_name(const char *name, uint64_t *out_version)
{
    char again[40], *end;
    if (strncmp(name, "snapshot-", 9) != 0) return false;
    uint64_t version = strtoull(name + 9, &end, 16);
    name_of(version, again);
    *out_version = version;
    return strcmp(name, again) == 0;
}

// The versions of the snapshots that are there, the newest first; the greatest NAMES_MAX of them.
static enum tally_status list(const struct files *files, uint64_t versions[NAMES_MAX], size_t *out_count)
{
    DIR *dir = opendir(files->dir);
    if (!dir) return tally_errno_status(errno);
    size_t count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        uint64_t version;
        if (!parse_name(entry->d_name, &version)) continue;
        size_t at = count;
        if (count < NAMES_MAX)
            count++;
        else if (versions[--at] > version)
            continue;
        for (; at > 0 && versions[at - 1] < version; at--) versions[at] = versions[at - 1];
        versions[at] = version;
    }
    (void)closedir(dir);
    *out_count = count;
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- reading

static enum tally_status read_whole(const struct files *files, int fd, uint8_t **out_data, size_t *out_size)
{
    struct stat stat;
    if (fstat(fd, &stat)) return tally_errno_status(errno);
    size_t size = (size_t)stat.st_size, at = 0;
    uint8_t *data = tally_alloc_resize(files->alloc, NULL, size ? size : 1);
    if (!data) return TALLY_NO_MEMORY;
    while (at < size) {
        ssize_t got = read(fd, data + at, size - at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            tally_alloc_free(files->alloc, data);
            return tally_errno_status(errno);
        }
        if (got == 0) break;
        at += (size_t)got;
    }
    *out_data = data;
    *out_size = at;
    return TALLY_OK;
}

static void release(struct tally_snapshot_store *store)
{
    struct files *files = files_of(store);
    tally_alloc_free(files->alloc, files->loaded);
    files->loaded = NULL;
}

static enum tally_status load(struct tally_snapshot_store *store, uint32_t nth, uint64_t *out_version,
                              struct tally_bytes *out_bytes)
{
    struct files *files = files_of(store);
    uint64_t versions[NAMES_MAX];
    size_t count, size;
    char name[40], path[PATH_BYTES];
    enum tally_status status = list(files, versions, &count);
    if (status) return status;
    if (nth >= count) return TALLY_NOT_FOUND;
    *out_version = versions[nth];
    name_of(versions[nth], name);
    if (!path_of(files, name, path)) return TALLY_IO;
    release(store);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return tally_errno_status(errno);
    status = read_whole(files, fd, &files->loaded, &size);
    (void)close(fd);
    if (!status) *out_bytes = tally_bytes(files->loaded, size);
    return status;
}

// ---------------------------------------------------------------------------------------------------- writing

static void abort_writing(struct tally_snapshot_store *store)
{
    struct files *files = files_of(store);
    char path[PATH_BYTES];
    if (files->fd >= 0) (void)close(files->fd);
    files->fd = -1;
    if (path_of(files, "snapshot.tmp", path)) (void)unlink(path);
}

static enum tally_status begin(struct tally_snapshot_store *store, uint64_t version)
{
    struct files *files = files_of(store);
    char path[PATH_BYTES];
    if (files->fd >= 0) return TALLY_INVALID;
    release(store);
    if (!path_of(files, "snapshot.tmp", path)) return TALLY_IO;
    files->fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (files->fd < 0) return tally_errno_status(errno);
    files->version = version;
    files->written = files->pushed = 0;
    return TALLY_OK;
}

static enum tally_status write_some(struct tally_snapshot_store *store, struct tally_bytes bytes)
{
    struct files *files = files_of(store);
    while (bytes.size) {
        ssize_t done = write(files->fd, bytes.data, bytes.size);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return tally_errno_status(errno);
        bytes = tally_bytes(bytes.data + done, bytes.size - (size_t)done);
        files->written += done;
    }
    if (files->written - files->pushed >= (off_t)PUSH_BYTES) {
        // Begins to write, does not wait; who cannot do that writes at the end.
        (void)sync_file_range(files->fd, files->pushed, files->written - files->pushed, SYNC_FILE_RANGE_WRITE);
        files->pushed = files->written;
    }
    return TALLY_OK;
}

static enum tally_status sync_dir(const struct files *files)
{
    int fd = open(files->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return tally_errno_status(errno);
    enum tally_status status = fsync(fd) ? tally_errno_status(errno) : TALLY_OK;
    (void)close(fd);
    return status;
}

static void remove_old(const struct files *files)
{
    uint64_t versions[NAMES_MAX];
    size_t count;
    char name[40], path[PATH_BYTES];
    if (list(files, versions, &count)) return;
    for (size_t i = KEPT; i < count; i++) {
        name_of(versions[i], name);
        if (path_of(files, name, path)) (void)unlink(path);
    }
}

static enum tally_status commit(struct tally_snapshot_store *store)
{
    struct files *files = files_of(store);
    char name[40], from[PATH_BYTES], to[PATH_BYTES];
    name_of(files->version, name);
    if (!path_of(files, "snapshot.tmp", from) || !path_of(files, name, to)) return TALLY_IO;
    if (fsync(files->fd)) return tally_errno_status(errno);
    int fd = files->fd;
    files->fd = -1;
    if (close(fd)) return tally_errno_status(errno);
    if (rename(from, to)) return tally_errno_status(errno);
    enum tally_status status = sync_dir(files);
    if (!status) remove_old(files);
    return status;
}

static void close_store(struct tally_snapshot_store *store)
{
    struct files *files = files_of(store);
    abort_writing(store);
    tally_alloc_free(files->alloc, files->loaded);
    tally_alloc_free(files->alloc, files);
}

enum tally_status tally_snapshot_files_open(const char *dir, const struct tally_alloc *alloc,
                                            struct tally_snapshot_store **out_store, char *text, size_t text_bytes)
{
    static const struct tally_snapshot_store_ops ops = {
        .load = load,
        .release = release,
        .begin = begin,
        .write = write_some,
        .commit = commit,
        .abort = abort_writing,
        .close = close_store,
    };
    uint64_t versions[NAMES_MAX];
    size_t count;
    struct files *files = tally_alloc_resize(alloc, NULL, sizeof *files);
    if (!files) return TALLY_NO_MEMORY;
    *files = (struct files){.store = {&ops}, .alloc = alloc, .fd = -1};
    enum tally_status status = TALLY_INVALID;
    if ((size_t)snprintf(files->dir, sizeof files->dir, "%s", dir) < sizeof files->dir - 64)
        status = list(files, versions, &count);
    if (status) {
        if (text_bytes) (void)snprintf(text, text_bytes, "cannot list %s: %s", dir, tally_status_str(status));
        tally_alloc_free(alloc, files);
        return status;
    }
    abort_writing(&files->store);
    *out_store = &files->store;
    return TALLY_OK;
}
