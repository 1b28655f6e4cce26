// SPDX-License-Identifier: Apache-2.0
//
// The package over both modules, with the frames of proto/vectors. TALLY_SOURCE_DIR, TALLY_WASM_DIR: where those are.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { Mirror, TallycastError } from '../src/mirror.js'

const vector = (name) => fs.readFileSync(path.join(process.env.TALLY_SOURCE_DIR, 'proto/vectors', name))
const load = (name) => new WebAssembly.Module(fs.readFileSync(path.join(process.env.TALLY_WASM_DIR, name)))
const modules = { own: 'tallycast.wasm', shared: 'tallycast-shared.wasm' }
const refused = (code) => (error) => error instanceof TallycastError && error.code === code

// The states of tests/wasm/make_epochs.c.
function epochs() {
  const file = execFileSync(process.argv[2]), frames = []
  for (let at = 8; at < file.length; at += 4 + file.readUInt32LE(at)) frames.push(file.subarray(at + 4, at + 4 + file.readUInt32LE(at)))
  return frames
}

// Keys and values of table 2 as proto/vectors/mirror.txt says.
function extremes() {
  const lines = vector('mirror.txt').toString().split('\n').map((line) => line.split(' '))
  const from = lines.findIndex(([word, file]) => word === 'apply' && file === 'frame-extremes.bin')
  const to = lines.findIndex(([word], i) => i > from && word === 'apply')
  const rows = lines.slice(from, to).filter(([word, table]) => word === 'row' && table === '2')
  assert.ok(rows.length > 2)
  return rows.map(([, , , key, value]) => [Buffer.from(key, 'hex'), BigInt(value)])
}

function filled(module, ...frames) {
  const mirror = Mirror.create(module, { dataset: 'main' })
  for (const frame of frames) assert.equal(mirror.apply(vector(frame)), 'ok')
  return mirror
}

if (isMainThread) for (const [name, file] of Object.entries(modules)) describe(name, load(file))
else attached()

