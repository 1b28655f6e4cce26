// SPDX-License-Identifier: Apache-2.0
//
// What becomes of a batch, seen through the server: verdicts now, verdicts with the record, and that both agree.
#include "../support/with_cmocka.h"

#include "../support/count_model.h"
#include "../support/server_world.h"

static void expect(struct server_world *world, uint64_t token, enum tally_status status, uint64_t version,
                   uint64_t next)
{
    server_world_expect(world, token, status, version, next);
}

static void test_verdicts(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    assert_int_equal(server_world_start(world), TALLY_OK);
    server_world_send(world, 1, 7, 1, "t/a t/b");
    assert_false(server_world_answered(world, 1)); // not before it is durable
    server_world_send(world, 2, 7, 1, "t/a t/b");  // a repeat of what is pending waits with it
    server_world_send(world, 3, 7, 3, "t/a");
    expect(world, 3, TALLY_HOLE, 0, 2);
    server_world_send(world, 4, 8, 2, "t/a");
    expect(world, 4, TALLY_UNKNOWN_PRODUCER, 0, 1);
    server_world_send(world, 5, 7, 2, "t/a=5");
    assert_int_equal(server_world_tick(world), TALLY_OK);
    expect(world, 1, TALLY_OK, 1, 2);
    expect(world, 2, TALLY_OK, 1, 2);
    expect(world, 5, TALLY_OK, 1, 3);
    server_world_send(world, 6, 7, 1, "t/a t/b"); // a repeat of what is durable is answered at once
    expect(world, 6, TALLY_REPEAT, 1, 3);
    server_world_send(world, 7, 7, 3, "t/a=-1");
    expect(world, 7, TALLY_INVALID, 1, 3);
    server_world_send(world, 8, 7, 3, "t/a=4"); // the number was not used up
    assert_int_equal(server_world_tick(world), TALLY_OK);
    expect(world, 8, TALLY_OK, 2, 4);
    assert_int_equal(server_world_get(world, 9, "t", "a"), 10);
    assert_int_equal(server_world_get(world, 10, "t", "b"), 1);
    assert_int_equal(server_world_get(world, 11, "t", "c"), -1);
    assert_int_equal(server_world_get(world, 12, "none", "a"), -1);
    // A tick without batches makes no version.
    uint64_t appends = world->log.appends;
    assert_int_equal(server_world_tick(world), TALLY_OK);
    assert_int_equal(world->log.appends, appends);
    server_world_end(world);
}

static void test_tables_that_are_closed(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    assert_int_equal(server_world_start(world), TALLY_OK);
    server_world_send(world, 1, 7, 1, "t/a");
    assert_int_equal(server_world_tick(world), TALLY_OK);
    server_world_crash(world);
    struct tally_table_names allowed = {.count = 1, .sizes = {1}, .names = {"w"}};
    world->options.tables_closed = true;
    world->options.tables_allowed = &allowed;
    assert_int_equal(server_world_start(world), TALLY_OK);
    server_world_send(world, 2, 7, 2, "t/a u/b");
    expect(world, 2, TALLY_FORBIDDEN, 1, 2);
    server_world_send(world, 3, 7, 2, "t/z -u/b"); // to remove from a table that is not there begins none
    assert_int_equal(server_world_tick(world), TALLY_OK);
    expect(world, 3, TALLY_OK, 2, 3);
    server_world_send(world, 4, 7, 3, "w/a"); // one that was allowed
    server_world_send(world, 5, 7, 4, "w/a ww/a");
    expect(world, 5, TALLY_FORBIDDEN, 2, 4);
    assert_int_equal(server_world_tick(world), TALLY_OK);
    expect(world, 4, TALLY_OK, 3, 4);
    server_world_end(world);
}

// However many begin a table at the same time, it is one table.
static void test_many_producers_begin_one_table(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    assert_int_equal(server_world_start(world), TALLY_OK);
    for (uint64_t i = 1; i <= 1000; i++) server_world_send(world, i, i, 1, "t/a u/b t/c");
    assert_int_equal(server_world_tick(world), TALLY_OK);
    for (uint64_t i = 1; i <= 1000; i++) server_world_expect(world, i, TALLY_OK, 1, 2);
    assert_int_equal(server_world_stats(world).tables, 2);
    assert_int_equal(server_world_get(world, 2000, "t", "a"), 1000);
    server_world_end(world);
}

