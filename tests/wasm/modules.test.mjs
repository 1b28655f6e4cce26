// SPDX-License-Identifier: Apache-2.0
//
// What the two modules import and export, how they start, and that no number makes them trap.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { Host, View, load, sharedMemory, FULL, INVALID, NOT_FOUND, OK, OLD } from './host.mjs'

const source = process.env.TALLY_SOURCE_DIR
const vector = (name) => fs.readFileSync(path.join(source, 'proto/vectors', name))
const listed = fs.readFileSync(path.join(source, 'client-wasm/wasm/exports.txt'), 'utf8').trim().split('\n')
const own = load('tallycast.wasm'), shared = load('tallycast-shared.wasm')

// Imports and exports, exactly.
const exportsOf = (module) => WebAssembly.Module.exports(module).map(({ name, kind }) => `${name}:${kind}`).sort()
const functions = [...listed.map((name) => `${name}:function`), '__stack_pointer:global']
assert.deepEqual(WebAssembly.Module.imports(own), [])
assert.deepEqual(exportsOf(own), [...functions, 'memory:memory'].sort())
assert.deepEqual(WebAssembly.Module.imports(shared), [{ module: 'env', name: 'memory', kind: 'memory' }])
assert.deepEqual(exportsOf(shared), functions.sort())

