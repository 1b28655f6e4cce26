// SPDX-License-Identifier: Apache-2.0
#include "definitions.h"

enum {
    DEFINITION_TABLE = 1,
    DEFINITION_KIND,
    DEFINITION_TTL_MS,
    DEFINITION_MAX_KEYS,
    DEFINITION_WINDOW,
    DEFINITION_WINDOW_MS,
    DEFINITION_PANE_MS,
    DEFINITION_K,
    DEFINITION_CAPACITY,
    DEFINITION_PRECISION,
    DEFINITION_SOURCE,
};

// ---------------------------------------------------------------------------------------------------- what is right

static enum tally_status refuse(enum tally_status status, const char *why, const char **out_why)
{
    *out_why = why;
    return status;
}

static enum tally_status complete_window(struct tally_definition *d, const char **out_why)
{
    bool tumbling = d->window == TALLY_WINDOW_TUMBLING, sliding = d->window == TALLY_WINDOW_SLIDING;
    if (d->window_ms > TALLY_SPAN_MS_MAX) return refuse(TALLY_LIMIT, "a window of more than 366 days", out_why);
    if ((d->window_ms != 0) != (tumbling || sliding) || (d->pane_ms != 0) != sliding)
        return refuse(TALLY_INVALID, "a tumbling window has a length, a sliding one a length and panes", out_why);
    if (sliding && (d->pane_ms > d->window_ms || d->window_ms % d->pane_ms))
        return refuse(TALLY_INVALID, "the window's length is no multiple of its panes", out_why);
    if (sliding && d->window_ms / d->pane_ms > TALLY_PANES_MAX)
        return refuse(TALLY_LIMIT, "more than 1024 panes in a window", out_why);
    if (d->window && d->kind == TALLY_KIND_GAUGE)
        return refuse(TALLY_INVALID, "a gauge has no window: what was set last is its value; ttl lets it go", out_why);
    if (d->window && d->kind == TALLY_KIND_DISTINCT)
        return refuse(TALLY_INVALID, "a distinct table has no window: only counter, min and max have", out_why);
    return TALLY_OK;
}

static enum tally_status complete_topk(struct tally_definition *d, struct tally_bytes table, const char **out_why)
{
    if (d->ttl_ms || d->max_keys || d->window)
        return refuse(TALLY_INVALID,
                      "ttl, max-keys and window are not of a topk table, but of one that it is the top of", out_why);
    if (!d->k) d->k = TALLY_TOPK_DEFAULT;
    if (d->k > TALLY_TOPK_MAX) return refuse(TALLY_LIMIT, "k over 10000", out_why);
    if (d->source_bytes) {
        if (d->capacity) return refuse(TALLY_INVALID, "capacity: the top of another table is exact", out_why);
        if (!tally_name_valid(tally_definition_source(d)))
            return refuse(TALLY_INVALID, "of: expected a table's name", out_why);
        if (tally_bytes_equal(tally_definition_source(d), table))
            return refuse(TALLY_INVALID, "of: the table itself", out_why);
        return TALLY_OK;
    }
    if (!d->capacity) d->capacity = d->k * 10;
    if (d->capacity > TALLY_TOPK_CAPACITY_MAX) return refuse(TALLY_LIMIT, "capacity over 1048576", out_why);
    if (d->capacity < d->k) return refuse(TALLY_INVALID, "capacity below k", out_why);
    if (table.size > TALLY_NAME_BYTES_MAX - strlen(TALLY_ERROR_SUFFIX))
        return refuse(TALLY_INVALID, "no room for NAME.error: the name of a topk table has at most 58 bytes", out_why);
    return TALLY_OK;
}

enum tally_status tally_definition_complete(struct tally_definition *d, struct tally_bytes table, const char **out_why)
{
    if (!tally_name_valid(table)) return refuse(TALLY_INVALID, "expected a name of 1 to 64 of a-z 0-9 _ . -", out_why);
    if (d->kind == TALLY_KIND_UNSPECIFIED) d->kind = TALLY_KIND_COUNTER;
    if (d->kind >= TALLY_KINDS || d->window > TALLY_WINDOW_SLIDING)
        return refuse(TALLY_INVALID, "unknown kind or window", out_why);
    if (d->ttl_ms > TALLY_SPAN_MS_MAX) return refuse(TALLY_LIMIT, "a ttl of more than 366 days", out_why);
    if (d->max_keys > TALLY_ROWS_MAX) return refuse(TALLY_LIMIT, "max-keys over 268435456", out_why);
    enum tally_status status = complete_window(d, out_why);
    if (status) return status;
    if (d->kind != TALLY_KIND_TOPK && (d->k || d->capacity || d->source_bytes))
        return refuse(TALLY_INVALID, "k, capacity and of are of a topk table", out_why);
    if (d->kind != TALLY_KIND_DISTINCT && d->precision)
        return refuse(TALLY_INVALID, "precision is of a distinct table", out_why);
    if (d->kind == TALLY_KIND_TOPK) return complete_topk(d, table, out_why);
    if (d->kind != TALLY_KIND_DISTINCT) return TALLY_OK;
    if (!d->precision) d->precision = TALLY_PRECISION_DEFAULT;
    if (d->precision < TALLY_PRECISION_MIN || d->precision > TALLY_PRECISION_MAX)
        return refuse(TALLY_LIMIT, "precision is 10 to 14", out_why);
    return TALLY_OK;
}

