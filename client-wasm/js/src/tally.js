// SPDX-License-Identifier: Apache-2.0
//
// openTally: counts are added up here by table and key, and sent to an edge or a server by POST /v1/count, each of them counted there once.
//
//     add ──► Merged of its table ──begin──► bodies, one after the other ──► request, again and again as it is, until it is answered
//
// What waits in a table is taken as a whole (a round), written as bodies, and each body is frozen with an Idempotency-Key of its own. What is added
// meanwhile waits for the next round. A table has one request under way at a time: one that is refused takes no other table's counts along.
//
// All sending is done within flush, or within #run, which the interval starts: whoever waits there sends what is due, and wakes when an answer came or
// the next is due. So nothing is bound to who began it: where a request's own timers and fetches end with it (workerd), the next flush goes on, when
// the time of an answer is over, with the same key.
//
// What differs between hosts comes in as `platform`: randomBytes(size), intervalMs.
import { STATUS, TallycastError } from './errors.js'
import { Events } from './events.js'
import { hex } from './hex.js'
import { KINDS, Merged, amountOf, checkAmount, checkTable } from './merged.js'
import { post } from './request.js'

const KEEPALIVE_BYTES_MAX = 60000 // browsers take 64 KiB beyond a page's end
const LOST_MS = 1000              // after the time of an answer, until its request is taken for lost with who sent it
const WAIT_MAX_MS = 2 ** 31 - 1
const bad = (what, advice) => new TallycastError(STATUS.INVALID, what, advice)

function countUrl(text, dataset) {
  let url
  try {
    url = new URL(String(text))
  } catch {
    throw bad(`url '${text}'`, "no URL: give an edge's or a server's, like http://127.0.0.1:8091")
  }
  if (!['ws:', 'wss:', 'http:', 'https:'].includes(url.protocol)) throw bad(`url '${text}'`, 'it must begin with http:// or https://')
  url.protocol = url.protocol.replace('ws', 'http')
  if (url.pathname === '/' || url.pathname.endsWith('/v1/stream')) url.pathname = url.pathname.replace(/(\/v1\/stream|\/)$/, '/v1/count')
  url.hash = ''
  url.searchParams.set('dataset', dataset)
  return url.href
}

function numberOf(options, name, byDefault, min) {
  const value = options[name] ?? byDefault
  if (typeof value !== 'number' || !(value >= min)) throw bad(`${name}: ${String(value)}`, `a number of ${min} or more`)
  return value
}

function kindsOf(kinds) {
  for (const [table, kind] of Object.entries(kinds)) {
    checkTable(table)
    if (!KINDS.includes(kind)) throw bad(`kinds: ${table}: '${String(kind)}'`, `add counts in tables that are ${KINDS.join(', ')}`)
  }
  return new Map(Object.entries(kinds))
}

function settingsOf(options, platform) {
  const { url, dataset, backoffMs = [250, 15000] } = options
  if (url === undefined || Array.isArray(url)) throw bad('url', 'give one, of an edge or a server: what one has taken another knows nothing of')
  if (typeof dataset !== 'string') throw bad(`dataset: ${String(dataset)}`, 'the name of the dataset to count in')
  const fetch = options.fetch ?? globalThis.fetch
  if (typeof fetch !== 'function') throw new TallycastError(STATUS.UNSUPPORTED, 'this runtime has no fetch', 'give one as the option fetch')
  if (!(Array.isArray(backoffMs) && backoffMs.length === 2 && backoffMs.every((ms) => ms > 0))) throw bad('backoffMs', 'two numbers: the first wait and the longest')
  return {
    url: countUrl(url, dataset),
    dataset,
    fetch,
    backoffMs,
    kinds: kindsOf(options.kinds ?? {}),
    intervalMs: numberOf(options, 'intervalMs', platform.intervalMs ?? 1000, 0),
    keysMax: numberOf(options, 'keysMax', 100000, 1),
    keyBytesMax: numberOf(options, 'keyBytesMax', 16 << 20, 1024),
    timeoutMs: numberOf(options, 'timeoutMs', 15000, 1),
    doubtMaxMs: numberOf(options, 'doubtMaxMs', Infinity, 0),
    requestsMax: numberOf(options, 'requestsMax', 4, 1),
    random: options.random ?? Math.random,
    now: options.now ?? (() => performance.now()),
    date: options.date ?? Date.now,
    randomBytes: options.randomBytes ?? platform.randomBytes,
    timers: options.timers ?? { setTimeout: (call, ms) => setTimeout(call, ms), clearTimeout: (timer) => clearTimeout(timer) },
    on: options.on ?? {}
  }
}

