// SPDX-License-Identifier: Apache-2.0
//
// A worker that reads the page's mirror as fast as it can, and tells some of what it read. The rest it holds against what it read itself of the same version.
import { attachMirror } from '/node_modules/tallycast/src/web.js'
import { post, read } from '/guest.mjs'

const TURN_MS = 50
let ending = false, views = 0, last = 0, lastValues = ''

async function run({ handle, control, number }) {
  const { watched } = await post(control, '/job', {})
  const counts = attachMirror(handle)
  for (let records = []; !ending && counts.state === 'attached'; records = []) {
    const until = performance.now() + TURN_MS
    while (performance.now() < until) {
      const record = counts.view((view) => read(view, watched)), values = JSON.stringify(record)
      views++
      if (record.version < last) throw new Error(`version ${record.version} after ${last}`)
      if (record.version === last && values !== lastValues) throw new Error(`two answers of version ${last}`)
      if (record.version > last) records.push(record)
      last = record.version
      lastValues = values
    }
    await post(control, '/reader', { number, records, views })
  }
  counts.close()
}

onmessage = ({ data }) => {
  if (data === 'end') ending = true
  else run(data).catch((error) => post(data.control, '/failed', { failure: `reader ${data.number}: ${error?.stack ?? error}` }))
}
