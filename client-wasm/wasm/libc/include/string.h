// SPDX-License-Identifier: Apache-2.0
//
// What the cores use of <string.h>, for the modules, which have no C library.
#ifndef TALLYCAST_LIBC_STRING_H
#define TALLYCAST_LIBC_STRING_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int byte, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *text);

#endif
