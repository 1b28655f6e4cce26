// SPDX-License-Identifier: Apache-2.0
#include "endpoint_tls.h"

#include <io/log.h>
#include <stdio.h>
#include <stdlib.h>

enum tally_status tally_status_from_nng(int nng_error)
{
    switch (nng_error) {
    case 0: return TALLY_OK;
    case NNG_ENOMEM: return TALLY_NO_MEMORY;
    case NNG_EINVAL:
    case NNG_ENOARG:
    case NNG_EAMBIGUOUS:
    case NNG_EBADTYPE:
    case NNG_ENOTSUP: return TALLY_INVALID;
    case NNG_EBUSY:
    case NNG_EAGAIN:
    case NNG_ENOFILES: return TALLY_BUSY;
    case NNG_ETIMEDOUT: return TALLY_TIMEOUT;
    case NNG_EADDRINUSE: return TALLY_IN_USE;
    case NNG_ECONNREFUSED:
    case NNG_EUNREACHABLE:
    case NNG_EADDRINVAL:
    case NNG_ECONNABORTED:
    case NNG_ECONNRESET:
    case NNG_ECONNSHUT: return TALLY_UNREACHABLE;
    case NNG_EPERM:
    case NNG_EPEERAUTH: return TALLY_FORBIDDEN;
    case NNG_EPROTO: return TALLY_MALFORMED;
    case NNG_EMSGSIZE: return TALLY_LIMIT;
    case NNG_ENOSPC: return TALLY_NO_SPACE;
    case NNG_ENOENT: return TALLY_NOT_FOUND;
    default: return TALLY_IO;
    }
}

// ---------------------------------------------------------------------------------------------------- URLs

static bool starts(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }
static bool is_tls(const char *url) { return starts(url, "tls+tcp"); }

static enum tally_status url_wrong(const char *setting, const char *url, const char *what, struct tally_reason *reason)
{
    tally_reason_set(reason, "--%s \"%s\": %s", setting, url, what);
    return TALLY_INVALID;
}

// HOST:PORT behind "://": an IPv6 address in brackets, a name or an IPv4 address, or nothing or * for all
// addresses.
static const char *host_port_wrong(const char *text)
{
    const char *colon = strrchr(text, ':');
    if (strpbrk(text, "/?#@ \t")) return "expected HOST:PORT after the scheme, and nothing else";
    if (!colon || !colon[1]) return "the port is missing";
    if (*text == '[' ? colon[-1] != ']' : memchr(text, ':', (size_t)(colon - text)) != NULL)
        return "an IPv6 address belongs in brackets";
    unsigned long port = 0;
    for (const char *p = colon + 1; *p; p++) {
        if (*p < '0' || *p > '9' || (port = port * 10 + (unsigned)(*p - '0')) > 65535)
            return "the port is no number from 0 to 65535";
    }
    return NULL;
}

