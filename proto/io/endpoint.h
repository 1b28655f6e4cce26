// SPDX-License-Identifier: Apache-2.0
//
// NNG endpoints as Tallycast uses them: URLs checked before NNG sees them, the receive limit set on every
// listener and dialer before it starts (NNG's default is unlimited, and a hostile length then writes past a
// heap block), back-off that doubles, TLS, and NNG's error numbers as enum tally_status.
//
// URLs: tcp://HOST:PORT, tls+tcp://HOST:PORT, ipc:///absolute/path, inproc://name (tests). Port 0: the system
// chooses. Lifecycle law: open sockets once and close them once, at exit; NNG 1.5.2 has use-after-free faults
// in closing single listeners and dialers. Never fork after the first socket. Threads: each function from the
// thread that owns the socket, before it is used by others.
#ifndef TALLYCAST_IO_ENDPOINT_H
#define TALLYCAST_IO_ENDPOINT_H

#include <io/reason.h>
#include <nng/nng.h>
#include <stdbool.h>
#include <tallycast/status.h>

#define TALLY_URL_BYTES_MAX 256u

// PEM files; null: none. On a listener a `ca` makes it mutual: who shows no certificate of that CA is
// refused. On a dialer `ca` is what the server must be signed by (required for tls+tcp), cert and key are
// what it shows.
struct tally_tls {
    const char *cert, *key, *ca;
};

struct tally_endpoint_options {
    size_t receive_bytes_max;    // 1 or more: NNG drops the peer that sends more
    const struct tally_tls *tls; // null: no tls+tcp
};

// Reconnecting starts here and doubles to the maximum.
#define TALLY_RECONNECT_MS_MIN 50
#define TALLY_RECONNECT_MS_MAX 2000

enum tally_status tally_status_from_nng(int nng_error);

// TALLY_OK, or TALLY_INVALID with the reason.
TALLY_CHECKED enum tally_status tally_endpoint_check(const char *setting, const char *url, const struct tally_tls *tls,
                                                     struct tally_reason *out_reason);

// `setting` is the name for messages ("ingest"). Listens on `url` and logs event=listening endpoint=SETTING
// url=URL with the port that the system chose; the URL is also given in out_url when that is not null.
// TALLY_INVALID (URL, TLS files), TALLY_IN_USE (the port is taken), TALLY_UNREACHABLE (no such address),
// TALLY_IO, TALLY_NO_MEMORY; *out_reason names the setting and the URL.
TALLY_CHECKED enum tally_status tally_endpoint_listen(nng_socket socket, const char *setting, const char *url,
                                                      const struct tally_endpoint_options *options,
                                                      char out_url[TALLY_URL_BYTES_MAX],
                                                      struct tally_reason *out_reason);

// Dials without waiting: NNG goes on trying, with back-off, until the socket is closed. Who wants to know
// when it is connected sets nng_pipe_notify on the socket before.
TALLY_CHECKED enum tally_status tally_endpoint_dial(nng_socket socket, const char *setting, const char *url,
                                                    const struct tally_endpoint_options *options,
                                                    nng_dialer *out_dialer, struct tally_reason *out_reason);

// What NNG counts about peers that did not get through (TLS handshake, wrong protocol, too large a message),
// since the process began: a listener refuses them on its own threads and says nothing. Call it now and then
// (a second or more apart, any one thread): each increase is logged as event=peer_refused with the endpoint
// and the reason as far as NNG tells it.
void tally_endpoint_report_refusals(void);

#endif
