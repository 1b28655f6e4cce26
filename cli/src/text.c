// SPDX-License-Identifier: Apache-2.0
#include "cli.h"

#include <string.h>

const char *cli_thousands(uint64_t number, char out_text[32])
{
    char digits[24];
    int count = snprintf(digits, sizeof digits, "%llu", (unsigned long long)number);
    char *to = out_text;
    for (int i = 0; i < count; i++) {
        if (i && (count - i) % 3 == 0) *to++ = ',';
        *to++ = digits[i];
    }
    *to = 0;
    return out_text;
}

const char *cli_bytes(double bytes, char out_text[32])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    unsigned unit = 0;
    while (bytes >= 1000 && unit + 1 < sizeof units / sizeof *units) bytes /= 1000, unit++;
    snprintf(out_text, 32, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return out_text;
}

void cli_write_escaped(FILE *out, struct tally_bytes key)
{
    const uint8_t *from = key.data, *end = key.data + key.size;
    for (const uint8_t *p = from; p != end; p++) {
        char letter = *p == '\t' ? 't' : *p == '\n' ? 'n' : *p == '\r' ? 'r' : *p == '\\' ? '\\' : 0;
        if (!letter) continue;
        fwrite(from, 1, (size_t)(p - from), out);
        putc('\\', out);
        putc(letter, out);
        from = p + 1;
    }
    fwrite(from, 1, (size_t)(end - from), out);
}

size_t cli_unescape(uint8_t *text, size_t size)
{
    uint8_t *to = text;
    for (size_t i = 0; i < size; i++) {
        if (text[i] != '\\') {
            *to++ = text[i];
            continue;
        }
        if (++i == size) return SIZE_MAX;
        switch (text[i]) {
        case 't': *to++ = '\t'; break;
        case 'n': *to++ = '\n'; break;
        case 'r': *to++ = '\r'; break;
        case '\\': *to++ = '\\'; break;
        default: return SIZE_MAX;
        }
    }
    return (size_t)(to - text);
}
