// SPDX-License-Identifier: Apache-2.0
//
// For the tests of openTally: a world whose clock, chance, network and server are all of the test. Nothing happens in it by itself but promises: pass(ms) lets
// time pass, timer by timer.
const turn = () => new Promise((resolve) => setImmediate(resolve))

// A generator of numbers from 0 to below 1 (mulberry32).
export function chance(seed) {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

// What a server or an edge holds, by the rules of docs/protocol.md: events of one request are counted all or none, and once for an Idempotency-Key of the
// newest `keysMax`. counts: "table\0key" -> BigInt, keys as latin1 of their bytes.
export class Place {
  counts = new Map()
  keys = new Map()
  version = 0
  bodies = [] // each request that came, as text

  constructor({ keysMax = 65536, edge = false } = {}) { Object.assign(this, { keysMax, edge }) }

  take(body, key) {
    const text = new TextDecoder().decode(body)
    this.bodies.push(text)
    const answer = (repeat, version, accepted) => ({
      status: 200,
      json: { dataset: 'main', epoch: this.edge ? null : '00000000000000ff', version: this.edge ? null : version, accepted, repeat, refused: [] }
    })
    const lines = text.split('\n').filter(Boolean)
    if (this.keys.has(key)) {
      if (this.keys.get(key).text !== text) throw new Error(`the key ${key} came with another body`)
      return answer(true, this.keys.get(key).version, lines.length)
    }
    this.version++
    for (const line of lines) {
      // JSON.parse would round.
      const [, number] = /,"(?:amount|adjust)":(-?\d+)(?:,"kind":"[a-z]+")?\}$/.exec(line) ?? [null, '1'], event = JSON.parse(line)
      const bytes = event.key === undefined ? Buffer.from(event.key_base64, 'base64') : Buffer.from(event.key), at = `${event.table}\0${bytes.toString('latin1')}`
      this.counts.set(at, (this.counts.get(at) ?? 0n) + BigInt(number))
    }
    this.keys.set(key, { text, version: this.version })
    if (this.keys.size > this.keysMax) this.keys.delete(this.keys.keys().next().value)
    return answer(false, this.version, lines.length)
  }

  of(table, key) { return this.counts.get(`${table}\0${Buffer.from(key).toString('latin1')}`) }
}

export class World {
  time = 1000
  requests = [] // {url, headers, body, keepalive, at}
  #timers = new Map()
  #next = 1
  #seeds

  // serve(request, place): {status, json or text, headers}, or a promise of that; a throw or a rejection is the network's. Left out: it is counted.
  constructor({ seed = 1, place = new Place(), serve = ({ body, key }) => place.take(body, key) } = {}) {
    this.place = place
    this.serve = serve
    this.#seeds = chance(seed)
    this.random = chance(seed + 1)
  }

  get timers() { return this.#timers.size }

  options = {
    url: 'http://place',
    dataset: 'main',
    now: () => this.time,
    date: () => 1e12 + this.time,
    random: () => this.random(),
    randomBytes: (size) => Uint8Array.from({ length: size }, () => this.#seeds() * 256),
    timers: {
      setTimeout: (call, ms) => {
        if (!(ms >= 0 && ms < 2 ** 31)) throw new Error(`a timer of ${ms} ms`)
        this.#timers.set(this.#next, { at: this.time + ms, call })
        return this.#next++
      },
      clearTimeout: (timer) => this.#timers.delete(timer)
    },
    fetch: (url, { method, headers, body, signal, keepalive }) => {
      const request = { url, method, headers, body, keepalive, key: headers['Idempotency-Key'], at: this.time }
      this.requests.push(request)
      return new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
        Promise.resolve().then(() => this.serve(request)).then(
          ({ status, json, text = JSON.stringify(json), headers: said = {} }) => resolve({ status, headers: new Headers(said), text: async () => text }), reject)
      })
    }
  }

  async settle() { for (let i = 0; i < 4; i++) await turn() }

  // Lets that much time pass.
  async pass(ms) {
    const until = this.time + ms
    await this.settle()
    for (;;) {
      const due = [...this.#timers].filter(([, { at }]) => at <= until).sort((a, b) => a[1].at - b[1].at)[0]
      if (!due) break
      this.#timers.delete(due[0])
      this.time = Math.max(this.time, due[1].at)
      due[1].call()
      await this.settle()
    }
    this.time = until
  }
}

export const never = () => new Promise(() => {})
