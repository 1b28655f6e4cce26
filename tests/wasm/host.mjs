// SPDX-License-Identifier: Apache-2.0
//
// A small host of the modules for tests: client-wasm/wasm/module.h in JavaScript.
import fs from 'node:fs'
import path from 'node:path'

export const OK = 0, FULL = 2, CORRUPT = 4, OLD = 9, NOT_FOUND = 11, INVALID = 12, MORE = 26
const encoder = new TextEncoder()
const decoder = new TextDecoder()

export function load(name) {
  return new WebAssembly.Module(fs.readFileSync(path.join(process.env.TALLY_WASM_DIR, name)))
}

export function sharedMemory(pagesMax = 4096) {
  return new WebAssembly.Memory({ initial: 80, maximum: pagesMax, shared: true })
}

// One instance; `memory` for the shared module, with `stack` the number of the instance from 1 on.
export class Host {
  constructor(module, memory, stack = 0) {
    const instance = new WebAssembly.Instance(module, memory ? { env: { memory } } : {})
    this.wasm = instance.exports
    this.memory = memory ?? this.wasm.memory
    if (stack) this.wasm.__stack_pointer.value = this.wasm.tallycast_stack(stack)
  }
  // The buffer is another one after the memory grew.
  get bytes() { return new Uint8Array(this.memory.buffer) }
  get view() { return new DataView(this.memory.buffer) }
  read(address, size) { return this.bytes.slice(address, address + size) }
  text(address, size) { return decoder.decode(this.read(address, size)) }
  input(data) {
    const address = this.wasm.tallycast_buffer(data.length)
    if (!address) throw new Error('no memory for the input')
    this.bytes.set(data, address)
    return address
  }
  open(dataset, bytesMax = 0n, retiredMax = 0n) {
    const name = encoder.encode(dataset)
    return this.wasm.tallycast_open(this.input(name), name.length, bytesMax, retiredMax)
  }
  apply(frame) { return this.wasm.tallycast_apply(this.input(frame), frame.length) }
  stats() {
    const address = this.wasm.tallycast_buffer(88)
    if (this.wasm.tallycast_stats(address)) throw new Error('stats')
    const names = ['reads', 'hits', 'misses', 'applies', 'refused', 'swaps', 'rows_changed', 'retired_bytes', 'used_bytes',
      'memory_bytes']
    const stats = Object.fromEntries(names.map((name, i) => [name, Number(this.view.getBigUint64(address + 8 * i, true))]))
    stats.readers = this.view.getUint32(address + 80, true)
    stats.stalled_readers = this.view.getUint32(address + 84, true)
    return stats
  }
  reader() {
    const slot = this.wasm.tallycast_reader_open()
    if (slot < 0) throw new Error(`reader: ${slot}`)
    return new Reader(this, slot)
  }
}

export class Reader {
  constructor(host, slot) {
    this.host = host
    this.slot = slot
    this.scratch = host.wasm.tallycast_reader_scratch(slot)
  }
  pin() { return new View(this, this.host.wasm.tallycast_pin(this.slot)) }
  close() { this.host.wasm.tallycast_reader_close(this.slot) }
}

