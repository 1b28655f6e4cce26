// SPDX-License-Identifier: Apache-2.0
//
// Blocks: a tighter coding of a column of numbers than varints, for the columns of a frame (frame.h). A column of n numbers is
//
//   n         a varint, 1 or more
//   blocks    of TALLY_BLOCK_NUMBERS numbers each, the last one of what is left; each begins at a byte:
//
//   +--------+----------------- - - -+----------------- - - -+
//   |  code  | prefixes, bit by bit  | suffixes, bit by bit  |  0 bits to the end of the byte
//   +--------+----------------- - - -+----------------- - - -+
//
// The bits of a byte count from the least significant one, and so do those of a number. The top bit of `code` says how a number v became
// u, which is 0 or more: 0: u = v - 1, for blocks in which all are 1 or more; 1: u = zigzag(v). The others say how u is written:
//
//   0 to 64    fixed, w = code: no prefix; the suffix is u in w bits
//   65 to 95   gamma, k = code - 65: with b the bits of u (0 for u = 0) and q = max(b - k, 0) the prefix is q zeros and a one; the suffix is
//              u in k bits if q = 0, otherwise u without its top bit, in b - 1 bits
//   96 to 126  Rice, k = code - 96: the prefix is u >> k zeros and a one; the suffix is the low k bits of u
//   127        not used: TALLY_UNSUPPORTED
//
// Fixed suits uniform numbers, Rice geometric ones (the gaps of ids that were drawn evenly), gamma long tails. All prefixes of a
// block come before all suffixes so that neither waits for the other when it is read: places of ones, then numbers of known sizes. (Rice,
// Plaunt 1971; Elias 1975; the split as in Elias-Fano.)
#ifndef TALLYCAST_BLOCK_H
#define TALLYCAST_BLOCK_H

#include <tallycast/wire.h>

#define TALLY_BLOCK_NUMBERS 128u

#define TALLY_BLOCK_SIGNED 128u // the top bit of a code
#define TALLY_BLOCK_GAMMA  65u
#define TALLY_BLOCK_RICE   96u
#define TALLY_BLOCK_K_MAX  30u

// Bytes behind a column that may be read (and are not looked at): at least so many must be there. In a frame its seal is.
#define TALLY_BLOCK_BEHIND 8u

// Reads a block of `count` numbers (1 to TALLY_BLOCK_NUMBERS). TALLY_MALFORMED when the bytes end before; TALLY_UNSUPPORTED.
// What was written to `out_numbers` on failure is of no meaning.
TALLY_CHECKED enum tally_status tally_block_read(struct tally_wire *wire, uint32_t count, int64_t *out_numbers);

// Appends the block of `count` numbers with the code that takes the fewest bits, of several the smallest code; of Rice only the k
// that fit the mean are tried: m = (sum(u) + count) * 11 / 16 / count rounded down, k the bits of m and one less (and only below 50 bits). At most
// 1 + (count * w + 7) / 8 bytes, w being the bits of the largest u. TALLY_BLOCK_BEHIND more bytes than the block's are reserved.
void tally_block_write(struct tally_writer *writer, const int64_t *numbers, uint32_t count);

#endif
