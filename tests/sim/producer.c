// SPDX-License-Identifier: Apache-2.0
//
// Those who count: each keeps some batches in doubt, sends them again until it is told that they are counted, now and then asks where it stands
// instead. Beside them batches are pushed that nobody waits for, each by a producer of its own.
#include "sim.h"

static void draw_entries(struct sim *sim, struct sim_batch *batch)
{
    const struct sim_config *config = &sim->config;
    struct test_random *random = &sim->random;
    bool filling = config->keys == SIM_KEYS_MAX && sim->counters.keys_drawn < SIM_KEYS_MAX; // first all keys come
    batch->entries = filling ? config->entries : (unsigned)test_random_between(random, 0, config->entries);
    for (unsigned i = 0; i < batch->entries; i++) {
        // Skewed: some keys often, most seldom.
        uint64_t key = test_random_below(random, test_random_percent(random, 50) ? config->keys : 1 + config->keys / 8);
        if (filling) key = sim->counters.keys_drawn++ % SIM_KEYS_MAX;
        int64_t amount = (int64_t)test_random_below(random, test_random_percent(random, 90) ? 4 : 1000000);
        if (test_random_percent(random, config->huge_amounts)) amount = INT64_MAX / 3;
        batch->entry[i].table = (uint32_t)test_random_below(random, config->tables);
        batch->entry[i].key = (uint32_t)key;
        batch->entry[i].amount = amount;
    }
    // In the last table, which comes last in the batch, some of the last entries are removals.
    for (unsigned i = 0; i < batch->entries; i++) {
        if (batch->entry[i].table == SIM_TABLE_REMOVED && test_random_percent(random, config->removals))
            batch->entry[i].amount = -1;
    }
}

// In the order in which the batch says it: by table, amounts before removals.
static void sort_entries(struct sim_batch *batch)
{
    for (unsigned i = 1; i < batch->entries; i++) {
        for (unsigned j = i; j > 0; j--) {
            uint64_t a = (uint64_t)batch->entry[j - 1].table << 1 | (batch->entry[j - 1].amount < 0);
            uint64_t b = (uint64_t)batch->entry[j].table << 1 | (batch->entry[j].amount < 0);
            if (a <= b) break;
            __typeof__(batch->entry[0]) swap = batch->entry[j];
            batch->entry[j] = batch->entry[j - 1];
            batch->entry[j - 1] = swap;
        }
    }
}

static void encode(struct sim *sim, struct sim_batch *batch)
{
    struct test_batch out;
    char key[1024];
    size_t key_bytes;
    test_batch_init(&out);
    const struct tally_batch_header header = {test_text(SIM_DATASET), batch->producer, batch->sequence};
    tally_batch_begin(&out.writer, &header);
    for (unsigned i = 0; i < batch->entries; i++) {
        bool first = i == 0 || batch->entry[i].table != batch->entry[i - 1].table;
        if (first) tally_batch_table_begin(&out.writer, sim_table(batch->entry[i].table));
        sim_key(sim, batch->entry[i].key, key, &key_bytes);
        if (batch->entry[i].amount < 0)
            tally_batch_remove(&out.writer, tally_bytes(key, key_bytes));
        else
            tally_batch_add(&out.writer, tally_bytes(key, key_bytes), batch->entry[i].amount);
        bool last = i + 1 == batch->entries || batch->entry[i].table != batch->entry[i + 1].table;
        if (last) tally_batch_table_end(&out.writer);
    }
    sim_kinds_encode(sim, &out.writer);
    SIM_CHECK(sim, tally_batch_finish(&out.writer) == TALLY_OK);
    batch->request = test_exact_copy(out.out.data, out.out.size);
    batch->request_bytes = out.out.size;
    SIM_CHECK(sim, tally_request_batch(tally_bytes(batch->request, batch->request_bytes), &batch->inner) == TALLY_OK);
    test_batch_free(&out);
}

static void append(struct sim_instance *instance, struct sim_batch *batch)
{
    if ((instance->count & (instance->count - 1)) == 0) {
        instance->batches =
            realloc(instance->batches, (instance->count ? instance->count * 2 : 1) * sizeof *instance->batches);
        if (!instance->batches) abort();
    }
    instance->batches[instance->count++] = batch;
}

