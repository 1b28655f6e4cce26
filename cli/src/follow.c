// SPDX-License-Identifier: Apache-2.0
#include "follow.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <tallycast/limits.h>
#include <tallycast/siphash.h>
#include <unistd.h>

#include "cli.h"

#define HEAD_BYTES  256u
#define GRACE_MS    1000u // a file that was renamed may be written to for so long
#define RACES_MAX   16u   // files that are renamed while they are looked for
#define MAGIC       "TALLYP1\n"
#define MAGIC_BYTES 8u
#define NUMBERS     11u
#define FRONT_BYTES (MAGIC_BYTES + 8 * NUMBERS)

struct cli_follow {
    char path[PATH_MAX], position_path[PATH_MAX];
    int fd, lock;                           // -1: none
    struct cli_position at;                 // of the file at hand; offset: what was read
    uint64_t start, start_line, start_done; // of it
    uint64_t rotated_ms;                    // another file has its name, and nothing came, since; 0: not
    struct cli_follow_batch last;
    uint8_t *stored; // what the position file holds
    size_t stored_room;
};

static const struct tally_seed check_seed = {0x7473616379616c6cu, 0x70};

// ---------------------------------------------------------------------------------------------------- the position file

static int stored_reserve(struct cli_follow *follow, size_t size)
{
    if (size <= follow->stored_room) return CLI_DONE;
    uint8_t *room = realloc(follow->stored, size);
    if (!room) {
        cli_complain("out of memory");
        return CLI_WRONG_USE;
    }
    follow->stored = room;
    follow->stored_room = size;
    return CLI_DONE;
}

static bool stored_parse(struct cli_follow *follow, size_t size, struct cli_position *out_position)
{
    const uint8_t *bytes = follow->stored;
    uint64_t numbers[NUMBERS];
    if (size < FRONT_BYTES + 8 || memcmp(bytes, MAGIC, MAGIC_BYTES) != 0) return false;
    if (tally_load64(bytes + size - 8) != tally_siphash(check_seed, bytes, size - 8)) return false;
    for (unsigned i = 0; i < NUMBERS; i++) numbers[i] = tally_load64(bytes + MAGIC_BYTES + 8 * i);
    if (numbers[10] != size - FRONT_BYTES - 8) return false;
    *out_position =
        (struct cli_position){numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6]};
    follow->last =
        (struct cli_follow_batch){numbers[7], numbers[8], numbers[9], tally_bytes(bytes + FRONT_BYTES, numbers[10])};
    return true;
}

// *out_position stays as it is when there is no such file.
static int stored_load(struct cli_follow *follow, struct cli_position *out_position)
{
    int fd = open(follow->position_path, O_RDONLY | O_CLOEXEC), code = CLI_DONE;
    struct stat about;
    if (fd < 0 && errno == ENOENT) return CLI_DONE;
    if (fd < 0 || fstat(fd, &about)) {
        cli_complain("cannot read %s: %s", follow->position_path, strerror(errno));
        return CLI_WRONG_USE;
    }
    size_t size = (size_t)about.st_size;
    if (size > FRONT_BYTES + TALLY_BATCH_BYTES_MAX + 8) size = 0;
    code = stored_reserve(follow, size + 1);
    if (code == CLI_DONE &&
        (read(fd, follow->stored, size) != (ssize_t)size || !stored_parse(follow, size, out_position))) {
        cli_complain(
            "%s is no position file, or damaged; without it lines may be counted twice: if that is fine, remove it",
            follow->position_path);
        code = CLI_REFUSED;
    }
    (void)close(fd);
    return code;
}

static bool write_all(int fd, const uint8_t *bytes, size_t size)
{
    while (size) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return false;
        bytes += written;
        size -= (size_t)written;
    }
    return true;
}

// The folder's own record of the name is made durable, too.
static bool folder_sync(const char *path)
{
    char folder[PATH_MAX];
    (void)snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = '\0';
    int fd = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0) (void)close(fd);
    return synced;
}

