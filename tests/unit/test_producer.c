// SPDX-License-Identifier: Apache-2.0
//
// The producer core (edge/src/producer.h) between a disk and a server that the test plays. The simulator runs it against the real server.
#include "../support/memory.h"
#include "../support/with_cmocka.h"

#include <edge/src/producer.h>
#include <messages/messages.h>
#include <stdio.h>
#include <string.h>
#include <tallycast/batch.h>
#include <tallycast/limits.h>

#define GROUPS_MAX 2000

struct world {
    struct test_alloc alloc;
    struct tally_producer *core;
    struct tally_producer_options options;
    uint64_t now_ms, drain;
    // The disk.
    struct tally_writer groups[GROUPS_MAX];
    unsigned group_count;
    bool writing, anew;
    struct tally_writer write;
    // What was sent last.
    struct tally_writer request;
    uint64_t number, producer, sequence;
    uint32_t server;
    unsigned sent;
    // What was told.
    unsigned events[8], refuses;
    enum tally_status refuse_status;
    char refused[TALLY_NAME_BYTES_MAX + 1];
    uint64_t dropped;
    // The server that the test plays.
    struct tally_sums counted;
    uint64_t last_producer, last_sequence;
};

static struct tally_bytes text(const char *string) { return tally_bytes(string, strlen(string)); }

static void on_write(void *ctx, bool anew, struct tally_bytes group)
{
    struct world *world = ctx;
    assert_false(world->writing);
    world->writing = true;
    world->anew = anew;
    world->write.size = 0;
    tally_write_raw(&world->write, group.data, group.size);
}

static enum tally_status on_send(void *ctx, uint32_t server, uint64_t request, struct tally_bytes bytes)
{
    struct world *world = ctx;
    struct tally_bytes inner;
    struct tally_batch_reader reader;
    assert_int_equal(tally_request_batch(bytes, &inner), TALLY_OK);
    assert_int_equal(tally_batch_open(inner, &reader), TALLY_OK);
    assert_true(bytes.size <= world->options.batch_bytes_max || !world->options.batch_bytes_max);
    world->producer = reader.header.producer;
    world->sequence = reader.header.sequence;
    world->number = request;
    world->server = server;
    world->sent++;
    world->request.size = 0;
    tally_write_raw(&world->request, bytes.data, bytes.size);
    return TALLY_OK;
}

static void on_refuse(void *ctx, enum tally_counting counting, struct tally_bytes table, enum tally_status status)
{
    struct world *world = ctx;
    (void)counting;
    world->refuses++;
    world->refuse_status = status;
    memcpy(world->refused, table.data, table.size);
    world->refused[table.size] = 0;
}

static void on_event(void *ctx, const struct tally_producer_event *event)
{
    struct world *world = ctx;
    world->events[event->kind]++;
    if (event->kind == TALLY_PRODUCER_EVENT_REFUSED) world->dropped += event->count;
}

static const struct tally_producer_ops ops = {
    .write = on_write, .send = on_send, .refuse = on_refuse, .event = on_event};

static void start(struct world *world)
{
    world->options.dataset = text("main");
    world->options.random += 77;
    if (!world->options.servers) world->options.servers = 2;
    assert_int_equal(tally_producer_create(&world->options, &ops, world, &world->alloc.alloc, &world->core), TALLY_OK);
    for (unsigned i = 0; i < world->group_count; i++)
        assert_int_equal(tally_producer_boot(world->core, tally_writer_bytes(&world->groups[i])), TALLY_OK);
    tally_producer_boot_end(world->core, world->now_ms);
}

static void setup(struct world *world)
{
    *world = (struct world){.now_ms = 1000, .write = test_writer(), .request = test_writer()};
    test_alloc_init(&world->alloc);
    tally_sums_init(&world->counted, (struct tally_seed){1, 2}, &tally_alloc_libc);
}

static void crash(struct world *world)
{
    tally_producer_destroy(&world->core);
    assert_int_equal(world->alloc.blocks, 0);
    world->writing = false;
    world->number = 0;
}

static void teardown(struct world *world)
{
    crash(world);
    for (unsigned i = 0; i < GROUPS_MAX; i++)
        if (world->groups[i].data) test_writer_free(&world->groups[i]);
    test_writer_free(&world->write);
    test_writer_free(&world->request);
    tally_sums_deinit(&world->counted);
}

