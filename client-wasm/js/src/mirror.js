// SPDX-License-Identifier: Apache-2.0
//
// The mirror in JavaScript: client-wasm/wasm/module.h as a class. No sockets: frames come in by apply().
//
// A Mirror is one instance of the module and one reader slot of its memory, for one thread. A key crosses once, into the slot's scratch; a
// read is one call of the module and makes nothing in its memory. `get` gives a number, exact to 2^53; beyond that ask getBigInt.
import { STATUS, TallycastError, check } from './errors.js'

const ABI = 2
const KEY_BYTES_MAX = 1024
const NAME_BYTES_MAX = 64
const PAGE_BYTES = 65536
const PAGES_MAX = 65536
const SHARED_PAGES_MIN = 80 // what tallycast-shared.wasm imports at least
const SHORT = 32 // characters: to here writing them one by one is as fast as encodeInto or faster

const { OK, NO_MEMORY, WRONG_EPOCH, OLD, LIMIT, NOT_FOUND, INVALID, UNSUPPORTED, MORE } = STATUS

const STATS = ['reads', 'hits', 'misses', 'applies', 'refused', 'swaps', 'rowsChanged', 'retiredBytes', 'usedBytes', 'memoryBytes']

export { TallycastError } from './errors.js'

const encoder = new TextEncoder(), decoder = new TextDecoder()
// Browsers' encoders take no shared memory, whatever the standard allows; those of Node, Deno and Bun do.
const ENCODES_SHARED = (() => {
  try {
    encoder.encodeInto('a', new Uint8Array(new SharedArrayBuffer(1)))
    return true
  } catch {
    return false
  }
})()
const KINDS = ['unspecified', 'counter', 'gauge', 'min', 'max', 'distinct', 'topk']

// Writes a short key and says whether it is all there is to it: whether its characters are its bytes.
function putAscii(key, bytes, at) {
  const size = key.length
  if (size > SHORT) return false
  let all = 0, i = 0
  for (; i + 4 <= size; i += 4) {
    const a = key.charCodeAt(i), b = key.charCodeAt(i + 1), c = key.charCodeAt(i + 2), d = key.charCodeAt(i + 3)
    all |= a | b | c | d
    bytes[at + i] = a
    bytes[at + i + 1] = b
    bytes[at + i + 2] = c
    bytes[at + i + 3] = d
  }
  for (; i < size; i++) {
    const unit = key.charCodeAt(i)
    all |= unit
    bytes[at + i] = unit
  }
  return all < 128
}

// An i64 as a number.
function number64(data, at) { return data.getInt32(at + 4, true) * 4294967296 + data.getUint32(at, true) }

// Whether a module is tallycast-shared.wasm, which is given its memory.
export function isShared(module) {
  if (!(module instanceof WebAssembly.Module)) throw new TallycastError(INVALID, 'module', 'a WebAssembly.Module is needed')
  return WebAssembly.Module.imports(module).some(({ kind }) => kind === 'memory')
}

function instantiate(module, memory) {
  const shared = isShared(module)
  if (shared !== (memory !== null)) throw new TypeError(shared ? 'this module needs a shared memory' : 'this module has its own memory')
  const foreign = (cause) => new TallycastError(UNSUPPORTED, 'the module', `it is no build of this package's version: it wants the ABI ${ABI}`, { cause })
  let wasm
  try {
    wasm = new WebAssembly.Instance(module, memory ? { env: { memory } } : {}).exports
  } catch (error) {
    throw error instanceof WebAssembly.LinkError || error instanceof TypeError ? foreign(error) : error
  }
  if (wasm.tallycast_abi?.() !== ABI) throw foreign()
  return wasm
}

function sharedMemory(maximum, maxBytes) {
  if (typeof SharedArrayBuffer === 'undefined') {
    throw new TallycastError(UNSUPPORTED, 'this runtime has no shared memory', "a page must be served with 'Cross-Origin-Opener-Policy: same-origin' and " +
      "'Cross-Origin-Embedder-Policy: require-corp'; elsewhere leave `shared` out")
  }
  if (maximum < SHARED_PAGES_MIN) throw new TallycastError(NO_MEMORY, `maxBytes ${maxBytes}`, `${SHARED_PAGES_MIN * PAGE_BYTES} is the least`)
  try {
    return new WebAssembly.Memory({ initial: SHARED_PAGES_MIN, maximum, shared: true })
  } catch (error) {
    throw new TallycastError(NO_MEMORY, 'a shared memory', 'the runtime cannot reserve so much: give maxBytes', { cause: error })
  }
}

