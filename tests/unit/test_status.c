// SPDX-License-Identifier: Apache-2.0
#include "../support/with_cmocka.h"

#include <ctype.h>
#include <string.h>
#include <tallycast/bytes.h>
#include <tallycast/status.h>

static void test_list(void **state)
{
    (void)state;
    static const struct {
        int number;
        const char *text;
    } list[] = {
#define X(name, number, text) {number, text},
        TALLY_STATUS_LIST(X)
#undef X
    };
    const int count = sizeof list / sizeof *list;
    for (int i = 0; i < count; i++) {
        // The numbers are on the wire and in the WASM ABI: dense, in order, never moved.
        assert_int_equal(list[i].number, i);
        assert_string_equal(tally_status_str((enum tally_status)i), list[i].text);
        size_t size = strlen(list[i].text);
        assert_true(size > 0 && !isupper((unsigned char)list[i].text[0]) && list[i].text[size - 1] != '.');
        for (int j = 0; j < i; j++) assert_string_not_equal(list[i].text, list[j].text);
    }
    assert_string_equal(tally_status_str((enum tally_status)count), "unknown status");
    assert_string_equal(tally_status_str((enum tally_status) - 1), "unknown status");
    // Those that other languages have written down.
    assert_int_equal(TALLY_OK, 0);
    assert_int_equal(TALLY_NOT_FOUND, 11);
    assert_int_equal(TALLY_REPEAT, 14);
    assert_int_equal(TALLY_HOLE, 15);
    assert_int_equal(TALLY_MORE, 26);
}

static void test_names(void **state)
{
    (void)state;
    char name[66];
    memset(name, 'a', sizeof name);
    assert_false(tally_name_valid(tally_bytes(name, 0)));
    assert_false(tally_name_valid(tally_bytes(NULL, 0)));
    assert_true(tally_name_valid(tally_bytes(name, 1)));
    assert_true(tally_name_valid(tally_bytes(name, 64)));
    assert_false(tally_name_valid(tally_bytes(name, 65)));
    for (int c = 0; c < 256; c++) {
        name[3] = (char)c;
        bool allowed = c && strchr("abcdefghijklmnopqrstuvwxyz0123456789_.-", c);
        assert_int_equal(tally_name_valid(tally_bytes(name, 5)), allowed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_list), cmocka_unit_test(test_names)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
