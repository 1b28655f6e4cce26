// SPDX-License-Identifier: Apache-2.0
#include "file_identity.h"

#include <sys/stat.h>

struct tally_file_identity tally_file_identity(const char *path)
{
    struct stat found;
    if (stat(path, &found)) return (struct tally_file_identity){0};
    return (struct tally_file_identity){.device = found.st_dev,
                                        .inode = found.st_ino,
                                        .size = (uint64_t)found.st_size,
                                        .changed_ns =
                                            (int64_t)found.st_mtim.tv_sec * 1000000000 + found.st_mtim.tv_nsec};
}

bool tally_file_identity_equal(const struct tally_file_identity *a, const struct tally_file_identity *b)
{
    return a->device == b->device && a->inode == b->inode && a->size == b->size && a->changed_ns == b->changed_ns;
}
