// SPDX-License-Identifier: Apache-2.0
#include "endpoint_tls.h"

#include <errno.h>
#include <mbedtls/x509_crt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PEM_BYTES_MAX (1u << 20)

// The whole file with a NUL behind it; null and a reason when it cannot be read.
static char *pem_read(const char *setting, const char *path, struct tally_reason *out_reason)
{
    FILE *file = fopen(path, "re");
    char *text = file ? malloc(PEM_BYTES_MAX + 1) : NULL;
    size_t size = text ? fread(text, 1, PEM_BYTES_MAX + 1, file) : 0;
    if (!text || ferror(file) || size > PEM_BYTES_MAX || memchr(text, 0, size)) {
        tally_reason_set(out_reason, "--%s %s: %s", setting, path,
                         text && !ferror(file) ? "no PEM file" : strerror(errno));
        free(text);
        text = NULL;
    } else {
        text[size] = '\0';
    }
    if (file) (void)fclose(file);
    return text;
}

// NNG takes a key that is not the certificate's; every handshake would fail then, without a word that says why.
static bool pair_matches(const char *cert, const char *key)
{
    mbedtls_x509_crt of_cert;
    mbedtls_pk_context of_key;
    mbedtls_x509_crt_init(&of_cert);
    mbedtls_pk_init(&of_key);
    // The sizes count the NUL, as mbedTLS wants for PEM.
    bool matches = mbedtls_x509_crt_parse(&of_cert, (const unsigned char *)cert, strlen(cert) + 1) == 0 &&
                   mbedtls_pk_parse_key(&of_key, (const unsigned char *)key, strlen(key) + 1, NULL, 0) == 0 &&
                   mbedtls_pk_check_pair(&of_cert.pk, &of_key) == 0;
    mbedtls_pk_free(&of_key);
    mbedtls_x509_crt_free(&of_cert);
    return matches;
}

enum tally_status endpoint_tls_config(const struct tally_tls *tls, nng_tls_mode mode, const char *setting,
                                      const char *url, nng_tls_config **out_config, struct tally_reason *out_reason)
{
    nng_tls_config *config = NULL;
    char *cert = NULL, *key = NULL, *ca = NULL;
    enum tally_status status = TALLY_INVALID;
    int failed = nng_tls_config_alloc(&config, mode);
    if (failed) {
        tally_reason_set(out_reason, "--%s %s: %s", setting, url, nng_strerror(failed));
        return tally_status_from_nng(failed);
    }
    if (tls->ca) {
        if (!(ca = pem_read("tls-ca", tls->ca, out_reason))) goto end;
        if ((failed = nng_tls_config_ca_chain(config, ca, NULL)) ||
            (failed = nng_tls_config_auth_mode(config, NNG_TLS_AUTH_MODE_REQUIRED))) {
            tally_reason_set(out_reason, "--tls-ca %s: no certificates in it (%s)", tls->ca, nng_strerror(failed));
            goto end;
        }
    }
    if (tls->cert) {
        if (!(cert = pem_read("tls-cert", tls->cert, out_reason))) goto end;
        if (!(key = pem_read("tls-key", tls->key, out_reason))) goto end;
        if ((failed = nng_tls_config_own_cert(config, cert, key, NULL))) {
            tally_reason_set(out_reason, "--tls-cert %s --tls-key %s: no certificate and its key (%s)", tls->cert,
                             tls->key, nng_strerror(failed));
            goto end;
        }
        if (!pair_matches(cert, key)) {
            tally_reason_set(out_reason, "--tls-key %s is not the key of --tls-cert %s", tls->key, tls->cert);
            goto end;
        }
    }
    *out_config = config;
    config = NULL;
    status = TALLY_OK;
end:
    if (key) explicit_bzero(key, strlen(key));
    free(key);
    free(cert);
    free(ca);
    if (config) nng_tls_config_free(config);
    return status;
}
