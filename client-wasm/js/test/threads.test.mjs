// SPDX-License-Identifier: Apache-2.0
//
// Four readers in workers and the applier on one shared memory, the way an application has it: openMirror, share, attachMirror. The connection is
// cut, a worker is terminated in the middle of its views and replaced, and the module is reloaded, all while the others read. Every view is checked
// (tests/support/transfers.h: sums are 0, both looks at the same keys agree), and no reader may see a version go back.
//
// TALLY_READS: reads in all. Without it 4 million, some seconds; the long form is TALLY_READS=100000000.
import assert from 'node:assert/strict'
import { Worker } from 'node:worker_threads'
import { tallycast, transfers, until } from './common.mjs'
import { growingServer } from './stream.mjs'

const READS = Number(process.env.TALLY_READS ?? 4e6), LONG = READS > 1e7
const KEYS = 200, WORKERS = 4, VERSIONS = LONG ? 20000 : 3000, CUTS = LONG ? 20 : 4, KILLS = LONG ? 40 : 2, RELOADS = LONG ? 5 : 1
const seed = process.env.TALLY_SEED ?? String(Date.now())
console.log(`# js threads: TALLY_SEED=${seed}`)
const frames = transfers(KEYS, VERSIONS, seed)

let at = 5
const server = await growingServer(frames, at)
const counts = await tallycast.openMirror({ url: server.url, dataset: 'main', shared: true, maxBytes: 64 << 20, backoffMs: [5, 20] })
let versions = 0, last = 0
counts.on('version', ({ version }) => {
  assert.ok(version > last, `version ${version} after ${last}`)
  last = version
  versions++
})

const words = new SharedArrayBuffer(4096), view = new Int32Array(words)
let handle = counts.share()
let failed = null

// A reader, that is sent off again each time it comes back: between two runs it hears of reloads. {worker, found, ended}: what it saw, whether it stopped.
function start(number, reads) {
  const worker = new Worker(new URL('reader.mjs', import.meta.url)), found = { reads: 0, views: 0, changes: 0, version: 0 }, order = { do: 'run', reads, number }
  const ended = new Promise((resolve) => {
    worker.on('message', (message) => {
      if (message.error) failed = message.error
      if (message.done !== 'run' || message.error) return
      for (const name of ['reads', 'views', 'changes']) found[name] += message[name]
      found.version = message.version
      if (Atomics.load(view, 1)) resolve()
      else worker.postMessage(order)
    })
    worker.on('error', (error) => { failed = error })
  })
  worker.postMessage({ do: 'attach', handle, words, keys: KEYS })
  worker.postMessage(order)
  return { worker, found, ended }
}
const done = () => { let sum = 0; for (let i = 0; i < WORKERS; i++) sum += Atomics.load(view, 3 + i); return sum }
const workers = Array.from({ length: WORKERS }, (_, i) => start(i, READS / WORKERS / (2 * RELOADS + 1)))
await until(() => Atomics.load(view, 0) >= WORKERS, 'they run')

const began = Date.now()
let cuts = 0, terminated = 0, reloads = 0
// The last five come when nobody reads any more: what readers held until then is taken back by the versions that follow.
const BESIDE = VERSIONS - 5
while (done() < READS || at < BESIDE) {
  if (failed) throw new Error(`a reader: ${failed.message ?? failed}`)
  const part = Math.min(done() / READS, at / VERSIONS) // what is ahead waits for the other
  if (at / VERSIONS <= done() / READS) at = Math.min(BESIDE, at + 5)
  server.at(at)
  if (part > (cuts + 1) / (CUTS + 1)) {
    cuts++
    server.cut()
  }
  if (part > (terminated + 1) / (KILLS + 1)) {
    terminated++
    Atomics.store(view, 3 + WORKERS, 0)
    const { worker } = start(WORKERS, Infinity)
    await until(() => Atomics.load(view, 3 + WORKERS) > 0, 'one more reads')
    await worker.terminate()
    await until(() => counts.stats().takenBack === terminated, 'its slot is taken back')
  }
  if (part > (reloads + 1) / (RELOADS + 1)) {
    reloads++
    await counts.reload()
    assert.ok(counts.stats().superseded >= 1) // they have no time to move on
    handle = counts.share()
  }
  await new Promise((resolve) => setTimeout(resolve, 1))
}
Atomics.store(view, 1, 1)
await Promise.all(workers.map(({ ended }) => ended))
const seconds = (Date.now() - began) / 1000
await until(() => counts.stats().superseded === 0, 'they have moved on')
at = VERSIONS
server.at(at)
await until(() => counts.version === VERSIONS, 'the last version')
const stats = counts.stats(), reads = workers.reduce((sum, { found }) => sum + found.reads, 0)
console.log('#', JSON.stringify({ seconds, reads, versions, cuts, terminated, reloads, readers: workers.map(({ found }) => found), stats }))
assert.ok(reads >= READS)
assert.ok(versions > VERSIONS / 2)
assert.ok(cuts >= CUTS && terminated >= KILLS && reloads >= RELOADS)
assert.deepEqual([stats.readers, stats.attached, stats.takenBack, stats.stalledReaders], [1 + WORKERS, WORKERS, terminated, 0])
for (const { found: { version, changes, views } } of workers) assert.ok(version > VERSIONS / 2 && changes > 20 && views > 1000)
assert.ok(stats.retiredBytes < 1 << 20)
for (const { worker } of workers) await worker.terminate()
counts.close()
await server.close()
console.log('js threads: ok')
