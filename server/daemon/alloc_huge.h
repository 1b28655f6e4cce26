// SPDX-License-Identifier: Apache-2.0
//
// Memory for the core: the C library's, but what is large lies in mappings of its own, aligned to and advised to be in huge pages. The state is walked
// at random: with 4 KiB pages each row costs a walk of the page tables too.
// Threads: any, with a mutex; large blocks alone wait for each other. Bounds: LARGE_MAX of them; more are the C library's.
#ifndef TALLYCAST_SERVER_ALLOC_HUGE_H
#define TALLYCAST_SERVER_ALLOC_HUGE_H

#include <tallycast/alloc.h>

extern const struct tally_alloc alloc_huge;

#endif
