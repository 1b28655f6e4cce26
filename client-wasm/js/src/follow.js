// SPDX-License-Identifier: Apache-2.0
//
// Keeps a stream open (docs/protocol.md, "The stream"): connects, hands each message on, notices silence, and comes again after a jittered
// back-off with the place that is held then. It knows nothing of mirrors; what the world is, it is given:
//
//   urls             of streams, tried in turn
//   WebSocket        a class as browsers have it; of its events `error` may bear {status, body}: how HTTP refused the handshake
//   place()          {epoch, version} to go on from
//   message(bytes)   takes a message (a Uint8Array, good for the call); a throw ends the connection
//   changed(state)   {state: 'connecting' | 'catching-up' | 'live' | 'waiting' | 'closed', url, error, attempt, retryInMs}
//   random()         from 0 to below 1
//   backoffMs        [first, longest]; silenceMs: without any message, until the connection is taken for dead; dataset
import { STATUS, TallycastError } from './errors.js'

const STEADY_MS = 5000 // a connection that lived so long begins the back-off anew
const WAIT_MAX_MS = 2 ** 31 - 1
const CLOSE_MS = 1000 // for the close that belongs to an error: undici 6 (Node 20 and 22) has none when a handshake is refused

// Mirrors answer so when what they hold leads nowhere: only a whole state helps.
const FROM_NOTHING = new Set([STATUS.DIGEST_MISMATCH, STATUS.WRONG_EPOCH, STATUS.GAP, STATUS.CLASH])
const BROKEN = new Set([STATUS.MALFORMED, STATUS.CORRUPT])

function bytesOf(data) {
  if (data instanceof ArrayBuffer) return new Uint8Array(data)
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  if (typeof data === 'string') throw new TallycastError(STATUS.MALFORMED, 'the stream sent text', 'is the URL that of a Tallycast stream?')
  throw new TallycastError(STATUS.UNSUPPORTED, 'the WebSocket hands over something else than bytes', "its binaryType must be 'arraybuffer'")
}

export class Follower {
  #world
  #socket = null
  #timer = null
  #errorTimer = null
  #turns = 0         // connections tried: which URL is next
  #attempts = 0      // since one was steady
  #heardAt = 0
  #liveAt = 0        // 0: not yet
  #fromNothing = false
  #broken = 0        // connections in a row that ended by bytes that are no frame, without any progress
  #failure = null    // what the socket said of its end
  #closed = false

