// SPDX-License-Identifier: Apache-2.0
#include "meta_check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <tallycast/bytes.h>
#include <unistd.h>

#include "../store/errors.h"

#define META_BYTES    152u
#define AT_FLAGS      10u
#define AT_MAGIC      16u
#define AT_VERSION    20u
#define AT_PAGE_BYTES 40u
#define AT_LAST_PAGE  136u
#define FLAG_META     8u
#define MAGIC         0xBEEFC0DEu
#define DATA_VERSION  1u

static enum tally_status corrupt(const char *path, const char *what, char *text, size_t text_bytes)
{
    if (text_bytes) (void)snprintf(text, text_bytes, "%s: %s", path, what);
    return TALLY_CORRUPT;
}

// One meta page. *out_bytes: how long the file must be at least.
static enum tally_status check_meta(const uint8_t *page, const char *path, uint64_t *out_page_bytes,
                                    uint64_t *out_bytes, char *text, size_t text_bytes)
{
    uint64_t page_bytes = tally_load32(page + AT_PAGE_BYTES), last = tally_load64(page + AT_LAST_PAGE);
    if (!(page[AT_FLAGS] & FLAG_META) || tally_load32(page + AT_MAGIC) != MAGIC)
        return corrupt(path, "not an LMDB meta page", text, text_bytes);
    if (tally_load32(page + AT_VERSION) != DATA_VERSION) {
        (void)corrupt(path, "another LMDB data version", text, text_bytes);
        return TALLY_UNSUPPORTED;
    }
    if (page_bytes < 512 || page_bytes > 65536 || (page_bytes & (page_bytes - 1)) != 0 || last >= (uint64_t)1 << 40)
        return corrupt(path, "damaged LMDB meta page", text, text_bytes);
    *out_page_bytes = page_bytes;
    *out_bytes = (last + 1) * page_bytes;
    return TALLY_OK;
}

static enum tally_status check_file(int fd, const char *path, char *text, size_t text_bytes)
{
    struct stat stat;
    uint8_t page[META_BYTES];
    uint64_t page_bytes = 0, needed = 0, again, both = 0;
    if (fstat(fd, &stat)) return tally_errno_tell(errno, "cannot look at", path, text, text_bytes);
    uint64_t size = (uint64_t)stat.st_size;
    if (size == 0) return TALLY_OK;
    for (unsigned i = 0; i < 2; i++) {
        ssize_t got = pread(fd, page, sizeof page, (off_t)(i * page_bytes));
        if (got < 0) return tally_errno_tell(errno, "cannot read", path, text, text_bytes);
        if (got != (ssize_t)sizeof page) return corrupt(path, "cut short within its meta pages", text, text_bytes);
        enum tally_status status = check_meta(page, path, &again, &needed, text, text_bytes);
        if (status) return status;
        if (i && again != page_bytes) return corrupt(path, "the meta pages disagree", text, text_bytes);
        page_bytes = again;
        if (needed > both) both = needed;
    }
    if (size >= both && size >= 2 * page_bytes) return TALLY_OK;
    if (text_bytes)
        (void)snprintf(text, text_bytes, "%s: cut short: %llu bytes of at least %llu", path, (unsigned long long)size,
                       (unsigned long long)both);
    return TALLY_CORRUPT;
}

enum tally_status tally_lmdb_meta_check(const char *path, char *text, size_t text_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return TALLY_OK;
    if (fd < 0) return tally_errno_tell(errno, "cannot open", path, text, text_bytes);
    enum tally_status status = check_file(fd, path, text, text_bytes);
    (void)close(fd);
    return status;
}
