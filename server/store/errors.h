// SPDX-License-Identifier: Apache-2.0
//
// The operating system's errors as statuses, and as a sentence with the path.
#ifndef TALLYCAST_SERVER_ERRORS_H
#define TALLYCAST_SERVER_ERRORS_H

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <tallycast/status.h>

static inline enum tally_status tally_errno_status(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return TALLY_NO_SPACE;
    case ENOMEM: return TALLY_NO_MEMORY;
    default: return TALLY_IO;
    }
}

// Keeps errno for the caller.
static inline enum tally_status tally_errno_tell(int error, const char *what, const char *path, char *text,
                                                 size_t text_bytes)
{
    if (text_bytes) (void)snprintf(text, text_bytes, "%s %s: %s", what, path, strerror(error));
    return tally_errno_status(error);
}

#endif