int cli_follow_save(struct cli_follow *follow, const struct cli_position *position,
                    const struct cli_follow_batch *batch)
{
    const uint64_t numbers[NUMBERS] = {position->device, position->inode,     position->offset,     position->line,
                                       position->done,   position->head_size, position->head_check, batch->producer,
                                       batch->sequence,  batch->events,       batch->request.size};
    size_t size = FRONT_BYTES + batch->request.size + 8;
    char fresh[PATH_MAX + 8];
    int code = stored_reserve(follow, size);
    if (code != CLI_DONE) return code;
    memcpy(follow->stored, MAGIC, MAGIC_BYTES);
    for (unsigned i = 0; i < NUMBERS; i++) tally_store64(follow->stored + MAGIC_BYTES + 8 * i, numbers[i]);
    memcpy(follow->stored + FRONT_BYTES, batch->request.data, batch->request.size);
    tally_store64(follow->stored + size - 8, tally_siphash(check_seed, follow->stored, size - 8));
    (void)snprintf(fresh, sizeof fresh, "%s.new", follow->position_path);
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool saved = fd >= 0 && write_all(fd, follow->stored, size) && fdatasync(fd) == 0;
    if (fd >= 0) (void)close(fd);
    saved = saved && rename(fresh, follow->position_path) == 0 && folder_sync(follow->position_path);
    if (saved) return CLI_DONE;
    cli_complain("cannot write %s: %s", follow->position_path, strerror(errno));
    return CLI_WRONG_USE;
}

// ---------------------------------------------------------------------------------------------------- files

static bool is(const struct cli_position *position, const struct stat *about)
{
    return position->inode == about->st_ino && position->device == about->st_dev;
}

// Whether the file begins with the bytes that are known of it.
static bool head_fits(int fd, const struct cli_position *position)
{
    uint8_t head[HEAD_BYTES];
    if (position->head_size > HEAD_BYTES) return false;
    return pread(fd, head, position->head_size, 0) == (ssize_t)position->head_size &&
           tally_siphash(check_seed, head, position->head_size) == position->head_check;
}

// Knows the file by more of its first bytes, as far as they were read.
static void head_learn(struct cli_follow *follow)
{
    uint8_t head[HEAD_BYTES];
    size_t size = follow->at.offset < HEAD_BYTES ? follow->at.offset : HEAD_BYTES;
    if (size == follow->at.head_size || pread(follow->fd, head, size, 0) != (ssize_t)size) return;
    follow->at.head_size = size;
    follow->at.head_check = tally_siphash(check_seed, head, size);
}

// From the front of another file, or of the same one.
static void begin(struct cli_follow *follow, int fd, const struct stat *about)
{
    if (follow->fd >= 0 && follow->fd != fd) (void)close(follow->fd);
    follow->fd = fd;
    follow->at = (struct cli_position){
        .device = about->st_dev, .inode = about->st_ino, .head_check = tally_siphash(check_seed, "", 0)};
    follow->start = follow->start_line = follow->start_done = 0;
    follow->rotated_ms = 0;
}

static bool packed(const char *name)
{
    static const char *const ends[] = {".gz", ".xz", ".zst", ".bz2", ".lz4", ".new", ".lock"};
    size_t size = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (size > strlen(ends[i]) && strcmp(name + size - strlen(ends[i]), ends[i]) == 0) return true;
    return false;
}

// A file of the log's folder whose name goes on behind the log's.
struct sibling {
    char path[PATH_MAX];
    struct stat about;
};

// The number of NAME.7; 0: it has none.
static unsigned long number_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    char *end;
    if (!dot || dot[1] < '0' || dot[1] > '9') return 0;
    unsigned long number = strtoul(dot + 1, &end, 10);
    return *end ? 0 : number;
}

// In the order in which they were written to last. Times are of the system's ticks: of two of one time .2 is older than .1, and names with dates grow.
static int order(const struct sibling *one, const struct sibling *other)
{
    const struct timespec *a = &one->about.st_mtim, *b = &other->about.st_mtim;
    if (a->tv_sec != b->tv_sec) return a->tv_sec < b->tv_sec ? -1 : 1;
    if (a->tv_nsec != b->tv_nsec) return a->tv_nsec < b->tv_nsec ? -1 : 1;
    unsigned long m = number_of(one->path), n = number_of(other->path);
    if (m && n && m != n) return m > n ? -1 : 1;
    return strcmp(one->path, other->path);
}

