// SPDX-License-Identifier: Apache-2.0
//
// The HTTP face as a client sees it: every path, keys that are hard to say, what is refused and how, connections.
#include "http_world.h"

#define FIELDS "\"dataset\":\"main\",\"epoch\":\"0000000000000007\",\"version\":1,\"age_ms\":500}\n"

static void test_reads(void **state)
{
    struct world world;
    char expected[512];
    (void)state;
    world_init(&world, 10, (struct tally_http_options){0});
    (void)snprintf(
        expected, sizeof expected,
        "{\"dataset\":\"main\",\"epoch\":\"0000000000000007\",\"version\":1,\"digest\":\"%016llx%016llx\",\"keys\":13,"
        "\"cut_at\":\"2025-11-22T08:26:40.000Z\",\"age_ms\":500,\"lag\":2,\"state\":\"live\",\"name\":\"server\"}\n",
        (unsigned long long)world.digest.hi, (unsigned long long)world.digest.lo);
    expect(get(&world, "/v1/version"), 200, expected);
    expect(get(&world, "/v1/tables"), 200,
           "{\"tables\":[{\"table\":\"files\",\"kind\":\"counter\",\"keys\":13}]," FIELDS);
    expect(get(&world, "/v1/get/files/key-7"), 200, "{\"table\":\"files\",\"key\":\"key-7\",\"value\":7," FIELDS);
    expect(get(&world, "/v1/get/files/key-7?x=1"), 200, "{\"table\":\"files\",\"key\":\"key-7\",\"value\":7," FIELDS);
    expect(get(&world, "/v1/get/files/ke%79-7"), 200, "{\"table\":\"files\",\"key\":\"key-7\",\"value\":7," FIELDS);
    expect(get(&world, "/v1/get/files/nope"), 404,
           "{\"error\":\"not found\",\"table\":\"files\",\"key\":\"nope\"," FIELDS);
    expect(get(&world, "/v1/get/nope/key-7"), 404,
           "{\"error\":\"not found\",\"table\":\"nope\",\"key\":\"key-7\"," FIELDS);
    expect(get(&world, "/v1/top/files?k=2"), 200,
           "{\"table\":\"files\",\"rows\":[{\"key\":\"key-9\",\"value\":9},{\"key\":\"key-8\",\"value\":8}]," FIELDS);
    expect(get(&world, "/v1/top/nope"), 404, "{\"error\":\"not found\",\"table\":\"nope\"," FIELDS);
    static const char *const wrong[] = {"/v1/top/files?k=0",  "/v1/top/files?k=1001", "/v1/top/files?k=-1",
                                        "/v1/top/files?k=1x", "/v1/top/files?n=1",    
                                        "/v1/top/Files"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) expect(get(&world, wrong[i]), 400, NULL);
    expect(get(&world, "/healthz"), 200, "{\"ok\":true}\n");
    expect(get(&world, "/readyz"), 200, "{\"ready\":true}\n");
    world.ready = false;
    expect(get(&world, "/readyz"), 503, "{\"error\":\"not yet\"}\n");
    struct answer metrics = get(&world, "/metrics");
    assert_non_null(strstr(metrics.body, "tally_test 1\n"));
    assert_non_null(strstr(metrics.body, "\ntally_http_answers_total{status=\"4xx\"} 9\n"));
    assert_non_null(strstr(metrics.body, "\nprocess_resident_memory_bytes "));
    answer_free(&metrics);
    world_deinit(&world);
}

