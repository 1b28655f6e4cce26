// SPDX-License-Identifier: Apache-2.0
//
// Heartbeats of proto/vectors, and what is none. TALLY_SOURCE_DIR: where that is.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { readHeartbeat } from '../src/messages.js'

const vectors = path.join(process.env.TALLY_SOURCE_DIR, 'proto/vectors')
const lines = fs.readFileSync(path.join(vectors, 'heartbeats.txt'), 'utf8').split('\n').map((line) => line.split(' ')).filter(([word]) => word === 'heartbeat')

test('heartbeats of the vectors', () => {
  assert.ok(lines.length >= 3)
  for (const [, file, dataset, epoch, version, digest, nowMs] of lines) {
    const found = readHeartbeat(fs.readFileSync(path.join(vectors, file)))
    assert.deepEqual(found, { dataset, epoch: BigInt(`0x${epoch}`), version: BigInt(version), digest, nowMs: BigInt(nowMs) })
  }
})

test('every flipped bit and every cut is found', () => {
  const whole = fs.readFileSync(path.join(vectors, 'heartbeat.bin'))
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const broken = Uint8Array.from(whole)
    broken[bit >> 3] ^= 1 << (bit & 7)
    assert.throws(() => readHeartbeat(broken), { name: 'TallycastError' })
  }
  for (let size = 0; size < whole.length; size++) assert.throws(() => readHeartbeat(whole.subarray(0, size)), { name: 'TallycastError' })
})

test('what is sealed and no heartbeat', () => {
  for (const file of ['frame-first.bin', 'answer-ok.bin', 'record-1.bin'])
    assert.throws(() => readHeartbeat(fs.readFileSync(path.join(vectors, file))), { code: 'TALLY_MALFORMED' }, file)
})
