// SPDX-License-Identifier: Apache-2.0
//
// The counts of one table that wait: added up by key, checked as the server would check them (docs/protocol.md), and written as events in JSON lines.
// A key is its bytes: text, or bytes that are UTF-8, meet in one map; bytes that are none have another, by their base64.
import { STATUS, TallycastError } from './errors.js'

const KEY_BYTES_MAX = 1024 // TALLY_KEY_BYTES_MAX
// Below what one batch holds (TALLY_BATCH_BYTES_MAX, 1 MiB), and what proxies let through when nobody has set them up. An event in JSON is longer than
// its entry in a batch, and no line is below 24 bytes: so that a body keeps within the batch's 131,072 entries, too.
export const BODY_BYTES_MAX = 1000000
const COUNTER_MAX = 2n ** 63n - 1n, LEVEL_MAX = 2n ** 62n - 1n // INT64_MAX, TALLY_LEVEL_MAX
const ESCAPED_MAX = 6 // bytes that JSON makes of one: \u0000

export const KINDS = ['counter', 'topk', 'gauge']

const encoder = new TextEncoder(), decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const room = new Uint8Array(KEY_BYTES_MAX + 3) // a character more than is allowed

const invalid = (what, advice) => new TallycastError(STATUS.INVALID, what, advice)

export function checkTable(name) {
  if (typeof name !== 'string' || !/^[a-z0-9_.-]{1,64}$/.test(name)) throw invalid(`table '${String(name)}'`, "a table's name is 1 to 64 of a-z 0-9 _ . -")
}

// n, which `add` was given: an integer that `kind` takes.
export function checkAmount(n, kind) {
  if (typeof n === 'number') {
    if (!Number.isInteger(n)) throw invalid(`amount ${n}`, 'an amount is an integer')
    if (!Number.isSafeInteger(n)) throw invalid(`amount ${n}`, 'beyond 2^53 a number is not exact: give a BigInt')
  } else if (typeof n !== 'bigint') {
    throw invalid(`amount ${String(n)}`, 'an amount is an integer: a number or a BigInt')
  }
  if (kind !== 'gauge' && n < 0) throw invalid(`amount ${n}`, `it is below 0: a ${kind} only grows`)
  if (kind !== 'gauge' && n > COUNTER_MAX) throw new TallycastError(STATUS.LIMIT, `amount ${n}`, 'at most 2^63 - 1')
  if (kind === 'gauge' && (n > LEVEL_MAX || n < -LEVEL_MAX)) throw new TallycastError(STATUS.LIMIT, `amount ${n}`, 'within 2^62 - 1 to both sides')
}

// The size of a text as a key in bytes.
function checkText(key) {
  if (key === '') throw invalid('a key', 'it is empty')
  if (/\p{Surrogate}/u.test(key)) throw invalid('a key', 'half of a surrogate pair is no text: give the bytes of such a key')
  const { read, written } = encoder.encodeInto(key, room)
  if (read < key.length || written > KEY_BYTES_MAX) throw new TallycastError(STATUS.LIMIT, 'a key', `longer than ${KEY_BYTES_MAX} bytes`)
  return written
}

// {text} or {base64} of a key in bytes.
function readBytes(key) {
  if (key.length === 0) throw invalid('a key', 'it is empty')
  if (key.length > KEY_BYTES_MAX) throw new TallycastError(STATUS.LIMIT, 'a key', `longer than ${KEY_BYTES_MAX} bytes`)
  const own = key.buffer instanceof ArrayBuffer ? key : key.slice() // shared memory is nothing that a decoder takes, in browsers
  try {
    return { text: decoder.decode(own) }
  } catch {
    return { base64: btoa(String.fromCharCode(...own)) }
  }
}

// Their sum, a number where that is exact. A counter stops at its greatest value, as it does at the server.
function sum(a, b, kind) {
  if (typeof a === 'number' && typeof b === 'number') {
    const both = a + b
    if (Number.isSafeInteger(both)) return both
  }
  const both = BigInt(a) + BigInt(b)
  if (kind !== 'gauge') return both > COUNTER_MAX ? COUNTER_MAX : both
  if (both > LEVEL_MAX || both < -LEVEL_MAX) throw new TallycastError(STATUS.LIMIT, `the sum ${both} that waits`, 'within 2^62 - 1 to both sides')
  return both
}

export class Merged {
  #texts = new Map()
  #bytes = new Map()
  #kind
  keyBytes = 0

  constructor(kind) { this.#kind = kind }

  get size() { return this.#texts.size + this.#bytes.size }

  // Adds n, which is checked. `fits(bytes)` is asked about a key that is new. 'merged', 'new', or 'full': it does not fit, and nothing was done. Throws for
  // a key that is none.
  add(key, n, fits) {
    if (typeof key === 'string') return this.#add(this.#texts, key, n, fits, null)
    if (!(key instanceof Uint8Array)) throw invalid(`key ${String(key)}`, 'a key is a string or a Uint8Array')
    const { text, base64 } = readBytes(key)
    return base64 === undefined ? this.#add(this.#texts, text, n, fits, key.length) : this.#add(this.#bytes, base64, n, fits, key.length)
  }

  #add(map, key, n, fits, size) {
    const had = map.get(key)
    if (had !== undefined) { // so the key is a good one
      map.set(key, sum(had, n, this.#kind))
      return 'merged'
    }
    const bytes = size ?? checkText(key)
    if (!fits(bytes)) return 'full'
    map.set(key, n)
    this.keyBytes += bytes
    return 'new'
  }

  // All of it as bodies of requests, {body, keys} one after the other: cut when it is asked for.
  * bodies(table) {
    const head = `{"table":"${table}",`, tail = this.#kind === 'topk' ? ',"kind":"topk"}\n' : '}\n', name = this.#kind === 'gauge' ? 'adjust' : 'amount'
    const lineMax = head.length + tail.length + 60 // and the key
    let left = this.size, out = null, at = 0, keys = 0
    const write = (line) => {
      out ??= new Uint8Array(Math.min(BODY_BYTES_MAX, left * lineMax + this.keyBytes * ESCAPED_MAX))
      const { read, written } = encoder.encodeInto(line, out.subarray(at))
      if (read < line.length) return false
      at += written
      keys++
      left--
      return true
    }
    const take = () => {
      const body = { body: out.slice(0, at), keys }
      out = null
      at = keys = 0
      return body
    }
    for (const [map, member] of [[this.#texts, 'key'], [this.#bytes, 'key_base64']]) {
      for (const [key, amount] of map) {
        const line = `${head}"${member}":${JSON.stringify(key)}${amount === 1 && name === 'amount' ? '' : `,"${name}":${amount}`}${tail}`
        if (write(line)) continue
        yield take()
        write(line)
      }
    }
    if (keys) yield take()
  }
}

// What a body would have added, as a BigInt.
export function amountOf(body) {
  let all = 0n
  for (const line of new TextDecoder().decode(body).split('\n')) {
    if (line) all += BigInt(/,"(?:amount|adjust)":(-?\d+)(?:,"kind":"topk")?\}$/.exec(line)?.[1] ?? 1)
  }
  return all
}