enum tally_status tally_endpoint_check(const char *setting, const char *url, const struct tally_tls *tls,
                                       struct tally_reason *out_reason)
{
    const char *what;
    if (strlen(url) >= TALLY_URL_BYTES_MAX - 8) return url_wrong(setting, url, "too long", out_reason);
    for (const char *p = url; *p; p++)
        if (*p <= ' ' || *p >= 0x7f) return url_wrong(setting, url, "a character that no URL has", out_reason);
    if (starts(url, "ipc:///")) {
        if (strlen(url + 6) > 100) return url_wrong(setting, url, "the path is longer than 100 bytes", out_reason);
        return TALLY_OK;
    }
    if (starts(url, "inproc://") && url[9]) return TALLY_OK;
    bool secure = is_tls(url);
    if (!secure && !starts(url, "tcp://"))
        return url_wrong(setting, url, "expected tcp://HOST:PORT, tls+tcp://HOST:PORT or ipc:///PATH", out_reason);
    const char *rest = strstr(url, "://");
    if (!rest) return url_wrong(setting, url, "expected tls+tcp://HOST:PORT", out_reason);
    if ((what = host_port_wrong(rest + 3))) return url_wrong(setting, url, what, out_reason);
    if (!secure) return TALLY_OK;
    if (!tls) return url_wrong(setting, url, "TLS needs --tls-ca, or --tls-cert and --tls-key", out_reason);
    if (!tls->cert != !tls->key) return url_wrong(setting, url, "--tls-cert and --tls-key belong together", out_reason);
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- listening

static enum tally_status failed_at(const char *setting, const char *url, int failed, struct tally_reason *reason)
{
    const char *what = failed == NNG_EADDRINUSE   ? "the address is in use by another process"
                       : failed == NNG_EADDRINVAL ? "this machine has no such address"
                       : failed == NNG_EPERM      ? "not permitted"
                                                  : nng_strerror(failed);
    tally_reason_set(reason, "--%s %s: %s", setting, url, what);
    return tally_status_from_nng(failed);
}

// The URL with the port that the system chose.
static void bound_url(nng_listener listener, const char *url, char out_url[TALLY_URL_BYTES_MAX])
{
    const char *colon = strrchr(url, ':');
    int port = 0;
    (void)snprintf(out_url, TALLY_URL_BYTES_MAX, "%s", url);
    if (!strstr(url, "tcp://") || strcmp(colon, ":0") != 0) return;
    if (nng_listener_get_int(listener, NNG_OPT_TCP_BOUND_PORT, &port) || port == 0) return;
    (void)snprintf(out_url, TALLY_URL_BYTES_MAX, "%.*s:%d", (int)(colon - url), url, port);
}

enum tally_status tally_endpoint_listen(nng_socket socket, const char *setting, const char *url,
                                        const struct tally_endpoint_options *options, char out_url[TALLY_URL_BYTES_MAX],
                                        struct tally_reason *out_reason)
{
    nng_listener listener;
    char url_bound[TALLY_URL_BYTES_MAX];
    enum tally_status status = tally_endpoint_check(setting, url, options->tls, out_reason);
    if (status) return status;
    if (is_tls(url) && !options->tls->cert)
        return url_wrong(setting, url, "listening with TLS needs --tls-cert and --tls-key", out_reason);
    int failed = nng_listener_create(&listener, socket, url);
    if (failed) return failed_at(setting, url, failed, out_reason);
    if ((failed = nng_listener_set_size(listener, NNG_OPT_RECVMAXSZ, options->receive_bytes_max)))
        return failed_at(setting, url, failed, out_reason);
    if (starts(url, "ipc:")) (void)nng_listener_set_int(listener, NNG_OPT_IPC_PERMISSIONS, 0600);
    if (is_tls(url)) {
        nng_tls_config *config;
        status = endpoint_tls_config(options->tls, NNG_TLS_MODE_SERVER, setting, url, &config, out_reason);
        if (status) return status;
        failed = nng_listener_set_ptr(listener, NNG_OPT_TLS_CONFIG, config);
        nng_tls_config_free(config);
        if (failed) return failed_at(setting, url, failed, out_reason);
    }
    if ((failed = nng_listener_start(listener, 0))) return failed_at(setting, url, failed, out_reason);
    bound_url(listener, url, url_bound);
    char endpoint[32]; // ingest-pull is endpoint=ingest_pull
    (void)snprintf(endpoint, sizeof endpoint, "%s", setting);
    for (char *p = endpoint; *p; p++)
        if (*p == '-') *p = '_';
    tally_info("listening", tally_log_str("endpoint", endpoint), tally_log_str("url", url_bound));
    if (out_url) memcpy(out_url, url_bound, TALLY_URL_BYTES_MAX);
    return TALLY_OK;
}

// ---------------------------------------------------------------------------------------------------- dialing

// HOST of a checked URL, without brackets.
static const char *url_host(const char *url, char out_host[TALLY_URL_BYTES_MAX])
{
    const char *host = strstr(url, "://") + 3, *end = strrchr(host, ':');
    if (*host == '[') {
        host++;
        end--;
    }
    (void)snprintf(out_host, TALLY_URL_BYTES_MAX, "%.*s", (int)(end - host), host);
    return out_host;
}

enum tally_status tally_endpoint_dial(nng_socket socket, const char *setting, const char *url,
                                      const struct tally_endpoint_options *options, nng_dialer *out_dialer,
                                      struct tally_reason *out_reason)
{
    nng_dialer dialer;
    char host[TALLY_URL_BYTES_MAX];
    enum tally_status status = tally_endpoint_check(setting, url, options->tls, out_reason);
    if (status) return status;
    if (is_tls(url) && !options->tls->ca)
        return url_wrong(setting, url,
                         "dialing with TLS needs --tls-ca, which the server's certificate is checked with", out_reason);
    const char *colon = strrchr(url, ':');
    if (strstr(url, "tcp://") && strcmp(colon, ":0") == 0)
        return url_wrong(setting, url, "port 0 cannot be dialed", out_reason);
    int failed = nng_dialer_create(&dialer, socket, url);
    if (failed) return failed_at(setting, url, failed, out_reason);
    if ((failed = nng_dialer_set_size(dialer, NNG_OPT_RECVMAXSZ, options->receive_bytes_max)) ||
        (failed = nng_dialer_set_ms(dialer, NNG_OPT_RECONNMINT, TALLY_RECONNECT_MS_MIN)) ||
        (failed = nng_dialer_set_ms(dialer, NNG_OPT_RECONNMAXT, TALLY_RECONNECT_MS_MAX)))
        return failed_at(setting, url, failed, out_reason);
    if (is_tls(url)) {
        nng_tls_config *config;
        status = endpoint_tls_config(options->tls, NNG_TLS_MODE_CLIENT, setting, url, &config, out_reason);
        if (status) return status;
        // A configuration of one's own comes without the name that NNG would check.
        failed = nng_tls_config_server_name(config, url_host(url, host));
        if (!failed) failed = nng_dialer_set_ptr(dialer, NNG_OPT_TLS_CONFIG, config);
        nng_tls_config_free(config);
        if (failed) return failed_at(setting, url, failed, out_reason);
    }
    if ((failed = nng_dialer_start(dialer, NNG_FLAG_NONBLOCK))) return failed_at(setting, url, failed, out_reason);
    if (out_dialer) *out_dialer = dialer;
    return TALLY_OK;
}
