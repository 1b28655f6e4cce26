// SPDX-License-Identifier: Apache-2.0
//
// A mirror that follows a stream by itself. It reads from one Feed at a time; a reload fills another from nothing, beside it and under load, and goes
// on to that when it holds what is read, or more. The memory from before is released then; or, when other threads are still attached to it, kept
// up to date until the last of them has left.
import { STATUS, TallycastError } from './errors.js'
import { Feed } from './feed.js'
import { hex } from './hex.js'
import { isShared } from './mirror.js'
import { Reads, swap } from './reads.js'
import { Seats, channelOf } from './share.js'

const WAIT_MAX_MS = 2 ** 31 - 1
const LATER_MS = 500 // for which a feed that is ahead waits for the one that is read, so that each version is told
const LEFT_MS = 200 // between looks whether all threads have left a memory

export class LiveMirror extends Reads {
  #settings
  #platform
  #feed
  #next = null      // {feed, resolve, reject, anyVersion} of a reload
  #left = new Set() // feeds from before, that threads are attached to
  #leftTimer = null
  #state = { state: 'connecting', attempt: 0 }
  #stale = true     // nothing is held
  #staleTimer = null
  #shares = 0
  #channel = null
  #name = null      // of the channel
  #threadsEnd = null

  constructor(module, settings, platform) {
    let live = null // before super() there is no this
    const owner = {
      version: (feed) => live.#version(feed),
      confirmed: (feed) => live.#confirmed(feed),
      state: (feed, state) => live.#changed(feed, state),
      diverged: (feed, error) => live.#diverged(feed, error)
    }
    const feed = new Feed(module, settings, owner)
    super(feed.mirror, settings.now)
    live = this
    this.#settings = { ...settings, owner }
    this.#platform = platform
    this.#feed = feed
    for (const [event, listener] of Object.entries(settings.on)) this.on(event, listener)
    feed.start()
  }

