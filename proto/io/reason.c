// SPDX-License-Identifier: Apache-2.0
#include <io/reason.h>
#include <stdarg.h>
#include <stdio.h>

void tally_reason_set(struct tally_reason *reason, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(reason->text, sizeof reason->text, format, arguments);
    va_end(arguments);
}
