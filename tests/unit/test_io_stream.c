// SPDX-License-Identifier: Apache-2.0
//
// Streams over the HTTP face, in one process so that the sanitizers see both ends: guests with mirrors on raw sockets, versions published by this thread
// while the face's threads send. tests/e2e/test_stream_ws.py tries the rest with real daemons.
#include "http_world.h"

#include <io/feed.h>
#include <messages/messages.h>
#include <pthread.h>

#define FEED_BYTES (8u << 20)

static struct tally_feed *feed_make(uint64_t bytes_max)
{
    struct tally_feed *feed;
    const struct tally_feed_options options = {.dataset = tally_bytes("main", 4), .bytes_max = bytes_max};
    assert_int_equal(tally_feed_create(&options, &feed), TALLY_OK);
    return feed;
}

// ---------------------------------------------------------------------------------------------------- a guest

struct guest {
    int fd;
    uint8_t *data;
    size_t size, used, capacity;
    struct tally_memory memory;
    struct tally_mirror *mirror;
    unsigned wholes, deltas, heartbeats, merged, parts;
    unsigned closed; // code of the close frame
};

static const char handshake[] =
    "Host: t\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

static void guest_open(struct guest *guest)
{
    const struct tally_mirror_options options = {.dataset = tally_bytes("main", 4)};
    *guest = (struct guest){.fd = -1};
    assert_int_equal(tally_memory_map((size_t)256 << 20, 0, &guest->memory), TALLY_OK);
    assert_int_equal(tally_mirror_init(&guest->memory, &options, &guest->mirror), TALLY_OK);
}

static struct tally_view_info guest_info(const struct guest *guest)
{
    struct tally_reader reader;
    struct tally_view view;
    struct tally_view_info info;
    assert_int_equal(tally_reader_open(guest->mirror, &reader), TALLY_OK);
    tally_view_pin(&reader, &view);
    tally_view_info(&view, &info);
    tally_view_unpin(&view);
    tally_reader_close(&reader);
    return info;
}

static bool guest_hear(struct guest *guest, int timeout_ms)
{
    struct pollfd poll_fd = {.fd = guest->fd, .events = POLLIN};
    if (poll(&poll_fd, 1, timeout_ms) != 1) return false;
    if (guest->capacity - guest->size < 65536) {
        guest->size -= guest->used;
        if (guest->size) memmove(guest->data, guest->data + guest->used, guest->size);
        guest->used = 0;
        guest->capacity = guest->size + (4u << 20);
        guest->data = realloc(guest->data, guest->capacity);
        assert_non_null(guest->data);
    }
    ssize_t got = recv(guest->fd, guest->data + guest->size, guest->capacity - guest->size, 0);
    if (got <= 0) return false;
    guest->size += (size_t)got;
    return true;
}