// One instance of the module and one reader slot of its memory: for one thread.
class Seat {
  constructor(module, memory, instance) {
    this.wasm = instantiate(module, memory)
    this.memory = memory ?? this.wasm.memory
    this.read = this.wasm.tallycast_read
    if (instance) {
      const stack = this.wasm.tallycast_stack(instance)
      if (!stack) throw new RangeError('instance: a number from 1 to 64')
      this.wasm.__stack_pointer.value = stack
    }
    this.slot = -1
    this.scratch = 0 // of the slot; its first 8 bytes take the exact value of a read
    this.at = 0      // what is behind them: keys and names go in here, answers come out
    this.room = null // where encodeInto writes
    this.staged = !ENCODES_SHARED && isShared(module) ? new Uint8Array(KEY_BYTES_MAX + 4) : null // where it writes instead
    this.refresh()
  }

  open() {
    const slot = this.wasm.tallycast_reader_open()
    if (slot < 0) throw new TallycastError(-slot, 'no reader')
    this.slot = slot
    this.scratch = this.wasm.tallycast_reader_scratch(slot)
    this.at = this.scratch + 8
    this.refresh()
  }

  // A memory that grew has another buffer. The scratch lies in the part that was there from the start, so an old view of shared memory
  // is as good; only the old buffer of a plain memory is gone then, and only this instance's own calls grow that.
  refresh() {
    const { buffer } = this.memory
    this.bytes = new Uint8Array(buffer)
    this.data = new DataView(buffer)
    this.room = this.bytes.subarray(this.at, this.at + KEY_BYTES_MAX + 4)
  }

  pin() {
    const number = this.wasm.tallycast_pin(this.slot)
    if (number < 0) throw this.slot < 0 ? new TallycastError(INVALID, 'this mirror', 'it is closed') : new TallycastError(-number, 'view')
    return number
  }

  // Text or a copy of bytes of the memory. A decoder takes no shared memory everywhere.
  take(address, size, asBytes) {
    if (address + size > this.bytes.length) this.refresh() // another thread grew the memory
    const copy = this.bytes.slice(address, address + size)
    return asBytes ? copy : decoder.decode(copy)
  }

  // Writes the key at `at`, where there is room for the longest and 4 bytes more, and says how many bytes it has.
  put(key, at) {
    if (typeof key !== 'string') {
      if (!(key instanceof Uint8Array)) throw new TallycastError(INVALID, `a key that is ${key === null ? 'null' : typeof key}`, 'a string or a Uint8Array is needed')
      if (key.length > KEY_BYTES_MAX) throw new TallycastError(LIMIT, `a key of ${key.length} bytes`, `${KEY_BYTES_MAX} is the most`)
      this.bytes.set(key, at)
      return key.length
    }
    if (at === this.at ? putAscii(key, this.room, 0) : putAscii(key, this.bytes, at)) return key.length
    return this.putText(key, at, KEY_BYTES_MAX, 'a key')
  }

  putText(text, at, bytesMax, what) {
    const room = this.staged ?? (at === this.at ? this.room : this.bytes.subarray(at, at + bytesMax + 4))
    const { read, written } = encoder.encodeInto(text, room)
    if (read < text.length || written > bytesMax) throw new TallycastError(LIMIT, `${what} of ${encoder.encode(text).length} bytes`, `${bytesMax} is the most`)
    if (this.staged) for (let i = 0; i < written; i++) this.bytes[at + i] = room[i]
    return written
  }

  putName(name) { return this.putText(String(name), this.at, NAME_BYTES_MAX, "a table's name") }
}

const goneView = () => new TallycastError(INVALID, 'a view', 'it is gone: read within the function that view() calls')

function noTable(status, name, reads) {
  const names = reads.tables().map((table) => `'${table.name}'`)
  return new TallycastError(status, `table '${name}'`, names.length ? `there is ${names.slice(0, 20).join(', ')}` : 'there is none yet')
}

