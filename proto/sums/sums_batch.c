// SPDX-License-Identifier: Apache-2.0
#include <sums/sums_batch.h>
#include <tallycast/limits.h>

// Encoded sizes, from above: a table's tags, kind and the sizes of its columns; the batch's header and the Request around it.
#define TABLE_OVERHEAD 48u
#define BATCH_OVERHEAD 160u

static enum tally_kind kind_of(enum tally_counting counting)
{
    static const enum tally_kind kinds[TALLY_COUNTINGS] = {
        [TALLY_COUNTING_ADD] = TALLY_KIND_COUNTER,     [TALLY_COUNTING_SET] = TALLY_KIND_GAUGE,
        [TALLY_COUNTING_ADJUST] = TALLY_KIND_GAUGE,    [TALLY_COUNTING_MIN] = TALLY_KIND_MIN,
        [TALLY_COUNTING_MAX] = TALLY_KIND_MAX,         [TALLY_COUNTING_TOPK] = TALLY_KIND_TOPK,
        [TALLY_COUNTING_MEMBER] = TALLY_KIND_DISTINCT,
    };
    return kinds[counting];
}

static bool same_table(const struct tally_sum *a, const struct tally_sum *b)
{
    return kind_of(a->counting) == kind_of(b->counting) && tally_bytes_equal(a->table, b->table);
}

uint32_t tally_sums_fit(const struct tally_sums *sums, uint32_t first, size_t bytes_max)
{
    uint32_t all = tally_sums_count(sums), count = 0;
    size_t bytes = BATCH_OVERHEAD + TALLY_NAME_BYTES_MAX;
    struct tally_sum last, sum;
    for (; first + count < all && count < TALLY_BATCH_ENTRIES_MAX; count++) {
        tally_sums_at(sums, first + count, &sum);
        bytes += tally_sum_bytes(&sum);
        // Twice: a gauge's table comes as what is set and as what is adjusted.
        if (!count || !same_table(&last, &sum)) bytes += 2 * (sum.table.size + TABLE_OVERHEAD);
        if (count && bytes > bytes_max) break;
        last = sum;
    }
    return count;
}

// The entries of one table that are counted like the first of them, from number `at` to `end` - 1.
static void write_like(const struct tally_sums *sums, uint32_t at, uint32_t end, enum tally_counting counting,
                       struct tally_batch_writer *writer)
{
    struct tally_sum sum;
    bool begun = false;
    for (; at < end; at++) {
        tally_sums_at(sums, at, &sum);
        if (sum.counting != counting) continue;
        if (!begun) tally_batch_table_begin_as(writer, sum.table, kind_of(counting), counting == TALLY_COUNTING_ADJUST);
        begun = true;
        if (counting == TALLY_COUNTING_MEMBER)
            tally_batch_add_member(writer, sum.key, (uint64_t)sum.number);
        else
            tally_batch_add(writer, sum.key, sum.number);
    }
    if (begun) tally_batch_table_end(writer);
}

void tally_sums_write(const struct tally_sums *sums, uint32_t first, uint32_t count, struct tally_batch_writer *writer)
{
    struct tally_sum sum, other;
    for (uint32_t at = first, end; at < first + count; at = end) {
        tally_sums_at(sums, at, &sum);
        for (end = at + 1; end < first + count; end++) {
            tally_sums_at(sums, end, &other);
            if (!same_table(&sum, &other)) break;
        }
        if (kind_of(sum.counting) == TALLY_KIND_GAUGE) {
            write_like(sums, at, end, TALLY_COUNTING_SET, writer);
            write_like(sums, at, end, TALLY_COUNTING_ADJUST, writer);
        } else {
            write_like(sums, at, end, sum.counting, writer);
        }
    }
}
