// SPDX-License-Identifier: Apache-2.0
#include "file_at.h"

#include <errno.h>
#include <unistd.h>

bool file_read_at(int file, void *out, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t some = pread(file, (uint8_t *)out + done, size - done, (off_t)(offset + done));
        if (some < 0 && errno == EINTR) continue;
        if (some <= 0) return false;
        done += (size_t)some;
    }
    return true;
}

bool file_write_at(int file, const void *data, size_t size, uint64_t offset)
{
    for (size_t done = 0; done < size;) {
        ssize_t some = pwrite(file, (const uint8_t *)data + done, size - done, (off_t)(offset + done));
        if (some < 0 && errno == EINTR) continue;
        if (some <= 0) return false;
        done += (size_t)some;
    }
    return true;
}
