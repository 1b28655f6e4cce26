// SPDX-License-Identifier: Apache-2.0
//
// The edge's sync core over a real mirror: an input is several events (fuzz.h), each a byte that says what happens, a byte for details, and bytes
// for it: published frames and heartbeats, answers, made and raw; ticks; connections. Whatever comes, (epoch, version) never goes
// back, memory stays bounded, and the core is not in a hurry for ever.
#include "../support/build.h"
#include "fuzz.h"

#include <edge/src/sync.h>
#include <messages/messages.h>
#include <tallycast/memory.h>

enum { MEMORY = 32 << 20, EVENTS = 200, SERVERS = 2, EARLY_BYTES = 64 << 10 };

struct world {
    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_reader reader;
    struct test_alloc alloc;
    struct tally_sync *sync;
    struct tally_sync_now now;
    struct tally_view_info last;
    uint64_t request;
    uint32_t asked;
    unsigned sends;
};

static void see(struct world *world, struct tally_view_info *out_info)
{
    struct tally_view view;
    tally_view_pin(&world->reader, &view);
    tally_view_info(&view, out_info);
    tally_view_unpin(&view);
}

static enum tally_status on_apply(void *ctx, struct tally_bytes frame)
{
    struct world *world = ctx;
    return tally_mirror_apply(world->mirror, &world->memory, frame);
}

static void on_confirm(void *ctx, uint64_t epoch, uint64_t version, uint64_t now_ms)
{
    struct world *world = ctx;
    tally_mirror_confirm(world->mirror, epoch, version, now_ms);
}

static void on_abandon(void *ctx)
{
    struct world *world = ctx;
    tally_mirror_abandon(world->mirror, &world->memory);
}

static void on_held(void *ctx, struct tally_view_info *out_info) { see(ctx, out_info); }

static enum tally_status on_send(void *ctx, uint32_t server, uint64_t request, struct tally_bytes bytes)
{
    struct world *world = ctx;
    struct tally_request decoded;
    FUZZ_CHECK(server < SERVERS && request != world->request);
    FUZZ_CHECK(tally_request_decode(&tally_alloc_libc, bytes, &decoded) == TALLY_OK);
    FUZZ_CHECK(decoded.what == TALLY_REQUEST_CATCH_UP);
    tally_request_free(&tally_alloc_libc, &decoded);
    world->request = request;
    world->asked = server;
    world->sends++;
    return TALLY_OK;
}

static const struct tally_sync_ops ops = {
    .apply = on_apply, .confirm = on_confirm, .abandon = on_abandon, .held = on_held, .send = on_send};

static void publish(struct world *world, uint32_t server, enum tally_published_what what, struct tally_bytes payload)
{
    struct tally_writer out = test_writer();
    struct tally_bytes sealed = fuzz_reseal(payload);
    tally_published_begin(&out, test_text("main"), what);
    tally_write_raw(&out, sealed.data, sealed.size);
    uint8_t *exact = test_exact_copy(out.data, out.size);
    tally_sync_message(world->sync, world->now, server, tally_bytes(exact, out.size));
    free(exact);
    fuzz_free(sealed);
    test_writer_free(&out);
}

// An answer around a frame, as a server would send it.
static void answer(struct world *world, struct tally_bytes payload)
{
    struct tally_writer out = test_writer();
    struct tally_bytes frame = fuzz_reseal(payload);
    struct tally_frame_reader reader;
    struct tally_answer made = {.dataset = test_text("main"), .frame = frame};
    if (tally_frame_open(frame, &reader) == TALLY_OK) {
        made.epoch = reader.header.epoch;
        made.version = reader.header.to;
        made.has_cursor = reader.header.more;
        made.cursor = (struct tally_whole_cursor){reader.header.epoch, reader.header.to, reader.header.chunk + 1, 1, 1};
    }
    FUZZ_CHECK(tally_answer_encode(&made, &out) == TALLY_OK);
    tally_sync_answer(world->sync, world->now, world->asked, world->request, tally_writer_bytes(&out));
    fuzz_free(frame);
    test_writer_free(&out);
}

