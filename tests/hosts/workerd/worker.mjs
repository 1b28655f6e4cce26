// SPDX-License-Identifier: Apache-2.0
//
// The test in workerd, and how a mirror is kept there. A WebSocket belongs to the request that opened it and ends with it; a Durable Object lives on, so it
// keeps the mirror's socket and timers. Reading is no I/O: requests, which run in the same isolate, read the mirror themselves.
import { openMirror } from 'tallycast/src/workerd.js'
import { follow } from './guest.mjs'

let counts = null

export class Keeper {
  #opened = null

  constructor(state, env) { this.env = env }

  async fetch() {
    this.#opened ??= follow(openMirror, this.env.CONTROL)
    counts = (await this.#opened).counts
    return new Response()
  }
}

export default {
  async fetch(request, env) {
    if (!counts) await env.KEEPER.get(env.KEEPER.idFromName('main')).fetch('http://keeper/')
    const { pathname } = new URL(request.url), [, table, key] = pathname.split('/').map(decodeURIComponent)
    if (!key) return Response.json({ version: counts.version })
    return Response.json(counts.view((view) => ({ version: view.version, value: view.get(table, key) ?? null })))
  }
}