static void put_group(struct world *world)
{
    if (world->anew) world->group_count = 0;
    assert_true(world->group_count < GROUPS_MAX);
    struct tally_writer *group = &world->groups[world->group_count++];
    if (!group->grow) *group = test_writer();
    group->size = 0;
    tally_write_raw(group, world->write.data, world->write.size);
}

static void written(struct world *world, enum tally_status status)
{
    if (!world->writing) return;
    world->writing = false;
    if (status == TALLY_OK) put_group(world);
    tally_producer_written(world->core, world->now_ms, status);
}

static void settle_disk(struct world *world)
{
    while (world->writing) written(world, TALLY_OK);
}

static void count(struct world *world, const char *table, const char *key, int64_t number)
{
    const struct tally_sum sum = {TALLY_COUNTING_ADD, text(table), text(key), number};
    assert_int_equal(tally_producer_take(world->core, &sum), TALLY_OK);
    tally_producer_taken(world->core, world->now_ms, ++world->drain);
}

static void answer(struct world *world, enum tally_status status)
{
    uint8_t bytes[512];
    struct tally_writer out = tally_writer_fixed(bytes, sizeof bytes);
    struct tally_answer message = {.status = status, .dataset = text("main"), .epoch = 5, .version = 9};
    message.expected_sequence = 1;
    uint64_t number = world->number;
    assert_true(number != 0);
    world->number = 0;
    bool repeat = world->producer == world->last_producer && world->sequence <= world->last_sequence;
    if (status == TALLY_OK && repeat) message.status = TALLY_REPEAT;
    if (status == TALLY_OK && !repeat) {
        world->last_producer = world->producer;
        world->last_sequence = world->sequence;
        struct tally_bytes inner;
        struct tally_batch_reader reader;
        struct tally_entries_reader entries;
        assert_int_equal(tally_request_batch(tally_writer_bytes(&world->request), &inner), TALLY_OK);
        assert_int_equal(tally_batch_open(inner, &reader), TALLY_OK);
        while (tally_batch_next_table(&reader, &entries)) {
            struct tally_sum sum = {.table = entries.table};
            while (tally_entries_next(&entries, &sum.key, &sum.number))
                assert_int_equal(tally_sums_add(&world->counted, &sum), TALLY_OK);
        }
    }
    assert_int_equal(tally_answer_encode(&message, &out), TALLY_OK);
    tally_producer_answer(world->core, world->now_ms, world->server, number, tally_writer_bytes(&out));
}

static int64_t counted(const struct world *world, const char *table, const char *key)
{
    enum tally_counting counting;
    int64_t number = 0;
    (void)!tally_sums_get(&world->counted, TALLY_COUNTING_ADD, text(table), text(key), &counting, &number);
    return number;
}

static bool names(const struct world *world, const char *table)
{
    size_t size = strlen(table);
    for (size_t at = 0; at + size <= world->request.size; at++)
        if (memcmp(world->request.data + at, table, size) == 0) return true;
    return false;
}

// Until nothing waits, with `status` for batches that name the table `poison`.
static void run(struct world *world, const char *poison, enum tally_status status)
{
    for (unsigned i = 0; i < 1000 && !tally_producer_idle(world->core); i++) {
        settle_disk(world);
        if (world->number) {
            bool poisoned = poison && names(world, poison);
            answer(world, poisoned ? status : TALLY_OK);
        } else {
            world->now_ms += 100;
            tally_producer_tick(world->core, world->now_ms);
        }
    }
    assert_true(tally_producer_idle(world->core));
    settle_disk(world);
}

static struct tally_producer_stats stats_of(const struct world *world)
{
    struct tally_producer_stats stats;
    tally_producer_stats(world->core, world->now_ms, &stats);
    return stats;
}

// ---------------------------------------------------------------------------------------------------- tests

