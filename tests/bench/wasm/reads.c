// SPDX-License-Identifier: Apache-2.0
#include "reads.h"

#include <string.h>
#include <tallycast/fingerprint.h>

#define CHUNK_BYTES_MAX (1u << 20)
#define CHUNK_ROOM      4096u // for header, names and seal
#define COLUMN_BYTES    CHUNK_BYTES_MAX
#define TABLE           "t"

static struct {
    const uint8_t *text; // null: ids
    uint32_t count;
    uint32_t start[READS_NAMES_MAX];
    uint8_t size[READS_NAMES_MAX];
} names;

static struct {
    uint32_t keys_count, draws_count;
    uint64_t seed;
} made;

static struct {
    uint32_t at, size;
} draws[READS_DRAWS_MAX];

static uint8_t drawn[READS_DRAWN_MAX];
static uint8_t columns[4][COLUMN_BYTES], chunk[CHUNK_BYTES_MAX];

// ---------------------------------------------------------------------------------------------------- keys

uint32_t reads_names(const uint8_t *text, uint32_t text_bytes)
{
    uint32_t line = 0;
    names.text = text;
    names.count = 0;
    for (uint32_t i = 0; i < text_bytes && names.count < READS_NAMES_MAX; i++) {
        if (text[i] == '\n') line = i + 1;
        if (text[i] != '\t' || i == line || i - line > UINT8_MAX) continue;
        names.start[names.count] = line;
        names.size[names.count++] = (uint8_t)(i - line);
    }
    return names.count;
}

// Writes key i and says how long it is.
static uint32_t make_key(uint32_t i, uint8_t *out)
{
    if (!names.text) {
        tally_store64(out, tally_mix64(made.seed + i + 1));
        return 8;
    }
    uint32_t line = i % names.count, round = i / names.count, size = names.size[line];
    memcpy(out, names.text + names.start[line], size);
    if (round == 0) return size;
    uint8_t digits[10];
    uint32_t count = 0;
    for (; round; round /= 10) digits[count++] = (uint8_t)('0' + round % 10);
    out[size++] = '@';
    while (count) out[size++] = digits[--count];
    return size;
}

// ---------------------------------------------------------------------------------------------------- state

static struct tally_seed state_seed(void) { return (struct tally_seed){made.seed, 77}; }

static struct tally_digest state_digest(void)
{
    struct tally_digest digest = {0, 0};
    uint64_t table = tally_digest_table(state_seed(), tally_bytes((const uint8_t *)TABLE, 1));
    uint8_t key[READS_KEY_MAX];
    for (uint32_t i = 0; i < made.keys_count; i++) {
        uint32_t size = make_key(i, key);
        tally_digest_add(&digest, tally_digest_row(table, tally_fingerprint(state_seed(), key, size), (int64_t)i + 1));
    }
    return digest;
}

// Where the chunk that begins with key `next` ends.
static uint32_t chunk_end(uint32_t next)
{
    uint8_t key[READS_KEY_MAX];
    uint32_t used = CHUNK_ROOM;
    for (; next < made.keys_count; next++) {
        used += make_key(next, key) + 2 + 10 + 10; // and its size, value and id
        if (used > CHUNK_BYTES_MAX) break;
    }
    return next;
}

static enum tally_status write_chunk(const struct tally_frame_header *header, uint32_t next, uint32_t end)
{
    static const uint8_t used[4] = {TALLY_COLUMN_ADDED, TALLY_COLUMN_KEY_SIZES, TALLY_COLUMN_KEYS, TALLY_COLUMN_VALUES};
    struct tally_writer out = tally_writer_fixed(chunk, sizeof chunk);
    struct tally_frame_writer writer = {.out = &out};
    uint8_t key[READS_KEY_MAX];
    for (unsigned i = 0; i < 4; i++) writer.columns[used[i]] = tally_writer_fixed(columns[i], COLUMN_BYTES);
    tally_frame_begin(&writer, header);
    tally_frame_table_begin(&writer, 0, tally_bytes((const uint8_t *)TABLE, 1), TALLY_KIND_COUNTER);
    for (; next < end; next++)
        tally_frame_added(&writer, next, tally_bytes(key, make_key(next, key)), (int64_t)next + 1);
    tally_frame_table_end(&writer);
    enum tally_status status = tally_frame_finish(&writer);
    return status ? status : reads_apply(tally_writer_bytes(&out));
}

enum tally_status reads_load(uint32_t keys_count, uint64_t seed)
{
    made.keys_count = keys_count;
    made.seed = seed;
    struct tally_frame_header header = {
        .dataset = tally_bytes((const uint8_t *)"main", 4),
        .epoch = 1,
        .to = 1,
        .cut_ms = 1700000000000,
        .digest = state_digest(),
        .rows = keys_count,
        .seed = state_seed(),
        .more = true,
    };
    enum tally_status status = TALLY_MORE;
    for (uint32_t next = 0, end; header.more && status == TALLY_MORE; next = end, header.chunk++) {
        end = chunk_end(next);
        header.more = end < keys_count;
        status = write_chunk(&header, next, end);
    }
    return status;
}

// ---------------------------------------------------------------------------------------------------- draws

uint32_t reads_draw(uint64_t seed, uint32_t count)
{
    uint32_t used = 0, i = 0;
    if (count > READS_DRAWS_MAX) count = READS_DRAWS_MAX;
    for (; i < count && used + READS_KEY_MAX <= READS_DRAWN_MAX; i++) {
        uint64_t random = tally_mix64(seed += 0x9e3779b97f4a7c15u); // SplitMix64
        draws[i].at = used;
        draws[i].size = make_key((uint32_t)((random >> 32) * made.keys_count >> 32), drawn + used);
        used += draws[i].size;
    }
    made.draws_count = i - i % READS_MANY;
    return made.draws_count;
}

struct tally_bytes reads_drawn(uint32_t i) { return tally_bytes(drawn + draws[i].at, draws[i].size); }

// ---------------------------------------------------------------------------------------------------- loops

static volatile uint32_t no_bits = 0; // which the compiler cannot know

uint64_t reads_dependent(const struct tally_view *view, uint32_t count)
{
    uint64_t sum = 0;
    uint32_t none = no_bits;
    int64_t value = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct tally_bytes key = tally_bytes(drawn + draws[i].at + ((uint32_t)value & none), draws[i].size);
        if (tally_view_get(view, 0, key, &value)) value = 0;
        sum += (uint64_t)value;
    }
    return sum;
}

uint64_t reads_independent(const struct tally_view *view, uint32_t count)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        int64_t value = 0;
        if (tally_view_get(view, 0, reads_drawn(i), &value)) continue;
        sum += (uint64_t)value;
    }
    return sum;
}

uint64_t reads_many(const struct tally_view *view, uint32_t count)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i + READS_MANY <= count; i += READS_MANY) {
        struct tally_bytes keys[READS_MANY];
        int64_t values[READS_MANY];
        bool found[READS_MANY];
        for (uint32_t j = 0; j < READS_MANY; j++) keys[j] = reads_drawn(i + j);
        tally_view_get_many(view, 0, keys, READS_MANY, values, found);
        for (uint32_t j = 0; j < READS_MANY; j++) sum += (uint64_t)values[j];
    }
    return sum;
}
