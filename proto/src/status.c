// SPDX-License-Identifier: Apache-2.0
#include <tallycast/bytes.h>
#include <tallycast/digest.h>
#include <tallycast/limits.h>
#include <tallycast/status.h>

const char *tally_status_str(enum tally_status status)
{
    switch (status) {
#define X(name, number, text)                                                                                          \
    case TALLY_##name: return text;
        TALLY_STATUS_LIST(X)
#undef X
    }
    return "unknown status";
}

bool tally_name_valid(struct tally_bytes name)
{
    if (name.size == 0 || name.size > TALLY_NAME_BYTES_MAX) return false;
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
        if (!ok) return false;
    }
    return true;
}

void tally_digest_format(struct tally_digest digest, char out_text[TALLY_DIGEST_HEX_BYTES])
{
    static const char hex[] = "0123456789abcdef";
    for (unsigned i = 0; i < 16; i++) {
        out_text[i] = hex[digest.hi >> (60 - 4 * i) & 15];
        out_text[16 + i] = hex[digest.lo >> (60 - 4 * i) & 15];
    }
    out_text[32] = '\0';
}

bool tally_digest_parse(const char *text, struct tally_digest *out_digest)
{
    uint64_t half[2] = {0, 0};
    for (unsigned i = 0; i < 32; i++) {
        char c = text[i];
        unsigned digit;
        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else
            return false;
        half[i / 16] = half[i / 16] << 4 | digit;
    }
    if (text[32] != '\0') return false;
    *out_digest = (struct tally_digest){.lo = half[1], .hi = half[0]};
    return true;
}
