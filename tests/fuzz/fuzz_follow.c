// SPDX-License-Identifier: Apache-2.0
//
// The position file of `tallycast count --follow` (cli/src/follow.h), with a check that fits and without: whatever it says, the log beside it is read
// without a byte that is not in it, or following is refused; and what was saved is what is found.
#include "fuzz.h"

#include <cli.h>
#include <fcntl.h>
#include <follow.h>
#include <string.h>
#include <sys/stat.h>
#include <tallycast/siphash.h>
#include <unistd.h>

static const char lines[] = "one\ntwo\nthree\n";
#define SIZE (sizeof lines - 1)

static char folder[] = "/tmp/tallycast-fuzz-follow-XXXXXX";
static char log_path[sizeof folder + 16], position_path[sizeof folder + 16], lock_path[sizeof folder + 32];
static struct stat log_about;

static void put(const char *path, struct tally_bytes bytes, struct tally_bytes more)
{
    int file = open(path, O_WRONLY | O_CREAT, 0600);
    FUZZ_CHECK(file >= 0 && write(file, bytes.data, bytes.size) == (ssize_t)bytes.size);
    FUZZ_CHECK(write(file, more.data, more.size) == (ssize_t)more.size);
    FUZZ_CHECK(!ftruncate(file, (off_t)(bytes.size + more.size)));
    close(file);
}

static void clean(void)
{
    (void)!unlink(log_path);
    (void)!unlink(position_path);
    (void)!unlink(lock_path);
    (void)!rmdir(folder);
}

static void prepare(void)
{
    FUZZ_CHECK(mkdtemp(folder));
    (void)snprintf(log_path, sizeof log_path, "%s/log", folder);
    (void)snprintf(position_path, sizeof position_path, "%s/position", folder);
    (void)snprintf(lock_path, sizeof lock_path, "%s.lock", position_path);
    put(log_path, tally_bytes(lines, SIZE), tally_bytes("", 0));
    FUZZ_CHECK(!stat(log_path, &log_about));
    atexit(clean);
}

static void read_on(struct cli_follow *follow)
{
    uint8_t bytes[64];
    for (unsigned i = 0; i < 4; i++) {
        size_t size = 0;
        if (cli_follow_read(follow, bytes, sizeof bytes, &size) != CLI_FOLLOW_DATA) break;
        FUZZ_CHECK(size <= SIZE && !memcmp(bytes, &lines[SIZE - size], size));
    }
}

static void follow_with(struct tally_bytes stored, struct tally_bytes check)
{
    struct cli_follow *follow = NULL;
    struct cli_position position = {0};
    struct cli_follow_batch last;
    put(position_path, stored, check);
    if (cli_follow_open(log_path, position_path, &follow, &position) == CLI_DONE) {
        cli_follow_last(follow, &last);
        uint64_t sum = 0;
        for (size_t i = 0; i < last.request.size; i++) sum += last.request.data[i]; // that it may be read
        FUZZ_CHECK(sum <= 255 * last.request.size);
        read_on(follow);
    }
    cli_follow_close(&follow);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t check[8];
    if (!log_path[0]) prepare();
    follow_with(tally_bytes(data, size), tally_bytes("", 0));
    uint8_t *bytes = test_exact_copy(data, size);
    // An odd inode stands for that of the log.
    if (size >= 24 && bytes[16] & 1) {
        tally_store64(bytes + 8, log_about.st_dev);
        tally_store64(bytes + 16, log_about.st_ino);
    }
    tally_store64(check, tally_siphash((struct tally_seed){0x7473616379616c6cu, 0x70}, bytes, size));
    follow_with(tally_bytes(bytes, size), tally_bytes(check, sizeof check));
    free(bytes);
    return 0;
}
