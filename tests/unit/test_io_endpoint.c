// SPDX-License-Identifier: Apache-2.0
//
// NNG endpoints: which URLs are taken, what is said about those that are not, ports, and the receive limit.
#include "../support/with_cmocka.h"

#include <io/endpoint.h>
#include <io/log.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdlib.h>
#include <string.h>

static void test_urls(void **state)
{
    (void)state;
    struct tally_reason reason;
    const struct tally_tls half = {.cert = "c.pem"}, ca = {.ca = "ca.pem"};
    static const char *const good[] = {"tcp://127.0.0.1:0", "tcp://localhost:7701", "tcp://[::1]:65535", "tcp://*:1",
                                       "tcp://:1",          "ipc:///run/x.sock",    "inproc://test"};
    static const char *const wrong[] = {"",
                                        "127.0.0.1:1",
                                        "tcp://127.0.0.1",
                                        "tcp://127.0.0.1:",
                                        "tcp://h:65536",
                                        "tcp://h:-1",
                                        "tcp://h:1x",
                                        "tcp://h:1/",
                                        "tcp://h:1/path",
                                        "tcp://u@h:1",
                                        "tcp://::1:80",
                                        "http://h:1",
                                        "ws://h:1",
                                        "ipc://relative",
                                        "tcp:h:1",
                                        "tcp://h:1 ",
                                        "tcp://h\n:1",
                                        "tls+tcp://h:1",
                                        "tls+tcp:/h:1"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(tally_endpoint_check("ingest", good[i], NULL, &reason), TALLY_OK);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(tally_endpoint_check("ingest", wrong[i], NULL, &reason), TALLY_INVALID);
        assert_non_null(strstr(reason.text, "--ingest"));
    }
    assert_int_equal(tally_endpoint_check("ingest", "tls+tcp://h:1", &ca, &reason), TALLY_OK);
    assert_int_equal(tally_endpoint_check("ingest", "tls+tcp://h:1", &half, &reason), TALLY_INVALID);
    // The longest, and one more.
    char longest[TALLY_URL_BYTES_MAX + 1] = "tcp://";
    memset(longest + 6, 'h', TALLY_URL_BYTES_MAX - 6);
    memcpy(longest + TALLY_URL_BYTES_MAX - 8 - 3, ":1\0", 3);
    assert_int_equal(tally_endpoint_check("ingest", longest, NULL, &reason), TALLY_OK);
    memcpy(longest + TALLY_URL_BYTES_MAX - 8 - 3, "h:1\0", 4);
    assert_int_equal(tally_endpoint_check("ingest", longest, NULL, &reason), TALLY_INVALID);
}

static void test_listen_and_dial(void **state)
{
    (void)state;
    struct tally_reason reason;
    const struct tally_endpoint_options options = {.receive_bytes_max = 1000};
    char url[TALLY_URL_BYTES_MAX], body[1000] = {0};
    nng_socket rep, other, req;
    nng_msg *message;
    tally_log_configure(TALLY_LOG_ERROR, TALLY_LOG_LOGFMT);
    assert_int_equal(nng_rep0_open(&rep), 0);
    assert_int_equal(nng_rep0_open(&other), 0);
    assert_int_equal(nng_req0_open(&req), 0);
    assert_int_equal(tally_endpoint_listen(rep, "ingest", "tcp://127.0.0.1:0", &options, url, &reason), TALLY_OK);
    assert_true(atoi(strrchr(url, ':') + 1) > 0);
    assert_int_equal(tally_endpoint_listen(other, "publish", url, &options, NULL, &reason), TALLY_IN_USE);
    assert_non_null(strstr(reason.text, "--publish"));
    assert_non_null(strstr(reason.text, url));
    assert_int_equal(tally_endpoint_listen(other, "publish", "tcp://203.0.113.1:1", &options, NULL, &reason),
                     TALLY_UNREACHABLE);
    assert_int_equal(tally_endpoint_dial(req, "to", "tcp://127.0.0.1:0", &options, NULL, &reason), TALLY_INVALID);
    assert_int_equal(tally_endpoint_dial(req, "to", url, &options, NULL, &reason), TALLY_OK);

    // A message within the limit goes through; one over it does not, and the listener lives on.
    nng_socket_set_ms(rep, NNG_OPT_RECVTIMEO, 5000);
    assert_int_equal(nng_send(req, body, 900, 0), 0);
    assert_int_equal(nng_recvmsg(rep, &message, 0), 0);
    assert_int_equal(nng_msg_len(message), 900);
    assert_int_equal(nng_sendmsg(rep, message, 0), 0);
    assert_int_equal(nng_recvmsg(req, &message, 0), 0);
    nng_msg_free(message);
    nng_socket_set_ms(rep, NNG_OPT_RECVTIMEO, 300);
    nng_socket_set_ms(req, NNG_OPT_SENDTIMEO, 300);
    char *large = calloc(1, 5000);
    (void)nng_send(req, large, 5000, 0);
    assert_int_equal(nng_recvmsg(rep, &message, 0), NNG_ETIMEDOUT);
    free(large);
    nng_socket_set_ms(rep, NNG_OPT_RECVTIMEO, 10000);
    nng_socket_set_ms(req, NNG_OPT_SENDTIMEO, 10000);
    assert_int_equal(nng_send(req, body, 10, 0), 0); // over the connection that was made again
    assert_int_equal(nng_recvmsg(rep, &message, 0), 0);
    assert_int_equal(nng_msg_len(message), 10);
    nng_msg_free(message);
    nng_close(req);
    nng_close(other);
    nng_close(rep);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_urls),
        cmocka_unit_test(test_listen_and_dial),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
