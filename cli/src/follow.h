// SPDX-License-Identifier: Apache-2.0
//
// Following a log file for ever: where it was read to survives, with the one batch that may be under way, so that each line is counted once.
//
//   read lines ─► merge ─► batch N: write position file (position behind it, producer, N, the batch), durable ─► send ─► acknowledged
//
// Who starts again sends the batch of the position file once more, under the same producer and number: the server counts it, or says that it did; and
// reads on behind it. The batch is kept itself, not the lines: they may be gone by then.
//
// Rotation. Renamed and made anew: the old file is read to its end, then the one that was written to after it, and so on to the log: files of the folder whose
// names begin with the log's name, in the order of their times. So it does not matter how often the log was renamed since, by whatever scheme,
// whether somebody followed meanwhile or waited for the server. The last one before the log is read until nothing has come for a second after
// the new one is there. Who starts again looks for the file by its inode. What is packed (.gz ...)
// before it was read is not read; a copy that somebody leaves there under such a name, later than the file at hand, is.
// Copied and truncated: seen by its size, or by its first bytes being others; it is read from the front. What was written between the last look and the truncation is
// in the copy, which nobody reads.
//
// Position file, all numbers little-endian: "TALLYP1\n", then 64 bits each of: device, inode, offset, line, events of the next line, size and hash of the first bytes of the file,
// producer, sequence, events, size of the batch; the batch (a Request); SipHash-1-3 of all before it.
//
// Threads: belongs to one thread.
#ifndef TALLYCAST_CLI_FOLLOW_H
#define TALLYCAST_CLI_FOLLOW_H

#include <stdbool.h>
#include <tallycast/bytes.h>

struct cli_position {
    uint64_t device, inode; // of the file
    uint64_t offset, line;  // behind the last line that is counted, and how many those were; of the next one ...
    uint64_t done;          // ... so many events are counted, too
    uint64_t head_size, head_check; // of its first bytes, to know it again
};

// What is under way, or was last.
struct cli_follow_batch {
    uint64_t producer, sequence, events; // sequence 0: nothing yet
    struct tally_bytes request;          // borrowed until the next save
};

struct cli_follow;

// Reads the position file when it is there, and locks it. Complains and answers an exit code other than CLI_DONE.
// *out_position: what it holds; zeros when it is not there.
int cli_follow_open(const char *path, const char *position_path, struct cli_follow **out_follow,
                    struct cli_position *out_position);
void cli_follow_close(struct cli_follow **follow);
void cli_follow_last(const struct cli_follow *follow, struct cli_follow_batch *out_batch);

enum cli_follow_got {
    CLI_FOLLOW_DATA,
    CLI_FOLLOW_WAIT,  // nothing now
    CLI_FOLLOW_END,   // the file that is being read is through; the next read is from the front of another
    CLI_FOLLOW_FAILED // complained about
};
enum cli_follow_got cli_follow_read(struct cli_follow *follow, uint8_t *to, size_t room, size_t *out_size);

// A position in the file that is being read.
void cli_follow_position(const struct cli_follow *follow, uint64_t offset, uint64_t line, uint64_t done,
                         struct cli_position *out_position);
// Where reading begins in the file at hand: offset, lines before it, events of the first line that were counted.
void cli_follow_start(const struct cli_follow *follow, uint64_t *out_offset, uint64_t *out_line, unsigned *out_done);

// Durable when it returns CLI_DONE; else it complained.
int cli_follow_save(struct cli_follow *follow, const struct cli_position *position,
                    const struct cli_follow_batch *batch);

#endif