export class View {
  constructor(reader, number) {
    if (number < 0) throw new Error(`pin: ${number}`)
    this.reader = reader
    this.host = reader.host
    this.number = number
  }
  unpin() { this.host.wasm.tallycast_unpin(this.number) }
  info() {
    const at = this.reader.scratch
    if (this.host.wasm.tallycast_info(this.number, at)) throw new Error('info')
    const u64 = (n) => this.host.view.getBigUint64(at + n, true)
    const hex = (n) => u64(n).toString(16).padStart(16, '0')
    return { epoch: hex(0), version: Number(u64(8)), cutMs: Number(u64(16)), freshMs: Number(u64(24)), digest: hex(40) + hex(32),
      rows: Number(u64(64)), tables: this.host.view.getUint32(at + 72, true) }
  }
  table(name) {
    const data = encoder.encode(name)
    this.host.bytes.set(data, this.reader.scratch)
    return this.host.wasm.tallycast_table(this.number, this.reader.scratch, data.length)
  }
  tableInfo(table) {
    const at = this.reader.scratch, view = this.host.view
    if (this.host.wasm.tallycast_table_info(this.number, table, at)) return null
    return { rows: Number(view.getBigUint64(at, true)), kind: view.getUint32(at + 16, true),
      name: this.host.text(view.getUint32(at + 8, true), view.getUint32(at + 12, true)) }
  }
  // The value as a BigInt, or null.
  get(table, key) {
    const data = typeof key === 'string' ? encoder.encode(key) : key
    const at = this.reader.scratch
    this.host.bytes.set(data, at + 8)
    const status = this.host.wasm.tallycast_get(this.number, table, at + 8, data.length, at)
    if (status === NOT_FOUND) return null
    if (status) throw new Error(`get: ${status}`)
    return this.host.view.getBigInt64(at, true)
  }
  // Values, null where absent. What `pack` made may be used again and again.
  static pack(keys) {
    const encoded = keys.map((key) => (typeof key === 'string' ? encoder.encode(key) : key))
    const packed = new Uint8Array(encoded.reduce((sum, key) => sum + 4 + key.length, 0))
    let at = 0
    for (const key of encoded) {
      new DataView(packed.buffer).setUint32(at, key.length, true)
      packed.set(key, at + 4)
      at += 4 + key.length
    }
    return { packed, count: keys.length }
  }
  getMany(table, { packed, count }) {
    const values = this.reader.scratch, found = values + 8 * count, keys = found + count
    if (keys + packed.length > this.reader.scratch + this.host.wasm.tallycast_reader_scratch_size())
      throw new Error('too many keys')
    this.host.bytes.set(packed, keys)
    const status = this.host.wasm.tallycast_get_many(this.number, table, keys, packed.length, count, values, found)
    if (status) throw new Error(`get_many: ${status}`)
    const { bytes, view } = this.host
    return Array.from({ length: count }, (_, i) => (bytes[found + i] ? view.getBigInt64(values + 8 * i, true) : null))
  }
  *rows() {
    const cursor = this.reader.scratch, row = cursor + 8
    let place = 0n
    for (;;) {
      this.host.view.setBigUint64(cursor, place, true)
      if (!this.host.wasm.tallycast_next(this.number, cursor, row)) return
      const view = this.host.view
      place = view.getBigUint64(cursor, true)
      yield { value: view.getBigInt64(row, true), table: view.getUint32(row + 8, true), id: view.getUint32(row + 12, true),
        key: this.host.read(view.getUint32(row + 16, true), view.getUint32(row + 20, true)) }
    }
  }
  // All chunks of the view as an array of frames. Applier's thread: the room is taken from the mirror's memory.
  chunks() {
    const MiB = 1 << 20, { wasm } = this.host
    const state = wasm.tallycast_alloc(64), scratch = wasm.tallycast_alloc(MiB), out = wasm.tallycast_alloc(MiB)
    this.host.bytes.fill(0, state, state + 24)
    const frames = []
    do {
      const status = wasm.tallycast_write_chunk(this.number, state, scratch, out)
      if (status) throw new Error(`write_chunk: ${status}`)
      frames.push(this.host.read(out, this.host.view.getUint32(state + 12, true)))
    } while (this.host.view.getUint32(state + 16, true))
    wasm.tallycast_free(state, 64)
    wasm.tallycast_free(scratch, MiB)
    wasm.tallycast_free(out, MiB)
    return frames
  }
}

// The entries of a frame file.
export function frameFile(bytes) {
  if (decoder.decode(bytes.subarray(0, 8)) !== 'TALLYF1\n') throw new Error('not a frame file')
  const frames = [], view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
  for (let at = 8; at < bytes.length;) {
    const size = view.getUint32(at, true)
    frames.push(bytes.subarray(at + 4, at + 4 + size))
    at += 4 + size
  }
  return frames
}