  constructor(world) { this.#world = world }

  start() {
    const { urls, place } = this.#world, url = new URL(urls[this.#turns++ % urls.length])
    const { epoch, version } = this.#fromNothing ? { epoch: 0n, version: 0 } : place()
    url.searchParams.set('dataset', this.#world.dataset)
    url.searchParams.set('from', `${epoch.toString(16)}:${version}`)
    this.#timer = null
    this.#failure = null
    this.#liveAt = 0
    this.#heardAt = performance.now()
    this.#tell('connecting', { url: url.href })
    if (this.#closed) return
    try {
      this.#open(url.href)
    } catch (error) {
      this.#end(null, new TallycastError(STATUS.UNREACHABLE, url.href, error.message, { cause: error }))
      return
    }
    this.#watch()
  }

  close() {
    if (this.#closed) return
    this.#closed = true
    clearTimeout(this.#timer)
    this.#drop(1000)
    this.#tell('closed')
    this.#world = null // a socket that takes its time to end holds nothing of it
  }

  // Ends the connection, if there is one, and comes again; from nothing, when what is held is not to be gone on from.
  again(error, fromNothing = false) {
    if (this.#closed) return
    if (fromNothing) this.#fromNothing = true
    this.#drop(1000)
    this.#retry(error)
  }

  // The mirror has the newest version, as far as this place knows.
  live() {
    this.#fromNothing = false
    this.#broken = 0
    if (this.#liveAt) return
    this.#liveAt = performance.now()
    this.#tell('live')
  }

  catchingUp() {
    if (this.#liveAt === 0) return
    this.#liveAt = 0
    this.#tell('catching-up')
  }

  #tell(state, more) { this.#world.changed({ state, attempt: this.#attempts, ...more }) }

  #open(href) {
    const socket = new this.#world.WebSocket(href)
    socket.binaryType = 'arraybuffer'
    this.#socket = socket
    const mine = (listener) => (event) => { if (this.#socket === socket) listener(event) }
    socket.addEventListener('open', mine(() => {
      this.#heardAt = performance.now()
      this.#tell('catching-up')
    }))
    socket.addEventListener('message', mine(({ data }) => this.#hear(data)))
    socket.addEventListener('error', mine((event) => {
      this.#failure = event
      this.#errorTimer ??= setTimeout(mine(() => this.#end({ code: 1006, reason: '' })), CLOSE_MS)
    }))
    socket.addEventListener('close', mine((event) => this.#end(event)))
  }

  #hear(data) {
    this.#heardAt = performance.now()
    try {
      this.#world.message(bytesOf(data))
    } catch (error) {
      // Bytes that are no frame may be an accident of the way, once; of the second time what is held may be the reason.
      if (BROKEN.has(error.status)) this.#broken++
      this.again(error, FROM_NOTHING.has(error.status) || this.#broken > 1)
    }
  }

  #end(event, error) {
    this.#forget()
    this.#retry(error ?? this.#why(event))
  }

  #why({ code, reason }) {
    const { status, body, message } = this.#failure ?? {}
    if (status) {
      let said = body
      try { said = JSON.parse(body).error } catch { /* it is no JSON: as it is */ }
      const known = { 400: STATUS.INVALID, 403: STATUS.FORBIDDEN, 404: /dataset/.test(said) ? STATUS.WRONG_DATASET : STATUS.NOT_FOUND, 503: STATUS.BUSY }
      if (known[status] === STATUS.NOT_FOUND) said = `${said}: give the URL of /v1/stream`
      const error = new TallycastError(known[status] ?? STATUS.UNREACHABLE, `the stream answered ${status}`, said || 'is the URL that of a Tallycast stream?')
      error.httpStatus = status
      return error
    }
    if (this.#failure && code === 1006) return new TallycastError(STATUS.UNREACHABLE, 'the stream', message || 'the connection failed')
    return new TallycastError(STATUS.UNREACHABLE, 'the stream ended', `${code}${reason ? ` ${reason}` : ''}`)
  }

  #retry(error) {
    clearTimeout(this.#timer)
    if (this.#closed) return
    if (this.#liveAt && performance.now() - this.#liveAt > STEADY_MS) this.#attempts = 0
    const [first, longest] = this.#world.backoffMs, step = Math.min(longest, first * 2 ** Math.min(this.#attempts++, 30))
    const retryInMs = Math.round(step * (0.5 + this.#world.random() / 2))
    this.#liveAt = 0
    this.#timer = setTimeout(() => this.start(), retryInMs)
    this.#tell('waiting', { error, retryInMs })
  }

  // One timer a connection that is set anew only when it rings.
  #watch() {
    const left = this.#heardAt + this.#world.silenceMs - performance.now()
    if (left > 0) {
      this.#timer = setTimeout(() => this.#watch(), Math.min(left + 1, WAIT_MAX_MS))
      return
    }
    this.again(new TallycastError(STATUS.TIMEOUT, 'the stream', `nothing was heard for ${this.#world.silenceMs} ms`))
  }

  #drop(code) {
    const socket = this.#forget()
    try { socket?.close(code) } catch { /* a socket that never opened may refuse to close */ }
  }
  // From here on the socket has nothing to say.
  #forget() {
    const socket = this.#socket
    clearTimeout(this.#errorTimer)
    this.#errorTimer = null
    this.#socket = null
    return socket
  }
}
