// SPDX-License-Identifier: Apache-2.0
//
// Where the words that the checks look for lie in their structures, which is the same in WASM (layout.h and tally_map.h say so). As JSON.
#include "../../client-wasm/src/layout.h"
#include "../../client-wasm/src/tally_map.h"

#include <stdio.h>

int main(void)
{
    printf("{\"root\": %zu, \"generation\": %zu, \"announced\": %zu, \"tally_generation\": %zu, \"amount\": %zu, "
           "\"top\": %zu}\n",
           offsetof(struct tally_mirror, root), offsetof(struct tally_mirror, generation),
           offsetof(struct slot, announced), offsetof(struct tally_map, generation), offsetof(struct entry, amount),
           offsetof(struct cas_half, top));
    return 0;
}
