// SPDX-License-Identifier: Apache-2.0
//
// client-wasm/examples/link.c, which has libtallycast-wasm.a linked in: it takes whole states and deltas, and gives for every key what
// tallycast.wasm gives for the same frames; what is damaged it refuses, and holds what it held.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { frameFile, Host, load, MORE, NOT_FOUND, OK } from './host.mjs'

const module = path.join(process.env.TALLY_WASM_DIR, 'examples/link.wasm')
if (!fs.existsSync(module)) {
  console.log('skipped: no llvm-ar for libtallycast-wasm.a')
  process.exit(77)
}
const compiled = new WebAssembly.Module(fs.readFileSync(module))
assert.deepEqual(WebAssembly.Module.imports(compiled), [])
const { exports: guest } = new WebAssembly.Instance(compiled, {})
const put = (...parts) => {
  let at = guest.input()
  for (const part of parts) {
    new Uint8Array(guest.memory.buffer).set(part, at)
    at += part.length
  }
}
const text = (string) => new TextEncoder().encode(string)
const take = (frame) => {
  put(frame)
  return guest.take(frame.length)
}
const find = (table, key) => {
  put(table, key)
  const status = guest.find(table.length, key.length)
  assert.ok(status === OK || status === NOT_FOUND, `status ${status}`)
  return status === OK ? guest.found() : null
}

put(text('main'))
assert.equal(guest.start(4, 64 << 20), OK)
const host = new Host(load('tallycast.wasm'))
assert.equal(host.open('main'), OK)
const reader = host.reader()
const vectors = (name) => fs.readFileSync(path.join(process.env.TALLY_SOURCE_DIR, 'proto/vectors', name))
let compared = 0
const compare = () => {
  const view = reader.pin()
  assert.equal(Number(guest.version()), view.info().version)
  for (const row of view.rows()) {
    assert.equal(find(text(view.tableInfo(row.table).name), row.key), row.value)
    compared++
  }
  assert.equal(find(text(view.tableInfo(0).name), text('no such key')), null)
  view.unpin()
}

const frames = [...['frame-first', 'frame-delta', 'frame-removals'].map((name) => vectors(`${name}.bin`)), ...frameFile(vectors('frames.tallyf'))]
for (const frame of frames) {
  const status = take(frame)
  assert.equal(status, host.apply(frame))
  assert.ok(status !== OK || frame.length, 'a frame')
  if (status !== OK && status !== MORE) continue
  for (const at of [3, frame.length >> 1, frame.length - 1]) {
    const bad = Uint8Array.from(frame)
    bad[at] ^= 4
    if (status === OK) assert.notEqual(take(bad), OK)
  }
  if (status === OK) compare()
}
assert.ok(compared > 900, `${compared} rows`)
assert.equal(guest.take((1 << 20) + 1) === OK, false)
console.log(`${frames.length} frames, ${compared} values compared, ${guest.memory.buffer.byteLength >> 20} MiB`)
