// SPDX-License-Identifier: Apache-2.0
//
// openMirror: a mirror that follows a stream by itself. What differs between hosts comes in as `platform`:
//   load(name)              resolves to the WebAssembly.Module of a file of the package
//   WebSocket               its class, or undefined
//   randomBytes(size)       from a cryptographic source
//   thread                  the number of this thread among those of the process; undefined when that is not known
//   threadsEnd(listener)    calls listener(number) when a thread that this one started has ended; gives a function back that ends that. Or undefined
import { STATUS, TallycastError } from './errors.js'
import { LiveMirror } from './live.js'
import { isShared } from './mirror.js'

const PROBE_MS = 5000
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
    now: options.now ?? Date.now,
    shared: options.shared === true,
    on: options.on ?? {}
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

// Resolves when the first version is held.
function firstVersion(mirror, { urls, dataset, waitMs }, signal) {
  return new Promise((resolve, reject) => {
    let timer, last, fatal = 0
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
      if (FATAL.has(error.httpStatus) && ++fatal >= urls.length) return end(reject, error)
      if (urls.length === 1 && error.status === STATUS.UNREACHABLE && !error.httpStatus) probe(urls[0], dataset).then((found) => found && end(reject, found))
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
    const module = await (options.module ?? platform.load(settings.shared ? 'tallycast-shared.wasm' : 'tallycast.wasm'))
    if (settings.shared && !isShared(module)) throw bad('module', 'it has a memory of its own; shared mirrors need tallycast-shared.wasm')
    return firstVersion(new LiveMirror(module, settings, platform), settings, options.signal)
  }
}
