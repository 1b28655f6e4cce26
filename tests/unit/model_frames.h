// SPDX-License-Identifier: Apache-2.0
//
// A naive state of one table "t" with keys "key-0", "key-1" ..., that cuts real frames: what a mirror must accept. Rows only come
// and change here; tests/unit/test_mirror*.c try the rest.
#ifndef TALLY_TEST_MODEL_FRAMES_H
#define TALLY_TEST_MODEL_FRAMES_H

#include "../support/build.h"
#include "../support/random.h"

#include <stdio.h>
#include <tallycast/fingerprint.h>

struct model {
    uint64_t epoch, version;
    struct tally_seed seed;
    struct tally_digest digest;
    uint32_t rows, rows_max;
    int64_t *values;
    bool uneven; // each row moves by its own step, so that frames are not small
};

static inline void model_init(struct model *model, uint64_t epoch, uint32_t rows_max)
{
    *model = (struct model){.epoch = epoch, .seed = {epoch, 77}, .rows_max = rows_max};
    model->values = calloc(rows_max, sizeof *model->values);
    if (!model->values) abort();
}

static inline void model_free(struct model *model) { free(model->values); }

static inline struct tally_bytes model_key(uint32_t row, char out_text[32])
{
    return tally_bytes(out_text, (size_t)snprintf(out_text, 32, "key-%u", row));
}

static inline struct tally_digest model_row(const struct model *model, uint32_t row)
{
    char text[32];
    struct tally_bytes key = model_key(row, text);
    return tally_digest_row(tally_digest_table(model->seed, test_text("t")),
                            tally_fingerprint(model->seed, key.data, key.size), model->values[row]);
}

static inline int64_t model_step(const struct model *model, int64_t step, uint32_t row)
{
    return model->uneven ? step + (int64_t)(tally_mix64(row + model->version) % 200) : step;
}

// The next version: every row moves by `step`, `more` rows come, each with its number as value. A frame of it; from 0
// when the model was empty.
static inline struct tally_bytes model_cut(struct model *model, int64_t step, uint32_t more, struct test_frame *frame)
{
    uint32_t rows = model->rows;
    test_frame_init(frame);
    for (uint32_t i = 0; i < rows; i++) {
        tally_digest_subtract(&model->digest, model_row(model, i));
        model->values[i] += model_step(model, step, i);
        tally_digest_add(&model->digest, model_row(model, i));
    }
    for (; more-- && model->rows < model->rows_max; model->rows++) {
        model->values[model->rows] = model->rows;
        tally_digest_add(&model->digest, model_row(model, model->rows));
    }
    struct tally_frame_header header = {.dataset = test_text("main"),
                                        .epoch = model->epoch,
                                        .from = model->version,
                                        .to = model->version + 1,
                                        .cut_ms = 1700000000000 + model->version,
                                        .digest = model->digest,
                                        .rows = model->rows,
                                        .seed = model->seed};
    tally_frame_begin(&frame->writer, &header);
    tally_frame_table_begin(&frame->writer, 0, rows ? (struct tally_bytes){0} : test_text("t"), TALLY_KIND_COUNTER);
    for (uint32_t i = 0; i < rows; i++) tally_frame_changed(&frame->writer, i, model_step(model, step, i));
    for (uint32_t i = rows; i < model->rows; i++) {
        char text[32];
        tally_frame_added(&frame->writer, i, model_key(i, text), model->values[i]);
    }
    tally_frame_table_end(&frame->writer);
    if (tally_frame_finish(&frame->writer) != TALLY_OK) abort();
    model->version++;
    return test_frame_bytes(frame);
}

#endif
