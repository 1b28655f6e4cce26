// SPDX-License-Identifier: Apache-2.0
//
// A host in plain C that follows a server as an edge does: it subscribes, asks for what it lacks, and has every version in a mirror of its
// own. Prints a line for each version that it came to: epoch, version, and the values of the keys it was told ("-" where there is none).
//
//   cc follow.c -o follow $(pkg-config --cflags --libs tallycast) -lnng
//   ./follow tcp://127.0.0.1:7702 tcp://127.0.0.1:7703 main files nng/README.md nng/src/nng.c
//
// It is the whole of docs/protocol.md, "Following", but for holding early frames: what does not fit is asked for.
#include <nng/nng.h>
#include <nng/protocol/pubsub0/sub.h>
#include <nng/protocol/reqrep0/req.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tallycast/memory.h>
#include <tallycast/mirror.h>

#define QUIET_MS  2000 // a server that says nothing for so long is asked
#define ANSWER_MS 5000

static const char *dataset, *table, *const *keys;
static struct tally_memory memory;
static struct tally_mirror *mirror;
static struct tally_reader reader;

static struct tally_bytes text(const char *string) { return tally_bytes(string, strlen(string)); }

static void check(int code, const char *what)
{
    if (!code) return;
    fprintf(stderr, "%s: %s\n", what, nng_strerror(code));
    exit(1);
}

static struct tally_view_info held(void)
{
    struct tally_view view;
    struct tally_view_info info;
    tally_view_pin(&reader, &view);
    tally_view_info(&view, &info);
    tally_view_unpin(&view);
    return info;
}

// All of a line is read through one view: it is of one version.
static void show(void)
{
    struct tally_view view;
    struct tally_view_info info;
    uint32_t number;
    int64_t value;
    tally_view_pin(&reader, &view);
    tally_view_info(&view, &info);
    printf("%016llx %llu", (unsigned long long)info.epoch, (unsigned long long)info.version);
    for (const char *const *key = keys; *key; key++) {
        if (tally_view_table(&view, text(table), &number) || tally_view_get(&view, number, text(*key), &value))
            printf(" -");
        else
            printf(" %lld", (long long)value);
    }
    printf("\n");
    fflush(stdout);
    tally_view_unpin(&view);
}

static enum tally_status take(struct tally_bytes frame)
{
    enum tally_status status = tally_mirror_apply(mirror, &memory, frame);
    if (status == TALLY_OK) show();
    return status;
}

// ---------------------------------------------------------------------------------------------------- asking

// A CatchUp of what is held (nothing, when from_nothing); the cursor of the last answer, if it had one, is said again.
static bool ask(nng_socket req, bool from_nothing, struct tally_bytes cursor, nng_msg **out_answer)
{
    uint8_t inside[512], outside[600];
    struct tally_writer catch_up = tally_writer_fixed(inside, sizeof inside);
    struct tally_writer request = tally_writer_fixed(outside, sizeof outside);
    struct tally_view_info info = held();
    tally_write_bytes(&catch_up, 1, text(dataset));
    tally_write_fixed64(&catch_up, 2, from_nothing ? 0 : info.epoch);
    tally_write_uint(&catch_up, 3, from_nothing ? 0 : info.version);
    if (cursor.size) tally_write_bytes(&catch_up, 4, cursor);
    tally_write_bytes(&request, 3, tally_writer_bytes(&catch_up));
    tally_seal(&request, 0);
    return nng_send(req, request.data, request.size, 0) == 0 && nng_recvmsg(req, out_answer, 0) == 0;
}

struct answer {
    uint64_t status, version;
    struct tally_bytes frame, cursor;
};

static enum tally_status parse(nng_msg *message, struct answer *out_answer)
{
    struct tally_bytes inner;
    struct tally_wire_field field;
    enum tally_status status = tally_unseal(tally_bytes(nng_msg_body(message), nng_msg_len(message)), &inner);
    struct tally_wire wire = tally_wire(inner);
    *out_answer = (struct answer){0};
    while (!status && !(status = tally_wire_next(&wire, &field))) {
        if (field.number == 1) out_answer->status = field.value;
        if (field.number == 5) out_answer->version = field.value;
        if (field.number == 7) out_answer->frame = field.bytes;
        if (field.number == 8) out_answer->cursor = field.bytes;
    }
    return status == TALLY_NOT_FOUND ? TALLY_OK : status;
}

