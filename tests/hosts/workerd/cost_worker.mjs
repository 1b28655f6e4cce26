// SPDX-License-Identifier: Apache-2.0
//
// cost.mjs in workerd, whose clock stands still while nothing is waited for.
import { openMirror } from 'tallycast/src/workerd.js'
import { measure } from './cost.mjs'

export class Keeper {
  constructor(state, env) { this.env = env }

  async fetch() {
    await measure(openMirror, this.env.CONTROL, 'workerd', () => new Promise((resolve) => setTimeout(resolve, 0)))
    return new Response()
  }
}

export default { fetch: (request, env) => env.KEEPER.get(env.KEEPER.idFromName('main')).fetch(request) }