// The same list in the documented headers.
const header = ['module.h', 'tally_module.h'].map((name) => fs.readFileSync(path.join(source, 'client-wasm/wasm', name), 'utf8')).join()
assert.deepEqual([...header.matchAll(/^(?:u?int32_t|void|double) (tallycast_\w+)\(/gm)].map((match) => match[1]).sort(), listed)

// A stack of its own, asked for without any stack: a single push would trap.
const probe = new Host(shared, sharedMemory())
probe.wasm.__stack_pointer.value = 0
const stacks = Array.from({ length: 64 }, (_, i) => probe.wasm.tallycast_stack(i + 1))
assert.ok(stacks.every((top, i) => top % 16 === 0 && (i === 0 || top - stacks[i - 1] === 65536)))
assert.ok(stacks[63] <= probe.memory.buffer.byteLength)
assert.deepEqual([0, 65, 1 << 31, -1].map((n) => probe.wasm.tallycast_stack(n)), [0, 0, 0, 0])
assert.equal(new Host(own).wasm.tallycast_stack(1), 0)

function exercise(host) {
  const { wasm } = host
  assert.equal(wasm.tallycast_abi(), 2)
  // Before open.
  assert.equal(wasm.tallycast_apply(64, 10), INVALID)
  assert.equal(wasm.tallycast_stats(64), INVALID)
  assert.equal(wasm.tallycast_reader_open(), -INVALID)
  assert.equal(wasm.tallycast_alloc(10), 0)
  assert.equal(wasm.tallycast_buffer(5000), 0)
  wasm.tallycast_abandon()
  wasm.tallycast_confirm(1n, 1n, 1n)
  assert.equal(host.open('Not a name'), INVALID)
  assert.equal(host.open('main'), OK)
  assert.equal(host.open('main'), INVALID)

  const reader = host.reader(), empty = reader.pin()
  assert.equal(empty.info().version, 0)
  assert.equal(host.apply(vector('frame-first.bin')), OK)
  assert.equal(host.apply(vector('frame-first.bin')), OLD)
  assert.equal(host.apply(vector('frame-delta.bin')), OK)
  assert.equal(empty.info().version, 0)
  assert.equal(host.stats().stalled_readers, 1)
  assert.equal(empty.get(0, 'nng'), null)
  empty.unpin()

  const view = reader.pin(), info = view.info()
  assert.deepEqual([info.version, info.tables, info.rows, info.epoch], [2, 2, 5, '01935a2b3c4d5e6f'])
  wasm.tallycast_confirm(0x01935a2b3c4d5e6fn, 2n, 1732300009999n)
  assert.equal(view.info().freshMs, 1732300009999)
  assert.equal(view.table('repos'), 1)
  assert.equal(view.table('none'), -NOT_FOUND)
  assert.deepEqual(view.tableInfo(1), { rows: 2, kind: 1, name: 'repos' })
  assert.equal(view.tableInfo(2), null)
  assert.equal(view.get(1, 'nng'), 4n)
  assert.deepEqual(view.getMany(1, View.pack(['libuv', 'x', 'nng'])), [2n, null, 4n])
  assert.deepEqual(view.getMany(1, View.pack([])), [])
  const names = [...view.rows()].map(({ key, value }) => `${Buffer.from(key)}=${value}`)
  assert.deepEqual(names, ['nng/README.md=4', 'libuv/README.md=1', 'libuv/LICENSE=1', 'nng=4', 'libuv=2'])

  // Wrong numbers.
  for (const wrong of [1, 15, 16, 1023, 1024, -1, 1 << 30]) {
    assert.equal(wasm.tallycast_info(wrong, 64), INVALID)
    assert.equal(wasm.tallycast_get(wrong, 0, 64, 1, 64), INVALID)
    assert.equal(wasm.tallycast_get_many(wrong, 0, 64, 0, 0, 64, 64), INVALID)
    assert.equal(wasm.tallycast_table(wrong, 64, 1), -INVALID)
    assert.equal(wasm.tallycast_table_info(wrong, 0, 64), INVALID)
    assert.equal(wasm.tallycast_write_chunk(wrong, 64, 64, 64), INVALID)
    assert.equal(wasm.tallycast_next(wrong, 64, 64), 0)
    assert.equal(wasm.tallycast_view_read(wrong, 0, 64, 1), NaN)
    wasm.tallycast_unpin(wrong)
    if (wrong >= 64 || wrong < 0) assert.equal(wasm.tallycast_reader_scratch(wrong), 0)
    assert.equal(wasm.tallycast_pin(wrong), -INVALID)
    assert.equal(wasm.tallycast_read_table(wrong, 64, 1), -INVALID)
    assert.equal(wasm.tallycast_read(wrong, 0, 64, 1), NaN)
    wasm.tallycast_reader_close(wrong)
  }
  // Keys that do not fill their run.
  const { packed } = View.pack(['libuv', 'nng']), at = reader.scratch
  host.bytes.set(packed, at)
  for (const [bytes, count] of [[packed.length - 1, 2], [packed.length, 1], [packed.length, 3], [3, 1], [0, 1]])
    assert.equal(wasm.tallycast_get_many(view.number, 1, at, bytes, count, at + 256, at + 512), INVALID)

  // Views to the last, slots to the last; closing unpins.
  const views = Array.from({ length: 15 }, () => reader.pin())
  assert.equal(wasm.tallycast_pin(reader.slot), -FULL)
  assert.equal(new Set([view, ...views].map(({ number }) => number)).size, 16)
  const readers = Array.from({ length: 63 }, () => host.reader())
  assert.equal(wasm.tallycast_reader_open(), -FULL)
  readers.forEach((each) => each.close())
  const chunks = view.chunks()
  reader.close()
  assert.equal(wasm.tallycast_info(view.number, 64), INVALID)
  const stats = host.stats()
  // One hit is of the refused run of keys that held one more key than it said.
  assert.deepEqual([stats.readers, stats.applies, stats.refused, stats.swaps, stats.hits, stats.misses], [0, 2, 0, 2, 4, 2])

  // The input grows, and keeps working.
  const large = host.wasm.tallycast_buffer(3 << 20)
  assert.ok(large % 64 === 0 && large + (3 << 20) <= host.memory.buffer.byteLength)
  assert.equal(host.apply(vector('frame-removals.bin')), OK)
  return chunks
}

function takes(host, chunks) {
  assert.equal(host.open('main'), OK)
  chunks.forEach((chunk, i) => assert.equal(host.apply(chunk), i + 1 < chunks.length ? 26 : OK))
  const view = host.reader().pin()
  assert.equal(view.info().version, 2)
  assert.equal(view.get(1, 'nng'), 4n)
}

const ofOwn = exercise(new Host(own))
const memory = sharedMemory()
const first = new Host(shared, memory)
const ofShared = exercise(first)
assert.deepEqual(ofOwn, ofShared)
takes(new Host(shared, sharedMemory()), ofOwn)
takes(new Host(own), ofShared)

// A second instance on the memory finds all as it was, and has a stack of its own.
const before = first.stats()
const second = new Host(shared, memory, 1)
assert.notEqual(second.wasm.__stack_pointer.value, first.wasm.__stack_pointer.value)
assert.deepEqual(second.stats(), before)
assert.equal(second.open('main'), INVALID)
assert.equal(second.reader().pin().info().version, 3)

// Out of memory: a status, and what was there stays.
const small = new Host(shared, sharedMemory(200))
assert.equal(small.open('main'), OK)
assert.equal(small.apply(vector('frame-first.bin')), OK)
assert.equal(small.wasm.tallycast_buffer(64 << 20), 0)
assert.equal(small.wasm.tallycast_alloc(64 << 20), 0)
assert.equal(small.reader().pin().info().version, 1)
const bounded = new Host(own)
assert.equal(bounded.open('main', 4096n), 1)
assert.equal(bounded.open('main', 65536n), OK)
assert.equal(bounded.wasm.tallycast_alloc(60000), 0)

console.log('modules: ok')
