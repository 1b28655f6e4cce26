// SPDX-License-Identifier: Apache-2.0
#include <io/json.h>

// The Unicode standard's table of well-formed sequences, as: lead byte range, range of the second byte, size.
unsigned tally_utf8_size(struct tally_bytes value)
{
    static const struct {
        uint8_t lead_min, lead_max, next_min, next_max, size;
    } forms[] = {
        {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
        {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
        {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
    };
    const uint8_t *p = value.data;
    if (p[0] < 0x80) return 1;
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (p[0] < forms[i].lead_min || p[0] > forms[i].lead_max) continue;
        if (value.size < forms[i].size || p[1] < forms[i].next_min || p[1] > forms[i].next_max) return 0;
        for (unsigned j = 2; j < forms[i].size; j++)
            if (p[j] < 0x80 || p[j] > 0xbf) return 0;
        return forms[i].size;
    }
    return 0;
}

bool tally_utf8_valid(struct tally_bytes value)
{
    for (size_t at = 0; at < value.size;) {
        unsigned size = tally_utf8_size(tally_bytes(value.data + at, value.size - at));
        if (!size) return false;
        at += size;
    }
    return true;
}
