// SPDX-License-Identifier: Apache-2.0
//
// Rows in order of their ids: one by one, and as the chunks of a whole state.
#include "layout.h"
#include <platform.h>

// The next id in use from `id` on; UINT32_MAX: none.
static uint32_t next_id(const struct tally_mirror *mirror, const struct table *table, uint32_t id)
{
    const uint32_t block_ids = ID_PAGE_IDS * ID_BLOCK_PAGES;
    const uint32_t *top = at(mirror, table->ids);
    uint64_t end = (uint64_t)table->id_blocks * block_ids;
    while (id < end) {
        if (top[id / block_ids] == 0) {
            id = (id / block_ids + 1) * block_ids;
            continue;
        }
        const struct id_page *page = id_page_of(mirror, table, id);
        if (page->tags) {
            const uint32_t *tags = at(mirror, page->tags);
            for (uint32_t i = id & (ID_PAGE_IDS - 1); i < ID_PAGE_IDS; i++, id++)
                if (tags[i]) return id;
        } else {
            id = (id | (ID_PAGE_IDS - 1)) + 1;
        }
    }
    return UINT32_MAX;
}

static int64_t id_value(const struct tally_mirror *mirror, struct tally_seed seed, const struct table *table,
                        uint32_t id)
{
    const struct row *row = id_row(mirror, seed, table, id);
    assert(row);
    return row->value;
}

bool tally_view_next(const struct tally_view *view, struct tally_cursor *cursor, struct tally_row *out_row)
{
    const struct tally_mirror *mirror = view->reader->mirror;
    for (; cursor->table < view->root->tables; *cursor = (struct tally_cursor){cursor->table + 1, 0}) {
        const struct table *table = root_table(mirror, view->root, cursor->table);
        uint32_t id = next_id(mirror, table, cursor->id);
        if (id == UINT32_MAX) continue;
        *out_row = (struct tally_row){cursor->table, id, id_key(mirror, table, id),
                                      id_value(mirror, view->root->seed, table, id)};
        cursor->id = id + 1;
        return true;
    }
    return false;
}

// ---------------------------------------------------------------------------------------------------- chunks
//
// A chunk is planned first, by the sizes of its keys and the most that an id, a key's size and a value can take, so that its end and whether
// more follows are known when its header is written, and the columns can be laid out in the scratch. Then its rows are written.

// What may come beside the rows: the header's fields; a table's tags, sizes, number, name and kind; the seal.
#define HEADER_BYTES_MAX 256u
#define TABLE_BYTES_MAX  160u
#define ROW_BYTES_MAX    (4u + 2u + 10u)
#define ROWS_FETCHED     16u

// In the scratch, as blocks. A row's bits are a little less than what ROW_BYTES_MAX leaves for them, and a table has room for what else a column
// needs: so what is planned for the frame also fits the scratch.
#define ID_BITS    28u // TALLY_ROWS_MAX
#define SIZE_BITS  10u // TALLY_KEY_BYTES_MAX
#define VALUE_BITS 64u

// The rows of one table that go into a chunk.
struct segment {
    uint32_t end_id; // the first id that does not
    uint32_t keys_bytes, rows;
    bool whole; // the table has no more
};

static struct segment plan_table(const struct tally_mirror *mirror, const struct table *table, uint32_t id,
                                 uint32_t budget)
{
    struct segment segment = {.end_id = id};
    uint32_t used = TABLE_BYTES_MAX;
    while ((id = next_id(mirror, table, id)) != UINT32_MAX) {
        uint32_t key_bytes = (uint32_t)id_key(mirror, table, id).size;
        if (used + ROW_BYTES_MAX + key_bytes > budget) return segment;
        used += ROW_BYTES_MAX + key_bytes;
        segment.keys_bytes += key_bytes;
        segment.rows++;
        segment.end_id = ++id;
    }
    segment.whole = true;
    return segment;
}

static uint32_t segment_bytes(const struct segment *segment)
{
    return TABLE_BYTES_MAX + segment->keys_bytes + segment->rows * ROW_BYTES_MAX;
}

// Fills `segments` from the cursor's table on, moves the cursor behind what they hold, and says how many there are.
static uint32_t plan_chunk(const struct tally_view *view, struct tally_cursor *cursor, struct segment *segments)
{
    uint32_t budget = TALLY_CHUNK_BYTES_MAX - HEADER_BYTES_MAX - TALLY_SEAL_BYTES, planned = 0;
    while (cursor->table < view->root->tables && budget >= 2 * TABLE_BYTES_MAX + TALLY_KEY_BYTES_MAX) {
        const struct tally_mirror *mirror = view->reader->mirror;
        struct segment *segment = &segments[planned++];
        *segment = plan_table(mirror, root_table(mirror, view->root, cursor->table), cursor->id, budget);
        if (!segment->whole) {
            if (segment->rows == 0) planned--;
            cursor->id = segment->end_id;
            break;
        }
        *cursor = (struct tally_cursor){cursor->table + 1, 0};
        budget -= segment_bytes(segment);
    }
    return planned;
}

