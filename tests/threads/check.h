// SPDX-License-Identifier: Apache-2.0
//
// CHECK holds in builds without assertions, too, and from any thread.
#ifndef TALLY_THREADS_CHECK_H
#define TALLY_THREADS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#endif
