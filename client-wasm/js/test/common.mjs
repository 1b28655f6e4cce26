// SPDX-License-Identifier: Apache-2.0
//
// For the tests: the package from its folder in the build, and frames. TALLY_SOURCE_DIR, TALLY_NPM_FOLDER: where those are; TALLY_TRANSFERS:
// tests/wasm/make_transfers.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

export const folder = process.env.TALLY_NPM_FOLDER
export const tallycast = await import(pathToFileURL(path.join(folder, 'src/node.js')))
const { sealOf } = await import(pathToFileURL(path.join(folder, 'src/messages.js')))
export const vector = (name) => fs.readFileSync(path.join(process.env.TALLY_SOURCE_DIR, 'proto/vectors', name))
export const refused = (code, what = /./) => (error) => error instanceof tallycast.TallycastError && error.code === code && what.test(error.message)

// Versions 1, 2, 3 ... of tests/support/transfers.h: frames[i] leads to version i + 1, frames[0] is the whole state.
export function transfers(keys, versions, seed = 1) {
  const file = execFileSync(process.env.TALLY_TRANSFERS, [keys, versions, seed].map(String), { maxBuffer: 1 << 30 }), frames = []
  for (let at = 8; at < file.length; at += 4 + file.readUInt32LE(at)) frames.push(file.subarray(at + 4, at + 4 + file.readUInt32LE(at)))
  return frames
}

// A sealed Heartbeat.
export function heartbeat({ dataset = 'main', epoch, version, digest, nowMs }) {
  const varint = (value) => {
    const out = []
    for (let left = BigInt(value); ; left >>= 7n) {
      if (left < 128n) return [...out, Number(left)]
      out.push(Number(left & 127n) | 128)
    }
  }
  const fixed = (value) => Array.from({ length: 8 }, (_, i) => Number((BigInt(value) >> BigInt(8 * i)) & 255n))
  const inner = Uint8Array.from([10, dataset.length, ...Buffer.from(dataset), 0x11, ...fixed(epoch), 0x18, ...varint(version), 0x22, 16,
    ...Buffer.from(digest, 'hex').reverse(), 0x28, ...varint(nowMs)])
  return Buffer.from([...inner, 0x79, ...fixed(sealOf(inner))])
}

// Waits until check() is true.
export async function until(check, what, ms = 20000) {
  for (const end = Date.now() + ms; ; await new Promise((resolve) => setTimeout(resolve, 2))) {
    const found = check()
    if (found) return found
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what}`)
  }
}

// The sum of all accounts, and what key "version" says, through a view: 0 and the view's version, or it is torn.
export function checkTransfers(view, keys) {
  const [held, ...values] = view.getMany('accounts', keys)
  const sum = values.reduce((total, value) => total + (value ?? 0), 0), { version } = view
  if (sum !== 0 || held !== version) throw new Error(`torn: version ${version}, key ${held}, sum ${sum}`)
  return version
}
export const transferKeys = (keys) => ['version', ...Array.from({ length: keys - 1 }, (_, i) => `k${i + 1}`)]