// Number of the key that sim_key makes.
static uint32_t key_number(struct sim *sim, struct tally_bytes key)
{
    char text[32] = {0};
    size_t size = 4;
    SIM_CHECK(sim, key.size > 4 && memcmp(key.data, "key-", 4) == 0);
    for (; size < key.size && key.data[size] >= '0' && key.data[size] <= '9'; size++)
        text[size - 4] = (char)key.data[size];
    return (uint32_t)strtoul(text, NULL, 10);
}

struct sim_batch *sim_tally_batch(struct sim *sim, uint32_t edge, struct tally_bytes request)
{
    struct tally_bytes inner;
    struct tally_batch_reader reader;
    struct tally_entries_reader entries;
    SIM_CHECK(sim, tally_request_batch(request, &inner) == TALLY_OK && tally_batch_open(inner, &reader) == TALLY_OK);
    uint64_t id = reader.header.producer, sequence = reader.header.sequence;
    struct sim_instance *instance = sim_instance_of(sim, id);
    if (!instance) {
        instance = sim_instance(sim, sim_instance_new(sim));
        instance->id = id;
        instance->edge = edge;
    }
    SIM_CHECK(sim, instance->edge == edge && sequence >= 1 && sequence <= instance->count + 1);
    if (sequence <= instance->count) {
        struct sim_batch *known = instance->batches[sequence - 1];
        if (!tally_bytes_equal(tally_bytes(known->request, known->request_bytes), request))
            sim_fail(sim, "edge %u sends batch %llu with other content", edge, (unsigned long long)sequence);
        return known;
    }
    struct sim_batch *batch = calloc(1, sizeof *batch);
    if (batch) batch->entry = calloc(sim->config.keys, sizeof *batch->entry);
    if (!batch || !batch->entry) abort();
    append(instance, batch);
    batch->producer = (uint64_t)(instance - sim->truth.instances) + 1;
    batch->sequence = sequence;
    while (tally_batch_next_table(&reader, &entries)) {
        struct tally_bytes key;
        int64_t amount;
        if (sim->config.kinds && sim_kinds_has(entries.table)) continue;
        SIM_CHECK(sim, tally_bytes_equal(entries.table, sim_table(SIM_TABLE_TALLIED)));
        while (tally_entries_next(&entries, &key, &amount)) {
            SIM_CHECK(sim, batch->entries < sim->config.keys && amount > 0); // each key once
            batch->entry[batch->entries].table = SIM_TABLE_TALLIED;
            batch->entry[batch->entries].key = key_number(sim, key);
            batch->entry[batch->entries++].amount = amount;
        }
    }
    batch->request = test_exact_copy(request.data, request.size);
    batch->request_bytes = request.size;
    SIM_CHECK(sim, tally_request_batch(tally_bytes(batch->request, request.size), &batch->inner) == TALLY_OK);
    sim->counters.batches++;
    return batch;
}

static struct sim_batch *new_batch(struct sim *sim, uint64_t producer)
{
    struct sim_instance *instance = sim_instance(sim, producer);
    struct sim_batch *batch = calloc(1, sizeof *batch);
    if (batch) batch->entry = calloc(SIM_BATCH_ENTRIES, sizeof *batch->entry);
    if (!batch || !batch->entry) abort();
    append(instance, batch);
    batch->producer = producer;
    batch->sequence = instance->count;
    draw_entries(sim, batch);
    sort_entries(batch);
    encode(sim, batch);
    sim->counters.batches++;
    return batch;
}

static uint32_t number_of(const struct sim *sim, const struct sim_producer *producer)
{
    return (uint32_t)(producer - sim->producers);
}

static void send_batch(struct sim *sim, uint32_t producer, struct sim_batch *batch, enum sim_kind kind)
{
    sim_truth_sent(sim, batch);
    const struct sim_message message = {
        .kind = kind, .node = producer, .request = batch->producer << 32 | batch->sequence << 1};
    sim_send(sim, &message, tally_bytes(batch->request, batch->request_bytes));
}

static void send_hello(struct sim *sim, uint32_t number, uint64_t producer)
{
    uint8_t bytes[256];
    struct tally_writer writer = tally_writer_fixed(bytes, sizeof bytes);
    const struct tally_hello hello = {test_text(SIM_DATASET), producer};
    SIM_CHECK(sim, tally_hello_encode(&hello, &writer) == TALLY_OK);
    const struct sim_message message = {.kind = SIM_INGEST, .node = number, .request = producer << 32 | 1};
    sim_send(sim, &message, tally_writer_bytes(&writer));
}

bool sim_producer_idle(const struct sim_producer *producer)
{
    for (unsigned i = 0; i < SIM_WINDOW; i++) {
        if (producer->window[i].batch) return false;
    }
    return true;
}

