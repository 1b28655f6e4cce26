// SPDX-License-Identifier: Apache-2.0
//
// A worker of share.test.mjs and threads.test.mjs: attaches to the handle that it is sent, and does what it is told.
import { parentPort } from 'node:worker_threads'
import { checkTransfers, tallycast, transferKeys } from './common.mjs'

let counts, words, keys, newest = 0
const orders = {
  attach(order) {
    counts = tallycast.attachMirror(order.handle, order.options)
    words = order.words && new Int32Array(order.words)
    keys = order.keys && transferKeys(order.keys)
    counts.on('state', ({ state }) => parentPort.postMessage({ state }))
    return { version: counts.version, state: counts.state }
  },
  read: () => ({ version: counts.view((view) => checkTransfers(view, keys)), state: counts.state, digest: counts.digest }),
  // Never comes back from within a view.
  hang: () => counts.view(() => {
    Atomics.add(words, 0, 1)
    for (;;) Atomics.load(words, 0)
  }),
  // Reads without a turn of the event loop until words[1] is set; the newest version is in words[2].
  spin() {
    let views = 0, last = 0
    Atomics.add(words, 0, 1)
    for (; !Atomics.load(words, 1); views++) {
      const version = counts.view((view) => checkTransfers(view, keys))
      if (version < last) throw new Error(`back from ${last} to ${version}`)
      last = version
      Atomics.store(words, 2, version)
    }
    return { views, version: last }
  },
  // `reads` reads, through views of 8 keys each (and a whole check of the sum each 64th), or until words[1] is set; added up in words[3 + number].
  run({ reads, number }) {
    const some = [1, 7, 31, 63, 99, 120, 150, 199].map((i) => keys[i % keys.length])
    let done = 0, told = 0, changes = 0, views = 0
    Atomics.add(words, 0, 1)
    while (done < reads && !Atomics.load(words, 1)) {
      const version = views % 64 ? counts.view((view) => {
        const held = view.get('accounts', 'version')
        let first = 0, second = 0
        for (const key of some) first += view.get('accounts', key) ?? 0
        for (const key of some) second += view.get('accounts', key) ?? 0
        if (first !== second || view.get('accounts', 'version') !== held) throw new Error(`torn: ${first} and ${second} in version ${held}`)
        done += 18
        return held
      }) : counts.view((view) => checkTransfers(view, keys))
      if (views % 64 === 0) done += keys.length
      if (version < newest) throw new Error(`back from ${newest} to ${version}`)
      changes += version !== newest
      newest = version
      if (++views % 16) continue
      Atomics.add(words, 3 + number, done - told)
      told = done
    }
    return { reads: done, views, changes, version: newest }
  },
  move({ handle }) {
    counts.move(handle)
    return { version: counts.version, state: counts.state }
  },
  close() {
    counts.close()
    return { state: counts.state }
  }
}

parentPort.on('message', (order) => {
  try {
    parentPort.postMessage({ done: order.do, ...orders[order.do](order) })
  } catch (error) {
    parentPort.postMessage({ done: order.do, error: { code: error.code, message: error.message } })
  }
})
