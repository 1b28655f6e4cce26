// SPDX-License-Identifier: Apache-2.0
//
// What the files of load_ingest share: batches made beforehand, and the peers that they are made for.
#ifndef TALLY_BENCH_LOAD_INGEST_H
#define TALLY_BENCH_LOAD_INGEST_H

#include <tallycast/bytes.h>

#define POOL_EVENTS (2u << 20) // of the batches that rounds go around in

struct load_event {
    uint32_t key, amount;
};

struct load_batch {
    struct load_event *events;
    size_t count;
    uint64_t amounts, times;  // sum of its amounts; how often it was acknowledged
    struct tally_bytes bytes; // as its peer takes it
};

struct load;

struct load_peer {
    const char *name;
    // The bytes of a batch, on the heap.
    struct tally_bytes (*encode)(struct load *load, const struct load_batch *batch);
    void (*open)(struct load *load);
    // Takes batches until there are none, and returns when all are acknowledged.
    void (*run)(struct load *load);
};

extern const struct load_peer load_tally, load_redis, load_statsd;

struct load {
    const struct load_peer *peer;
    const char *where;
    struct tally_bytes *keys; // with a NUL behind each
    size_t keys_count, batch_events, in_flight, round_events;
    uint64_t random;
    struct load_batch *pool;
    size_t pool_count, first_count;
    size_t next, end, sent; // numbers of batches over all rounds; `next` by any thread
    uint64_t amounts;
    void *own; // the peer's
};

// The next batch of the round, or null. Any thread.
const struct load_batch *load_take(struct load *load);
uint64_t load_random(struct load *load);
void *load_memory(size_t bytes); // zeroed; ends the process when there is none
void load_fail(const char *what);

#endif
