// SPDX-License-Identifier: Apache-2.0
//
// Frames and batches for tests, with the columns' and scratch memory taken care of. Include after cmocka when
// there is one.
//
//   struct test_frame frame; test_frame_init(&frame);
//   tally_frame_begin(&frame.writer, &header); ... tally_frame_finish(&frame.writer) ...
//   test_frame_bytes(&frame) test_frame_free(&frame);
#ifndef TALLY_TEST_BUILD_H
#define TALLY_TEST_BUILD_H

#include "memory.h"

#include <tallycast/batch.h>
#include <tallycast/frame.h>

struct test_frame {
    struct tally_frame_writer writer;
    struct tally_writer out;
};

// `frame` must stay where it is: the writer points into it.
static inline void test_frame_init(struct test_frame *frame)
{
    *frame = (struct test_frame){.out = test_writer()};
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) frame->writer.columns[i] = test_writer();
    frame->writer.out = &frame->out;
}

static inline void test_frame_free(struct test_frame *frame)
{
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) test_writer_free(&frame->writer.columns[i]);
    test_writer_free(&frame->out);
}

static inline struct tally_bytes test_frame_bytes(const struct test_frame *frame)
{
    return tally_writer_bytes(&frame->out);
}

struct test_batch {
    struct tally_batch_writer writer;
    struct tally_writer out;
};

static inline void test_batch_init(struct test_batch *batch)
{
    *batch = (struct test_batch){.out = test_writer()};
    batch->writer.body = batch->writer.entries = batch->writer.amounts = test_writer();
    batch->writer.out = &batch->out;
}

static inline void test_batch_free(struct test_batch *batch)
{
    test_writer_free(&batch->writer.body);
    test_writer_free(&batch->writer.entries);
    test_writer_free(&batch->writer.amounts);
    test_writer_free(&batch->out);
}

static inline struct tally_bytes test_batch_bytes(const struct test_batch *batch)
{
    return tally_writer_bytes(&batch->out);
}

static inline struct tally_bytes test_text(const char *text) { return tally_bytes(text, strlen(text)); }

#endif
