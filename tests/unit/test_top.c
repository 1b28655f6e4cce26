// SPDX-License-Identifier: Apache-2.0
//
// The greatest rows against a sort of all of them: many equal values, keys that begin alike, fewer rows than asked for.
#include "../support/random.h"
#include "../support/with_cmocka.h"
#include <stdlib.h>
#include <string.h>
#include <tallycast/top.h>

enum { ROWS_MAX = 300 };

static int before(const void *left, const void *right)
{
    const struct tally_row *a = left, *b = right;
    if (a->value != b->value) return a->value > b->value ? -1 : 1;
    size_t size = a->key.size < b->key.size ? a->key.size : b->key.size;
    int order = memcmp(a->key.data, b->key.data, size);
    return order ? order : (a->key.size > b->key.size) - (a->key.size < b->key.size);
}

static void test_against_a_sort(void **state)
{
    struct test_random random = test_random_start("top");
    static uint8_t keys[ROWS_MAX][8];
    (void)state;
    for (unsigned turn = 0; turn < 2000; turn++) {
        struct tally_row rows[ROWS_MAX], best[ROWS_MAX];
        uint32_t count = (uint32_t)test_random_below(&random, ROWS_MAX), k = (uint32_t)test_random_below(&random, 40);
        uint64_t values = test_random_percent(&random, 50) ? 5 : 1000;
        for (uint32_t i = 0; i < count; i++) {
            memcpy(keys[i], &i, sizeof i); // so that no two are the same
            memset(keys[i] + 4, 'a', 4);
            rows[i] = (struct tally_row){.id = i,
                                         .key = tally_bytes(keys[i], test_random_between(&random, 4, 8)),
                                         .value = (int64_t)test_random_below(&random, values) - 2};
        }
        struct tally_best top = {.rows = best, .capacity = k};
        for (uint32_t i = 0; i < count; i++) tally_best_offer(&top, &rows[i]);
        tally_best_sort(&top);
        qsort(rows, count, sizeof *rows, before);
        assert_int_equal(top.count, k < count ? k : count);
        for (uint32_t i = 0; i < top.count; i++) assert_int_equal(best[i].id, rows[i].id);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_a_sort)};
    return cmocka_run_group_tests_name("top", tests, NULL, NULL);
}