static void nothing_is_sent_before_it_is_durable(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    start(&world);
    count(&world, "files", "a", 2);
    assert_int_equal(world.sent, 0);
    assert_int_equal(tally_producer_durable(world.core), 0);
    settle_disk(&world);
    assert_int_equal(world.sent, 1);
    assert_int_equal(tally_producer_durable(world.core), 1);
    // What comes meanwhile is merged, and durable before the batch is answered.
    for (unsigned i = 0; i < 5; i++) count(&world, "files", "a", 1);
    settle_disk(&world);
    assert_int_equal(world.sent, 1);
    assert_int_equal(tally_producer_durable(world.core), 6);
    assert_int_equal(stats_of(&world).waiting, 1);
    answer(&world, TALLY_OK);
    settle_disk(&world);
    assert_int_equal(world.sequence, 2);
    answer(&world, TALLY_OK);
    assert_true(tally_producer_idle(world.core));
    assert_int_equal(counted(&world, "files", "a"), 7);
    teardown(&world);
}

// What is durable when it crashes is counted once, however far it had come; what is not, once or not at all.
static void a_crash_anywhere_counts_once(void **state)
{
    (void)state;
    for (unsigned point = 0; point < 30; point++) {
        struct world world;
        setup(&world);
        start(&world);
        int64_t taken = 0;
        for (unsigned step = 0; step < point; step++) {
            if (step % 3 == 0) count(&world, "files", "a", 1), taken++;
            if (step % 3 == 1) settle_disk(&world);
            if (step % 3 == 2 && step % 2 && world.number) answer(&world, TALLY_OK);
        }
        int64_t durable = (int64_t)tally_producer_durable(world.core);
        // The batch that is on its way has arrived, and its answer is lost, or that it is done was not written.
        if (world.number && point % 2) answer(&world, TALLY_OK);
        crash(&world);
        start(&world);
        run(&world, NULL, TALLY_OK);
        assert_in_range(counted(&world, "files", "a"), durable, taken);
        teardown(&world);
    }
}

static void a_refused_table_is_found_and_the_rest_counted(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    start(&world);
    settle_disk(&world);
    for (unsigned i = 0; i < 30; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%u", i);
        const struct tally_sum sums[] = {{TALLY_COUNTING_ADD, text("files"), text(key), 1},
                                         {TALLY_COUNTING_ADD, text("poisoned"), text(key), 10},
                                         {TALLY_COUNTING_ADD, text("repos"), text(key), 100}};
        for (unsigned t = 0; t < 3; t++) assert_int_equal(tally_producer_take(world.core, &sums[t]), TALLY_OK);
    }
    tally_producer_taken(world.core, world.now_ms, ++world.drain);
    run(&world, "poisoned", TALLY_FORBIDDEN);
    struct tally_producer_stats stats = stats_of(&world);
    assert_int_equal(stats.dropped, 30);
    assert_int_equal(stats.dropped_amount, 300);
    assert_int_equal(world.dropped, 30);
    assert_int_equal(stats.put_back, 1);
    assert_int_equal(world.refuses, 1);
    assert_int_equal(world.refuse_status, TALLY_FORBIDDEN);
    assert_string_equal(world.refused, "poisoned");
    for (unsigned i = 0; i < 30; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%u", i);
        assert_int_equal(counted(&world, "files", key), 1);
        assert_int_equal(counted(&world, "repos", key), 100);
        assert_int_equal(counted(&world, "poisoned", key), 0);
    }
    // Its number was not used; after a while the table is let in again.
    assert_int_equal(stats.sequence, stats.acknowledged + 1);
    world.now_ms += 20000;
    tally_producer_tick(world.core, world.now_ms);
    assert_int_equal(world.refuses, 2);
    assert_int_equal(world.refuse_status, TALLY_OK);
    // And all of that is so after a restart, when the last batch may come again.
    crash(&world);
    start(&world);
    run(&world, NULL, TALLY_OK);
    assert_int_equal(counted(&world, "files", "k7"), 1);
    assert_int_equal(counted(&world, "repos", "k7"), 100);
    assert_int_equal(counted(&world, "poisoned", "k7"), 0);
    teardown(&world);
}

