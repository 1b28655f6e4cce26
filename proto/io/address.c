// SPDX-License-Identifier: Apache-2.0
#include <io/address.h>
#include <stdio.h>
#include <string.h>

enum tally_status tally_address_parse(const char *setting, const char *text, struct tally_address *out_address,
                                      struct tally_reason *out_reason)
{
    const char *colon = strrchr(text, ':'), *host = text, *what = NULL;
    size_t host_size = colon ? (size_t)(colon - text) : 0;
    unsigned long port = 0;
    if (!colon || !colon[1] || strlen(colon + 1) > 5)
        what = "expected HOST:PORT";
    else if (host_size >= sizeof out_address->host)
        what = "too long";
    else if (*host == '[' && (host_size < 2 || host[host_size - 1] != ']'))
        what = "the bracket is not closed";
    else if (*host != '[' && memchr(host, ':', host_size))
        what = "an IPv6 address belongs in brackets";
    for (const char *p = colon ? colon + 1 : ""; !what && *p; p++)
        if (*p < '0' || *p > '9' || (port = port * 10 + (unsigned)(*p - '0')) > 65535)
            what = "the port is no number from 0 to 65535";
    if (what) {
        tally_reason_set(out_reason, "--%s \"%s\": %s", setting, text, what);
        return TALLY_INVALID;
    }
    if (*host == '[') {
        host++;
        host_size -= 2;
    }
    if (host_size == 1 && *host == '*') host_size = 0;
    memcpy(out_address->host, host, host_size);
    out_address->host[host_size] = '\0';
    (void)snprintf(out_address->port, sizeof out_address->port, "%s", colon + 1);
    return TALLY_OK;
}
