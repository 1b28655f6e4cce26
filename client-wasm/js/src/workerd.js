// SPDX-License-Identifier: Apache-2.0
//
// The package in workerd, which compiles nothing at run time: the modules are imported. Open a mirror while a request or an event is handled:
// there is no network before.
import own from '../wasm/tallycast.wasm'
import shared from '../wasm/tallycast-shared.wasm'
import { opener } from './open.js'
import { attacher } from './share.js'
import { tallier } from './tally.js'

const modules = { 'tallycast.wasm': own, 'tallycast-shared.wasm': shared }

const platform = {
  load: async (name) => modules[name],
  WebSocket: globalThis.WebSocket,
  randomBytes: (size) => crypto.getRandomValues(new Uint8Array(size)),
  intervalMs: 0 // a timer ends with the request that set it: flush is called instead
}

export const openMirror = opener(platform)
export const attachMirror = attacher(platform)
export const openTally = tallier(platform)
export { TallycastError } from './errors.js'
export { Mirror } from './mirror.js'