static void a_crash_after_a_refusal_loses_nothing(void **state)
{
    (void)state;
    for (unsigned point = 0; point < 6; point++) {
        struct world world;
        setup(&world);
        start(&world);
        settle_disk(&world);
        const struct tally_sum sums[] = {{TALLY_COUNTING_ADD, text("poisoned"), text("k"), 10},
                                         {TALLY_COUNTING_ADD, text("repos"), text("k"), 100}};
        for (unsigned t = 0; t < 2; t++) assert_int_equal(tally_producer_take(world.core, &sums[t]), TALLY_OK);
        tally_producer_taken(world.core, world.now_ms, ++world.drain);
        settle_disk(&world);
        for (unsigned i = 0; i < point; i++) {
            if (world.number) {
                bool poisoned = names(&world, "poisoned");
                answer(&world, poisoned ? TALLY_INVALID : TALLY_OK);
            }
            if (point % 2) settle_disk(&world); // else the crash comes before the last write
        }
        crash(&world);
        start(&world);
        run(&world, "poisoned", TALLY_INVALID);
        assert_true(counted(&world, "repos", "k") >= 100);
        assert_int_equal(counted(&world, "poisoned", "k"), 0);
        teardown(&world);
    }
}

static void a_server_that_forgot_gets_it_under_another_name(void **state)
{
    (void)state;
    static const enum tally_status forgot[] = {TALLY_UNKNOWN_PRODUCER, TALLY_HOLE};
    for (unsigned i = 0; i < 2; i++) {
        struct world world;
        setup(&world);
        start(&world);
        count(&world, "files", "a", 2);
        run(&world, NULL, TALLY_OK);
        count(&world, "files", "a", 3);
        settle_disk(&world);
        uint64_t id = world.producer;
        unsigned sent = world.sent;
        answer(&world, forgot[i]);
        assert_int_equal(world.sent, sent); // durable first
        settle_disk(&world);
        assert_int_equal(world.sent, sent + 1);
        assert_true(world.producer != id);
        assert_int_equal(world.sequence, 1);
        id = world.producer;
        crash(&world);
        start(&world);
        settle_disk(&world);
        assert_int_equal(world.producer, id);
        run(&world, NULL, TALLY_OK);
        assert_int_equal(counted(&world, "files", "a"), 5);
        assert_int_equal(world.events[TALLY_PRODUCER_EVENT_RENAMED], 1);
        teardown(&world);
    }
}

static void what_cannot_be_taken_now_comes_again_elsewhere(void **state)
{
    (void)state;
    static const enum tally_status later[] = {TALLY_BUSY, TALLY_NO_SPACE, TALLY_CORRUPT, TALLY_WRONG_DATASET,
                                              TALLY_MALFORMED};
    struct world world;
    setup(&world);
    start(&world);
    count(&world, "files", "a", 2);
    settle_disk(&world);
    for (unsigned i = 0; i < sizeof later / sizeof *later; i++) {
        uint32_t server = world.server;
        unsigned sent = world.sent;
        answer(&world, later[i]);
        assert_int_equal(world.sent, sent); // not at once
        world.now_ms = tally_producer_due(world.core);
        tally_producer_tick(world.core, world.now_ms);
        assert_int_equal(world.sent, sent + 1);
        assert_true(world.server != server);
        assert_int_equal(world.sequence, 1);
    }
    // No answer at all.
    world.now_ms = tally_producer_due(world.core);
    uint64_t late = world.number;
    tally_producer_tick(world.core, world.now_ms);
    world.now_ms = tally_producer_due(world.core);
    tally_producer_tick(world.core, world.now_ms);
    assert_true(world.number > late);
    run(&world, NULL, TALLY_OK);
    assert_int_equal(counted(&world, "files", "a"), 2);
    assert_int_equal(stats_of(&world).resends, 6);
    teardown(&world);
}

static void a_disk_that_fails_holds_up_but_loses_nothing(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    start(&world);
    settle_disk(&world);
    count(&world, "files", "a", 2);
    for (unsigned i = 0; i < 5; i++) {
        written(&world, TALLY_NO_SPACE);
        assert_int_equal(world.sent, 0);
        assert_int_equal(tally_producer_durable(world.core), 0);
        assert_true(stats_of(&world).failing);
        count(&world, "files", "b", 1);
        world.now_ms = tally_producer_due(world.core);
        tally_producer_tick(world.core, world.now_ms);
        assert_true(world.writing && world.anew); // all of it, and not in a hot loop
    }
    assert_int_equal(world.events[TALLY_PRODUCER_EVENT_WRITTEN], 1);
    run(&world, NULL, TALLY_OK);
    assert_int_equal(counted(&world, "files", "a"), 2);
    assert_int_equal(counted(&world, "files", "b"), 5);
    assert_int_equal(world.events[TALLY_PRODUCER_EVENT_WRITTEN], 2);
    teardown(&world);
}

