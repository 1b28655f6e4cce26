// SPDX-License-Identifier: Apache-2.0
#include "data_dir.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "errors.h"

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
    *out_dir = (struct tally_data_dir){.lock = fd};
    return TALLY_OK;
}

void tally_data_dir_close(struct tally_data_dir *dir)
{
    if (dir->lock >= 0) (void)close(dir->lock);
    dir->lock = -1;
}
