// SPDX-License-Identifier: Apache-2.0
//
// A directory for one test, and what tests do to files. Include after cmocka. Threads: one.
#ifndef TALLY_TEST_TEMP_DIR_H
#define TALLY_TEST_TEMP_DIR_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct test_dir {
    char path[256];
};

static inline struct test_dir test_dir_make(void)
{
    struct test_dir dir;
    const char *base = getenv("TMPDIR");
    (void)snprintf(dir.path, sizeof dir.path, "%s/tallycast-test-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(dir.path)) abort();
    return dir;
}

// Removes everything under `path`, and with `itself` also it.
static inline void test_dir_empty(const char *path, bool itself)
{
    DIR *dir = opendir(path);
    if (!dir) return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char name[1024];
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        if ((size_t)snprintf(name, sizeof name, "%s/%s", path, entry->d_name) >= sizeof name) abort();
        if (unlink(name)) test_dir_empty(name, true);
    }
    (void)closedir(dir);
    if (itself) (void)rmdir(path);
}

static inline void test_dir_remove(struct test_dir *dir) { test_dir_empty(dir->path, true); }

// A name in the directory; valid until the fourth next call.
static inline const char *test_dir_file(const struct test_dir *dir, const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", dir->path, name);
    return path;
}

static inline uint8_t *test_file_read(const char *path, size_t *out_size)
{
    struct stat stat_;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &stat_)) abort();
    uint8_t *data = malloc((size_t)stat_.st_size + 1);
    size_t at = 0;
    for (ssize_t got; (got = read(fd, data + at, (size_t)stat_.st_size - at)) > 0;) at += (size_t)got;
    (void)close(fd);
    *out_size = at;
    return data;
}

static inline void test_file_write(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd)) abort();
}

#endif
