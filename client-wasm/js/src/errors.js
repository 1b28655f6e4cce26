// SPDX-License-Identifier: Apache-2.0
//
// The one error of this package. `code` is a name of proto/include/tallycast/status.h, the message says what was wrong and what to do.
export const STATUS = {
  OK: 0, NO_MEMORY: 1, FULL: 2, MALFORMED: 3, CORRUPT: 4, DIGEST_MISMATCH: 5, WRONG_DATASET: 6, WRONG_EPOCH: 7, GAP: 8, OLD: 9, LIMIT: 10,
  NOT_FOUND: 11, INVALID: 12, STALLED: 13, FORBIDDEN: 17, UNSUPPORTED: 18, CLASH: 19, TIMEOUT: 22, UNREACHABLE: 23, BUSY: 24, GONE: 25, MORE: 26, IN_USE: 27
}

const NAMES = Object.fromEntries(Object.entries(STATUS).map(([name, status]) => [status, name]))

const ADVICE = {
  NO_MEMORY: 'the memory is full: give it a larger maximum (maxBytes)',
  FULL: 'no slot is free: close mirrors or views that are not used',
  MALFORMED: 'the bytes are no frame',
  CORRUPT: 'the frame was damaged on its way: fetch it again',
  DIGEST_MISMATCH: 'the result is not the state that the server cut: fetch the whole state',
  WRONG_DATASET: 'it is of another dataset: check the dataset of the mirror and of the stream',
  WRONG_EPOCH: 'the frame continues another lineage: fetch the whole state',
  GAP: 'frames are missing before this one: fetch what follows the version that is held',
  LIMIT: 'over a limit of the protocol',
  NOT_FOUND: 'not there',
  INVALID: 'a wrong argument',
  STALLED: 'a view is kept so long that its garbage fills the memory: let it go',
  UNSUPPORTED: 'made for another version of this package',
  CLASH: 'two keys share a fingerprint: fetch the whole state'
}

export class TallycastError extends Error {
  constructor(status, what, advice = ADVICE[NAMES[status]] ?? `status ${status}`, options) {
    super(`${what}: ${advice}`, options)
    this.name = 'TallycastError'
    this.code = `TALLY_${NAMES[status] ?? status}`
    this.status = status
  }
}

export function check(status, what) {
  if (status !== STATUS.OK) throw new TallycastError(status, what)
}
