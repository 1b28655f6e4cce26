// SPDX-License-Identifier: Apache-2.0
//
// GET /v1/snapshot: it is the whole state, bounded in memory and in the time that it holds a version, whoever reads it.
#include "http_world.h"

#include <pthread.h>
#include <tallycast/framefile.h>

#define ROWS 400000u // about 5 MiB

static void apply_file(struct world *world, const char *bytes, size_t size)
{
    struct tally_framefile file;
    struct tally_bytes message;
    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_reader reader;
    struct tally_view view;
    struct tally_view_info info;
    enum tally_status status;
    unsigned chunks = 0;
    const struct tally_mirror_options options = {.dataset = tally_bytes("main", 4)};
    assert_int_equal(tally_memory_map((size_t)512 << 20, 0, &memory), TALLY_OK);
    assert_int_equal(tally_mirror_init(&memory, &options, &mirror), TALLY_OK);
    assert_int_equal(tally_framefile_open(tally_bytes(bytes, size), &file), TALLY_OK);
    while ((status = tally_framefile_next(&file, &message)) == TALLY_OK) {
        assert_in_range(message.size, 1, TALLY_CHUNK_BYTES_MAX);
        status = tally_mirror_apply(mirror, &memory, message);
        assert_true(status == TALLY_OK || status == TALLY_MORE);
        chunks++;
    }
    assert_int_equal(status, TALLY_NOT_FOUND);
    assert_true(chunks > 2);
    assert_int_equal(tally_reader_open(mirror, &reader), TALLY_OK);
    tally_view_pin(&reader, &view);
    tally_view_info(&view, &info);
    assert_true(tally_digest_equal(info.digest, world->digest));
    assert_int_equal(info.rows, ROWS + 3);
    tally_view_unpin(&view);
    tally_reader_close(&reader);
    tally_memory_unmap(&memory);
}

static void test_whole(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, ROWS, (struct tally_http_options){0});
    struct answer answer = get(&world, "/v1/snapshot");
    assert_int_equal(answer.status, 200);
    apply_file(&world, answer.body, answer.body_size);
    answer_free(&answer);
    answer = ask_text(&world, "HEAD /v1/snapshot HTTP/1.1\r\n\r\n");
    assert_int_equal(answer.status, 200);
    answer_free(&answer);
    // HTTP/1.0 knows no chunks: the end of the connection is the end.
    int fd = dial(&world);
    char *bytes = NULL;
    size_t size = 0;
    say_text(fd, "GET /v1/snapshot HTTP/1.0\r\n\r\n");
    while (hear_more(fd, &bytes, &size)) continue;
    const char *body = (const char *)memmem(bytes, size, "\r\n\r\n", 4) + 4;
    apply_file(&world, body, size - (size_t)(body - bytes));
    free(bytes);
    close(fd);
    world_deinit(&world);
}

static uint64_t stalled(const struct world *world)
{
    struct tally_mirror_stats stats;
    tally_mirror_stats(world->mirror, &stats);
    return stats.stalled_readers;
}

static void wait_not_stalled(const struct world *world)
{
    uint64_t end = now_ms() + 10000;
    while (stalled(world) && now_ms() < end) poll(NULL, 0, 5);
    assert_int_equal(stalled(world), 0);
}

static int begin_snapshot(const struct world *world)
{
    char head[16];
    int fd = dial(world), small = 4096;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    say_text(fd, "GET /v1/snapshot HTTP/1.1\r\n\r\n");
    assert_int_equal(recv(fd, head, sizeof head, MSG_WAITALL), sizeof head);
    assert_memory_equal(head, "HTTP/1.1 200 OK\r", 16);
    return fd;
}

static void test_vanished(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, ROWS, (struct tally_http_options){0});
    int fd = begin_snapshot(&world);
    world_publish(&world, 1, false);
    assert_int_equal(stalled(&world), 1);                  // the version being sent is held
    expect(get(&world, "/v1/get/files/key-1"), 200, NULL); // and others are served on the same thread
    struct linger reset = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    close(fd);
    wait_not_stalled(&world);
    world_deinit(&world);
}

static void test_one_at_a_time(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, ROWS, (struct tally_http_options){.write_timeout_ms = 60000, .snapshots_max = 1});
    int fd = begin_snapshot(&world);
    expect(get(&world, "/v1/snapshot"), 503, NULL);
    close(fd);
    world_deinit(&world);
}

static void test_stuck(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, ROWS, (struct tally_http_options){.write_timeout_ms = 400});
    int fd = begin_snapshot(&world);
    world_publish(&world, 1, false);
    wait_not_stalled(&world); // who does not read is let go
    struct answer metrics = get(&world, "/metrics");
    assert_non_null(strstr(metrics.body, "\ntally_http_snapshots_broken_total 1\n"));
    assert_non_null(strstr(metrics.body, "\ntally_http_timeouts_total 1\n"));
    answer_free(&metrics);
    close(fd);
    world_deinit(&world);
}

static void test_crawling(void **state)
{
    struct world world;
    (void)state;
    world_init(&world, ROWS, (struct tally_http_options){.write_timeout_ms = 1500, .snapshot_timeout_ms = 3000});
    int fd = begin_snapshot(&world);
    uint64_t begun = now_ms();
    world_publish(&world, 1, false);
    // It reads a little all the time: the write deadline moves on, but the version is not held for longer than was said.
    char bytes[2048];
    while (stalled(&world) && now_ms() - begun < 20000) {
        if (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) == 0) break;
        poll(NULL, 0, 5);
    }
    assert_in_range(now_ms() - begun, 2500, 15000);
    wait_not_stalled(&world);
    close(fd);
    world_deinit(&world);
}

static void *read_to_end(void *argument)
{
    char bytes[65536], tail[5] = {0};
    ssize_t got;
    int fd = *(int *)argument;
    while ((got = recv(fd, bytes, sizeof bytes, 0)) > 0)
        if (got >= 5) memcpy(tail, bytes + got - 5, 5);
    return memcmp(tail, "0\r\n\r\n", 5) == 0 ? argument : NULL;
}

static void test_stop(void **state)
{
    struct world world;
    pthread_t thread;
    void *whole = NULL;
    (void)state;
    // An answer under way is finished within the grace, an idle connection is not waited for.
    world_init(&world, ROWS, (struct tally_http_options){.threads = 2});
    int idle = dial(&world), fd = dial(&world);
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    say_text(fd, "GET /v1/snapshot HTTP/1.1\r\n\r\n");
    assert_int_equal(poll(&poll_fd, 1, 10000), 1);
    assert_int_equal(pthread_create(&thread, NULL, read_to_end, &fd), 0);
    uint64_t begun = now_ms();
    tally_http_stop(&world.http, 8000);
    assert_true(now_ms() - begun < 6000);
    assert_int_equal(pthread_join(thread, &whole), 0);
    assert_non_null(whole);
    assert_true(closed_within(idle, 100));
    close(idle);
    close(fd);
    world_deinit(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole), cmocka_unit_test(test_vanished), cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_stuck), cmocka_unit_test(test_crawling), cmocka_unit_test(test_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
