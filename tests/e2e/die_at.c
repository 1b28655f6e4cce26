// SPDX-License-Identifier: Apache-2.0
//
// Ends a program by SIGKILL at a point of its own, for tests: loaded before it (LD_PRELOAD), it stands between the program and the C library's calls
// that make things durable. So the program needs no hooks for it.
//
//   TALLY_DIE="CALL PATH NUMBER before|after"
//
// ends it at the NUMBERth (from 1) such call for a file whose path ends with PATH (*: any), instead of doing it or when it is done. CALL is fsync,
// fdatasync, rename (renameat, too; PATH is the new name), or commit: the pwrite to one of the first two pages by which LMDB makes a
// transaction count.
//
// Nothing that follows in the calling thread runs, and no other thread can know how the call ended.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define META_BYTES (2 * 4096)

static struct {
    char call[16], path[64], when[8];
    unsigned number;
    atomic_uint calls; // relaxed: a counter
} point;

__attribute__((constructor)) static void read_point(void)
{
    const char *text = getenv("TALLY_DIE");
    if (text && sscanf(text, "%15s %63s %u %7s", point.call, point.path, &point.number, point.when) != 4) {
        (void)fprintf(stderr, "die_at: TALLY_DIE=%s\n", text);
        _exit(2);
    }
}

static bool ends_with(const char *text, const char *end)
{
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && !strcmp(text + size - end_size, end);
}

// Whether this is the call: then it is counted, and `before` and `after` know it.
static bool is_it(const char *call, const char *path)
{
    return point.number && !strcmp(call, point.call) && (!strcmp(point.path, "*") || ends_with(path, point.path)) &&
           atomic_fetch_add_explicit(&point.calls, 1, memory_order_relaxed) + 1 == point.number;
}

static bool is_it_of(const char *call, int fd)
{
    char link[64], path[4096];
    if (!point.number || strcmp(call, point.call) != 0) return false;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return false;
    path[size] = 0;
    return is_it(call, path);
}

static void die(bool it, const char *when)
{
    if (it && !strcmp(when, point.when)) (void)kill(getpid(), SIGKILL);
    while (it && !strcmp(when, point.when)) (void)pause(); // until it comes
}

int fsync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    bool it = is_it_of("fsync", fd);
    die(it, "before");
    int result = real(fd);
    die(it, "after");
    return result;
}

int fdatasync(int fd)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    bool it = is_it_of("fdatasync", fd);
    die(it, "before");
    int result = real(fd);
    die(it, "after");
    return result;
}

int rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    bool it = is_it("rename", to);
    die(it, "before");
    int result = real(from, to);
    die(it, "after");
    return result;
}

int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    int (*real)(int, const char *, int, const char *) =
        (int (*)(int, const char *, int, const char *))dlsym(RTLD_NEXT, "renameat");
    bool it = is_it("rename", to);
    die(it, "before");
    int result = real(from_folder, from, to_folder, to);
    die(it, "after");
    return result;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    ssize_t (*real)(int, const void *, size_t, off_t) =
        (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    bool it = offset < META_BYTES && is_it_of("commit", fd);
    die(it, "before");
    ssize_t result = real(fd, data, size, offset);
    die(it, "after");
    return result;
}
