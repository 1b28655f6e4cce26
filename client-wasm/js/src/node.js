// SPDX-License-Identifier: Apache-2.0
//
// The package in Node and Bun.
import { webcrypto } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { threadId } from 'node:worker_threads'
import { opener } from './open.js'
import { attacher } from './share.js'
import { tallier } from './tally.js'
import { NodeWebSocket } from './websocket.node.js'

// Of workers that are started from now on.
function threadsEnd(listener) {
  const started = (worker) => {
    const thread = worker.threadId // which it forgets at its end
    worker.once('exit', () => listener(thread))
  }
  process.on('worker', started)
  return () => process.off('worker', started)
}

const platform = {
  load: async (name) => WebAssembly.compile(await readFile(new URL(`../wasm/${name}`, import.meta.url))),
  // Node's own, from 22 on, does not say why a handshake was refused. Bun's node:http makes no upgrade of that kind.
  WebSocket: process.versions.bun ? globalThis.WebSocket : NodeWebSocket,
  thread: threadId,
  threadsEnd,
  randomBytes: (size) => webcrypto.getRandomValues(new Uint8Array(size)) // a global only from Node 19 on
}

export const openMirror = opener(platform)
export const attachMirror = attacher(platform)
export const openTally = tallier(platform)
export { TallycastError } from './errors.js'
export { Mirror } from './mirror.js'
