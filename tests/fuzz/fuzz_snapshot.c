// SPDX-License-Identifier: Apache-2.0
//
// A server's snapshot file: as it is, and with seals that fit in all its entries. What loads is loaded by a mirror too, and both hold the same;
// written again and loaded again it is still the same.
#include "../support/build.h"
#include "fuzz.h"

#include <server/src/snapshot.h>
#include <tallycast/framefile.h>
#include <tallycast/memory.h>

enum { MEMORY = 64 << 20 };

static void write_again(const struct tally_state *state, struct tally_mirror *mirror, uint64_t lineage)
{
    static uint8_t scratch[TALLY_CHUNK_BYTES_MAX], chunk[TALLY_CHUNK_BYTES_MAX];
    struct tally_snapshot_writer writer;
    struct tally_snapshot_header header;
    struct tally_reader reader;
    struct tally_state again;
    struct tally_writer out = test_writer();
    FUZZ_CHECK(tally_reader_open(mirror, &reader) == TALLY_OK);
    FUZZ_CHECK(tally_snapshot_begin(&writer, &reader, state, lineage, &out) == TALLY_OK);
    while (!writer.done) FUZZ_CHECK(tally_snapshot_next(&writer, scratch, chunk, &out) == TALLY_OK);
    tally_snapshot_end(&writer);
    tally_reader_close(&reader);
    FUZZ_CHECK(tally_snapshot_open(tally_writer_bytes(&out), &header) == TALLY_OK);
    FUZZ_CHECK(header.lineage == lineage && header.version == state->version);
    const struct tally_state_options options = {.dataset = test_text("main"), .epoch = header.epoch};
    FUZZ_CHECK(tally_state_init(&again, &options, &tally_alloc_libc) == TALLY_OK);
    FUZZ_CHECK(tally_snapshot_load(tally_writer_bytes(&out), &again) == TALLY_OK);
    FUZZ_CHECK(tally_digest_equal(again.digest, state->digest) && again.rows == state->rows);
    FUZZ_CHECK(tally_state_due(&again) == tally_state_due(state));
    FUZZ_CHECK(again.producers.count == state->producers.count && again.epoch == state->epoch);
    tally_state_deinit(&again);
    test_writer_free(&out);
}

static void walk(struct tally_bytes file)
{
    struct tally_snapshot_header header;
    struct tally_state state;
    if (tally_snapshot_open(file, &header) != TALLY_OK) return;
    struct test_alloc alloc;
    test_alloc_init(&alloc);
    alloc.bytes_max = 256 << 20; // ids may have gaps, up to the largest one
    const struct tally_state_options options = {.dataset = test_text("main"), .epoch = header.epoch ? header.epoch : 1};
    FUZZ_CHECK(tally_state_init(&state, &options, &alloc.alloc) == TALLY_OK);
    // State and mirror read the file at the same time, so the mirror meets what the state refuses, too.
    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_bytes last;
    const struct tally_mirror_options mirror_options = {.dataset = test_text("main")};
    FUZZ_CHECK(tally_memory_map(MEMORY, 0, &memory) == TALLY_OK);
    FUZZ_CHECK(tally_mirror_init(&memory, &mirror_options, &mirror) == TALLY_OK);
    enum tally_status staged = tally_snapshot_stage(file, mirror, &memory, &last);
    if (tally_snapshot_load(file, &state) == TALLY_OK) {
        FUZZ_CHECK(state.version == header.version && state.version != 0);
        FUZZ_CHECK(staged == TALLY_OK && tally_mirror_apply(mirror, &memory, last) == TALLY_OK);
        write_again(&state, mirror, header.lineage);
    } else {
        struct tally_reader reader;
        struct tally_view view;
        struct tally_view_info info;
        tally_mirror_abandon(mirror, &memory);
        FUZZ_CHECK(tally_reader_open(mirror, &reader) == TALLY_OK);
        tally_view_pin(&reader, &view);
        tally_view_info(&view, &info);
        FUZZ_CHECK(info.version == 0 && info.rows == 0);
        tally_view_unpin(&view);
        tally_reader_close(&reader);
    }
    tally_memory_unmap(&memory);
    tally_state_deinit(&state);
    FUZZ_CHECK(alloc.blocks == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    walk(tally_bytes(data, size));
    struct tally_framefile file;
    struct tally_bytes message;
    if (tally_framefile_open(tally_bytes(data, size), &file) != TALLY_OK) return 0;
    struct tally_writer out = test_writer();
    tally_framefile_begin(&out);
    while (tally_framefile_next(&file, &message) == TALLY_OK) {
        struct tally_bytes sealed = fuzz_reseal(message);
        tally_framefile_append(&out, sealed);
        fuzz_free(sealed);
    }
    uint8_t *exact = test_exact_copy(out.data, out.size);
    walk(tally_bytes(exact, out.size));
    free(exact);
    test_writer_free(&out);
    return 0;
}
