// SPDX-License-Identifier: Apache-2.0
//
// The one list of outcomes. Every fallible function of Tallycast returns one of these; other libraries' codes
// are translated at the adapter that calls them. The numbers are part of the wire (Answer.status) and of the
// WASM ABI: append only.
#ifndef TALLYCAST_STATUS_H
#define TALLYCAST_STATUS_H

#define TALLY_STATUS_LIST(X)                                                                                           \
    X(OK, 0, "ok")                                                                                                     \
    X(NO_MEMORY, 1, "out of memory")                                                                                   \
    X(FULL, 2, "full: the configured bound is reached")                                                                \
    X(MALFORMED, 3, "malformed: the bytes do not parse")                                                               \
    X(CORRUPT, 4, "corrupt: the check does not match the bytes")                                                       \
    X(DIGEST_MISMATCH, 5, "digest mismatch: the result is not the state that was cut")                                 \
    X(WRONG_DATASET, 6, "wrong dataset")                                                                               \
    X(WRONG_EPOCH, 7, "wrong epoch: another lineage of the log")                                                       \
    X(GAP, 8, "gap: the frame starts at a version that is not held")                                                   \
    X(OLD, 9, "old: the version is held already")                                                                      \
    X(LIMIT, 10, "over a limit of proto/limits.h")                                                                     \
    X(NOT_FOUND, 11, "not found")                                                                                      \
    X(INVALID, 12, "invalid argument")                                                                                 \
    X(STALLED, 13, "stalled: readers hold too much retired memory")                                                    \
    X(REPEAT, 14, "repeat: the batch was counted before")                                                              \
    X(HOLE, 15, "hole: an earlier batch of this producer is missing")                                                  \
    X(UNKNOWN_PRODUCER, 16, "unknown producer: its sequence must start at 1")                                          \
    X(FORBIDDEN, 17, "forbidden by the configuration")                                                                 \
    X(UNSUPPORTED, 18, "unsupported: written by a newer version")                                                      \
    X(CLASH, 19, "clash: two live keys share a fingerprint")                                                           \
    X(IO, 20, "input or output failed")                                                                                \
    X(NO_SPACE, 21, "no space left")                                                                                   \
    X(TIMEOUT, 22, "timed out")                                                                                        \
    X(UNREACHABLE, 23, "unreachable")                                                                                  \
    X(BUSY, 24, "busy: try again later")                                                                               \
    X(GONE, 25, "gone: no longer kept, start again")                                                                   \
    X(MORE, 26, "more: further chunks of this change are expected")                                                    \
    X(IN_USE, 27, "in use by another process")

enum tally_status {
#define X(name, number, text) TALLY_##name = number,
    TALLY_STATUS_LIST(X)
#undef X
};

#define TALLY_CHECKED __attribute__((warn_unused_result))

// A constant, human sentence without capital or full stop; "unknown status" for a number not in the list.
const char *tally_status_str(enum tally_status status);

#endif
