// SPDX-License-Identifier: Apache-2.0
//
// HOST:PORT, [IPv6]:PORT, *:PORT (all addresses). Threads: pure functions.
#ifndef TALLYCAST_IO_ADDRESS_H
#define TALLYCAST_IO_ADDRESS_H

#include <io/reason.h>
#include <tallycast/status.h>

struct tally_address {
    char host[256], port[8]; // host "": all
};

// TALLY_OK, or TALLY_INVALID with the reason, which names --SETTING.
TALLY_CHECKED enum tally_status tally_address_parse(const char *setting, const char *text,
                                                    struct tally_address *out_address, struct tally_reason *out_reason);

#endif
