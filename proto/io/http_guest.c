// SPDX-License-Identifier: Apache-2.0
#include "http_guest.h"

#include <assert.h>
#include <netinet/tcp.h>
#include <stdlib.h>

// A guest says nothing but control frames; more than this in one message ends it with 1009 before it is read.
#define INPUT_MESSAGE_BYTES_MAX 4096u
// Pongs and the like that wait for a write to end; while there are so many, nothing more is read.
#define CONTROLS_MAX 16u
// For the other side to close, too.
#define CLOSING_MS 2000u
// The kernel takes no more than this beyond what is on its way, so that a slow guest's next message is chosen late.
#define UNSENT_BYTES 131072

static const struct tally_http_options *options_of(const struct http_guest *guest)
{
    return &guest->connection->thread->http->options;
}

static uint64_t now_of(const struct http_guest *guest) { return uv_now(&guest->connection->thread->loop); }

static void count(_Atomic uint64_t *counter, uint64_t more)
{
    atomic_fetch_add_explicit(counter, more, memory_order_relaxed);
}

// ---------------------------------------------------------------------------------------------------- framing

// wslay gives the head of a frame and then its payload, which stays where it is.
static ssize_t framer_send(const uint8_t *data, size_t size, int flags, void *user_data)
{
    struct http_guests *guests = user_data;
    (void)flags;
    if (guests->head && guests->head_size + size <= GUEST_HEAD_BYTES) {
        memcpy(guests->head + guests->head_size, data, size);
        guests->head_size += size;
    }
    guests->head = NULL; // what comes next is the payload
    return (ssize_t)size;
}

static bool frame_head(struct http_guest *guest, unsigned index)
{
    struct http_guests *guests = &guest->connection->thread->guests;
    const struct tally_message *message = guest->messages[index];
    struct wslay_frame_iocb frame = {.fin = 1,
                                     .opcode = WSLAY_BINARY_FRAME,
                                     .payload_length = message->size,
                                     .data = message->data,
                                     .data_length = message->size};
    guests->head = guest->heads[index];
    guests->head_size = 0;
    ssize_t sent = wslay_frame_send(guests->framer, &frame);
    guest->head_sizes[index] = guests->head_size;
    return sent == (ssize_t)message->size && guests->head_size;
}

// ---------------------------------------------------------------------------------------------------- events of wslay

