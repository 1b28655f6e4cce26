// SPDX-License-Identifier: Apache-2.0
//
// cmocka with what its header wants before it.
#ifndef TALLY_TEST_CMOCKA_H
#define TALLY_TEST_CMOCKA_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#endif
