// SPDX-License-Identifier: Apache-2.0
//
// Inside of the stored copy: store.c (directory, reading it at start, queue), store_write.c (the writing thread).
#ifndef TALLYCAST_EDGE_STORE_INTERNAL_H
#define TALLYCAST_EDGE_STORE_INTERNAL_H

#include "file_at.h"
#include "store.h"

#include <pthread.h>
#include <stdatomic.h>

// A frame that waits to be written. Size 0: write the copy anew.
struct store_item {
    struct store_item *next;
    size_t size;
    uint8_t data[];
};

struct tally_store {
    struct tally_store_options options; // directory and dataset are not kept in here
    int directory, lock;                // descriptors; lock -1: nothing may be written
    char dataset[TALLY_NAME_BYTES_MAX];
    size_t dataset_size;

    // The writing thread's, but before it starts and after it ended.
    int file;                // copy.frames; -1: none
    uint64_t file_size;      // good bytes in it
    uint64_t epoch, version; // what it leads to; 0: nothing that may be appended to
    bool wanted;             // it must be written anew
    uint64_t retry_at_ms;    // not before; monotonic
    const struct tally_http_source *source;
    unsigned reader_number;
    void *reader; // opened on the thread, with the first rewrite
    uint8_t *chunk;

    pthread_t thread;
    bool started;
    atomic_bool stopping;
    _Atomic uint64_t stop_by_ms; // monotonic; set before `stopping`

    pthread_mutex_t mutex; // of what follows
    pthread_cond_t wake;
    struct store_item *head, **tail;
    struct tally_store_stats stats;
};

#define COPY     "copy.frames"
#define COPY_NEW "copy.new"
#define COPY_BAD "copy.bad"

void *store_thread(void *store);
uint64_t store_monotonic_ms(void);

#endif