static void guest_connect(const struct world *world, struct guest *guest)
{
    char request[1024];
    struct tally_view_info info = guest_info(guest);
    (void)snprintf(request, sizeof request, "GET /v1/stream?from=%016llx:%llu HTTP/1.1\r\n%s",
                   (unsigned long long)info.epoch, (unsigned long long)info.version, handshake);
    if (guest->fd >= 0) close(guest->fd);
    guest->fd = dial(world);
    guest->size = guest->used = 0;
    guest->closed = 0;
    say_text(guest->fd, request);
    uint8_t *end = NULL;
    while (!end) {
        assert_true(guest_hear(guest, 20000));
        end = memmem(guest->data, guest->size, "\r\n\r\n", 4);
    }
    assert_memory_equal(guest->data, "HTTP/1.1 101 ", 13);
    // The example of RFC 6455.
    assert_non_null(memmem(guest->data, guest->size, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", 54));
    guest->used = (size_t)(end + 4 - guest->data);
}

static void guest_close(struct guest *guest)
{
    if (guest->fd >= 0) close(guest->fd);
    tally_memory_unmap(&guest->memory);
    free(guest->data);
}

static void guest_take(struct guest *guest, struct tally_bytes message)
{
    struct tally_bytes sealed = tally_bytes(message.data + 1, message.size - 1);
    assert_true(message.size <= TALLY_STREAM_MESSAGE_BYTES_MAX);
    if (message.data[0] == 'H') {
        struct tally_heartbeat heartbeat;
        assert_int_equal(tally_heartbeat_decode(&tally_alloc_libc, sealed, &heartbeat), TALLY_OK);
        assert_true(tally_digest_equal(heartbeat.digest, guest_info(guest).digest));
        tally_heartbeat_free(&tally_alloc_libc, &heartbeat);
        guest->heartbeats++;
        return;
    }
    struct tally_frame_reader reader;
    assert_int_equal(message.data[0], 'F');
    assert_int_equal(tally_frame_open(sealed, &reader), TALLY_OK);
    enum tally_status status = tally_mirror_apply(guest->mirror, &guest->memory, sealed);
    assert_int_equal(status, reader.header.more ? TALLY_MORE : TALLY_OK);
    if (reader.header.more || reader.header.chunk) guest->parts++;
    if (reader.header.more) return;
    if (reader.header.from == 0)
        guest->wholes++;
    else
        guest->deltas++;
    if (reader.header.from && reader.header.to > reader.header.from + 1) guest->merged++;
}

// The next frame that is there as a whole; false: more is to be heard.
static bool guest_frame(struct guest *guest)
{
    const uint8_t *at = guest->data + guest->used;
    size_t have = guest->size - guest->used, head = 2, size;
    if (have < 2) return false;
    size = at[1];
    if (size == 126) head = 4;
    if (size == 127) head = 10;
    if (have < head) return false;
    if (size >= 126) size = 0;
    for (size_t i = 2; i < head; i++) size = size << 8 | at[i];
    if (head == 2) size = at[1];
    if (have < head + size) return false;
    if (at[0] == 0x82) guest_take(guest, tally_bytes(at + head, size));
    if (at[0] == 0x88) guest->closed = (unsigned)(at[head] << 8 | at[head + 1]);
    guest->used += head + size;
    return true;
}

// Hears until it holds `version`, or was closed.
static void guest_follow(struct guest *guest, uint64_t version)
{
    while (guest_info(guest).version < version && !guest->closed) {
        if (guest_frame(guest)) continue;
        if (!guest_hear(guest, 20000))
            fail_msg("nothing more at version %llu", (unsigned long long)guest_info(guest).version);
    }
}

static void guest_hear_heartbeat(struct guest *guest)
{
    unsigned before = guest->heartbeats;
    while (guest->heartbeats == before)
        if (!guest_frame(guest)) assert_true(guest_hear(guest, 20000));
}

static void guest_equals(const struct guest *guest, const struct world *world)
{
    struct tally_view_info info = guest_info(guest);
    assert_int_equal(info.version, world->version);
    assert_int_equal(info.rows, world->rows);
    assert_true(tally_digest_equal(info.digest, world->digest));
}

// ---------------------------------------------------------------------------------------------------- tests

static void world_end(struct world *world)
{
    struct tally_feed *feed = world->feed;
    world_deinit(world);
    tally_feed_destroy(&feed);
}

#define FOLLOWERS 12

static void *follower_run(void *argument)
{
    void **arguments = argument;
    guest_follow(arguments[0], *(uint64_t *)arguments[1]);
    return NULL;
}

// Every guest sees every version, or several in one, on whichever thread it is; versions come all the time.
static void test_many_guests_follow(void **state)
{
    (void)state;
    struct world world;
    struct guest guests[FOLLOWERS];
    pthread_t threads[FOLLOWERS];
    void *arguments[FOLLOWERS][2];
    uint64_t last = 300;
    world_init(&world, 100, (struct tally_http_options){.threads = 3, .feed = feed_make(FEED_BYTES)});
    for (size_t i = 0; i < FOLLOWERS; i++) {
        guest_open(&guests[i]);
        if (i % 2 == 0) guest_connect(&world, &guests[i]);
    }
    for (size_t i = 0; i < FOLLOWERS; i += 2) {
        arguments[i][0] = &guests[i];
        arguments[i][1] = &last;
        assert_int_equal(pthread_create(&threads[i], NULL, follower_run, arguments[i]), 0);
    }
    while (world.version < last) world_publish(&world, 3, false);
    for (size_t i = 0; i < FOLLOWERS; i += 2) assert_int_equal(pthread_join(threads[i], NULL), 0);
    for (size_t i = 0; i < FOLLOWERS; i++) {
        if (i % 2) guest_connect(&world, &guests[i]);
        guest_follow(&guests[i], last);
        guest_hear_heartbeat(&guests[i]);
        guest_equals(&guests[i], &world);
        assert_int_equal(guests[i].wholes, 1);
        guest_close(&guests[i]);
    }
    world_end(&world);
}

static void test_resumes_from_its_place(void **state)
{
    (void)state;
    struct world world;
    struct guest guest;
    world_init(&world, 100, (struct tally_http_options){.feed = feed_make(FEED_BYTES)});
    guest_open(&guest);
    guest_connect(&world, &guest);
    guest_follow(&guest, 1);
    guest_connect(&world, &guest);
    guest_hear_heartbeat(&guest); // at once, and nothing else
    assert_true(guest.wholes == 1 && guest.deltas == 0);
    for (int i = 0; i < 3; i++) world_publish(&world, 2, false);
    guest_connect(&world, &guest);
    guest_follow(&guest, world.version);
    assert_true(guest.deltas == 3 && guest.merged == 0);
    for (int i = 0; i < 100; i++) world_publish(&world, 2, false);
    guest_connect(&world, &guest);
    guest_follow(&guest, world.version);
    // One merged change; or one that was merged for its last connection while these came, which guests share, and then the rest: merged, or a run.
    assert_true(guest.merged >= 1 && guest.deltas <= 3 + 1 + TALLY_PACE_RUN_CHANGES && guest.wholes == 1);
    guest_equals(&guest, &world);
    guest_close(&guest);
    world_end(&world);
}

// What is not kept any more: the whole state. What is larger than a message: parts.
static void test_large_changes_and_whole_states(void **state)
{
    (void)state;
    struct world world;
    struct guest one, two;
    world_init(&world, 200000, (struct tally_http_options){.feed = feed_make(FEED_BYTES)});
    guest_open(&one);
    guest_open(&two);
    guest_connect(&world, &one);
    guest_connect(&world, &two);
    guest_follow(&one, 1);
    assert_true(one.parts > 1 && one.wholes == 1);
    world_publish(&world, 100000, false);
    guest_follow(&one, 2);
    guest_follow(&two, 2);
    assert_true(one.deltas == 1 && one.wholes == 1 && two.wholes == 1);
    guest_equals(&one, &world);
    guest_equals(&two, &world);
    unsigned parts = one.parts;
    close(one.fd);
    one.fd = -1;
    for (int i = 0; i < 5; i++) world_publish(&world, 200000, false); // more than is kept
    guest_connect(&world, &one);
    guest_follow(&one, world.version);
    assert_true(one.wholes == 2 && one.deltas == 1 && one.parts > parts);
    guest_follow(&two, world.version); // it was there, and in the middle of a change when the next came
    guest_equals(&one, &world);
    guest_equals(&two, &world);
    guest_close(&one);
    guest_close(&two);
    world_end(&world);
}

// The applier needs the memory that a pinned version holds: who is in it is ended, and a guest that is through it is not.
static void test_pressure_ends_whole_states(void **state)
{
    (void)state;
    struct world world;
    struct guest live, slow;
    world_init(&world, 1000000, (struct tally_http_options){.feed = feed_make(FEED_BYTES)});
    guest_open(&live);
    guest_open(&slow);
    guest_connect(&world, &live);
    guest_follow(&live, 1);
    guest_connect(&world, &slow);
    assert_true(guest_hear(&slow, 20000)); // it has begun; and reads no more: the sockets' buffers cannot hold 11 MB
    tally_feed_press(world.feed);
    world_publish(&world, 1, false);
    guest_follow(&slow, 2);
    assert_true(slow.closed == 4001 && slow.wholes == 0);
    guest_follow(&live, 2);
    assert_int_equal(live.closed, 0);
    guest_connect(&world, &slow);
    guest_follow(&slow, 2);
    guest_equals(&slow, &world);
    guest_close(&live);
    guest_close(&slow);
    world_end(&world);
}

static void test_without_a_feed_there_is_no_stream(void **state)
{
    (void)state;
    struct world world;
    world_init(&world, 1, (struct tally_http_options){0});
    expect(get(&world, "/v1/stream"), 404, "{\"error\":\"no such path\"}\n");
    world_deinit(&world);
}

static void test_stops_with_guests(void **state)
{
    (void)state;
    struct world world;
    struct guest guest;
    world_init(&world, 10, (struct tally_http_options){.threads = 2, .feed = feed_make(FEED_BYTES)});
    guest_open(&guest);
    guest_connect(&world, &guest);
    guest_follow(&guest, 1);
    tally_http_stop(&world.http, 3000);
    while (!guest.closed)
        if (!guest_frame(&guest)) assert_true(guest_hear(&guest, 20000));
    assert_int_equal(guest.closed, 1001);
    assert_true(closed_within(guest.fd, 5000));
    guest_close(&guest);
    world_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_guests_follow),
        cmocka_unit_test(test_resumes_from_its_place),
        cmocka_unit_test(test_large_changes_and_whole_states),
        cmocka_unit_test(test_pressure_ends_whole_states),
        cmocka_unit_test(test_without_a_feed_there_is_no_stream),
        cmocka_unit_test(test_stops_with_guests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
