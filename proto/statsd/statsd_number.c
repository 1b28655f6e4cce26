// SPDX-License-Identifier: Apache-2.0
#include <statsd/statsd.h>

#define DIGITS_MAX 18

static bool digit(struct tally_bytes text, size_t at)
{
    return at < text.size && text.data[at] >= '0' && text.data[at] <= '9';
}

// What stands behind an "e"; false: nothing, or something else.
static bool exponent(struct tally_bytes text, size_t at, int *out_exponent)
{
    bool negative = at < text.size && text.data[at] == '-';
    int value = 0;
    if (negative || (at < text.size && text.data[at] == '+')) at++;
    if (!digit(text, at)) return false;
    for (; digit(text, at); at++)
        if (value < 1000) value = value * 10 + (text.data[at] - '0');
    *out_exponent = negative ? -value : value;
    return at == text.size;
}

bool tally_decimal_parse(struct tally_bytes text, struct tally_decimal *out_decimal)
{
    struct tally_decimal decimal = {0};
    size_t at = 0;
    int digits = 0, raised = 0;
    bool any = false;
    if (at < text.size && (text.data[at] == '-' || text.data[at] == '+')) {
        decimal.sign = true;
        decimal.negative = text.data[at++] == '-';
    }
    for (; digit(text, at); at++, any = true) {
        if (!decimal.mantissa && text.data[at] == '0') continue;
        if (++digits > DIGITS_MAX) return false;
        decimal.mantissa = decimal.mantissa * 10 + (unsigned)(text.data[at] - '0');
    }
    if (at < text.size && text.data[at] == '.') {
        for (at++; digit(text, at); at++, any = true) {
            if (digits == DIGITS_MAX || decimal.scale == 64) continue;
            if (decimal.mantissa || text.data[at] != '0') digits++;
            decimal.mantissa = decimal.mantissa * 10 + (unsigned)(text.data[at] - '0');
            decimal.scale++;
        }
    }
    if (!any) return false;
    if (at < text.size && (text.data[at] | 32) == 'e') {
        if (!exponent(text, at + 1, &raised)) return false;
        at = text.size;
    }
    if (at != text.size) return false;
    decimal.scale -= raised;
    *out_decimal = decimal;
    return true;
}

bool tally_decimal_scale(const struct tally_decimal *value, unsigned unit, const struct tally_decimal *rate,
                         int64_t max, int64_t *out_number)
{
    // mantissa * unit < 2^70, the rate's mantissa < 2^60: both leave room for a power of ten.
    unsigned __int128 numerator = (unsigned __int128)value->mantissa * unit, denominator = rate->mantissa;
    int power = rate->scale - value->scale;
    if (denominator == 1 && power == 0) { // nearly always
        *out_number = (int64_t)numerator;
        return numerator <= (unsigned __int128)max;
    }
    if (numerator == 0) {
        *out_number = 0;
        return true;
    }
    for (; power > 0; power--) {
        // Beyond 2^124 the quotient is beyond 2^63, whatever the rate's 60 bits.
        if (numerator >> 124) return false;
        numerator *= 10;
    }
    for (; power < 0; power++) {
        if (denominator >> 123) { // beyond what the numerator can be: less than a half
            *out_number = 0;
            return true;
        }
        denominator *= 10;
    }
    unsigned __int128 quotient = numerator / denominator, rest = numerator % denominator;
    if (rest >= denominator - rest) quotient++;
    if (quotient > (unsigned __int128)max) return false;
    *out_number = (int64_t)quotient;
    return true;
}
