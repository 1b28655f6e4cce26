// SPDX-License-Identifier: Apache-2.0
//
// The mirror under threads: readers that check every view by itself (support/transfers.h), views that are kept over many versions,
// readers that come and go, stats from aside, and an applier that never waits for any of them. Run by ThreadSanitizer too.
//
//   test_mirror_threads [VERSIONS]
#include "check.h"

#include "../support/transfers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <tallycast/memory.h>

#define KEYS    600u
#define READERS 4u

static struct tally_mirror *mirror;
static atomic_bool done;
static atomic_ulong views_checked, views_kept;

// One view: its number is right, and its values sum up to 0, by key and by listing.
static uint64_t check_view(const struct tally_view *view)
{
    struct tally_view_info info;
    struct tally_cursor cursor = {0, 0};
    struct tally_row row;
    int64_t sum = 0, number = 0;
    uint64_t rows = 0;
    tally_view_info(view, &info);
    while (tally_view_next(view, &cursor, &row)) {
        if (row.id)
            sum += row.value;
        else
            number = row.value;
        rows++;
    }
    CHECK(sum == 0 && (uint64_t)number == info.version && rows == info.rows);

    struct tally_bytes keys[KEYS];
    char room[KEYS][16];
    int64_t values[KEYS];
    bool found[KEYS];
    for (uint32_t id = 0; id < KEYS; id++) keys[id] = transfers_key(id, room[id]);
    tally_view_get_many(view, 0, keys, KEYS, values, found);
    for (uint32_t id = 1; id < KEYS; id++) sum += values[id];
    CHECK(sum == 0 && found[0] && (uint64_t)values[0] == info.version);
    atomic_fetch_add_explicit(&views_checked, 1, memory_order_relaxed);
    return info.version;
}

// One round of a reader: a view, sometimes a second over it, sometimes kept while versions pass.
static void read_round(struct tally_reader *reader, struct test_random *random, uint64_t *last)
{
    struct tally_view first, second;
    tally_view_pin(reader, &first);
    uint64_t version = check_view(&first);
    CHECK(version >= *last);
    *last = version;
    if (test_random_percent(random, 20)) {
        tally_view_pin(reader, &second);
        uint64_t later = check_view(&second);
        CHECK(later >= version);
        *last = later;
        CHECK(check_view(&first) == version);
        if (test_random_percent(random, 50)) {
            tally_view_unpin(&first);
            CHECK(check_view(&second) == later);
            tally_view_unpin(&second);
            return;
        }
        tally_view_unpin(&second);
    }
    if (test_random_percent(random, 5)) {
        struct tally_view_info newest;
        do {
            tally_view_pin(reader, &second);
            tally_view_info(&second, &newest);
            tally_view_unpin(&second);
            CHECK(check_view(&first) == version);
        } while (newest.version < version + 20 && !atomic_load(&done));
        *last = newest.version;
        atomic_fetch_add_explicit(&views_kept, 1, memory_order_relaxed);
    }
    tally_view_unpin(&first);
}

static void *read_all(void *seed)
{
    struct test_random random = {*(uint64_t *)seed};
    uint64_t last = 0;
    while (!atomic_load(&done)) {
        struct tally_reader reader;
        CHECK(tally_reader_open(mirror, &reader) == TALLY_OK);
        for (uint64_t n = test_random_below(&random, 10); n; n--) read_round(&reader, &random, &last);
        tally_reader_close(&reader);
    }
    return NULL;
}

// Seats that are taken and given back, one key at a time, and the figures from aside.
static void *come_and_go(void *unused)
{
    (void)unused;
    while (!atomic_load(&done)) {
        struct tally_reader readers[8];
        int64_t value;
        for (unsigned i = 0; i < 8; i++) CHECK(tally_reader_open(mirror, &readers[i]) == TALLY_OK);
        for (unsigned i = 0; i < 8; i++)
            CHECK(tally_get(&readers[i], test_text("accounts"), test_text("version"), &value) == TALLY_OK);
        for (unsigned i = 0; i < 8; i++) tally_reader_close(&readers[i]);
        struct tally_mirror_stats stats;
        tally_mirror_stats(mirror, &stats);
        CHECK(stats.used_bytes <= stats.memory_bytes && stats.readers <= TALLY_READERS_MAX);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    uint64_t versions = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    struct test_random random = test_random_start("mirror threads");
    static struct transfers transfers;
    transfers_init(&transfers, KEYS, test_random_next(&random));
    struct tally_memory memory;
    CHECK(tally_memory_map((size_t)256 << 20, TALLY_MEMORY_HUGE, &memory) == TALLY_OK);
    const struct tally_mirror_options options = {test_text("main"), 0};
    CHECK(tally_mirror_init(&memory, &options, &mirror) == TALLY_OK);
    CHECK(tally_mirror_apply(mirror, &memory, transfers_whole(&transfers)) == TALLY_OK);

    pthread_t threads[READERS + 1];
    uint64_t seeds[READERS];
    for (unsigned i = 0; i < READERS; i++) {
        seeds[i] = test_random_next(&random);
        CHECK(pthread_create(&threads[i], NULL, read_all, &seeds[i]) == 0);
    }
    CHECK(pthread_create(&threads[READERS], NULL, come_and_go, NULL) == 0);
    uint64_t stalled = 0;
    while (transfers.version < versions || atomic_load(&views_kept) < 3) {
        struct tally_bytes frame = transfers_next(&transfers, 40);
        if (transfers.version % 500 == 0) frame = transfers_whole(&transfers);
        enum tally_status status;
        while ((status = tally_mirror_apply(mirror, &memory, frame)) == TALLY_STALLED) stalled++;
        CHECK(status == TALLY_OK);
        tally_mirror_confirm(mirror, 1, transfers.version, transfers.version + 5);
        if (transfers.version > 100 * versions) break; // nobody kept a view: fail below
    }
    atomic_store(&done, true);
    for (unsigned i = 0; i < READERS + 1; i++) pthread_join(threads[i], NULL);

    CHECK(tally_mirror_apply(mirror, &memory, transfers_next(&transfers, 40)) == TALLY_OK);
    struct tally_mirror_stats stats;
    tally_mirror_stats(mirror, &stats);
    printf("# %llu versions, %lu views checked, %lu kept, %llu waits, %llu bytes used\n",
           (unsigned long long)transfers.version, atomic_load(&views_checked), atomic_load(&views_kept),
           (unsigned long long)stalled, (unsigned long long)stats.used_bytes);
    CHECK(stats.retired_bytes == 0 && stats.readers == 0 && stats.stalled_readers == 0);
    CHECK(stats.swaps == transfers.version && stats.refused == stalled);
    CHECK(atomic_load(&views_kept) >= 3);
    tally_memory_unmap(&memory);
    tally_memory_unmap(&memory);
    transfers_deinit(&transfers);
    return 0;
}
