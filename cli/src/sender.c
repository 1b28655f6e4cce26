// SPDX-License-Identifier: Apache-2.0
#include "sender.h"

#include <errno.h>
#include <io/endpoint.h>
#include <messages/messages.h>
#include <nng/protocol/reqrep0/req.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli.h"

#define RESEND_MS        10000 // NNG asks again after so long without an answer
#define BACKOFF_MS       50    // after a busy answer, doubled to
#define BACKOFF_MS_MAX   2000
#define ANSWER_BYTES_MAX (64u << 10)

enum lane_state {
    LANE_NEW, // must learn its sequence first
    LANE_FREE,
    LANE_SENDING, // with NNG: request or answer on its way
    LANE_WAITING, // put off until retry_ms
};

struct lane {
    struct cli_sender *sender;
    unsigned number;
    nng_ctx ctx;
    nng_aio *aio;
    bool receiving;        // which half of the exchange `aio` is in; NNG's thread only, while SENDING
    bool asking;           // the request is a Hello
    enum lane_state state; // main thread
    uint64_t producer, sequence, events;
    struct tally_writer request;
    uint64_t retry_ms, backoff_ms;
    // Set by NNG's thread as the last thing (release), taken by the main thread (acquire): `aio` is at rest
    // then.
    atomic_bool arrived;
    int result;
};

struct cli_sender {
    nng_socket socket;
    int wake_fd;
    struct tally_bytes dataset;
    const char *url;
    struct lane lanes[CLI_LANES_MAX];
    unsigned lane_count;
    struct tally_writer body, entries, amounts;
    int (*keep)(void *ctx, uint64_t producer, uint64_t sequence, uint64_t events, struct tally_bytes request);
    void *ctx;
    struct cli_sender_figures figures;
    uint64_t heard_ms;
    bool told_unreachable;
    char told_busy[160];
    atomic_int pipes; // connections: 0 or 1
    bool connected_once;
};

