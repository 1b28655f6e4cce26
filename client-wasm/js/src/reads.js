// SPDX-License-Identifier: Apache-2.0
//
// What can be read of a mirror, whoever fills it. The Mirror behind it may be replaced by another (a reload).
import { Events } from './events.js'

let swap

export class Reads extends Events {
  #mirror
  #now

  static {
    swap = (reads, mirror) => {
      const old = reads.#mirror
      reads.#mirror = mirror
      return old
    }
  }

  constructor(mirror, now) {
    super()
    this.#mirror = mirror
    this.#now = now
  }

  get(table, key) { return this.#mirror.get(table, key) }
  getBigInt(table, key) { return this.#mirror.getBigInt(table, key) }
  getMany(table, keys) { return this.#mirror.getMany(table, keys) }
  view(use) { return this.#mirror.view(use) }
  top(table, k, options) { return this.#mirror.top(table, k, options) }
  entries(table, options) { return this.#mirror.entries(table, options) }
  tables() { return this.#mirror.tables() }
  info() { return this.#mirror.info() }
  get version() { return this.#mirror.version }
  get digest() { return this.#mirror.digest }

  // Milliseconds since the version that is read was last known to be the newest, by this machine's clock and the server's; Infinity before the first.
  get ageMs() {
    const { version, freshMs } = this.#mirror.info()
    return version ? Math.max(0, this.#now() - freshMs) : Infinity
  }

  stats() { return this.#mirror.stats() }
}

export { swap }
