// SPDX-License-Identifier: Apache-2.0
#include <tallycast/kind.h>

static const struct {
    const char *name;
    size_t size;
} kinds[TALLY_KINDS] = {
#define NAME(text) {text, sizeof text - 1}
    NAME("unspecified"), NAME("counter"),  NAME("gauge"), NAME("min"),
    NAME("max"),         NAME("distinct"), NAME("topk")
#undef NAME
};

const char *tally_kind_name(enum tally_kind kind)
{
    return (unsigned)kind < TALLY_KINDS ? kinds[kind].name : "unknown";
}

enum tally_kind tally_kind_of(struct tally_bytes name)
{
    for (unsigned kind = TALLY_KIND_COUNTER; kind < TALLY_KINDS; kind++) {
        if (tally_bytes_equal(name, tally_bytes(kinds[kind].name, kinds[kind].size))) return (enum tally_kind)kind;
    }
    return TALLY_KIND_UNSPECIFIED;
}