export class Mirror {
  #seat
  #tables = new Map() // name -> number, of the epoch in which they were asked for
  #name               // the last one, and its number
  #number
  #applies

  // An empty mirror on a memory of its own: a plain one, or, for the shared module, a shared one that others may attach to.
  static create(module, { dataset, maxBytes = 0, retiredMaxBytes = 0 } = {}) {
    const maximum = maxBytes ? Math.min(PAGES_MAX, Math.floor(maxBytes / PAGE_BYTES)) : PAGES_MAX
    const memory = isShared(module) ? sharedMemory(maximum, maxBytes) : null
    const seat = new Seat(module, memory, 0)
    const name = encoder.encode(dataset), address = seat.wasm.tallycast_buffer(name.length)
    if (!address) throw new TallycastError(INVALID, `dataset '${dataset}'`)
    seat.bytes.set(name, address)
    check(seat.wasm.tallycast_open(address, name.length, BigInt(maxBytes), BigInt(retiredMaxBytes)), `dataset '${dataset}'`)
    seat.open()
    return new Mirror(seat, true)
  }

  // Another thread's instance on the memory of a mirror that was created before. `instance` is a number from 1 to 64, different for
  // each thread that is attached at a time. It reads only.
  static attach(module, memory, instance) {
    if (!instance) throw new RangeError('instance: a number from 1 to 64')
    const seat = new Seat(module, memory, instance)
    seat.open()
    return new Mirror(seat, false)
  }

  // By create() and attach().
  constructor(seat, applies) {
    this.#seat = seat
    this.#applies = applies
  }

