// SPDX-License-Identifier: Apache-2.0
#include "../support/with_cmocka.h"

#include "../support/memory.h"
#include "../support/random.h"

#include <server/src/keys.h>
#include <string.h>

#define KEYS 3000u

// Each key is where it was put, whatever comes and goes beside it; and what keys of one size took is there for those of any other.
static void test_come_and_go(void **state)
{
    (void)state;
    struct test_random random = test_random_start("keys");
    struct test_alloc alloc;
    struct tally_keys keys;
    static const uint8_t *held[KEYS];
    static size_t sizes[KEYS];
    static uint8_t fill[KEYS], bytes[TALLY_KEY_BYTES_MAX];
    test_alloc_init(&alloc);
    tally_keys_init(&keys, &alloc.alloc);
    memset(held, 0, sizeof held);
    for (unsigned step = 0; step < 400000; step++) {
        uint32_t i = (uint32_t)test_random_below(&random, KEYS);
        if (held[i]) {
            for (size_t b = 0; b < sizes[i]; b += 7) assert_int_equal(held[i][b], fill[i]);
            tally_keys_drop(&keys, held[i], sizes[i]);
            held[i] = NULL;
        }
        // All sizes, one after the other: 40 bytes, 80 bytes ...
        sizes[i] = 1 + (step / 16000 * 40 + test_random_below(&random, 60)) % TALLY_KEY_BYTES_MAX;
        fill[i] = (uint8_t)test_random_next(&random);
        memset(bytes, fill[i], sizes[i]);
        held[i] = tally_keys_put(&keys, tally_bytes(bytes, sizes[i]));
        assert_non_null(held[i]);
        assert_int_equal((uintptr_t)held[i] % 8, 0);
    }
    // 3,000 keys of 1 KiB, what slabs of keys of other sizes are not full, and what regions lose.
    print_message("# %zu KiB\n", alloc.bytes >> 10);
    assert_true(alloc.bytes < (8u << 20));
    size_t bytes_then = alloc.bytes;
    for (uint32_t i = 0; i < KEYS; i++) {
        if (held[i]) tally_keys_drop(&keys, held[i], sizes[i]);
    }
    for (uint32_t i = 0; i < KEYS; i++) assert_non_null(tally_keys_put(&keys, tally_bytes(bytes, 8)));
    assert_int_equal(alloc.bytes, bytes_then);
    alloc.fail_at = alloc.requests + 1;
    alloc.fail_on = true;
    while (tally_keys_put(&keys, tally_bytes(bytes, 1024))) continue;
    tally_keys_deinit(&keys);
    assert_int_equal(alloc.blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
