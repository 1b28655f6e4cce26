// SPDX-License-Identifier: Apache-2.0
//
// Batches to tallycast-server by NNG: a REQ context for each producer, with one batch on its way, as the command line sends them.
#include <messages/messages.h>
#include <nng/nng.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <tallycast/batch.h>

#include "load_ingest.h"

enum { BATCH_TABLES = 4, REQUEST_BATCH = 1, SEND_MS = 60000 };

struct producer {
    struct load *load;
    nng_ctx ctx;
    nng_aio *aio;
    uint64_t id, sequence;
    bool sending;
    struct tally_writer out;
};

struct tally_peer {
    nng_socket socket;
    struct producer *producers;
    pthread_mutex_t mutex; // of `running`
    pthread_cond_t done;
    size_t running;
};

// The tables of a Batch, and nothing before them: dataset, producer and number come when it is sent.
static struct tally_bytes encode(struct load *load, const struct load_batch *batch)
{
    struct tally_writer out = tally_writer_growable(&tally_alloc_libc);
    struct tally_batch_writer writer = {.out = &out,
                                        .body = tally_writer_growable(&tally_alloc_libc),
                                        .entries = tally_writer_growable(&tally_alloc_libc),
                                        .amounts = tally_writer_growable(&tally_alloc_libc)};
    tally_batch_table_begin(&writer, tally_bytes("downloads", 9));
    for (size_t i = 0; i < batch->count; i++)
        tally_batch_add(&writer, load->keys[batch->events[i].key], (int64_t)batch->events[i].amount);
    tally_batch_table_end(&writer);
    if (writer.body.failed || writer.entries.failed || writer.amounts.failed) load_fail("no memory");
    tally_writer_free(&writer.entries);
    tally_writer_free(&writer.amounts);
    return tally_writer_bytes(&writer.body);
}

static void finished(struct load *load)
{
    struct tally_peer *peer = load->own;
    pthread_mutex_lock(&peer->mutex);
    if (--peer->running == 0) pthread_cond_signal(&peer->done);
    pthread_mutex_unlock(&peer->mutex);
}

static void send_next(struct producer *producer)
{
    const struct load_batch *batch = load_take(producer->load);
    if (!batch) {
        finished(producer->load);
        return;
    }
    uint8_t head[64], front[16];
    struct tally_writer body = tally_writer_fixed(head, sizeof head), request = tally_writer_fixed(front, sizeof front);
    tally_write_bytes(&body, 1, tally_bytes("main", 4));
    tally_write_fixed64(&body, 2, producer->id);
    tally_write_uint(&body, 3, ++producer->sequence);
    size_t size = body.size + batch->bytes.size;
    tally_write_varint(&request, REQUEST_BATCH << 3 | TALLY_WIRE_BYTES);
    tally_write_varint(&request, size);
    nng_msg *message;
    if (nng_msg_alloc(&message, request.size + size + TALLY_SEAL_BYTES)) load_fail("no memory");
    struct tally_writer out = tally_writer_fixed(nng_msg_body(message), nng_msg_len(message));
    tally_write_raw(&out, front, request.size);
    tally_write_raw(&out, head, body.size);
    tally_write_raw(&out, batch->bytes.data, batch->bytes.size);
    tally_seal(&out, 0);
    if (out.failed || out.size != nng_msg_len(message)) load_fail("a batch does not fit");
    nng_aio_set_msg(producer->aio, message);
    producer->sending = true;
    nng_ctx_send(producer->ctx, producer->aio);
}

// NNG's thread: sent, then answered, then the next.
static void on_done(void *argument)
{
    struct producer *producer = argument;
    int failed = nng_aio_result(producer->aio);
    if (failed) load_fail(nng_strerror(failed));
    if (producer->sending) {
        producer->sending = false;
        nng_ctx_recv(producer->ctx, producer->aio);
        return;
    }
    nng_msg *message = nng_aio_get_msg(producer->aio);
    struct tally_answer answer;
    if (tally_answer_decode(&tally_alloc_libc, tally_bytes(nng_msg_body(message), nng_msg_len(message)), &answer))
        load_fail("an answer does not decode");
    if (answer.status) load_fail(tally_status_str(answer.status));
    tally_answer_free(&tally_alloc_libc, &answer);
    nng_msg_free(message);
    send_next(producer);
}

static void open_socket(struct load *load)
{
    struct tally_peer *peer = load_memory(sizeof *peer);
    load->own = peer;
    pthread_mutex_init(&peer->mutex, NULL);
    pthread_cond_init(&peer->done, NULL);
    if (nng_req0_open(&peer->socket) || nng_dial(peer->socket, load->where, NULL, 0)) load_fail(load->where);
    peer->producers = load_memory(load->in_flight * sizeof *peer->producers);
    for (size_t i = 0; i < load->in_flight; i++) {
        struct producer *producer = &peer->producers[i];
        *producer = (struct producer){.load = load, .id = load_random(load) | 1};
        if (nng_ctx_open(&producer->ctx, peer->socket) || nng_aio_alloc(&producer->aio, on_done, producer))
            load_fail("no memory");
        (void)nng_ctx_set_ms(producer->ctx, NNG_OPT_REQ_RESENDTIME, SEND_MS);
    }
}

static void run(struct load *load)
{
    struct tally_peer *peer = load->own;
    peer->running = load->in_flight;
    for (size_t i = 0; i < load->in_flight; i++) send_next(&peer->producers[i]);
    pthread_mutex_lock(&peer->mutex);
    while (peer->running) pthread_cond_wait(&peer->done, &peer->mutex);
    pthread_mutex_unlock(&peer->mutex);
}

const struct load_peer load_tally = {"tally", encode, open_socket, run};
