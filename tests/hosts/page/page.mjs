// SPDX-License-Identifier: Apache-2.0
//
// The test in a browser: the page follows the stream on a shared memory, which READERS workers read without a pause between. One of them is terminated
// in the middle; its slot must come back.
import { openMirror } from 'tallycast'
import { follow, post } from '/guest.mjs'

const READERS = 3, CONTROL = location.origin
const failed = (failure) => post(CONTROL, '/failed', { failure })
const state = (window.state = { takenBack: 0, attached: 0 })

try {
  const { counts, done } = await follow(openMirror, CONTROL, { shared: true })
  const workers = Array.from({ length: READERS }, (_, number) => {
    const worker = new Worker('/page/reader.mjs', { type: 'module' })
    worker.onerror = (event) => failed(`a reader: ${event.message}`)
    worker.postMessage({ handle: counts.share(), control: CONTROL, number })
    return worker
  })
  const watch = setInterval(() => {
    if (counts.state === 'closed') return clearInterval(watch)
    const { attached, takenBack } = counts.stats()
    Object.assign(state, { attached, takenBack })
  }, 50)
  window.terminateOne = () => workers.pop().terminate()
  state.open = true
  await done
  for (const worker of workers) worker.postMessage('end')
} catch (error) {
  await failed(String(error?.stack ?? error))
}
