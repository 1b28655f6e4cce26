// SPDX-License-Identifier: Apache-2.0
//
// The part of cmocka that the core tests use, for WASM, where there is no setjmp: the first failed assertion ends the program with
// status 1. Same names, same output, so that one test source serves both.
#ifndef TALLY_WASM_CMOCKA_H
#define TALLY_WASM_CMOCKA_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct CMUnitTest {
    const char *name;
    void (*run)(void **state);
};

#define cmocka_unit_test(function) {#function, function}

_Noreturn __attribute__((format(printf, 3, 4))) static inline void shim_fail(const char *file, int line,
                                                                             const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("[  ERROR   ] --- ");
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n[   LINE   ] --- %s:%d: error: Failure!\n", file, line);
    exit(1);
}

static inline void shim_equal(unsigned long long a, unsigned long long b, bool equal, const char *file, int line)
{
    if ((a == b) != equal) shim_fail(file, line, "%#llx %s %#llx", a, equal ? "!=" : "==", b);
}

static inline void shim_memory(const void *a, const void *b, size_t size, const char *file, int line)
{
    if (size && memcmp(a, b, size)) shim_fail(file, line, "%zu bytes differ", size);
}

static inline void shim_string(const char *a, const char *b, bool equal, const char *file, int line)
{
    if ((strcmp(a, b) == 0) != equal) shim_fail(file, line, "\"%s\" %s \"%s\"", a, equal ? "!=" : "==", b);
}

#define assert_true(c)         ((c) ? (void)0 : shim_fail(__FILE__, __LINE__, "%s", #c))
#define assert_false(c)        ((c) ? shim_fail(__FILE__, __LINE__, "!(%s)", #c) : (void)0)
#define assert_null(p)         assert_true((p) == NULL)
#define assert_non_null(p)     assert_true((p) != NULL)
#define assert_ptr_equal(a, b) assert_true((a) == (b))
#define assert_int_equal(a, b) shim_equal((unsigned long long)(a), (unsigned long long)(b), true, __FILE__, __LINE__)
#define assert_int_not_equal(a, b)                                                                                     \
    shim_equal((unsigned long long)(a), (unsigned long long)(b), false, __FILE__, __LINE__)
#define assert_memory_equal(a, b, size) shim_memory(a, b, size, __FILE__, __LINE__)
#define assert_string_equal(a, b)       shim_string(a, b, true, __FILE__, __LINE__)
#define assert_string_not_equal(a, b)   shim_string(a, b, false, __FILE__, __LINE__)
#define assert_in_range(v, low, high)   assert_true((v) >= (low) && (v) <= (high))
#define fail()                          shim_fail(__FILE__, __LINE__, "fail")
#define fail_msg(...)                   shim_fail(__FILE__, __LINE__, __VA_ARGS__)
#define print_message(...)              printf(__VA_ARGS__)
#define print_error(...)                printf(__VA_ARGS__)

static inline int shim_run(const struct CMUnitTest *tests, size_t count)
{
    printf("[==========] Running %zu test(s) in WASM.\n", count);
    for (size_t i = 0; i < count; i++) {
        void *state = NULL;
        printf("[ RUN      ] %s\n", tests[i].name);
        fflush(stdout);
        tests[i].run(&state);
        printf("[       OK ] %s\n", tests[i].name);
    }
    printf("[  PASSED  ] %zu test(s).\n", count);
    return 0;
}

#define cmocka_run_group_tests(tests, setup, teardown) shim_run((tests), sizeof(tests) / sizeof((tests)[0]))

#endif
