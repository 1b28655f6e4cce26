// SPDX-License-Identifier: Apache-2.0
#include "renewal.h"

#include <stdlib.h>
#include <string.h>

struct renewal_step {
    struct renewal_step *next;
    size_t size; // 0: abandon
    uint8_t frame[];
};

void renewal_init(struct renewal *renewal)
{
    *renewal = (struct renewal){.end = &renewal->first};
    pthread_mutex_init(&renewal->mutex, NULL);
}

static void free_steps(struct renewal_step *step)
{
    while (step) {
        struct renewal_step *next = step->next;
        free(step);
        step = next;
    }
}

static struct renewal_step *take_steps(struct renewal *renewal)
{
    struct renewal_step *steps = renewal->first;
    renewal->first = NULL;
    renewal->end = &renewal->first;
    renewal->bytes = 0;
    return steps;
}

void renewal_deinit(struct renewal *renewal)
{
    free_steps(take_steps(renewal));
    pthread_mutex_destroy(&renewal->mutex);
}

void renewal_open(struct renewal *renewal)
{
    pthread_mutex_lock(&renewal->mutex);
    renewal->open = true;
    renewal->given_up = NULL;
    renewal->client = NULL;
    pthread_mutex_unlock(&renewal->mutex);
}

void renewal_close(struct renewal *renewal)
{
    pthread_mutex_lock(&renewal->mutex);
    renewal->open = false;
    renewal->client = NULL;
    struct renewal_step *steps = take_steps(renewal);
    pthread_mutex_unlock(&renewal->mutex);
    free_steps(steps);
}

void renewal_give_up(struct renewal *renewal, const char *why)
{
    pthread_mutex_lock(&renewal->mutex);
    if (!renewal->given_up) renewal->given_up = why;
    pthread_mutex_unlock(&renewal->mutex);
}

void renewal_keep(struct renewal *renewal, struct tally_bytes frame)
{
    pthread_mutex_lock(&renewal->mutex);
    bool wanted = renewal->open && !renewal->given_up;
    if (wanted && renewal->bytes + frame.size > RENEWAL_BYTES_MAX) {
        renewal->given_up = "it fell too far behind";
        wanted = false;
    }
    struct renewal_step *step = wanted ? malloc(sizeof *step + frame.size) : NULL;
    if (step) {
        step->next = NULL;
        step->size = frame.size;
        if (frame.size) memcpy(step->frame, frame.data, frame.size);
        *renewal->end = step;
        renewal->end = &step->next;
        renewal->bytes += frame.size;
    } else if (wanted) {
        renewal->given_up = "no memory";
    }
    pthread_mutex_unlock(&renewal->mutex);
}

static const char *given_up(struct renewal *renewal)
{
    pthread_mutex_lock(&renewal->mutex);
    const char *why = renewal->given_up;
    pthread_mutex_unlock(&renewal->mutex);
    return why;
}

// A frame may be held already: the view that was copied may be later than what was kept first.
static enum tally_status bring_in(struct renewal *renewal, struct tally_bytes frame, struct tally_reason *out_reason)
{
    const char *why = given_up(renewal);
    if (why) {
        tally_reason_set(out_reason, "%s", why);
        return TALLY_STALLED;
    }
    enum tally_status status = wasm_client_apply(renewal->client, frame);
    if (status == TALLY_OK || status == TALLY_MORE || status == TALLY_OLD) return TALLY_OK;
    tally_reason_set(out_reason, "it refuses what the one in use has taken: %s", tally_status_str(status));
    return status;
}

enum tally_status renewal_copy(struct renewal *renewal, struct wasm_seat *from, struct tally_reason *out_reason)
{
    struct tally_http_source source;
    struct tally_http_view view;
    struct tally_cursor cursor = {0};
    uint32_t chunk = 0;
    bool more = true;
    uint8_t *out = malloc(TALLY_CHUNK_BYTES_MAX);
    enum tally_status status = out ? wasm_seat_pin(from, &view) : TALLY_NO_MEMORY;
    if (status != TALLY_OK) {
        free(out);
        if (status == TALLY_BUSY) return TALLY_OK;
        tally_reason_set(out_reason, "no view to copy: %s", tally_status_str(status));
        return status;
    }
    wasm_client_fill(&source);
    while (status == TALLY_OK && more) {
        size_t bytes = 0;
        status = source.write_chunk(NULL, &view, &cursor, &chunk, out, &bytes, &more);
        if (status == TALLY_OK)
            status = bring_in(renewal, tally_bytes(out, bytes), out_reason);
        else
            tally_reason_set(out_reason, "the one in use cannot be copied: %s", tally_status_str(status));
    }
    wasm_seat_unpin(&view);
    free(out);
    return status;
}

enum tally_status renewal_take_in(struct renewal *renewal, struct tally_reason *out_reason)
{
    for (;;) {
        pthread_mutex_lock(&renewal->mutex);
        struct renewal_step *steps = take_steps(renewal);
        pthread_mutex_unlock(&renewal->mutex);
        const char *why = given_up(renewal);
        enum tally_status status = why ? TALLY_STALLED : TALLY_OK;
        if (why) tally_reason_set(out_reason, "%s", why);
        for (struct renewal_step *step = steps; step && status == TALLY_OK; step = step->next) {
            if (step->size)
                status = bring_in(renewal, tally_bytes(step->frame, step->size), out_reason);
            else
                wasm_client_abandon(renewal->client);
        }
        free_steps(steps);
        if (!steps || status != TALLY_OK) return status;
    }
}
