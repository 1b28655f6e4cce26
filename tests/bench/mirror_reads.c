// SPDX-License-Identifier: Apache-2.0
#include "mirror_reads.h"
#include "peer_text.h"

static inline uint64_t get(const struct tally_view *view, struct tally_bytes key)
{
    int64_t value = 0;
    if (tally_view_get(view, 0, key, &value)) return 0;
    return (uint64_t)value;
}

static inline uint64_t get_alone(struct tally_reader *reader, struct tally_bytes key)
{
    int64_t value = 0;
    if (tally_get(reader, tally_bytes("t", 1), key, &value)) return 0;
    return (uint64_t)value;
}

uint64_t mirror_dependent(struct world *world, const struct draws *draws)
{
    struct tally_view view;
    tally_view_pin(&world->reader, &view);
    uint64_t sum;
    TEXT_DEPENDENT(sum, get(&view, KEY), draws);
    tally_view_unpin(&view);
    return sum;
}

uint64_t mirror_independent(struct world *world, const struct draws *draws)
{
    struct tally_view view;
    tally_view_pin(&world->reader, &view);
    uint64_t sum;
    TEXT_INDEPENDENT(sum, get(&view, KEY), draws);
    tally_view_unpin(&view);
    return sum;
}

uint64_t mirror_many(struct world *world, const struct draws *draws)
{
    struct tally_view view;
    uint64_t sum = 0;
    tally_view_pin(&world->reader, &view);
    for (size_t i = 0; i + MIRROR_MANY <= draws->count; i += MIRROR_MANY) {
        int64_t values[MIRROR_MANY];
        bool found[MIRROR_MANY];
        tally_view_get_many(&view, 0, &draws->keys[i], MIRROR_MANY, values, found);
        for (unsigned j = 0; j < MIRROR_MANY; j++) sum += (uint64_t)values[j];
    }
    tally_view_unpin(&view);
    return sum;
}

uint64_t mirror_alone_dependent(struct world *world, const struct draws *draws)
{
    uint64_t sum;
    TEXT_DEPENDENT(sum, get_alone(&world->reader, KEY), draws);
    return sum;
}

uint64_t mirror_alone_independent(struct world *world, const struct draws *draws)
{
    uint64_t sum;
    TEXT_INDEPENDENT(sum, get_alone(&world->reader, KEY), draws);
    return sum;
}
