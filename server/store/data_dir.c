// SPDX-License-Identifier: Apache-2.0
#include "data_dir.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "errors.h"

#define NAME_BYTES 64u

// What the lock file says when it is at home: its inode and the time of its birth, which a copy does not have (0 where the file system has none).
static bool own_name(int fd, char out[NAME_BYTES])
{
    struct statx found;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &found)) return false;
    bool born = found.stx_mask & STATX_BTIME;
    (void)snprintf(out, NAME_BYTES, "%016llx %llx.%x\n", (unsigned long long)found.stx_ino,
                   born ? (unsigned long long)found.stx_btime.tv_sec : 0, born ? found.stx_btime.tv_nsec : 0);
    return true;
}

static bool at_home(int fd)
{
    char own[NAME_BYTES], said[NAME_BYTES] = "";
    return own_name(fd, own) && pread(fd, said, sizeof said - 1, 0) > 0 && strcmp(own, said) == 0;
}

enum tally_status tally_data_dir_settle(struct tally_data_dir *dir)
{
    char own[NAME_BYTES];
    if (at_home(dir->lock)) return TALLY_OK;
    if (!own_name(dir->lock, own)) return TALLY_IO;
    size_t size = strlen(own);
    if (ftruncate(dir->lock, 0) || pwrite(dir->lock, own, size, 0) != (ssize_t)size || fsync(dir->lock))
        return errno == ENOSPC ? TALLY_NO_SPACE : TALLY_IO;
    dir->moved = false;
    return TALLY_OK;
}

enum tally_status tally_data_dir_open(const char *path, struct tally_data_dir *out_dir, char *text, size_t text_bytes)
{
    char name[4096];
    if (mkdir(path, 0700) && errno != EEXIST)
        return tally_errno_tell(errno, "cannot make the data directory", path, text, text_bytes);
    if ((size_t)snprintf(name, sizeof name, "%s/lock", path) >= sizeof name) return TALLY_INVALID;
    int fd = open(name, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) return tally_errno_tell(errno, "cannot open", name, text, text_bytes);
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        int error = errno;
        (void)close(fd);
        if (error != EWOULDBLOCK) return tally_errno_tell(error, "cannot lock", name, text, text_bytes);
        if (text_bytes) (void)snprintf(text, text_bytes, "another server holds the data directory %s", path);
        return TALLY_IN_USE;
    }
    *out_dir = (struct tally_data_dir){.lock = fd, .moved = !at_home(fd)};
    return TALLY_OK;
}

void tally_data_dir_close(struct tally_data_dir *dir)
{
    if (dir->lock >= 0) (void)close(dir->lock);
    dir->lock = -1;
}
