// SPDX-License-Identifier: Apache-2.0
#include "explain.h"

enum { BATCH_TABLES = 4 };
enum {
    ENTRIES_TABLE = 1,
    ENTRIES_KEYS,
    ENTRIES_AMOUNTS,
    ENTRIES_REMOVED,
    ENTRIES_KIND,
    ENTRIES_ADJUST,
    ENTRIES_MEMBERS
};

// What one TableEntries says of itself.
struct found {
    uint64_t keys, removed, amounts, members, kind, adjust;
};

static const char *explain_key(struct tally_bytes key)
{
    if (key.size == 0) return "a key that is empty";
    return key.size > TALLY_KEY_BYTES_MAX ? "a key of more than 1024 bytes" : NULL;
}

static uint64_t count_varints(struct tally_bytes bytes)
{
    struct tally_wire wire = tally_wire(bytes);
    uint64_t count = 0, ignored;
    while (!tally_wire_done(&wire) && tally_wire_varint(&wire, &ignored)) count++;
    return count;
}

static const char *explain_field(const struct tally_wire_field *field, struct found *found,
                                 struct tally_refusal *out_refusal)
{
    switch (field->number) {
    case ENTRIES_TABLE:
        if (!tally_name_valid(field->bytes)) return "a table's name that is not 1 to 64 of a-z 0-9 _ . -";
        out_refusal->table = field->bytes;
        return NULL;
    case ENTRIES_KEYS: found->keys++; return explain_key(field->bytes);
    case ENTRIES_REMOVED: found->removed++; return explain_key(field->bytes);
    case ENTRIES_AMOUNTS: found->amounts += count_varints(field->bytes); return NULL;
    case ENTRIES_MEMBERS: found->members += field->bytes.size / 8; return NULL;
    case ENTRIES_KIND: found->kind = field->value; return NULL;
    case ENTRIES_ADJUST: found->adjust = field->value; return NULL;
    default: return NULL;
    }
}

// What does not fit together.
static const char *explain_whole(const struct found *found)
{
    bool any = found->kind == TALLY_KIND_UNSPECIFIED, distinct = found->kind == TALLY_KIND_DISTINCT;
    if (found->kind >= TALLY_KINDS) return "a kind that is not known here";
    if (found->members && found->amounts) return "both amounts and members";
    if (found->members && !any && !distinct) return "members, but its kind is not distinct";
    if (found->amounts && distinct) return "amounts, but its kind is distinct";
    if (found->adjust && !any && found->kind != TALLY_KIND_GAUGE) return "adjustments, but its kind is not gauge";
    if (found->keys != found->amounts + found->members) return "not one amount, or one member, for each key";
    return NULL;
}

// Of one table; *entries: of the batch so far. Null when nothing is wrong with it.
static const char *explain_table(struct tally_bytes message, uint64_t *entries, struct tally_refusal *out_refusal)
{
    struct tally_wire wire = tally_wire(message);
    struct tally_wire_field field;
    struct found found = {0};
    while (tally_wire_next(&wire, &field) == TALLY_OK) {
        const char *what = explain_field(&field, &found, out_refusal);
        if (what) return what;
    }
    *entries += found.keys + found.removed;
    if (*entries > TALLY_BATCH_ENTRIES_MAX) return "more than 131072 entries in one batch, up to here";
    return explain_whole(&found);
}

void tally_explain_batch(struct tally_bytes batch, enum tally_status status, struct tally_refusal *out_refusal)
{
    struct tally_wire wire = tally_wire(batch);
    struct tally_wire_field field;
    struct tally_refusal refusal = {0};
    uint64_t entries = 0;
    if (status == TALLY_LIMIT && batch.size > TALLY_BATCH_BYTES_MAX)
        refusal.what = "a batch of more than 1048576 bytes";
    while (!refusal.what && tally_wire_next(&wire, &field) == TALLY_OK) {
        if (field.number == BATCH_TABLES && field.type == TALLY_WIRE_BYTES) {
            refusal.table = (struct tally_bytes){0};
            refusal.what = explain_table(field.bytes, &entries, &refusal);
        }
    }
    if (refusal.what) *out_refusal = refusal;
}