function describe(name, module) {
  test(`${name}: reads follow what is applied`, () => {
    const mirror = filled(module)
    assert.equal(mirror.version, 0)
    assert.throws(() => mirror.get('repos', 'nng'), refused('TALLY_NOT_FOUND'))
    assert.equal(mirror.apply(vector('frame-first.bin')), 'ok')
    assert.equal(mirror.apply(vector('frame-first.bin')), 'old')
    const before = mirror.get('repos', 'nng')
    assert.equal(mirror.apply(vector('frame-delta.bin')), 'ok')
    assert.equal(before, 3)
    assert.equal(mirror.get('repos', 'nng'), 4)
    assert.equal(mirror.get('repos', Buffer.from('nng')), 4)
    assert.equal(mirror.getBigInt('repos', 'nng'), 4n)
    assert.equal(mirror.get('files', 'nng/README.md'), 4)
    assert.equal(mirror.get('repos', 'none'), undefined)
    assert.equal(mirror.getBigInt('repos', 'none'), undefined)
    assert.equal(mirror.get('repos', ''), undefined)
    assert.deepEqual(mirror.getMany('repos', ['libuv', 'x', 'nng']), [2, undefined, 4])
    assert.deepEqual(mirror.getMany('repos', []), [])
    const info = mirror.info()
    assert.deepEqual([info.version, info.rows, info.tables, info.epoch], [2, 5, 2, 0x01935a2b3c4d5e6fn])
    assert.match(mirror.digest, /^[0-9a-f]{32}$/)
    assert.throws(() => mirror.get('nowhere', 'nng'), refused('TALLY_NOT_FOUND'))
    mirror.close()
    assert.throws(() => mirror.get('repos', 'nng'), refused('TALLY_INVALID'))
  })

  test(`${name}: what is refused changes nothing`, () => {
    const mirror = filled(module, 'frame-first.bin')
    const broken = vector('frame-delta.bin')
    broken[broken.length >> 1] ^= 1
    assert.throws(() => mirror.apply(broken), TallycastError)
    assert.throws(() => mirror.apply(new Uint8Array(5)), TallycastError)
    assert.throws(() => mirror.apply(vector('frame-removals.bin')), refused('TALLY_GAP'))
    assert.equal(mirror.version, 1)
    assert.equal(mirror.get('repos', 'nng'), 3)
    assert.equal(mirror.stats().refused, 3)
  })

  test(`${name}: keys of every shape`, () => {
    const mirror = filled(module, 'frame-first.bin')
    for (const key of ['é', 'nng\u0000', '漢字'.repeat(20), '\ud83d', 'a'.repeat(32), 'a'.repeat(33), 'a'.repeat(1024), 'é'.repeat(512)])
      assert.equal(mirror.get('repos', key), undefined)
    for (const key of ['a'.repeat(1025), 'é'.repeat(513), new Uint8Array(1025)])
      assert.throws(() => mirror.get('repos', key), refused('TALLY_LIMIT'))
    // Many of the longest take several calls of the module.
    const keys = Array.from({ length: 300 }, (_, i) => (i % 100 === 7 ? 'nng' : String(i).padEnd(1024)))
    assert.deepEqual(mirror.getMany('repos', keys), keys.map((key) => (key === 'nng' ? 3 : undefined)))
  })

  test(`${name}: a view is of one version, and ends`, () => {
    const mirror = filled(module, 'frame-first.bin')
    let kept
    mirror.view((view) => {
      kept = view
      assert.equal(mirror.apply(vector('frame-delta.bin')), 'ok')
      assert.deepEqual([view.version, view.get('repos', 'nng'), view.getBigInt('repos', 'nng')], [1, 3, 3n])
      assert.deepEqual(view.getMany('repos', ['nng', 'x']), [3, undefined])
      assert.deepEqual([mirror.version, mirror.get('repos', 'nng')], [2, 4])
    })
    assert.throws(() => kept.version, refused('TALLY_INVALID'))
    assert.throws(() => kept.get('files', 'x'), refused('TALLY_INVALID'))
    assert.throws(() => mirror.view(async () => 1), TypeError)
    assert.throws(() => mirror.view(() => { throw new RangeError('mine') }), RangeError)
    assert.equal(mirror.stats().stalledReaders, 0)
  })

  test(`${name}: a table that changes its number with the epoch is found again`, () => {
    const mirror = Mirror.create(module, { dataset: 'main' }), [first, second, third] = epochs()
    mirror.apply(first)
    assert.deepEqual([mirror.get('a', 'k'), mirror.get('b', 'k'), mirror.get('a', 'k')], [10, 11, 10])
    mirror.apply(second)
    assert.deepEqual([mirror.get('a', 'k'), mirror.get('b', 'k'), mirror.get('a', 'k')], [20, 21, 20])
    mirror.apply(third)
    assert.throws(() => mirror.get('a', 'k'), refused('TALLY_NOT_FOUND'))
    assert.equal(mirror.get('b', 'k'), 31)
  })

  test(`${name}: a table that was not asked for yet does not make the others' old numbers good`, () => {
    const mirror = Mirror.create(module, { dataset: 'main' }), [first, second] = epochs()
    mirror.apply(first)
    assert.equal(mirror.get('b', 'k'), 11)
    mirror.apply(second)
    assert.deepEqual([mirror.get('a', 'k'), mirror.get('b', 'k')], [20, 21])
  })

  test(`${name}: exact beyond 2^53`, () => {
    const mirror = filled(module, 'frame-first.bin', 'frame-delta.bin', 'frame-removals.bin', 'frame-extremes.bin')
    for (const [key, value] of extremes()) {
      assert.equal(mirror.getBigInt('extremes', key), value)
      assert.equal(mirror.get('extremes', key), Number(value))
      assert.deepEqual(mirror.getMany('extremes', [key]), [Number(value)])
    }
  })

  test(`${name}: memory has its bound`, () => {
    assert.throws(() => Mirror.create(module, { dataset: 'Not a name' }), refused('TALLY_INVALID'))
    assert.throws(() => Mirror.create(module, { dataset: 'main', maxBytes: 4096 }), refused('TALLY_NO_MEMORY'))
    const mirror = filled(module, 'frame-first.bin')
    assert.throws(() => mirror.apply({ length: 2 ** 32 - 65536 }), refused('TALLY_NO_MEMORY'))
    assert.equal(mirror.get('repos', 'nng'), 3)
  })
}

if (isMainThread) {
  test('another thread reads the same memory', async () => {
    const module = load(modules.shared), mirror = filled(module, 'frame-first.bin')
    assert.throws(() => Mirror.attach(module, mirror.memory, 65), RangeError)
    assert.throws(() => Mirror.attach(module, mirror.memory, 0), RangeError)
    const worker = new Worker(new URL(import.meta.url), { workerData: { module, memory: mirror.memory } })
    const message = () => new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    })
    assert.deepEqual(await message(), [1, 3])
    mirror.apply(vector('frame-delta.bin'))
    const next = message()
    worker.postMessage('read')
    assert.deepEqual(await next, [2, 4])
    assert.equal(mirror.stats().readers, 2)
    const last = message()
    worker.postMessage('close')
    assert.equal(await last, 'apply: only the mirror that was created applies')
    assert.equal(mirror.stats().readers, 1)
  })
}

function attached() {
  const mirror = Mirror.attach(workerData.module, workerData.memory, 1)
  const tell = () => parentPort.postMessage([mirror.version, mirror.get('repos', 'nng')])
  tell()
  parentPort.on('message', (message) => {
    if (message === 'read') return tell()
    try {
      mirror.apply(new Uint8Array(1))
    } catch (error) {
      mirror.close()
      parentPort.postMessage(error.message)
    }
    parentPort.close()
  })
}
