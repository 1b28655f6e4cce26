// SPDX-License-Identifier: Apache-2.0
//
// The mirror against a naive one: an input is several frames (fuzz.h). Each is sealed and, when it is a change in one piece, given the digest
// and the row count of the naive result, so that damage comes through to the published version. Both must then say the same and
// hold the same. A view pinned at one version must stay as it was.
#include "../support/build.h"
#include "../support/naive.h"
#include "fuzz.h"

#include <tallycast/memory.h>
#include <tallycast/mirror.h>

enum { MEMORY = 32 << 20, FRAMES = 64, ROWS = 3000 };

// The frame's fields but for the digest, the row count and the check, and then those as they should be.
static struct tally_bytes correct(struct tally_bytes frame, struct tally_digest digest, uint64_t rows)
{
    struct tally_writer out = test_writer();
    struct tally_wire wire = tally_wire(frame);
    struct tally_wire_field field;
    for (const uint8_t *at = wire.at; tally_wire_next(&wire, &field) == TALLY_OK; at = wire.at) {
        if (field.number != 6 && field.number != 7 && field.number != 15)
            tally_write_raw(&out, at, (size_t)(wire.at - at));
    }
    uint8_t bytes[TALLY_DIGEST_BYTES];
    tally_digest_store(bytes, digest);
    tally_write_bytes(&out, 6, tally_bytes(bytes, sizeof bytes));
    tally_write_uint(&out, 7, rows);
    tally_seal(&out, 0);
    struct tally_bytes exact = tally_bytes(test_exact_copy(out.data, out.size), out.size);
    test_writer_free(&out);
    return exact;
}

static void compare(const struct tally_view *view, struct naive_state *naive)
{
    struct tally_view_info info;
    tally_view_info(view, &info);
    FUZZ_CHECK(info.epoch == naive->epoch && info.version == naive->version);
    FUZZ_CHECK(info.tables == naive->tables && info.rows == naive->count);
    FUZZ_CHECK(tally_digest_equal(info.digest, naive->digest));
    struct tally_cursor cursor = {0};
    struct tally_row row;
    size_t listed = 0;
    for (uint64_t last = 0; tally_view_next(view, &cursor, &row); listed++) {
        uint64_t place = (uint64_t)row.table << 32 | row.id;
        FUZZ_CHECK(listed == 0 || place > last);
        last = place;
        const struct naive_row *expected = naive_find_id(naive, row.table, row.id);
        FUZZ_CHECK(expected && row.value == expected->value);
        FUZZ_CHECK(tally_bytes_equal(row.key, tally_bytes(expected->key, expected->key_bytes)));
        int64_t value;
        FUZZ_CHECK(tally_view_get(view, row.table, row.key, &value) == TALLY_OK && value == row.value);
    }
    FUZZ_CHECK(listed == naive->count);
    for (uint32_t i = 0; i < naive->tables; i++) {
        uint32_t number = UINT32_MAX;
        FUZZ_CHECK(tally_view_table(view, test_text(naive->names[i]), &number) == TALLY_OK && number == i);
    }
    int64_t value;
    FUZZ_CHECK(tally_view_get(view, 0, test_text("never a key"), &value) == TALLY_NOT_FOUND);
}

// The frame as the mirror is to get it: sealed, and corrected where its digest can be known.
static struct tally_bytes prepare(struct naive *naive, struct tally_bytes message)
{
    struct tally_bytes sealed = fuzz_reseal(message);
    struct tally_frame_reader reader;
    if (tally_frame_open(sealed, &reader) != TALLY_OK || reader.header.chunk || reader.header.more) return sealed;
    bool staging = naive->staging;
    struct naive kept = {0};
    if (staging) {
        kept.first = naive->first;
        kept.next_chunk = naive->next_chunk;
        naive_copy(&kept.staged, &naive->staged);
    }
    enum tally_status status = naive_stage(naive, sealed);
    if (status == TALLY_OK) {
        struct tally_bytes corrected = correct(sealed, naive->staged.digest, naive->staged.count);
        fuzz_free(sealed);
        sealed = corrected;
    }
    if (staging) {
        naive->first = kept.first;
        naive->next_chunk = kept.next_chunk;
        naive_copy(&naive->staged, &kept.staged);
        naive_clear(&kept.staged);
    }
    naive->staging = staging;
    return sealed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tally_memory memory;
    struct tally_mirror *mirror;
    struct tally_reader reader;
    struct tally_view view, pinned;
    struct naive naive;
    struct naive_state then = {0};
    bool has_pinned = false;
    const struct tally_mirror_options options = {.dataset = test_text("main")};
    FUZZ_CHECK(tally_memory_map(MEMORY, 0, &memory) == TALLY_OK);
    FUZZ_CHECK(tally_mirror_init(&memory, &options, &mirror) == TALLY_OK);
    FUZZ_CHECK(tally_reader_open(mirror, &reader) == TALLY_OK);
    naive_init(&naive, "main");

    struct tally_bytes input = tally_bytes(data, size), message;
    for (unsigned i = 0; i < FRAMES && fuzz_next(&input, &message) && naive.held.count + naive.staged.count < ROWS;
         i++) {
        struct tally_bytes frame = prepare(&naive, message);
        enum tally_status got = tally_mirror_apply(mirror, &memory, frame), expected;
        fuzz_free(frame);
        frame = prepare(&naive, message);
        expected = naive_apply(&naive, frame);
        fuzz_free(frame);
        if (got == TALLY_NO_MEMORY || got == TALLY_STALLED) break;
        if (got != expected)
            fprintf(stderr, "frame %u: mirror \"%s\", naive \"%s\"\n", i, tally_status_str(got),
                    tally_status_str(expected));
        FUZZ_CHECK(got == expected);
        tally_view_pin(&reader, &view);
        compare(&view, &naive.held);
        tally_view_unpin(&view);
        if (!has_pinned && got == TALLY_OK) {
            has_pinned = true;
            tally_view_pin(&reader, &pinned);
            naive_copy(&then, &naive.held);
        }
        if (has_pinned) compare(&pinned, &then);
    }
    if (has_pinned) tally_view_unpin(&pinned);
    tally_reader_close(&reader);
    tally_memory_unmap(&memory);
    naive_free(&naive);
    naive_clear(&then);
    return 0;
}
