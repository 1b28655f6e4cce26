// SPDX-License-Identifier: Apache-2.0
#include <io/reads_native.h>
#include <stdlib.h>
#include <string.h>

struct tally_reads_native {
    struct tally_mirror *mirror;
    void *owner;
    enum tally_status (*ready)(void *owner); // may be null
};

struct native_reader {
    const struct tally_reads_native *reads;
    struct tally_reader reader;
    uint8_t scratch[TALLY_CHUNK_BYTES_MAX];
};

_Static_assert(sizeof(struct tally_view) <= sizeof(struct tally_http_view), "a view does not fit");

static struct tally_view view_of(const struct tally_http_view *view)
{
    struct tally_view native;
    memcpy(&native, view->opaque, sizeof native);
    return native;
}

static enum tally_status open_reader(void *ctx, unsigned thread, void **out_reader)
{
    struct tally_reads_native *reads = ctx;
    (void)thread;
    struct native_reader *reader = malloc(sizeof *reader);
    if (!reader) return TALLY_NO_MEMORY;
    reader->reads = reads;
    enum tally_status status = tally_reader_open(reads->mirror, &reader->reader);
    if (status)
        free(reader);
    else
        *out_reader = reader;
    return status;
}

static void close_reader(void *ctx, void *reader)
{
    struct native_reader *native = reader;
    (void)ctx;
    tally_reader_close(&native->reader);
    free(native);
}

static enum tally_status pin(void *reader, struct tally_http_view *out_view)
{
    struct native_reader *native = reader;
    const struct tally_reads_native *reads = native->reads;
    struct tally_view view;
    enum tally_status status = reads->ready ? reads->ready(reads->owner) : TALLY_OK;
    if (status) return status;
    tally_view_pin(&native->reader, &view);
    memcpy(out_view->opaque, &view, sizeof view);
    return TALLY_OK;
}

static void unpin(void *reader, struct tally_http_view *view)
{
    struct tally_view native = view_of(view);
    (void)reader;
    tally_view_unpin(&native);
}

static void info(void *reader, const struct tally_http_view *view, struct tally_view_info *out_info)
{
    struct tally_view native = view_of(view);
    (void)reader;
    tally_view_info(&native, out_info);
}

static enum tally_status table_info(void *reader, const struct tally_http_view *view, uint32_t table,
                                    struct tally_table_info *out_info)
{
    struct tally_view native = view_of(view);
    (void)reader;
    return tally_view_table_info(&native, table, out_info);
}

static enum tally_status table_number(void *reader, const struct tally_http_view *view, struct tally_bytes name,
                                      uint32_t *out_table)
{
    struct tally_view native = view_of(view);
    (void)reader;
    return tally_view_table(&native, name, out_table);
}

static enum tally_status get_one(void *reader, const struct tally_http_view *view, uint32_t table,
                                 struct tally_bytes key, int64_t *out_value)
{
    struct tally_view native = view_of(view);
    (void)reader;
    return tally_view_get(&native, table, key, out_value);
}

static enum tally_status get_numbered(void *reader, const struct tally_http_view *view, uint32_t table,
                                      const struct tally_bytes *keys, size_t count, int64_t *out_values,
                                      bool *out_found)
{
    struct tally_view native = view_of(view);
    (void)reader;
    tally_view_get_many(&native, table, keys, count, out_values, out_found);
    return TALLY_OK;
}

static enum tally_status next(void *reader, const struct tally_http_view *view, struct tally_cursor *cursor,
                              struct tally_row *out_row)
{
    struct tally_view native = view_of(view);
    (void)reader;
    return tally_view_next(&native, cursor, out_row) ? TALLY_OK : TALLY_NOT_FOUND;
}

static enum tally_status write_chunk(void *reader, const struct tally_http_view *view, struct tally_cursor *cursor,
                                     uint32_t *chunk, uint8_t *out, size_t *out_bytes, bool *out_more)
{
    struct native_reader *native = reader;
    struct tally_view pinned = view_of(view);
    return tally_view_write_chunk(&pinned, cursor, chunk, native->scratch, out, out_bytes, out_more);
}

enum tally_status tally_reads_native_create(struct tally_mirror *mirror, void *owner,
                                            struct tally_reads_native **out_reads, struct tally_http_source *out_source)
{
    struct tally_reads_native *reads = malloc(sizeof *reads);
    if (!reads) return TALLY_NO_MEMORY;
    *reads = (struct tally_reads_native){.mirror = mirror, .owner = owner};
    *out_reads = reads;
    *out_source = (struct tally_http_source){
        .ctx = reads,
        .open_reader = open_reader,
        .close_reader = close_reader,
        .pin = pin,
        .unpin = unpin,
        .info = info,
        .table_info = table_info,
        .table = table_number,
        .get = get_one,
        .get_numbered = get_numbered,
        .next = next,
        .write_chunk = write_chunk,
    };
    return TALLY_OK;
}

void tally_reads_native_before(struct tally_reads_native *reads, enum tally_status (*ready)(void *owner))
{
    reads->ready = ready;
}

void tally_reads_native_destroy(struct tally_reads_native **reads)
{
    free(*reads);
    *reads = NULL;
}

void *tally_reads_native_owner(void *source_ctx) { return ((struct tally_reads_native *)source_ctx)->owner; }