static void test_too_many_tables(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    char word[32];
    assert_int_equal(server_world_start(world), TALLY_OK);
    for (unsigned i = 0; i < TALLY_TABLES_MAX + 3; i++) {
        (void)snprintf(word, sizeof word, "t%u/a", i);
        server_world_send(world, 100 + i, 1000 + i, 1, word);
    }
    expect(world, 100 + TALLY_TABLES_MAX, TALLY_FULL, 0, 1);
    assert_int_equal(server_world_tick(world), TALLY_OK);
    expect(world, 100 + TALLY_TABLES_MAX - 1, TALLY_OK, 1, 2);
    server_world_send(world, 9000, 1, 1, "one-more/a");
    expect(world, 9000, TALLY_FULL, 1, 1);
    server_world_send(world, 9001, 1, 1, "t5/a");
    assert_int_equal(server_world_tick(world), TALLY_OK);
    expect(world, 9001, TALLY_OK, 2, 2);
    server_world_end(world);
}

// Batches of nearly a megabyte: when the record is full, BUSY; nothing is lost by trying again.
static void test_a_full_record(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    struct test_batch batch;
    static char key[TALLY_KEY_BYTES_MAX];
    uint64_t taken = 0, busy = 0;
    assert_int_equal(server_world_start(world), TALLY_OK);
    memset(key, 'k', sizeof key);
    for (uint64_t producer = 1; producer <= 20; producer++) {
        test_batch_init(&batch);
        tally_batch_begin(&batch.writer, &(struct tally_batch_header){
                                             .dataset = test_text("main"), .producer = producer, .sequence = 1});
        tally_batch_table_begin(&batch.writer, test_text("t"));
        for (int i = 0; i < 990; i++) {
            (void)snprintf(key, 16, "%03d", i);
            tally_batch_add(&batch.writer, tally_bytes(key, sizeof key), 1);
        }
        tally_batch_table_end(&batch.writer);
        assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
        tally_server_request(world->server, TALLY_ENDPOINT_INGEST, producer, test_batch_bytes(&batch), world->now_ms);
        test_batch_free(&batch);
        if (server_world_answered(world, producer)) {
            expect(world, producer, TALLY_BUSY, 0, 1);
            busy++;
        } else {
            taken++;
        }
        assert_int_equal(tally_server_hurry(world->server), taken > 14);
    }
    assert_true(taken >= 15 && busy >= 3);
    assert_int_equal(server_world_tick(world), TALLY_OK);
    assert_false(tally_server_hurry(world->server));
    assert_int_equal(server_world_stats(world).batches, taken);
    assert_int_equal(server_world_stats(world).rows, 990);
    server_world_end(world);
}

static void test_bad_requests(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    struct test_random random = test_random_start("gather: bad requests");
    assert_int_equal(server_world_start(world), TALLY_OK);
    struct test_batch batch;
    struct tally_bytes good = server_world_words(&batch, 7, 1, "t/a");
    uint64_t token = 0;
    for (size_t i = 0; i < good.size * 8; i++) { // every flipped bit of a sealed request
        // Without the tag of its check it is a request that came without one, and all of it is as it was.
        if (i / 8 == good.size - TALLY_SEAL_BYTES) continue;
        uint8_t *copy = test_exact_copy(good.data, good.size);
        copy[i / 8] ^= (uint8_t)(1u << i % 8);
        tally_server_request(world->server, TALLY_ENDPOINT_INGEST, ++token, tally_bytes(copy, good.size),
                             world->now_ms);
        tally_server_push(world->server, tally_bytes(copy, good.size), world->now_ms);
        free(copy);
        struct tally_answer answer = server_world_answer(world, token);
        assert_int_not_equal(answer.status, TALLY_OK);
        assert_true(answer.message.size > 0);
        tally_answer_free(&tally_alloc_libc, &answer);
    }
    for (int i = 0; i < 2000; i++) {
        uint8_t noise[64];
        size_t size = test_random_below(&random, sizeof noise);
        test_random_fill(&random, noise, size);
        uint8_t *copy = test_exact_copy(noise, size);
        tally_server_request(world->server, i % 2 ? TALLY_ENDPOINT_CATCH_UP : TALLY_ENDPOINT_INGEST, ++token,
                             tally_bytes(copy, size), world->now_ms);
        assert_true(server_world_answered(world, token));
        free(copy);
    }
    assert_int_equal(server_world_tick(world), TALLY_OK);
    assert_int_equal(server_world_stats(world).version, 0);
    assert_int_equal(server_world_stats(world).pending_batches, 0);
    test_batch_free(&batch);

    // The right thing at the wrong place, and of another dataset.
    good = server_world_words(&batch, 7, 1, "t/a");
    tally_server_request(world->server, TALLY_ENDPOINT_CATCH_UP, ++token, good, world->now_ms);
    expect(world, token, TALLY_FORBIDDEN, 0, 0);
    test_batch_free(&batch);
    test_batch_init(&batch);
    tally_batch_begin(&batch.writer,
                      &(struct tally_batch_header){.dataset = test_text("other"), .producer = 7, .sequence = 1});
    assert_int_equal(tally_batch_finish(&batch.writer), TALLY_OK);
    tally_server_request(world->server, TALLY_ENDPOINT_INGEST, ++token, test_batch_bytes(&batch), world->now_ms);
    expect(world, token, TALLY_WRONG_DATASET, 0, 0);
    test_batch_free(&batch);
    server_world_end(world);
}

