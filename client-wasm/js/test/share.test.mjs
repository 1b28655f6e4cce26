// SPDX-License-Identifier: Apache-2.0
//
// share and attachMirror: many threads on one memory; threads that are ended from outside; reload, under load, with and without other threads.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { test } from 'node:test'
import v8 from 'node:v8'
import vm from 'node:vm'
import { Worker } from 'node:worker_threads'
import { checkTransfers, folder, refused, tallycast, transferKeys, transfers, until } from './common.mjs'
import { growingServer } from './stream.mjs'

const { openMirror, attachMirror } = tallycast
const KEYS = 200, frames = transfers(KEYS, 3000), keys = transferKeys(KEYS)
v8.setFlagsFromString('--expose-gc')
const gc = vm.runInNewContext('gc')
const build = (name) => WebAssembly.compile(fs.readFileSync(`${folder}/wasm/${name}`))

// Versions are frames' numbers: whole states are version 1's and the deltas since.
async function growing(context, at) {
  const server = await growingServer(frames, at)
  context.after(() => server.close())
  return server
}

async function opened(context, { versions = 5, ...options } = {}) {
  const server = await growing(context, versions)
  const counts = await openMirror({ url: server.url, dataset: 'main', shared: true, maxBytes: 64 << 20, backoffMs: [10, 40], ...options })
  context.after(() => counts.close())
  await until(() => counts.version === versions, 'the first versions')
  return { server, counts }
}

// A worker of reader.mjs; ask() resolves with its answer, states are what it was told meanwhile.
function worker(context) {
  const made = new Worker(new URL('reader.mjs', import.meta.url)), waiting = [], states = []
  context.after(() => made.terminate())
  made.on('message', (message) => (message.done ? waiting.shift()?.resolve(message) : states.push(message.state)))
  made.on('error', (error) => waiting.shift()?.reject(error))
  const ask = (order, more) => new Promise((resolve, reject) => {
    waiting.push({ resolve, reject })
    made.postMessage({ do: order, ...more })
  })
  return { ask, states, terminate: () => made.terminate() }
}

test('one handle, many threads: slots are taken and given back by themselves', async (context) => {
  const { server, counts } = await opened(context), handle = counts.share(), workers = [0, 1, 2].map(() => worker(context))
  for (const { ask } of workers) assert.deepEqual(await ask('attach', { handle, keys: KEYS }), { done: 'attach', version: 5, state: 'attached' })
  assert.deepEqual([counts.stats().attached, counts.stats().readers], [3, 4])
  server.at(40)
  await until(() => counts.version === 40, 'version 40')
  for (const { ask } of workers) assert.equal((await ask('read')).version, 40)
  for (const { ask } of workers) assert.equal((await ask('close')).state, 'closed')
  assert.deepEqual([counts.stats().attached, counts.stats().readers, counts.stats().takenBack], [0, 1, 0])
  assert.match((await workers[0].ask('read')).error.message, /closed/)
  // As many as there are slots, in one thread for once.
  const all = Array.from({ length: 63 }, () => attachMirror(handle))
  assert.throws(() => attachMirror(handle), refused('TALLY_FULL'))
  assert.ok(all.every((each) => each.get('accounts', 'version') === 40 && each.view((view) => checkTransfers(view, keys)) === 40))
  all[17].close()
  const again = attachMirror(handle)
  assert.equal(again.get('accounts', 'version'), 40)
  assert.deepEqual(again.top('accounts', 3), counts.top('accounts', 3))
  assert.deepEqual([...again.entries('accounts')], [...counts.entries('accounts')])
  for (const each of [...all, again]) each.close()
  for (const each of all) each.close()
  assert.equal(counts.stats().attached, 0)
})

test('a thread that attached sees memory that grew since', async (context) => {
  const { server, counts } = await opened(context), attached = attachMirror(counts.share())
  const before = counts.stats().memoryBytes
  const hold = attached.entries('accounts') // all that is replaced stays
  hold.next()
  server.at(3000)
  await until(() => counts.version === 3000, 'version 3000')
  assert.ok(counts.stats().memoryBytes > before)
  assert.deepEqual([...attached.entries('accounts')], [...counts.entries('accounts')])
  assert.deepEqual(attached.top('accounts', 9), counts.top('accounts', 9))
  assert.equal(attached.view((view) => checkTransfers(view, keys)), 3000)
  hold.return()
  attached.close()
})

