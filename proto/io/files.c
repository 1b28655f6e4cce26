// SPDX-License-Identifier: Apache-2.0
#include "files.h"

#include <io/log.h>
#include <sys/resource.h>

uint64_t tally_files_raise(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files)) return 0;
    rlim_t had = files.rlim_cur;
    files.rlim_cur = files.rlim_max;
    if (had < files.rlim_max && setrlimit(RLIMIT_NOFILE, &files)) files.rlim_cur = had;
    if (files.rlim_cur < TALLY_FILES_FEW)
        tally_warn(
            "few_files", tally_log_u64("limit", files.rlim_cur),
            tally_log_str("effect", "connections beyond it wait; raise RLIMIT_NOFILE (ulimit -Hn, LimitNOFILE)"));
    return files.rlim_cur;
}
