// SPDX-License-Identifier: Apache-2.0
//
// What time makes of a key, in the plainest way: the list of all that was counted for it, looked through again each time.
#ifndef TALLY_TEST_AGED_H
#define TALLY_TEST_AGED_H

#include <server/src/definitions.h>
#include <stdlib.h>

struct aged_event {
    uint64_t time_ms;
    int64_t amount;
};

struct aged_key {
    bool live;
    uint64_t touched_ms;
    struct aged_event *events;
    size_t count, capacity;
};

static inline void aged_leave(struct aged_key *key)
{
    key->live = false;
    key->count = 0;
}

static inline void aged_free(struct aged_key *key)
{
    free(key->events);
    *key = (struct aged_key){0};
}

static inline void aged_count(struct aged_key *key, uint64_t time_ms, int64_t amount)
{
    if (key->count == key->capacity) {
        key->capacity = key->capacity ? key->capacity * 2 : 8;
        key->events = realloc(key->events, key->capacity * sizeof *key->events);
        if (!key->events) abort();
    }
    key->events[key->count++] = (struct aged_event){time_ms, amount};
    key->touched_ms = time_ms;
    key->live = true;
}

// The first moment that is in the window of `now_ms`.
static inline uint64_t aged_from(const struct tally_definition *definition, uint64_t now_ms)
{
    uint64_t pane = definition->window == TALLY_WINDOW_SLIDING ? definition->pane_ms : definition->window_ms;
    uint64_t end = now_ms / pane * pane + pane; // of the pane that is under way
    return end > definition->window_ms ? end - definition->window_ms : 0;
}

// What is due at `now_ms`. True when the key left.
static inline bool aged_advance(struct aged_key *key, const struct tally_definition *definition, uint64_t now_ms)
{
    if (!key->live) return false;
    bool idle = definition->ttl_ms && key->touched_ms + definition->ttl_ms <= now_ms;
    if (definition->window) {
        uint64_t from = aged_from(definition, now_ms);
        size_t kept = 0;
        for (size_t i = 0; i < key->count; i++) {
            if (key->events[i].time_ms >= from) key->events[kept++] = key->events[i];
        }
        key->count = kept;
        idle = idle || kept == 0;
    }
    if (idle) aged_leave(key);
    return idle;
}

// Of a counter, a min or a max.
static inline int64_t aged_value(const struct aged_key *key, enum tally_kind kind)
{
    int64_t value = key->events[0].amount;
    for (size_t i = 1; i < key->count; i++) {
        int64_t amount = key->events[i].amount;
        if (kind == TALLY_KIND_MIN)
            value = amount < value ? amount : value;
        else if (kind == TALLY_KIND_MAX)
            value = amount > value ? amount : value;
        else if (__builtin_add_overflow(value, amount, &value))
            value = INT64_MAX;
    }
    return value;
}

#endif
