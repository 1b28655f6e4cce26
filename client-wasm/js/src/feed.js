// SPDX-License-Identifier: Apache-2.0
//
// One memory and the stream that fills it: a Mirror, and the Follower that gives it frames. What comes of them it tells `owner`:
//   version(feed)           a new version is read from now on
//   confirmed(feed)         the one that is held was the newest
//   state(feed, state)      of the connection, as follow.js says
//   diverged(feed, error)   the server has another state under the number that is held
import { STATUS, TallycastError } from './errors.js'
import { Follower } from './follow.js'
import { FRAME, HEARTBEAT, readHeartbeat } from './messages.js'
import { Mirror } from './mirror.js'

export class Feed {
  module
  mirror
  seats = null // of the threads that attached: share.js
  state = { state: 'connecting', attempt: 0 }
  #dataset
  #owner
  #follower

  constructor(module, settings, owner) {
    this.module = module
    this.mirror = Mirror.create(module, settings)
    this.#dataset = settings.dataset
    this.#owner = owner
    this.#follower = new Follower({
      ...settings,
      place: () => this.mirror.info(),
      message: (bytes) => this.#take(bytes),
      changed: (state) => {
        if (state.state === 'waiting') this.mirror.abandon()
        owner.state(this, state)
      }
    })
  }

  start() { this.#follower.start() }

  // Ends the stream. The memory stays readable until it is released.
  stop() { this.#follower.close() }

  release() {
    this.stop()
    this.mirror.close()
  }

  #take(bytes) {
    if (bytes[0] === FRAME) this.#takeFrame(bytes.subarray(1))
    else if (bytes[0] === HEARTBEAT) this.#takeHeartbeat(readHeartbeat(bytes.subarray(1)))
    else throw new TallycastError(STATUS.MALFORMED, 'a message of the stream', 'it is none of ours: is the URL that of a Tallycast stream?')
  }

  #takeFrame(frame) {
    const outcome = this.mirror.apply(frame)
    if (outcome === 'more') this.#follower.catchingUp()
    if (outcome !== 'ok') return
    this.#follower.live()
    this.#owner.version(this)
  }

  #takeHeartbeat({ dataset, epoch, version, digest, nowMs }) {
    if (dataset !== this.#dataset) throw new TallycastError(STATUS.WRONG_DATASET, `a heartbeat of '${dataset}'`)
    const held = this.mirror.info()
    if (epoch !== held.epoch || version !== BigInt(held.version)) return // this place is behind: what it has is to come
    if (digest !== held.digest) {
      const error = new TallycastError(STATUS.DIGEST_MISMATCH, `version ${version} is another state there`, 'a new mirror is filled from nothing')
      this.#owner.diverged(this, error)
      throw error
    }
    this.mirror.confirm(epoch, version, nowMs)
    this.#follower.live()
    this.#owner.confirmed(this)
  }
}
