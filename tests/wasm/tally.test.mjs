// SPDX-License-Identifier: Apache-2.0
//
// The tally in tallycast-shared.wasm: four workers add through instances of their own, ten million times, while this thread drains
// thousands of times. What was added is what was drained, to the last one, by key. Then a worker is terminated in the middle of its work, and
// its place is taken back. For both maps.
import assert from 'node:assert/strict'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { Host, load, sharedMemory } from './host.mjs'

const WORKERS = 4, ADDS = 2_500_000, KEYS = 3000, BUSY = 24
const DONE = 0, READY = 1  // words that all threads see
const KIND = ['lock-free', 'sharded']

if (isMainThread) await main()
else count()

function random(seed) {
  let state = BigInt(seed) | 1n
  return () => {  // xorshift, 32 bits of it
    state ^= (state << 13n) & 0xffffffffffffffffn
    state ^= state >> 7n
    state ^= (state << 17n) & 0xffffffffffffffffn
    return Number(state & 0xffffffffn)
  }
}

function count() {
  const { module, memory, number, words, seed, endless } = workerData
  const host = new Host(module, memory, number), { wasm } = host
  const next = random(seed + number)
  const member = wasm.tallycast_tally_join(1)
  assert.ok(member >= 0)
  const reader = host.reader(), table = wasm.tallycast_tally_table(put(host, reader.scratch, 'hits'), 4)
  assert.ok(table >= 0)
  // All keys lie in the scratch, 8 bytes each; draws are made before, so that the adds come close together.
  const keys = reader.scratch + 64
  for (let i = 0; i < KEYS; i++) put(host, keys + 8 * i, `key-${String(i).padStart(4, '0')}`)
  const draws = Uint16Array.from({ length: 1 << 16 }, () => (next() % 2 ? next() % 8 : next() % KEYS))
  const added = new Float64Array(KEYS)
  Atomics.add(words, READY, 1)
  Atomics.notify(words, READY)
  for (let i = 0; endless || i < ADDS; i++) {
    const key = draws[i & 0xffff], amount = (i & 7) + 1
    const status = wasm.tallycast_tally_add(member, table, keys + 8 * key, 8, BigInt(amount))
    if (status) throw new Error(`add: ${status}`)
    added[key] += amount
  }
  wasm.tallycast_tally_leave(member)
  Atomics.add(words, DONE, 1)
  parentPort.postMessage(added)
}

function put(host, address, text) {
  host.bytes.set(new TextEncoder().encode(text), address)
  return address
}

// Drains once into `sums`; gives whether there was anything.
function drain(host, member, out, sums) {
  const { wasm } = host
  while (wasm.tallycast_tally_drain_begin(member) === BUSY);
  let any = false
  while (wasm.tallycast_tally_drain_next(out)) {
    const view = host.view, key = view.getUint32(out + 12, true)
    assert.equal(view.getUint32(out + 16, true), 8)
    sums[Number(host.text(key + 4, 4))] += Number(view.getBigInt64(out, true))
    any = true
  }
  wasm.tallycast_tally_drain_end()
  return any
}

async function main() {
  const seed = Number(process.env.TALLY_SEED ?? Date.now() % 1e9)
  console.log(`# tally: TALLY_SEED=${seed}`)
  const module = load('tallycast-shared.wasm')
  for (const kind of [0, 1]) {
    const memory = sharedMemory(), host = new Host(module, memory), { wasm } = host
    assert.equal(wasm.tallycast_tally_join(0), -12)  // not open yet
    assert.equal(host.open('main'), 0)
    assert.equal(wasm.tallycast_tally_open(2, 4 << 20, 0, 1n, 2n), 12)
    assert.equal(wasm.tallycast_tally_open(kind, 4 << 20, 0, 1n, 2n), 0)
    assert.equal(wasm.tallycast_tally_open(kind, 4 << 20, 0, 1n, 2n), 12)
    const member = wasm.tallycast_tally_join(0)
    const out = wasm.tallycast_reader_scratch(host.reader().slot)
    const words = new Int32Array(new SharedArrayBuffer(8))
    const start = (number, endless) => new Worker(new URL(import.meta.url),
      { workerData: { module, memory, number, words, seed, endless } })
    const workers = Array.from({ length: WORKERS }, (_, i) => start(i + 1, false))
    const results = workers.map((worker) => new Promise((resolve, reject) => {
      worker.once('message', resolve)
      worker.once('error', reject)
    }))

    const drained = new Float64Array(KEYS)
    let drains = 0
    while (Atomics.load(words, DONE) < WORKERS) {
      drain(host, member, out, drained)
      if (++drains % 16 === 0) await new Promise(setImmediate)  // workers' errors are heard
    }
    while (drain(host, member, out, drained)) drains++
    drain(host, member, out, drained)
    const added = new Float64Array(KEYS)
    for (const result of await Promise.all(results)) result.forEach((amount, key) => { added[key] += amount })
    assert.deepEqual(drained, added)
    assert.equal(wasm.tallycast_tally_stats(out), 0)
    const stat = (n) => Number(host.view.getBigUint64(out + 8 * n, true))
    assert.equal(stat(0), WORKERS * ADDS)
    assert.equal(stat(1), 0)
    assert.ok(stat(4) >= drains && drains > 1000, `${drains} drains`)
    console.log(`${KIND[kind]}: ${stat(0)} additions, ${stat(4)} drains, ${stat(3)} times contended`)

    // Terminated at any instruction. The drain may wait for it; evicting it ends that.
    for (let round = 0; round < 20; round++) {
      Atomics.store(words, READY, 0)
      const worker = start(1, true)
      while (Atomics.load(words, READY) === 0) await new Promise(setImmediate)
      drain(host, member, out, drained)
      await worker.terminate()
      wasm.tallycast_tally_evict(member, member + 1)
      wasm.tallycast_reader_close(1)
      drain(host, member, out, drained)
      drain(host, member, out, drained)
      assert.equal(drain(host, member, out, drained), false)
    }
    assert.equal(wasm.tallycast_tally_stats(out), 0)
    assert.equal(stat(5), 20)
  }
}
