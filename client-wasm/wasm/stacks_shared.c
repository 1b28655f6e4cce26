// SPDX-License-Identifier: Apache-2.0
#include "areas.h"

const uint32_t stacks_bytes = TALLYCAST_INSTANCES_MAX * TALLYCAST_STACK_BYTES;

// A constant and a product: no stack, which the test of the module checks.
uint32_t tallycast_stack(uint32_t instance)
{
    if (instance == 0 || instance > TALLYCAST_INSTANCES_MAX) return 0;
    return areas_start() + instance * TALLYCAST_STACK_BYTES;
}
