// SPDX-License-Identifier: Apache-2.0
//
// The sender of `tallycast count` against a server of a few lines that answers as it is told: busy, repeats, lost connections, refusals.
#include "../support/memory.h"
#include "../support/with_cmocka.h"

#include <arpa/inet.h>
#include <cli.h>
#include <messages/messages.h>
#include <nng/nng.h>

#include <nng/protocol/reqrep0/rep.h>
#include <poll.h>
#include <pthread.h>
#include <sender.h>
#include <stdatomic.h>

// What the server does with its nth request, in turn; after the script it answers TALLY_OK.
enum act { ACT_OK, ACT_BUSY, ACT_REPEAT, ACT_REFUSE, ACT_HOLE, ACT_GARBAGE, ACT_LOSE };

struct peer {
    pthread_mutex_t mutex; // what follows is its thread's while it acts, the test's after peer_rest
    nng_socket socket;
    pthread_t thread;
    char url[64];
    const enum act *script;
    size_t script_size, requests;
    uint64_t sequences[256]; // of every batch that was acknowledged, in order
    size_t sequences_count;
    uint64_t hello_expected;
    int64_t sum;
};

static void note_batch(struct peer *peer, struct tally_bytes batch)
{
    struct tally_batch_reader reader;
    assert_int_equal(tally_batch_open(batch, &reader), TALLY_OK);
    assert_in_range(peer->sequences_count, 0, 255);
    peer->sequences[peer->sequences_count++] = reader.header.sequence;
    struct tally_entries_reader table;
    struct tally_bytes key;
    int64_t amount;
    while (tally_batch_next_table(&reader, &table))
        while (tally_entries_next(&table, &key, &amount)) peer->sum += amount;
}

static void answer(struct peer *peer, const struct tally_answer *what)
{
    struct tally_writer out = test_writer();
    assert_int_equal(tally_answer_encode(what, &out), TALLY_OK);
    nng_send(peer->socket, out.data, out.size, 0);
    test_writer_free(&out);
}

static void act(struct peer *peer, enum act what, const struct tally_request *request)
{
    struct tally_answer ok = {.dataset = tally_bytes("main", 4), .epoch = 1, .version = 10 + peer->requests};
    struct tally_answer bad = {.dataset = ok.dataset, .message = tally_bytes("told so", 7)};
    if (request->what == TALLY_REQUEST_HELLO) ok.expected_sequence = peer->hello_expected;
    switch (what) {
    case ACT_REPEAT: ok.status = TALLY_REPEAT; // fall through
    case ACT_OK:
        if (request->what == TALLY_REQUEST_BATCH) note_batch(peer, request->batch);
        answer(peer, &ok);
        return;
    case ACT_BUSY: bad.status = TALLY_BUSY; break;
    case ACT_REFUSE: bad.status = TALLY_FORBIDDEN; break;
    case ACT_HOLE:
        bad.status = TALLY_HOLE;
        bad.expected_sequence = 1;
        break;
    case ACT_GARBAGE: nng_send(peer->socket, (void *)"garbage", 7, 0); return;
    case ACT_LOSE: return;
    }
    answer(peer, &bad);
}

static void *serve(void *argument)
{
    struct peer *peer = argument;
    nng_msg *message;
    while (nng_recvmsg(peer->socket, &message, 0) == 0) {
        struct tally_request request;
        enum tally_status status =
            tally_request_decode(&tally_alloc_libc, tally_bytes(nng_msg_body(message), nng_msg_len(message)), &request);
        assert_int_equal(status, TALLY_OK);
        pthread_mutex_lock(&peer->mutex);
        enum act what = peer->requests < peer->script_size ? peer->script[peer->requests] : ACT_OK;
        peer->requests++;
        if (what == ACT_LOSE) nng_pipe_close(nng_msg_get_pipe(message)); // before it could answer: it comes again
        act(peer, what, &request);
        pthread_mutex_unlock(&peer->mutex);
        tally_request_free(&tally_alloc_libc, &request);
        nng_msg_free(message);
    }
    return NULL;
}

static void peer_start(struct peer *peer, const enum act *script, size_t script_size)
{
    pthread_mutex_init(&peer->mutex, NULL);
    peer->script = script;
    peer->script_size = script_size;
    nng_listener listener;
    nng_sockaddr address;
    assert_int_equal(nng_rep0_open(&peer->socket), 0);
    assert_int_equal(nng_listen(peer->socket, "tcp://127.0.0.1:0", &listener, 0), 0);
    assert_int_equal(nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &address), 0);
    (void)snprintf(peer->url, sizeof peer->url, "tcp://127.0.0.1:%u", ntohs(address.s_in.sa_port));
    assert_int_equal(pthread_create(&peer->thread, NULL, serve, peer), 0);
    pthread_detach(peer->thread);
}

// It stays until the process ends, as in the command: closing an NNG socket (1.5.2) can wait for ever while a connection is being made.
static void peer_rest(struct peer *peer)
{
    pthread_mutex_lock(&peer->mutex);
    pthread_mutex_unlock(&peer->mutex);
}

