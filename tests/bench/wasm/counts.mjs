// SPDX-License-Identifier: Apache-2.0
//
// Counting from worker threads of Node, as a contestant (contest.py): node counts.mjs MODULE KEYS ADDS SEED NAMES
//   tally.1, tally.2     so many workers add to the lock-free tally in tallycast-shared.wasm; this thread drains it every 20 ms
//   sharded.1, sharded.2 the same with the sharded one
//   post.1, post.2       a Map in this thread; workers send it each key by postMessage
//   posts.1, posts.2     256 keys a message
// ns of wall time an addition over all workers, until this thread has all of them, counted and drained.
import fs from 'node:fs'
import readline from 'node:readline'
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'

const WARM = 2048
const READY = 0, GO = 1, DRAIN_MS = 20, TOGETHER = 256, SCRATCH_TABLE = 0, SCRATCH_KEY = 64
const FAST = 32  // to as many characters a key is written one by one

if (isMainThread) await main()
else work()

function loadDraws({ names, keys, seed }) {
  const lines = fs.readFileSync(names, 'latin1').split('\n', keys).map((line) => line.slice(0, line.indexOf('\t')))
  let state = seed >>> 0 || 1
  return Array.from({ length: 1 << 16 }, () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return lines[(state >>> 0) % lines.length]
  })
}

function work() {
  const { module, memory, number, kind, words, adds, draws } = workerData
  const at = number * draws.length / 2
  let add
  if (kind === 'tally') {
    const { exports: wasm } = new WebAssembly.Instance(module, { env: { memory } })
    wasm.__stack_pointer.value = wasm.tallycast_stack(number + 1)
    const member = wasm.tallycast_tally_join(1), scratch = wasm.tallycast_reader_scratch(wasm.tallycast_reader_open())
    const bytes = new Uint8Array(memory.buffer), key = scratch + SCRATCH_KEY
    bytes[scratch + SCRATCH_TABLE] = 116  // t
    const table = wasm.tallycast_tally_table(scratch + SCRATCH_TABLE, 1)
    const shared = Buffer.from(memory.buffer, key, 1024)
    add = (name) => {
      let size = name.length, wide = 0
      if (size <= FAST) for (let i = 0; i < size; i++) wide |= bytes[key + i] = name.charCodeAt(i)
      if (size > FAST || wide > 127) size = shared.write(name)
      const status = wasm.tallycast_tally_add(member, table, key, size, 1n)
      if (status) throw new Error(`an addition was refused: ${status}`)
    }
  } else if (kind === 'post') {
    add = (name) => parentPort.postMessage(name)
  } else {
    let some = []
    add = (name) => {
      if (some.push(name) < TOGETHER) return
      parentPort.postMessage(some)
      some = []
    }
  }
  if (kind !== 'tally') for (let i = 0; i < WARM; i++) add(draws[i])  // as the other is warm; the receiver takes them away before it says go
  Atomics.add(words, READY, 1)
  Atomics.notify(words, READY)
  Atomics.wait(words, GO, 0)
  for (let i = 0; i < adds; i++) add(draws[(at + i) & (draws.length - 1)])
  parentPort.postMessage(null)
}

function put(memory, address, text) {
  Buffer.from(memory.buffer, address, 1024).write(text)
  return address
}

async function main() {
  const [path, keys, adds, seed, names] = process.argv.slice(2)
  const module = new WebAssembly.Module(fs.readFileSync(path)), draws = loadDraws({ names, keys: Number(keys), seed: Number(seed) })

  async function measure(kind, workers) {
    const words = new Int32Array(new SharedArrayBuffer(8)), tally = kind === 'tally' || kind === 'sharded'
    const each = Math.floor(Number(adds) / workers / TOGETHER) * TOGETHER, wanted = each * workers
    const memory = new WebAssembly.Memory({ initial: 80, maximum: 4096, shared: true })
    const { exports: wasm } = new WebAssembly.Instance(module, { env: { memory } })
    let map = new Map(), counted = 0, left = workers, drain
    if (tally) {
      const name = wasm.tallycast_buffer(4)
      new Uint8Array(memory.buffer).set(new TextEncoder().encode('main'), name)
      if (wasm.tallycast_open(name, 4, 0n, 0n) || wasm.tallycast_tally_open(kind === 'tally' ? 0 : 1, 64 << 20, 0, 1n, 2n)) throw new Error('no tally')
      const member = wasm.tallycast_tally_join(0), out = wasm.tallycast_reader_scratch(wasm.tallycast_reader_open())
      const entry = new DataView(memory.buffer)
      drain = () => {
        while (wasm.tallycast_tally_drain_begin(member));
        while (wasm.tallycast_tally_drain_next(out)) counted += Number(entry.getBigInt64(out, true))
        wasm.tallycast_tally_drain_end()
      }
      // Both generations are touched before anything is measured.
      const table = wasm.tallycast_tally_table(put(memory, out, 't'), 1)
      for (let generation = 0; generation < 2; generation++) {
        for (const key of draws) wasm.tallycast_tally_add(member, table, put(memory, out, key), Buffer.byteLength(key), 1n)
        drain()
      }
      counted = 0
    } else {
      drain = () => {
        for (const count of map.values()) counted += count
        map = new Map()
      }
    }
    let finished
    const done = new Promise((resolve) => { finished = resolve })
    let received = 0
    const count = (name) => {
      received++
      map.set(name, (map.get(name) ?? 0) + 1)
    }
    const all = Array.from({ length: workers }, (_, number) => {
      const worker = new Worker(new URL(import.meta.url), { workerData: { draws, module, memory, number, kind: tally ? 'tally' : kind, words, adds: each } })
      worker.on('message', (message) => {
        if (message === null) { if (--left === 0) finished() } else if (typeof message === 'string') count(message)
        else message.forEach(count)
      })
      worker.on('error', (error) => { throw error })
      return worker
    })
    while (Atomics.load(words, READY) < workers || (!tally && received < workers * WARM)) await new Promise((resolve) => { setTimeout(resolve, 1) })
    map = new Map()
    const begin = process.hrtime.bigint(), timer = setInterval(drain, DRAIN_MS)
    Atomics.store(words, GO, 1)
    Atomics.notify(words, GO)
    await done
    clearInterval(timer)
    drain()
    drain()
    const took = Number(process.hrtime.bigint() - begin)
    await Promise.all(all.map((worker) => worker.terminate()))
    if (counted !== wanted) throw new Error(`${counted} counted, and not ${wanted}`)
    return took / wanted
  }

  console.log('ready')
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [kind, workers] = line.trim().split('.')
    console.log(['tally', 'sharded', 'post', 'posts'].includes(kind) ? await measure(kind, Number(workers)) : '-')
  }
}