static void event(struct world *world, uint8_t what, uint8_t detail, struct tally_bytes payload)
{
    uint32_t server = detail % SERVERS;
    struct tally_bytes sealed;
    switch (what % 10) {
    case 0:
    case 1: publish(world, server, TALLY_PUBLISHED_FRAME, payload); break;
    case 2: publish(world, server, TALLY_PUBLISHED_HEARTBEAT, payload); break;
    case 3: tally_sync_message(world->sync, world->now, server, payload); break;
    case 4:
    case 5: answer(world, payload); break;
    case 6:
        sealed = fuzz_reseal(payload);
        tally_sync_answer(world->sync, world->now, world->asked, world->request, sealed);
        fuzz_free(sealed);
        break;
    case 7:
        world->now.monotonic_ms += (uint64_t)detail * 50;
        world->now.unix_ms += (uint64_t)detail * 100 - 5000;
        tally_sync_tick(world->sync, world->now);
        break;
    case 8:
        if (detail & 2)
            tally_sync_connected(world->sync, world->now, server);
        else
            tally_sync_disconnected(world->sync, world->now, server);
        break;
    default:
        tally_sync_answer_failed(world->sync, world->now, world->asked, world->request,
                                 (enum tally_status)(detail % 28));
        break;
    }
}

static void check(struct world *world)
{
    struct tally_view_info info;
    see(world, &info);
    FUZZ_CHECK(info.epoch > world->last.epoch ||
               (info.epoch == world->last.epoch && info.version >= world->last.version));
    if (info.epoch == world->last.epoch && info.version == world->last.version)
        FUZZ_CHECK(tally_digest_equal(info.digest, world->last.digest));
    world->last = info;
    const struct tally_sync_stats *stats = tally_sync_stats(world->sync);
    FUZZ_CHECK(stats->early_bytes <= EARLY_BYTES && stats->early_frames <= 16);
    struct tally_sync_info sync;
    tally_sync_info(world->sync, world->now, &sync);
    FUZZ_CHECK(sync.held.version == info.version && sync.newest >= info.version);
    // What is due can be done: ticking at that time a few times over leads to a later one.
    uint64_t due = tally_sync_due(world->sync);
    unsigned before = world->sends;
    for (unsigned i = 0; i < 3 && due <= world->now.monotonic_ms; i++) {
        tally_sync_tick(world->sync, world->now);
        due = tally_sync_due(world->sync);
    }
    FUZZ_CHECK(due > world->now.monotonic_ms && world->sends - before <= 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct world world = {.now = {1000, 1732300000000}};
    const struct tally_mirror_options mirror = {.dataset = test_text("main")};
    const struct tally_sync_options options = {.dataset = test_text("main"),
                                               .servers = SERVERS,
                                               .random = size,
                                               .early_frames_max = 16,
                                               .early_bytes_max = EARLY_BYTES};
    test_alloc_init(&world.alloc);
    FUZZ_CHECK(tally_memory_map(MEMORY, 0, &world.memory) == TALLY_OK);
    FUZZ_CHECK(tally_mirror_init(&world.memory, &mirror, &world.mirror) == TALLY_OK);
    FUZZ_CHECK(tally_reader_open(world.mirror, &world.reader) == TALLY_OK);
    FUZZ_CHECK(tally_sync_create(&options, &ops, &world, &world.alloc.alloc, &world.sync) == TALLY_OK);
    tally_sync_connected(world.sync, world.now, 0);

    struct tally_bytes input = tally_bytes(data, size), message;
    for (unsigned i = 0; i < EVENTS && fuzz_next(&input, &message); i++) {
        if (message.size < 2) continue;
        event(&world, message.data[0], message.data[1], tally_bytes(message.data + 2, message.size - 2));
        check(&world);
    }
    tally_sync_destroy(&world.sync);
    FUZZ_CHECK(world.alloc.blocks == 0);
    tally_reader_close(&world.reader);
    tally_memory_unmap(&world.memory);
    return 0;
}
