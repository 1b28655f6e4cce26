// SPDX-License-Identifier: Apache-2.0
//
// A `struct tally_alloc` that counts what is out, can refuse the nth request, and tells leaks; and a growable
// writer. Include once per test. Threads: an object belongs to one thread.
#ifndef TALLY_TEST_MEMORY_H
#define TALLY_TEST_MEMORY_H

#include <stdlib.h>
#include <tallycast/alloc.h>
#include <tallycast/wire.h>

struct test_alloc {
    struct tally_alloc alloc; // hand out &alloc
    size_t blocks;            // not yet freed; 0 at the end, or there is a leak
    size_t bytes, bytes_max;  // out now; refuses to pass bytes_max when that is not 0
    size_t requests;          // made so far, frees apart
    size_t fail_at;           // refuse the request with this number (1, 2 ...); 0: none
    bool fail_on;             // ... and all after it
};

// Each block has its size before it, at the alignment of malloc.
#define TEST_ALLOC_HEAD 16u

static inline void *test_alloc_resize(void *ctx, void *block, size_t size)
{
    struct test_alloc *test = ctx;
    uint8_t *head = block ? (uint8_t *)block - TEST_ALLOC_HEAD : NULL;
    size_t old = head ? *(size_t *)(void *)head : 0;
    if (size == 0) {
        if (head) test->blocks--;
        test->bytes -= old;
        free(head);
        return NULL;
    }
    size_t number = ++test->requests;
    if (test->fail_at && (number == test->fail_at || (test->fail_on && number > test->fail_at))) return NULL;
    if (test->bytes_max && test->bytes - old + size > test->bytes_max) return NULL;
    uint8_t *grown = realloc(head, size + TEST_ALLOC_HEAD);
    if (!grown) return NULL;
    *(size_t *)(void *)grown = size;
    if (!head) test->blocks++;
    test->bytes += size - old;
    return grown + TEST_ALLOC_HEAD;
}

// `test` must stay where it is: the allocator points to it.
static inline void test_alloc_init(struct test_alloc *test)
{
    *test = (struct test_alloc){.alloc = {.resize = test_alloc_resize, .ctx = test}};
}

static inline bool test_writer_grow(struct tally_writer *writer, size_t capacity_min)
{
    size_t capacity = capacity_min < 256 ? 256 : capacity_min * 2;
    uint8_t *data = realloc(writer->data, capacity);
    if (!data) return false;
    writer->data = data;
    writer->capacity = capacity;
    return true;
}

// A writer that grows on the heap; free it with test_writer_free.
static inline struct tally_writer test_writer(void) { return (struct tally_writer){.grow = test_writer_grow}; }

static inline void test_writer_free(struct tally_writer *writer)
{
    free(writer->data);
    *writer = test_writer();
}

// Copies `size` bytes to a heap block of exactly that size, so that a sanitizer sees a read past the end.
// Never null.
static inline uint8_t *test_exact_copy(const void *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) abort();
    if (size) memcpy(copy, data, size);
    return copy;
}

#endif
