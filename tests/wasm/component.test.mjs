// SPDX-License-Identifier: Apache-2.0
//
// The component: made of its core module, turned into JavaScript by jco, and run in Node. That the bindings and the wit agree is checked by wit-component
// (names and types, which this test changes in turn to see it refused) and by going through every field of every result here. Nothing that is given
// to it makes it trap: after everything bad it answers as before.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { WORLD, makeComponent, tools } from '../../client-wasm/wit/make.mjs'

const source = process.env.TALLY_SOURCE_DIR, folder = path.join(process.env.TALLY_WASM_DIR, 'component')
const core = path.join(process.env.TALLY_WASM_DIR, 'tallycast-component.core.wasm')
const vector = (name) => fs.readFileSync(path.join(source, 'proto/vectors', name))
const fails = (call, words) => assert.throws(call, (error) => {
  assert.equal(error.constructor.name, 'ComponentError')
  assert.ok(String(error.payload ?? error.message).includes(words), `${error.payload ?? error.message}: and not ${words}`)
  return true
})

let installed
try {
  installed = tools()
} catch (error) {
  console.log(`skipped: ${error.message}`)
  process.exit(77)
}
const made = await makeComponent(core, folder, installed)

async function disagreements() {
  const wit = fs.readFileSync(WORLD, 'utf8'), out = path.join(folder, 'wrong')
  const changes = [['get-bytes:', 'get-raw:'], ['key: list<u8>', 'key: u64'], ['bytes-max: u64', 'bytes-max: u32'], ['interface mirror', 'interface looking-glass'],
    ['confirm: func(epoch: u64, version: u64, now-ms: u64);', 'confirm: func(epoch: u64, version: u64);'], ['client@0.1.0', 'client@0.2.0'],
    ['len: func() -> u64;', 'len: func() -> u32;'], ['drain: func()', 'take-all: func()']]
  for (const [from, to] of changes) {
    assert.ok(wit.includes(from))
    await assert.rejects(makeComponent(core, out, installed, wit.replace(from, to).replace('export mirror;', `export ${to.includes('looking') ? 'looking-glass' : 'mirror'};`)), undefined, from)
  }
  // A core module that is not valid makes no component.
  const good = fs.readFileSync(core), next = random(11)
  for (let bad = 0; bad < 5;) {
    const bytes = Uint8Array.from(good)
    bytes[next(bytes.length)] ^= 1 << next(8)
    if (WebAssembly.validate(bytes)) continue
    await assert.rejects(makeComponent(bytes, out, installed))
    bad++
  }
  fs.rmSync(out, { recursive: true, force: true })
  // And the core has nothing that the wit lacks.
  const names = wit.match(/^ {8}[a-z-]+: (static )?func/gm).length
  const calls = WebAssembly.Module.exports(new WebAssembly.Module(fs.readFileSync(core))).map(({ name }) => name).filter((name) => /^tally.*#\[(method|static)\]/.test(name))
  assert.equal(calls.length, names)
}

const modules = new Map()
const load = (name) => {
  if (!modules.has(name)) modules.set(name, new WebAssembly.Module(fs.readFileSync(path.join(folder, 'js', name))))
  return modules.get(name)
}
const { instantiate } = await import(pathToFileURL(path.join(folder, 'js', 'tallycast.js')))
let memories = []  // of the instances that were started last
const start = () => {
  memories = []
  return instantiate(load, {}, (module, imports) => {
    const instance = new WebAssembly.Instance(module, imports)
    if (instance.exports.memory) memories.push(instance.exports.memory)
    return instance
  })
}
const bytesNow = () => memories.reduce((sum, memory) => sum + memory.buffer.byteLength, 0)

function random(seed) {
  let state = seed >>> 0 || 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

// ---------------------------------------------------------------------------------------------------- mirror

async function reads() {
  const { mirror: { Mirror } } = await start()
  const mirror = Mirror.open('main', 0n)
  assert.deepEqual(mirror.version(), { epoch: 0n, version: 0n, cutMs: 0n, freshMs: 0n })
  assert.equal(mirror.len(), 0n)
  fails(() => mirror.get('files', 'nng/README.md'), 'no such table')
  fails(() => mirror.apply(vector('frame-delta.bin')), 'wrong epoch')
  assert.equal(mirror.apply(vector('frame-first.bin')), 'published')
  fails(() => mirror.apply(vector('frame-removals.bin')), 'gap')
  assert.equal(mirror.apply(vector('frame-first.bin')), 'held')
  assert.equal(mirror.apply(vector('frame-delta.bin')), 'published')
  const version = mirror.version()
  assert.deepEqual([version.epoch, version.version], [0x01935a2b3c4d5e6fn, 2n])
  assert.equal(version.freshMs, version.cutMs)
  mirror.confirm(0x01935a2b3c4d5e6fn, 2n, 1732300009999n)
  assert.deepEqual(mirror.version(), { ...version, freshMs: 1732300009999n })
  const digest = mirror.digest()
  assert.ok(digest.low > 1n << 32n && digest.high > 1n << 32n && digest.low !== digest.high)
  assert.equal(mirror.len(), 5n)
  assert.equal(mirror.get('files', 'nng/README.md'), 4n)
  assert.equal(mirror.getBytes('repos', new TextEncoder().encode('libuv')), 2n)
  assert.equal(mirror.get('repos', 'none'), undefined)
  assert.equal(mirror.get('repos', ''), undefined)
  fails(() => mirror.get('none', 'nng'), 'no such table')
  fails(() => mirror.getMany('none', ['nng']), 'no such table')
  assert.deepEqual(mirror.getMany('repos', ['libuv', 'x', 'nng']), { version: mirror.version(), values: [2n, undefined, 4n] })
  assert.deepEqual(mirror.getMany('repos', []).values, [])
  const many = Array.from({ length: 1000 }, (_, i) => (i % 3 ? `no-${i}` : 'nng'))
  assert.deepEqual(mirror.getMany('repos', many).values, many.map((key) => (key === 'nng' ? 4n : undefined)))

  // Bad frames, one after the other; what is read stays.
  const next = random(7), removals = vector('frame-removals.bin')
  for (let i = 0; i < 2000; i++) {
    const bad = Uint8Array.from(removals)
    bad[next(bad.length)] ^= 1 << next(8)
    fails(() => mirror.apply(i % 2 ? bad : bad.subarray(0, next(bad.length))), '')
  }
  fails(() => mirror.apply(new Uint8Array(0)), '')
  fails(() => mirror.apply(new Uint8Array(20 << 20).fill(0xff)), '')
  assert.deepEqual([mirror.version().version, mirror.get('repos', 'nng'), mirror.digest()], [2n, 4n, digest])
  assert.equal(mirror.apply(removals), 'published')
  assert.equal(mirror.version().version, 3n)

  for (const name of ['', 'Not a name', 'x'.repeat(65), 'x'.repeat(100000), '\0', '\ud800']) fails(() => Mirror.open(name, 0n), 'invalid')
  for (const bytes of [1n, 4096n]) fails(() => Mirror.open('main', bytes), 'less than an empty mirror')
  for (const bytes of [1n << 32n, (1n << 64n) - 1n, (1n << 32n) - 1n]) fails(() => Mirror.open('main', bytes), 'out of memory')
  const small = Mirror.open('main', 16384n)
  fails(() => small.apply(vector('frame-first.bin')), 'out of memory')
  assert.equal(small.version().version, 0n)
  const other = Mirror.open('other', 0n)
  fails(() => other.apply(vector('frame-first.bin')), 'wrong dataset')
  for (const one of [small, other]) one[Symbol.dispose]()

  // As many as there may be, and again and again: what was given back is zero, and used again.
  for (let round = 0; round < 20; round++) {
    const mirrors = Array.from({ length: 15 }, () => Mirror.open('main', 1n << 20n))
    fails(() => Mirror.open('main', 0n), 'full')
    for (const one of mirrors) assert.equal(one.apply(vector('frame-first.bin')), 'published')
    for (const one of mirrors) one[Symbol.dispose]()
  }
  assert.equal(mirror.version().version, 3n)
  const before = bytesNow()
  for (let round = 0; round < 20; round++) {
    fails(() => mirror.apply(new Uint8Array((8 << 20) + round)), '')
    fails(() => mirror.getMany('x'.repeat(1 << 20), Array.from({ length: 6 }, (_, i) => 'y'.repeat((i + 1) << 20))), 'no such table')
    fails(() => mirror.apply(new Uint8Array(24 << 20).fill(0xff)), '')  // where the next mirror comes to lie
    const open = Mirror.open('main', BigInt(1 + (round % 5)) << 22n)
    for (const frame of ['first', 'delta', 'removals']) assert.equal(open.apply(vector(`frame-${frame}.bin`)), 'published')
    assert.deepEqual([open.len(), open.digest()], [mirror.len(), mirror.digest()])
    open[Symbol.dispose]()
  }
  assert.ok(bytesNow() <= before + (32 << 20), `${before} bytes of memory became ${bytesNow()}`)
}

// ---------------------------------------------------------------------------------------------------- concurrent-map

async function counts() {
  const { concurrentMap: { ConcurrentMap } } = await start()
  const map = new ConcurrentMap(0, 1n)
  assert.equal(map.insert('a', 5n), undefined)
  assert.equal(map.insert('a', 0n), 5n)
  assert.equal(map.get('a'), 0n)
  assert.equal(map.get('b'), undefined)
  assert.equal(map.add('b', 3n), undefined)
  assert.equal(map.add('b', 4n), undefined)
  assert.equal(map.len(), 2n)
  assert.equal(map.insert('ü€😀', 1n << 62n), undefined)
  assert.equal(map.remove('b'), 7n)
  assert.equal(map.remove('b'), undefined)
  assert.equal(map.get('b'), undefined)
  assert.deepEqual(map.drain().sort(), [['a', 0n], ['ü€😀', 1n << 62n]])
  assert.equal(map.len(), 0n)
  assert.deepEqual(map.drain(), [])

  for (const count of [(1n << 62n) + 1n, (1n << 63n), (1n << 64n) - 1n]) fails(() => map.insert('a', count), 'a count is at most')
  fails(() => map.add('a', (1n << 53n) + 1n), 'an addition at most')
  for (const key of ['', 'k'.repeat(1025), 'k'.repeat(1 << 22)])
    for (const call of [() => map.insert(key, 1n), () => map.add(key, 1n), () => map.get(key), () => map.remove(key)]) fails(call, 'a key is 1 to 1024 bytes')
  assert.equal(map.insert('k'.repeat(1024), 1n), undefined)
  assert.equal(map.insert('\ud800', 2n), undefined)  // half a character becomes U+FFFD on its way
  assert.equal(map.get('\ufffd'), 2n)
  map.insert('much', 1n << 62n)
  map.add('much', 1n << 53n)
  fails(() => map.add('much', 1n), 'full')

  // Sizes of all kinds; what could not be had says so for every call.
  for (const bytes of [1, 65536, 65537, 3 << 20]) assert.equal(new ConcurrentMap(bytes, 9n).insert('x', 1n), undefined)
  const none = new ConcurrentMap(0xffffffff, 1n)
  for (const call of [() => none.insert('x', 1n), () => none.add('x', 1n), () => none.get('x'), () => none.remove('x'), () => none.drain()]) fails(call, 'out of memory')
  assert.equal(none.len(), 0n)
  none[Symbol.dispose]()
  assert.throws(() => none.get('x'))  // the handle is gone: jco's own error, the component is not asked
  assert.equal(map.get('\ufffd'), 2n)
}

// Beside a Map, in little memory: full is said, and keys that come and go never fill it.
async function atRandom() {
  const { concurrentMap: { ConcurrentMap } } = await start()
  const seed = Number(process.env.TALLY_SEED ?? Date.now() % 1e9), next = random(seed)
  console.log(`# component: TALLY_SEED=${seed}`)
  const map = new ConcurrentMap(128 << 10, BigInt(seed)), model = new Map()
  let full = 0, most = 0
  for (let i = 0; i < 60000; i++) {
    const key = `key/${next(i < 30000 ? 300 : 6000)}`, count = BigInt(next(1000))
    switch (next(8)) {
      case 0: case 1: case 2:
        try {
          assert.equal(map.insert(key, count), model.get(key))
          model.set(key, count)
        } catch (error) {
          assert.ok(String(error.payload).startsWith('full') && !model.has(key), error)
          full++
        }
        break
      case 3:
        if (!model.has(key)) break
        map.add(key, count)
        model.set(key, model.get(key) + count)
        break
      case 4: case 5:
        assert.equal(map.remove(key), model.get(key))
        model.delete(key)
        break
      case 6:
        assert.equal(map.get(key), model.get(key))
        break
      default:
        if (next(2000)) break
        assert.deepEqual(new Map(map.drain()), model)
        model.clear()
    }
    assert.equal(map.len(), BigInt(model.size))
    most = Math.max(most, model.size)
  }
  assert.deepEqual(new Map(map.drain()), model)
  // Three times more keys pass through than there is room for, one at a time.
  for (let i = 0; i < 20000; i++) {
    assert.equal(map.insert(`once/${i}`, 1n), undefined)
    assert.equal(map.remove(`once/${i}`), 1n)
  }
  assert.equal(map.len(), 0n)
  console.log(`concurrent-map: to ${most} keys in 128 KiB, ${full} times full`)
}

await disagreements()
await reads()
await counts()
await atRandom()
const wit = made.wit
const jco = JSON.parse(fs.readFileSync(path.join(installed, 'node_modules/@bytecodealliance/jco-transpile/package.json'))).version
fs.writeFileSync(path.join(folder, 'component.json'), JSON.stringify({
  imports: [...wit.matchAll(/^\s+import (.*);/gm)].map((match) => match[1]), exports: [...wit.matchAll(/^\s+export (.*);/gm)].map((match) => match[1]),
  jco: `jco-transpile ${jco}`, node: process.version, passed: ['mirror', 'concurrent-map', 'bad input', 'wit and bindings agree'] }) + '\n')
console.log('component: ok')
