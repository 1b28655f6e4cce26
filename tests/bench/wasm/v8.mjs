// SPDX-License-Identifier: Apache-2.0
//
// V8 as a contestant (contest.py): node v8.mjs GUEST.wasm own|shared KIND KEYS SEED DRAWS NAMES
// Measurements: dependent, independent, many (the guest loops), host (this script loops: writes each key's bytes in, calls
// tallycast_read).
import fs from 'node:fs'
import readline from 'node:readline'

const [path, sharing, kind, keys, seed, draws, namesPath] = process.argv.slice(2)
const module = new WebAssembly.Module(fs.readFileSync(path))
const memory = sharing === 'shared' ? new WebAssembly.Memory({ initial: 2048, maximum: 65536, shared: true }) : null
const wasm = new WebAssembly.Instance(module, memory ? { env: { memory } } : {}).exports
const { buffer } = memory ?? wasm.memory
if (kind === 'names') {
  const text = fs.readFileSync(namesPath)
  new Uint8Array(buffer).set(text, wasm.bench_text(text.length))
}
const status = wasm.bench_load(kind === 'names' ? 1 : 0, Number(keys), Number(seed))
if (status) throw new Error(`the mirror does not load: ${status}`)
const slot = wasm.tallycast_reader_open(), scratch = wasm.tallycast_reader_scratch(slot)

const cpuNs = () => {
  const { user, system } = process.cpuUsage()
  return (user + system) * 1000
}

const bytes = new Uint8Array((memory ?? wasm.memory).buffer), read = wasm.tallycast_read
bytes[scratch] = 't'.charCodeAt(0)
const table = wasm.tallycast_read_table(slot, scratch, 1)

function host(addresses, sizes, count) {
  let sum = 0
  for (let i = 0; i < count; i++) {
    const size = sizes[i], at = addresses[i]
    for (let j = 0; j < size; j++) bytes[scratch + 8 + j] = bytes[at + j]
    sum += read(slot, table, scratch + 8, size)
  }
  return sum
}

function measure(what, count) {
  if (what === 'host') {
    const addresses = new Uint32Array(count), sizes = new Uint32Array(count)
    for (let i = 0; i < count; i++) {
      addresses[i] = wasm.bench_drawn(i)
      sizes[i] = wasm.bench_drawn_size(i)
    }
    const start = cpuNs()
    if (!host(addresses, sizes, count)) throw new Error('nothing was read')
    return (cpuNs() - start) / count
  }
  const loop = wasm[`bench_${what}`]
  if (!loop) return null
  const start = cpuNs()
  if (!loop(count)) throw new Error('nothing was read')
  return (cpuNs() - start) / count
}

// V8 compiles what is called often a second time, and replaces the loop's code only between calls of it.
wasm.bench_draw(Number(seed), 1600)
for (let i = 0; i < 300; i++) for (const what of ['dependent', 'independent', 'many', 'host']) measure(what, 160)
await new Promise((resolve) => setTimeout(resolve, 50))

console.log(`ready ${JSON.stringify({ bytes: bytes.length })}`)
let round = 0
for await (const line of readline.createInterface({ input: process.stdin })) {
  const count = wasm.bench_draw(Number(seed) + ++round * 1000003, Number(draws))
  const ns = measure(line, count)
  console.log(ns === null ? '-' : ns.toFixed(3))
}
