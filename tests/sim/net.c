// SPDX-License-Identifier: Apache-2.0
//
// Messages in flight: a heap by the time at which they arrive. Faults happen when a message is sent.
#include "sim.h"

static bool before(const struct sim_message *a, const struct sim_message *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->order < b->order;
}

static void push(struct sim *sim, struct sim_message message)
{
    if (sim->heap_count == sim->heap_capacity) {
        sim->heap_capacity = sim->heap_capacity ? sim->heap_capacity * 2 : 64;
        sim->heap = realloc(sim->heap, sim->heap_capacity * sizeof *sim->heap);
        if (!sim->heap) abort();
    }
    size_t at = sim->heap_count++;
    for (; at > 0 && before(&message, &sim->heap[(at - 1) / 2]); at = (at - 1) / 2)
        sim->heap[at] = sim->heap[(at - 1) / 2];
    sim->heap[at] = message;
}

static struct sim_message pop(struct sim *sim)
{
    struct sim_message first = sim->heap[0], last = sim->heap[--sim->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= sim->heap_count) break;
        if (child + 1 < sim->heap_count && before(&sim->heap[child + 1], &sim->heap[child])) child++;
        if (!before(&sim->heap[child], &last)) break;
        sim->heap[at] = sim->heap[child];
        at = child;
    }
    sim->heap[at] = last;
    return first;
}

static void damage(struct sim *sim, struct sim_message *message)
{
    // One bit: a Request may come without a seal, so that two flips, one in the tag of the check, would pass as a request that somebody
    // wrote by hand. The network's own checks make that as good as impossible; here it would not be.
    bool asked = message->kind == SIM_INGEST || message->kind == SIM_ASK || message->kind == SIM_PUSH;
    for (uint64_t flips = asked ? 1 : test_random_between(&sim->random, 1, 4); flips > 0 && message->size > 0;
         flips--) {
        uint64_t bit = test_random_below(&sim->random, message->size * 8);
        message->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    if (!asked && test_random_percent(&sim->random, 20))
        message->size = test_random_below(&sim->random, message->size + 1);
    sim->counters.corrupted++;
}

// Changes the rows of a published frame and seals it again: a sender with bad memory, or with bad code. The header stays: who changes that
// forges, and is none of the digest's business.
static void forge(struct sim *sim, struct sim_message *message)
{
    struct tally_bytes dataset, sealed, inner, table = {0};
    enum tally_published_what what;
    struct tally_wire_field field;
    if (tally_published_open(tally_bytes(message->data, message->size), &dataset, &what, &sealed) != TALLY_OK) return;
    if (what != TALLY_PUBLISHED_FRAME || tally_unseal(sealed, &inner) != TALLY_OK) return;
    struct tally_wire wire = tally_wire(inner);
    while (tally_wire_next(&wire, &field) == TALLY_OK) {
        if (field.number == 11 && (!table.size || test_random_percent(&sim->random, 50))) table = field.bytes;
    }
    if (!table.size) return;
    uint64_t bit = test_random_below(&sim->random, table.size * 8);
    message->data[(size_t)(table.data - message->data) + bit / 8] ^= (uint8_t)(1u << bit % 8);
    size_t start = (size_t)(inner.data - message->data);
    struct tally_writer writer = {.data = message->data, .size = start + inner.size, .capacity = message->size};
    tally_seal(&writer, start);
    SIM_CHECK(sim, !writer.failed && writer.size == message->size);
    sim->counters.forged++;
}

static void send_one(struct sim *sim, const struct sim_message *template, struct tally_bytes bytes)
{
    const struct sim_config *config = &sim->config;
    struct sim_message message = *template;
    sim->counters.messages++;
    if (sim_fault(sim, config->drop)) {
        sim->counters.dropped++;
        return;
    }
    message.data = test_exact_copy(bytes.data, bytes.size);
    message.size = bytes.size;
    message.order = sim->order++;
    message.due_ms = sim->now_ms + test_random_between(&sim->random, 1, 5);
    if (sim_fault(sim, config->delay)) message.due_ms += test_random_below(&sim->random, config->delay_ms_max);
    uint32_t node = message.kind <= SIM_ANSWER ? message.node : SIM_EDGES_MAX + message.node;
    uint64_t *channel_ms = &sim->channel_ms[node][message.link][message.kind];
    if (!config->reorder && message.due_ms < *channel_ms) message.due_ms = *channel_ms;
    *channel_ms = message.due_ms;
    if (sim_fault(sim, config->corrupt))
        damage(sim, &message);
    else if (message.kind == SIM_PUBLISH && sim_fault(sim, config->forge))
        forge(sim, &message);
    push(sim, message);
}

// Servers that should not be there any more say what was said long ago, in the place of what is said now.
static struct tally_bytes replay(struct sim *sim, const struct sim_message *message, struct tally_bytes bytes)
{
    struct sim_message *old = &sim->old[test_random_below(&sim->random, SIM_OLD)];
    bool server = message->kind == SIM_PUBLISH || message->kind == SIM_ANSWER;
    if (!server || !sim->config.replay) return bytes;
    if (old->data && old->kind == message->kind && sim_fault(sim, sim->config.replay)) {
        sim->counters.replayed++;
        return tally_bytes(old->data, old->size);
    }
    if (old->data && !test_random_percent(&sim->random, 3)) return bytes;
    free(old->data);
    *old = *message;
    old->data = test_exact_copy(bytes.data, bytes.size);
    old->size = bytes.size;
    return bytes;
}

void sim_send(struct sim *sim, const struct sim_message *message, struct tally_bytes bytes)
{
    bytes = replay(sim, message, bytes);
    send_one(sim, message, bytes);
    while (sim_fault(sim, sim->config.duplicate)) {
        sim->counters.duplicated++;
        send_one(sim, message, bytes);
    }
}

bool sim_receive(struct sim *sim, struct sim_message *out_message)
{
    if (sim->heap_count == 0 || sim->heap[0].due_ms > sim->now_ms) return false;
    *out_message = pop(sim);
    sim_trace(sim, "arrives", out_message->kind, out_message->node, out_message->size);
    return true;
}

void sim_net_clear(struct sim *sim)
{
    while (sim->heap_count) free(sim->heap[--sim->heap_count].data);
    free(sim->heap);
    for (unsigned i = 0; i < SIM_OLD; i++) free(sim->old[i].data);
    memset(sim->old, 0, sizeof sim->old);
    sim->heap = NULL;
    sim->heap_capacity = 0;
}
