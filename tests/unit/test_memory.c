// SPDX-License-Identifier: Apache-2.0
//
// The native memory of a mirror: reserved whole, usable as it grows, never moved.
#include "../support/with_cmocka.h"

#include <signal.h>
#include <sys/wait.h>
#include <tallycast/memory.h>
#include <unistd.h>

#define MIB ((size_t)1 << 20)

static void test_grows_in_place(void **state)
{
    (void)state;
    struct tally_memory memory;
    assert_int_equal(tally_memory_map(9 * MIB, TALLY_MEMORY_HUGE, &memory), TALLY_OK);
    assert_int_equal(memory.size, 0);
    assert_int_equal(memory.size_max, 10 * MIB);
    assert_int_equal((uintptr_t)memory.base % (2 * MIB), 0);
    uint8_t *base = memory.base;
    size_t had = 0;
    for (size_t size = 1; size <= memory.size_max; size += 700001) {
        assert_true(memory.grow(&memory, size));
        assert_true(memory.base == base && memory.size >= size && memory.size <= memory.size_max);
        for (size_t i = had; i < memory.size; i += 4096) {
            assert_int_equal(base[i], 0);
            base[i] = 1;
        }
        had = memory.size;
    }
    assert_true(memory.grow(&memory, 10 * MIB));
    assert_true(memory.grow(&memory, 5)); // enough already
    assert_int_equal(memory.size, 10 * MIB);
    assert_false(memory.grow(&memory, 10 * MIB + 1));
    assert_int_equal(memory.size, 10 * MIB);
    assert_int_equal(base[0], 1);
    tally_memory_unmap(&memory);
    assert_null(memory.base);
    tally_memory_unmap(&memory);
}

static void test_refusals(void **state)
{
    (void)state;
    struct tally_memory memory = {.size = 42};
    assert_int_equal(tally_memory_map(0, 0, &memory), TALLY_INVALID);
    assert_int_equal(tally_memory_map(SIZE_MAX, 0, &memory), TALLY_INVALID);
    assert_int_equal(tally_memory_map(SIZE_MAX / 2, 0, &memory), TALLY_NO_MEMORY);
    assert_int_equal(memory.size, 42);
}

// What has not grown is no memory: a stray write ends the process instead of going unseen.
static void test_reserve_is_not_usable(void **state)
{
    (void)state;
    struct tally_memory memory;
    assert_int_equal(tally_memory_map(8 * MIB, 0, &memory), TALLY_OK);
    assert_true(memory.grow(&memory, 2 * MIB));
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); // cmocka has its own
        ((volatile uint8_t *)memory.base)[2 * MIB] = 1;
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    tally_memory_unmap(&memory);
}

// Shared memory means the same in a process that was forked: it reads what the other applies later.
static void test_shared(void **state)
{
    (void)state;
    struct tally_memory memory;
    int ready[2];
    char go;
    assert_int_equal(tally_memory_map(8 * MIB, TALLY_MEMORY_SHARED, &memory), TALLY_OK);
    assert_true(memory.grow(&memory, 2 * MIB));
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) _exit(read(ready[0], &go, 1) == 1 && ((uint8_t *)memory.base)[77] == 5 ? 0 : 1);
    ((uint8_t *)memory.base)[77] = 5;
    assert_int_equal(write(ready[1], "g", 1), 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(ready[0]);
    close(ready[1]);
    tally_memory_unmap(&memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grows_in_place),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_reserve_is_not_usable),
        cmocka_unit_test(test_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
