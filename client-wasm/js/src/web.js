// SPDX-License-Identifier: Apache-2.0
//
// The package in browsers, their workers, and Deno. A page without a bundler imports this file by its URL.
import { opener } from './open.js'
import { attacher } from './share.js'
import { tallier } from './tally.js'

async function load(name) {
  const answer = await fetch(new URL(`../wasm/${name}`, import.meta.url))
  if (!answer.ok) throw new Error(`${answer.url}: ${answer.status} ${answer.statusText}`)
  // Streaming wants the media type, which few servers of plain files know, and file: has none.
  if (answer.headers.get('content-type')?.startsWith('application/wasm')) return WebAssembly.compileStreaming(answer)
  return WebAssembly.compile(await answer.arrayBuffer())
}

const platform = { load, WebSocket: globalThis.WebSocket, randomBytes: (size) => crypto.getRandomValues(new Uint8Array(size)) }

export const openMirror = opener(platform)
export const attachMirror = attacher(platform)
export const openTally = tallier(platform)
export { TallycastError } from './errors.js'
export { Mirror } from './mirror.js'
