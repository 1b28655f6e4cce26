// SPDX-License-Identifier: Apache-2.0
//
// A trap in the guest: a failed call, a log line, and an instance that works on.
#include "../support/with_cmocka.h"

#include <client-wasm/wasm/module.h>
#include <edge/wasmtime/guest.h>
#include <string.h>

static void test_trap(void **state)
{
    (void)state;
    struct wasm_module module;
    struct wasm_instance instance, other;
    struct tally_reason reason;
    uint32_t result, buffer;
    assert_int_equal(wasm_module_open(TALLY_MODULE, 64 << 20, &module, &reason), TALLY_OK);
    assert_int_equal(wasm_instance_open(&module, &instance, &reason), TALLY_OK);
    assert_int_equal(wasm_instance_open(&module, &other, &reason), TALLY_OK);
    assert_int_not_equal(instance.stack_top, other.stack_top);
    assert_true(wasm_do(&instance, buffer, &buffer, WASM_I32(4)));
    memcpy(wasm_at(&instance, buffer), "main", 4);
    assert_true(wasm_do(&instance, open, &result, WASM_I32(buffer), WASM_I32(4), WASM_I64(0), WASM_I64(0)));
    assert_int_equal(result, TALLY_OK);
    for (unsigned i = 0; i < 100; i++) {
        // A frame outside of the memory: no host of ours does this.
        assert_false(wasm_do(&instance, apply, &result, WASM_I32(0x7f000000u), WASM_I32(4096)));
        assert_true(wasm_do(&instance, abi, &result));
        assert_int_equal(result, TALLYCAST_ABI);
        assert_true(wasm_do(&instance, reader_open, &result));
        assert_true((int32_t)result >= 0);
        assert_true(wasm_do(&instance, reader_close, NULL, WASM_I32(result)));
    }
    wasm_instance_close(&instance);
    wasm_instance_close(&other);
    wasm_module_close(&module);
}

static void test_all_stacks(void **state)
{
    (void)state;
    struct wasm_module module;
    static struct wasm_instance instances[65];
    struct tally_reason reason;
    assert_int_equal(wasm_module_open(TALLY_MODULE, 64 << 20, &module, &reason), TALLY_OK);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(wasm_instance_open(&module, &instances[i], &reason), TALLY_OK);
        for (unsigned k = 0; k < i; k++) assert_int_not_equal(instances[i].stack_top, instances[k].stack_top);
    }
    assert_int_equal(wasm_instance_open(&module, &instances[64], &reason), TALLY_FULL);
    for (unsigned i = 0; i < 64; i++) wasm_instance_close(&instances[i]);
    wasm_module_close(&module);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_trap), cmocka_unit_test(test_all_stacks)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