static ssize_t on_input(wslay_event_context_ptr socket, uint8_t *buffer, size_t size, int flags, void *user_data)
{
    struct http_guest *guest = user_data;
    (void)flags;
    if (guest->input_size == 0) {
        wslay_event_set_error(socket, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (size > guest->input_size) size = guest->input_size;
    memcpy(buffer, guest->input, size);
    guest->input += size;
    guest->input_size -= size;
    return (ssize_t)size;
}

static ssize_t on_control(wslay_event_context_ptr socket, const uint8_t *data, size_t size, int flags, void *user_data)
{
    struct http_guest *guest = user_data;
    size_t room = GUEST_CONTROL_BYTES - guest->control_size;
    (void)flags;
    if (room == 0) {
        wslay_event_set_error(socket, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    if (size > room) size = room;
    memcpy(guest->control + guest->control_size, data, size);
    guest->control_size += size;
    return (ssize_t)size;
}

static void on_message(wslay_event_context_ptr socket, const struct wslay_event_on_msg_recv_arg *message,
                       void *user_data)
{
    (void)socket;
    if (!wslay_is_ctrl_frame(message->opcode))
        http_guest_close(user_data, GUEST_CLOSE_UNASKED, "this stream takes no messages");
}

static const struct wslay_event_callbacks event_callbacks = {
    .recv_callback = on_input, .send_callback = on_control, .on_msg_recv_callback = on_message};

// ---------------------------------------------------------------------------------------------------- writing

static void pump(struct http_guest *guest);

static void messages_release(struct http_guest *guest)
{
    for (unsigned i = 0; i < guest->messages_count; i++) tally_message_release(guest->messages[i]);
    guest->messages_count = 0;
    guest->control_size = 0;
}

static void on_written(uv_write_t *write, int failed)
{
    struct http_connection *connection = write->data;
    struct http_guest *guest = connection->guest;
    if (connection->state != HTTP_STATE_STREAMING) return; // closing: freed with the connection
    guest->writing = false;
    messages_release(guest);
    if (failed) {
        http_connection_close(connection);
        return;
    }
    if (wslay_event_get_close_sent(guest->socket)) {
        http_connection_linger(connection);
        return;
    }
    http_connection_read(connection, true);
    pump(guest);
}

static void write_out(struct http_guest *guest)
{
    struct http_connection *connection = guest->connection;
    uv_buf_t buffers[1 + 2 * TALLY_PACE_RUN_CHANGES];
    unsigned buffers_count = 0;
    uint64_t bytes = guest->control_size;
    if (guest->control_size)
        buffers[buffers_count++] = uv_buf_init((char *)guest->control, (unsigned)guest->control_size);
    for (unsigned i = 0; i < guest->messages_count; i++) {
        struct tally_message *message = guest->messages[i];
        if (!frame_head(guest, i)) {
            http_connection_close(connection);
            return;
        }
        buffers[buffers_count++] = uv_buf_init((char *)guest->heads[i], (unsigned)guest->head_sizes[i]);
        buffers[buffers_count++] = uv_buf_init((char *)message->data, (unsigned)message->size);
        bytes += guest->head_sizes[i] + message->size;
    }
    if (buffers_count == 0) return;
    struct http_counters *counters = &connection->thread->counters;
    count(&counters->stream_messages, guest->messages_count);
    count(&counters->stream_bytes, bytes);
    connection->write.data = connection;
    if (uv_write(&connection->write, (uv_stream_t *)&connection->tcp, buffers, buffers_count, on_written)) {
        http_connection_close(connection);
        return;
    }
    guest->writing = true;
    guest->moved_ms = now_of(guest);
    guest->unsent_seen = http_connection_unsent(connection);
}

// What can be written now: control frames first, and whatever the guest's place asks for.
static void pump(struct http_guest *guest)
{
    if (guest->writing || guest->connection->state != HTTP_STATE_STREAMING) return;
    // Who is closed here has no message, only the end to hear.
    if (!guest->closing && !wslay_event_get_close_received(guest->socket)) http_guest_pick(guest);
    if (wslay_event_want_write(guest->socket) && wslay_event_send(guest->socket)) {
        http_connection_close(guest->connection);
        return;
    }
    write_out(guest);
}

void http_guests_pump_at(struct http_thread *thread, uint64_t epoch, uint64_t version)
{
    for (struct http_guest *guest = thread->guests.first, *next; guest; guest = next) {
        next = guest->next;
        if (guest->pace.epoch == epoch && guest->pace.version == version) pump(guest);
    }
}

// The applier waits for pinned versions: those who hold one lose it. That costs them their place, and nobody else anything.
static void relieve(struct http_thread *thread)
{
    uint64_t presses = tally_feed_presses(thread->http->options.feed);
    if (presses == thread->guests.presses) return;
    thread->guests.presses = presses;
    for (struct http_guest *guest = thread->guests.first; guest; guest = guest->next)
        if (guest->parts && !guest->parts->frame)
            http_guest_close(guest, GUEST_CLOSE_SLOW, "too slow: the memory that the whole state holds is needed");
}

void http_guests_pump(struct http_thread *thread)
{
    if (!thread->guests.first) return;
    relieve(thread);
    // A guest that is picked for may go to the end of the list, or out of it.
    struct http_guest *last = NULL, *next;
    for (struct http_guest *guest = thread->guests.first; guest; guest = guest->next) last = guest;
    for (struct http_guest *guest = thread->guests.first; guest; guest = next) {
        bool end = guest == last;
        next = end ? NULL : guest->next;
        pump(guest);
    }
}

void http_guest_close(struct http_guest *guest, enum guest_close code, const char *reason)
{
    if (guest->closing) return;
    guest->closing = true;
    guest->closing_ms = now_of(guest);
    http_guest_let_go(guest);
    struct http_counters *counters = &guest->connection->thread->counters;
    switch (code) {
    case GUEST_CLOSE_SILENT: count(&counters->streams_silent, 1); break;
    case GUEST_CLOSE_SLOW: count(&counters->streams_slow, 1); break;
    case GUEST_CLOSE_UNASKED: count(&counters->streams_rude, 1); break;
    case GUEST_CLOSE_FAILED: count(&counters->streams_failed, 1); break;
    case GUEST_CLOSE_STOPPING: break;
    }
    // Without memory for it the connection ends by CLOSING_MS.
    (void)wslay_event_queue_close(guest->socket, (uint16_t)code, (const uint8_t *)reason, strlen(reason));
}

// ---------------------------------------------------------------------------------------------------- reading

void http_guest_receive(struct http_connection *connection, const uint8_t *data, size_t size)
{
    struct http_guest *guest = connection->guest;
    bool refused = !wslay_event_get_read_enabled(guest->socket) || guest->closing;
    guest->heard_ms = now_of(guest);
    guest->pinged = false;
    guest->input = data;
    guest->input_size = size;
    int failed = wslay_event_recv(guest->socket);
    guest->input_size = 0;
    if (failed == WSLAY_ERR_NOMEM) {
        http_connection_close(connection);
        return;
    }
    // wslay found no WebSocket in it, or too much, and has queued the end.
    bool stopped = !wslay_event_get_read_enabled(guest->socket) && !wslay_event_get_close_received(guest->socket);
    if (!refused && !guest->closing && (failed || stopped)) {
        guest->closing = true;
        guest->closing_ms = now_of(guest);
        http_guest_let_go(guest);
        count(&connection->thread->counters.streams_rude, 1);
    }
    if (wslay_event_get_queued_msg_count(guest->socket) > CONTROLS_MAX) http_connection_read(connection, false);
    pump(guest);
}

// ---------------------------------------------------------------------------------------------------- time

static void ping(struct http_guest *guest, uint64_t now_ms)
{
    const struct wslay_event_msg message = {.opcode = WSLAY_PING};
    if (wslay_event_queue_msg(guest->socket, &message)) return;
    guest->pinged = true;
    guest->pinged_ms = now_ms;
}

void http_guest_sweep(struct http_connection *connection, uint64_t now_ms)
{
    struct http_guest *guest = connection->guest;
    uint64_t idle_ms = options_of(guest)->stream_idle_ms;
    if (guest->closing && now_ms - guest->closing_ms >= CLOSING_MS) {
        http_connection_close(connection);
        return;
    }
    if (guest->writing) {
        size_t unsent = http_connection_unsent(connection);
        if (unsent != guest->unsent_seen) {
            guest->unsent_seen = unsent;
            guest->moved_ms = now_ms;
        } else if (now_ms - guest->moved_ms >= idle_ms) {
            count(&connection->thread->counters.streams_silent, 1);
            http_connection_close(connection); // there is no way to say why
            return;
        }
    }
    if (connection->thread->stopping) http_guest_close(guest, GUEST_CLOSE_STOPPING, "stopping: connect again");
    if (guest->parts && now_ms >= guest->parts->deadline_ms)
        http_guest_close(guest, GUEST_CLOSE_SLOW, "too slow: a change in parts was not taken in time");
    if (guest->pinged && now_ms - guest->pinged_ms >= idle_ms)
        http_guest_close(guest, GUEST_CLOSE_SILENT, "silent: a ping was not answered");
    else if (!guest->pinged && !guest->closing && now_ms - guest->heard_ms >= idle_ms / 3)
        ping(guest, now_ms);
    pump(guest);
}

// ---------------------------------------------------------------------------------------------------- begin and end

enum tally_status http_guest_create(struct http_connection *connection, uint64_t epoch, uint64_t version,
                                    const char *answer)
{
    size_t answer_size = strlen(answer);
    struct http_guest *guest = calloc(1, sizeof *guest);
    if (!guest) return TALLY_NO_MEMORY;
    if (wslay_event_context_server_init(&guest->socket, &event_callbacks, guest)) {
        free(guest);
        return TALLY_NO_MEMORY;
    }
    assert(answer_size <= GUEST_CONTROL_BYTES);
    wslay_event_config_set_max_recv_msg_length(guest->socket, INPUT_MESSAGE_BYTES_MAX);
    memcpy(guest->control, answer, answer_size);
    guest->control_size = answer_size;
    guest->connection = connection;
    guest->pace = tally_pace(epoch, version);
    connection->guest = guest;
    return TALLY_OK;
}

static void unlink_guest(struct http_guest *guest)
{
    struct http_guests *guests = &guest->connection->thread->guests;
    if (!guest->link) return;
    *guest->link = guest->next;
    if (guest->next)
        guest->next->link = guest->link;
    else
        guests->end = guest->link;
    guest->link = NULL;
}

static void link_guest(struct http_guest *guest)
{
    struct http_guests *guests = &guest->connection->thread->guests;
    guest->next = NULL;
    guest->link = guests->end;
    *guests->end = guest;
    guests->end = &guest->next;
}

void http_guest_start(struct http_connection *connection, const uint8_t *rest, size_t size)
{
    struct http_guest *guest = connection->guest;
    struct http_guests *guests = &connection->thread->guests;
    int fd, unsent = UNSENT_BYTES;
    connection->state = HTTP_STATE_STREAMING;
    guest->heard_ms = now_of(guest);
    link_guest(guest);
    // Before the first pick: whatever comes after that wakes this thread.
    atomic_fetch_add(&guests->count, 1);
    atomic_fetch_sub(&connection->thread->http->connections, 1);
    count(&connection->thread->counters.streams, 1);
    if (!uv_fileno((uv_handle_t *)&connection->tcp, &fd))
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
    http_connection_read(connection, true);
    if (connection->state != HTTP_STATE_STREAMING) return;
    if (size)
        http_guest_receive(connection, rest, size);
    else
        pump(guest);
}

void http_guest_to_end(struct http_guest *guest)
{
    unlink_guest(guest);
    link_guest(guest);
}

void http_guest_end(struct http_connection *connection)
{
    struct http_guest *guest = connection->guest;
    if (!guest || !guest->link) return;
    http_guest_let_go(guest);
    unlink_guest(guest);
    atomic_fetch_sub(&connection->thread->guests.count, 1);
    atomic_fetch_sub(&connection->thread->http->streams, 1);
}

void http_guest_free(struct http_connection *connection)
{
    struct http_guest *guest = connection->guest;
    if (!guest) return;
    messages_release(guest);
    wslay_event_context_free(guest->socket);
    free(guest);
    connection->guest = NULL;
}

enum tally_status http_guests_init(struct http_thread *thread)
{
    static const struct wslay_frame_callbacks callbacks = {.send_callback = framer_send};
    struct http_guests *guests = &thread->guests;
    guests->end = &guests->first;
    return wslay_frame_context_init(&guests->framer, &callbacks, guests) ? TALLY_NO_MEMORY : TALLY_OK;
}

void http_guests_deinit(struct http_thread *thread)
{
    assert(!thread->guests.first && !thread->guests.parts);
    if (thread->guests.framer) wslay_frame_context_free(thread->guests.framer);
    thread->guests.framer = NULL;
    http_guests_merge_free(thread);
}