test('a worker that is terminated within a view: its slot is taken back, and memory is used again', async (context) => {
  const errors = []
  const { server, counts } = await opened(context, { retiredMaxBytes: 300000, on: { state: ({ error }) => error && errors.push(error.code) } })
  const words = new SharedArrayBuffer(64), view = new Int32Array(words), one = worker(context), other = worker(context)
  const handle = counts.share()
  await one.ask('attach', { handle, words })
  await other.ask('attach', { handle, words, keys: KEYS })
  one.ask('hang')
  await until(() => Atomics.load(view, 0) === 1, 'it is in its view')
  server.at(3000)
  await until(() => errors.includes('TALLY_STALLED'), 'no more can be kept for it')
  assert.equal(counts.stats().stalledReaders, 1)
  assert.ok(counts.version < 3000)
  assert.equal((await other.ask('read')).version, counts.version)
  await one.terminate()
  await until(() => counts.version === 3000, 'it goes on')
  const stats = counts.stats()
  assert.deepEqual([stats.takenBack, stats.attached, stats.readers, stats.stalledReaders], [1, 1, 2, 0])
  assert.ok(stats.retiredBytes < 100000)
  assert.equal((await other.ask('read')).version, 3000)
  // The slot and the instance are another's now.
  const third = worker(context)
  assert.equal((await third.ask('attach', { handle, keys: KEYS })).version, 3000)
  assert.equal((await third.ask('read')).version, 3000)
  // One that just ends, without a close.
  await third.terminate()
  await until(() => counts.stats().takenBack === 2, 'taken back')
  assert.equal(counts.stats().attached, 1)
})

test('a worker that is older than the first handle is reclaimed by hand', async (context) => {
  const old = worker(context)
  await old.ask('close').catch(() => {}) // it runs
  const { counts } = await opened(context), words = new SharedArrayBuffer(64), handle = counts.share(), other = attachMirror(counts.share())
  await old.ask('attach', { handle, words })
  old.ask('hang')
  await until(() => new Int32Array(words)[0] === 1, 'it is in its view')
  await old.terminate()
  assert.equal(counts.stats().takenBack, 0)
  assert.equal(counts.reclaim(handle), 1)
  assert.equal(counts.reclaim(handle), 0)
  assert.deepEqual([counts.stats().takenBack, counts.stats().attached, counts.stats().readers], [1, 1, 2])
  assert.equal(other.get('accounts', 'version'), 5)
  other.close()
})

// Web Locks as a host without Node's 'exit' has them, of this one thread: a name is held until the promise of its holder is settled. die(name) is what a
// browser does for a worker that is terminated.
function fakeLocks() {
  const names = new Map()
  const next = (name) => {
    const first = names.get(name)?.[0]
    if (!first || first.running) return
    first.running = true
    const done = () => {
      names.get(name).shift()
      next(name)
    }
    first.end = done
    Promise.resolve(first.use()).then(() => { if (names.get(name)[0] === first) done() })
    first.granted()
  }
  return {
    request: (name, use) => new Promise((granted) => {
      if (!names.has(name)) names.set(name, [])
      names.get(name).push({ use, granted })
      queueMicrotask(() => next(name))
    }),
    held: () => [...names].filter(([, queue]) => queue[0]?.running).map(([name]) => name),
    die: (name) => names.get(name)[0].end()
  }
}