bool tally_definition_equal(const struct tally_definition *a, const struct tally_definition *b)
{
    return a->kind == b->kind && a->window == b->window && a->ttl_ms == b->ttl_ms && a->max_keys == b->max_keys &&
           a->window_ms == b->window_ms && a->pane_ms == b->pane_ms && a->k == b->k && a->capacity == b->capacity &&
           a->precision == b->precision && tally_bytes_equal(tally_definition_source(a), tally_definition_source(b));
}

enum tally_status tally_definition_change(const struct tally_definition *old, const struct tally_definition *new,
                                          const char **out_why)
{
    if (old->kind != new->kind)
        return refuse(TALLY_INVALID, "the table has another kind, which never changes: take another name", out_why);
    if (old->capacity != new->capacity || old->precision != new->precision ||
        !tally_bytes_equal(tally_definition_source(old), tally_definition_source(new)))
        return refuse(TALLY_INVALID, "capacity, precision and of never change: take another name", out_why);
    if (old->window != new->window || old->window_ms != new->window_ms || old->pane_ms != new->pane_ms)
        return refuse(TALLY_INVALID, "the window never changes: take another name", out_why);
    return TALLY_OK;
}

struct tally_bytes tally_error_name(struct tally_bytes table, uint8_t *out)
{
    size_t suffix = strlen(TALLY_ERROR_SUFFIX);
    memcpy(out, table.data, table.size);
    memcpy(out + table.size, TALLY_ERROR_SUFFIX, suffix);
    return tally_bytes(out, table.size + suffix);
}

// ---------------------------------------------------------------------------------------------------- codec

static void write_uint(struct tally_writer *out, uint32_t number, uint64_t value)
{
    if (value) tally_write_uint(out, number, value);
}

void tally_definition_write(struct tally_writer *out, uint32_t number, struct tally_bytes table,
                            const struct tally_definition *d)
{
    uint8_t bytes[TALLY_DEFINITION_BYTES_MAX];
    struct tally_writer body = tally_writer_fixed(bytes, sizeof bytes);
    tally_write_bytes(&body, DEFINITION_TABLE, table);
    write_uint(&body, DEFINITION_KIND, d->kind);
    write_uint(&body, DEFINITION_TTL_MS, d->ttl_ms);
    write_uint(&body, DEFINITION_MAX_KEYS, d->max_keys);
    write_uint(&body, DEFINITION_WINDOW, d->window);
    write_uint(&body, DEFINITION_WINDOW_MS, d->window_ms);
    write_uint(&body, DEFINITION_PANE_MS, d->pane_ms);
    write_uint(&body, DEFINITION_K, d->k);
    write_uint(&body, DEFINITION_CAPACITY, d->capacity);
    write_uint(&body, DEFINITION_PRECISION, d->precision);
    if (d->source_bytes) tally_write_bytes(&body, DEFINITION_SOURCE, tally_definition_source(d));
    tally_write_bytes(out, number, tally_writer_bytes(&body));
}

// Numbers of 32 bits: a larger one is refused by `complete`, so that it must not be cut.
static uint32_t narrow(uint64_t value) { return value > UINT32_MAX ? UINT32_MAX : (uint32_t)value; }

static enum tally_status read_number(struct tally_definition *d, uint32_t number, uint64_t value)
{
    switch (number) {
    case DEFINITION_KIND:
        if (value >= TALLY_KINDS) return TALLY_UNSUPPORTED;
        d->kind = (enum tally_kind)value;
        break;
    case DEFINITION_WINDOW:
        if (value > TALLY_WINDOW_SLIDING) return TALLY_UNSUPPORTED;
        d->window = (enum tally_window)value;
        break;
    case DEFINITION_TTL_MS: d->ttl_ms = value; break;
    case DEFINITION_MAX_KEYS: d->max_keys = value; break;
    case DEFINITION_WINDOW_MS: d->window_ms = value; break;
    case DEFINITION_PANE_MS: d->pane_ms = value; break;
    case DEFINITION_K: d->k = narrow(value); break;
    case DEFINITION_CAPACITY: d->capacity = narrow(value); break;
    default: d->precision = narrow(value);
    }
    return TALLY_OK;
}

enum tally_status tally_definition_read(struct tally_bytes message, struct tally_bytes *out_table,
                                        struct tally_definition *out_definition)
{
    struct tally_wire wire = tally_wire(message);
    struct tally_wire_field field;
    struct tally_definition d = {0};
    struct tally_bytes table = {0};
    enum tally_status status;
    uint32_t seen = 0;
    while ((status = tally_wire_next(&wire, &field)) == TALLY_OK) {
        // A newer version's: what it means cannot be left out.
        if (field.number > DEFINITION_SOURCE) return TALLY_UNSUPPORTED;
        bool text = field.number == DEFINITION_TABLE || field.number == DEFINITION_SOURCE;
        if (field.type != (text ? TALLY_WIRE_BYTES : TALLY_WIRE_VARINT)) return TALLY_MALFORMED;
        if (seen >> field.number & 1) return TALLY_MALFORMED;
        seen |= 1u << field.number;
        if (!text) {
            if ((status = read_number(&d, field.number, field.value))) return status;
            continue;
        }
        if (!tally_name_valid(field.bytes)) return TALLY_MALFORMED;
        if (field.number == DEFINITION_TABLE) {
            table = field.bytes;
        } else {
            d.source_bytes = (uint32_t)field.bytes.size;
            memcpy(d.source, field.bytes.data, field.bytes.size);
        }
    }
    if (status != TALLY_NOT_FOUND) return status;
    if (!table.size) return TALLY_MALFORMED;
    *out_table = table;
    *out_definition = d;
    return TALLY_OK;
}
