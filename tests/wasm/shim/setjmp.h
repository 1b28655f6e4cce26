// SPDX-License-Identifier: Apache-2.0
//
// with_cmocka.h includes it; the shim of cmocka beside it jumps nowhere, and wasi-libc has none.
