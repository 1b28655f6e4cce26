// SPDX-License-Identifier: Apache-2.0
//
// openMirror: a mirror that follows a stream by itself. What differs between hosts comes in as `platform`:
//   load(name)   resolves to the WebAssembly.Module of a file of the package
//   WebSocket    its class, or undefined
import { STATUS, TallycastError } from './errors.js'
import { Follower } from './follow.js'
import { FRAME, HEARTBEAT, readHeartbeat } from './messages.js'
import { Mirror } from './mirror.js'
import { Reads } from './reads.js'

const PROBE_MS = 5000
const WAIT_MAX_MS = 2 ** 31 - 1
const FATAL = new Set([400, 403, 404]) // of the handshake: the next one would be answered alike
const bad = (what, advice) => new TallycastError(STATUS.INVALID, what, advice)

function streamUrl(text) {
  let url
  try {
    url = new URL(String(text))
  } catch {
    throw bad(`url '${text}'`, "no URL: give the stream's, like ws://127.0.0.1:8091/v1/stream")
  }
  if (!['ws:', 'wss:', 'http:', 'https:'].includes(url.protocol)) throw bad(`url '${text}'`, 'it must begin with ws:// or wss://')
  url.protocol = url.protocol.replace('http', 'ws')
  if (url.pathname === '/') url.pathname = '/v1/stream'
  url.hash = ''
  return url.href
}

function numberOf(options, name, byDefault, min) {
  const value = options[name] ?? byDefault
  if (typeof value !== 'number' || !(value >= min)) throw bad(`${name}: ${String(value)}`, `a number of ${min} or more`)
  return value
}

function settingsOf(options, platform) {
  const { url, dataset, backoffMs = [250, 15000] } = options
  if (url === undefined || url.length === 0) throw bad('url', "give the stream's, like ws://127.0.0.1:8091/v1/stream")
  if (typeof dataset !== 'string') throw bad(`dataset: ${String(dataset)}`, 'the name of the dataset to follow')
  const WebSocket = options.webSocket ?? platform.WebSocket
  if (typeof WebSocket !== 'function') throw new TallycastError(STATUS.UNSUPPORTED, 'this runtime has no WebSocket', 'give a class as the option webSocket')
  if (!(Array.isArray(backoffMs) && backoffMs.length === 2 && backoffMs.every((ms) => ms > 0))) throw bad('backoffMs', 'two numbers: the first wait and the longest')
  return {
    urls: (Array.isArray(url) ? url : [url]).map(streamUrl),
    dataset,
    WebSocket,
    backoffMs,
    maxAgeMs: numberOf(options, 'maxAgeMs', Infinity, 1),
    maxBytes: numberOf(options, 'maxBytes', 0, 0),
    retiredMaxBytes: numberOf(options, 'retiredMaxBytes', 0, 0),
    silenceMs: numberOf(options, 'silenceMs', 10000, 1),
    waitMs: numberOf(options, 'waitMs', 30000, 0),
    random: options.random ?? Math.random,
    now: options.now ?? Date.now
  }
}

// Why a handshake failed, for WebSockets that do not say: what the place answers to GET /v1/version. Null: nothing that is certain.
async function probe(href, dataset) {
  const url = new URL('version', href)
  url.protocol = url.protocol.replace('ws', 'http')
  url.search = ''
  let found
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(PROBE_MS) })
    found = await answer.json()
  } catch {
    return null
  }
  if (typeof found?.dataset !== 'string' || found.dataset === dataset) return null
  const error = new TallycastError(STATUS.WRONG_DATASET, `dataset '${dataset}'`, `${url.host} has '${found.dataset}'`)
  error.httpStatus = 404
  return error
}

class LiveMirror extends Reads {
  #mirror
  #settings
  #follower
  #state = { state: 'connecting', attempt: 0 }
  #stale = true     // nothing is held
  #staleTimer = null

