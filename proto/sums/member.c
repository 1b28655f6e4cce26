// SPDX-License-Identifier: Apache-2.0
#define XXH_INLINE_ALL
#include <sums/sums_batch.h>
#include <xxhash.h>

uint64_t tally_member(struct tally_bytes bytes) { return XXH3_64bits(bytes.size ? bytes.data : NULL, bytes.size); }
