// SPDX-License-Identifier: Apache-2.0
//
// StatsD's packets: whatever comes, each count is one that a batch can carry, and a packet cut at its newlines counts the same.
#include "fuzz.h"

#include <statsd/statsd.h>
#include <string.h>

struct heard {
    uint64_t sum, count;
};

static enum tally_status take(void *ctx, const struct tally_sum *sum)
{
    struct heard *heard = ctx;
    FUZZ_CHECK(sum->key.size >= 1 && sum->key.size <= TALLY_KEY_BYTES_MAX && tally_name_valid(sum->table));
    bool sums = sum->counting == TALLY_COUNTING_ADD;
    FUZZ_CHECK(!sums || sum->number >= 0);
    FUZZ_CHECK(sums || sum->counting == TALLY_COUNTING_MEMBER ||
               (sum->number >= -TALLY_LEVEL_MAX && sum->number <= TALLY_LEVEL_MAX));
    heard->sum += (uint64_t)sum->number;
    for (size_t i = 0; i < sum->key.size; i++) heard->sum = heard->sum * 31 + sum->key.data[i];
    heard->count++;
    return TALLY_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tally_statsd_rules rules;
    static struct tally_statsd whole, lines;
    struct heard one = {0}, other = {0};
    if (!rules.count) {
        tally_statsd_rules_init(&rules);
        FUZZ_CHECK(!tally_statsd_rules_add(&rules, "a=t"));
    }
    whole = lines = (struct tally_statsd){.rules = &rules, .take = take};
    whole.ctx = &one;
    lines.ctx = &other;
    tally_statsd_packet(&whole, tally_bytes(data, size));
    for (size_t at = 0; at < size;) {
        const uint8_t *end = memchr(data + at, '\n', size - at);
        size_t length = end ? (size_t)(end - data) - at : size - at;
        uint8_t *copy = malloc(length ? length : 1);
        if (!copy) abort();
        memcpy(copy, data + at, length);
        tally_statsd_line(&lines, tally_bytes(copy, length));
        free(copy);
        at += length + 1;
    }
    FUZZ_CHECK(one.sum == other.sum && one.count == other.count && whole.values == lines.values);
    return 0;
}