// One table: what waits, the round that is under way, and its request.
class Table {
  bodies = null  // of the round under way, still to be cut; null: there is none
  bytes = 0      // of its keys
  request = null // {body, keys, idempotencyKey, tries, firstAt, firstDate, retryAt, attempt: {at, abort} or null, error}
  rounds = 0     // begun
  ended = 0      // of these, answered
  again = false  // another when this one has ended
  refused = 0    // keys, ever
  newest = null  // {epoch, version} of the last answer

  constructor(name, kind) {
    this.name = name
    this.kind = kind
    this.merged = new Merged(kind)
  }

  begin() {
    const { merged } = this
    this.merged = new Merged(this.kind)
    this.again = false
    this.rounds++
    this.bytes = merged.keyBytes
    this.bodies = merged.bodies(this.name)
  }
}

class Tally extends Events {
  #settings
  #tables = new Map()
  #keys = 0     // that wait or are under way
  #keyBytes = 0
  #fits
  #sending = 0  // requests under way
  #timer = null // of the interval
  #running = false
  #wakers = new Set()
  #closed = null // the promise of close
  #stats = { adds: 0, merged: 0, sent: 0, sentBytes: 0, retries: 0, acknowledged: 0, repeats: 0 }
  #refused = { invalid: 0, full: 0, answered: 0, doubt: 0, closed: 0 }

  constructor(settings) {
    super()
    this.#settings = settings
    this.#fits = (bytes) => this.#keys < settings.keysMax && this.#keyBytes + bytes <= settings.keyBytesMax
    for (const [event, listener] of Object.entries(settings.on)) this.on(event, listener)
  }

  // ---------------------------------------------------------------------------------------------------- counting

