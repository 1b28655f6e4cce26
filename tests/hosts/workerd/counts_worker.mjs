// SPDX-License-Identifier: Apache-2.0
//
// Counting in workerd: one tally for all requests of the isolate. A request adds, answers, and flushes beyond its answer. Whatever a request had under way
// ends with it: the flush of another goes on.
import { env } from 'cloudflare:workers'
import { openTally } from 'tallycast/src/workerd.js'

const tally = openTally({ url: env.CONTROL, dataset: 'main', backoffMs: [20, 200], timeoutMs: 1000 })

export class Keeper {} // of config.capnp

export default {
  async fetch(request, _, context) {
    const [, what, key, n] = new URL(request.url).pathname.split('/')
    if (what === 'add') {
      const taken = tally.add('hits', key, Number(n))
      context.waitUntil(tally.flush())
      return Response.json({ taken })
    }
    if (what === 'leave') { // ends with a request under way, which nobody waits for
      tally.add('hits', key, Number(n))
      tally.flush()
      return Response.json(tally.stats())
    }
    await tally.flush()
    return Response.json(tally.stats())
  }
}
