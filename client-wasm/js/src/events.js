// SPDX-License-Identifier: Apache-2.0
//
// What mirrors and tallies tell their listeners.
export class Events {
  #listeners = new Map() // event -> Set of {listener}

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