static void the_gate_keeps_the_spool_bounded(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    world.options.spool_bytes_max = 4000;
    world.options.rewrite_bytes_min = 1000;
    world.options.reserve_bytes = 100;
    world.options.batch_bytes_max = 1000;
    start(&world);
    unsigned keys = 0;
    char key[64];
    for (; tally_producer_gate(world.core) == TALLY_OK; keys++) {
        (void)snprintf(key, sizeof key, "a key of some length %04u", keys);
        count(&world, "files", key, 1);
        settle_disk(&world);
        assert_true(keys < 1000);
    }
    assert_int_equal(world.events[TALLY_PRODUCER_EVENT_FULL], 1);
    const struct tally_sum old = {.table = text("files"), .key = text(key)},
                           fresh = {.table = text("files"), .key = text("new")};
    assert_true(tally_producer_known(world.core, &old));
    assert_false(tally_producer_known(world.core, &fresh));
    for (unsigned i = 0; i < 500; i++) { // merged further: the file does not grow without end
        count(&world, "files", key, 1);
        settle_disk(&world);
        assert_true(stats_of(&world).spool_bytes < 2 * 4000 + 1000);
    }
    assert_true(stats_of(&world).rewrites > 1);
    run(&world, NULL, TALLY_OK);
    assert_int_equal(tally_producer_gate(world.core), TALLY_OK);
    assert_int_equal(world.events[TALLY_PRODUCER_EVENT_FULL], 2);
    assert_int_equal(counted(&world, "files", key), 501);
    assert_int_equal(tally_sums_count(&world.counted), keys);
    teardown(&world);
}

static void an_id_is_taken_once(void **state)
{
    (void)state;
    struct world world;
    setup(&world);
    start(&world);
    for (uint64_t id = 1; id <= 10; id++) {
        assert_int_equal(tally_producer_take_once(world.core, id), TALLY_OK);
        count(&world, "files", "a", 1);
        settle_disk(&world);
    }
    assert_int_equal(tally_producer_take_once(world.core, 3), TALLY_REPEAT);
    assert_true(tally_producer_took_once(world.core, 3));
    assert_false(tally_producer_took_once(world.core, 11));
    for (unsigned i = 0; i < 2; i++) {
        crash(&world);
        start(&world);
        settle_disk(&world);
        for (uint64_t id = 1; id <= 10; id++) assert_int_equal(tally_producer_take_once(world.core, id), TALLY_REPEAT);
    }
    run(&world, NULL, TALLY_OK);
    for (uint64_t id = 11; id <= 10 + TALLY_PRODUCER_ONCE_MAX; id++) {
        assert_int_equal(tally_producer_take_once(world.core, id), TALLY_OK);
        if (id % 100 == 0) count(&world, "files", "a", 1), settle_disk(&world);
    }
    count(&world, "files", "a", 1);
    settle_disk(&world);
    assert_int_equal(tally_producer_take_once(world.core, 10), TALLY_OK); // forgotten
    assert_int_equal(tally_producer_take_once(world.core, 12), TALLY_REPEAT);
    teardown(&world);
}