  add(table, key, n = 1) {
    let outcome, into = this.#tables.get(table)
    try {
      if (this.#closed) throw bad('add', 'the tally is closed')
      const begins = into === undefined
      if (begins) {
        checkTable(table)
        into = new Table(table, this.#settings.kinds.get(table) ?? 'counter')
      }
      checkAmount(n, into.kind)
      const before = into.merged.keyBytes
      outcome = into.merged.add(key, n, this.#fits)
      if (outcome === 'new') {
        this.#keys++
        this.#keyBytes += into.merged.keyBytes - before
        if (begins) this.#tables.set(table, into)
        this.#arm()
      }
    } catch (error) {
      this.#refused.invalid++
      throw error
    }
    if (outcome === 'full') {
      this.#refused.full++
      return false
    }
    this.#stats.adds++
    if (outcome === 'merged') this.#stats.merged++
    return true
  }

  stats() { return { ...this.#stats, refused: { ...this.#refused }, pending: this.#keys, pendingBytes: this.#keyBytes } }

  // ---------------------------------------------------------------------------------------------------- flush, close

  async flush({ timeoutMs = Infinity, signal, keepalive = false } = {}) {
    const { now } = this.#settings, until = now() + timeoutMs
    const targets = this.#want()
    const before = targets.map(({ table }) => table.refused)
    while (targets.some(({ table, round }) => table.ended < round)) {
      if (signal?.aborted) throw signal.reason
      if (now() >= until) throw this.#late(targets, timeoutMs)
      this.#send(keepalive)
      await this.#changed(Math.min(until, this.#nextAt()), signal)
    }
    const found = { epoch: null, version: null, refused: 0 }
    targets.forEach(({ table: { newest, refused } }, i) => {
      found.refused += refused - before[i]
      if (newest && (found.epoch === null || newest.epoch > found.epoch || (newest.epoch === found.epoch && newest.version > found.version))) Object.assign(found, newest)
    })
    return found
  }

  close(options = {}) {
    this.#closed ??= this.#close({ timeoutMs: 10000, ...options })
    return this.#closed
  }

  async #close(options) {
    this.#settings.timers.clearTimeout(this.#timer)
    try {
      return await this.flush(options)
    } finally {
      for (const table of this.#tables.values()) this.#giveUp(table)
      this.#wake()
    }
  }

  // What is left of a table when the tally is closed.
  #giveUp(table) {
    const error = bad('close', 'it was not acknowledged until then')
    table.again = true
    for (let request = this.#next(table); request; request = this.#next(table)) {
      request.attempt?.abort()
      request.attempt = null
      this.#drop(table, 'closed', request.error ?? error)
    }
  }

  #late(targets, timeoutMs) {
    const last = targets.map(({ table }) => table.request?.error).find(Boolean)
    return new TallycastError(STATUS.TIMEOUT, `flush: not acknowledged within ${timeoutMs} ms`, last?.message ?? 'it goes on waiting', { cause: last })
  }

  // ---------------------------------------------------------------------------------------------------- rounds

  // Takes all that waits into rounds, now or when those under way have ended. [{table, round}]: after which of them all of it is answered.
  #want() {
    return [...this.#tables.values()].map((table) => {
      if (table.merged.size && !table.bodies) table.begin()
      else if (table.merged.size) table.again = true
      return { table, round: table.rounds + (table.again ? 1 : 0) }
    })
  }

  // The request of a table that is to be answered next, if there is any.
  #next(table) {
    while (!table.request) {
      if (!table.bodies) {
        if (!table.again || !table.merged.size) break
        table.begin()
      }
      const { value, done } = table.bodies.next()
      if (done) {
        table.bodies = null
        table.ended = table.rounds
        this.#keyBytes -= table.bytes
      } else {
        table.request = { ...value, idempotencyKey: hex(this.#settings.randomBytes(16)), tries: 0, firstAt: 0, firstDate: 0, retryAt: 0, attempt: null, error: null }
      }
    }
    if (!table.request && !table.merged.size) this.#tables.delete(table.name)
    return table.request
  }

  // A key came: it is sent when the interval has passed.
  #arm() {
    const { intervalMs, timers } = this.#settings
    if (this.#timer !== null || intervalMs === 0 || this.#closed) return
    this.#timer = timers.setTimeout(() => {
      this.#timer = null
      this.#want()
      this.#wake()
      if (!this.#running) this.#run()
    }, Math.min(intervalMs, WAIT_MAX_MS))
  }

  async #run() {
    this.#running = true
    while (this.#keys && !this.#closed) {
      this.#send(false)
      if (![...this.#tables.values()].some(({ request }) => request)) break
      await this.#changed(this.#nextAt())
    }
    this.#running = false
  }

  // ---------------------------------------------------------------------------------------------------- sending

  // Sends what is due, as long as places are free.
  #send(keepalive) {
    const { now, timeoutMs, requestsMax } = this.#settings, at = now()
    for (const table of this.#tables.values()) {
      if (table.request?.attempt && at >= table.request.attempt.at + timeoutMs + LOST_MS) this.#lost(table)
      const request = this.#next(table)
      if (request && !request.attempt && at >= request.retryAt && this.#sending < requestsMax) this.#attempt(table, request, keepalive)
    }
  }

  #attempt(table, request, keepalive) {
    const { now, date, timers, timeoutMs } = this.#settings, controller = new AbortController(), { body, idempotencyKey } = request
    const late = () => controller.abort(new TallycastError(STATUS.TIMEOUT, 'the count', `no answer within ${timeoutMs} ms`))
    const timer = timers.setTimeout(late, Math.min(timeoutMs, WAIT_MAX_MS)), attempt = { at: now(), abort: () => controller.abort() }
    request.attempt = attempt
    if (request.tries++ === 0) {
      request.firstAt = attempt.at
      request.firstDate = date()
    } else {
      this.#stats.retries++
    }
    this.#stats.sent++
    this.#stats.sentBytes += body.length
    this.#sending++
    const alive = keepalive && body.length <= KEEPALIVE_BYTES_MAX
    post(this.#settings, { body, idempotencyKey, keepalive: alive, signal: controller.signal }).then((outcome) => {
      timers.clearTimeout(timer)
      if (request.attempt !== attempt) return // it was given up, or another tries
      this.#settle(table, outcome)
      this.#wake()
    })
  }