  constructor(mirror, settings) {
    super(mirror, settings.now)
    this.#mirror = mirror
    this.#settings = settings
    this.#follower = new Follower({
      ...settings,
      place: () => this.#mirror.info(),
      message: (bytes) => this.#take(bytes),
      changed: (state) => this.#changed(state)
    })
    this.#follower.start()
  }

  // 'connecting', 'catching-up', 'live', 'waiting' (to connect again) or 'closed'.
  get state() { return this.#state.state }
  // Why the last connection ended; undefined while there is one.
  get error() { return this.#state.error }
  // Whether what is read is older than maxAgeMs, or is not there yet.
  get stale() { return this.ageMs > this.#settings.maxAgeMs || this.#mirror.version === 0 }

  close() {
    clearTimeout(this.#staleTimer)
    this.#follower.close()
    this.#mirror.close()
  }

  #changed(state) {
    if (state.state === 'waiting') this.#mirror.abandon()
    this.#state = state
    this._emit('state', () => state)
  }

  #take(bytes) {
    if (bytes[0] === FRAME) this.#takeFrame(bytes.subarray(1))
    else if (bytes[0] === HEARTBEAT) this.#takeHeartbeat(readHeartbeat(bytes.subarray(1)))
    else throw new TallycastError(STATUS.MALFORMED, 'a message of the stream', 'it is none of ours: is the URL that of a Tallycast stream?')
  }

  #takeFrame(frame) {
    const outcome = this.#mirror.apply(frame)
    if (outcome === 'more') this.#follower.catchingUp()
    if (outcome !== 'ok') return
    this.#follower.live()
    this._emit('version', () => this.#mirror.info())
    this.#checkAge()
  }

  #takeHeartbeat({ dataset, epoch, version, digest, nowMs }) {
    if (dataset !== this.#settings.dataset) throw new TallycastError(STATUS.WRONG_DATASET, `a heartbeat of '${dataset}'`)
    const held = this.#mirror.info()
    if (epoch !== held.epoch || version !== BigInt(held.version)) return // this place is behind: what it has is to come
    if (digest !== held.digest) throw new TallycastError(STATUS.DIGEST_MISMATCH, `version ${version} of the server`)
    this.#mirror.confirm(epoch, version, nowMs)
    this.#follower.live()
    this.#checkAge()
  }

  #checkAge() {
    const { maxAgeMs } = this.#settings
    if (maxAgeMs === Infinity) return
    clearTimeout(this.#staleTimer)
    const ageMs = this.ageMs, stale = ageMs > maxAgeMs
    if (!stale) this.#staleTimer = setTimeout(() => this.#checkAge(), Math.min(maxAgeMs - ageMs + 1, WAIT_MAX_MS))
    if (stale === this.#stale) return
    this.#stale = stale
    this._emit('stale', () => ({ stale, ageMs }))
  }
}

// Resolves when the first version is held.
function firstVersion(mirror, { urls, dataset, waitMs }, signal) {
  return new Promise((resolve, reject) => {
    let timer, last
    const end = (settle, value) => {
      clearTimeout(timer)
      offVersion()
      offState()
      signal?.removeEventListener('abort', aborted)
      if (settle === reject) mirror.close()
      settle(value)
    }
    const aborted = () => end(reject, signal.reason)
    const offVersion = mirror.on('version', () => end(resolve, mirror))
    const offState = mirror.on('state', ({ error }) => {
      if (!error) return
      last = error
      if (FATAL.has(error.httpStatus)) return end(reject, error)
      if (error.status === STATUS.UNREACHABLE && !error.httpStatus) probe(urls[0], dataset).then((found) => found && end(reject, found))
    })
    signal?.addEventListener('abort', aborted)
    timer = setTimeout(() => end(reject, new TallycastError(last?.status ?? STATUS.TIMEOUT, `no version from ${urls.join(' or ')} in ${waitMs} ms`,
      last?.message ?? 'is an edge running there, and does it hold anything?', { cause: last })), waitMs)
    if (signal?.aborted) aborted()
  })
}

// The function for a platform.
export function opener(platform) {
  return async function openMirror(options = {}) {
    const settings = settingsOf(options, platform)
    const module = await (options.module ?? platform.load('tallycast.wasm'))
    const mirror = Mirror.create(module, settings)
    return firstVersion(new LiveMirror(mirror, settings), settings, options.signal)
  }
}
