// SPDX-License-Identifier: Apache-2.0
//
// <assert.h> for the modules: a trap, or nothing with NDEBUG.
#undef assert
#ifdef NDEBUG
#define assert(condition) ((void)0)
#else
#define assert(condition) ((condition) ? (void)0 : __builtin_trap())
#endif
#define static_assert _Static_assert