static void test_hard_keys(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1, (struct tally_http_options){0});
    expect(get(&world, "/v1/get/files/a//b/../c"), 200,
           "{\"table\":\"files\",\"key\":\"a//b/../c\",\"value\":1," FIELDS);
    expect(get(&world, "/v1/get/files/a%2f/b%2F..%2fc"), 200,
           "{\"table\":\"files\",\"key\":\"a//b/../c\",\"value\":1," FIELDS);
    expect(get(&world, "/v1/get/files/%00%fF;&+%20%25"), 200,
           "{\"table\":\"files\",\"key\":\"\\u0000\xef\xbf\xbd;&+ %\",\"key_base64\":\"AP87Jisg"
           "JQ==\",\"value\":1," FIELDS);
    expect(get(&world, "/v1/get/files/%22%5C%0a"), 200,
           "{\"table\":\"files\",\"key\":\"\\\"\\\\\\n\",\"value\":1," FIELDS);
    expect(get(&world, "/v1/get/files/"), 400, "{\"error\":\"the key is empty\"}\n");
    expect(get(&world, "/v1/get/files"), 400, "{\"error\":\"expected /v1/get/{table}/{key}\"}\n");
    expect(get(&world, "/v1/get/Files/x"), 400, NULL);
    expect(get(&world, "/v1/get/files/%4"), 400, NULL);
    expect(get(&world, "/v1/get/files/%zz"), 400, NULL);
    char path[1200] = "/v1/get/files/";
    memset(path + 14, 'k', 1025);
    expect(get(&world, path), 400, "{\"error\":\"the key is longer than 1024 bytes\"}\n");
    path[14 + 1024] = '\0';
    expect(get(&world, path), 404, NULL);
    world_deinit(&world);
}

static struct answer post(const struct world *world, const char *headers, const char *body, size_t size)
{
    char *request = malloc(size + 512);
    int head = sprintf(request, "POST /v1/get HTTP/1.1\r\nHost: t\r\n%s\r\n", headers);
    memcpy(request + head, body, size);
    struct answer answer = ask(world, request, (size_t)head + size);
    free(request);
    return answer;
}

static struct answer post_json(const struct world *world, const char *body)
{
    char headers[64];
    (void)snprintf(headers, sizeof headers, "Content-Length: %zu\r\n", strlen(body));
    return post(world, headers, body, strlen(body));
}

static void test_many(void **state)
{
    static const char wanted[] = "{\"table\":\"files\",\"values\":[3,null,0]," FIELDS;
    static const char chunks[] =
        "1e\r\n{\"table\":\"files\",\"keys\":[\"key-\r\n11\r\n3\",\"x\",\"key-0\"]}\n\r\n0\r\n\r\n";
    struct world world;
    (void)state;
    world_init(&world, 10, (struct tally_http_options){0});
    expect(post_json(&world, "{\"table\":\"files\",\"keys\":[\"key-3\",\"x\",\"key-0\"]}"), 200, wanted);
    expect(post(&world, "Transfer-Encoding: chunked\r\n", chunks, sizeof chunks - 1), 200, wanted);
    expect(post_json(&world, "{\"table\":\"files\",\"keys\":[]}"), 200, "{\"table\":\"files\",\"values\":[]," FIELDS);
    expect(post_json(&world, "{\"table\":\"nope\",\"keys\":[\"a\"]}"), 200,
           "{\"table\":\"nope\",\"values\":[null]," FIELDS);
    expect(post_json(&world, "{\"table\":\"files\",\"keys\":[\"\\\"\\\\\\n\",\"a//b/../c\"]}"), 200,
           "{\"table\":\"files\",\"values\":[1,1]," FIELDS);
    expect(post_json(&world, ""), 400, NULL);
    expect(post_json(&world, "{\"table\":\"files\"}"), 400, NULL);
    expect(post_json(&world, "{\"table\":\"files\",\"keys\":[1]}"), 400, "{\"error\":\"a key is no string\"}\n");
    expect(post_json(&world, "{\"table\":\"files\",\"keys\":[\"\"]}"), 400, "{\"error\":\"a key is empty\"}\n");
    expect(post_json(&world, "{\"table\":\"files\",\"table\":\"files\",\"keys\":[]}"), 400, NULL);
    expect(post_json(&world, "{\"table\":\"files\",\"keys\":[]} x"), 400, NULL);

    // As many keys as are allowed, and one more.
    for (unsigned count = TALLY_QUERY_KEYS_MAX; count <= TALLY_QUERY_KEYS_MAX + 1; count++) {
        char *body = malloc(count * 8 + 64), *p = body + sprintf(body, "{\"table\":\"files\",\"keys\":[");
        for (unsigned i = 0; i < count; i++) p += sprintf(p, "%s\"key-1\"", i ? "," : "");
        (void)sprintf(p, "]}");
        expect(post_json(&world, body), count > TALLY_QUERY_KEYS_MAX ? 400 : 200, NULL);
        free(body);
    }
    // A body that would cost a JSON decoder far more than its size.
    char *brackets = malloc(4 << 20);
    memset(brackets, '[', 4 << 20);
    brackets[(4 << 20) - 1] = '\0';
    expect(post_json(&world, brackets), 413, NULL);
    free(brackets);
    world_deinit(&world);
}

