// SPDX-License-Identifier: Apache-2.0
//
// What can be read of a mirror, whoever fills it, and events. The Mirror behind it may be replaced by another (a reload).
let swap

export class Reads {
  #mirror
  #listeners = new Map() // event -> Set of functions
  #now

  static {
    swap = (reads, mirror) => {
      const old = reads.#mirror
      reads.#mirror = mirror
      return old
    }
  }

  constructor(mirror, now) {
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

  // Calls listener(detail) from now on; the function that is given back ends that.
  on(event, listener) {
    if (typeof listener !== 'function') throw new TypeError(`on('${event}'): the listener is no function`)
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set())
    const entry = { listener } // so that the same function given twice is called twice
    this.#listeners.get(event).add(entry)
    return () => { this.#listeners.get(event).delete(entry) }
  }

  off(event, listener) {
    const entries = this.#listeners.get(event)
    for (const entry of entries ?? []) if (entry.listener === listener) entries.delete(entry)
  }

  // `detail` is made only if there is a listener. One that throws is told to the host and stops nothing here.
  _emit(event, detail) {
    const entries = this.#listeners.get(event)
    if (!entries?.size) return
    const made = detail()
    for (const { listener } of [...entries]) {
      try {
        listener(made)
      } catch (error) {
        queueMicrotask(() => { throw error })
      }
    }
  }
}

export { swap }
