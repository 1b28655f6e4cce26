// SPDX-License-Identifier: Apache-2.0
//
// Many threads, one memory: who has which instance and reader slot of it.
//
// Beside the memory lies a control block, a SharedArrayBuffer of 32-bit words:
//
//   0 format | 1 stage: FED, SUPERSEDED (a reload went on to another memory; this is fed until all have left), ENDED | 2 slots taken back | 3 the last ticket
//   4 + 4 (n - 1), for the instances n = 1 to 64:
//     claim: 0 free, else 1 + the number of the owning thread (or UNKNOWN) | share: by which handle | slot + 1 of the reader, 0 not yet
//     ticket: of the lock that the thread holds, 0 none
//
// An attaching thread claims an instance by compare-and-swap, then opens a reader and writes down its slot. It gives both back in reverse order.
// The thread that opened the mirror takes back what threads that are gone left; that a thread is gone it must know, never guess by time: a slot
// that is taken from a thread that still reads lets its pages be used again under it. It knows from Node ('exit' of a worker), from Web Locks (a thread
// holds one under its ticket for as long as it lives; whoever gets it after that knows), or from the host (reclaim).
import { STATUS, TallycastError } from './errors.js'
import { Mirror, isShared } from './mirror.js'
import { Reads, swap } from './reads.js'

const FORMAT = 1, INSTANCES = 64
const STAGE = 1, TAKEN_BACK = 2, LAST_TICKET = 3, FIRST = 4, STRIDE = 4
const SHARE = 1, SLOT = 2, TICKET = 3
const UNKNOWN = 0x7fffffff
const FED = 0, SUPERSEDED = 1, ENDED = 2
const AGAIN_MS = 10
const STAGES = ['attached', 'superseded', 'ended']

const locks = () => globalThis.navigator?.locks
const lockName = (channel, ticket) => `${channel}/${ticket}`

export class Seats {
  #words = new Int32Array(new SharedArrayBuffer(4 * (FIRST + STRIDE * INSTANCES)))
  #mirror
  #channel
  #watched = new Set() // tickets

  constructor(mirror, channel) {
    this.#mirror = mirror
    this.#channel = channel
    this.#words[0] = FORMAT
  }

