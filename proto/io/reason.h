// SPDX-License-Identifier: Apache-2.0
//
// A sentence for people that goes with a status: what was wrong, where, with which value. The caller's
// storage.
#ifndef TALLYCAST_IO_REASON_H
#define TALLYCAST_IO_REASON_H

#define TALLY_REASON_BYTES 512u

struct tally_reason {
    char text[TALLY_REASON_BYTES]; // always NUL-terminated; a longer sentence is cut
};

__attribute__((format(printf, 2, 3))) void tally_reason_set(struct tally_reason *reason, const char *format, ...);

#endif
