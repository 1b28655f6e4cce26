// SPDX-License-Identifier: Apache-2.0
#ifndef TALLYCAST_IO_ENDPOINT_TLS_H
#define TALLYCAST_IO_ENDPOINT_TLS_H

#include <io/endpoint.h>
#include <nng/supplemental/tls/tls.h>

// A configuration from PEM files, to be freed with nng_tls_config_free (NNG holds its own reference once it
// is set). TALLY_INVALID names the file.
TALLY_CHECKED enum tally_status endpoint_tls_config(const struct tally_tls *tls, nng_tls_mode mode, const char *setting,
                                                    const char *url, nng_tls_config **out_config,
                                                    struct tally_reason *out_reason);

#endif