// Lays the columns out in the scratch, as large as they can become.
static void place_columns(struct tally_frame_writer *writer, const struct segment *segment, uint8_t *scratch)
{
    const size_t bytes[TALLY_COLUMNS] = {
        [TALLY_COLUMN_ADDED] = TALLY_COLUMN_ROOM(segment->rows, ID_BITS),
        [TALLY_COLUMN_KEY_SIZES] = TALLY_COLUMN_ROOM(segment->rows, SIZE_BITS),
        [TALLY_COLUMN_KEYS] = segment->keys_bytes,
        [TALLY_COLUMN_VALUES] = TALLY_COLUMN_ROOM(segment->rows, VALUE_BITS),
    };
    static_assert((ID_BITS + SIZE_BITS + VALUE_BITS) / 8 + 1 < ROW_BYTES_MAX, "blocks of rows fit the scratch");
    static_assert(3 * TALLY_COLUMN_ROOM(1, 0) < TABLE_BYTES_MAX / 2, "and what they need at the end of a column");
    for (unsigned i = 0; i < TALLY_COLUMNS; i++) {
        writer->columns[i] = tally_writer_fixed(scratch, bytes[i]);
        scratch += bytes[i];
    }
}

static void write_table(struct tally_frame_writer *writer, const struct tally_mirror *mirror, struct tally_seed seed,
                        const struct table *table, uint32_t number, uint32_t id, const struct segment *segment)
{
    uint32_t ids[ROWS_FETCHED], ids_count;
    tally_frame_table_begin(writer, number, tally_bytes(table->name, table->name_bytes), (enum tally_kind)table->kind);
    tally_frame_table_rows(writer, table->rows);
    do {
        for (ids_count = 0; ids_count < ROWS_FETCHED; ids_count++) {
            id = next_id(mirror, table, id);
            if (id >= segment->end_id) break;
            uint64_t prefix = tag_prefix(id_tag(mirror, table, id));
            const union page *page = page_of(mirror, table, prefix);
            fetch_line(&page->cells[home_line(prefix) * PAGE_LINE_ROWS]);
            ids[ids_count] = id++;
        }
        for (uint32_t i = 0; i < ids_count; i++)
            tally_frame_added(writer, ids[i], id_key(mirror, table, ids[i]), id_value(mirror, seed, table, ids[i]));
    } while (ids_count == ROWS_FETCHED);
    tally_frame_table_end(writer);
}

enum tally_status tally_view_write_chunk(const struct tally_view *view, struct tally_cursor *cursor, uint32_t *chunk,
                                         uint8_t *scratch, uint8_t *out, size_t *out_bytes, bool *out_more)
{
    const struct tally_mirror *mirror = view->reader->mirror;
    const struct tally_root *root = view->root;
    if (root->version == 0) return TALLY_NOT_FOUND;
    if (cursor->table > root->tables) return TALLY_INVALID;

    struct segment segments[TALLY_TABLES_MAX];
    struct tally_cursor end = *cursor;
    uint32_t planned = plan_chunk(view, &end, segments);
    bool more = end.table < root->tables;
    const struct tally_frame_header header = {
        .dataset = tally_bytes(mirror->dataset, mirror->dataset_bytes),
        .epoch = root->epoch,
        .to = root->version,
        .cut_ms = root->cut_ms,
        .digest = root->digest,
        .rows = root->rows,
        .seed = root->seed,
        .chunk = *chunk,
        .more = more,
    };
    struct tally_writer writer_out = tally_writer_fixed(out, TALLY_CHUNK_BYTES_MAX);
    struct tally_frame_writer writer = {.out = &writer_out};
    tally_frame_begin(&writer, &header);
    for (uint32_t i = 0; i < planned; i++) {
        uint32_t number = cursor->table + i;
        place_columns(&writer, &segments[i], scratch);
        write_table(&writer, mirror, root->seed, root_table(mirror, root, number), number, i == 0 ? cursor->id : 0,
                    &segments[i]);
    }
    enum tally_status status = tally_frame_finish(&writer);
    if (status) return status;
    *cursor = end;
    *chunk += 1;
    *out_bytes = writer_out.size;
    *out_more = more;
    return TALLY_OK;
}