// Sends `batches` of one event each, as count does; the first exit code that is not CLI_DONE.
static int send_all(struct peer *peer, unsigned batches, unsigned lanes, uint64_t producer,
                    struct cli_sender_figures *out_figures)
{
    struct cli_sender *sender = NULL;
    const struct cli_sender_options options = {
        .url = peer->url, .dataset = "main", .lanes = lanes, .producer = producer};
    assert_int_equal(cli_sender_open(&options, &sender), CLI_DONE);
    struct cli_merge *merge = cli_merge_create(4096, TALLY_KIND_UNSPECIFIED, false, (struct tally_seed){1, 2});
    int code = CLI_DONE;
    unsigned sent = 0;
    for (bool more = true; code == CLI_DONE && more;) {
        struct pollfd fd = {.fd = cli_sender_wake_fd(sender), .events = POLLIN};
        code = cli_sender_work(sender);
        while (code == CLI_DONE && sent < batches && cli_sender_ready(sender)) {
            assert_int_equal(cli_merge_add(merge, tally_bytes("t", 1), tally_bytes("k", 1), 1 << sent), TALLY_OK);
            code = cli_sender_send(sender, merge);
            sent++;
        }
        cli_sender_figures(sender, out_figures);
        more = sent < batches || out_figures->in_flight;
        if (code == CLI_DONE && more) poll(&fd, 1, 50);
    }
    cli_merge_destroy(&merge);
    cli_sender_end(&sender);
    return code;
}

static void batches_arrive_in_order_whatever_happens(void **state)
{
    (void)state;
    static const enum act script[] = {ACT_OK, ACT_BUSY, ACT_OK, ACT_LOSE, ACT_OK, ACT_BUSY, ACT_LOSE, ACT_REPEAT};
    static struct peer peer;
    peer_start(&peer, script, sizeof script / sizeof *script);
    struct cli_sender_figures figures;
    assert_int_equal(send_all(&peer, 8, 1, 0, &figures), CLI_DONE);
    peer_rest(&peer);
    assert_int_equal(figures.events, 8);
    assert_int_equal(figures.batches, 8);
    assert_int_equal(figures.repeats, 1);
    assert_int_equal(peer.sequences_count, 8);
    for (unsigned i = 0; i < 8; i++) assert_int_equal(peer.sequences[i], i + 1);
    assert_int_equal(peer.sum, 255);
    assert_int_equal(figures.version, 10 + peer.requests);
}

static void lanes_are_producers_of_their_own(void **state)
{
    (void)state;
    static struct peer peer;
    peer_start(&peer, NULL, 0);
    struct cli_sender_figures figures;
    assert_int_equal(send_all(&peer, 20, 4, 0, &figures), CLI_DONE);
    peer_rest(&peer);
    assert_int_equal(figures.events, 20);
    assert_int_equal(peer.sum, (1 << 20) - 1);
    unsigned first = 0;
    for (size_t i = 0; i < peer.sequences_count; i++) first += peer.sequences[i] == 1;
    assert_int_equal(first, 4);
}

static void a_named_producer_goes_on(void **state)
{
    (void)state;
    static struct peer peer = {.hello_expected = 42};
    peer_start(&peer, NULL, 0);
    struct cli_sender_figures figures;
    assert_int_equal(send_all(&peer, 2, 1, 7, &figures), CLI_DONE);
    peer_rest(&peer);
    assert_int_equal(peer.sequences[0], 42);
    assert_int_equal(peer.sequences[1], 43);
}

static void what_is_refused_ends(void **state)
{
    (void)state;
    static const enum act endings[] = {ACT_REFUSE, ACT_HOLE, ACT_GARBAGE};
    static enum act scripts[3][2];
    static struct peer peers[3];
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        scripts[i][0] = ACT_OK;
        scripts[i][1] = endings[i];
        peer_start(&peers[i], scripts[i], 2);
        struct cli_sender_figures figures;
        assert_int_equal(send_all(&peers[i], 3, 1, 0, &figures), CLI_REFUSED);
        peer_rest(&peers[i]);
        assert_int_equal(figures.events, 1);
    }
}

static void ending_while_in_flight(void **state)
{
    (void)state;
    static struct peer peer;
    peer_start(&peer, NULL, 0);
    for (unsigned round = 0; round < 50; round++) {
        struct cli_sender *sender = NULL;
        const struct cli_sender_options options = {.url = peer.url, .dataset = "main", .lanes = 4};
        assert_int_equal(cli_sender_open(&options, &sender), CLI_DONE);
        struct cli_merge *merge = cli_merge_create(4096, TALLY_KIND_UNSPECIFIED, false, (struct tally_seed){1, 2});
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(cli_merge_add(merge, tally_bytes("t", 1), tally_bytes("k", 1), 1), TALLY_OK);
            assert_int_equal(cli_sender_send(sender, merge), CLI_DONE);
        }
        if (round % 2) poll(NULL, 0, (int)(round % 5));
        cli_sender_end(&sender);
        cli_merge_destroy(&merge);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_arrive_in_order_whatever_happens),
        cmocka_unit_test(lanes_are_producers_of_their_own),
        cmocka_unit_test(a_named_producer_goes_on),
        cmocka_unit_test(what_is_refused_ends),
        cmocka_unit_test(ending_while_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