  // To attach to.
  get memory() { return this.#seat.memory }

  // Takes a frame, or a chunk of one (a Uint8Array). 'ok': its version is what is read from now on; 'more': further chunks belong to it; 'old':
  // it is held already. Everything else is a TallycastError, and what was readable before still is.
  apply(frame) {
    const seat = this.#seat
    if (!this.#applies) throw new TypeError('apply: only the mirror that was created applies')
    const address = seat.wasm.tallycast_buffer(frame.length)
    seat.refresh()
    if (!address) throw new TallycastError(NO_MEMORY, 'apply')
    seat.bytes.set(frame, address)
    const status = seat.wasm.tallycast_apply(address, frame.length)
    seat.refresh()
    if (status === OK) return 'ok'
    if (status === MORE) return 'more'
    if (status === OLD) return 'old'
    throw new TallycastError(status, 'apply')
  }

  // Forgets the chunks of a change that is not whole.
  abandon() { this.#seat.wasm.tallycast_abandon() }

  // A server said at its time `nowMs` that (epoch, version) is its newest.
  confirm(epoch, version, nowMs) {
    this.#seat.wasm.tallycast_confirm(BigInt(epoch), BigInt(version), BigInt(nowMs))
  }

  // The newest value of a key (a string, or its bytes), undefined when it has none. An unknown table is an error.
  get(table, key) {
    const seat = this.#seat
    const number = table === this.#name ? this.#number : this.#find(table)
    const value = seat.read(seat.slot, number, seat.at, seat.put(key, seat.at))
    if (value < Infinity) return value
    return value === Infinity ? this.#again(table, key) : undefined
  }

  // The same, exact beyond 2^53.
  getBigInt(table, key) {
    if (this.get(table, key) === undefined) return undefined
    return this.#seat.data.getBigInt64(this.#seat.scratch, true)
  }

  // An array of values in the order of the keys, undefined where there is none, all of one version.
  getMany(table, keys) { return this.view((view) => view.getMany(table, keys)) }

  // Calls `use` with a View: all that is read through it is of one version. It is gone when `use` returns.
  view(use) {
    const seat = this.#seat
    const number = seat.pin()
    try {
      const result = use(new View(seat, number))
      if (typeof result?.then === 'function') throw new TypeError('view: its function must not be asynchronous')
      return result
    } finally {
      seat.wasm.tallycast_unpin(number)
    }
  }

  // The k rows of the greatest values of one version, as [key, value], greatest first; of equal ones those that came first. Looks at every row.
  top(table, k, options) { return this.view((view) => view.top(table, k, options)) }

  // [{name, kind, rows}]
  tables() { return this.view((view) => view.tables()) }

  // [key, value] of every row of one version, in no useful order. The version is pinned until the iteration ends, or is left by break or return: one that
  // is kept and never ended holds memory.
  *entries(table, options) {
    const seat = this.#seat, number = seat.pin()
    try {
      yield* new View(seat, number).entries(table, options)
    } finally {
      seat.wasm.tallycast_unpin(number)
    }
  }

  // {epoch, version, cutMs, freshMs, digest, rows, tables}; version 0 before the first.
  info() { return this.view((view) => view.info()) }
  get version() { return this.info().version }
  get digest() { return this.info().digest }

  stats() {
    const { wasm, at, data, slot } = this.#seat
    if (slot < 0) throw new TallycastError(INVALID, 'this mirror', 'it is closed')
    check(wasm.tallycast_stats(at), 'stats')
    const stats = Object.fromEntries(STATS.map((name, i) => [name, Number(data.getBigUint64(at + 8 * i, true))]))
    return { ...stats, readers: data.getUint32(at + 80, true), stalledReaders: data.getUint32(at + 84, true) }
  }

  // Of this reader; -1 when it is closed.
  get slot() { return this.#seat.slot }

  // Takes the slot of another reader back, whose thread is gone: of a live one it would make torn reads.
  evict(slot) { this.#seat.wasm.tallycast_reader_close(slot) }

  // Gives the slot back; nothing can be read afterwards.
  close() {
    const seat = this.#seat
    if (seat.slot >= 0) seat.wasm.tallycast_reader_close(seat.slot)
    seat.slot = -1
    this.#forget()
  }

  // A table's number, good until a read answers that another epoch came.
  #find(name) {
    const { wasm, slot } = this.#seat
    let number = this.#tables.get(name)
    while (number === undefined) {
      number = wasm.tallycast_read_table(slot, this.#seat.at, this.#seat.putName(name))
      if (number === -WRONG_EPOCH) {
        this.#forget()
        number = undefined
      } else if (number < 0) {
        throw slot < 0 ? new TallycastError(INVALID, 'this mirror', 'it is closed') : noTable(-number, name, this)
      }
    }
    this.#tables.set(name, number)
    this.#name = name
    this.#number = number
    return number
  }

  #again(table, key) {
    this.#forget()
    return this.get(table, key)
  }

  #forget() {
    this.#tables.clear()
    this.#name = undefined
  }
}

// A pinned version, within the function that Mirror.view calls. Afterwards every read says that it is gone.
class View {
  #seat
  #number
  #tables = new Map()

  constructor(seat, number) {
    this.#seat = seat
    this.#number = number
  }

  get(table, key) {
    const seat = this.#seat
    const number = this.#find(table)
    const value = seat.wasm.tallycast_view_read(this.#number, number, seat.at, seat.put(key, seat.at))
    return value === value ? value : undefined // NaN: none
  }

  getBigInt(table, key) {
    if (this.get(table, key) === undefined) return undefined
    return this.#seat.data.getBigInt64(this.#seat.scratch, true)
  }

  // As many keys at a time as the scratch has room for: | value's place | keys: u32 size, bytes, each | to 8 | values | found |
  getMany(table, keys) {
    const seat = this.#seat, number = this.#find(table), end = seat.scratch + seat.wasm.tallycast_reader_scratch_size()
    const values = []
    for (let done = 0; done < keys.length;) {
      const from = seat.at
      let at = from, count = 0
      for (; done + count < keys.length && at + 4 + KEY_BYTES_MAX + 16 + 9 * (count + 1) <= end; count++) {
        const size = seat.put(keys[done + count], at + 4)
        seat.data.setUint32(at, size, true)
        at += 4 + size
      }
      const out = (at + 7) & ~7, found = out + 8 * count
      check(seat.wasm.tallycast_get_many(this.#number, number, from, at - from, count, out, found), 'getMany')
      for (let i = 0; i < count; i++) values.push(seat.bytes[found + i] ? number64(seat.data, out + 8 * i) : undefined)
      done += count
    }
    return values
  }

  info() {
    const { wasm, at, data } = this.#seat
    if (wasm.tallycast_info(this.#number, at) !== OK) throw goneView()
    const hex = (offset) => data.getBigUint64(at + offset, true).toString(16).padStart(16, '0')
    const number = (offset) => Number(data.getBigUint64(at + offset, true))
    return {
      epoch: data.getBigUint64(at, true),
      version: number(8),
      cutMs: number(16),
      freshMs: number(24),
      digest: hex(40) + hex(32),
      rows: number(64),
      tables: data.getUint32(at + 72, true)
    }
  }

  get version() { return this.info().version }

  tables() {
    const { wasm, at, data } = this.#seat, tables = []
    for (let i = 0; wasm.tallycast_table_info(this.#number, i, at) === OK; i++) {
      const name = this.#seat.take(data.getUint32(at + 8, true), data.getUint32(at + 12, true), false)
      tables.push({ name, kind: KINDS[data.getUint32(at + 16, true)] ?? 'unknown', rows: Number(data.getBigUint64(at, true)) })
    }
    return tables
  }

  top(table, k, { bytes = false } = {}) {
    if (!Number.isSafeInteger(k) || k < 0) throw new TallycastError(INVALID, `top of ${String(k)}`, 'a whole number of 0 or more')
    const seat = this.#seat, least = new Heap(k)
    this.#scan(this.#find(table), (at) => {
      const { data } = seat, low = data.getUint32(at, true), high = data.getInt32(at + 4, true)
      if (least.wants(high, low)) least.put({ high, low, address: data.getUint32(at + 16, true), size: data.getUint32(at + 20, true), order: 0 })
    })
    return least.sorted().map(({ high, low, address, size }) => [seat.take(address, size, bytes), high * 4294967296 + low])
  }

  *entries(table, { bytes = false } = {}) {
    const seat = this.#seat, number = this.#find(table), { wasm, at } = seat
    for (let id = 0; ;) {
      const { data } = seat
      data.setUint32(at, number, true)
      data.setUint32(at + 4, id, true)
      if (!wasm.tallycast_next(this.#number, at, at + 8) || data.getUint32(at + 16, true) !== number) break
      id = data.getUint32(at + 4, true)
      yield [seat.take(data.getUint32(at + 24, true), data.getUint32(at + 28, true), bytes), number64(data, at + 8)]
    }
    if (wasm.tallycast_info(this.#number, at) !== OK) throw goneView()
  }

  // Calls use(address of the row) for each of a table's.
  #scan(number, use) {
    const { wasm, at, data } = this.#seat
    data.setUint32(at, number, true)
    data.setUint32(at + 4, 0, true)
    while (wasm.tallycast_next(this.#number, at, at + 8) && data.getUint32(at + 16, true) === number) use(at + 8)
  }

  #find(name) {
    let number = this.#tables.get(name)
    if (number !== undefined) return number
    const seat = this.#seat
    number = seat.wasm.tallycast_table(this.#number, seat.at, seat.putName(name))
    if (number === -INVALID) throw goneView()
    if (number < 0) throw noTable(-number, name, this)
    this.#tables.set(name, number)
    return number
  }
}

// The k greatest of what is offered; the least of them on top.
class Heap {
  #k
  #rows = []
  #order = 0

  constructor(k) { this.#k = k }

  // Of equal values the one that came later is the lesser.
  static less(a, b) {
    if (a.high !== b.high) return a.high < b.high
    return a.low < b.low || (a.low === b.low && a.order > b.order)
  }

  wants(high, low) {
    if (this.#rows.length < this.#k) return true
    const least = this.#rows[0]
    return least !== undefined && (high > least.high || (high === least.high && low > least.low))
  }

  // A row that it wants.
  put(row) {
    const rows = this.#rows
    row.order = this.#order++
    let i = rows.length
    if (i < this.#k) {
      for (rows.push(row); i > 0 && Heap.less(row, rows[(i - 1) >> 1]); i = (i - 1) >> 1) rows[i] = rows[(i - 1) >> 1]
    } else {
      i = 0
      for (let child = 1; child < rows.length; child = 2 * i + 1) {
        if (child + 1 < rows.length && Heap.less(rows[child + 1], rows[child])) child++
        if (!Heap.less(rows[child], row)) break
        rows[i] = rows[child]
        i = child
      }
    }
    rows[i] = row
  }

  sorted() { return this.#rows.sort((a, b) => (Heap.less(a, b) ? 1 : -1)) }
}
