// SPDX-License-Identifier: Apache-2.0
//
// tallycast-edge. Exit codes: 0 done, 2 wrong use or settings, 3 an address cannot be bound, 4 refused (data directory, memory, module).
#include "edge.h"

#include <io/files.h>
#include <io/log.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static struct edge_options options;
    struct tally_settings settings;
    struct tally_reason reason;
    enum tally_settings_outcome outcome = tally_settings_load(&edge_settings, argc, argv, &options, &settings, &reason);
    if (outcome == TALLY_SETTINGS_RUN && edge_options_check(&options, &reason)) {
        tally_settings_place(&settings, &reason);
        outcome = TALLY_SETTINGS_WRONG;
    }
    if (outcome != TALLY_SETTINGS_RUN) {
        int code = tally_settings_finish(&edge_settings, outcome, &reason);
        tally_settings_deinit(&settings);
        return code;
    }
    tally_log_configure((enum tally_log_level)options.log_level, (enum tally_log_format)options.log_format);
    (void)tally_files_raise();
    int code = edge_run(&options);
    (void)fflush(NULL);
    // Not by exit: NNG's threads still run, and what they look at must not be taken apart under them.
    _exit(code);
}