  // 'connecting', 'catching-up', 'live', 'waiting' (to connect again) or 'closed'.
  get state() { return this.#state.state }
  // Why the last connection ended; undefined while there is one.
  get error() { return this.#state.error }
  // Whether what is read is older than maxAgeMs, or is not there yet.
  get stale() { return this.ageMs > this.#settings.maxAgeMs || this.version === 0 }

  // As a mirror's; of shared ones also how many threads are attached, and how many slots were taken back from threads that are gone.
  stats() {
    const feeds = [this.#feed, ...this.#left].filter(({ seats }) => seats)
    if (!isShared(this.#feed.module)) return super.stats()
    for (const { seats } of feeds) seats.watch()
    const sum = (name) => feeds.reduce((total, { seats }) => total + seats[name], 0)
    return { ...super.stats(), attached: sum('attached'), takenBack: sum('takenBack') + this.#takenBackBefore, superseded: this.#left.size }
  }

  #takenBackBefore = 0

  // ---------------------------------------------------------------------------------------------------- threads

  // A handle that other threads give to attachMirror; any number of threads by one, at any time while this is open. It can be passed on as it is.
  share() {
    if (!isShared(this.#feed.module)) throw new TallycastError(STATUS.UNSUPPORTED, 'share', 'its memory is no shared one: open it with {shared: true}')
    if (this.state === 'closed') throw new TallycastError(STATUS.INVALID, 'share', 'the mirror is closed')
    if (!this.#name) {
      this.#name = `tallycast-${hex(this.#platform.randomBytes(12))}`
      this.#threadsEnd = this.#platform.threadsEnd?.((thread) => this.#takeBack({ thread }))
    }
    return this.#handle(++this.#shares)
  }

  // Takes back the slots of those who attached by a handle, when their threads are gone: ended from outside, where nobody tells (in Node, and where there
  // are Web Locks, it is done by itself). How many there were.
  reclaim(handle) { return this.#takeBack({ share: handle.share }) }

  #handle(share) {
    const feed = this.#feed
    feed.seats ??= new Seats(feed.mirror, this.#name)
    return { module: feed.module, memory: feed.mirror.memory, control: feed.seats.buffer, share, channel: this.#name }
  }

  #takeBack(whose) {
    let taken = 0
    for (const { seats } of [this.#feed, ...this.#left]) taken += seats?.takeBack(whose) ?? 0
    this.#releaseLeft()
    return taken
  }

  // ---------------------------------------------------------------------------------------------------- reload

  // Goes on with another build of the module (left out: the package's), on a new memory that is filled from the stream. What is read until then is what
  // is applied; what is read afterwards is never earlier. Resolves when it is done; rejects, and all stays as it is, when it cannot be.
  async reload(module, { maxBytes = this.#settings.maxBytes, waitMs = this.#settings.waitMs } = {}) {
    const shared = isShared(this.#feed.module)
    const loaded = await (module ?? this.#platform.load(shared ? 'tallycast-shared.wasm' : 'tallycast.wasm'))
    if (isShared(loaded) !== shared) throw new TallycastError(STATUS.INVALID, 'reload', `the mirror is ${shared ? '' : 'not '}shared, the module is otherwise`)
    if (this.state === 'closed') throw new TallycastError(STATUS.INVALID, 'reload', 'the mirror is closed')
    if (this.#next) throw new TallycastError(STATUS.BUSY, 'reload', 'another is under way')
    return this.#goOn(loaded, maxBytes, waitMs, false)
  }

  #goOn(module, maxBytes, waitMs, anyVersion) {
    const feed = new Feed(module, { ...this.#settings, maxBytes }, this.#settings.owner)
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#giveUp(new TallycastError(STATUS.TIMEOUT, 'reload', `nothing to go on to in ${waitMs} ms`,
        { cause: this.#next?.error })), waitMs)
      const settle = (use) => (value) => {
        clearTimeout(timer)
        use(value)
      }
      this.#next = { feed, anyVersion, error: undefined, laterAt: undefined, resolve: settle(resolve), reject: settle(reject) }
      feed.start()
    })
  }

  #giveUp(error) {
    const { feed, reject } = this.#next
    this.#next = null
    feed.release()
    reject(error)
  }

  // Goes on to the next feed, once it holds what is read; or a later version, if what is read does not come there soon.
  #swapIfReady() {
    if (!this.#next) return
    const { feed, anyVersion, resolve } = this.#next, to = feed.mirror.info(), from = this.#feed.mirror.info()
    if (to.version === 0) return
    const same = to.epoch === from.epoch && to.version === from.version
    const later = to.epoch > from.epoch || (to.epoch === from.epoch && to.version > from.version)
    if (later) this.#next.laterAt ??= performance.now()
    if (!anyVersion && !(same && to.digest === from.digest) && !(later && performance.now() - this.#next.laterAt > LATER_MS)) return
    if (same) feed.mirror.confirm(to.epoch, to.version, from.freshMs)
    const last = this.#feed
    this.#next = null
    this.#feed = feed
    swap(this, feed.mirror)
    this.#leave(last)
    this.#setState(feed.state)
    if (!same) this.#tellVersion()
    this.#checkAge()
    resolve()
  }

  #leave(feed) {
    feed.seats?.supersede()
    if (!feed.seats || feed.seats.end(false)) {
      this.#release(feed)
      return
    }
    this.#left.add(feed)
    this.#channel ??= channelOf(this.#name)
    try {
      this.#channel?.postMessage(this.#handle(++this.#shares))
    } catch { /* a runtime that passes no memories on this way: the host calls move() */ }
    this.#leftTimer ??= setInterval(() => this.#releaseLeft(), LEFT_MS)
  }

  #releaseLeft() {
    for (const feed of this.#left) {
      feed.seats.watch()
      if (!feed.seats.end(false)) continue
      this.#left.delete(feed)
      this.#release(feed)
    }
    if (this.#left.size) return
    clearInterval(this.#leftTimer)
    this.#leftTimer = null
  }

  #release(feed) {
    this.#takenBackBefore += feed.seats?.takenBack ?? 0
    feed.release()
  }

  close() {
    if (this.state === 'closed') return
    clearTimeout(this.#staleTimer)
    clearInterval(this.#leftTimer)
    if (this.#next) this.#giveUp(new TallycastError(STATUS.INVALID, 'reload', 'the mirror was closed'))
    this.#threadsEnd?.()
    this.#channel?.close()
    for (const feed of [...this.#left, this.#feed]) {
      feed.seats?.end(true)
      feed.release()
    }
    this.#left.clear()
  }

  // ---------------------------------------------------------------------------------------------------- what the feeds tell

  #changed(feed, state) {
    feed.state = state
    if (feed === this.#next?.feed) {
      this.#next.error = state.error ?? this.#next.error
      if (state.error?.status === STATUS.NO_MEMORY) this.#giveUp(state.error)
    }
    if (feed === this.#feed || !this.#feed) this.#setState(state)
  }

  #setState(state) {
    this.#state = state
    this._emit('state', () => state)
  }

  #version(feed) {
    if (feed === this.#feed) {
      feed.seats?.watch()
      this.#tellVersion()
      this.#checkAge()
    }
    this.#swapIfReady()
  }

  #tellVersion() { this._emit('version', () => this.info()) }

  #confirmed(feed) {
    if (feed === this.#feed) this.#checkAge()
    this.#swapIfReady()
  }

  // The server is right about its own versions: what is held is given up for what it sends, on a new memory.
  #diverged(feed, error) {
    if (feed !== this.#feed || this.#next) return
    this.#goOn(feed.module, this.#settings.maxBytes, WAIT_MAX_MS, true).catch(() => {})
    this._emit('state', () => ({ ...this.#state, error }))
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
