// SPDX-License-Identifier: Apache-2.0

// Bytes as hexadecimal digits.
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')