  get buffer() { return this.#words.buffer }
  get takenBack() { return this.#words[TAKEN_BACK] }

  get attached() {
    let count = 0
    for (let at = FIRST; at < this.#words.length; at += STRIDE) count += Atomics.load(this.#words, at) !== 0
    return count
  }

  supersede() { Atomics.store(this.#words, STAGE, SUPERSEDED) }

  // Ends it, if `anyway` or when nobody is attached; whether it is ended. A thread that is attaching sees this, or is seen here: each writes before it looks.
  end(anyway) {
    const before = Atomics.exchange(this.#words, STAGE, ENDED)
    if (anyway || this.attached === 0) return true
    Atomics.store(this.#words, STAGE, before)
    return false
  }

  // Takes back what the thread left, or whoever attached by a share, or holds a ticket; how many slots.
  takeBack({ thread, share, ticket }) {
    const words = this.#words
    const left = (at) => {
      if (thread !== undefined) return Atomics.load(words, at) === thread + 1
      return share !== undefined ? Atomics.load(words, at + SHARE) === share : Atomics.load(words, at + TICKET) === ticket
    }
    let taken = 0
    for (let at = FIRST; at < words.length; at += STRIDE) {
      if (Atomics.load(words, at) === 0 || !left(at)) continue
      const slot = Atomics.load(words, at + SLOT) - 1
      if (slot >= 0) this.#mirror.evict(slot)
      free(words, at)
      taken++
    }
    words[TAKEN_BACK] += taken
    return taken
  }

  // Queues for the locks of threads that came since the last call.
  watch() {
    for (let at = FIRST; at < this.#words.length; at += STRIDE) {
      const ticket = Atomics.load(this.#words, at + TICKET)
      if (ticket === 0 || this.#watched.has(ticket)) continue
      this.#watched.add(ticket)
      locks()?.request(lockName(this.#channel, ticket), () => {
        this.#watched.delete(ticket)
        this.takeBack({ ticket })
      }).catch(() => {})
    }
  }
}

function free(words, at) {
  Atomics.store(words, at + TICKET, 0)
  Atomics.store(words, at + SLOT, 0)
  Atomics.store(words, at + SHARE, 0)
  Atomics.store(words, at, 0) // last: from here on it may be another's
}

// Holds a lock until the function that is given back is called, or the thread ends. Its ticket is shown when it is held.
function holdLock(words, at, channel) {
  let release
  const held = new Promise((resolve) => { release = resolve })
  const ticket = Atomics.add(words, LAST_TICKET, 1) + 1, claim = Atomics.load(words, at)
  locks()?.request(lockName(channel, ticket), () => {
    if (claim === Atomics.load(words, at)) Atomics.store(words, at + TICKET, ticket)
    return held
  }).catch(() => {})
  return release
}

// An instance of this thread's on the memory of a handle: {mirror, words, at, release}.
function sit({ module, memory, control, share, channel }, thread) {
  const words = new Int32Array(control), claim = thread === undefined ? UNKNOWN : thread + 1
  for (let at = FIRST, instance = 1; at < words.length; at += STRIDE, instance++) {
    if (Atomics.compareExchange(words, at, 0, claim) !== 0) continue
    try {
      Atomics.store(words, at + SHARE, share)
      if (Atomics.load(words, STAGE) === ENDED) throw new TallycastError(STATUS.GONE, 'the handle', 'its memory is given up: ask share() for another')
      const mirror = Mirror.attach(module, memory, instance)
      Atomics.store(words, at + SLOT, mirror.slot + 1)
      return { mirror, words, at, release: holdLock(words, at, channel) }
    } catch (error) {
      free(words, at)
      throw error
    }
  }
  throw new TallycastError(STATUS.FULL, 'attachMirror', `${INSTANCES} threads are attached: close those that are not used`)
}

function stand({ mirror, words, at, release }) {
  mirror.close()
  free(words, at)
  release()
}

const HANDLE_ADVICE = 'pass on what share() gave, by postMessage or workerData'

function checked(handle) {
  if (typeof SharedArrayBuffer === 'undefined' || (handle?.memory instanceof WebAssembly.Memory && !(handle.memory.buffer instanceof SharedArrayBuffer))) {
    throw new TallycastError(STATUS.UNSUPPORTED, 'a shared mirror in a runtime without shared memory', "a page and its workers must be served with " +
      "'Cross-Origin-Opener-Policy: same-origin' and 'Cross-Origin-Embedder-Policy: require-corp'; elsewhere let this thread open a mirror of its own")
  }
  const { module, memory, control, share } = handle ?? {}
  if (!(memory instanceof WebAssembly.Memory && control instanceof SharedArrayBuffer && Number.isInteger(share)))
    throw new TallycastError(STATUS.INVALID, 'no handle of a shared mirror', HANDLE_ADVICE)
  if (new Int32Array(control)[0] !== FORMAT) throw new TallycastError(STATUS.UNSUPPORTED, 'the handle', 'it is of another version of this package')
  if (!isShared(module)) throw new TallycastError(STATUS.INVALID, 'no handle of a shared mirror', HANDLE_ADVICE)
  return handle
}

// Another thread's reader. It reads what the thread that opened the mirror applies, and moves on by itself when that is reloaded.
class AttachedMirror extends Reads {
  #seat
  #thread
  #channel
  #told // the newest handle
  #maxAgeMs

  constructor(handle, { maxAgeMs = Infinity, now = Date.now }, thread) {
    const seat = sit(checked(handle), thread)
    super(seat.mirror, now)
    this.#seat = seat
    this.#thread = thread
    this.#maxAgeMs = maxAgeMs
    this.#channel = listen(handle.channel, (next) => {
      this.#told = next
      this.#moveIf()
    })
  }

  get stale() { return this.ageMs > this.#maxAgeMs || this.version === 0 }

  // 'attached'; 'superseded': the mirror was reloaded, and this thread still reads the memory from before, which is kept up to date until it moves on;
  // 'ended': the mirror was closed where it was opened, what is read gets older; 'closed'.
  get state() { return this.#seat.mirror.slot < 0 ? 'closed' : STAGES[Atomics.load(this.#seat.words, STAGE)] }

  // Goes on to the memory of another handle. Never to an earlier version.
  move(handle) {
    const next = sit(checked(handle), this.#thread), last = this.#seat
    const from = last.mirror.info(), to = next.mirror.info()
    if (to.epoch < from.epoch || (to.epoch === from.epoch && to.version < from.version)) {
      stand(next)
      throw new TallycastError(STATUS.OLD, 'move', 'the handle is of a memory that is behind: this thread stays')
    }
    swap(this, next.mirror)
    this.#seat = next
    stand(last)
    this._emit('state', () => ({ state: 'moved' }))
  }

  close() {
    this.#channel?.close()
    if (this.#seat.mirror.slot >= 0) stand(this.#seat)
  }

  // Both memories follow the stream, each by itself: the next one may be a version behind just now, and is not a moment later.
  #moveIf() {
    try {
      if (this.state === 'superseded') this.move(this.#told)
    } catch (error) {
      this._emit('state', () => ({ state: 'superseded', error }))
      if (error.status === STATUS.OLD) setTimeout(() => this.#moveIf(), AGAIN_MS).unref?.()
    }
  }
}

// Where a reload is told. Not every runtime passes a memory on this way: then nothing arrives, and move() is the host's to call.
export function channelOf(name) {
  if (typeof BroadcastChannel === 'undefined') return null
  const channel = new BroadcastChannel(name)
  channel.unref?.()
  return channel
}

function listen(name, use) {
  const channel = channelOf(name)
  channel?.addEventListener('message', ({ data }) => use(data))
  return channel
}

export function attacher(platform) {
  return function attachMirror(handle, options = {}) { return new AttachedMirror(handle, options, platform.thread) }
}
