// SPDX-License-Identifier: Apache-2.0
//
// StatsD's sockets: UDP by recvmmsg and TCP on the same port, on a thread of their own with a libuv loop, so that neither a disk nor a tick keeps packets
// waiting in the kernel. What comes is parsed there (statsd/statsd.h) and given to the owner's functions.
//
// UDP drops what the socket's buffer cannot hold; the kernel's count of that is a metric. TCP: a line ends with a newline, or with the connection; of a
// longer one than TALLY_STATSD_LINE_BYTES_MAX the rest is thrown away. Limits: TALLY_STATSD_CONNECTIONS_MAX connections, further ones are closed at once.
#ifndef TALLYCAST_IO_STATSD_LISTENER_H
#define TALLYCAST_IO_STATSD_LISTENER_H

#include <io/reason.h>
#include <io/settings.h>
#include <statsd/statsd.h>
#include <tallycast/wire.h>

// The rules that the settings statsd-rule and statsd-tags say. TALLY_INVALID with the reason.
TALLY_CHECKED enum tally_status tally_statsd_rules_load(const struct tally_strings *texts, bool tags_dropped,
                                                        struct tally_statsd_rules *out_rules,
                                                        struct tally_reason *out_reason);

struct tally_statsd_listener;

struct tally_statsd_options {
    const char *listen;                     // HOST:PORT; port 0: the system chooses
    const struct tally_statsd_rules *rules; // borrowed for as long as it runs
    unsigned tick_ms;                       // 1 or more
    unsigned buffer_bytes;                  // wanted of UDP's socket
    // All on the listener's thread; `begin` and `end` may be null.
    enum tally_status (*begin)(void *ctx); // first; any other status than TALLY_OK: it does not start
    enum tally_status (*take)(void *ctx, const struct tally_sum *sum);
    void (*tick)(void *ctx);
    void (*end)(void *ctx); // last
    void *ctx;
};

// Listens when it returns, and has logged event=listening endpoint=statsd for both sockets. TALLY_INVALID, TALLY_IN_USE, TALLY_UNREACHABLE, TALLY_IO,
// TALLY_NO_MEMORY, or what `begin` said.
TALLY_CHECKED enum tally_status tally_statsd_listen(const struct tally_statsd_options *options,
                                                    struct tally_statsd_listener **out_listener,
                                                    struct tally_reason *out_reason);

// What the sockets hold by now is still taken; blocks until the thread has ended. Clears the pointer; null is fine.
void tally_statsd_stop(struct tally_statsd_listener **listener);

// Any thread: counted against a table that is not taken after all.
void tally_statsd_refused(struct tally_statsd_listener *listener, uint64_t values);
// Any thread: tally_statsd_*.
void tally_statsd_metrics(struct tally_statsd_listener *listener, struct tally_writer *out);

#endif
