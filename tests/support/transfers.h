// SPDX-License-Identifier: Apache-2.0
//
// Versions of which each view can be checked by itself: table "accounts" of dataset "main", where key "version" holds the version's number
// and all other values (keys "k1", "k2" ...) sum up to 0. Every version moves amounts between some keys, and some keys
// leave and come. A reader that mixes two versions sees another sum.
#ifndef TALLY_TEST_TRANSFERS_H
#define TALLY_TEST_TRANSFERS_H

#include "build.h"
#include "random.h"

#include <stdio.h>
#include <tallycast/fingerprint.h>
#include <tallycast/frame.h>

#define TRANSFERS_KEYS_MAX 4096u

struct transfers {
    struct test_random random;
    uint32_t keys; // ids 0 to keys - 1; 0 is "version"; 1 never leaves
    uint64_t version;
    int64_t values[TRANSFERS_KEYS_MAX];
    bool there[TRANSFERS_KEYS_MAX], touched[TRANSFERS_KEYS_MAX];
    struct tally_digest digest;
    struct test_frame frame;
};

static const struct tally_seed transfers_seed = {0x1111, 0x2222};

static inline struct tally_bytes transfers_key(uint32_t id, char room[16])
{
    int size = snprintf(room, 16, id ? "k%u" : "version", id);
    return tally_bytes(room, (size_t)size);
}

static inline struct tally_digest transfers_row(const struct transfers *transfers, uint32_t id)
{
    char room[16];
    struct tally_bytes key = transfers_key(id, room);
    return tally_digest_row(tally_digest_table(transfers_seed, test_text("accounts")),
                            tally_fingerprint(transfers_seed, key.data, key.size), transfers->values[id]);
}

static inline void transfers_init(struct transfers *transfers, uint32_t keys, uint64_t seed)
{
    *transfers = (struct transfers){.random = {seed}, .keys = keys, .version = 1};
    for (uint32_t id = 0; id < keys; id++) {
        transfers->there[id] = true;
        transfers->values[id] = id == 0;
        tally_digest_add(&transfers->digest, transfers_row(transfers, id));
    }
    test_frame_init(&transfers->frame);
}

static inline void transfers_deinit(struct transfers *transfers) { test_frame_free(&transfers->frame); }

static inline void transfers_begin(struct transfers *transfers, uint64_t from)
{
    uint64_t rows = 0;
    for (uint32_t id = 0; id < transfers->keys; id++) rows += transfers->there[id];
    const struct tally_frame_header header = {.dataset = test_text("main"),
                                              .epoch = 1,
                                              .from = from,
                                              .to = transfers->version,
                                              .cut_ms = transfers->version,
                                              .digest = transfers->digest,
                                              .rows = rows,
                                              .seed = transfers_seed};
    transfers->frame.out.size = 0;
    tally_frame_begin(&transfers->frame.writer, &header);
    tally_frame_table_begin(&transfers->frame.writer, 0, test_text(from ? "" : "accounts"),
                            from ? TALLY_KIND_UNSPECIFIED : TALLY_KIND_COUNTER);
}

static inline struct tally_bytes transfers_finish(struct transfers *transfers)
{
    tally_frame_table_end(&transfers->frame.writer);
    if (tally_frame_finish(&transfers->frame.writer)) abort();
    return test_frame_bytes(&transfers->frame);
}

// The held version as a whole state. The bytes are good until the next call.
static inline struct tally_bytes transfers_whole(struct transfers *transfers)
{
    char room[16];
    transfers_begin(transfers, 0);
    for (uint32_t id = 0; id < transfers->keys; id++)
        if (transfers->there[id])
            tally_frame_added(&transfers->frame.writer, id, transfers_key(id, room), transfers->values[id]);
    return transfers_finish(transfers);
}

// The next version, of about that many changes, as a delta.
static inline struct tally_bytes transfers_next(struct transfers *transfers, uint32_t changes)
{
    int64_t differences[TRANSFERS_KEYS_MAX] = {0}, rest = 0;
    bool was[TRANSFERS_KEYS_MAX];
    char room[16];
    memcpy(was, transfers->there, sizeof was);
    memset(transfers->touched, 0, sizeof transfers->touched);
    differences[0] = 1;
    transfers->touched[0] = transfers->touched[1] = true;
    for (uint32_t i = 0; i < changes; i++) {
        uint32_t id = (uint32_t)test_random_between(&transfers->random, 2, transfers->keys - 1);
        if (transfers->touched[id]) continue;
        transfers->touched[id] = true;
        if (test_random_percent(&transfers->random, 10)) transfers->there[id] = !transfers->there[id];
        if (!transfers->there[id])
            differences[id] = -transfers->values[id];
        else if (was[id])
            differences[id] = (int64_t)test_random_below(&transfers->random, 2000) - 1000;
        rest -= differences[id];
    }
    differences[1] = rest;
    for (uint32_t id = 0; id < transfers->keys; id++) {
        if (!transfers->touched[id]) continue;
        if (was[id]) tally_digest_subtract(&transfers->digest, transfers_row(transfers, id));
        transfers->values[id] += differences[id];
        if (transfers->there[id]) tally_digest_add(&transfers->digest, transfers_row(transfers, id));
    }
    transfers->version++;
    transfers_begin(transfers, transfers->version - 1);
    struct tally_frame_writer *writer = &transfers->frame.writer;
    for (uint32_t id = 0; id < transfers->keys; id++)
        if (was[id] && !transfers->there[id]) tally_frame_removed(writer, id);
    for (uint32_t id = 0; id < transfers->keys; id++)
        if (was[id] && transfers->there[id] && differences[id]) tally_frame_changed(writer, id, differences[id]);
    for (uint32_t id = 0; id < transfers->keys; id++)
        if (!was[id] && transfers->there[id])
            tally_frame_added(writer, id, transfers_key(id, room), transfers->values[id]);
    return transfers_finish(transfers);
}

#endif
