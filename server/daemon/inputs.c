// SPDX-License-Identifier: Apache-2.0
#include "inputs.h"

#include <sums/sums_batch.h>
#include <sys/random.h>

#include "daemon.h"
#include "define.h"

// A token: TOKEN_INPUTS, and the place of who waits plus one; 0: nobody does.
#define NOBODY 0u

void input_producer_draw(struct input_producer *producer)
{
    *producer = (struct input_producer){0};
    while (producer->id == 0 || tally_producer_once(producer->id))
        if (getrandom(&producer->id, sizeof producer->id, 0) != (ssize_t)sizeof producer->id) producer->id = 0;
}

static void on_mail(void *ctx, struct tally_mail *mail);

enum tally_status inputs_open(struct inputs *inputs, struct daemon *daemon)
{
    inputs->daemon = daemon;
    inputs->request = tally_writer_growable(&tally_alloc_libc);
    inputs->writer.out = &inputs->request;
    inputs->writer.body = inputs->writer.entries = inputs->writer.amounts = inputs->request;
    input_producer_draw(&inputs->http);
    return tally_mailbox_open(&inputs->mailbox, &daemon->loop, on_mail, inputs);
}

// ---------------------------------------------------------------------------------------------------- offering

static enum tally_status encode(struct inputs *inputs, uint64_t producer, uint64_t sequence,
                                const struct tally_sums *sums, uint32_t first, uint32_t count)
{
    const char *dataset = inputs->daemon->options->dataset;
    const struct tally_batch_header header = {tally_bytes(dataset, strlen(dataset)), producer, sequence};
    inputs->request.size = 0;
    inputs->request.failed = false;
    tally_batch_begin(&inputs->writer, &header);
    tally_sums_write(sums, first, count, &inputs->writer);
    return tally_batch_finish(&inputs->writer);
}

// TALLY_OK: pending; the answer comes with the token.
static enum tally_status offer_once(struct inputs *inputs, uint64_t producer, uint64_t sequence, uint64_t token,
                                    const struct tally_sums *sums, uint32_t first, uint32_t count)
{
    enum tally_status status = encode(inputs, producer, sequence, sums, first, count);
    tally_reason_set(&inputs->reason, "%s", tally_status_str(status));
    if (status) return status;
    inputs->offering = true;
    inputs->answered = false;
    tally_server_request(inputs->daemon->server, TALLY_ENDPOINT_INGEST, TOKEN_INPUTS | token,
                         tally_writer_bytes(&inputs->request), daemon_now_ms());
    inputs->offering = false;
    return inputs->answered ? inputs->status : TALLY_OK;
}

static enum tally_status offer_next(struct inputs *inputs, struct input_producer *producer, uint64_t token,
                                    const struct tally_sums *sums, uint32_t first, uint32_t count)
{
    enum tally_status status = offer_once(inputs, producer->id, producer->sequence + 1, token, sums, first, count);
    if (status == TALLY_UNKNOWN_PRODUCER || status == TALLY_HOLE) {
        // So many others have spoken since that it was forgotten. Nothing of it is under way: it begins anew under another name.
        input_producer_draw(producer);
        status = offer_once(inputs, producer->id, 1, token, sums, first, count);
    }
    if (!status) producer->sequence++;
    return status;
}

enum tally_status inputs_offer(struct inputs *inputs, struct input_producer *producer, const struct tally_sums *sums,
                               uint32_t first, uint32_t count)
{
    return offer_next(inputs, producer, NOBODY, sums, first, count);
}

// ---------------------------------------------------------------------------------------------------- HTTP

bool inputs_count(struct inputs *inputs, struct tally_http_count *count)
{
    if (!atomic_load(&inputs->daemon->ready)) {
        tally_reason_set(&count->reason, "the server is starting or stopping");
        return false;
    }
    tally_mailbox_put(&inputs->mailbox, &count->mail);
    return true;
}

// INPUTS_WAITING_MAX when there is none.
static uint32_t free_place(struct inputs *inputs)
{
    for (uint32_t i = 0; i < INPUTS_WAITING_MAX; i++) {
        uint32_t place = (inputs->next + i) % INPUTS_WAITING_MAX;
        if (inputs->waiting[place]) continue;
        inputs->next = place + 1;
        return place;
    }
    return INPUTS_WAITING_MAX;
}

static void decide(struct tally_http_count *count, enum tally_status status, const char *why)
{
    count->status = status;
    if (status) tally_reason_set(&count->reason, "%s", why);
    tally_http_counted(count);
}

// The answer comes with the token, at once or with the tick.
static void define(struct inputs *inputs, struct tally_http_count *count, uint64_t token)
{
    struct tally_definition definition;
    struct tally_reason reason;
    struct tally_bytes table = tally_bytes(count->table, strlen(count->table));
    if (define_parse(count->table, count->definition, &definition, &reason)) {
        inputs->waiting[token - 1] = NULL;
        decide(count, TALLY_INVALID, reason.text);
        return;
    }
    inputs->offering = false;
    tally_server_define(inputs->daemon->server, TOKEN_INPUTS | token, table, &definition);
    daemon_after_input(inputs->daemon);
}

static void on_mail(void *ctx, struct tally_mail *mail)
{
    struct inputs *inputs = ctx;
    struct tally_http_count *count = (struct tally_http_count *)(void *)mail;
    uint32_t place = free_place(inputs), all = tally_sums_count(count->sums);
    if (place == INPUTS_WAITING_MAX) {
        decide(count, TALLY_BUSY, "too many requests wait to be counted");
        return;
    }
    inputs->waiting[place] = count;
    uint64_t token = place + 1;
    if (*count->table) {
        define(inputs, count, token);
        return;
    }
    enum tally_status status = count->producer ? offer_once(inputs, count->producer, 1, token, count->sums, 0, all)
                                               : offer_next(inputs, &inputs->http, token, count->sums, 0, all);
    if (status && inputs->waiting[place]) {
        inputs->waiting[place] = NULL;
        decide(count, status, inputs->reason.text);
    }
    daemon_after_input(inputs->daemon);
}

void inputs_reply(struct inputs *inputs, uint64_t token, struct tally_bytes bytes)
{
    uint64_t place = token & ~TOKEN_INPUTS;
    struct tally_answer answer;
    if (tally_answer_decode(&tally_alloc_libc, bytes, &answer))
        return; // of this very process: it is right, but for memory
    inputs->answered |= inputs->offering;
    inputs->status = answer.status;
    tally_reason_set(&inputs->reason, "%.*s", (int)answer.message.size,
                     answer.message.size ? (const char *)answer.message.data : "");
    struct tally_http_count *count = place ? inputs->waiting[place - 1] : NULL;
    // What an offer is refused with at once may be tried again, and is told by it.
    if (count && (!inputs->offering || answer.status == TALLY_REPEAT)) {
        inputs->waiting[place - 1] = NULL;
        count->epoch = answer.epoch;
        count->version = answer.version;
        decide(count, answer.status, inputs->reason.text);
    }
    tally_answer_free(&tally_alloc_libc, &answer);
}