static void test_refusals(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, 1, (struct tally_http_options){0});
    char *request = malloc(64 << 10), *p;
    p = request + sprintf(request, "GET /");
    memset(p, 'a', TALLY_HTTP_URL_BYTES_MAX);
    (void)sprintf(p + TALLY_HTTP_URL_BYTES_MAX, " HTTP/1.1\r\n\r\n");
    expect(ask_text(&world, request), 414, NULL);
    (void)sprintf(p + TALLY_HTTP_URL_BYTES_MAX - 1, " HTTP/1.1\r\n\r\n");
    expect(ask_text(&world, request), 404, NULL);
    p = request + sprintf(request, "GET /healthz HTTP/1.1\r\nX: ");
    memset(p, 'a', 32 << 10);
    (void)sprintf(p + (32 << 10), "\r\n\r\n");
    expect(ask_text(&world, request), 431, NULL);
    free(request);
    expect(ask_text(&world, "POST /v1/get HTTP/1.1\r\nContent-Length: 8388609\r\n\r\n"), 413, NULL);
    expect(ask_text(&world, "POST /v1/get HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), 400, NULL);
    expect(ask_text(&world, "POST /v1/get HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400, NULL);
    expect(
        ask_text(&world, "POST /v1/get HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        400, NULL);
    expect(ask_text(&world, "nonsense\r\n\r\n"), 400, NULL);
    expect(get(&world, "/nope"), 404, "{\"error\":\"no such path\"}\n");
    struct answer answer = ask_text(&world, "DELETE /v1/version HTTP/1.1\r\n\r\n");
    assert_non_null(strstr(answer.head, "\r\nAllow: GET, HEAD\r\n"));
    expect(answer, 405, NULL);
    expect(ask_text(&world, "GET /v1/get HTTP/1.1\r\n\r\n"), 405, NULL);
    expect(ask_text(&world, "POST /v1/get/files/x HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), 405, NULL);

    // More than 8 MiB in chunks: refused while it comes, and the answer arrives although the rest is never read.
    int fd = dial(&world);
    char *piece = malloc((1 << 20) + 16), *rest = NULL;
    size_t rest_size = 0;
    (void)sprintf(piece, "100000\r\n");
    memset(piece + 8, ' ', 1 << 20);
    memcpy(piece + 8 + (1 << 20), "\r\n", 2);
    say_text(fd, "POST /v1/get HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (unsigned i = 0; i < 9; i++) say(fd, piece, (1 << 20) + 10);
    expect(hear(fd, false, &rest, &rest_size), 413, NULL);
    free(rest);
    free(piece);
    close(fd);
    world_deinit(&world);
}

static void test_connections(void **state)
{
    struct world world;
    char *rest = NULL;
    size_t rest_size = 0;
    (void)state;
    world_init(&world, 10, (struct tally_http_options){.connections_max = 2});
    int fd = dial(&world);
    // Three at once, the last in pieces.
    say_text(fd,
             "GET /v1/get/files/key-1 HTTP/1.1\r\n\r\nHEAD /v1/get/files/key-1 HTTP/1.1\r\n\r\nGET /v1/get/files/k");
    expect(hear(fd, false, &rest, &rest_size), 200, "{\"table\":\"files\",\"key\":\"key-1\",\"value\":1," FIELDS);
    struct answer head = hear(fd, true, &rest, &rest_size);
    assert_int_equal(head.status, 200);
    char length[64];
    (void)snprintf(length, sizeof length, "Content-Length: %zu\r\n",
                   strlen("{\"table\":\"files\",\"key\":\"key-1\",\"value\":1," FIELDS));
    assert_non_null(strstr(head.head, length));
    answer_free(&head);
    say_text(fd, "ey-2 HTTP/1.1\r\nConnection: close\r\n\r\n");
    struct answer last = hear(fd, false, &rest, &rest_size);
    assert_non_null(strstr(last.head, "Connection: close\r\n"));
    expect(last, 200, "{\"table\":\"files\",\"key\":\"key-2\",\"value\":2," FIELDS);
    assert_true(closed_within(fd, 5000));
    close(fd);
    free(rest);
    rest = NULL;
    rest_size = 0;

    // 100-continue.
    fd = dial(&world);
    say_text(fd, "POST /v1/get HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 27\r\n\r\n");
    struct answer go_on = hear(fd, true, &rest, &rest_size);
    assert_int_equal(go_on.status, 100);
    answer_free(&go_on);
    say_text(fd, "{\"table\":\"files\",\"keys\":[]}");
    expect(hear(fd, false, &rest, &rest_size), 200, NULL);
    free(rest);

    // The third connection is closed at once, and when another ends there is room again.
    int second = dial(&world);
    say_text(second, "GET /healthz HTTP/1.1\r\n\r\n");
    rest = NULL;
    rest_size = 0;
    expect(hear(second, false, &rest, &rest_size), 200, NULL);
    int third = dial(&world);
    assert_true(closed_within(third, 5000));
    close(third);
    close(second);
    for (bool open = false; !open;) {
        struct answer answer = get(&world, "/healthz");
        open = !answer.closed;
        answer_free(&answer);
    }
    free(rest);
    close(fd);
    world_deinit(&world);
}

static void test_slow(void **state)
{
    struct world world;
    char *rest = NULL;
    size_t rest_size = 0;
    (void)state;
    world_init(&world, 1, (struct tally_http_options){.request_timeout_ms = 300, .idle_timeout_ms = 600});
    int idle = dial(&world), slow = dial(&world);
    uint64_t begun = now_ms();
    // A byte now and then does not move the deadline.
    say_text(slow, "GET /heal");
    struct pollfd poll_fd = {.fd = slow, .events = POLLIN};
    for (unsigned i = 0; i < 100 && poll(&poll_fd, 1, 50) == 0; i++) say_text(slow, "t");
    expect(hear(slow, false, &rest, &rest_size), 408, NULL);
    assert_in_range(now_ms() - begun, 300, 2000);
    assert_true(closed_within(slow, 5000));
    assert_true(closed_within(idle, 5000));
    assert_true(now_ms() - begun >= 600);
    close(idle);
    close(slow);
    free(rest);
    world_deinit(&world);
}

static void test_ports(void **state)
{
    struct world world, other;
    struct tally_reason reason;
    struct tally_http *http = NULL;
    struct tally_http_source source;
    struct tally_reads_native *reads;
    char listen_at[32];
    (void)state;
    // Several threads share the port, but a second server does not get it.
    world_init(&world, 1, (struct tally_http_options){.threads = 3});
    for (unsigned i = 0; i < 20; i++) expect(get(&world, "/healthz"), 200, NULL);
    (void)snprintf(listen_at, sizeof listen_at, "127.0.0.1:%d", world.port);
    world_init(&other, 0, (struct tally_http_options){0});
    assert_int_equal(tally_reads_native_create(other.mirror, &other, &reads, &source), TALLY_OK);
    for (unsigned threads = 1; threads <= 2; threads++) {
        struct tally_http_options options = {.listen = listen_at, .threads = threads};
        assert_int_equal(tally_http_start(&options, &source, &http, &reason), TALLY_IN_USE);
        assert_non_null(strstr(reason.text, listen_at));
    }
    tally_reads_native_destroy(&reads);
    static const char *const wrong[] = {"", "127.0.0.1", "127.0.0.1:", ":x", "127.0.0.1:65536", "::1:80", "[::1:80"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(tally_http_check("http", wrong[i], &reason), TALLY_INVALID);
    assert_int_equal(tally_http_check("http", "[::1]:80", &reason), TALLY_OK);
    assert_int_equal(tally_http_check("http", "*:0", &reason), TALLY_OK);

    // Nothing applied yet.
    expect(get(&other, "/v1/get/files/x"), 404,
           "{\"error\":\"not "
           "found\",\"table\":\"files\",\"key\":\"x\",\"dataset\":\"main\",\"epoch\":\"0000000000000000\","
           "\"version\":0,\"age_ms\":null}\n");
    expect(get(&other, "/v1/snapshot"), 503, "{\"error\":\"nothing is held yet\"}\n");
    world_deinit(&other);
    world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads),    cmocka_unit_test(test_hard_keys),   cmocka_unit_test(test_many),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_connections), cmocka_unit_test(test_slow),
        cmocka_unit_test(test_ports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