// Any bytes: a status, no harm, no leak.
static void a_spool_of_any_bytes(void **state)
{
    (void)state;
    struct world world, good;
    setup(&good);
    start(&good);
    count(&good, "files", "a", 2);
    settle_disk(&good);
    count(&good, "repos", "b", 3);
    settle_disk(&good);
    assert_true(good.group_count >= 2);
    for (unsigned g = 0; g < good.group_count; g++) {
        const struct tally_writer *group = &good.groups[g];
        for (size_t at = 0; at < group->size; at++) {
            for (unsigned what = 0; what < 3; what++) {
                setup(&world);
                world.options.dataset = text("main");
                world.options.servers = 1;
                assert_int_equal(tally_producer_create(&world.options, &ops, &world, &world.alloc.alloc, &world.core),
                                 TALLY_OK);
                for (unsigned i = 0; i < g; i++)
                    assert_int_equal(tally_producer_boot(world.core, tally_writer_bytes(&good.groups[i])), TALLY_OK);
                uint8_t *copy = test_exact_copy(group->data, what == 2 ? at : group->size);
                if (what < 2) copy[at] ^= what ? 0xff : 1;
                enum tally_status status =
                    tally_producer_boot(world.core, tally_bytes(copy, what == 2 ? at : group->size));
                assert_true(status == TALLY_OK || status == TALLY_MALFORMED || status == TALLY_UNSUPPORTED ||
                            status == TALLY_WRONG_DATASET || status == TALLY_LIMIT || status == TALLY_CORRUPT);
                free(copy);
                teardown(&world);
            }
        }
    }
    setup(&world);
    world.options = (struct tally_producer_options){.dataset = text("other"), .servers = 1};
    assert_int_equal(tally_producer_create(&world.options, &ops, &world, &world.alloc.alloc, &world.core), TALLY_OK);
    assert_int_equal(tally_producer_boot(world.core, tally_writer_bytes(&good.groups[0])), TALLY_WRONG_DATASET);
    teardown(&world);
    teardown(&good);
}

static void wrong_options(void **state)
{
    (void)state;
    struct tally_producer *core;
    const struct tally_producer_options wrong[] = {
        {.dataset = text("Main"), .servers = 1},
        {.dataset = text("main"), .servers = 0},
        {.dataset = text("main"), .servers = TALLY_PRODUCER_SERVERS_MAX + 1},
        {.dataset = text("main"), .servers = 1, .batch_bytes_max = TALLY_BATCH_BYTES_MAX + 1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(tally_producer_create(&wrong[i], &ops, NULL, &tally_alloc_libc, &core), TALLY_INVALID);
}

// Each request for memory fails once, in turn: nothing is lost, counted twice or leaked.
static void without_memory(void **state)
{
    (void)state;
    for (size_t nth = 1; nth < 120; nth++) {
        struct world world;
        setup(&world);
        start(&world);
        settle_disk(&world);
        world.alloc.fail_at = world.alloc.requests + nth;
        int64_t taken = 0;
        for (unsigned i = 0; i < 12; i++) {
            char key[16];
            (void)snprintf(key, sizeof key, "k%u", i);
            const struct tally_sum sums[] = {{TALLY_COUNTING_ADD, text("files"), text("all"), 1},
                                             {TALLY_COUNTING_ADD, text("repos"), text(key), 1}};
            enum tally_status status = tally_producer_take(world.core, &sums[0]);
            if (status == TALLY_OK) status = tally_producer_take(world.core, &sums[1]);
            if (status != TALLY_OK) {
                assert_int_equal(status, TALLY_NO_MEMORY);
                tally_producer_untake(world.core);
                continue;
            }
            tally_producer_taken(world.core, world.now_ms, ++world.drain);
            taken++;
            settle_disk(&world);
            if (i % 4 == 3 && world.number) answer(&world, i % 8 == 3 ? TALLY_OK : TALLY_FORBIDDEN);
        }
        world.alloc.fail_at = 0;
        run(&world, NULL, TALLY_OK);
        struct tally_producer_stats stats = stats_of(&world);
        assert_int_equal(counted(&world, "files", "all") +
                             (int64_t)(stats.dropped ? taken - counted(&world, "files", "all") : 0),
                         taken);
        teardown(&world);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_sent_before_it_is_durable),
        cmocka_unit_test(a_crash_anywhere_counts_once),
        cmocka_unit_test(a_refused_table_is_found_and_the_rest_counted),
        cmocka_unit_test(a_crash_after_a_refusal_loses_nothing),
        cmocka_unit_test(a_server_that_forgot_gets_it_under_another_name),
        cmocka_unit_test(what_cannot_be_taken_now_comes_again_elsewhere),
        cmocka_unit_test(a_disk_that_fails_holds_up_but_loses_nothing),
        cmocka_unit_test(the_gate_keeps_the_spool_bounded),
        cmocka_unit_test(an_id_is_taken_once),
        cmocka_unit_test(a_spool_of_any_bytes),
        cmocka_unit_test(wrong_options),
        cmocka_unit_test(without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