test('a thread that is gone is known by its lock', async (context) => {
  const locks = fakeLocks(), before = Object.getOwnPropertyDescriptor(globalThis, 'navigator')
  Object.defineProperty(globalThis, 'navigator', { value: { locks }, configurable: true })
  context.after(() => (before ? Object.defineProperty(globalThis, 'navigator', before) : delete globalThis.navigator))
  const { counts } = await opened(context), turn = () => new Promise((resolve) => setTimeout(resolve, 1))
  const [dies, closes, lives] = [0, 1, 2].map(() => attachMirror(counts.share()))
  await turn()
  const [first] = locks.held()
  assert.equal(counts.stats().attached, 3)
  await turn()
  assert.equal(locks.held().length, 3)
  assert.equal(counts.stats().takenBack, 0)
  closes.close()
  await turn()
  assert.deepEqual([counts.stats().attached, counts.stats().takenBack], [2, 0])
  const hold = dies.entries('accounts')
  hold.next()
  locks.die(first)
  await turn()
  const stats = counts.stats()
  assert.deepEqual([stats.attached, stats.takenBack, stats.readers, stats.stalledReaders], [1, 1, 2, 0])
  assert.equal(lives.get('accounts', 'version'), 5)
  // Whoever has the seat next is not taken for the one before.
  const next = attachMirror(counts.share())
  await turn()
  assert.deepEqual([counts.stats().attached, counts.stats().takenBack], [2, 1])
  assert.equal(next.get('accounts', 'version'), 5)
  next.close()
  lives.close()
})

test('handles that are wrong', async (context) => {
  const { counts } = await opened(context), handle = counts.share()
  for (const wrong of [undefined, null, 5, {}, { ...handle, control: undefined }, { ...handle, share: 'x' }, { ...handle, memory: {} }, { ...handle, module: 5 },
    { ...handle, module: await build('tallycast.wasm') }]) assert.throws(() => attachMirror(wrong), refused('TALLY_INVALID'), String(wrong))
  assert.throws(() => attachMirror({ ...handle, control: new SharedArrayBuffer(1024) }), refused('TALLY_UNSUPPORTED', /another version/))
  assert.throws(() => attachMirror({ ...handle, memory: new WebAssembly.Memory({ initial: 1 }) }), refused('TALLY_UNSUPPORTED', /Cross-Origin-Opener-Policy/))
  const { SharedArrayBuffer: kept } = globalThis
  try {
    delete globalThis.SharedArrayBuffer
    assert.throws(() => attachMirror(handle), refused('TALLY_UNSUPPORTED', /Cross-Origin-Opener-Policy/))
    await assert.rejects(openMirror({ url: 'ws://127.0.0.1:1', dataset: 'main', shared: true }), refused('TALLY_UNSUPPORTED', /Cross-Origin-Opener-Policy/))
  } finally {
    globalThis.SharedArrayBuffer = kept
  }
  const attached = attachMirror(handle)
  counts.close()
  assert.equal(attached.state, 'ended')
  assert.equal(attached.get('accounts', 'version'), 5)
  assert.throws(() => attachMirror(handle), refused('TALLY_GONE', /share\(\)/))
  assert.throws(() => counts.share(), refused('TALLY_INVALID', /closed/))
  attached.close()
})

// ---------------------------------------------------------------------------------------------------- reload

for (const shared of [false, true]) {
  test(`reload under load, ${shared ? 'shared' : 'own'} memory: every version, none twice, none back; the old memory goes`, async (context) => {
    const { server, counts } = await opened(context, { shared })
    const versions = []
    counts.on('version', (info) => {
      versions.push(info.version)
      assert.equal(counts.view((view) => checkTransfers(view, keys)), info.version)
    })
    let at = 5, last = 0
    const load = setInterval(() => {
      if (at < 2900) server.at(++at)
      const version = counts.view((view) => checkTransfers(view, keys))
      assert.ok(version >= last, `back from ${last} to ${version}`)
      assert.ok(version >= at - 200, 'stale')
      last = version
    }, 1)
    context.after(() => clearInterval(load))
    const sizes = []
    for (let round = 0; round < 20; round++) {
      const before = at
      await counts.reload(await build(shared ? 'tallycast-shared.wasm' : 'tallycast.wasm'))
      await until(() => counts.version > before, 'it goes on')
      gc()
      await new Promise((resolve) => setTimeout(resolve, 5))
      gc()
      sizes.push(process.memoryUsage().arrayBuffers + process.memoryUsage().external)
    }
    clearInterval(load)
    server.at(2950)
    await until(() => counts.version === 2950, 'version 2950')
    assert.deepEqual(versions, versions.map((_, i) => versions[0] + i), 'versions were left out')
    assert.equal(server.guests.size, 1)
    assert.equal(counts.state, 'live')
    assert.ok(Math.max(...sizes.slice(10)) < Math.max(...sizes.slice(0, 10)) + (12 << 20), `memories stay: ${sizes.map((size) => size >> 20)}`)
    if (!shared) assert.throws(() => counts.share(), refused('TALLY_UNSUPPORTED'))
  })
}