static void acked(struct sim *sim, struct sim_producer *producer, uint64_t sequence)
{
    for (unsigned i = 0; i < SIM_WINDOW; i++) {
        struct sim_batch *batch = producer->window[i].batch;
        if (!batch || batch->sequence != sequence) continue;
        // An acknowledgement may be older than a loss.
        if (batch->effective)
            sim_truth_acked(sim, batch);
        else if (!sim->counters.losses)
            sim_fail(sim, "an acknowledged batch is not in the log");
        producer->window[i].batch = NULL;
        sim->counters.acks++;
    }
}

// The server lost what it had acknowledged, and cannot go on with this producer: another one.
static void give_up(struct sim *sim, struct sim_producer *producer)
{
    for (unsigned i = 0; i < SIM_WINDOW; i++) producer->window[i].batch = NULL;
    producer->id = sim_instance_new(sim);
    sim->counters.given_up++;
    sim_trace(sim, "producer-anew", producer->id, 0, 0);
}

// Whether it can go on when the server wants `sequence` next.
static void expected(struct sim *sim, struct sim_producer *producer, uint64_t sequence)
{
    uint64_t lowest = UINT64_MAX;
    for (unsigned i = 0; i < SIM_WINDOW; i++) {
        if (producer->window[i].batch && producer->window[i].batch->sequence < lowest)
            lowest = producer->window[i].batch->sequence;
    }
    // server.c has checked the answer where it was given; here it may be old.
    if (sim->counters.losses && lowest != UINT64_MAX && sequence < lowest) give_up(sim, producer);
}

void sim_producer_ack(struct sim *sim, uint32_t number, uint64_t request, struct tally_bytes bytes)
{
    struct sim_producer *producer = &sim->producers[number];
    struct tally_answer answer;
    if (request >> 32 != producer->id) return; // of one that it was before
    if (tally_answer_decode(&tally_alloc_libc, bytes, &answer) != TALLY_OK) return;
    uint64_t sequence = (request & UINT32_MAX) >> 1;
    bool hello = request & 1;
    sim_trace(sim, "ack", request, answer.status, answer.version);
    switch (answer.status) {
    case TALLY_OK:
    case TALLY_REPEAT:
        if (answer.status == TALLY_REPEAT) sim->counters.repeats++;
        if (!hello) {
            acked(sim, producer, sequence);
            break;
        }
        for (uint64_t s = 1; s < answer.expected_sequence; s++) acked(sim, producer, s);
        expected(sim, producer, answer.expected_sequence);
        break;
    case TALLY_HOLE:
    case TALLY_UNKNOWN_PRODUCER:
        sim->counters.holes++;
        expected(sim, producer, answer.expected_sequence);
        break;
    case TALLY_BUSY:
    case TALLY_NO_MEMORY:
    case TALLY_CORRUPT:
    case TALLY_MALFORMED:
    case TALLY_LIMIT:
    case TALLY_UNSUPPORTED: break; // it will come again
    default: sim_fail(sim, "a batch is refused: %s", tally_status_str(answer.status));
    }
    tally_answer_free(&tally_alloc_libc, &answer);
}

void sim_producer_step(struct sim *sim, struct sim_producer *producer, bool more)
{
    uint32_t number = number_of(sim, producer);
    struct test_random *random = &sim->random;
    for (unsigned i = 0; i < SIM_WINDOW; i++) {
        struct sim_batch *batch = producer->window[i].batch;
        if (!batch || sim->now_ms < producer->window[i].resend_ms) continue;
        producer->window[i].resend_ms = sim->now_ms + test_random_between(random, 50, 400);
        if (batch->sent && test_random_percent(random, 10))
            send_hello(sim, number, producer->id);
        else
            send_batch(sim, number, batch, SIM_INGEST);
    }
    if (!more || sim->now_ms < producer->next_ms) return;
    producer->next_ms = sim->now_ms + test_random_below(random, 60);
    if (sim->config.entries && !sim->config.calm && test_random_percent(random, 2)) {
        sim->counters.pushes++;
        send_batch(sim, number, new_batch(sim, sim_instance_new(sim)), SIM_PUSH);
        return;
    }
    for (unsigned i = 0; i < SIM_WINDOW; i++) {
        if (producer->window[i].batch) continue;
        producer->window[i].batch = new_batch(sim, producer->id);
        producer->window[i].resend_ms = sim->now_ms;
        return;
    }
}
