// SPDX-License-Identifier: Apache-2.0
//
// The edge's spool, the file and what is in its groups: the first byte of an input says what the rest is.
//
//   0  the file, behind its first line
//   1  the groups, each with its size before it (fuzz_next): they get checks that fit, so that damage reaches what is behind the check
//
// Whatever is there, the edge starts with it or says why not. What it starts with is written anew, and another start from that makes the same
// of it; then all of it is sent, under one producer id, with sequence numbers that do not go back, in requests that a server takes.
#include "fuzz.h"

#include <edge/src/producer.h>
#include <edge/store/spool.h>
#include <fcntl.h>
#include <io/log.h>
#include <messages/messages.h>
#include <string.h>
#include <tallycast/batch.h>
#include <tallycast/limits.h>
#include <tallycast/siphash.h>
#include <unistd.h>

#define ROUNDS 200u

static char directory[] = "/tmp/tallycast-fuzz-spool-XXXXXX";
static char path[sizeof directory + sizeof "/count.spool"];

struct life {
    struct test_alloc alloc;
    struct tally_producer *producer;
    struct tally_writer group; // written last
    bool writing, sending;
    uint64_t request, id, sequence; // of the batch that was sent last
};

static void on_write(void *ctx, bool anew, struct tally_bytes group)
{
    struct life *life = ctx;
    (void)anew;
    FUZZ_CHECK(!life->writing);
    life->writing = true;
    life->group.size = 0;
    tally_write_raw(&life->group, group.data, group.size);
}

static enum tally_status on_send(void *ctx, uint32_t server, uint64_t request, struct tally_bytes bytes)
{
    struct life *life = ctx;
    struct tally_bytes inner;
    struct tally_batch_reader reader;
    (void)server;
    FUZZ_CHECK(tally_request_batch(bytes, &inner) == TALLY_OK);
    FUZZ_CHECK(tally_batch_open(inner, &reader) == TALLY_OK);
    FUZZ_CHECK(!life->id || reader.header.producer == life->id);
    FUZZ_CHECK(reader.header.sequence > life->sequence);
    life->id = reader.header.producer;
    life->sequence = reader.header.sequence;
    life->request = request;
    life->sending = true;
    return TALLY_OK;
}

static void on_refuse(void *ctx, enum tally_counting counting, struct tally_bytes table, enum tally_status status)
{
    (void)ctx, (void)counting, (void)table, (void)status;
}

static const struct tally_producer_ops ops = {.write = on_write, .send = on_send, .refuse = on_refuse};

static void life_begin(struct life *life)
{
    const struct tally_producer_options options = {
        .dataset = tally_bytes("main", 4), .servers = 1, .random = 7, .seed = {1, 2}};
    *life = (struct life){.group = test_writer()};
    test_alloc_init(&life->alloc);
    FUZZ_CHECK(tally_producer_create(&options, &ops, life, &life->alloc.alloc, &life->producer) == TALLY_OK);
}

static void life_end(struct life *life)
{
    tally_producer_destroy(&life->producer);
    FUZZ_CHECK(life->alloc.blocks == 0);
    test_writer_free(&life->group);
}

static enum tally_status on_group(void *ctx, struct tally_bytes group)
{
    struct life *life = ctx;
    uint8_t *exact = test_exact_copy(group.data, group.size);
    enum tally_status status = tally_producer_boot(life->producer, tally_bytes(exact, group.size));
    free(exact);
    return status;
}

static void put(int file, const void *data, size_t size) { FUZZ_CHECK(write(file, data, size) == (ssize_t)size); }

static void put_file(uint8_t what, struct tally_bytes input)
{
    int file = open(path, O_WRONLY | O_CREAT, 0600); // not O_TRUNC, after which a close may wait for the disk
    struct tally_bytes group;
    FUZZ_CHECK(file >= 0);
    put(file, "TALLYS1\n", 8);
    if (what % 2 == 0) put(file, input.data, input.size);
    while (what % 2 && fuzz_next(&input, &group)) {
        uint8_t head[12];
        tally_store32(head, (uint32_t)group.size);
        tally_store64(head + 4, tally_siphash((struct tally_seed){0x7473616379616c6cu, 0x74}, group.data, group.size));
        put(file, head, sizeof head);
        put(file, group.data, group.size);
    }
    FUZZ_CHECK(!ftruncate(file, lseek(file, 0, SEEK_CUR)));
    close(file);
}

static enum tally_status boot(struct life *life)
{
    struct tally_spool *spool;
    struct tally_reason reason;
    FUZZ_CHECK(tally_spool_open(directory, &spool, &reason) == TALLY_OK);
    enum tally_status status = tally_spool_boot(spool, on_group, life, &reason);
    tally_spool_close(&spool);
    return status;
}

static void answer(struct life *life, uint64_t now_ms)
{
    uint8_t bytes[256];
    struct tally_writer out = tally_writer_fixed(bytes, sizeof bytes);
    const struct tally_answer message = {
        .status = TALLY_OK, .dataset = tally_bytes("main", 4), .epoch = 1, .version = 1};
    FUZZ_CHECK(tally_answer_encode(&message, &out) == TALLY_OK);
    life->sending = false;
    tally_producer_answer(life->producer, now_ms, 0, life->request, tally_writer_bytes(&out));
}

static void send_all(struct life *life)
{
    for (unsigned round = 0; round < ROUNDS && !tally_producer_idle(life->producer); round++) {
        if (life->writing) {
            life->writing = false;
            tally_producer_written(life->producer, round, TALLY_OK);
        } else if (life->sending) {
            answer(life, round);
        } else {
            tally_producer_tick(life->producer, round);
            FUZZ_CHECK(life->writing || life->sending || tally_producer_idle(life->producer)); // or it waits for ever
        }
    }
    FUZZ_CHECK(tally_producer_idle(life->producer));
}

static void clean(void)
{
    (void)!unlink(path);
    (void)!rmdir(directory);
}

static void prepare(void)
{
    FUZZ_CHECK(mkdtemp(directory));
    (void)snprintf(path, sizeof path, "%s/count.spool", directory);
    atexit(clean);
    tally_log_configure(TALLY_LOG_ERROR, TALLY_LOG_LOGFMT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct life first, second;
    if (!path[0]) prepare();
    if (size < 1) return 0;
    put_file(data[0], tally_bytes(data + 1, size - 1));
    life_begin(&first);
    enum tally_status status = boot(&first);
    FUZZ_CHECK(status == TALLY_OK || status == TALLY_CORRUPT || status == TALLY_MALFORMED ||
               status == TALLY_UNSUPPORTED || status == TALLY_WRONG_DATASET || status == TALLY_FULL);
    if (status == TALLY_OK) {
        life_begin(&second);
        tally_producer_boot_end(first.producer, 0);
        FUZZ_CHECK(first.writing);
        FUZZ_CHECK(on_group(&second, tally_writer_bytes(&first.group)) == TALLY_OK);
        tally_producer_boot_end(second.producer, 0);
        FUZZ_CHECK(tally_bytes_equal(tally_writer_bytes(&first.group), tally_writer_bytes(&second.group)));
        send_all(&first);
        life_end(&second);
    }
    life_end(&first);
    return 0;
}