  // Nobody is there to be told of its answer any more.
  #lost(table) {
    this.#settle(table, { end: 'again', error: new TallycastError(STATUS.TIMEOUT, 'the count', 'who sent it is gone'), retryAfterMs: 0 })
  }

  #settle(table, outcome) {
    table.request.attempt = null
    this.#sending--
    if (outcome.end === 'counted') this.#counted(table, outcome)
    else if (outcome.end === 'refused') this.#drop(table, 'answered', outcome.error)
    else this.#again(table, outcome)
    this.#next(table)
  }

  #counted(table, { epoch, version, repeat }) {
    this.#stats.acknowledged += table.request.keys
    if (repeat) this.#stats.repeats++
    this.#keys -= table.request.keys
    table.request = null
    if (epoch !== null) table.newest = { epoch, version }
  }

  #again(table, { error, retryAfterMs }) {
    const { now, date, random, backoffMs: [first, longest], doubtMaxMs } = this.#settings, { request } = table
    request.error = error
    // By both clocks: one may stand still while the machine sleeps, the other may be set.
    if (Math.max(now() - request.firstAt, date() - request.firstDate) >= doubtMaxMs) {
      this.#drop(table, 'doubt', error)
      return
    }
    const step = Math.min(longest, first * 2 ** Math.min(request.tries - 1, 30)), retryInMs = Math.round(retryAfterMs + step * (0.5 + random() / 2))
    request.retryAt = now() + retryInMs
    this._emit('retry', () => ({ table: table.name, error, tries: request.tries, retryInMs }))
  }

  // It is over with this request, uncounted, as far as is known.
  #drop(table, reason, error) {
    const { body, keys, tries } = table.request
    table.request = null
    table.refused += keys
    this.#keys -= keys
    this.#refused[reason] += keys
    this._emit('refused', () => ({ table: table.name, reason, error, keys, amount: amountOf(body), inDoubt: tries > (reason === 'answered' ? 1 : 0), body }))
  }

  // ---------------------------------------------------------------------------------------------------- waiting

  // When something is to be done without an answer having come.
  #nextAt() {
    const { timeoutMs } = this.#settings
    let at = Infinity
    for (const { request } of this.#tables.values()) {
      if (!request) continue
      if (request.attempt) at = Math.min(at, request.attempt.at + timeoutMs + LOST_MS)
      else if (this.#sending < this.#settings.requestsMax) at = Math.min(at, request.retryAt)
    }
    return at
  }

  // Resolves when an answer has come, or at that time.
  async #changed(at, signal) {
    const { now, timers } = this.#settings
    let wake, timer = null
    const changed = new Promise((resolve) => { wake = resolve })
    this.#wakers.add(wake)
    signal?.addEventListener('abort', wake)
    if (at < Infinity) timer = timers.setTimeout(wake, Math.min(Math.max(0, at - now()), WAIT_MAX_MS))
    await changed
    timers.clearTimeout(timer)
    signal?.removeEventListener('abort', wake)
    this.#wakers.delete(wake)
  }

  #wake() { for (const wake of this.#wakers) wake() }
}

// The function for a platform.
export const tallier = (platform) => (options = {}) => new Tally(settingsOf(options, platform))