static void wake(struct cli_sender *sender)
{
    uint64_t one = 1;
    while (write(sender->wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

// NNG's thread: request sent, then answer there, then over to the main thread.
static void on_lane(void *argument)
{
    struct lane *lane = argument;
    int result = nng_aio_result(lane->aio);
    if (result == 0 && !lane->receiving) {
        lane->receiving = true;
        nng_ctx_recv(lane->ctx, lane->aio);
        return;
    }
    if (result != 0 && !lane->receiving) {
        nng_msg *message = nng_aio_get_msg(lane->aio);
        if (message) nng_msg_free(message);
        nng_aio_set_msg(lane->aio, NULL);
    }
    lane->result = result;
    atomic_store_explicit(&lane->arrived, true, memory_order_release);
    wake(lane->sender);
}

static void on_pipe(nng_pipe pipe, nng_pipe_ev event, void *argument)
{
    (void)pipe;
    struct cli_sender *sender = argument;
    if (event == NNG_PIPE_EV_ADD_POST) atomic_fetch_add(&sender->pipes, 1);
    if (event == NNG_PIPE_EV_REM_POST) atomic_fetch_sub(&sender->pipes, 1);
    wake(sender);
}

static int lane_send(struct lane *lane)
{
    nng_msg *message;
    int error = nng_msg_alloc(&message, 0);
    if (error == 0 && (error = nng_msg_append(message, lane->request.data, lane->request.size)) != 0)
        nng_msg_free(message);
    if (error != 0) {
        cli_complain("cannot send a batch: %s", nng_strerror(error));
        return CLI_UNREACHABLE;
    }
    lane->state = LANE_SENDING;
    lane->receiving = false;
    nng_aio_set_msg(lane->aio, message);
    nng_ctx_send(lane->ctx, lane->aio);
    return CLI_DONE;
}

// -------------------------------------------------------------------------------------------- open and close

static uint64_t random_producer(void)
{
    uint64_t id = 0;
    while (id == 0 || tally_producer_once(id))
        if (getrandom(&id, sizeof id, 0) != (ssize_t)sizeof id) id = 0;
    return id;
}

static int lane_open(struct cli_sender *sender, unsigned number, uint64_t producer)
{
    struct lane *lane = &sender->lanes[number];
    lane->sender = sender;
    lane->number = number;
    lane->producer = producer ? producer : random_producer();
    lane->request = tally_writer_growable(&tally_alloc_libc);
    lane->state = LANE_FREE;
    int error = nng_aio_alloc(&lane->aio, on_lane, lane);
    if (error == 0 && (error = nng_ctx_open(&lane->ctx, sender->socket)) != 0) nng_aio_free(lane->aio);
    if (error == 0) {
        sender->lane_count++;
        error = nng_ctx_set_ms(lane->ctx, NNG_OPT_REQ_RESENDTIME, RESEND_MS);
    }
    if (error != 0) {
        cli_complain("cannot set up: %s", nng_strerror(error));
        return CLI_UNREACHABLE;
    }
    if (!producer || sender->keep) return CLI_DONE;
    lane->state = LANE_NEW;
    lane->asking = true;
    struct tally_hello hello = {sender->dataset, producer};
    if (tally_hello_encode(&hello, &lane->request) != TALLY_OK) {
        cli_complain("out of memory");
        return CLI_UNREACHABLE;
    }
    return lane_send(lane);
}

static int open_socket(struct cli_sender *sender, const struct cli_sender_options *options)
{
    int error = nng_req0_open(&sender->socket);
    if (error != 0) {
        cli_complain("cannot open a socket: %s", nng_strerror(error));
        return CLI_UNREACHABLE;
    }
    nng_pipe_notify(sender->socket, NNG_PIPE_EV_ADD_POST, on_pipe, sender);
    nng_pipe_notify(sender->socket, NNG_PIPE_EV_REM_POST, on_pipe, sender);
    struct tally_tls tls = {.cert = options->tls_cert, .key = options->tls_key, .ca = options->tls_ca};
    bool has_tls = tls.cert || tls.key || tls.ca;
    struct tally_endpoint_options endpoint = {.receive_bytes_max = ANSWER_BYTES_MAX, .tls = has_tls ? &tls : NULL};
    struct tally_reason reason;
    nng_dialer dialer;
    enum tally_status status = tally_endpoint_dial(sender->socket, "to", options->url, &endpoint, &dialer, &reason);
    if (status == TALLY_OK) return CLI_DONE;
    cli_complain("%s", reason.text);
    return status == TALLY_INVALID ? CLI_WRONG_USE : CLI_UNREACHABLE;
}

int cli_sender_open(const struct cli_sender_options *options, struct cli_sender **out_sender)
{
    struct cli_sender *sender = calloc(1, sizeof *sender);
    if (!sender) {
        cli_complain("out of memory");
        return CLI_UNREACHABLE;
    }
    sender->dataset = tally_bytes(options->dataset, strlen(options->dataset));
    sender->url = options->url;
    sender->keep = options->keep;
    sender->ctx = options->ctx;
    sender->body = tally_writer_growable(&tally_alloc_libc);
    sender->entries = tally_writer_growable(&tally_alloc_libc);
    sender->amounts = tally_writer_growable(&tally_alloc_libc);
    sender->heard_ms = cli_now_ms();
    sender->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int code = CLI_DONE;
    if (sender->wake_fd < 0) {
        cli_complain("cannot set up: %s", strerror(errno));
        code = CLI_UNREACHABLE;
    }
    if (code == CLI_DONE) code = open_socket(sender, options);
    for (unsigned i = 0; code == CLI_DONE && i < options->lanes; i++) code = lane_open(sender, i, options->producer);
    if (code == CLI_DONE)
        *out_sender = sender;
    else
        cli_sender_end(&sender);
    return code;
}

void cli_sender_end(struct cli_sender **sender)
{
    // No callback runs from here on. The socket and what NNG may still point to stay: nng_close (1.5.2) can wait for ever while a
    // connection is being made, and the process that calls this is about to end.
    for (unsigned i = 0; *sender && i < (*sender)->lane_count; i++) nng_aio_stop((*sender)->lanes[i].aio);
    *sender = NULL;
}

// --------------------------------------------------------------------------------------------------- answers

static int put_off(struct lane *lane, const char *why)
{
    struct cli_sender *sender = lane->sender;
    lane->backoff_ms = lane->backoff_ms ? lane->backoff_ms * 2 : BACKOFF_MS;
    if (lane->backoff_ms > BACKOFF_MS_MAX) lane->backoff_ms = BACKOFF_MS_MAX;
    lane->retry_ms = cli_now_ms() + lane->backoff_ms;
    lane->state = LANE_WAITING;
    // Once a reason, not once a try.
    if (strncmp(sender->told_busy, why, sizeof sender->told_busy - 1) != 0) {
        snprintf(sender->told_busy, sizeof sender->told_busy, "%s", why);
        cli_complain("the server cannot take a batch now, trying again: %s", why);
    }
    return CLI_DONE;
}

static int refused(const struct lane *lane, const char *why)
{
    lane->sender->figures.refused += lane->events;
    cli_complain("the server refused a batch: %s", why);
    cli_complain("none of its %llu events were counted; %llu events before it were acknowledged",
                 (unsigned long long)lane->events, (unsigned long long)lane->sender->figures.events);
    return CLI_REFUSED;
}

static int take_answer(struct lane *lane, const struct tally_answer *answer)
{
    struct cli_sender_figures *figures = &lane->sender->figures;
    char why[512];
    const char *status = tally_status_str(answer->status);
    bool more = answer->message.size && !tally_bytes_equal(answer->message, tally_bytes(status, strlen(status)));
    snprintf(why, sizeof why, "%s%s%.*s", status, more ? ": " : "", more ? (int)answer->message.size : 0,
             more ? (const char *)answer->message.data : "");
    switch ((int)answer->status) {
    case TALLY_REPEAT:
        figures->repeats++;
        // fall through
    case TALLY_OK:
        lane->state = LANE_FREE;
        lane->backoff_ms = 0;
        lane->sender->told_busy[0] = 0;
        if (lane->asking) {
            lane->asking = false;
            lane->sequence = answer->expected_sequence ? answer->expected_sequence - 1 : 0;
            return CLI_DONE;
        }
        figures->events += lane->events;
        figures->batches++;
        figures->bytes += lane->request.size;
        if (answer->version > figures->version) figures->version = answer->version;
        return CLI_DONE;
    case TALLY_UNKNOWN_PRODUCER:
        if (lane->asking) {
            lane->asking = false;
            lane->state = LANE_FREE;
            return CLI_DONE;
        }
        // fall through
    case TALLY_HOLE:
        cli_complain("the server has forgotten this producer: it expects batch %llu, and %llu were "
                     "acknowledged. Was its data "
                     "lost or put back to an earlier state?",
                     (unsigned long long)answer->expected_sequence, (unsigned long long)lane->sequence - 1);
        return CLI_REFUSED;
    case TALLY_BUSY:
    case TALLY_NO_MEMORY:
    case TALLY_NO_SPACE:
    case TALLY_IO:
    case TALLY_TIMEOUT:
    case TALLY_UNREACHABLE: return put_off(lane, why);
    default: return refused(lane, why);
    }
}

static int take_arrival(struct lane *lane)
{
    if (lane->result != 0) return put_off(lane, nng_strerror(lane->result));
    nng_msg *message = nng_aio_get_msg(lane->aio);
    nng_aio_set_msg(lane->aio, NULL);
    lane->sender->heard_ms = cli_now_ms();
    lane->sender->told_unreachable = false;
    struct tally_answer answer;
    enum tally_status status =
        tally_answer_decode(&tally_alloc_libc, tally_bytes(nng_msg_body(message), nng_msg_len(message)), &answer);
    int code;
    if (status == TALLY_OK) {
        code = take_answer(lane, &answer);
        tally_answer_free(&tally_alloc_libc, &answer);
    } else if (status == TALLY_NO_MEMORY || status == TALLY_CORRUPT) {
        code = put_off(lane, tally_status_str(status)); // what was counted is told again: the batch repeats
    } else {
        cli_complain("what answers at %s is no tallycast server: %s", lane->sender->url, tally_status_str(status));
        code = CLI_REFUSED;
    }
    nng_msg_free(message);
    return code;
}

static void tell_connection(struct cli_sender *sender)
{
    bool connected = atomic_load(&sender->pipes) > 0;
    uint64_t now = cli_now_ms();
    if (connected && !sender->figures.connected && sender->told_unreachable) {
        cli_complain("connected to %s", sender->url);
        sender->told_unreachable = false;
    }
    if (!connected && sender->figures.connected) sender->heard_ms = now;
    sender->connected_once |= connected;
    sender->figures.connected = connected;
    // Half a second of silence before a word: a restart is often shorter.
    if (connected || sender->told_unreachable || now - sender->heard_ms < 500) return;
    cli_complain("%s %s; trying again until it answers",
                 sender->connected_once ? "lost the connection to" : "cannot reach", sender->url);
    sender->told_unreachable = true;
}

int cli_sender_work(struct cli_sender *sender)
{
    uint64_t drained;
    while (read(sender->wake_fd, &drained, sizeof drained) > 0) {
    }
    uint64_t now = cli_now_ms();
    sender->figures.in_flight = 0;
    int code = CLI_DONE;
    for (unsigned i = 0; code == CLI_DONE && i < sender->lane_count; i++) {
        struct lane *lane = &sender->lanes[i];
        if (atomic_exchange_explicit(&lane->arrived, false, memory_order_acquire)) code = take_arrival(lane);
        if (code == CLI_DONE && lane->state == LANE_WAITING && now >= lane->retry_ms) code = lane_send(lane);
        if (lane->state != LANE_FREE) sender->figures.in_flight++;
    }
    tell_connection(sender);
    return code;
}

static struct lane *free_lane(struct cli_sender *sender)
{
    for (unsigned i = 0; i < sender->lane_count; i++)
        if (sender->lanes[i].state == LANE_FREE) return &sender->lanes[i];
    return NULL;
}

bool cli_sender_ready(const struct cli_sender *sender) { return free_lane((struct cli_sender *)sender) != NULL; }
int cli_sender_wake_fd(const struct cli_sender *sender) { return sender->wake_fd; }

int cli_sender_send(struct cli_sender *sender, struct cli_merge *merge)
{
    struct lane *lane = free_lane(sender);
    struct tally_batch_header header = {sender->dataset, lane->producer, lane->sequence + 1};
    lane->request.size = sender->body.size = sender->entries.size = sender->amounts.size = 0;
    struct tally_batch_writer writer = {
        .out = &lane->request, .body = sender->body, .entries = sender->entries, .amounts = sender->amounts};
    uint64_t events = cli_merge_events(merge);
    enum tally_status status = cli_merge_take(merge, &header, &writer);
    // The writer worked on copies; their memory may have grown.
    sender->body = writer.body;
    sender->entries = writer.entries;
    sender->amounts = writer.amounts;
    if (status != TALLY_OK) {
        cli_complain("cannot make a batch: %s", tally_status_str(status));
        return CLI_UNREACHABLE;
    }
    if (sender->figures.in_flight++ == 0) sender->heard_ms = cli_now_ms();
    lane->sequence++;
    lane->events = events;
    int code = CLI_DONE;
    if (sender->keep)
        code = sender->keep(sender->ctx, lane->producer, lane->sequence, events, tally_writer_bytes(&lane->request));
    return code == CLI_DONE ? lane_send(lane) : code;
}

int cli_sender_resume(struct cli_sender *sender, uint64_t sequence, struct tally_bytes request)
{
    struct lane *lane = &sender->lanes[0];
    lane->sequence = sequence;
    lane->events = 0;
    if (!sequence) return CLI_DONE;
    tally_write_raw(&lane->request, request.data, request.size);
    if (lane->request.failed) {
        cli_complain("out of memory");
        return CLI_UNREACHABLE;
    }
    sender->figures.in_flight++;
    sender->heard_ms = cli_now_ms();
    return lane_send(lane);
}

void cli_sender_figures(const struct cli_sender *sender, struct cli_sender_figures *out_figures)
{
    *out_figures = sender->figures;
}

uint64_t cli_sender_silent_ms(const struct cli_sender *sender)
{
    return sender->figures.in_flight ? cli_now_ms() - sender->heard_ms : 0;
}