// What producers were told is what happened: random batches through requests and pushes, against the model.
static void test_random_batches_against_the_model(void **state)
{
    (void)state;
    struct test_random random = test_random_start("gather: model");
    for (int round = 0; round < 12; round++) {
        struct server_world *world = server_world_make();
        struct model *model = calloc(1, sizeof *model);
        model->tables_max = TALLY_TABLES_MAX; // as the server's; only 6 are drawn
        model->producers_max = MODEL_PRODUCERS;
        struct model_feed feed = {
            .random = &random, .producers = 9, .tables = 6, .keys = 60, .remove_percent = 40, .strange_percent = 30};
        assert_int_equal(server_world_start(world), TALLY_OK);
        uint64_t token = 0, counted = 0;
        for (int tick = 0; tick < 40; tick++) {
            uint64_t first = token + 1;
            size_t count = test_random_below(&random, 8);
            enum tally_status expected[8];
            model->version++;
            size_t before = model->counted;
            for (size_t i = 0; i < count; i++) {
                struct test_batch batch;
                struct tally_bytes message;
                model_feed_batch(&feed, &batch, &message);
                expected[i] = model_batch(model, message);
                tally_server_request(world->server, TALLY_ENDPOINT_INGEST, ++token, test_batch_bytes(&batch),
                                     world->now_ms);
                test_batch_free(&batch);
            }
            if (model->counted == before) model->version--;
            counted += model->counted - before;
            assert_int_equal(server_world_tick(world), TALLY_OK);
            for (size_t i = 0; i < count; i++) {
                struct tally_answer answer = server_world_answer(world, first + i);
                // A repeat of a batch of the same tick is acknowledged with it.
                bool same = answer.status == expected[i] || (answer.status == TALLY_OK && expected[i] == TALLY_REPEAT);
                if (!same) print_message("# answer %d, model %d\n", (int)answer.status, (int)expected[i]);
                assert_true(same);
                tally_answer_free(&tally_alloc_libc, &answer);
            }
            assert_int_equal(server_world_stats(world).version, model->version);
            if (token > 3000) break;
        }
        assert_int_equal(server_world_stats(world).batches, counted);
        for (size_t t = 0; t < model->tables_count; t++) {
            for (size_t r = 0; r < model->tables[t].count && token < WORLD_REPLIES - 1; r++)
                assert_int_equal(server_world_get(world, ++token, model->tables[t].name, model->tables[t].rows[r].key),
                                 model->tables[t].rows[r].value);
        }
        model_free(model);
        free(model);
        server_world_end(world);
    }
}

static void test_pushed_batches_are_counted(void **state)
{
    (void)state;
    struct server_world *world = server_world_make();
    struct test_batch batch;
    assert_int_equal(server_world_start(world), TALLY_OK);
    for (uint64_t sequence = 1; sequence <= 3; sequence++) {
        struct tally_bytes request = server_world_words(&batch, 5, sequence, "t/a=2");
        tally_server_push(world->server, request, world->now_ms);
        tally_server_push(world->server, request, world->now_ms);
        test_batch_free(&batch);
    }
    server_world_send(world, 1, 5, 2, "t/a=2"); // waits for what was pushed
    assert_int_equal(server_world_tick(world), TALLY_OK);
    expect(world, 1, TALLY_OK, 1, 3);
    assert_int_equal(server_world_get(world, 2, "t", "a"), 6);
    server_world_end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_tables_that_are_closed),
        cmocka_unit_test(test_many_producers_begin_one_table),
        cmocka_unit_test(test_too_many_tables),
        cmocka_unit_test(test_a_full_record),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_random_batches_against_the_model),
        cmocka_unit_test(test_pushed_batches_are_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
