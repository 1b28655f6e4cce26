// SPDX-License-Identifier: Apache-2.0
//
// The package in Node and Bun.
import { readFile } from 'node:fs/promises'
import { opener } from './open.js'
import { NodeWebSocket } from './websocket.node.js'

export const openMirror = opener({
  load: async (name) => WebAssembly.compile(await readFile(new URL(`../wasm/${name}`, import.meta.url))),
  WebSocket: globalThis.WebSocket ?? NodeWebSocket
})
export { TallycastError } from './errors.js'
export { Mirror } from './mirror.js'
