// SPDX-License-Identifier: Apache-2.0
//
// A whole version of a dataset, fetched as a frame file and handed on frame by frame while it arrives: memory
// is bounded by one frame. Threads: main.
#ifndef TALLYCAST_CLI_SNAPSHOT_H
#define TALLYCAST_CLI_SNAPSHOT_H

#include "cli.h"

#include <tallycast/frame.h>

// Called with each sealed frame, borrowed. False ends the fetch; the callee has complained.
typedef bool cli_frame_sink(void *ctx, struct tally_bytes frame);

// CLI_DONE when the file arrived whole and ended with the last chunk; or an exit code after a complaint (a
// sink that returned false: CLI_REFUSED). A server that holds version 0 only: CLI_DONE and no frame.
int cli_snapshot_fetch(const char *base, cli_frame_sink *sink, void *ctx);

// What `dump --meta` writes in its first line and `verify` reads.
struct cli_meta {
    char dataset[65];
    uint64_t epoch, version, keys;
    struct tally_digest digest;
    struct tally_seed seed;
};

void cli_meta_write(FILE *out, const struct cli_meta *meta);
// `line` without its newline. False when it is no such line.
bool cli_meta_parse(const char *line, struct cli_meta *out_meta);

#endif
