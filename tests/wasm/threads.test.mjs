// SPDX-License-Identifier: Apache-2.0
//
// tallycast-shared.wasm: four workers read with views, each through an instance of its own, while this thread applies thousands of
// versions. Every view must be of one version (support/transfers.h), and no reader may see a version go back.
//   node threads.test.mjs MAKE_TRANSFERS
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { Host, View, frameFile, load, sharedMemory } from './host.mjs'

const KEYS = 400, VERSIONS = 4000, WORKERS = 4
const DONE = 0, STARTED = 1, CHECKED = 2  // words that all threads see; from CHECKED on one a worker

if (isMainThread) await main()
else read()

function read() {
  const { module, memory, number, words } = workerData
  const host = new Host(module, memory, number)
  const keys = View.pack(['version', ...Array.from({ length: KEYS - 1 }, (_, i) => `k${i + 1}`)])
  const seen = { views: 0, kept: 0, last: 0 }
  const check = (view) => {
    const { version } = view.info()
    const [held, ...values] = view.getMany(0, keys)
    const sum = values.reduce((total, value) => total + (value ?? 0n), 0n)
    if (sum !== 0n || held !== BigInt(version)) throw new Error(`torn: version ${version}, key ${held}, sum ${sum}`)
    seen.views++
    Atomics.add(words, CHECKED + number - 1, 1)
    return version
  }
  let reader = host.reader()
  Atomics.add(words, STARTED, 1)
  for (let round = 0; !Atomics.load(words, DONE); round++) {
    const view = reader.pin()
    const version = check(view)
    if (version < seen.last) throw new Error(`back from ${seen.last} to ${version}`)
    seen.last = version
    if (round % 50 === 0) {
      // Kept while versions pass, with others pinned over it.
      for (let newest = version; newest < version + 10 && !Atomics.load(words, DONE);) {
        const over = reader.pin()
        newest = check(over)
        over.unpin()
        seen.last = newest
      }
      assert.equal(check(view), version)
      seen.kept++
    }
    if (round % 2) {
      let sum = 0n, rows = 0
      for (const row of view.rows()) {
        if (row.id) sum += row.value
        rows++
      }
      assert.equal(sum, 0n)
      assert.equal(rows, view.info().rows)
    }
    view.unpin()
    if (round % 20 === 0) {
      reader.close()
      reader = host.reader()
    }
  }
  reader.close()
  parentPort.postMessage(seen)
}

async function main() {
  const seed = process.env.TALLY_SEED ?? String(Date.now())
  console.log(`# threads: TALLY_SEED=${seed}`)
  const file = execFileSync(process.argv[2], [KEYS, VERSIONS, seed].map(String), { maxBuffer: 1 << 30 })
  const frames = frameFile(file)
  assert.equal(frames.length, VERSIONS)
  const memory = sharedMemory(), module = load('tallycast-shared.wasm')
  const words = new Int32Array(new SharedArrayBuffer(4 * (CHECKED + WORKERS)))
  const host = new Host(module, memory)
  assert.equal(host.open('main'), 0)
  assert.equal(host.apply(frames[0]), 0)

  const workers = Array.from({ length: WORKERS }, (_, i) => new Worker(new URL(import.meta.url),
    { workerData: { module, memory, number: i + 1, words } }))
  const results = workers.map((worker) => new Promise((resolve, reject) => {
    worker.on('message', resolve)
    worker.on('error', reject)
  }))
  const failed = Promise.race(results.map((result) => result.then(() => new Promise(() => {}))))
  const breathe = () => Promise.race([new Promise((resolve) => setImmediate(resolve)), failed])
  while (Atomics.load(words, STARTED) < WORKERS) await breathe()
  for (let i = 1; i < VERSIONS; i++) {
    assert.equal(host.apply(frames[i]), 0)
    if (i % 10) continue
    // On few cores too: each reader in turn checks a view before the next versions come.
    const word = CHECKED + i / 10 % WORKERS, checked = Atomics.load(words, word)
    while (Atomics.load(words, word) === checked) await breathe()
  }
  Atomics.store(words, DONE, 1)
  const seen = await Promise.all(results)
  console.log('#', JSON.stringify(seen))
  const stats = host.stats()
  console.log('#', JSON.stringify(stats))
  assert.equal(stats.swaps, VERSIONS)
  assert.equal(stats.readers, 0)
  for (const { views, kept, last } of seen) assert.ok(views > 100 && kept > 0 && last > 1)
  console.log('threads: ok')
}