test('reload: threads that are attached move on, one that has no time reads on from the old memory, which is fed', async (context) => {
  const { server, counts } = await opened(context), handle = counts.share(), words = new SharedArrayBuffer(64), view = new Int32Array(words)
  const idle = worker(context), busy = worker(context)
  await idle.ask('attach', { handle, keys: KEYS })
  await busy.ask('attach', { handle, keys: KEYS, words })
  const spun = busy.ask('spin')
  await until(() => Atomics.load(view, 0) === 1, 'it spins')
  await counts.reload()
  await until(() => idle.states.includes('moved'), 'the idle one moves')
  assert.equal(counts.stats().superseded, 1)
  server.at(700)
  await until(() => counts.version === 700, 'version 700')
  await until(() => Atomics.load(view, 2) === 700, 'the busy one sees it, too')
  assert.deepEqual({ ...(await idle.ask('read')), digest: 0 }, { done: 'read', version: 700, state: 'attached', digest: 0 })
  assert.equal(server.guests.size, 2)
  assert.equal(counts.stats().attached, 2)
  Atomics.store(view, 1, 1)
  assert.ok((await spun).views > 0)
  await until(() => busy.states.includes('moved'), 'the busy one moves')
  await until(() => counts.stats().superseded === 0, 'the old memory is given up')
  await until(() => server.guests.size === 1, 'and its stream')
  assert.throws(() => attachMirror(handle), refused('TALLY_GONE'))
  server.at(800)
  await until(() => counts.version === 800, 'version 800')
  for (const { ask } of [idle, busy]) {
    const found = await ask('read')
    assert.deepEqual([found.version, found.digest, found.state], [800, counts.digest, 'attached'])
  }
  // By hand, as where nothing can be told; and one that is ended on the old memory.
  const hand = worker(context)
  await hand.ask('attach', { handle: counts.share(), keys: KEYS })
  assert.equal((await hand.ask('move', { handle: counts.share() })).version, 800)
  assert.match((await hand.ask('move', { handle: 5 })).error.code, /TALLY_INVALID/)
  assert.equal((await hand.ask('read')).version, 800)
  await busy.ask('attach', { handle: counts.share(), words, keys: KEYS })
  Atomics.store(view, 0, 0)
  busy.ask('hang')
  await until(() => Atomics.load(view, 0) === 1, 'it hangs')
  await counts.reload()
  assert.equal(counts.stats().superseded, 1)
  await busy.terminate()
  await until(() => counts.stats().superseded === 0, 'taken back from the old memory')
  assert.ok(counts.stats().takenBack >= 1)
})

test('reload that cannot be: all stays', async (context) => {
  const { server, counts } = await opened(context, { shared: false })
  await assert.rejects(counts.reload(await build('tallycast-shared.wasm')), refused('TALLY_INVALID', /not shared/))
  await assert.rejects(counts.reload(new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0))), refused('TALLY_UNSUPPORTED', /ABI/))
  await assert.rejects(counts.reload({}), refused('TALLY_INVALID', /module/))
  await assert.rejects(counts.reload(undefined, { maxBytes: 16384 }), refused('TALLY_NO_MEMORY'))
  server.close()
  const waits = counts.reload(undefined, { waitMs: 300 })
  await new Promise((resolve) => setTimeout(resolve, 20))
  await assert.rejects(counts.reload(), refused('TALLY_BUSY'))
  await assert.rejects(waits, refused('TALLY_TIMEOUT'))
  assert.equal(counts.get('accounts', 'version'), 5)
  const closed = counts.reload()
  await new Promise((resolve) => setTimeout(resolve, 20))
  counts.close()
  await assert.rejects(closed, refused('TALLY_INVALID', /closed/))
  await assert.rejects(counts.reload(), refused('TALLY_INVALID', /closed/))
})