// Where some follower keeps how far it came.
static bool is_position_file(const char *path)
{
    char magic[MAGIC_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool it =
        fd >= 0 && pread(fd, magic, MAGIC_BYTES, 0) == (ssize_t)MAGIC_BYTES && memcmp(magic, MAGIC, MAGIC_BYTES) == 0;
    if (fd >= 0) (void)close(fd);
    return it;
}

// The log's folder, with a slash; *out_name: the log's name in it.
static void folder_of(const struct cli_follow *follow, char folder[PATH_MAX + 1], const char **out_name)
{
    const char *slash = strrchr(follow->path, '/');
    *out_name = slash ? slash + 1 : follow->path;
    (void)snprintf(folder, PATH_MAX + 1, "%.*s", slash ? (int)(slash - follow->path) + 1 : 2,
                   slash ? follow->path : "./");
}

// Goes through the log's siblings. `wanted`: the one that this position is of. Null: the first that comes after *after (with an empty
// path: whose name is not known). False: there is none.
static bool find_sibling(const struct cli_follow *follow, const struct cli_position *wanted,
                         const struct sibling *after, struct sibling *out_sibling)
{
    char folder[PATH_MAX + 1];
    const char *name;
    struct sibling one;
    bool found = false;
    folder_of(follow, folder, &name);
    DIR *open_folder = opendir(folder);
    for (struct dirent *entry; open_folder && (entry = readdir(open_folder));) {
        if (strncmp(entry->d_name, name, strlen(name)) != 0 || strcmp(entry->d_name, name) == 0 ||
            packed(entry->d_name))
            continue;
        int size = snprintf(one.path, sizeof one.path, "%s%s", folder, entry->d_name);
        if (size >= PATH_MAX || stat(one.path, &one.about) || !S_ISREG(one.about.st_mode)) continue;
        if (wanted) {
            if (!is(wanted, &one.about)) continue;
        } else {
            struct sibling last = *after;
            if (!last.path[0]) memcpy(last.path, one.path, sizeof last.path); // of one time: neither is later
            if (order(&one, &last) <= 0 || (found && order(&one, out_sibling) >= 0) || is_position_file(one.path))
                continue;
        }
        *out_sibling = one;
        found = true;
    }
    if (open_folder) (void)closedir(open_folder);
    return found;
}

// The next file to be read from its front: the sibling that comes after the one at hand, however many times the log was renamed since; when
// there is none and `log_too`, the log itself. False: it is not there yet.
static bool open_next(struct cli_follow *follow, bool log_too)
{
    for (unsigned races = 0; races < RACES_MAX; races++) {
        struct sibling here = {0}, next;
        struct stat about;
        // The log first: what is renamed from now on is found among its siblings.
        int fd = log_too ? open(follow->path, O_RDONLY | O_CLOEXEC) : -1;
        if (follow->fd >= 0) {
            if (!find_sibling(follow, &follow->at, NULL, &here) && fstat(follow->fd, &here.about)) here.path[0] = 0;
            if (find_sibling(follow, NULL, &here, &next)) {
                if (fd >= 0) (void)close(fd);
                const struct cli_position at = {.device = next.about.st_dev, .inode = next.about.st_ino};
                fd = open(next.path, O_RDONLY | O_CLOEXEC);
                if (fd >= 0 && fstat(fd, &about) == 0 && is(&at, &about)) {
                    begin(follow, fd, &about);
                    return true;
                }
                if (fd >= 0) (void)close(fd);
                continue; // it was renamed meanwhile
            }
        }
        if (fd >= 0 && fstat(fd, &about) == 0) {
            begin(follow, fd, &about);
            return true;
        }
        if (fd >= 0) (void)close(fd);
        return false;
    }
    return false;
}

// Goes on at `position` in an open file, which is the one that it is of.
static void go_on(struct cli_follow *follow, int fd, const struct stat *about, const struct cli_position *position)
{
    begin(follow, fd, about);
    follow->at = *position;
    follow->start = position->offset;
    follow->start_line = position->line;
    follow->start_done = position->done;
}

// The log was renamed since: the file that was read is among its siblings.
static bool find_renamed(struct cli_follow *follow, const struct cli_position *position)
{
    struct sibling found;
    struct stat about;
    for (unsigned races = 0; races < RACES_MAX && find_sibling(follow, position, NULL, &found); races++) {
        int fd = open(found.path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &about) == 0 && is(position, &about)) {
            if ((uint64_t)about.st_size < position->offset || !head_fits(fd, position)) {
                (void)close(fd);
                return false;
            }
            go_on(follow, fd, &about, position);
            return true;
        }
        if (fd >= 0) (void)close(fd); // it was renamed meanwhile
    }
    return false;
}

// Back to where it was.
static void resume(struct cli_follow *follow, const struct cli_position *position)
{
    struct stat about;
    int fd = open(follow->path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &about) == 0 && is(position, &about)) {
        if ((uint64_t)about.st_size >= position->offset && head_fits(fd, position))
            go_on(follow, fd, &about, position);
        else
            begin(follow, fd, &about); // truncated, or another one with its number
        return;
    }
    if (fd >= 0) (void)close(fd);
    if (!find_renamed(follow, position))
        cli_complain(
            "the file that was read last, to byte %llu, is not there any more: what came behind that is not counted",
            (unsigned long long)position->offset);
}

// ---------------------------------------------------------------------------------------------------- open, read

