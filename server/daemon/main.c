// SPDX-License-Identifier: Apache-2.0
#include "daemon.h"

#include <io/files.h>
#include <io/log.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    struct options options = {0};
    struct tally_settings settings;
    struct tally_reason reason;
    int code;
    enum tally_settings_outcome outcome =
        tally_settings_load(&server_settings, argc, argv, &options, &settings, &reason);
    if (outcome == TALLY_SETTINGS_RUN && options_check(&options, &reason)) {
        tally_settings_place(&settings, &reason);
        outcome = TALLY_SETTINGS_WRONG;
    }
    if (outcome == TALLY_SETTINGS_RUN) {
        tally_log_configure((enum tally_log_level)options.log_level, (enum tally_log_format)options.log_format);
        (void)tally_files_raise();
        code = (int)daemon_run(&options);
        (void)fflush(NULL);
        // Not by exit: NNG's threads still run, and what they look at must not be taken apart under them.
        _exit(code);
    } else {
        code = tally_settings_finish(&server_settings, outcome, &reason);
    }
    tally_settings_deinit(&settings);
    return code;
}