// Until the newest version is held. What fails is tried again by the caller, who hears or does not hear from the server.
static void catch_up(nng_socket req)
{
    uint8_t place[64];
    struct tally_bytes cursor = tally_bytes(place, 0);
    bool from_nothing = false;
    for (;;) {
        nng_msg *message;
        struct answer answer;
        if (!ask(req, from_nothing, cursor, &message)) return;
        enum tally_status status = parse(message, &answer);
        if (status || (answer.status && answer.status != TALLY_GONE) || answer.cursor.size > sizeof place) {
            fprintf(stderr, "not answered: %s\n", tally_status_str(status ? status : (enum tally_status)answer.status));
            nng_msg_free(message);
            return;
        }
        cursor.size = 0;
        bool last = !answer.status && !answer.frame.size;
        if (answer.frame.size) {
            fprintf(stderr, "caught up by %zu bytes\n", answer.frame.size);
            status = take(answer.frame);
            from_nothing = status == TALLY_DIGEST_MISMATCH;
            if (status == TALLY_MORE && answer.cursor.size) {
                memcpy(place, answer.cursor.data, answer.cursor.size);
                cursor.size = answer.cursor.size;
            }
            last = status != TALLY_MORE && !from_nothing && held().version >= answer.version;
        }
        nng_msg_free(message);
        if (last) return;
    }
}

// ---------------------------------------------------------------------------------------------------- hearing

// A published message without its topic: whether something is missing.
static bool hear(const uint8_t *body, size_t size)
{
    struct tally_bytes sealed = tally_bytes(body + 1, size - 1), inner;
    if (*body == 'F') {
        enum tally_status status = take(sealed);
        return status != TALLY_OK && status != TALLY_MORE && status != TALLY_OLD;
    }
    struct tally_wire_field field;
    uint64_t epoch = 0, version = 0, now_ms = 0;
    if (tally_unseal(sealed, &inner)) return false;
    for (struct tally_wire wire = tally_wire(inner); !tally_wire_next(&wire, &field);) {
        if (field.number == 2) epoch = field.value;
        if (field.number == 3) version = field.value;
        if (field.number == 5) now_ms = field.value;
    }
    tally_mirror_confirm(mirror, epoch, version, now_ms);
    struct tally_view_info info = held();
    return epoch > info.epoch || (epoch == info.epoch && version > info.version);
}

int main(int argc, char **argv)
{
    nng_socket sub, req;
    if (argc < 6) {
        fprintf(stderr, "usage: follow PUBLISH-URL CATCHUP-URL DATASET TABLE KEY...\n");
        return 2;
    }
    dataset = argv[3];
    table = argv[4];
    keys = (const char *const *)argv + 5;
    struct tally_mirror_options options = {.dataset = text(dataset)};
    if (tally_memory_map((size_t)4 << 30, TALLY_MEMORY_HUGE, &memory) ||
        tally_mirror_init(&memory, &options, &mirror) || tally_reader_open(mirror, &reader))
        return 1;
    size_t topic = strlen(dataset) + 1; // with its NUL
    check(nng_sub0_open(&sub), "sub");
    check(nng_req0_open(&req), "req");
    check(nng_socket_set(sub, NNG_OPT_SUB_SUBSCRIBE, dataset, topic), "subscribe");
    check(nng_socket_set_int(sub, NNG_OPT_RECVBUF, 1024), "buffer");
    check(nng_socket_set_size(sub, NNG_OPT_RECVMAXSZ, TALLY_ANSWER_BYTES_MAX), "limit"); // before dialing
    check(nng_socket_set_size(req, NNG_OPT_RECVMAXSZ, TALLY_ANSWER_BYTES_MAX), "limit");
    check(nng_socket_set_ms(sub, NNG_OPT_RECVTIMEO, QUIET_MS), "time-out");
    check(nng_socket_set_ms(req, NNG_OPT_RECVTIMEO, ANSWER_MS), "time-out");
    check(nng_socket_set_ms(req, NNG_OPT_SENDTIMEO, ANSWER_MS), "time-out");
    check(nng_socket_set_ms(sub, NNG_OPT_RECONNMINT, 100), "reconnect");
    check(nng_socket_set_ms(sub, NNG_OPT_RECONNMAXT, 2000), "reconnect");
    check(nng_dial(sub, argv[1], NULL, NNG_FLAG_NONBLOCK), argv[1]);
    check(nng_dial(req, argv[2], NULL, NNG_FLAG_NONBLOCK), argv[2]);
    for (bool missing = true;;) {
        nng_msg *message;
        if (missing) catch_up(req);
        int code = nng_recvmsg(sub, &message, 0);
        missing = code != 0; // silence: ask
        if (code) continue;
        if (nng_msg_len(message) > topic + 1)
            missing = hear((const uint8_t *)nng_msg_body(message) + topic, nng_msg_len(message) - topic);
        nng_msg_free(message);
    }
}