static int lock(struct cli_follow *follow)
{
    char path[PATH_MAX + 8];
    (void)snprintf(path, sizeof path, "%s.lock", follow->position_path);
    follow->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (follow->lock >= 0 && flock(follow->lock, LOCK_EX | LOCK_NB) == 0) return CLI_DONE;
    if (follow->lock >= 0 && errno == EWOULDBLOCK)
        cli_complain("%s is in use: another tallycast count follows", follow->position_path);
    else
        cli_complain("cannot lock %s: %s", path, strerror(errno));
    return CLI_WRONG_USE;
}

int cli_follow_open(const char *path, const char *position_path, struct cli_follow **out_follow,
                    struct cli_position *out_position)
{
    struct cli_position position = {0};
    struct cli_follow *follow = calloc(1, sizeof *follow);
    if (!follow) {
        cli_complain("out of memory");
        return CLI_WRONG_USE;
    }
    *out_follow = follow;
    follow->fd = follow->lock = -1;
    int size = snprintf(follow->path, sizeof follow->path, "%s", path);
    int other = position_path ? snprintf(follow->position_path, sizeof follow->position_path, "%s", position_path)
                              : snprintf(follow->position_path, sizeof follow->position_path, "%s.tallycast", path);
    if (size >= PATH_MAX || other >= PATH_MAX - 8) {
        cli_complain("the path is too long");
        return CLI_WRONG_USE;
    }
    int code = lock(follow);
    if (code == CLI_DONE) code = stored_load(follow, &position);
    if (code == CLI_DONE && follow->last.sequence) resume(follow, &position);
    if (code == CLI_DONE) *out_position = position;
    return code;
}

void cli_follow_close(struct cli_follow **follow)
{
    struct cli_follow *closing = *follow;
    if (!closing) return;
    *follow = NULL;
    if (closing->fd >= 0) (void)close(closing->fd);
    if (closing->lock >= 0) (void)close(closing->lock);
    free(closing->stored);
    free(closing);
}

void cli_follow_last(const struct cli_follow *follow, struct cli_follow_batch *out_batch) { *out_batch = follow->last; }

// At the end of what there is: whether more can come to this file.
static enum cli_follow_got at_end(struct cli_follow *follow)
{
    struct stat here, named;
    if (fstat(follow->fd, &here) == 0 &&
        ((uint64_t)here.st_size < follow->at.offset || !head_fits(follow->fd, &follow->at))) {
        if (lseek(follow->fd, 0, SEEK_SET) == 0) begin(follow, follow->fd, &here);
        return CLI_FOLLOW_END;
    }
    if (!follow->rotated_ms) {
        if (stat(follow->path, &named) || is(&follow->at, &named)) return CLI_FOLLOW_WAIT;
        follow->rotated_ms = cli_now_ms();
    }
    // One that was renamed and has a later one beside it is not written to any more.
    return open_next(follow, cli_now_ms() - follow->rotated_ms >= GRACE_MS) ? CLI_FOLLOW_END : CLI_FOLLOW_WAIT;
}

enum cli_follow_got cli_follow_read(struct cli_follow *follow, uint8_t *to, size_t room, size_t *out_size)
{
    if (follow->fd < 0 && !open_next(follow, true)) return CLI_FOLLOW_WAIT;
    // Of a file that was truncated and has grown beyond where it was the front is another.
    if (follow->at.head_size && !head_fits(follow->fd, &follow->at)) return at_end(follow);
    ssize_t got = pread(follow->fd, to, room, (off_t)follow->at.offset);
    if (got < 0 && errno == EINTR) return CLI_FOLLOW_WAIT;
    if (got < 0) {
        cli_complain("cannot read %s: %s", follow->path, strerror(errno));
        return CLI_FOLLOW_FAILED;
    }
    if (got == 0) return at_end(follow);
    follow->at.offset += (uint64_t)got;
    if (follow->rotated_ms) follow->rotated_ms = cli_now_ms();
    head_learn(follow);
    *out_size = (size_t)got;
    return CLI_FOLLOW_DATA;
}

void cli_follow_position(const struct cli_follow *follow, uint64_t offset, uint64_t line, uint64_t done,
                         struct cli_position *out_position)
{
    *out_position = follow->at;
    out_position->offset = offset;
    out_position->line = line;
    out_position->done = done;
}

void cli_follow_start(const struct cli_follow *follow, uint64_t *out_offset, uint64_t *out_line, unsigned *out_done)
{
    *out_offset = follow->start;
    *out_line = follow->start_line;
    *out_done = (unsigned)follow->start_done;
}
